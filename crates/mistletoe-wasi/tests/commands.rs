//! Whole programs on an engine.

use std::fmt::Write as _;

use mistletoe_abi::{Command, ErrorKind, Limits};
use mistletoe_wasi::{Wasi, imports};
use mistletoe_wasmi::Wasmi;

/// Runs a program's text.
fn run(text: &str, wasi: Wasi) -> (Result<u32, ErrorKind>, Wasi) {
    let wasm = wat::parse_str(text).unwrap();
    let command = Command::with_imports(&Wasmi::new(), &wasm, &imports::<Wasi>(), Limits::default()).unwrap();
    let (result, wasi) = command.session_with(wasi).unwrap().run();
    (result.map_err(|error| error.kind().clone()), wasi)
}

#[test]
fn a_program_writes_its_arguments_and_exits() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\00\01\00\00\0a\00\00\00")
        (func (export "_start")
            (drop (call $args_get (i32.const 64) (i32.const 256)))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $proc_exit (i32.load (i32.const 8)))
            unreachable))"#;
    let (result, wasi) = run(text, Wasi::builder().args(["tool", "--it"]).build());
    assert_eq!((result, wasi.stdout()), (Ok(10), &b"tool\0--it\0"[..]));
}

/// All functions with their parameters: `i` for `i32`, `I` for `i64`.
const FUNCTIONS: &str = "args_get ii args_sizes_get ii environ_get ii environ_sizes_get ii clock_res_get ii \
    clock_time_get iIi fd_advise iIIi fd_allocate iII fd_close i fd_datasync i fd_fdstat_get ii \
    fd_fdstat_set_flags ii fd_fdstat_set_rights iII fd_filestat_get ii fd_filestat_set_size iI \
    fd_filestat_set_times iIIi fd_pread iiiIi fd_prestat_get ii fd_prestat_dir_name iii fd_pwrite iiiIi fd_read iiii \
    fd_readdir iiiIi fd_renumber ii fd_seek iIii fd_sync i fd_tell ii fd_write iiii path_create_directory iii \
    path_filestat_get iiiii path_filestat_set_times iiiiIIi path_link iiiiiii path_open iiiiiIIii path_readlink iiiiii \
    path_remove_directory iii path_rename iiiiii path_symlink iiiii path_unlink_file iii poll_oneoff iiii proc_raise i \
    sched_yield - random_get ii sock_accept iii sock_recv iiiiii sock_send iiiii sock_shutdown ii";

/// Calls each function many times with the numbers that hurt most.
#[test]
fn no_argument_traps() {
    let words: Vec<_> = FUNCTIONS.split_whitespace().collect();
    let functions: Vec<_> = words.chunks(2).map(|pair| (pair[0], pair[1].replace('-', ""))).collect();
    assert_eq!(functions.len(), 45);
    let mut random = 1u64;
    let mut pick = |from: &[i64]| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from[(random >> 33) as usize % from.len()]
    };
    let small = [0, 1, 2, 3, 4, 5, 8, 64, 1024];
    let large = [65528, 65535, 65536, 0x7fff_ffff, -0x8000_0000, -8, -1];
    let mut text = "(module\n".to_owned();
    for (name, params) in &functions {
        let types = params.replace('i', " i32").replace('I', " i64");
        let import = "import \"wasi_snapshot_preview1\"";
        writeln!(text, "({import} \"{name}\" (func ${name} (param{types}) (result i32)))").unwrap();
    }
    text += "(memory (export \"memory\") 1)\n(data (i32.const 0) \"a/../b\")\n(func $all\n";
    // Descriptors are closed and moved once in a while only, so that there are some to work on.
    for round in 0..300 {
        for (name, params) in &functions {
            if round % 50 != 49 && ["fd_close", "fd_renumber"].contains(name) {
                continue;
            }
            write!(text, "(drop (call ${name}").unwrap();
            for (index, ty) in params.chars().enumerate() {
                let few = index == 0 || round % 2 == 0;
                let value = if few { pick(&small) } else { pick(&[&small[..], &large[..]].concat()) };
                match ty {
                    'I' if !few => write!(text, " (i64.const {})", pick(&[value, i64::MIN, i64::MAX])).unwrap(),
                    'I' => write!(text, " (i64.const {value})").unwrap(),
                    _ => write!(text, " (i32.const {value})").unwrap(),
                }
            }
            text += "))\n";
        }
    }
    text += ") (func (export \"_start\") (call $all)))";
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "file").unwrap();
    let mut wasi = Wasi::builder().args(["a", "b"]).env([("K", "V")]).stdin("input");
    if cfg!(all(feature = "dirs", unix)) {
        wasi = wasi.dir(dir.path(), "/", mistletoe_wasi::Access::ReadWrite).unwrap();
    }
    assert_eq!(run(&text, wasi.build()).0, Ok(0));
}
