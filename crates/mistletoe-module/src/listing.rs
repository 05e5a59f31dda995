//! What a module declares, gathered section by section.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use wasmparser::{
    CompositeInnerType, ConstExpr, ElementItems, ExternalKind, Operator, Payload, SectionLimited, TypeRef,
};

use crate::calls::Reserve;
use crate::declared::{MAX_EXPORTS, MAX_IMPORTS};
use crate::error::DeclaredItem;
use crate::interface::{Interface, MEMORY};
use crate::state::Changes;
use crate::types::{Export, ExternType, FuncType, GlobalType, Import, MemoryType, TableType, ValType};

/// Gathers the [`Interface`] from the sections as they are read. Trusts none of them: an index may point nowhere.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) interface: Interface,
    pub(crate) types: Vec<Option<Arc<FuncType>>>,
    /// The type index of each function.
    pub(crate) functions: Vec<u32>,
    pub(crate) tables: Vec<TableType>,
    pub(crate) memories: Vec<MemoryType>,
    pub(crate) globals: Vec<GlobalType>,
    /// Index and value of each immutable global that starts with an `i32.const`.
    constants: Vec<(u32, u32)>,
    /// Index of the start function.
    pub(crate) start: Option<u32>,
    /// The sections in order: the id, where the section begins, and the range of its content.
    pub(crate) sections: Vec<(u8, usize, Range<usize>)>,
    /// Where element segments and globals refer to functions.
    pub(crate) mentions: Vec<usize>,
    /// Whether code refers to functions, if the code was read for that.
    pub(crate) refers: bool,
    /// What the host's calls take of the stack, for each function that is not imported, if the code was read for that.
    pub(crate) reserves: Vec<Reserve>,
    /// What code can change, if the code was read.
    pub(crate) changes: Changes,
    /// Where the exports of functions begin.
    pub(crate) exported: Vec<usize>,
    /// Range of the memory's import, if the memory is imported.
    pub(crate) imported_memory: Option<Range<usize>>,
    /// Whether the layer exports such a memory.
    pub(crate) exports_memory: bool,
    pub(crate) excess: Option<(DeclaredItem, u64)>,
}

