;; A package that asks its host for the value of `team`, whatever its input is.
(module
  (import "env" "lookup" (func $lookup (param $key i32) (param $length i32) (param $buffer i32) (param $limit i32) (result i32)))
  (memory (export "memory") 2)

  ;; Two fat pointers: to the description, and to the output, whose length is filled in later.
  (data (i32.const 8) "\20\00\00\00\1a\00\00\00" "\80\00\00\00")
  (data (i32.const 32) "Says which team it is for.")
  (data (i32.const 64) "team")
  (data (i32.const 128) "team: ")

  (func (export "__mistletoe_info") (result i32) (i32.const 8))
  (func (export "__mistletoe_alloc") (param $length i32) (result i32)
    ;; The second page is for the input. A longer input gets no room.
    (select (i32.const 65536) (i32.const 0) (i32.le_u (local.get $length) (i32.const 65536))))
  (func (export "__mistletoe_dealloc") (param i32 i32))
  (func (export "__mistletoe_generate") (param i32 i32) (result i32)
    (local $length i32)
    (local.set $length (call $lookup (i32.const 64) (i32.const 4) (i32.const 134) (i32.const 1024)))
    (if (i32.gt_u (local.get $length) (i32.const 1024)) (then unreachable))
    (i32.store8 (i32.add (i32.const 134) (local.get $length)) (i32.const 10))
    (i32.store (i32.const 20) (i32.add (local.get $length) (i32.const 7)))
    (i32.const 16)))
