//! A module taken apart, to be reassembled with changed sections. Additions come last, so no index changes.

use wasm_encoder::{CodeSection, FunctionSection, RawSection, Section, TypeSection, ValType};
use wasmparser::{Export, FuncType, FunctionBody, GlobalType, Operator, Parser, Payload, RefType, TypeRef};

/// The order of sections in a module, by id.
const ORDER: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11];

/// The parts of a module.
pub(crate) struct Parts<'a> {
    sections: Vec<(u8, &'a [u8])>,
    pub(crate) types: Vec<FuncType>,
    /// The types of all functions, imported ones first.
    pub(crate) funcs: Vec<u32>,
    /// How many functions are imported.
    pub(crate) imported: usize,
    pub(crate) globals: Vec<GlobalType>,
    /// The initialisers of the globals: constant expressions without their `end`.
    pub(crate) inits: Vec<&'a [u8]>,
    /// The element types of the tables.
    pub(crate) tables: Vec<RefType>,
    pub(crate) exports: Vec<Export<'a>>,
    pub(crate) start: Option<u32>,
    pub(crate) bodies: Vec<FunctionBody<'a>>,
}

impl<'a> Parts<'a> {
    /// Takes apart a valid module that imports only functions.
    pub(crate) fn new(wasm: &'a [u8]) -> wasmparser::Result<Self> {
        let mut parts = Self {
            sections: Vec::new(),
            types: Vec::new(),
            funcs: Vec::new(),
            imported: 0,
            globals: Vec::new(),
            inits: Vec::new(),
            tables: Vec::new(),
            exports: Vec::new(),
            start: None,
            bodies: Vec::new(),
        };
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let Some((id, range)) = payload.as_section() {
                parts.sections.push((id, &wasm[range]));
            }
            match payload {
                Payload::TypeSection(types) => {
                    parts.types = types.into_iter_err_on_gc_types().collect::<wasmparser::Result<_>>()?;
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        if let TypeRef::Func(ty) = import?.ty {
                            parts.funcs.push(ty);
                        }
                    }
                    parts.imported = parts.funcs.len();
                }
                Payload::FunctionSection(funcs) => {
                    for ty in funcs {
                        parts.funcs.push(ty?);
                    }
                }
                Payload::TableSection(tables) => {
                    for table in tables {
                        parts.tables.push(table?.ty.element_type);
                    }
                }
                Payload::GlobalSection(globals) => {
                    for global in globals {
                        let global = global?;
                        parts.globals.push(global.ty);
                        let mut init = global.init_expr.get_binary_reader();
                        parts.inits.push(init.read_bytes(init.bytes_remaining().saturating_sub(1))?);
                    }
                }
                Payload::ExportSection(exports) => {
                    parts.exports = exports.into_iter().collect::<wasmparser::Result<_>>()?;
                }
                Payload::StartSection { func, .. } => parts.start = Some(func),
                Payload::CodeSectionEntry(body) => parts.bodies.push(body),
                _ => {}
            }
        }
        Ok(parts)
    }

    /// Returns the type of a function.
    pub(crate) fn func(&self, index: usize) -> &FuncType {
        &self.types[self.funcs[index] as usize]
    }

    /// Returns whether the module ever grows its memory or a table.
    pub(crate) fn grows(&self) -> wasmparser::Result<bool> {
        for body in &self.bodies {
            for operator in body.get_operators_reader()? {
                if matches!(operator?, Operator::MemoryGrow { .. } | Operator::TableGrow { .. }) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Returns the types as a section to extend.
    pub(crate) fn type_section(&self) -> TypeSection {
        let mut section = TypeSection::new();
        for ty in &self.types {
            let types = |types: &[wasmparser::ValType]| types.iter().map(value_type).collect::<Vec<_>>();
            section.ty().function(types(ty.params()), types(ty.results()));
        }
        section
    }

    /// Returns the types of the module's own functions as a section to extend.
    pub(crate) fn function_section(&self) -> FunctionSection {
        let mut section = FunctionSection::new();
        for ty in &self.funcs[self.imported..] {
            section.function(*ty);
        }
        section
    }

    /// Returns the bodies as a section to extend.
    pub(crate) fn code_section(&self) -> CodeSection {
        let mut section = CodeSection::new();
        for body in &self.bodies {
            section.raw(body.as_bytes());
        }
        section
    }

    /// Returns the module with its sections replaced by these.
    pub(crate) fn with(&self, changed: &[&dyn Section]) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        for id in ORDER {
            if let Some(section) = changed.iter().find(|section| section.id() == id) {
                section.append_to(&mut module);
            } else if let Some((id, data)) = self.sections.iter().find(|section| section.0 == id) {
                RawSection { id: *id, data }.append_to(&mut module);
            }
        }
        module
    }
}

/// Converts a type for encoding.
pub(crate) fn value_type(ty: &wasmparser::ValType) -> ValType {
    match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::Ref(ty) if ty.is_func_ref() => ValType::FUNCREF,
        wasmparser::ValType::Ref(_) => ValType::EXTERNREF,
    }
}