impl Listing {
    /// Lists a section, which takes up `range` of the module's bytes, header included.
    pub(crate) fn add(&mut self, payload: &Payload<'_>, range: Range<usize>) -> wasmparser::Result<()> {
        if let Some((id, content)) = payload.as_section() {
            match self.sections.last_mut() {
                // Custom sections are kept or left out together. A module can have one for every three bytes.
                Some((0, _, last)) if id == 0 => last.end = content.end,
                _ => self.sections.push((id, range.start, content)),
            }
        }
        match payload {
            Payload::TypeSection(section) => {
                // Equal types share one allocation: each takes many times its size in the module.
                let mut known = HashSet::new();
                for group in section.clone() {
                    for ty in group?.into_types() {
                        let CompositeInnerType::Func(ty) = ty.composite_type.inner else {
                            self.types.push(None);
                            continue;
                        };
                        let ty = FuncType {
                            params: ty.params().iter().map(val_type).collect(),
                            results: ty.results().iter().map(val_type).collect(),
                        };
                        let ty = known.get(&ty).cloned().unwrap_or_else(|| Arc::new(ty));
                        known.insert(ty.clone());
                        self.types.push(Some(ty));
                    }
                }
            }
            Payload::ImportSection(section) => {
                let mut memory = None;
                for import in section.clone().into_imports_with_offsets() {
                    let (offset, import) = import?;
                    if let Some(begin) = memory.take() {
                        self.imported_memory = Some(begin..offset);
                    }
                    let ty = match import.ty {
                        TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                            self.functions.push(index);
                            ExternType::Func(self.func_type(index))
                        }
                        TypeRef::Table(ty) => {
                            self.tables.push(table_type(&ty));
                            ExternType::Table(Some(table_type(&ty)))
                        }
                        TypeRef::Memory(ty) => {
                            memory = Some(offset);
                            self.memories.push(memory_type(&ty));
                            ExternType::Memory(Some(memory_type(&ty)))
                        }
                        TypeRef::Global(ty) => {
                            self.globals.push(global_type(&ty));
                            ExternType::Global(Some(global_type(&ty)))
                        }
                        TypeRef::Tag(_) => ExternType::Tag,
                    };
                    let (module, name) = (import.module.to_owned(), import.name.to_owned());
                    if self.interface.imports.len() == MAX_IMPORTS {
                        self.excess = Some((DeclaredItem::Imports, MAX_IMPORTS as u64));
                        break;
                    }
                    self.interface.imports.push(Import { module, name, ty });
                }
                if let Some(begin) = memory {
                    self.imported_memory = Some(begin..section.range().end);
                }
            }
            Payload::FunctionSection(section) => extend(&mut self.functions, section, |index| index)?,
            Payload::TableSection(section) => {
                extend(&mut self.tables, section, |table| table_type(&table.ty))?;
            }
            Payload::MemorySection(section) => extend(&mut self.memories, section, |ty| memory_type(&ty))?,
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    let global = global?;
                    if let Some(value) = constant(&global.init_expr).filter(|_| !global.ty.mutable) {
                        self.constants.push((self.globals.len() as u32, value));
                    }
                    self.globals.push(global_type(&global.ty));
                    self.mentioned(&global.init_expr)?;
                }
            }
            Payload::ElementSection(section) => {
                for element in section.clone() {
                    match element?.items {
                        ElementItems::Functions(functions) => {
                            for function in functions.into_iter_with_offsets() {
                                self.mentions.push(function?.0);
                            }
                        }
                        ElementItems::Expressions(_, expressions) => {
                            for expression in expressions {
                                self.mentioned(&expression?)?;
                            }
                        }
                    }
                }
            }
            Payload::StartSection { func, .. } => {
                self.start = Some(*func);
            }
            Payload::ExportSection(section) => {
                for export in section.clone().into_iter_with_offsets() {
                    let (offset, export) = export?;
                    let index = export.index as usize;
                    let ty = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => {
                            self.exported.push(offset);
                            ExternType::Func(self.functions.get(index).and_then(|ty| self.func_type(*ty)))
                        }
                        ExternalKind::Table => ExternType::Table(self.tables.get(index).cloned()),
                        ExternalKind::Memory => ExternType::Memory(self.memories.get(index).cloned()),
                        ExternalKind::Global => {
                            let at = self.constants.binary_search_by_key(&export.index, |(index, _)| *index);
                            if let Some((_, value)) = at.ok().and_then(|at| self.constants.get(at)) {
                                self.interface.constants.push((self.interface.exports.len(), *value));
                            }
                            ExternType::Global(self.globals.get(index).cloned())
                        }
                        ExternalKind::Tag => ExternType::Tag,
                    };
                    if self.interface.exports.len() == MAX_EXPORTS {
                        self.excess = Some((DeclaredItem::Exports, MAX_EXPORTS as u64));
                        break;
                    }
                    self.interface.exports.push(Export { name: export.name.to_owned(), ty });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Records where an expression refers to functions.
    fn mentioned(&mut self, expression: &ConstExpr<'_>) -> wasmparser::Result<()> {
        let mut operators = expression.get_operators_reader();
        while !operators.eof() {
            let offset = operators.original_position();
            if let Operator::RefFunc { .. } = operators.read()? {
                // After the opcode.
                self.mentions.push(offset + 1);
            }
        }
        Ok(())
    }

    /// Makes an imported memory the module's own, exported as [`MEMORY`].
    ///
    /// A valid module has no other memory, since it has at most one.
    pub(crate) fn own_memory(&mut self) {
        if self.imported_memory.is_none() {
            return;
        }
        let Interface { imports, exports, .. } = &mut self.interface;
        imports.retain(|import| !matches!(import.ty, ExternType::Memory(_)));
        if !exports.iter().any(|export| export.name == MEMORY) {
            let ty = ExternType::Memory(self.memories.first().cloned());
            exports.push(Export { name: MEMORY.to_owned(), ty });
            self.exports_memory = true;
        }
    }

    /// Returns where the injected items will be in the index spaces.
    ///
    /// `backtrace` says whether the stack is recorded.
    pub(crate) fn indices(&self, backtrace: bool) -> Indices {
        let (mut imported, mut globals) = (0, 0);
        for import in &self.interface.imports {
            imported += u32::from(matches!(import.ty, ExternType::Func(_)));
            globals += u32::from(matches!(import.ty, ExternType::Global(_)));
        }
        let all = self.globals.len() as u32;
        Indices {
            imported,
            functions: self.functions.len() as u32,
            globals: all,
            own_globals: all.saturating_sub(globals),
            backtrace,
        }
    }

    /// Returns a name that no export has: longer than all that begin like it. No protocol resolves such a name.
    pub(crate) fn unused_export(&self, name: &str) -> String {
        let stem = format!("mistletoe: {name}");
        let taken = self.interface.exports.iter().map(|export| &export.name).filter(|name| name.starts_with(&stem));
        let longest = taken.map(String::len).max();
        format!("{stem}{}", "'".repeat(longest.map_or(0, |longest| longest - stem.len() + 1)))
    }

    /// Returns the type index of a function.
    pub(crate) fn type_of(&self, function: u32) -> Option<u32> {
        self.functions.get(function as usize).copied()
    }

    /// Returns how many parameters and results a type has.
    pub(crate) fn passed(&self, ty: u32) -> u32 {
        let ty = self.types.get(ty as usize).and_then(Option::as_ref);
        ty.map_or(0, |ty| ty.params.len().saturating_add(ty.results.len()) as u32)
    }

    pub(crate) fn func_type(&self, index: u32) -> Option<Arc<FuncType>> {
        self.types.get(index as usize).cloned().flatten()
    }
}

