//! Finds the instrumentation of limits in the bytes that an engine compiles, so that faults can alter it.

use std::ops::Range;

use wasmparser::{Operator, Parser, Payload, TypeRef, ValType};

use super::sections;

const GLOBAL: u8 = 6;
const CODE: u8 = 10;
/// The module that the injected functions are imported from.
const MODULE: &str = "mistletoe limits";
/// The injected function that records where functions begin.
const ENTER: &str = "enter";

/// The indices of the injected items.
#[derive(Clone, Copy, Default)]
pub(crate) struct At {
    pub(crate) tick: u32,
    pub(crate) overflow: u32,
    /// The function that is called when a count is used up. The wrappers of exports follow it.
    pub(crate) slow: u32,
    /// The globals: the available fuel, and the remaining stack depth.
    pub(crate) fuel: u32,
    pub(crate) height: u32,
    /// The limit on the stack.
    pub(crate) limit: i64,
    /// Whether fuel is counted, and not only iterations for the deadline.
    pub(crate) counts_fuel: bool,
    /// The function that the host calls for the start function.
    pub(crate) start: Option<u32>,
}

/// A function's body.
pub(crate) struct Code<'a> {
    pub(crate) at: At,
    /// The function's index.
    pub(crate) index: u32,
    /// The local for the count. The locals for the stack depth, and for a bulk operation's number and result follow it.
    pub(crate) local: u32,
    /// How many locals the function itself declares.
    pub(crate) declared: u32,
    pub(crate) code: Vec<Operator<'a>>,
}

/// The range of upcoming instructions to replace, and their replacement.
type Change = (Range<usize>, Vec<u8>);

/// The charge and check at the start of a function or a loop iteration.
///
/// Offsets are in instructions from the current one.
#[derive(Default)]
pub(crate) struct Begin {
    /// The constant that is the frame size.
    pub(crate) frame: Option<usize>,
    /// The constant that is charged, and its value.
    pub(crate) charge: Option<(usize, i64)>,
    /// The constant that the count, or the stack depth, is compared with.
    pub(crate) look: Option<usize>,
    /// The end of the charge and check.
    pub(crate) end: usize,
}

