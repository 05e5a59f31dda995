//! Guests that start, each with something else that it changes or calls.

/// Starts, and whether they are recorded.
pub(crate) const STARTS: &[(&str, bool, &str)] = &[
    (
        "globals",
        true,
        r#"
        (global $a (mut i32) (i32.const 1)) (global $b (mut i64) (i64.const 2))
        (global $c (mut f32) (f32.const 3)) (global $d (mut f64) (f64.const 4)) (global i32 (i32.const 5))
        (func $own (result i64)
            (i64.xor (i64.xor (i64.extend_i32_u (global.get $a)) (global.get $b))
                (i64.xor (i64.extend_i32_u (i32.reinterpret_f32 (global.get $c))) (i64.reinterpret_f64 (global.get $d)))))
        (func $start (call $long) (global.set $a (i32.const -7)) (global.set $b (i64.const -9))
            (global.set $c (f32.const -nan:0x200001)) (global.set $d (f64.const nan:0x4000000000001)))
        (start $start)"#,
    ),
    (
        "memory",
        true,
        r#"
        (func $start (call $long) (i32.store (i32.const 65532) (i32.const 77)) (i64.store (i32.const 0) (i64.const 78))
            (memory.fill (i32.const 30000) (i32.const 0) (i32.const 10)))
        (start $start)"#,
    ),
    (
        "growth",
        true,
        r#"
        (func $start (call $long)
            (i32.store (i32.const 100) (memory.grow (i32.const 1))) (i32.store (i32.const 131068) (i32.const 79))
            (i32.store (i32.const 104) (memory.grow (i32.const 2))) (i32.store (i32.const 108) (memory.grow (i32.const 1))))
        (start $start)"#,
    ),
    ("initialize", true, r#"(func (export "_initialize") (call $long) (i32.store (i32.const 100) (i32.const 1)))"#),
    (
        "start-and-initialize",
        true,
        r#"
        (func $start (call $long) (i32.store (i32.const 100) (i32.const 1)))
        (start $start)
        (func (export "_initialize") (call $long) (drop (call $next (i32.const 100))))"#,
    ),
    ("command", true, r#"(func (export "_start") (call $long) (i32.store (i32.const 100) (i32.const 1)))"#),
    ("command-that-exits", false, r#"(func (export "_start") (call $long) (call $exit (i32.const 0)))"#),
    ("command-that-fails", false, r#"(func (export "_start") (call $long) (call $exit (i32.const 3)))"#),
    (
        "wasi",
        true,
        r#"
        (func (export "_initialize") (call $long)
            (drop (call $args_sizes (i32.const 100) (i32.const 104))) (drop (call $args (i32.const 200) (i32.const 300)))
            (drop (call $environ_sizes (i32.const 108) (i32.const 112)))
            (drop (call $environ (i32.const 400) (i32.const 450)))
            (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 120)))
            (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 128)))
            (drop (call $random (i32.const 140) (i32.const 13))))"#,
    ),
    // The one is written over the other.
    (
        "wasi-overlaps",
        false,
        r#"
        (func (export "_initialize") (call $long) (drop (call $args (i32.const 200) (i32.const 198))))"#,
    ),
    (
        "outside",
        true,
        r#"
        (func (export "_initialize") (call $long)
            (i32.store (i32.const 100) (call $next (i32.const 65530)))
            (i32.store (i32.const 104) (call $next (i32.const 65528)))
            (drop (memory.grow (i32.const 1)))
            (i32.store (i32.const 108) (call $next (i32.const 65530)))
            (i32.store (i32.const 112) (call $random (i32.const 131070) (i32.const 3))))"#,
    ),
    (
        "written-twice",
        true,
        r#"
        (func (export "_initialize") (call $long)
            (drop (call $next (i32.const 100))) (drop (call $next (i32.const 100))) (i64.store (i32.const 100) (i64.const 0)))"#,
    ),
    ("notes", false, r#"(func (export "_initialize") (call $note (i64.const 5)) (call $long))"#),
    (
        "log",
        false,
        r#"
        (data (i32.const 100) "\6c\00\00\00\03\00\00\00\00\00\00\00log")
        (func (export "_initialize") (call $long)
            (drop (call $write (i32.const 2) (i32.const 100) (i32.const 1) (i32.const 120))))"#,
    ),
    (
        "table-set",
        false,
        r#"
        (table $t 2 funcref) (elem declare func $long)
        (func $own (result i64) (i64.extend_i32_u (ref.is_null (table.get $t (i32.const 1)))))
        (func (export "_initialize") (call $long) (table.set $t (i32.const 1) (ref.func $long)))"#,
    ),
    (
        "table-grow",
        false,
        r#"
        (table $t 2 funcref)
        (func $own (result i64) (i64.extend_i32_u (table.size $t)))
        (func (export "_initialize") (call $long) (drop (table.grow $t (ref.null func) (i32.const 3))))"#,
    ),
    (
        "table-init",
        false,
        r#"
        (table $t 2 funcref) (elem $e func $long $long)
        (func $own (result i64) (i64.extend_i32_u (ref.is_null (table.get $t (i32.const 1)))))
        (func (export "_initialize") (call $long) (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 2)))"#,
    ),
    (
        "element-drop",
        false,
        r#"
        (table $t 2 funcref) (elem $e func $long $long)
        (func $own (result i64) (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 2)) (i64.const 0))
        (func (export "_initialize") (call $long) (elem.drop $e))"#,
    ),
    (
        "data-drop",
        false,
        r#"
        (data $d "data")
        (func $own (result i64) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 2)) (i64.const 0))
        (func (export "_initialize") (call $long) (data.drop $d))"#,
    ),
    (
        "vector",
        false,
        r#"
        (global $v (mut v128) (v128.const i64x2 1 2))
        (func $own (result i64) (i64x2.extract_lane 1 (global.get $v)))
        (func (export "_initialize") (call $long) (global.set $v (v128.const i64x2 3 4)))"#,
    ),
    (
        "reference",
        false,
        r#"
        (global $f (mut funcref) (ref.null func)) (elem declare func $long)
        (func $own (result i64) (i64.extend_i32_u (ref.is_null (global.get $f))))
        (func (export "_initialize") (call $long) (global.set $f (ref.func $long)))"#,
    ),
    (
        "table-only-read",
        true,
        r#"
        (table $t 2 funcref) (elem (i32.const 1) func $own)
        (func $own (result i64) (i64.extend_i32_u (ref.is_null (table.get $t (i32.const 1)))))
        (func (export "_initialize") (call $long))"#,
    ),
    ("trap", false, r#"(func (export "_initialize") (call $long) (unreachable))"#),
    ("host-error", false, r#"(func (export "_initialize") (call $long) (call $fail_at (i64.const 0)))"#),
    ("endless", false, r#"(func (export "_initialize") (loop (br 0)))"#),
];
