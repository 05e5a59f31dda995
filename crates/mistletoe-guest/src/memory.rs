//! Memory that the host reads and writes.

use alloc::alloc::{alloc, dealloc};
use alloc::vec;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{dangling_mut, null_mut};
use core::slice;

#[cfg(target_family = "wasm")]
pub use shared::{Text, info, output};

/// Texts in statics, which only a module without threads may have.
#[cfg(target_family = "wasm")]
mod shared {
    use alloc::boxed::Box;
    use alloc::string::String;
    use core::cell::Cell;
    use core::ptr::null;

    /// A fat pointer: where a text is that the host reads.
    #[repr(C)]
    #[derive(Debug)]
    pub struct Text {
        address: Cell<*const u8>,
        length: Cell<usize>,
    }

    // SAFETY: the crate does not compile for WebAssembly with threads, so there is one thread.
    unsafe impl Sync for Text {}

    impl Text {
        /// Returns the null pointer: there is no text.
        pub const fn null() -> Self {
            Self { address: Cell::new(null()), length: Cell::new(0) }
        }

        /// Hands the text out, with the capacity that is its length.
        #[inline]
        pub fn set(&self, text: String) {
            let text = match text.capacity() == text.len() {
                true => text.leak(),
                false => Box::leak(text.into_boxed_str()),
            };
            self.address.set(text.as_ptr());
            self.length.set(text.len());
        }
    }

    /// Returns the description, which is made once and never freed.
    pub fn info(describe: fn() -> String) -> *const Text {
        static INFO: Text = Text::null();
        if INFO.address.get().is_null() {
            INFO.set(describe());
        }
        &raw const INFO
    }

    /// Returns the output, which the host frees.
    #[inline]
    pub fn output(text: String) -> *const Text {
        static OUTPUT: Text = Text::null();
        OUTPUT.set(text);
        &raw const OUTPUT
    }
}

/// Returns the bytes that a function of the host writes if they fit. It returns their length.
pub(crate) fn fill(get: impl Fn(*mut u8, usize) -> usize) -> Vec<u8> {
    // Long enough for most of what is asked for.
    let mut bytes = vec![0; 128];
    loop {
        let length = get(bytes.as_mut_ptr(), bytes.len());
        if length <= bytes.len() {
            bytes.truncate(length);
            return bytes;
        }
        bytes.resize(length, 0);
    }
}

/// Returns the input.
///
/// # Safety
///
/// The range holds UTF-8, which nothing changes or frees during `'a`.
#[inline]
pub unsafe fn input<'a>(address: *const u8, length: usize) -> &'a str {
    // SAFETY: the caller's promise. The interface says that the input is a string: to check it again would take longer
    // than to copy it.
    unsafe { str::from_utf8_unchecked(bytes(address, length)) }
}

/// Returns the bytes of a range, which may be empty at any address.
///
/// # Safety
///
/// Nothing changes or frees the range during `'a`.
#[inline]
pub unsafe fn bytes<'a>(address: *const u8, length: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    if length == 0 { &[] } else { unsafe { slice::from_raw_parts(address, length) } }
}

/// Allocates `length` bytes. Null means that there is no room.
#[inline]
pub fn allocate(length: usize) -> *mut u8 {
    match Layout::array::<u8>(length) {
        // An allocator must not be asked for 0 bytes. Any address inside the memory will do.
        Ok(_) if length == 0 => dangling_mut(),
        // SAFETY: the length is not 0.
        Ok(layout) => unsafe { alloc(layout) },
        Err(_) => null_mut(),
    }
}

/// Frees a block of [`allocate`], or of a boxed string.
///
/// # Safety
///
/// Address and length are those of a block in use.
#[inline]
pub unsafe fn free(address: *mut u8, length: usize) {
    if length != 0 {
        // SAFETY: the caller's promise; the layout is the one of the allocation.
        unsafe { dealloc(address, Layout::from_size_align_unchecked(length, 1)) }
    }
}

/// Bytes in front of a block that is freed without its length. They hold the length, and keep the alignment of C.
const HEADER: usize = 8;

fn layout(length: usize) -> Option<Layout> {
    Layout::from_size_align(length.checked_add(HEADER)?, HEADER).ok()
}

/// Allocates `length` bytes for [`free_sized`]. Null means that there is no room.
pub fn allocate_sized(length: usize) -> *mut u8 {
    let Some(layout) = layout(length) else { return null_mut() };
    // SAFETY: the layout has the size of the header at least.
    let block = unsafe { alloc(layout) };
    if block.is_null() {
        return block;
    }
    // SAFETY: the block begins with the header, and has its alignment.
    unsafe {
        block.cast::<usize>().write(length);
        block.add(HEADER)
    }
}

/// Frees a block of [`allocate_sized`].
///
/// # Safety
///
/// The address is null or that of a block in use.
pub unsafe fn free_sized(address: *mut u8) {
    if address.is_null() {
        return;
    }
    // SAFETY: the caller's promise: a header with the length is in front of the block.
    unsafe {
        let block = address.sub(HEADER);
        if let Some(layout) = layout(block.cast::<usize>().read()) {
            dealloc(block, layout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{allocate, allocate_sized, free, free_sized};

    #[test]
    fn a_block_of_nothing_has_an_address() {
        for block in [allocate(0), allocate_sized(0)] {
            assert!(!block.is_null());
        }
        // SAFETY: the block is in use.
        unsafe {
            free(allocate(0), 0);
            free_sized(allocate_sized(0));
        }
    }

    #[test]
    fn what_has_no_room_is_null() {
        for length in [usize::MAX, usize::MAX - 7, usize::MAX / 2 + 1] {
            assert!(allocate(length).is_null());
            assert!(allocate_sized(length).is_null());
        }
        // SAFETY: null is allowed.
        unsafe { free_sized(core::ptr::null_mut()) }
    }

    #[test]
    fn blocks_keep_what_is_written() {
        for length in [1, 7, 8, 4096] {
            let (left, right) = (allocate_sized(length), allocate(length));
            // SAFETY: both blocks have this length, and are in use until the end.
            unsafe {
                left.write_bytes(1, length);
                right.write_bytes(2, length);
                assert_eq!((left.read(), left.add(length - 1).read()), (1, 1));
                assert_eq!(left.addr() % 8, 0);
                free_sized(left);
                free(right, length);
            }
        }
    }
}