/// Appends what a section declares to an index space.
fn extend<'a, T: wasmparser::FromReader<'a>, U>(
    space: &mut Vec<U>,
    section: &SectionLimited<'a, T>,
    convert: impl Fn(T) -> U,
) -> wasmparser::Result<()> {
    for item in section.clone() {
        space.push(convert(item?));
    }
    Ok(())
}

fn val_type(ty: &wasmparser::ValType) -> ValType {
    match *ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::FUNCREF => ValType::FuncRef,
        wasmparser::ValType::EXTERNREF => ValType::ExternRef,
        wasmparser::ValType::Ref(ty) => ValType::Other(ty.to_string().into()),
    }
}

fn memory_type(ty: &wasmparser::MemoryType) -> MemoryType {
    MemoryType { minimum: ty.initial, maximum: ty.maximum, shared: ty.shared, memory64: ty.memory64 }
}

fn table_type(ty: &wasmparser::TableType) -> TableType {
    let element = val_type(&wasmparser::ValType::Ref(ty.element_type));
    TableType { element, minimum: ty.initial, maximum: ty.maximum }
}

fn global_type(ty: &wasmparser::GlobalType) -> GlobalType {
    GlobalType { content: val_type(&ty.content_type), mutable: ty.mutable }
}

/// Returns the value of an expression that is a single `i32.const`.
pub(crate) fn constant(expression: &ConstExpr<'_>) -> Option<u32> {
    let mut operators = expression.get_operators_reader();
    match (operators.read(), operators.read()) {
        (Ok(Operator::I32Const { value }), Ok(Operator::End)) => Some(value.cast_unsigned()),
        _ => None,
    }
}

/// Where the injected items are in the index spaces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Indices {
    /// Number of functions that the module imports itself. `tick` comes next, then `overflow`, then `enter` if the stack
    /// is recorded.
    pub(crate) imported: u32,
    /// Number of functions, imported ones included.
    ///
    /// The function that is called when something is spent comes after them, then the one that is called where a
    /// function begins, if the stack is recorded.
    pub(crate) functions: u32,
    /// Number of globals, imported ones included. The fuel counter comes next, then the remaining stack depth.
    ///
    /// If the stack is recorded, the position and the number of frames follow.
    pub(crate) globals: u32,
    /// Number of globals that are not imported.
    pub(crate) own_globals: u32,
    /// Whether the stack is recorded.
    pub(crate) backtrace: bool,
}

impl Indices {
    pub(crate) fn tick(self) -> u32 {
        self.imported
    }

    pub(crate) fn overflow(self) -> u32 {
        self.imported + 1
    }

    pub(crate) fn enter(self) -> u32 {
        self.imported + 2
    }

    pub(crate) fn slow(self) -> u32 {
        self.func(self.functions)
    }

    pub(crate) fn entered(self) -> u32 {
        self.slow() + 1
    }

    /// Returns the index of the first wrapper.
    pub(crate) fn wrappers(self) -> u32 {
        self.slow() + 1 + u32::from(self.backtrace)
    }

    pub(crate) fn fuel(self) -> u32 {
        self.globals
    }

    pub(crate) fn height(self) -> u32 {
        self.globals + 1
    }

    /// Returns the global with the offset in the original module of the instruction that runs.
    pub(crate) fn position(self) -> u32 {
        self.globals + 2
    }

    /// Returns the global with the number of functions that have begun and not returned.
    pub(crate) fn frames(self) -> u32 {
        self.globals + 3
    }

    /// Returns the new index of a function of the module.
    pub(crate) fn func(self, index: u32) -> u32 {
        if index < self.imported { index } else { index.saturating_add(2 + u32::from(self.backtrace)) }
    }
}
