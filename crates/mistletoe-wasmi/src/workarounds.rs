//! Works around bugs in wasmi 2.0.0 by rewriting modules so that they do not reach them.
//!
//! Remove each rewrite with the first release of wasmi that passes the cases without it.
//!
//! - **`select`.** If its condition is `i32.eqz`, `i32.eq` or `i32.ne` of a local and zero, wasmi's translator drops
//!   the comparison. It then uses the register that the comparison would have filled, not the local: the result is
//!   whatever that register last held. Compilers often write such code. An instruction between the two that leaves 0
//!   and 1 unchanged keeps them apart.
//! - **Blocks with parameters.** Locals on the operand stack beneath the parameters are not preserved when they are set
//!   inside the block. An empty block in front makes wasmi preserve all of them.
//! - **`memory.grow` and `table.grow`.** Each takes space on the host's stack that it gives back only when the
//!   outermost call returns, so that a loop of them ends the process. They are replaced with calls of host functions,
//!   which take no such space. The host functions are in a table of their own, since an import would shift the indices
//!   of all functions.
//! - **`v128.store8_lane` and `v128.store16_lane`** with an offset above 65,535 make wasmi continue at an address that
//!   the guest chooses. They are replaced with instructions that extract the lane and store it as a number.

use std::borrow::Cow;
use std::collections::HashSet;

use wasm_encoder::{CodeSection, Encode as _, Module, RawSection};
use wasmi::{Caller, Func, Instance, Memory, Ref, Store, Val};
use wasmparser::{
    BlockType, CompositeInnerType, FunctionBody, MemArg, Operator, Parser, Payload, Result, SectionLimited,
};

/// `i32.extend8_s`, one byte: it maps 0 to 0, and 1 to 1.
const APART: [u8; 1] = [0xc0];
/// `block end`.
const EMPTY_BLOCK: [u8; 3] = [0x02, 0x40, 0x0b];

/// The types `[i32] -> [i32]`, `[funcref i32] -> [i32]` and `[externref i32] -> [i32]`.
const GROW_TYPES: [u8; 17] =
    [0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, FUNCREF, 0x7f, 1, 0x7f, 0x60, 2, EXTERNREF, 0x7f, 1, 0x7f];
const FUNCREF: u8 = 0x70;
const EXTERNREF: u8 = 0x6f;

const TYPE: u8 = 1;
const TABLE: u8 = 4;
const MEMORY: u8 = 5;
const EXPORT: u8 = 7;
const CODE: u8 = 10;

/// `i8x16.extract_lane_u` and `i16x8.extract_lane_u` without their prefix, `i32.store8` and `i32.store16`.
const EXTRACT_8: u8 = 0x16;
const EXTRACT_16: u8 = 0x19;
const STORE_8: u8 = 0x3a;
const STORE_16: u8 = 0x3b;
/// Stores at offsets up to this are correct.
const NEAR: u64 = 65_535;

/// A module as wasmi gets it.
pub(crate) struct Patched<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    pub(crate) growth: Option<Growth>,
}

/// What the host functions that grow memories and tables need, by the names of the exports.
#[derive(Debug)]
pub(crate) struct Growth {
    /// The table for the host functions: the one that grows the memory, followed by one for each table.
    pub(crate) calls: String,
    pub(crate) tables: Vec<String>,
}

