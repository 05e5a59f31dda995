//! The namespace package in Rust, with the standard library and nothing else: it takes `data.name` from its input and
//! answers with one file, `namespace.yaml`, that describes a Kubernetes namespace of that name.
//!
//! To build it, from this folder:
//!
//! ```sh
//! rustup target add wasm32-unknown-unknown
//! cargo build --release --target wasm32-unknown-unknown
//! cp target/wasm32-unknown-unknown/release/namespace_rust.wasm ../namespace-rust.wasm
//! ```
//!
//! or `cargo xtask packages --only namespace-rust` from any folder of the project.

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

/// Answers an input with a result, both YAML.
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

/// `data.name` as it is written, quotes included. This reads the lines that matter here, not YAML as a whole; a package
/// with more to read wants a YAML crate.
fn find_name(input: &str) -> Option<&str> {
    let mut in_data = false;
    for line in input.split(['\n', '\r']) {
        // Two spaces, no more: names deeper in the document are not ours.
        if in_data && let Some(name) = after_key(line, "  name:") {
            return read_name(name.trim_matches([' ', '\t']));
        }
        // A line that begins at the margin, unless it is a comment, ends what came before it.
        if !line.is_empty() && !line.starts_with([' ', '\t', '#']) {
            in_data = after_key(line, "data:").is_some();
        }
    }
    None
}

/// What follows the key on its line, if the line has that key.
fn after_key<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// The name without a comment behind it, unless it is empty or not of one line.
fn read_name(text: &str) -> Option<&str> {
    let quote = text.chars().next()?;
    let name = match quote {
        '"' | '\'' => &text[..quoted_len(text, quote)?],
        // These mean something else at the start.
        _ if "-?:,[]{}#&*!|>@`%~".contains(quote) => return None,
        _ => without_comment(text),
    };
    let rest = &text[name.len()..];
    let comment = rest.trim_start_matches([' ', '\t']);
    let ends_here = comment.is_empty() || comment.len() < rest.len() && comment.starts_with('#');
    (ends_here && !["null", "\"\"", "''"].contains(&name)).then_some(name)
}

/// A text without quotes up to a `#` that follows a blank.
fn without_comment(text: &str) -> &str {
    let end = text.match_indices('#').map(|(at, _)| at).find(|&at| text[..at].ends_with([' ', '\t']));
    text[..end.unwrap_or(text.len())].trim_end_matches([' ', '\t'])
}

/// The length of the quoted text at the start, both quotes included.
fn quoted_len(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next(); // a backslash takes the next character along
        } else if c == quote && quote == '\'' && chars.peek().is_some_and(|&(_, next)| next == quote) {
            chars.next(); // two single quotes stand for one
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

// ------------------------------------------------------------------------------------------- how the host reaches it

/// How a package hands out a text: the host is given the address of one of these and reads both numbers.
#[repr(C)]
pub struct Text {
    address: *const u8,
    length: usize,
}

// SAFETY: WebAssembly without threads has one thread.
unsafe impl Sync for Text {}

/// Hands out the description.
#[unsafe(no_mangle)]
pub extern "C" fn __mistletoe_info() -> *const Text {
    static INFO: Text = Text { address: DESCRIPTION.as_ptr(), length: DESCRIPTION.len() };
    &raw const INFO
}

/// Makes room for `length` bytes. Null says that there is none.
#[unsafe(no_mangle)]
pub extern "C" fn __mistletoe_alloc(length: usize) -> *mut u8 {
    match Layout::array::<u8>(length) {
        // The allocator is not to be asked for nothing. Any address but null will do.
        Ok(_) if length == 0 => dangling_mut(),
        // SAFETY: the length is not 0.
        Ok(layout) => unsafe { alloc::alloc(layout) },
        Err(_) => null_mut(),
    }
}

/// Takes back a block, of the input or of the answer. Both are exactly as long as the host says, which today's
/// allocator insists on: a `String` handed out with room to spare would fail here.
///
/// # Safety
///
/// Address and length are those of a block that is in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mistletoe_dealloc(address: *mut u8, length: usize) {
    if let Ok(layout) = Layout::array::<u8>(length)
        && length != 0
    {
        // SAFETY: the caller's promise; the layout is the one of `__mistletoe_alloc` and of `Box<[u8]>`.
        unsafe { alloc::dealloc(address, layout) }
    }
}

/// Answers the input that the host has written to a block of its own.
///
/// # Safety
///
/// Address and length are those of the input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mistletoe_generate(address: *const u8, length: usize) -> *const Text {
    static mut ANSWER: Text = Text { address: null(), length: 0 };

    // SAFETY: the caller's promise. An empty input may come without an address.
    let input = if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(address, length) } };
    // An input that is no text has no name either.
    let answer = generate(str::from_utf8(input).unwrap_or_default());

    // Boxed, it has no room to spare. Leaked, it stays until the host hands it back to `__mistletoe_dealloc`.
    let answer: &'static [u8] = Box::leak(answer.into_bytes().into_boxed_slice());
    // SAFETY: one thread, and the host is done with the answer before this one.
    unsafe { ANSWER = Text { address: answer.as_ptr(), length: answer.len() } };
    &raw const ANSWER
}
