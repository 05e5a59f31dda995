//! The functions of compilers' runtimes that the layer provides. A host program's own functions take precedence.

use mistletoe::{AnyPackage, Caller, Imports, Limits};

#[test]
fn a_hosts_own_abort_is_called_in_place_of_the_layers() {
    let wasm = wat::parse_str(
        r#"(module
            (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
            (import "wbg" "__wbindgen_init_externref_table" (func $init))
            (memory (export "memory") 1)
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (call $abort (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4))
                (call $init)
                (i32.const 8)))"#,
    )
    .expect("it assembles");
    let mut imports = Imports::<Vec<[u32; 4]>>::new();
    imports.func("env", "abort", |caller: &mut Caller<'_, Vec<[u32; 4]>>, a: u32, b: u32, c: u32, d: u32| {
        caller.state_mut().push([a, b, c, d]);
    });
    imports.func_of_any_module("__wbindgen_init_externref_table", |caller: &mut Caller<'_, Vec<[u32; 4]>>| {
        caller.state_mut().push([0; 4]);
    });
    for info in mistletoe::backends() {
        let backend = mistletoe::backend(info.name()).expect("a backend");
        let package = AnyPackage::with_imports(&backend, &wasm, &imports, Limits::default()).expect("a package");
        let mut session = package.session_with(Vec::new()).expect("a session");
        assert_eq!(session.generate("").expect("an answer"), "");
        assert_eq!(*session.state(), [[1, 2, 3, 4], [0; 4]], "{}", info.name());
    }
}