impl Growth {
    /// Puts the host functions that grow the memory and the tables where the module calls them.
    ///
    /// Returns `None` if the instance lacks one of the exports.
    pub(crate) fn install<T: 'static>(&self, store: &mut Store<T>, instance: Instance, memory: Memory) -> Option<()> {
        let calls = instance.get_table(&*store, &self.calls)?;
        let grow = Func::wrap(&mut *store, move |mut caller: Caller<'_, T>, pages: u32| {
            memory.grow(&mut caller, pages.into()).map_or(u32::MAX, |before| before as u32)
        });
        calls.set(&mut *store, 0, Ref::Func(grow.into())).ok()?;
        for (name, at) in self.tables.iter().zip(1..) {
            let table = instance.get_table(&*store, name)?;
            let ty =
                wasmi::FuncType::new([table.ty(&*store).element().into(), wasmi::ValType::I32], [wasmi::ValType::I32]);
            let grow = Func::new(&mut *store, ty, move |mut caller, params, results| {
                let (init, more) = match params {
                    [Val::FuncRef(func), Val::I32(more)] => (Ref::Func(*func), *more),
                    [Val::ExternRef(value), Val::I32(more)] => (Ref::Extern(*value), *more),
                    _ => return Err(wasmi::Error::new("a table grows by a reference and a number")),
                };
                let before = table.grow(&mut caller, u64::from(more.cast_unsigned()), init);
                if let [result] = results {
                    *result = Val::I32(before.map_or(-1, |before| before as i32));
                }
                Ok(())
            });
            calls.set(&mut *store, at, Ref::Func(grow.into())).ok()?;
        }
        Some(())
    }
}

/// Returns the module with all rewrites.
pub(crate) fn patch(module: &[u8]) -> Patched<'_> {
    let unchanged = Patched { bytes: Cow::Borrowed(module), growth: None };
    // The engine refuses what cannot be read.
    let Ok(sections) = Sections::read(module) else { return unchanged };
    match sections.rewritten() {
        Ok(Some((bytes, growth))) => Patched { bytes: Cow::Owned(bytes), growth },
        _ => unchanged,
    }
}

/// What must be known of a module before its code is rewritten.
#[derive(Default)]
struct Sections<'a> {
    /// All sections in their order.
    sections: Vec<(u8, &'a [u8])>,
    types: Items<'a>,
    tables: Items<'a>,
    exports: Items<'a>,
    /// Whether each type has parameters.
    with_params: Vec<bool>,
    /// The binary format's byte for each table's element type.
    elements: Vec<u8>,
    names: HashSet<&'a str>,
    bodies: Vec<FunctionBody<'a>>,
}

/// A section's content: the number of items, and their bytes.
#[derive(Clone, Copy, Default)]
struct Items<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Items<'a> {
    fn new<T>(module: &'a [u8], section: &SectionLimited<'a, T>) -> Self {
        let bytes = module.get(section.original_position()..section.range().end).unwrap_or_default();
        Self { count: section.count(), bytes }
    }

    /// Returns the section's content with more items appended.
    fn and(self, count: usize, more: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        (self.count + count as u32).encode(&mut out);
        out.extend_from_slice(self.bytes);
        out.extend_from_slice(more);
        out
    }
}

