//! A second implementation of the limits, written from `docs/metering.md` and not from the code.
//!
//! It instruments the same module with slow and simple counters. All engines run the code that the layer rewrote, so
//! they agree even where it is wrong.
//!
//! Fuel is counted twice: per executed instruction, and per basic block when it begins, as the document charges it.
//! When a limit is reached, the module calls `deny` with the amount used.

use mistletoe::AnyBackend;
use mistletoe_conformance::case::{Call, Step};
use mistletoe_conformance::{Case, Observation};
use serde_json::{Value, json};
use wasm_encoder::{
    BlockType, ConstExpr, ExportKind, ExportSection, Function, GlobalSection, GlobalType, InstructionSink,
    StartSection, ValType,
};
use wasmparser::{
    ExternalKind, FuncType, FuncValidatorAllocations, FunctionBody, Operator, Parser, ValidPayload, Validator,
};

use crate::judge::errors;
use crate::parts::{Parts, value_type};
use crate::reference_calls::{Calls, costs};

/// The indices of `result` and `deny` among the imports.
const RESULT: u32 = 0;
const DENY: u32 = 8;
/// The first argument of `deny`: fuel exceeded, or stack depth exceeded.
const FUEL: i32 = 0x10_0007;
const HEIGHT: i32 = 0x20_0007;

/// The limits of a module.
#[derive(Clone, Copy)]
struct Bounds {
    fuel: Option<u64>,
    stack: Option<u32>,
}

/// The indices of the added globals, and the limits of the module.
#[derive(Clone, Copy)]
struct Gauge {
    bounds: Bounds,
    /// The cost of the executed instructions.
    executed: u32,
    /// The cost of the basic blocks that began, and other charges.
    charged: u32,
    /// The stack depth.
    height: u32,
}

/// Predicts what a package does by this count.
///
/// Omits the fuel of calls that trapped, part of which the document leaves uncounted. Returns `None` if the engine's
/// own stack overflowed first.
pub(crate) fn predict(case: &Case, unlimited: &Case, backend: &AnyBackend) -> Result<Option<Observation>, String> {
    let limits = case.header.limits.as_ref();
    let bounds = Bounds { fuel: limits.and_then(|limits| limits.fuel), stack: limits.and_then(|limits| limits.stack) };
    let mut gauged = unlimited.clone();
    gauged.wasm = gauge(&case.wasm, bounds).map_err(|error| error.to_string())?;
    // After each call, another call reads the counts.
    let info = case.header.steps.iter().find(|step| matches!(step.call, Call::Info));
    gauged.header.steps.clear();
    for step in &case.header.steps {
        gauged.header.steps.push(step.clone());
        if let (Call::Generate(_), Some(info)) = (&step.call, info) {
            gauged.header.steps.push(Step { session: step.session.clone(), ..info.clone() });
        }
    }
    let mut observed = gauged.observe(backend).map_err(|failure| failure.to_string())?;
    if errors(&observed).any(|error| error["trap"] == "stack-overflow") {
        return Ok(None);
    }
    let mut predicted = Observation { load: observed.load.take(), open: observed.open.take(), calls: Vec::new() };
    if let Some(error) = &mut predicted.open {
        translate(error, bounds);
    }
    let mut calls = observed.calls.into_iter();
    for step in &case.header.steps {
        let Some(mut call) = calls.next() else { break };
        let mut used = None;
        for error in call.result.as_mut().err().into_iter().chain(&mut call.fault) {
            used = translate(error, bounds).or(used);
        }
        if let Call::Info = step.call {
            call.stderr.clear();
        } else if let Some(info) = calls.next() {
            let mut counts = info.stderr.lines().filter_map(|line| line.strip_prefix("result "));
            let mut count = || u64::from_str_radix(counts.next()?, 16).ok();
            if let (Some(executed), Some(charged)) = (count(), count()) {
                if executed != charged {
                    return Err(format!("{executed} were executed, and {charged} charged"));
                }
                used = Some(charged);
            }
        }
        call.fuel = used.filter(|_| bounds.fuel.is_some());
        predicted.calls.push(call);
    }
    Ok(Some(predicted))
}

