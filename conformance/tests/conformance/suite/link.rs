//! Makes a guest of the layer from a module of the suite.
//!
//! Its code and index spaces stay. Imports from `spectest` become its own items or host functions, and functions for
//! the host to call are added.
//!
//! The layer runs modules with certain exports, whose imports are only functions and a memory. So a guest is a plugin
//! of the httpwasm interface, whose `run` asks the host which entry of a table to call. There is an entry for each
//! function and each global that the module exports. It asks for the arguments, calls the function, and passes every
//! result to the host.

use std::collections::BTreeMap;
use std::convert::Infallible;

use wasm_reencode::reencode::{self, Reencode, utils};
use wasm_reencode::{
    AbstractHeapType, BlockType, CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Elements,
    EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, HeapType,
    ImportSection, InstructionSink, MemorySection, MemoryType, Module, RefType, StartSection, TableSection, TableType,
    TypeSection,
};
use wasmparser::{ExternalKind, FuncType, Import, Operator, Parser, Payload, TypeRef, ValType};

use super::Reason;

/// The module of the functions that the host drives a guest with.
pub(super) const DRIVER: &str = "driver";
/// The entry that shows the memory to the host.
pub(super) const LOOK: u32 = 0;

/// A guest and its entries.
pub(super) struct Guest {
    pub(super) wasm: Vec<u8>,
    /// The guest with function references in place of external references, if it has any.
    ///
    /// It serves calls with an external reference that is not null. Only a host could create one, and the layer does
    /// not pass references across its boundary.
    pub(super) with_functions: Option<Vec<u8>>,
    pub(super) funcs: BTreeMap<String, Entry>,
    pub(super) globals: BTreeMap<String, Entry>,
    /// Whether any instruction changes state that a later call can see.
    pub(super) is_stateful: bool,
}

/// An entry that the host can call, and how many slots it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) number: u32,
    pub(super) takes: usize,
}

/// What replaces an import.
pub(super) enum Provided {
    /// A host function of the same name.
    Host,
    /// A function that does not depend on its module.
    Func {
        ty: FuncType,
        body: Vec<u8>,
    },
    /// A constant.
    Global(Constant),
    Table {
        minimum: u64,
        maximum: Option<u64>,
    },
    Memory {
        minimum: u64,
        maximum: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Constant {
    I32(i32),
    I64(i64),
    F32(f32),
    F64(f64),
}

/// What has to be known of a module before it is rewritten.
#[derive(Default)]
struct Listing {
    types: Vec<FuncType>,
    /// The functions' types, imported ones first.
    funcs: Vec<u32>,
    imported: usize,
    globals: Vec<ValType>,
    tables: u32,
    memories: u32,
    is_stateful: bool,
    has_externs: bool,
}

impl Listing {
    fn read(wasm: &[u8]) -> Result<Self, Reason> {
        let mut listing = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(unreadable)? {
                Payload::TypeSection(section) => {
                    for ty in section.into_iter_err_on_gc_types() {
                        let ty = ty.map_err(unreadable)?;
                        listing.has_externs |= ty.params().contains(&ValType::EXTERNREF);
                        listing.types.push(ty);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import.map_err(unreadable)?.ty {
                            TypeRef::Func(ty) => listing.funcs.push(ty),
                            TypeRef::Global(ty) => listing.globals.push(ty.content_type),
                            TypeRef::Table(_) => listing.tables += 1,
                            TypeRef::Memory(_) => listing.memories += 1,
                            _ => return Err("an import of a kind that is none of WebAssembly 2.0".into()),
                        }
                    }
                    listing.imported = listing.funcs.len();
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        listing.funcs.push(ty.map_err(unreadable)?);
                    }
                }
                Payload::TableSection(section) => listing.tables += section.count(),
                Payload::MemorySection(section) => listing.memories += section.count(),
                Payload::GlobalSection(section) => {
                    for global in section {
                        listing.globals.push(global.map_err(unreadable)?.ty.content_type);
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader().map_err(unreadable)? {
                        listing.is_stateful |= changes(&operator.map_err(unreadable)?);
                    }
                }
                _ => {}
            }
        }
        Ok(listing)
    }

    fn func(&self, index: u32) -> Option<&FuncType> {
        self.types.get(*self.funcs.get(index as usize)? as usize)
    }
}

/// Returns whether an instruction changes state that a later call can see.
fn changes(operator: &Operator<'_>) -> bool {
    use Operator::*;
    matches!(
        operator,
        GlobalSet { .. }
            | I32Store { .. }
            | I64Store { .. }
            | F32Store { .. }
            | F64Store { .. }
            | I32Store8 { .. }
            | I32Store16 { .. }
            | I64Store8 { .. }
            | I64Store16 { .. }
            | I64Store32 { .. }
            | V128Store { .. }
            | V128Store8Lane { .. }
            | V128Store16Lane { .. }
            | V128Store32Lane { .. }
            | V128Store64Lane { .. }
            | MemoryGrow { .. }
            | MemoryFill { .. }
            | MemoryCopy { .. }
            | MemoryInit { .. }
            | DataDrop { .. }
            | TableSet { .. }
            | TableGrow { .. }
            | TableFill { .. }
            | TableCopy { .. }
            | TableInit { .. }
            | ElemDrop { .. }
    )
}

/// Returns whether a module imports a memory.
pub(super) fn imports_memory(wasm: &[u8]) -> bool {
    Parser::new(0).parse_all(wasm).any(|payload| match payload {
        Ok(Payload::ImportSection(section)) => {
            section.into_imports().any(|import| import.is_ok_and(|import| matches!(import.ty, TypeRef::Memory(_))))
        }
        _ => false,
    })
}

/// Returns an export for another module to import: a function that does not depend on its module, or a constant.
pub(super) fn exported(wasm: &[u8], name: &str) -> Option<Provided> {
    let listing = Listing::read(wasm).ok()?;
    let mut found = None;
    let (mut globals, mut bodies) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Global(_) = import.ok()?.ty {
                        globals.push(None);
                    }
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global.ok()?;
                    let constant = constant(global.init_expr.get_operators_reader().read().ok()?);
                    globals.push(constant.filter(|_| !global.ty.mutable));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.ok()?;
                    if export.name == name {
                        found = Some((export.kind, export.index));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(body),
            _ => {}
        }
    }
    match found? {
        (ExternalKind::Func, index) => {
            let body = bodies.get((index as usize).checked_sub(listing.imported)?)?;
            let mut operators = body.get_operators_reader().ok()?.into_iter();
            let ty = listing.func(index)?.clone();
            operators
                .all(|operator| operator.is_ok_and(|operator| stands_alone(&operator)))
                .then(|| Provided::Func { ty, body: body.as_bytes().to_vec() })
        }
        (ExternalKind::Global, index) => globals.get(index as usize).copied().flatten().map(Provided::Global),
        _ => None,
    }
}

