//! What a module is made of, for tools.

use std::ops::Range;

use wasmparser::{ConstExpr, DataKind, ElementItems, ExternalKind, Operator, Parser, Payload};

use crate::check::inspect;
use crate::error::{Error, ErrorKind, Result};
use crate::features::{ALLOWED, FEATURES, FLAGS};
use crate::listing::constant;
use crate::read::Reading;
use crate::types::{ExternType, Import};

/// What a valid module is made of, and what it needs of an engine.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Analysis {
    /// The sections, in the module's order.
    ///
    /// Of custom sections, 1,000 are listed. The rest are one section without a name, which has the sum of their sizes.
    pub sections: Vec<Section>,
    /// Those of [`FEATURES`](crate::FEATURES) that the module uses, in that order.
    pub features: Vec<&'static str>,
    /// The imported functions that nothing in the module refers to: no code, no table, no export.
    ///
    /// A function that only unreachable code calls is not among them.
    pub unused_imports: Vec<Import>,
    /// The ranges of memory that active data segments initialise, where their offsets are single constants.
    pub data: Vec<Range<u64>>,
}

/// Maximum number of custom sections that are listed, since a module can have one for every three bytes.
const MAX_CUSTOM: usize = 1_000;

/// A section of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The name of its kind, as in the specification, such as `code`.
    pub kind: &'static str,
    /// The name of a custom section; `None` for any other.
    pub name: Option<String>,
    /// The length of its contents, in bytes.
    pub size: u64,
}

/// Analyses a module.
///
/// It is read once for each of [`FEATURES`](crate::FEATURES), and twice more.
///
/// # Errors
///
/// Why the module is not valid, as [`instrument`](crate::instrument) returns it.
pub fn analyse(bytes: &[u8]) -> Result<Analysis> {
    let inspection = inspect(bytes);
    if let Some(invalid) = inspection.invalid {
        return Err(invalid);
    }
    let mut analysis = Analysis { features: features(bytes), ..Analysis::default() };
    // A memory is not listed among the imports, and only functions have indices here.
    let imports = inspection.interface.imports.into_iter();
    let imports: Vec<Import> = imports.filter(|import| matches!(import.ty, ExternType::Func(_))).collect();
    let mut used = Used(vec![false; imports.len()]);
    let (mut custom, mut rest) = (0, Section { kind: kind(0), name: None, size: 0 });
    for payload in Parser::new(0).parse_all(bytes) {
        let read = payload.and_then(|payload| {
            if let Some((id, content)) = payload.as_section() {
                let size = content.len() as u64;
                match &payload {
                    Payload::CustomSection(_) if custom == MAX_CUSTOM => rest.size += size,
                    Payload::CustomSection(section) => {
                        custom += 1;
                        let name = Some(section.name().to_owned());
                        analysis.sections.push(Section { kind: kind(id), name, size });
                    }
                    _ => analysis.sections.push(Section { kind: kind(id), name: None, size }),
                }
            }
            used.section(&payload)?;
            data(&payload, &mut analysis.data)
        });
        read.map_err(|error| {
            let offset = error.offset() as u64;
            Error::with_source(ErrorKind::Malformed { offset }, error)
        })?;
    }
    if rest.size > 0 {
        analysis.sections.push(rest);
    }
    let unused = imports.into_iter().zip(used.0).filter(|(_, used)| !used);
    analysis.unused_imports = unused.map(|(import, _)| import).collect();
    Ok(analysis)
}

/// Returns the features without which a valid module would be invalid.
fn features(bytes: &[u8]) -> Vec<&'static str> {
    let needs = |flag| {
        let mut reading = Reading::default();
        reading.read(bytes, ALLOWED.difference(flag)).is_err() || reading.invalid.is_some()
    };
    FEATURES.into_iter().zip(FLAGS).filter(|(_, flag)| needs(*flag)).map(|(name, _)| name).collect()
}

/// Returns the name of a section's kind.
fn kind(id: u8) -> &'static str {
    const KINDS: [&str; 13] = [
        "custom",
        "type",
        "import",
        "function",
        "table",
        "memory",
        "global",
        "export",
        "start",
        "element",
        "code",
        "data",
        "datacount",
    ];
    KINDS.get(usize::from(id)).copied().unwrap_or("unknown")
}

/// For each imported function, whether something refers to it.
struct Used(Vec<bool>);

impl Used {
    fn mark(&mut self, function: u32) {
        if let Some(used) = self.0.get_mut(function as usize) {
            *used = true;
        }
    }