impl<'a> Sections<'a> {
    fn read(module: &'a [u8]) -> Result<Self> {
        let mut all = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload?;
            if let Some((id, range)) = payload.as_section() {
                all.sections.push((id, module.get(range).unwrap_or_default()));
            }
            match payload {
                Payload::TypeSection(section) => {
                    all.types = Items::new(module, &section);
                    for group in section {
                        all.with_params.extend(group?.into_types().map(|ty| match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => !ty.params().is_empty(),
                            _ => false,
                        }));
                    }
                }
                Payload::TableSection(section) => {
                    all.tables = Items::new(module, &section);
                    for table in section {
                        let element = if table?.ty.element_type.is_func_ref() { FUNCREF } else { EXTERNREF };
                        all.elements.push(element);
                    }
                }
                Payload::ExportSection(section) => {
                    all.exports = Items::new(module, &section);
                    for export in section {
                        all.names.insert(export?.name);
                    }
                }
                Payload::CodeSectionEntry(body) => all.bodies.push(body),
                _ => {}
            }
        }
        Ok(all)
    }

    /// Returns the rewritten module, or `None` if nothing changes.
    fn rewritten(&self) -> Result<Option<(Vec<u8>, Option<Growth>)>> {
        let mut code = CodeSection::new();
        let (mut changed, mut grows) = (false, false);
        for body in &self.bodies {
            let function = self.function(body, &mut grows)?;
            changed |= matches!(function, Cow::Owned(_));
            code.raw(&function);
        }
        if !changed {
            return Ok(None);
        }
        let mut names = (0..).map(|n| format!("grow {n}")).filter(|name| !self.names.contains(name.as_str()));
        let mut name = || names.next().unwrap_or_default();
        let growth = grows.then(|| Growth { calls: name(), tables: self.elements.iter().map(|_| name()).collect() });
        let mut module = Module::new();
        for (id, data) in &self.sections {
            let changed = match (*id, &growth) {
                (CODE, _) => {
                    module.section(&code);
                    continue;
                }
                (TYPE, Some(_)) => self.types.and(3, &GROW_TYPES).into(),
                (TABLE, Some(growth)) => self.with_calls(growth).into(),
                (EXPORT, Some(growth)) => self.with_exports(growth).into(),
                _ => Cow::Borrowed(*data),
            };
            // A new table section comes before the memory section.
            if let (MEMORY, Some(growth)) = (*id, growth.as_ref().filter(|_| !self.has(TABLE))) {
                module.section(&RawSection { id: TABLE, data: &self.with_calls(growth) });
            }
            module.section(&RawSection { id: *id, data: &changed });
        }
        Ok(Some((module.finish(), growth)))
    }

    fn has(&self, id: u8) -> bool {
        self.sections.iter().any(|section| section.0 == id)
    }

    /// Returns the table section, with a table for the host functions.
    fn with_calls(&self, growth: &Growth) -> Vec<u8> {
        let mut table = vec![FUNCREF, 0];
        (growth.tables.len() as u32 + 1).encode(&mut table);
        self.tables.and(1, &table)
    }

    /// Returns the export section, with all tables.
    fn with_exports(&self, growth: &Growth) -> Vec<u8> {
        let mut exports = Vec::new();
        for (index, name) in growth.tables.iter().chain([&growth.calls]).enumerate() {
            name.as_str().encode(&mut exports);
            exports.push(1);
            (index as u32).encode(&mut exports);
        }
        self.exports.and(growth.tables.len() + 1, &exports)
    }

    /// Returns a function's body with its rewrites.
    fn function<'b>(&self, body: &FunctionBody<'b>, grows: &mut bool) -> Result<Cow<'b, [u8]>> {
        let bytes = body.as_bytes();
        let start = body.range().start;
        let mut rewritten = Vec::new();
        let mut copied = 0;
        // Where the latest comparison ended, until an instruction that makes wasmi forget it.
        let mut comparison = None;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let begin = operators.original_position() - start;
            let operator = operators.read()?;
            let end = operators.original_position() - start;
            let mut put = |at: usize, bytes_put: &[u8], goes_on: usize| {
                rewritten.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
                rewritten.extend_from_slice(bytes_put);
                copied = goes_on;
            };
            match operator {
                Operator::I32Eqz | Operator::I32Eq | Operator::I32Ne => comparison = Some(end),
                Operator::Select | Operator::TypedSelect { .. } => {
                    if let Some(end) = comparison.take() {
                        put(end, &APART, end);
                    }
                }
                Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                    comparison = None;
                    if let BlockType::FuncType(ty) = blockty
                        && self.with_params.get(ty as usize) == Some(&true)
                    {
                        put(begin, &EMPTY_BLOCK, begin);
                    }
                }
                Operator::V128Store8Lane { memarg, lane } if memarg.offset > NEAR => {
                    comparison = None;
                    put(begin, &store_lane([EXTRACT_8, lane, STORE_8], memarg), end);
                }
                Operator::V128Store16Lane { memarg, lane } if memarg.offset > NEAR => {
                    comparison = None;
                    put(begin, &store_lane([EXTRACT_16, lane, STORE_16], memarg), end);
                }
                Operator::MemoryGrow { .. } => {
                    comparison = None;
                    *grows = true;
                    put(begin, &self.grow(0, 0), end);
                }
                Operator::TableGrow { table } => {
                    comparison = None;
                    *grows = true;
                    let ty = if self.elements.get(table as usize) == Some(&FUNCREF) { 1 } else { 2 };
                    put(begin, &self.grow(ty, table + 1), end);
                }
                Operator::Nop
                | Operator::Drop
                | Operator::LocalGet { .. }
                | Operator::I32Const { .. }
                | Operator::I64Const { .. }
                | Operator::F32Const { .. }
                | Operator::F64Const { .. } => {}
                _ => comparison = None,
            }
        }
        if rewritten.is_empty() {
            return Ok(Cow::Borrowed(bytes));
        }
        rewritten.extend_from_slice(bytes.get(copied..).unwrap_or_default());
        Ok(Cow::Owned(rewritten))
    }

    /// Returns the call of a host function, of one of the added types.
    fn grow(&self, ty: u32, call: u32) -> Vec<u8> {
        let mut out = vec![0x41];
        (call as i32).encode(&mut out);
        out.push(0x11);
        (self.types.count + ty).encode(&mut out);
        self.tables.count.encode(&mut out);
        out
    }
}

