//! Names and signatures of the functions, in one place.

use mistletoe_abi::{Caller, Error, ErrorKind, Imports};

use crate::memory::Memory;
use crate::wasi::Wasi;
use crate::work::Work;

/// Module that guests import the functions from.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// Returns all functions of WASI preview 1.
pub fn imports<T: AsMut<Wasi> + Send + 'static>() -> Imports<T> {
    let mut imports = Imports::new();
    add_to(&mut imports);
    imports
}

macro_rules! functions {
    ($(
        $define:ident $access:ident {
            short { $($short:ident($($short_param:ident: $short_ty:ty),*);)* }
            long { $($long:ident($($long_param:ident: $long_ty:ty),*);)* }
        }
    )*) => {
        /// Adds all functions of WASI preview 1 to the host's own functions.
        pub fn add_to<T: AsMut<Wasi> + Send + 'static>(imports: &mut Imports<T>) {
            $($(imports.$define(MODULE, stringify!($short), |caller: &mut Caller<'_, T>, $($short_param: $short_ty),*| -> u32 {
                let (memory, state) = caller.$access();
                let mut memory = Memory::new(memory, Work::default());
                let call = |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.$short(memory, $($short_param),*);
                state.as_mut().answer(stringify!($short), &mut memory, call)
            });)*
            $(imports.$define(MODULE, stringify!($long), |caller: &mut Caller<'_, T>, $($long_param: $long_ty),*| {
                let work = Work::until(caller.deadline(), caller.cancel_handle());
                let (memory, state) = caller.$access();
                let mut memory = Memory::new(memory, work);
                let call = |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.$long(memory, $($long_param),*);
                let errno = state.as_mut().answer(stringify!($long), &mut memory, call);
                if memory.work.is_long() {
                    caller.in_time()?;
                }
                Ok::<_, Error>(errno)
            });)*)*
            imports.func(MODULE, "proc_exit", |_: &mut Caller<'_, T>, code: u32| {
                Err::<(), _>(Error::new(ErrorKind::Exit { code }))
            });
        }

        /// Names of all functions except `proc_exit`.
        #[cfg(test)]
        const NAMES: &[&str] = &[$($(stringify!($short),)* $(stringify!($long),)*)*];
    };
}

// The functions under `long` can take long, by what they are asked for or wait for. They know when the guest's time
// ends, and the guest does not resume after that.
//
// Those under `repeatable_func` read nothing in the guest's memory. They are what languages' runtimes call to start.
functions! {
    repeatable_func output_and_state {
        short {
            args_sizes_get(count: u32, size: u32);
            environ_sizes_get(count: u32, size: u32);

            clock_res_get(clock: u32, resolution: u32);
            clock_time_get(clock: u32, precision: u64, time: u32);

            fd_fdstat_get(fd: u32, stat: u32);
            fd_fdstat_set_flags(fd: u32, flags: u32);
            fd_prestat_get(fd: u32, stat: u32);
            fd_prestat_dir_name(fd: u32, name: u32, length: u32);

            sched_yield();
        }
        long {
            args_get(argv: u32, buffer: u32);
            environ_get(environ: u32, buffer: u32);
            random_get(buffer: u32, length: u32);
        }
    }
    func memory_and_state {
        short {
            fd_advise(fd: u32, offset: u64, length: u64, advice: u32);
            fd_close(fd: u32);
            fd_fdstat_set_rights(fd: u32, rights: u64, inheriting: u64);
            fd_filestat_get(fd: u32, stat: u32);
            fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32);
            fd_renumber(from: u32, to: u32);
            fd_seek(fd: u32, offset: i64, whence: u32, position: u32);
            fd_tell(fd: u32, position: u32);

            proc_raise(signal: u32);

            sock_accept(fd: u32, flags: u32, opened: u32);
            sock_recv(fd: u32, vectors: u32, count: u32, flags: u32, done: u32, out_flags: u32);
            sock_send(fd: u32, vectors: u32, count: u32, flags: u32, done: u32);
            sock_shutdown(fd: u32, how: u32);
        }
        long {
            fd_allocate(fd: u32, offset: u64, length: u64);
            fd_datasync(fd: u32);
            fd_filestat_set_size(fd: u32, size: u64);
            fd_pread(fd: u32, vectors: u32, count: u32, offset: u64, done: u32);
            fd_pwrite(fd: u32, vectors: u32, count: u32, offset: u64, done: u32);
            fd_read(fd: u32, vectors: u32, count: u32, done: u32);
            fd_readdir(fd: u32, buffer: u32, length: u32, cookie: u64, used: u32);
            fd_sync(fd: u32);
            fd_write(fd: u32, vectors: u32, count: u32, done: u32);

            path_create_directory(fd: u32, path: u32, length: u32);
            path_filestat_get(fd: u32, lookup: u32, path: u32, length: u32, stat: u32);
            path_filestat_set_times(
                fd: u32, lookup: u32, path: u32, length: u32, accessed: u64, modified: u64, flags: u32
            );
            path_link(old_fd: u32, lookup: u32, old: u32, old_length: u32, new_fd: u32, new: u32, new_length: u32);
            path_open(
                fd: u32, lookup: u32, path: u32, length: u32, how: u32, rights: u64, inheriting: u64, flags: u32,
                opened: u32
            );
            path_readlink(fd: u32, path: u32, length: u32, buffer: u32, size: u32, used: u32);
            path_remove_directory(fd: u32, path: u32, length: u32);
            path_rename(old_fd: u32, old: u32, old_length: u32, new_fd: u32, new: u32, new_length: u32);
            path_symlink(old: u32, old_length: u32, fd: u32, new: u32, new_length: u32);
            path_unlink_file(fd: u32, path: u32, length: u32);

            poll_oneoff(subscriptions: u32, events: u32, count: u32, done: u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_functions_are_offered() {
        let imports = imports::<Wasi>();
        assert_eq!(NAMES.len(), 45);
        assert!(NAMES.iter().chain(&["proc_exit"]).all(|name| imports.get(MODULE, name).is_some()));
    }

    #[test]
    fn types_are_the_specifications() {
        use mistletoe_abi::types::{FuncType, ValType::I32, ValType::I64};
        let imports = imports::<Wasi>();
        let ty = |name| imports.get(MODULE, name).map(|func| func.ty().clone());
        assert_eq!(ty("proc_exit"), Some(FuncType::new(&[I32], &[])));
        assert_eq!(ty("sched_yield"), Some(FuncType::new(&[], &[I32])));
        assert_eq!(ty("fd_seek"), Some(FuncType::new(&[I32, I64, I32, I32], &[I32])));
        assert_eq!(ty("path_open"), Some(FuncType::new(&[I32, I32, I32, I32, I32, I64, I64, I32, I32], &[I32])));
    }
}