/// Returns whether an instruction has the same meaning in every module.
///
/// Lists only the instructions that the suite needs.
fn stands_alone(operator: &Operator<'_>) -> bool {
    use Operator::*;
    matches!(
        operator,
        I32Const { .. }
            | I64Const { .. }
            | F32Const { .. }
            | F64Const { .. }
            | LocalGet { .. }
            | I32Add
            | I64Add
            | Drop
            | Nop
            | Return
            | Unreachable
            | End
    )
}

fn constant(operator: Operator<'_>) -> Option<Constant> {
    Some(match operator {
        Operator::I32Const { value } => Constant::I32(value),
        Operator::I64Const { value } => Constant::I64(value),
        Operator::F32Const { value } => Constant::F32(f32::from_bits(value.bits())),
        Operator::F64Const { value } => Constant::F64(f64::from_bits(value.bits())),
        _ => return None,
    })
}

impl Constant {
    fn expression(self) -> ConstExpr {
        match self {
            Self::I32(value) => ConstExpr::i32_const(value),
            Self::I64(value) => ConstExpr::i64_const(value),
            Self::F32(value) => ConstExpr::f32_const(value.into()),
            Self::F64(value) => ConstExpr::f64_const(value.into()),
        }
    }
}

/// The new indices of functions, and the values of imported globals.
struct Moved {
    /// The new indices of imported functions.
    imported: Vec<u32>,
    /// The new index of the first function that is not imported.
    own: u32,
    globals: Vec<Constant>,
    /// Whether external references become function references.
    with_functions: bool,
}

impl Reencode for Moved {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, reencode::Error<Infallible>> {
        let imported = self.imported.len() as u32;
        Ok(self.imported.get(index as usize).copied().unwrap_or_else(|| self.own + (index - imported)))
    }

    fn abstract_heap_type(
        &mut self,
        ty: wasmparser::AbstractHeapType,
    ) -> Result<AbstractHeapType, reencode::Error<Infallible>> {
        let ty = utils::abstract_heap_type(self, ty);
        Ok(if self.with_functions && ty == AbstractHeapType::Extern { AbstractHeapType::Func } else { ty })
    }