impl Code<'_> {
    /// Returns whether it is one of the module's own functions.
    pub(crate) fn is_own(&self) -> bool {
        self.index < self.at.slow
    }

    /// Returns whether the host calls it in place of an exported function.
    pub(crate) fn is_wrapper(&self) -> bool {
        self.index > self.at.slow && self.code.iter().any(|op| matches!(op, Operator::Call { .. }))
    }

    /// Returns whether the next two instructions store the count to the global.
    pub(crate) fn is_flush(&self, ahead: &[Operator]) -> bool {
        matches!(ahead, [Operator::LocalGet { local_index }, Operator::GlobalSet { global_index }, ..]
            if *local_index == self.local && *global_index == self.at.fuel)
    }

    /// Returns whether the next two instructions load the count from the global.
    pub(crate) fn is_reload(&self, ahead: &[Operator]) -> bool {
        matches!(ahead, [Operator::GlobalGet { global_index }, Operator::LocalSet { local_index }, ..]
            if *local_index == self.local && *global_index == self.at.fuel)
    }

    /// Returns whether the next instructions store the remaining stack depth to the global.
    pub(crate) fn is_height_flush(&self, ahead: &[Operator]) -> bool {
        matches!(ahead, [Operator::LocalGet { .. }, Operator::GlobalSet { global_index }, ..]
            if *global_index == self.at.height)
    }

    /// Returns whether the instruction calls a function that is not injected.
    pub(crate) fn is_call(&self, op: &Operator) -> bool {
        match op {
            Operator::Call { function_index } => {
                ![self.at.slow, self.at.tick, self.at.overflow].contains(function_index)
            }
            Operator::CallIndirect { .. } => true,
            _ => false,
        }
    }

    /// Returns whether the instruction pushes the count.
    pub(crate) fn is_count(&self, op: &Operator) -> bool {
        match op {
            Operator::LocalGet { local_index } => *local_index == self.local,
            Operator::GlobalGet { global_index } => *global_index == self.at.fuel,
            _ => false,
        }
    }

    pub(crate) fn is_keep(&self, op: &Operator) -> bool {
        match op {
            Operator::LocalTee { local_index } | Operator::LocalSet { local_index } => *local_index == self.local,
            Operator::GlobalSet { global_index } => *global_index == self.at.fuel,
            _ => false,
        }
    }

    /// Returns the charge in the next four instructions, if they charge without a check.
    pub(crate) fn charge(&self, ahead: &[Operator]) -> Option<i64> {
        match ahead {
            [count, Operator::I64Const { value }, Operator::I64Sub, keep, ..]
                if self.is_count(count) && self.is_keep(keep) && !matches!(keep, Operator::LocalTee { .. }) =>
            {
                Some(*value)
            }
            _ => None,
        }
    }

    /// Finds a charge with a check in the next instructions.
    fn begin(&self, ahead: &[Operator], mut begin: Begin) -> Option<Begin> {
        let mut rest = ahead.get(begin.end..)?;
        if rest.first().is_some_and(|op| self.is_count(op)) {
            if let [_, Operator::I64Const { value }, Operator::I64Sub, ..] = rest {
                begin.charge = Some((begin.end + 1, *value));
                begin.end += 2;
            }
            begin.end += 1;
            while ahead.get(begin.end).is_some_and(|op| self.is_keep(op) || self.is_count(op)) {
                begin.end += 1;
            }
        }
        rest = ahead.get(begin.end..)?;
        begin.end += usize::from(matches!(rest, [Operator::I64Or, ..]));
        rest = ahead.get(begin.end..)?;
        if let [Operator::I64Const { value: 0 }, Operator::I64LtS, Operator::If { .. } | Operator::BrIf { .. }, ..] =
            rest
        {
            begin.look = Some(begin.end);
            begin.end += 3;
        }
        Some(begin).filter(|begin| begin.charge.is_some() || begin.look.is_some())
    }

    /// Returns the start of one of the module's own functions, if the next instructions are its start.
    pub(crate) fn entry(&self, ahead: &[Operator]) -> Option<Begin> {
        if !self.is_own() || ahead.len() != self.code.len() {
            return None;
        }
        let mut begin = Begin::default();
        if let [Operator::GlobalGet { global_index }, Operator::I64Const { .. }, Operator::I64Sub, ..] = ahead
            && *global_index == self.at.height
        {
            (begin.frame, begin.end) = (Some(1), 4);
        }
        self.begin(ahead, begin)
    }

    /// Returns the start of a loop's iterations, if the next instruction is the loop.
    pub(crate) fn turn(&self, ahead: &[Operator]) -> Option<Begin> {
        match ahead {
            [Operator::Loop { .. }, count, ..] if self.is_count(count) => {
                self.begin(ahead, Begin { end: 1, ..Begin::default() }).filter(|begin| begin.look.is_some())
            }
            _ => None,
        }
    }

    /// Returns the payment by the number in a local, if the next instructions are one.
    ///
    /// The check after it is a constant and a call. After the count, four instructions compute what the fifth subtracts
    /// from it.
    pub(crate) fn pay(&self, ahead: &[Operator]) -> Option<Begin> {
        match ahead {
            [
                count,
                Operator::LocalGet { .. },
                Operator::I64ExtendI32U,
                Operator::I64Const { .. },
                _,
                Operator::I64Sub,
                ..,
            ] if self.is_count(count) => {
                let mut end = 6;
                while ahead.get(end).is_some_and(|op| self.is_keep(op) || self.is_count(op)) {
                    end += 1;
                }
                Some(Begin { look: Some(end), end, ..Begin::default() })
            }
            _ => None,
        }
    }
}

/// Returns the module with changed code. Calls `change` at each instruction, with the remaining instructions.
///
/// Returns `None` if the module has no limits in its code, or if nothing changes.
pub(crate) fn change(wasm: &[u8], change: impl Fn(&Code, &[Operator]) -> Option<Change>) -> Option<Vec<u8>> {
    let at = at(wasm)?;
    let (types, functions) = signatures(wasm)?;
    let mut bodies = Vec::new();
    let (mut count, mut changed) = (0, false);
    for payload in Parser::new(0).parse_all(wasm) {
        let Payload::CodeSectionEntry(body) = payload.ok()? else { continue };
        let index = functions.len() as u32 - at.bodies + count;
        count += 1;
        let params = *types.get(*functions.get(index as usize)? as usize)?;
        let groups: Vec<_> = body.get_locals_reader().ok()?.into_iter().collect::<Result<_, _>>().ok()?;
        let locals: u32 = groups.iter().map(|(count, _)| count).sum();
        let added = match groups.as_slice() {
            [.., (2, ValType::I64), (2, ValType::I32)] => 4,
            [.., (2, ValType::I64)] => 2,
            _ => 0,
        };
        let declared = if index < at.at.slow { locals - added } else { 0 };
        let reader = body.get_operators_reader().ok()?;
        let begin = reader.original_position();
        let (code, mut offsets): (Vec<_>, Vec<_>) =
            reader.into_iter_with_offsets().collect::<Result<Vec<_>, _>>().ok()?.into_iter().unzip();
        offsets.push(body.range().end);
        let code = Code { at: at.at, index, local: params + declared, declared, code };

        let mut out = wasm.get(body.range().start..begin)?.to_vec();
        let mut i = 0;
        while let Some(ahead) = code.code.get(i..).filter(|ahead| !ahead.is_empty()) {
            let next = match change(&code, ahead) {
                Some((range, bytes)) => {
                    changed = true;
                    out.extend_from_slice(wasm.get(offsets[i]..offsets[i + range.start])?);
                    out.extend(bytes);
                    i + range.end
                }
                None => {
                    out.extend_from_slice(wasm.get(offsets[i]..offsets[i + 1])?);
                    i + 1
                }
            };
            i = next;
        }
        sections::append(&mut bodies, out.len() as u64);
        bodies.extend(out);
    }
    let mut section = Vec::new();
    sections::append(&mut section, count.into());
    section.extend(bodies);
    if changed { replaced(wasm, CODE, section) } else { None }
}

