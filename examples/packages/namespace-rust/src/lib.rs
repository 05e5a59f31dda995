//! The namespace package in Rust, with only the standard library.
//!
//! It reads `data.name` from its input and returns one file, `namespace.yaml`, which describes a Kubernetes namespace
//! of that name.
//!
//! Build it from this directory:
//!
//! ```sh
//! rustup target add wasm32-unknown-unknown
//! cargo build --release --target wasm32-unknown-unknown
//! cp target/wasm32-unknown-unknown/release/namespace_rust.wasm ../namespace-rust.wasm
//! ```
//!
//! or, from any directory of the project, with `cargo xtask packages --only namespace-rust`.

use std::alloc::{self, Layout};
use std::ptr::{dangling_mut, null, null_mut};

// ---------------------------------------------------------------------------------------------- what the package does

const DESCRIPTION: &str = "\
apiVersion: mistletoe.dev/v1alpha1
kind: MistPackage
metadata:
  name: namespace-rust
  labels:
    mistletoe.dev/group: examples
";

const NO_NAME: &str = "\
apiVersion: mistletoe.dev/v1alpha1
kind: MistResult
data:
  result: Err
  message: 'name the namespace in the input, on one line: \"name: my-namespace\" under \"data:\"'
";

/// Returns the result for an input, both YAML.
fn generate(input: &str) -> String {
    let Some(name) = find_name(input) else { return NO_NAME.to_owned() };
    format!(
        "\
apiVersion: mistletoe.dev/v1alpha1
kind: MistResult
data:
  result: Ok
  files:
    namespace.yaml: |
      apiVersion: v1
      kind: Namespace
      metadata:
        name: {name}
"
    )
}

/// Returns `data.name` as it is written, quotes included.
///
/// This reads only the lines that matter here, not all of YAML. A package that reads more should use a YAML crate.
fn find_name(input: &str) -> Option<&str> {
    let mut in_data = false;
    for line in input.split(['\n', '\r']) {
        // Exactly two spaces: names deeper in the document do not count.
        if in_data && let Some(name) = after_key(line, "  name:") {
            return read_name(name.trim_matches([' ', '\t']));
        }
        // A line without indentation, unless it is a comment, ends what came before it.
        if !line.is_empty() && !line.starts_with([' ', '\t', '#']) {
            in_data = after_key(line, "data:").is_some();
        }
    }
    None
}

/// Returns what follows the key on its line, if the line has that key.
fn after_key<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// Returns the name without a comment after it, unless the name is empty or takes several lines.
fn read_name(text: &str) -> Option<&str> {
    let quote = text.chars().next()?;
    let name = match quote {
        '"' | '\'' => &text[..quoted_len(text, quote)?],
        // At the start, these mean something else.
        _ if "-?:,[]{}#&*!|>@`%~".contains(quote) => return None,
        _ => without_comment(text),
    };
    let rest = &text[name.len()..];
    let comment = rest.trim_start_matches([' ', '\t']);
    let ends_here = comment.is_empty() || comment.len() < rest.len() && comment.starts_with('#');
    (ends_here && !["null", "\"\"", "''"].contains(&name)).then_some(name)
}

/// Returns a text without quotes, up to a `#` that follows a blank.
fn without_comment(text: &str) -> &str {
    let end = text.match_indices('#').map(|(at, _)| at).find(|&at| text[..at].ends_with([' ', '\t']));
    text[..end.unwrap_or(text.len())].trim_end_matches([' ', '\t'])
}

/// Returns the length of the quoted text at the start, both quotes included.
fn quoted_len(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next(); // a backslash escapes the next character
        } else if c == quote && quote == '\'' && chars.peek().is_some_and(|&(_, next)| next == quote) {
            chars.next(); // two single quotes stand for one
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

// ------------------------------------------------------------------------------------------- how the host reaches it

/// How a package returns a text: the host gets the address of this struct and reads both numbers.
#[repr(C)]
pub struct Text {
    address: *const u8,
    length: usize,
}

// SAFETY: WebAssembly without threads has one thread.
unsafe impl Sync for Text {}

/// Returns the description.
#[unsafe(no_mangle)]
pub extern "C" fn __mistletoe_info() -> *const Text {
    static INFO: Text = Text { address: DESCRIPTION.as_ptr(), length: DESCRIPTION.len() };
    &raw const INFO
}

/// Allocates `length` bytes. Null means that there is no room.
#[unsafe(no_mangle)]
pub extern "C" fn __mistletoe_alloc(length: usize) -> *mut u8 {
    match Layout::array::<u8>(length) {
        // The allocator must not be asked for 0 bytes. Any address except null will do.
        Ok(_) if length == 0 => dangling_mut(),
        // SAFETY: the length is not 0.
        Ok(layout) => unsafe { alloc::alloc(layout) },
        Err(_) => null_mut(),
    }
}

/// Frees a block of the input or the output.
///
/// The length from the host is exactly the block's. The allocator requires this: a `String` returned with spare
/// capacity would fail here.
///
/// # Safety
///
/// Address and length are those of a block in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mistletoe_dealloc(address: *mut u8, length: usize) {
    if let Ok(layout) = Layout::array::<u8>(length)
        && length != 0
    {
        // SAFETY: the caller's promise; the layout is the one of `__mistletoe_alloc` and of `Box<[u8]>`.
        unsafe { alloc::dealloc(address, layout) }
    }
}

/// Returns the output for the input that the host has written to a block.
///
/// # Safety
///
/// Address and length are those of the input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mistletoe_generate(address: *const u8, length: usize) -> *const Text {
    static mut ANSWER: Text = Text { address: null(), length: 0 };

    // SAFETY: the caller's promise. An empty input may have no address.
    let input = if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(address, length) } };
    // An input that is not text has no name either.
    let answer = generate(str::from_utf8(input).unwrap_or_default());

    // A boxed slice has no spare capacity. It is leaked until the host passes it to `__mistletoe_dealloc`.
    let answer: &'static [u8] = Box::leak(answer.into_bytes().into_boxed_slice());
    // SAFETY: there is one thread, and the host no longer uses the previous output.
    unsafe { ANSWER = Text { address: answer.as_ptr(), length: answer.len() } };
    &raw const ANSWER
}