    /// Replaces reads of imported globals, which are no longer imported. Constant expressions can read no others.
    fn const_expr(&mut self, expression: wasmparser::ConstExpr<'_>) -> Result<ConstExpr, reencode::Error<Infallible>> {
        let mut operators = expression.get_operators_reader();
        let mut bytes = Vec::new();
        while !operators.is_end_then_eof() {
            match operators.read()? {
                Operator::GlobalGet { global_index } if (global_index as usize) < self.globals.len() => {
                    let mut expression = Vec::new();
                    wasm_reencode::Encode::encode(&self.globals[global_index as usize].expression(), &mut expression);
                    // All but the `end`.
                    bytes.extend_from_slice(&expression[..expression.len() - 1]);
                }
                operator => wasm_reencode::Encode::encode(&utils::instruction(self, operator)?, &mut bytes),
            }
        }
        Ok(ConstExpr::raw(bytes))
    }
}

fn unreadable(error: wasmparser::Error) -> Reason {
    format!("cannot be read: {error}").into()
}

fn not_encoded(error: reencode::Error<Infallible>) -> Reason {
    format!("cannot be rewritten: {error}").into()
}

/// Returns the replacement of an import. The type is given if the import is a function.
type Provide<'a> = dyn FnMut(&Import<'_>, Option<&FuncType>) -> Result<Provided, Reason> + 'a;