/// Replaces a `deny` error by the limit's error. Returns the amount used, if the error contains it.
fn translate(error: &mut Value, bounds: Bounds) -> Option<u64> {
    let mut words = error["message"].as_str()?.strip_prefix("denied: ")?.split(' ');
    let mut number = || u64::from_str_radix(words.next()?, 16).ok();
    let (what, value) = (number()?, number()?);
    let (used, translated) = match i32::try_from(what) {
        Ok(FUEL) => (value, json!({ "kind": "out-of-fuel", "limit": bounds.fuel, "used": value })),
        Ok(HEIGHT) => {
            (value >> 32, json!({ "kind": "too-deep", "limit": bounds.stack, "depth": value & u64::from(u32::MAX) }))
        }
        _ => return None,
    };
    *error = translated;
    Some(used)
}

/// Adds the counters to a package. Its function for `info` reports both counts and resets them.
fn gauge(wasm: &[u8], bounds: Bounds) -> wasmparser::Result<Vec<u8>> {
    let parts = Parts::new(wasm)?;
    let globals = parts.globals.len() as u32;
    let gauge = Gauge { bounds, executed: globals, charged: globals + 1, height: globals + 2 };
    let mut global_section = GlobalSection::new();
    for (global, init) in parts.globals.iter().zip(&parts.inits) {
        let val_type = value_type(&global.content_type);
        let init = ConstExpr::raw(init.iter().copied());
        global_section.global(GlobalType { val_type, mutable: global.mutable, shared: false }, &init);
    }
    for val_type in [ValType::I64, ValType::I64, ValType::I32] {
        let zero = if val_type == ValType::I64 { ConstExpr::i64_const(0) } else { ConstExpr::i32_const(0) };
        global_section.global(GlobalType { val_type, mutable: true, shared: false }, &zero);
    }

    // Each function is replaced by one that counts its stack depth. The functions themselves follow, and then the
    // wrappers that the host calls.
    let (imported, all) = (parts.imported as u32, parts.funcs.len() as u32);
    let mut funcs = parts.function_section();
    let mut code = wasm_encoder::CodeSection::new();
    let operands = most_operands(wasm)?;
    let calls = Calls::new(wasm, &parts)?;
    let read = |(i, body)| Body::read(body, calls.is_short(i));
    let bodies = parts.bodies.iter().enumerate().map(read).collect::<wasmparser::Result<Vec<_>>>()?;
    let params = |func: u32| parts.func(func as usize).params().len() as u32;
    let frame = |(i, (body, operands)): (usize, (&Body<'_>, u32))| {
        8 + params(imported + i as u32) + body.locals + operands + body.computed(imported) + body.passed(&parts)
    };
    let frames: Vec<u32> = bodies.iter().zip(operands).enumerate().map(frame).collect();
    for (i, body) in bodies.iter().enumerate() {
        let frame = match (calls.is_counted(i), calls.diverges(i)) {
            (false, _) => 0,
            (true, false) => frames[i],
            (true, true) => frames[i] + calls.reserve(i, &frames),
        };
        let mut function = Function::new([]);
        let mut sink = function.instructions();
        if frame != 0 {
            gauge.enter(&mut sink, frame, body.runs.first().map_or(0, |run| run.cost));
        }
        for param in 0..params(imported + i as u32) {
            sink.local_get(param);
        }
        sink.call(all + i as u32);
        sink.global_get(gauge.height).i32_const(frame as i32).i32_sub().global_set(gauge.height).end();
        code.function(&function);
    }
    for (i, body) in bodies.iter().enumerate() {
        funcs.function(parts.funcs[parts.imported + i]);
        code.function(&body.rewritten(gauge, wasm, parts.func(parts.imported + i).params().len() as u32));
    }
    let mut exports = ExportSection::new();
    let mut start = parts.start;
    let mut host_calls = |func: u32, reports: bool, resets: bool| {
        let index = imported + funcs.len();
        funcs.function(parts.funcs[func as usize]);
        let mut function = Function::new([]);
        let mut sink = function.instructions();
        for count in [gauge.executed, gauge.charged].into_iter().filter(|_| reports) {
            sink.global_get(count).call(RESULT).i64_const(0).global_set(count);
        }
        let own = (func - imported) as usize;
        let reserve = if calls.diverges(own) { 0 } else { calls.reserve(own, &frames) };
        if reserve != 0 {
            gauge.enter(&mut sink, reserve, 0);
        }
        for param in 0..params(func) {
            sink.local_get(param);
        }
        sink.call(func);
        sink.global_get(gauge.height).i32_const(reserve as i32).i32_sub().global_set(gauge.height);
        gauge.look(&mut sink);
        for count in [gauge.executed, gauge.charged].into_iter().filter(|_| resets) {
            sink.i64_const(0).global_set(count);
        }
        sink.end();
        code.function(&function);
        index
    };
    for export in &parts.exports {
        let (kind, index) = match export.kind {
            ExternalKind::Func if export.index < imported => (ExportKind::Func, export.index),
            ExternalKind::Func => {
                let info = export.name == "__mistletoe_info";
                (ExportKind::Func, host_calls(export.index, info, info))
            }
            ExternalKind::Table => (ExportKind::Table, export.index),
            ExternalKind::Memory => (ExportKind::Memory, export.index),
            _ => (ExportKind::Global, export.index),
        };
        exports.export(export.name, kind, index);
    }
    if let Some(func) = start.filter(|func| *func >= imported) {
        start = Some(host_calls(func, false, true));
    }
    Ok(match start {
        Some(function_index) => {
            let start = StartSection { function_index };
            parts.with(&[&funcs, &global_section, &exports, &start, &code])
        }
        None => parts.with(&[&funcs, &global_section, &exports, &code]),
    })
}

impl Gauge {
    /// Takes units of the stack for a function whose first basic block has this cost.
    fn enter(self, sink: &mut InstructionSink<'_>, units: u32, cost: u64) {
        sink.global_get(self.height).i32_const(units as i32).i32_add().global_set(self.height);
        if let Some(limit) = self.bounds.stack {
            sink.global_get(self.height).i32_const(limit as i32).i32_gt_u().if_(BlockType::Empty);
            // The stack depth in the lower half, and the fuel in the upper.
            sink.i32_const(HEIGHT).global_get(self.height).i64_extend_i32_u();
            sink.global_get(self.charged).i64_const(cost as i64).i64_add().i64_const(32).i64_shl();
            sink.i64_or().call(DENY).end();
        }
    }

    /// Checks the limit on fuel.
    fn look(self, sink: &mut InstructionSink<'_>) {
        if let Some(limit) = self.bounds.fuel {
            sink.global_get(self.charged).i64_const(limit as i64).i64_gt_u().if_(BlockType::Empty);
            sink.i32_const(FUEL).global_get(self.charged).call(DENY).end();
        }
    }

    /// Adds a constant to a count.
    fn add(self, sink: &mut InstructionSink<'_>, count: u32, number: u64) {
        if number != 0 {
            sink.global_get(count).i64_const(number as i64).i64_add().global_set(count);
        }
    }

    /// Adds a local to both counts, scaled by `shift`.
    ///
    /// The cost is one unit per 2 to the power of `shift`. For a negative `shift`, it is 2 to the power of `-shift`
    /// units per one.
    fn add_local(self, sink: &mut InstructionSink<'_>, local: u32, shift: i32) {
        for count in [self.executed, self.charged] {
            sink.global_get(count).local_get(local).i64_extend_i32_u().i64_const(shift.unsigned_abs().into());
            if shift < 0 {
                sink.i64_shl()
            } else {
                sink.i64_shr_u()
            };
            sink.i64_add().global_set(count);
        }
    }
}

/// A basic block.
struct Run {
    /// The offset of its first instruction.
    at: usize,
    cost: u64,
    looks: bool,
}

/// A function's body with its instructions and basic blocks.
struct Body<'a> {
    groups: Vec<(u32, ValType)>,
    /// How many locals the function declares.
    locals: u32,
    operators: Vec<(Operator<'a>, usize)>,
    /// Whether each instruction is reachable.
    reached: Vec<bool>,
    end: usize,
    runs: Vec<Run>,
}

/// An open block.
struct Block {
    is_loop: bool,
    is_if: bool,
    /// Whether something branches to its end.
    targeted: bool,
    reached: bool,
    /// The basic block that contains it.
    run: usize,
    /// The outermost of the open blocks that something inside leads to.
    leads: usize,
}

impl<'a> Body<'a> {
    fn read(body: &FunctionBody<'a>, short: bool) -> wasmparser::Result<Self> {
        let mut groups = Vec::new();
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            groups.push((count, value_type(&ty)));
        }
        let locals = groups.iter().map(|(count, _)| count).sum::<u32>();
        let reader = body.get_operators_reader()?;
        let begin = reader.original_position();
        let operators = reader.into_iter_with_offsets().collect::<wasmparser::Result<Vec<_>>>()?;
        let end = body.range().end;
        let looks = !short && !begins_with_a_loop(&operators);
        let mut runs = vec![Run { at: begin, cost: locals.div_ceil(8).into(), looks }];
        let mut run = 0;
        let outermost = Block { is_loop: false, is_if: false, targeted: false, reached: true, run, leads: usize::MAX };
        let mut blocks = vec![outermost];
        let (mut reached, mut was_reached) = (true, Vec::new());
        for (i, (operator, _)) in operators.iter().enumerate() {
            let behind = operators.get(i + 1).map_or(end, |(_, offset)| *offset);
            was_reached.push(reached);
            if reached
                && costs(operator)
                && let Some(run) = runs.get_mut(run)
            {
                run.cost += 1;
            }
            let blocks_open = blocks.len() as u32;
            let mut target = |depth: u32| {
                let at = blocks.len().saturating_sub(1 + depth as usize);
                if let Some(block) = blocks.get_mut(at).filter(|block| !block.is_loop) {
                    block.targeted = true;
                }
                if let Some(block) = blocks.last_mut().filter(|_| reached) {
                    block.leads = block.leads.min(at);
                }
            };
            let mut begins = false;
            match operator {
                Operator::Br { relative_depth } => {
                    target(*relative_depth);
                    reached = false;
                }
                Operator::BrIf { relative_depth } => {
                    target(*relative_depth);
                    begins = true;
                }
                Operator::BrTable { targets } => {
                    for depth in targets.targets() {
                        target(depth?);
                    }
                    target(targets.default());
                    reached = false;
                }
                Operator::Return => {
                    target(blocks_open - 1);
                    reached = false;
                }
                Operator::Unreachable => reached = false,
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    let (is_loop, is_if) =
                        (matches!(operator, Operator::Loop { .. }), matches!(operator, Operator::If { .. }));
                    blocks.push(Block { is_loop, is_if, targeted: false, reached, run, leads: usize::MAX });
                    begins = is_loop || is_if;
                }
                Operator::Else => {
                    reached = blocks.last().is_some_and(|block| block.reached);
                    begins = true;
                }
                Operator::End => {
                    let Some(block) = blocks.pop() else { continue };
                    let through = block.leads >= blocks.len();
                    if let Some(around) = blocks.last_mut() {
                        around.leads = around.leads.min(block.leads);
                    }
                    if block.targeted || block.is_if {
                        reached = block.reached;
                        begins = !through;
                    }
                    if through && (block.targeted || block.is_if || block.is_loop) {
                        run = block.run;
                    }
                }
                _ => {}
            }
            if begins && reached {
                run = runs.len();
                runs.push(Run { at: behind, cost: 0, looks: matches!(operator, Operator::Loop { .. }) });
            }
        }
        Ok(Self { groups, locals, operators, reached: was_reached, end, runs })
    }

    /// Returns the additional frame size for what the function computes.
    fn computed(&self, imported: u32) -> u32 {
        let (mut whole, mut half) = (0, 0);
        for (operator, _) in &self.operators {
            let name = format!("{operator:?}");
            let name = name.split_whitespace().next().unwrap_or_default();
            let is_any = |words: &[&str]| words.iter().any(|word| name.contains(word));
            let float = name.starts_with("F32") || name.starts_with("F64");
            match operator {
                // All vector instructions, by name, including those that read, write or construct a vector.
                _ if is_vector(name) => whole += 2,
                Operator::Call { function_index } => whole += u32::from(*function_index < imported),
                Operator::CallIndirect { .. }
                | Operator::Select
                | Operator::TypedSelect { .. }
                | Operator::TableGet { .. }
                | Operator::TableSet { .. } => whole += 1,
                Operator::RefIsNull | Operator::MemorySize { .. } => half += 1,
                _ if is_any(&["Const", "Load", "Store"]) => {}
                // Comparisons produce an integer, regardless of their operands.
                _ if float && !["Eq", "Ne", "Lt", "Gt", "Le", "Ge"].contains(&&name[3..]) => whole += 1,
                _ if float || name.starts_with("I32") || name.starts_with("I64") => half += 1,
                _ => {}
            }
        }
        whole + half / 2
    }

    /// Returns the additional frame size for the parameters and results of the largest call, except the first 8.
    fn passed(&self, parts: &Parts<'_>) -> u32 {
        let size = |ty: &FuncType| ty.params().len() + ty.results().len();
        let passed = self.operators.iter().map(|(operator, _)| match operator {
            Operator::Call { function_index } => size(parts.func(*function_index as usize)),
            Operator::CallIndirect { type_index, .. } => size(&parts.types[*type_index as usize]),
            _ => 0,
        });
        (passed.max().unwrap_or(0) as u32).saturating_sub(8)
    }

    /// Returns the function with both counts.
    fn rewritten(&self, gauge: Gauge, wasm: &[u8], params: u32) -> Function {
        let (number, result) = (params + self.locals, params + self.locals + 1);
        let mut function = Function::new([&*self.groups, &[(2, ValType::I32)]].concat());
        let mut runs = self.runs.iter().peekable();
        for (i, ((operator, offset), reached)) in self.operators.iter().zip(&self.reached).enumerate() {
            let behind = self.operators.get(i + 1).map_or(self.end, |(_, offset)| *offset);
            let mut sink = function.instructions();
            while let Some(run) = runs.next_if(|run| run.at <= *offset) {
                gauge.add(&mut sink, gauge.charged, run.cost);
                if run.looks {
                    gauge.look(&mut sink);
                }
            }
            if *reached && costs(operator) {
                gauge.add(&mut sink, gauge.executed, 1);
            }
            if i == 0 {
                gauge.add(&mut sink, gauge.executed, self.locals.div_ceil(8).into());
            }
            let (bulk, grow) = match operator {
                _ if !reached => (None, None),
                Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryInit { .. } => {
                    (Some(6), None)
                }
                Operator::TableFill { .. } | Operator::TableCopy { .. } | Operator::TableInit { .. } => (Some(3), None),
                Operator::MemoryGrow { .. } => (None, Some(-10)),
                Operator::TableGrow { .. } => (None, Some(3)),
                _ => (None, None),
            };
            if bulk.or(grow).is_some() {
                sink.local_tee(number);
            }
            if let Some(shift) = bulk {
                gauge.add_local(&mut sink, number, shift);
                gauge.look(&mut sink);
            }
            function.raw(wasm[*offset..behind].iter().copied());
            if let Some(shift) = grow {
                let mut sink = function.instructions();
                sink.local_tee(result).i32_const(-1).i32_ne().if_(BlockType::Empty);
                gauge.add_local(&mut sink, number, shift);
                sink.end();
                gauge.look(&mut sink);
                sink.local_get(result);
            }
        }
        function
    }
}

