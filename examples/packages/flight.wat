;; A package that is a program: a WASI command, which gets the name of the installation as its first argument and writes
;; a Kubernetes namespace of that name to its standard output. It does not read its values.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))

  ;; The last page is for the arguments.
  (memory (export "memory") 2)
  (data (i32.const 65487)     ;; 49 bytes, up to the last page, where the arguments follow
    "apiVersion: v1\n"
    "kind: Namespace\n"
    "metadata:\n"
    "  name: ")

  (func (export "_start") (local $end i32)
    ;; The number of arguments goes to 0, their length with a zero byte after each to 4.
    (if (call $args_sizes_get (i32.const 0) (i32.const 4)) (then (unreachable)))
    (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1024)) (then (unreachable)))
    (if (i32.gt_u (i32.load (i32.const 4)) (i32.const 65536)) (then (unreachable)))
    (if (call $args_get (i32.const 8192) (i32.const 65536)) (then (unreachable)))

    ;; A line end replaces the zero byte after the first one.
    (local.set $end (i32.const 65536))
    (loop $next
      (if (i32.load8_u (local.get $end))
        (then (local.set $end (i32.add (local.get $end) (i32.const 1))) (br $next))))
    (i32.store8 (local.get $end) (i32.const 10))

    (i32.store (i32.const 8) (i32.const 65487))
    (i32.store (i32.const 12) (i32.sub (local.get $end) (i32.const 65486)))
    (if (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)) (then (unreachable)))))
