//! A package that returns its input, through `mistletoe-guest` without the standard library. The tests compare what it
//! costs with `echo-rust`.

#![no_std]

extern crate alloc;

use alloc::borrow::ToOwned as _;
use alloc::string::String;

use mistletoe_guest::{package, panic_handler};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

panic_handler!();
package!(raw: echo);

fn echo(input: &str) -> String {
    input.to_owned()
}