/// Returns whether a function reaches a loop before any branch and any call.
fn begins_with_a_loop(operators: &[(Operator<'_>, usize)]) -> bool {
    let first = operators.iter().map(|(operator, _)| operator).find(|operator| {
        matches!(
            operator,
            Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::Br { .. }
                | Operator::BrIf { .. }
                | Operator::BrTable { .. }
                | Operator::Return
                | Operator::Unreachable
                | Operator::Call { .. }
                | Operator::CallIndirect { .. }
        )
    });
    matches!(first, Some(Operator::Loop { .. }))
}

/// Returns whether an instruction belongs to the proposal `simd`: its name starts with a vector or its lanes.
fn is_vector(name: &str) -> bool {
    ["V128", "I8x16", "I16x8", "I32x4", "I64x2", "F32x4", "F64x2"].iter().any(|shape| name.starts_with(shape))
}

/// Returns each function's maximum number of operands on the stack.
fn most_operands(wasm: &[u8]) -> wasmparser::Result<Vec<u32>> {
    let mut validator = Validator::new();
    let mut most = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let ValidPayload::Func(function, body) = validator.payload(&payload?)? {
            let mut function = function.into_validator(FuncValidatorAllocations::default());
            let mut reader = body.get_binary_reader();
            function.read_locals(&mut reader)?;
            let mut operands = 0;
            while !reader.eof() {
                let offset = reader.original_position();
                reader.visit_operator(&mut function.visitor(offset))??;
                operands = operands.max(function.operand_stack_height());
            }
            most.push(operands);
        }
    }
    Ok(most)
}