/// Returns the module with other initial values of the available fuel and the remaining stack depth.
pub(crate) fn change_globals(wasm: &[u8], other: impl Fn(i64, i64) -> (i64, i64)) -> Option<Vec<u8>> {
    let at = at(wasm)?.at;
    let (fuel, height) = other(0, at.limit);
    // The end of the section: for each global a type, its mutability, and a constant.
    let global = |value| [vec![0x7e, 1], i64_const(value), vec![0x0b]].concat();
    let last = |fuel, height| [global(fuel), global(height)].concat();
    let sections = sections::read(wasm)?;
    let (_, content) = sections.iter().find(|(id, _)| *id == GLOBAL)?;
    let mut content = content.strip_suffix(last(0, at.limit).as_slice())?.to_vec();
    content.extend(last(fuel, height));
    replaced(wasm, GLOBAL, content)
}

fn replaced(wasm: &[u8], id: u8, content: Vec<u8>) -> Option<Vec<u8>> {
    let mut sections = sections::read(wasm)?;
    sections.iter_mut().find(|section| section.0 == id)?.1 = content;
    Some(sections::write(wasm, &sections))
}

struct Found {
    at: At,
    /// How many functions are not imported.
    bodies: u32,
}

/// Finds the injected items in a module that has limits in its code.
fn at(wasm: &[u8]) -> Option<Found> {
    let (mut imported, mut globals, mut bodies) = (0, 0, 0);
    let (mut injected, mut at) = (false, At::default());
    let mut exported = Vec::new();
    let mut start = None;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.ok()?;
                    injected |= import.module == MODULE;
                    // Code that also records the stack is laid out in another way. No fault is about it.
                    if import.module == MODULE && import.name == ENTER {
                        return None;
                    }
                    match import.ty {
                        TypeRef::Func(_) => imported += 1,
                        TypeRef::Global(_) => globals += 1,
                        _ => {}
                    }
                }
            }
            Payload::FunctionSection(section) => bodies = section.count(),
            Payload::GlobalSection(section) => {
                globals += section.count();
                for global in section {
                    let mut code = global.ok()?.init_expr.get_operators_reader();
                    if let Operator::I64Const { value } = code.read().ok()? {
                        at.limit = value;
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.ok()?;
                    if export.name.starts_with("mistletoe: start function") {
                        start = Some(export.index);
                    }
                    at.counts_fuel |= export.name.trim_end_matches('\'') == "mistletoe: fuel";
                    if export.kind == wasmparser::ExternalKind::Func {
                        exported.push(export.index);
                    }
                }
            }
            _ => {}
        }
    }
    if !injected {
        return None;
    }
    (at.tick, at.overflow) = (imported - 2, imported - 1);
    (at.fuel, at.height) = (globals - 2, globals - 1);
    at.start = start;
    at.slow = slow(wasm, at.tick, imported)?;
    Some(Found { at, bodies })
}

/// Finds the function that calls `tick`. No other does.
fn slow(wasm: &[u8], tick: u32, imported: u32) -> Option<u32> {
    let mut index = imported;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CodeSectionEntry(body) = payload.ok()? {
            for op in body.get_operators_reader().ok()? {
                if op.ok()? == (Operator::Call { function_index: tick }) {
                    return Some(index);
                }
            }
            index += 1;
        }
    }
    None
}

/// Returns the number of parameters of each type, and the type of each function.
fn signatures(wasm: &[u8]) -> Option<(Vec<u32>, Vec<u32>)> {
    let (mut types, mut functions) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    types.push(ty.ok()?.params().len() as u32);
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if let TypeRef::Func(ty) = import.ok()?.ty {
                        functions.push(ty);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    functions.push(ty.ok()?);
                }
            }
            _ => {}
        }
    }
    Some((types, functions))
}

/// Encodes the instruction `i64.const`.
pub(crate) fn i64_const(mut value: i64) -> Vec<u8> {
    let mut bytes = vec![0x42];
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 && byte & 0x40 == 0 || value == -1 && byte & 0x40 != 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}
