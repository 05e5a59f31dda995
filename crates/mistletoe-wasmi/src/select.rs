//! Keeps wasmi 2.0.0 from getting `select` wrong.
//!
//! Where the condition of a `select` is `i32.eqz`, `i32.eq` or `i32.ne` of a local and zero, wasmi's translator drops the
//! comparison and goes on to use the register that it would have filled, not the local: the result is whatever that
//! register last held. Compilers write such code often. An instruction between the two, one that leaves 0 and 1 as they
//! are, keeps them apart. To be removed with the first release of wasmi that passes the cases without it.

use std::borrow::Cow;

use wasm_encoder::{CodeSection, Module, RawSection};
use wasmparser::{FunctionBody, Operator, Parser, Payload, Result};

/// `i32.extend8_s`, one byte: of 0 it makes 0, of 1 it makes 1.
const APART: u8 = 0xc0;

/// The module, with an instruction between every comparison and the `select` that it decides.
pub(crate) fn kept_apart(module: &[u8]) -> Cow<'_, [u8]> {
    // What cannot be read is the engine's to refuse.
    rewrite(module).ok().flatten().map_or(Cow::Borrowed(module), Cow::Owned)
}

/// `None` where nothing is to be kept apart.
fn rewrite(module: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut rewritten = Module::new();
    let mut code = CodeSection::new();
    let mut changed = false;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Payload::CodeSectionEntry(body) = &payload {
            let function = function(body)?;
            changed |= matches!(function, Cow::Owned(_));
            code.raw(&function);
        }
        // The code goes where it was: before the data, in place of the section that was announced.
        match payload.as_section() {
            Some((10, _)) => {}
            Some((id, range)) => {
                if !code.is_empty() {
                    rewritten.section(&std::mem::take(&mut code));
                }
                rewritten.section(&RawSection { id, data: module.get(range).unwrap_or_default() });
            }
            None => {}
        }
    }
    if !code.is_empty() {
        rewritten.section(&code);
    }
    Ok(changed.then(|| rewritten.finish()))
}

/// A function's body, with the instruction put in where it is needed.
fn function<'a>(body: &FunctionBody<'a>) -> Result<Cow<'a, [u8]>> {
    let bytes = body.as_bytes();
    let start = body.range().start;
    let mut rewritten = Vec::new();
    let mut copied = 0;
    // Where the latest comparison ended, as long as nothing came after it that makes wasmi forget it.
    let mut comparison = None;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let operator = operators.read()?;
        match operator {
            Operator::I32Eqz | Operator::I32Eq | Operator::I32Ne => comparison = Some(operators.original_position()),
            Operator::Select | Operator::TypedSelect { .. } => {
                if let Some(end) = comparison.take() {
                    let end = end - start;
                    rewritten.extend_from_slice(bytes.get(copied..end).unwrap_or_default());
                    rewritten.push(APART);
                    copied = end;
                }
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
    if copied == 0 {
        return Ok(Cow::Borrowed(bytes));
    }
    rewritten.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    Ok(Cow::Owned(rewritten))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The module's text, without and with the pass.
    fn operators(wat: &str) -> (Vec<String>, Vec<String>) {
        let module = wat::parse_str(wat).expect("a module");
        let list = |module: &[u8]| {
            let mut list = Vec::new();
            for payload in Parser::new(0).parse_all(module) {
                match payload.expect("a section") {
                    Payload::CodeSectionEntry(body) => {
                        let operators = body.get_operators_reader().expect("operators");
                        list.extend(
                            operators.into_iter().map(|operator| format!("{:?}", operator.expect("an operator"))),
                        );
                    }
                    payload => list.extend(payload.as_section().map(|(id, _)| format!("section {id}"))),
                }
            }
            list
        };
        (list(&module), list(&kept_apart(&module)))
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
    fn a_module_without_such_a_select_is_not_copied() {
        let module = wat::parse_str(
            "(module (func (param i32) (result i32) (select (local.get 0) (i32.const 1) (local.get 0))))",
        );
        assert!(matches!(kept_apart(&module.expect("a module")), Cow::Borrowed(_)));
    }
}
