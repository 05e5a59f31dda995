//! What limits put into a module, found again in the bytes that an engine gets, to be put in wrongly.

use std::ops::Range;

use wasmparser::{Operator, Parser, Payload, TypeRef, ValType};

use super::sections;

const GLOBAL: u8 = 6;
const CODE: u8 = 10;
/// The module that the injected functions are imported from.
const MODULE: &str = "mistletoe limits";

/// Where the injected items are in the index spaces.
#[derive(Clone, Copy, Default)]
pub(crate) struct At {
    pub(crate) tick: u32,
    pub(crate) overflow: u32,
    /// What is called where something is spent. The wrappers of what is exported come behind it.
    pub(crate) slow: u32,
    /// The globals: the fuel at hand, and the height that is left.
    pub(crate) fuel: u32,
    pub(crate) height: u32,
    /// How high the stack can be.
    pub(crate) limit: i64,
    /// Whether fuel is counted, and not only turns for the deadline.
    pub(crate) counts_fuel: bool,
    /// What the host calls for the start function.
    pub(crate) start: Option<u32>,
}

/// A function's body.
pub(crate) struct Code<'a> {
    pub(crate) at: At,
    /// The function's index.
    pub(crate) index: u32,
    /// The local for the count. Behind it are those for the height, and for a bulk operation's number and result.
    pub(crate) local: u32,
    /// How many locals it declares itself.
    pub(crate) declared: u32,
    pub(crate) code: Vec<Operator<'a>>,
}

/// So many of the instructions ahead are replaced by others.
type Change = (Range<usize>, Vec<u8>);

/// Where a function, or a turn of a loop, is charged and looks at what is left: how far ahead of a place that is.
#[derive(Default)]
pub(crate) struct Begin {
    /// The constant that is the height of the frame.
    pub(crate) frame: Option<usize>,
    /// The constant that is charged, and how much it is.
    pub(crate) charge: Option<(usize, i64)>,
    /// The constant that the count, or the height, is compared with.
    pub(crate) look: Option<usize>,
    /// What comes next.
    pub(crate) end: usize,
}

impl Code<'_> {
    /// Whether it is a function of the module's own.
    pub(crate) fn is_own(&self) -> bool {
        self.index < self.at.slow
    }

    /// Whether it is what the host calls in place of an exported function.
    pub(crate) fn is_wrapper(&self) -> bool {
        self.index > self.at.slow && self.code.iter().any(|op| matches!(op, Operator::Call { .. }))
    }

    /// Whether the count comes back to the global ahead: two instructions.
    pub(crate) fn is_flush(&self, ahead: &[Operator]) -> bool {
        matches!(ahead, [Operator::LocalGet { local_index }, Operator::GlobalSet { global_index }, ..]
            if *local_index == self.local && *global_index == self.at.fuel)
    }

    /// Whether it is taken from there.
    pub(crate) fn is_reload(&self, ahead: &[Operator]) -> bool {
        matches!(ahead, [Operator::GlobalGet { global_index }, Operator::LocalSet { local_index }, ..]
            if *local_index == self.local && *global_index == self.at.fuel)
    }

    /// Whether the height that is left comes to the global ahead.
    pub(crate) fn is_height_flush(&self, ahead: &[Operator]) -> bool {
        matches!(ahead, [Operator::LocalGet { .. }, Operator::GlobalSet { global_index }, ..]
            if *global_index == self.at.height)
    }

    /// Whether a function is called that is not injected.
    pub(crate) fn is_call(&self, op: &Operator) -> bool {
        match op {
            Operator::Call { function_index } => {
                ![self.at.slow, self.at.tick, self.at.overflow].contains(function_index)
            }
            Operator::CallIndirect { .. } => true,
            _ => false,
        }
    }

    /// Whether the count comes onto the stack.
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

    /// What is charged ahead without a look: four instructions.
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

    /// A charge with a look ahead.
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

    /// Where a function of the module's own begins, if it does ahead.
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

    /// Where each turn of a loop begins, if the loop is ahead.
    pub(crate) fn turn(&self, ahead: &[Operator]) -> Option<Begin> {
        match ahead {
            [Operator::Loop { .. }, count, ..] if self.is_count(count) => {
                self.begin(ahead, Begin { end: 1, ..Begin::default() }).filter(|begin| begin.look.is_some())
            }
            _ => None,
        }
    }

    /// What is paid ahead by the number in a local, with the look behind it: a constant and a call. Behind the count, four
    /// instructions make up what the fifth subtracts from it.
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

/// The module with its code changed: `change` is asked at each instruction, with those that are ahead. `None` where there
/// are no limits in it, or nothing to change.
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

/// The module with other numbers for the fuel at hand and the height that is left at first.
pub(crate) fn change_globals(wasm: &[u8], other: impl Fn(i64, i64) -> (i64, i64)) -> Option<Vec<u8>> {
    let at = at(wasm)?.at;
    let (fuel, height) = other(0, at.limit);
    // What is last in the section: for each, a type, that it can be changed, and a constant.
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

/// Where things are in a module that has limits in its code.
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
                    if export.name.starts_with("start function") {
                        start = Some(export.index);
                    }
                    at.counts_fuel |= export.name.trim_end_matches('\'') == "fuel";
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

/// The function that calls `tick`: no other does.
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

/// How many parameters each type has, and the type of each function.
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

/// The instruction `i64.const`.
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