/// Makes a guest of a module.
pub(super) fn link(
    wasm: &[u8],
    mut provide: impl FnMut(&Import<'_>, Option<&FuncType>) -> Result<Provided, Reason>,
) -> Result<Guest, Reason> {
    let listing = Listing::read(wasm)?;
    let mut guest = linked(wasm, &listing, &mut provide, false)?;
    if listing.has_externs {
        guest.with_functions = Some(linked(wasm, &listing, &mut provide, true)?.wasm);
    }
    Ok(guest)
}

fn linked(wasm: &[u8], listing: &Listing, provide: &mut Provide<'_>, with_functions: bool) -> Result<Guest, Reason> {
    let mut types = TypeSection::new();
    let (mut imports, mut funcs, mut tables) = (ImportSection::new(), FunctionSection::new(), TableSection::new());
    let (mut memories, mut globals, mut exports) = (MemorySection::new(), GlobalSection::new(), ExportSection::new());
    let (mut elements, mut code, mut data) = (ElementSection::new(), CodeSection::new(), DataSection::new());
    let (mut start, mut data_count) = (None, None);
    let (mut entries, mut entry_globals) = (BTreeMap::new(), BTreeMap::new());

    // The driver's types follow the module's.
    let own_types = listing.types.len() as u32;
    let [nothing, gives_i32, gives_i64, takes_i64, takes_i32, mallocs] = std::array::from_fn(|i| own_types + i as u32);

    // Imports come first, since they determine the indices of everything else.
    let mut provided = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Payload::ImportSection(section) = payload.map_err(unreadable)? else { continue };
        for import in section.into_imports() {
            let import = import.map_err(unreadable)?;
            let ty = match import.ty {
                TypeRef::Func(ty) => listing.types.get(ty as usize),
                _ => None,
            };
            provided.push((import, provide(&import, ty)?));
        }
    }
    let kept = provided.iter().filter(|(_, provided)| matches!(provided, Provided::Host)).count() as u32;
    let [next, argument, result, look] = std::array::from_fn(|i| kept + i as u32);
    let own_funcs = (listing.funcs.len() - listing.imported) as u32;
    let behind = look + 1 + own_funcs;
    let mut moved = Moved { imported: Vec::new(), own: look + 1, globals: Vec::new(), with_functions };
    let (mut inlined, mut hosts) = (Vec::new(), 0);
    for (import, provided) in provided {
        match (provided, import.ty) {
            (Provided::Host, TypeRef::Func(ty)) => {
                moved.imported.push(hosts);
                hosts += 1;
                imports.import(import.module, import.name, EntityType::Function(ty));
            }
            (Provided::Func { ty: found, body }, TypeRef::Func(ty))
                if Some(&found) == listing.types.get(ty as usize) =>
            {
                moved.imported.push(behind + inlined.len() as u32);
                inlined.push((ty, body));
            }
            (Provided::Global(constant), TypeRef::Global(ty)) => {
                let val_type = moved.val_type(ty.content_type).map_err(not_encoded)?;
                globals.global(GlobalType { val_type, mutable: ty.mutable, shared: false }, &constant.expression());
                moved.globals.push(constant);
            }
            (Provided::Table { minimum, maximum }, TypeRef::Table(_)) => {
                tables.table(TableType {
                    element_type: RefType::FUNCREF,
                    table64: false,
                    minimum,
                    maximum,
                    shared: false,
                });
            }
            (Provided::Memory { minimum, maximum }, TypeRef::Memory(_)) => {
                // The memory stays an import. The layer makes it the guest's own.
                let (memory64, shared, page_size_log2) = (false, false, None);
                let ty = MemoryType { minimum, maximum, memory64, shared, page_size_log2 };
                imports.import(import.module, import.name, EntityType::Memory(ty));
            }
            _ => return Err("an import that is of another type where it comes from".into()),
        }
    }
    for (name, ty) in [("next", gives_i32), ("argument", gives_i64), ("result", takes_i64), ("look", nothing)] {
        imports.import(DRIVER, name, EntityType::Function(ty));
    }
    // The functions that the host calls come next.
    let mut thunks = Vec::new();
    let mut thunk = |body: Function| {
        thunks.push(body);
        thunks.len() as u32 - 1
    };
    let mut body = Function::new([]);
    body.instructions().call(look).end();
    assert_eq!(thunk(body), LOOK);

    for payload in Parser::new(0).parse_all(wasm) {
        let moved = &mut moved;
        match payload.map_err(unreadable)? {
            Payload::TypeSection(section) => moved.parse_type_section(&mut types, section),
            Payload::FunctionSection(section) => moved.parse_function_section(&mut funcs, section),
            Payload::TableSection(section) => moved.parse_table_section(&mut tables, section),
            Payload::MemorySection(section) => moved.parse_memory_section(&mut memories, section),
            Payload::GlobalSection(section) => moved.parse_global_section(&mut globals, section),
            Payload::StartSection { func, .. } => moved.function_index(func).map(|func| start = Some(func)),
            Payload::ElementSection(section) => moved.parse_element_section(&mut elements, section),
            Payload::DataCountSection { count, .. } => {
                data_count = Some(count);
                Ok(())
            }
            Payload::CodeSectionEntry(body) => moved.parse_function_body(&mut code, body),
            Payload::DataSection(section) => moved.parse_data_section(&mut data, section),
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(unreadable)?;
                    let index = moved.external_index(export.kind, export.index).map_err(not_encoded)?;
                    let kind = moved.export_kind(export.kind).map_err(not_encoded)?;
                    // The driver uses the names of the interface.
                    let taken = ["memory", "run", "malloc", "free", "_initialize", "_start"];
                    let name = match taken.contains(&export.name) {
                        true => format!("the module's {}", export.name),
                        false => export.name.to_owned(),
                    };
                    exports.export(&name, kind, index);
                    let calls = Calls { argument, result, some: with_functions.then_some(look) };
                    match export.kind {
                        ExternalKind::Func => {
                            let ty = listing.func(export.index).ok_or("an export of no function")?;
                            let number = thunk(calls.func(index, ty));
                            let vectors = ty.params().iter().filter(|param| **param == ValType::V128).count();
                            let takes = ty.params().len() + vectors;
                            entries.insert(export.name.to_owned(), Entry { number, takes });
                        }
                        ExternalKind::Global => {
                            let ty = *listing.globals.get(index as usize).ok_or("an export of no global")?;
                            let number = thunk(calls.global(index, ty));
                            entry_globals.insert(export.name.to_owned(), Entry { number, takes: 0 });
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
        .map_err(not_encoded)?;
    }

    let no_types: [wasm_reencode::ValType; 0] = [];
    let (i32, i64) = (wasm_reencode::ValType::I32, wasm_reencode::ValType::I64);
    types.ty().function(no_types, no_types);
    types.ty().function(no_types, [i32]);
    types.ty().function(no_types, [i64]);
    types.ty().function([i64], no_types);
    types.ty().function([i32], no_types);
    types.ty().function([i32], [i32]);

    for (ty, body) in &inlined {
        funcs.function(*ty);
        code.raw(body);
    }
    let first = behind + inlined.len() as u32;
    for body in &thunks {
        funcs.function(nothing);
        code.function(body);
    }
    let table = listing.tables;
    let entry_count = thunks.len() as u64;
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: entry_count,
        maximum: Some(entry_count),
        shared: false,
    });
    let indices: Vec<u32> = (first..first + thunks.len() as u32).collect();
    elements.active(Some(table), &ConstExpr::i32_const(0), Elements::Functions(indices.into()));
    if with_functions {
        elements.declared(Elements::Functions([look].as_slice().into()));
    }
    if listing.memories == 0 {
        let (memory64, shared, page_size_log2) = (false, false, None);
        memories.memory(MemoryType { minimum: 0, maximum: Some(0), memory64, shared, page_size_log2 });
    }

    let mut own = first + thunks.len() as u32;
    let mut export = |name: &str, ty: u32, emit: &dyn Fn(&mut InstructionSink<'_>)| {
        let mut body = Function::new([]);
        emit(&mut body.instructions());
        body.instructions().end();
        funcs.function(ty);
        code.function(&body);
        exports.export(name, ExportKind::Func, own);
        own += 1;
    };
    export("run", nothing, &|sink| {
        sink.call(next).call_indirect(table, nothing);
    });
    export("malloc", mallocs, &|sink| {
        sink.i32_const(0);
    });
    export("free", takes_i32, &|_| ());
    exports.export("memory", ExportKind::Memory, 0);

    let mut module = Module::new();
    module.section(&types).section(&imports).section(&funcs).section(&tables).section(&memories).section(&globals);
    module.section(&exports);
    if let Some(function_index) = start {
        module.section(&StartSection { function_index });
    }
    module.section(&elements);
    if let Some(count) = data_count {
        module.section(&DataCountSection { count });
    }
    module.section(&code).section(&data);
    let is_stateful = listing.is_stateful;
    Ok(Guest { wasm: module.finish(), with_functions: None, funcs: entries, globals: entry_globals, is_stateful })
}

/// The host functions that pass values.
#[derive(Clone, Copy)]
struct Calls {
    argument: u32,
    result: u32,
    /// The function that stands for an external reference argument that is not null.
    some: Option<u32>,
}

impl Calls {
    /// Calls a function with arguments from the host, and passes its results to the host, the last one first.
    fn func(self, index: u32, ty: &FuncType) -> Function {
        let mut function = with_local(ty.results());
        let mut sink = function.instructions();
        for param in ty.params() {
            self.ask(&mut sink, *param);
        }
        sink.call(index);
        for result in ty.results().iter().rev() {
            self.report(&mut sink, *result);
        }
        sink.end();
        function
    }

    fn global(self, index: u32, ty: ValType) -> Function {
        let mut function = with_local(&[ty]);
        let mut sink = function.instructions();
        sink.global_get(index);
        self.report(&mut sink, ty);
        sink.end();
        function
    }

    fn ask(self, sink: &mut InstructionSink<'_>, ty: ValType) {
        match ty {
            ValType::I32 => sink.call(self.argument).i32_wrap_i64(),
            ValType::I64 => sink.call(self.argument),
            ValType::F32 => sink.call(self.argument).i32_wrap_i64().f32_reinterpret_i32(),
            ValType::F64 => sink.call(self.argument).f64_reinterpret_i64(),
            ValType::V128 => sink.call(self.argument).i64x2_splat().call(self.argument).i64x2_replace_lane(1),
            ValType::Ref(ty) => match self.some.filter(|_| ty.is_extern_ref()) {
                Some(some) => sink
                    .call(self.argument)
                    .i32_wrap_i64()
                    .if_(BlockType::Result(wasm_reencode::ValType::FUNCREF))
                    .ref_func(some)
                    .else_()
                    .ref_null(HeapType::FUNC)
                    .end(),
                None => {
                    let null = if ty.is_extern_ref() { HeapType::EXTERN } else { HeapType::FUNC };
                    sink.call(self.argument).drop().ref_null(null)
                }
            },
        };
    }

    /// Passes the value on top of the stack to the host, the last slot first.
    fn report(self, sink: &mut InstructionSink<'_>, ty: ValType) {
        match ty {
            ValType::I32 => sink.i64_extend_i32_u().call(self.result),
            ValType::I64 => sink.call(self.result),
            ValType::F32 => sink.i32_reinterpret_f32().i64_extend_i32_u().call(self.result),
            ValType::F64 => sink.i64_reinterpret_f64().call(self.result),
            ValType::V128 => sink
                .local_tee(0)
                .i64x2_extract_lane(1)
                .call(self.result)
                .local_get(0)
                .i64x2_extract_lane(0)
                .call(self.result),
            ValType::Ref(_) => sink.ref_is_null().i64_extend_i32_u().call(self.result),
        };
    }
}

/// Returns an empty function, with a local for a vector if there is one to report.
fn with_local(results: &[ValType]) -> Function {
    Function::new(results.contains(&ValType::V128).then_some((1, wasm_reencode::ValType::V128)))
}
