;; Copies the input into its own memory, and from there into the output: eight bytes at a time, then the rest.
(module
  (import "extism:host/env" "input_length" (func $input_length (result i64)))
  (import "extism:host/env" "input_load_u64" (func $input_load_u64 (param $at i64) (result i64)))
  (import "extism:host/env" "input_load_u8" (func $input_load_u8 (param $at i64) (result i32)))
  (import "extism:host/env" "alloc" (func $alloc (param $length i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store_u64 (param $address i64) (param $value i64)))
  (import "extism:host/env" "store_u8" (func $store_u8 (param $address i64) (param $value i32)))
  (import "extism:host/env" "output_set" (func $output_set (param $address i64) (param $length i64)))
  (memory (export "memory") 1)

  (func (export "echo") (result i32)
    (local $length i32)
    (local.set $length (i32.wrap_i64 (call $input_length)))
    (if (i32.eqz (call $reserve (local.get $length)))
      (then (return (i32.const 1))))
    (call $read (local.get $length))
    (call $write (local.get $length))
    (i32.const 0))

  ;; Returns whether this many bytes fit, and grows the memory if needed.
  (func $reserve (param $length i32) (result i32)
    (local $missing i32)
    (local.set $missing
      (i32.sub (i32.add (i32.const 1) (i32.shr_u (local.get $length) (i32.const 16))) (memory.size)))
    (if (i32.le_s (local.get $missing) (i32.const 0))
      (then (return (i32.const 1))))
    (i32.ne (memory.grow (local.get $missing)) (i32.const -1)))

  (func $read (param $length i32)
    (local $at i32) (local $words i32)
    (local.set $words (i32.and (local.get $length) (i32.const -8)))
    (block $copied
      (loop $next
        (br_if $copied (i32.ge_u (local.get $at) (local.get $words)))
        (i64.store (local.get $at) (call $input_load_u64 (i64.extend_i32_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $next)))
    (block $copied
      (loop $next
        (br_if $copied (i32.ge_u (local.get $at) (local.get $length)))
        (i32.store8 (local.get $at) (call $input_load_u8 (i64.extend_i32_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next))))

  (func $write (param $length i32)
    (local $at i32) (local $words i32) (local $output i64)
    (local.set $output (call $alloc (i64.extend_i32_u (local.get $length))))
    (local.set $words (i32.and (local.get $length) (i32.const -8)))
    (block $copied
      (loop $next
        (br_if $copied (i32.ge_u (local.get $at) (local.get $words)))
        (call $store_u64
          (i64.add (local.get $output) (i64.extend_i32_u (local.get $at)))
          (i64.load (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $next)))
    (block $copied
      (loop $next
        (br_if $copied (i32.ge_u (local.get $at) (local.get $length)))
        (call $store_u8
          (i64.add (local.get $output) (i64.extend_i32_u (local.get $at)))
          (i32.load8_u (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (call $output_set (local.get $output) (i64.extend_i32_u (local.get $length)))))
