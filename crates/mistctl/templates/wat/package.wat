;; A Kubernetes namespace with the label of a team.
;;
;; Values are copied as they are written in the input, so that they mean the same in the output. Each has to be on one
;; line, as `mistctl` writes it.
(module
  ;; Texts lie below 4096, where the heap begins. Each ends with a zero byte.
  (memory (export "memory") 1)
  (data (i32.const 64) "\n  name: \00")
  (data (i32.const 96) "\n  team: \00")
  (data (i32.const 128)
    "apiVersion: mistletoe.dev/v1alpha1\n"
    "kind: MistResult\n"
    "data:\n"
    "  result: Ok\n"
    "  files:\n"
    "    namespace.yaml: |\n"
    "      apiVersion: v1\n"
    "      kind: Namespace\n"
    "      metadata:\n"
    "        name: \00")
  (data (i32.const 512)
    "\n"
    "        labels:\n"
    "          team: \00")
  (data (i32.const 640)
    "apiVersion: mistletoe.dev/v1alpha1\n"
    "kind: MistResult\n"
    "data:\n"
    "  result: Err\n"
    "  message: a value is missing\n\00")
  (data (i32.const 1024)
    "apiVersion: mistletoe.dev/v1alpha1\n"
    "kind: MistPackage\n"
    "metadata:\n"
    "  name: {{name}}\n"
    "defaults:\n"
    "  team: platform\n"
    "inputSchema:\n"
    "  type: object\n"
    "  required: [name, team]\n"
    "  additionalProperties: false\n"
    "  properties:\n"
    "    name:\n"
    "      type: string\n"
    "      description: The name of the namespace.\n"
    "      maxLength: 63\n"
    "    team:\n"
    "      type: string\n"
    "      description: The team that owns the namespace.\n\00")

  ;; --------------------------------------------------------------- allocator
  ;; Blocks are cut from the heap one after the other. Freeing the last one that is left empties the heap, which happens
  ;; after every call.
  (global $top (mut i32) (i32.const 4096))
  (global $live (mut i32) (i32.const 0))

  (func $alloc (export "__mistletoe_alloc") (param $length i32) (result i32)
    (local $block i32) (local $pages i32)
    (local.set $block (global.get $top))
    ;; A length of 0: any address except 0 will do.
    (if (i32.eqz (local.get $length)) (then (return (local.get $block))))
    ;; Null means "no room".
    (if (i32.gt_u (local.get $length) (i32.const 0x10000000)) (then (return (i32.const 0))))
    (local.set $pages
      (i32.shr_u (i32.add (i32.add (local.get $block) (local.get $length)) (i32.const 0xffff)) (i32.const 16)))
    (if (i32.gt_u (local.get $pages) (memory.size))
      (then
        (if (i32.eq (memory.grow (i32.sub (local.get $pages) (memory.size))) (i32.const -1))
          (then (return (i32.const 0))))))
    (global.set $top (i32.add (local.get $block) (local.get $length)))
    (global.set $live (i32.add (global.get $live) (i32.const 1)))
    (local.get $block))

  (func $dealloc (export "__mistletoe_dealloc") (param $block i32) (param $length i32)
    ;; The texts below the heap are never freed.
    (if (i32.or (i32.eqz (local.get $length)) (i32.lt_u (local.get $block) (i32.const 4096))) (then (return)))
    (global.set $live (i32.sub (global.get $live) (i32.const 1)))
    (if (i32.eqz (global.get $live)) (then (global.set $top (i32.const 4096)))))

  ;; ------------------------------------------------------------------- texts
  (func $length (param $text i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (loop $next
      (if (i32.load8_u (local.get $end))
        (then (local.set $end (i32.add (local.get $end) (i32.const 1))) (br $next))))
    (i32.sub (local.get $end) (local.get $text)))

  ;; Returns the address after the first `$key` between `$p` and `$end`, or 0.
  (func $find (param $p i32) (param $end i32) (param $key i32) (result i32)
    (local $length i32) (local $i i32)
    (local.set $length (call $length (local.get $key)))
    (loop $position
      (if (i32.gt_u (i32.add (local.get $p) (local.get $length)) (local.get $end)) (then (return (i32.const 0))))
      (local.set $i (i32.const 0))
      (loop $byte
        (if (i32.eq (local.get $i) (local.get $length)) (then (return (i32.add (local.get $p) (local.get $length)))))
        (if (i32.eq
              (i32.load8_u (i32.add (local.get $p) (local.get $i)))
              (i32.load8_u (i32.add (local.get $key) (local.get $i))))
          (then (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $byte))))
      (local.set $p (i32.add (local.get $p) (i32.const 1)))
      (br $position))
    (i32.const 0))

  ;; Returns the address of the end of the line.
  (func $line_end (param $p i32) (param $end i32) (result i32)
    (loop $next
      (if (i32.and (i32.lt_u (local.get $p) (local.get $end)) (i32.ne (i32.load8_u (local.get $p)) (i32.const 10)))
        (then (local.set $p (i32.add (local.get $p) (i32.const 1))) (br $next))))
    (local.get $p))

  ;; Copies a text to `$to` and returns the address after it.
  (func $copy (param $to i32) (param $from i32) (param $length i32) (result i32)
    (memory.copy (local.get $to) (local.get $from) (local.get $length))
    (i32.add (local.get $to) (local.get $length)))

  ;; --------------------------------------------------------------- interface
  ;; A fat pointer: the address and the length of a text. The one at 16 is the description's, the one at 24 the output's.
  (func $text (param $pointer i32) (param $address i32) (param $length i32) (result i32)
    (i32.store (local.get $pointer) (local.get $address))
    (i32.store offset=4 (local.get $pointer) (local.get $length))
    (local.get $pointer))

  (func (export "__mistletoe_info") (result i32)
    (call $text (i32.const 16) (i32.const 1024) (call $length (i32.const 1024))))

  (func (export "__mistletoe_generate") (param $input i32) (param $length i32) (result i32)
    (local $end i32) (local $name i32) (local $team i32) (local $name_length i32) (local $team_length i32)
    (local $output i32) (local $to i32)
    (local.set $end (i32.add (local.get $input) (local.get $length)))
    (local.set $name (call $find (local.get $input) (local.get $end) (i32.const 64)))
    (local.set $team (call $find (local.get $input) (local.get $end) (i32.const 96)))
    (if (i32.or (i32.eqz (local.get $name)) (i32.eqz (local.get $team)))
      (then (return (call $text (i32.const 24) (i32.const 640) (call $length (i32.const 640))))))
    (local.set $name_length (i32.sub (call $line_end (local.get $name) (local.get $end)) (local.get $name)))
    (local.set $team_length (i32.sub (call $line_end (local.get $team) (local.get $end)) (local.get $team)))

    (local.set $length
      (i32.add
        (i32.add (call $length (i32.const 128)) (local.get $name_length))
        (i32.add (call $length (i32.const 512)) (i32.add (local.get $team_length) (i32.const 1)))))
    (local.set $output (call $alloc (local.get $length)))
    (if (i32.eqz (local.get $output)) (then (unreachable)))
    (local.set $to (call $copy (local.get $output) (i32.const 128) (call $length (i32.const 128))))
    (local.set $to (call $copy (local.get $to) (local.get $name) (local.get $name_length)))
    (local.set $to (call $copy (local.get $to) (i32.const 512) (call $length (i32.const 512))))
    (local.set $to (call $copy (local.get $to) (local.get $team) (local.get $team_length)))
    (i32.store8 (local.get $to) (i32.const 10))
    (call $text (i32.const 24) (local.get $output) (local.get $length))))