/// Returns instructions that extract a lane from a vector and store it.
fn store_lane([extract, lane, store]: [u8; 3], memarg: MemArg) -> Vec<u8> {
    let mut out = vec![0xfd, extract, lane, store];
    u32::from(memarg.align).encode(&mut out);
    memarg.offset.encode(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids of a module's sections, and the instructions in it.
    fn operators_of(module: &[u8]) -> Vec<String> {
        let mut list = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            match payload.expect("a section") {
                Payload::CodeSectionEntry(body) => {
                    let operators = body.get_operators_reader().expect("operators");
                    list.extend(operators.into_iter().map(|operator| format!("{:?}", operator.expect("an operator"))));
                }
                payload => list.extend(payload.as_section().map(|(id, _)| format!("section {id}"))),
            }
        }
        list
    }

    /// The same, without and with the rewrites.
    fn operators(wat: &str) -> (Vec<String>, Vec<String>) {
        let module = wat::parse_str(wat).expect("a module");
        (operators_of(&module), operators_of(&patch(&module).bytes))
    }

    #[test]
    fn a_comparison_and_its_select_are_kept_apart_and_all_else_stays() {
        let (before, after) = operators(
            r#"(module (memory 1) (func (param i32) (result i32)
                (select (i32.const 1) (i32.const 2) (i32.eqz (local.get 0))))
              (func (param i32) (result i32) (i32.eqz (local.get 0)))
              (func (param i32) (result f32)
                (select (result f32) (f32.const 1) (f32.const 2) (i32.ne (local.get 0) (i32.const 0))))
              (data "x"))"#,
        );
        let kept: Vec<_> = after.iter().filter(|operator| *operator != "I32Extend8S").cloned().collect();
        assert_eq!(kept, before);
        for (i, operator) in after.iter().enumerate() {
            assert_eq!(operator == "I32Extend8S", after.get(i + 1).is_some_and(|next| next.contains("Select")));
        }
    }

    #[test]
    fn what_grows_is_called_and_exported_under_names_that_are_free() {
        for tables in ["", "(table 1 funcref) (table 1 externref)"] {
            let growing = if tables.is_empty() {
                ""
            } else {
                "(drop (table.grow 0 (ref.null func) (i32.const 1))) (drop (table.grow 1 (ref.null extern) (i32.const 1)))"
            };
            let text = format!(
                r#"(module {tables} (memory (export "grow 0") 1) (export "grow 2" (memory 0))
                  (func (export "f") (param i32) (result i32) {growing} (memory.grow (local.get 0)))
                  (data "x"))"#
            );
            let module = wat::parse_str(text).expect("a module");
            let Patched { bytes, growth } = patch(&module);
            let growth = growth.expect("it grows");
            assert_eq!(growth.calls, "grow 1");
            assert_eq!(growth.tables.join(" "), if tables.is_empty() { "" } else { "grow 3 grow 4" });
            wasmi::Module::new(&wasmi::Engine::default(), &bytes).expect("a valid module");
            let left = operators_of(&bytes).into_iter().filter(|operator| operator.contains("Grow")).count();
            assert_eq!(left, 0);
        }
    }

    #[test]
    fn a_module_without_any_of_it_is_not_copied() {
        let module = wat::parse_str(
            "(module (func (param i32) (result i32) (select (local.get 0) (i32.const 1) (local.get 0))))",
        );
        assert!(matches!(patch(&module.expect("a module")).bytes, Cow::Borrowed(_)));
    }
}
