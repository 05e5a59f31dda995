//! A package that returns its input, by hand: with as little code as the interface allows. The tests compare what it
//! costs with `echo-sdk`.

use std::alloc::{self, Layout};
use std::ptr::{dangling_mut, null, null_mut};

/// How a package returns a text: the host gets the address of this struct and reads both numbers.
#[repr(C)]
pub struct Text {
    address: *const u8,
    length: usize,
}

// SAFETY: WebAssembly without threads has one thread.
unsafe impl Sync for Text {}

const DESCRIPTION: &str = "\
apiVersion: mistletoe.dev/v1alpha1
kind: MistPackage
metadata:
  name: echo-rust
";

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
        Ok(_) if length == 0 => dangling_mut(),
        // SAFETY: the length is not 0.
        Ok(layout) => unsafe { alloc::alloc(layout) },
        Err(_) => null_mut(),
    }
}

/// Frees a block of the input or the output.
///
/// # Safety
///
/// Address and length are those of a block in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mistletoe_dealloc(address: *mut u8, length: usize) {
    if length != 0 {
        // SAFETY: the caller's promise.
        unsafe { alloc::dealloc(address, Layout::from_size_align_unchecked(length, 1)) }
    }
}

/// Returns a copy of the input.
///
/// # Safety
///
/// Address and length are those of the input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mistletoe_generate(address: *const u8, length: usize) -> *const Text {
    static mut OUTPUT: Text = Text { address: null(), length: 0 };

    let output = __mistletoe_alloc(length);
    // Without room, the call ends in a trap.
    if output.is_null() {
        std::process::abort();
    }
    // SAFETY: both blocks have this length. There is one thread, and the host no longer uses the previous output.
    unsafe {
        output.copy_from_nonoverlapping(address, length);
        OUTPUT = Text { address: output, length };
    }
    &raw const OUTPUT
}