    fn section(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    self.expression(&global?.init_expr)?;
                }
            }
            Payload::ElementSection(section) => {
                for element in section.clone() {
                    match element?.items {
                        ElementItems::Functions(functions) => {
                            for function in functions {
                                self.mark(function?);
                            }
                        }
                        ElementItems::Expressions(_, expressions) => {
                            for expression in expressions {
                                self.expression(&expression?)?;
                            }
                        }
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    if matches!(export.kind, ExternalKind::Func | ExternalKind::FuncExact) {
                        self.mark(export.index);
                    }
                }
            }
            Payload::StartSection { func, .. } => self.mark(*func),
            Payload::CodeSectionEntry(body) => {
                let mut operators = body.get_operators_reader()?;
                while !operators.eof() {
                    self.operator(&operators.read()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn expression(&mut self, expression: &ConstExpr<'_>) -> wasmparser::Result<()> {
        let mut operators = expression.get_operators_reader();
        while !operators.eof() {
            self.operator(&operators.read()?);
        }
        Ok(())
    }

    fn operator(&mut self, operator: &Operator<'_>) {
        if let Operator::Call { function_index } | Operator::RefFunc { function_index } = operator {
            self.mark(*function_index);
        }
    }
}

/// Adds the ranges that active data segments initialise.
fn data(payload: &Payload<'_>, ranges: &mut Vec<Range<u64>>) -> wasmparser::Result<()> {
    let Payload::DataSection(section) = payload else { return Ok(()) };
    for segment in section.clone() {
        let segment = segment?;
        if let DataKind::Active { offset_expr, .. } = segment.kind
            && let Some(start) = constant(&offset_expr)
            && !segment.data.is_empty()
        {
            let start = u64::from(start);
            ranges.push(start..start + segment.data.len() as u64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analysed(text: &str) -> Analysis {
        let wasm = wat::parse_str(text).expect("a module");
        analyse(&wasm).expect("valid")
    }

    #[test]
    fn a_features_use_is_found_and_no_other() {
        for (module, features) in [
            ("(module)", &[][..]),
            ("(module (func (param i32) (drop (i32.extend8_s (local.get 0)))))", &["sign-extension-ops"]),
            ("(module (func (result i32 i32) i32.const 1 i32.const 2))", &["multi-value"]),
            (
                "(module (memory 1) (func (memory.copy (i32.const 0) (i32.const 0) (i32.const 0))))",
                &["bulk-memory-operations"],
            ),
            ("(module (func (drop (v128.const i32x4 0 0 0 0))))", &["simd"]),
            ("(module (table 1 externref))", &["reference-types"]),
            (r#"(module (global (export "g") (mut i32) (i32.const 0)))"#, &["mutable-global"]),
            ("(module (global i32 (i32.add (i32.const 1) (i32.const 2))))", &["extended-const"]),
            (
                "(module (func (param f32) (drop (i32.trunc_sat_f32_s (local.get 0)))))",
                &["nontrapping-float-to-int-conversions"],
            ),
        ] {
            assert_eq!(analysed(module).features, features, "{module}");
        }
    }

    #[test]
    fn an_import_is_unused_if_nothing_refers_to_it() {
        let analysis = analysed(
            r#"(module
              (import "m" "called" (func $called))
              (import "m" "unused" (func $unused))
              (import "m" "global" (global i32))
              (import "m" "exported" (func $exported))
              (import "m" "element" (func $element))
              (import "m" "also unused" (func))
              (import "m" "start" (func $start))
              (import "m" "reference" (func $reference))
              (import "m" "in a global" (func $in_global))
              (export "e" (func $exported))
              (table 1 funcref)
              (elem (i32.const 0) $element)
              (elem declare func $reference)
              (global funcref (ref.func $in_global))
              (start $start)
              (func (call $called) (drop (ref.func $reference))))"#,
        );
        let unused: Vec<_> = analysis.unused_imports.iter().map(|import| import.name.as_str()).collect();
        assert_eq!(unused, ["unused", "also unused"]);
    }

    #[test]
    fn sections_have_their_sizes_and_data_its_place() {
        let analysis = analysed(
            r#"(module
              (memory 1)
              (data (i32.const 16) "abc")
              (data (i32.const 64) "")
              (data (i32.add (i32.const 128) (i32.const 8)) "computed")
              (data "passive")
              (@custom "note" "12345"))"#,
        );
        assert_eq!(analysis.data.as_slice(), std::slice::from_ref(&(16..19)));
        let sizes: Vec<_> = analysis.sections.iter().map(|s| (s.kind, s.name.as_deref(), s.size)).collect();
        // A custom section's contents begin with its name, and the length of that.
        assert_eq!(sizes[0], ("memory", None, 3));
        assert!(sizes.contains(&("custom", Some("note"), 10)), "{sizes:?}");
        assert!(sizes.iter().any(|(kind, ..)| *kind == "data"), "{sizes:?}");
    }

    #[test]
    fn many_custom_sections_are_summed_up() {
        let custom = [0, 2, 1, b'n'];
        let wasm = [&b"\0asm\x01\0\0\0"[..], &custom.repeat(MAX_CUSTOM + 10)].concat();
        let sections = analyse(&wasm).expect("valid").sections;
        assert_eq!(sections.len(), MAX_CUSTOM + 1);
        assert_eq!(sections.last(), Some(&Section { kind: "custom", name: None, size: 20 }));
    }

    #[test]
    fn a_broken_module_is_an_error() {
        assert!(analyse(b"").is_err());
        assert!(analyse(b"\0asm\x01\0\0\0\x0a\x05").is_err());
    }
}
