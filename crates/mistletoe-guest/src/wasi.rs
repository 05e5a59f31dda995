//! The functions of WASI preview 1 that the crate uses, on every target. A module imports those that it calls.

#[cfg(target_family = "wasm")]
pub(crate) use wasm::{var, write_stderr};

#[cfg(target_family = "wasm")]
mod wasm {
    use alloc::string::String;
    use alloc::vec;

    #[repr(C)]
    struct Range {
        address: *const u8,
        length: usize,
    }

    const STDERR: i32 = 2;

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn fd_write(fd: i32, ranges: *const Range, count: usize, written: *mut usize) -> i32;
        fn environ_sizes_get(count: *mut usize, size: *mut usize) -> i32;
        fn environ_get(addresses: *mut *mut u8, text: *mut u8) -> i32;
    }

    pub(crate) fn write_stderr(text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let range = Range { address: rest.as_ptr(), length: rest.len() };
            let mut written = 0;
            // SAFETY: the host reads one range, which lives until the call ends, and writes one number.
            let error = unsafe { fd_write(STDERR, &raw const range, 1, &raw mut written) };
            // A log that is closed is no reason to fail.
            match rest.get(written..) {
                Some(left) if error == 0 && written > 0 => rest = left,
                _ => return,
            }
        }
    }

    pub(crate) fn var(name: &str) -> Option<String> {
        let (mut count, mut size) = (0, 0);
        // SAFETY: the host writes two numbers.
        if unsafe { environ_sizes_get(&raw mut count, &raw mut size) } != 0 {
            return None;
        }
        let (mut addresses, mut text) = (vec![core::ptr::null_mut(); count], vec![0; size]);
        // SAFETY: the host writes as many addresses and bytes as it said.
        if unsafe { environ_get(addresses.as_mut_ptr(), text.as_mut_ptr()) } != 0 {
            return None;
        }
        // Every entry is `NAME=VALUE` and ends with NUL.
        text.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            String::from_utf8(value.to_vec()).ok()
        })
    }
}

#[cfg(all(not(target_family = "wasm"), feature = "std"))]
pub(crate) fn write_stderr(text: &str) {
    std::eprint!("{text}");
}

#[cfg(not(any(target_family = "wasm", feature = "std")))]
pub(crate) fn write_stderr(_: &str) {}

#[cfg(all(not(target_family = "wasm"), feature = "std"))]
pub(crate) fn var(name: &str) -> Option<alloc::string::String> {
    std::env::var(name).ok()
}

#[cfg(not(any(target_family = "wasm", feature = "std")))]
pub(crate) fn var(_: &str) -> Option<alloc::string::String> {
    None
}
