;; A plugin that looks at one label of a node, `example.com/rank`. It is the node's score, and nodes without it are
;; refused. The plugin reads no more of the node in protobuf than it has to, so that little is measured but the host.
(module
  (import "k8s.io/api" "node" (func $node (param i32 i32 i32 i32) (result i32)))
  (import "k8s.io/scheduler" "currentPod" (func $currentPod (param i32 i32) (result i32)))
  (import "k8s.io/scheduler" "currentNodeName" (func $currentNodeName (param i32 i32) (result i32)))
  (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))

  (memory (export "memory") 33)
  (data (i32.const 0) "example.com/rank")
  (data (i32.const 16) "the node has no rank")
  (data (i32.const 36) "the pod is missing")
  ;; At 1,024 there is a name of up to 256 bytes, from 65,536 an object of up to 2 MiB.

  ;; Where the object is read.
  (global $at (mut i32) (i32.const 0))

  (func $varint (result i32)
    (local $byte i32) (local $shift i32) (local $value i32)
    (loop $more
      (local.set $byte (i32.load8_u (global.get $at)))
      (global.set $at (i32.add (global.get $at) (i32.const 1)))
      (local.set $value
        (i32.or (local.get $value) (i32.shl (i32.and (local.get $byte) (i32.const 127)) (local.get $shift))))
      (local.set $shift (i32.add (local.get $shift) (i32.const 7)))
      (br_if $more (i32.ge_u (local.get $byte) (i32.const 128))))
    (local.get $value))

  ;; Moves to the content of the next field with this number, up to `end`. Returns its length, or -1 if there is none.
  (func $field (param $number i32) (param $end i32) (result i32)
    (local $tag i32) (local $length i32)
    (loop $next
      (if (i32.ge_u (global.get $at) (local.get $end)) (then (return (i32.const -1))))
      (local.set $tag (call $varint))
      (local.set $length (call $varint))
      ;; A number has no content.
      (br_if $next (i32.eqz (i32.and (local.get $tag) (i32.const 7))))
      (if (i32.ne (i32.shr_u (local.get $tag) (i32.const 3)) (local.get $number)) (then
        (global.set $at (i32.add (global.get $at) (local.get $length)))
        (br $next))))
    (local.get $length))

  ;; Returns the node's rank, or -1 if it has none.
  (func $rank (result i32)
    (local $end i32) (local $entry i32) (local $length i32) (local $rank i32)
    (local.set $length
      (call $node
        (i32.const 1024) (call $currentNodeName (i32.const 1024) (i32.const 256))
        (i32.const 65536) (i32.const 2097152)))
    (global.set $at (i32.const 65536))
    ;; Node.metadata
    (local.set $length (call $field (i32.const 1) (i32.add (i32.const 65536) (local.get $length))))
    (if (i32.lt_s (local.get $length) (i32.const 0)) (then (return (i32.const -1))))
    (local.set $end (i32.add (global.get $at) (local.get $length)))
    (loop $label
      ;; ObjectMeta.labels
      (local.set $length (call $field (i32.const 11) (local.get $end)))
      (if (i32.lt_s (local.get $length) (i32.const 0)) (then (return (i32.const -1))))
      (local.set $entry (i32.add (global.get $at) (local.get $length)))
      (local.set $length (call $field (i32.const 1) (local.get $entry)))
      (if
        (i32.and
          (i32.eq (local.get $length) (i32.const 16))
          (i32.and
            (i64.eq (i64.load (global.get $at)) (i64.load (i32.const 0)))
            (i64.eq (i64.load offset=8 (global.get $at)) (i64.load (i32.const 8)))))
        (then
          (global.set $at (i32.add (global.get $at) (i32.const 16)))
          (local.set $length (call $field (i32.const 2) (local.get $entry)))
          (loop $digit
            (if (i32.gt_s (local.get $length) (i32.const 0)) (then
              (local.set $rank
                (i32.add
                  (i32.mul (local.get $rank) (i32.const 10))
                  (i32.sub (i32.load8_u (global.get $at)) (i32.const 48))))
              (global.set $at (i32.add (global.get $at) (i32.const 1)))
              (local.set $length (i32.sub (local.get $length) (i32.const 1)))
              (br $digit))))
          (return (local.get $rank))))
      (global.set $at (local.get $entry))
      (br $label))
    (unreachable))

  (func (export "prefilter") (result i32)
    (if (i32.eqz (call $currentPod (i32.const 65536) (i32.const 2097152))) (then
      (call $reason (i32.const 36) (i32.const 18))
      (return (i32.const 1))))
    (i32.const 0))

  (func (export "filter") (result i32)
    (if (i32.lt_s (call $rank) (i32.const 0)) (then
      (call $reason (i32.const 16) (i32.const 20))
      (return (i32.const 2))))
    (i32.const 0))

  (func (export "score") (result i64)
    (local $rank i32)
    (local.set $rank (call $rank))
    (i64.shl
      (i64.extend_i32_s (select (local.get $rank) (i32.const 0) (i32.gt_s (local.get $rank) (i32.const 0))))
      (i64.const 32))))
