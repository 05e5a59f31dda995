;; The namespace package in WebAssembly text: it reads `data.name` from its input and returns one file,
;; `namespace.yaml`, which describes a Kubernetes namespace of that name. It needs WebAssembly 1.0 and `memory.copy`,
;; and imports nothing.
;;
;; The name is copied as it is written, quotes included, so that it means the same in the output as in the input. It has
;; to be on one line; a trailing comment is omitted.
(module
  ;; ------------------------------------------------------------------ memory
  ;; Texts lie below 1024, where the heap begins. Nothing lies at address 0, which means "no room".
  (memory (export "memory") 1)

  ;; Fat pointers: an address and a length of four bytes each, little endian. The one at 16 points to the description
  ;; and never changes; the one at 24 points to the latest output.
  (data (i32.const 16) "\80\00\00\00\7d\00\00\00")
  (data (i32.const 32) "data:")
  (data (i32.const 40) "  name:")
  ;; A name without quotes cannot begin with these bytes, which mean something else there.
  (data (i32.const 48) "-?:,[]{}#&*!|>@`%~")

  (data (i32.const 128)       ;; 125 bytes, 0x7d above
    "apiVersion: mistletoe.dev/v1alpha1\n"
    "kind: MistPackage\n"
    "metadata:\n"
    "  name: namespace\n"
    "  labels:\n"
    "    mistletoe.dev/group: examples\n")

  (data (i32.const 256)       ;; 175 bytes; the name and a line end follow
    "apiVersion: mistletoe.dev/v1alpha1\n"
    "kind: MistResult\n"
    "data:\n"
    "  result: Ok\n"
    "  files:\n"
    "    namespace.yaml: |\n"
    "      apiVersion: v1\n"
    "      kind: Namespace\n"
    "      metadata:\n"
    "        name: ")

  (data (i32.const 512)       ;; 166 bytes
    "apiVersion: mistletoe.dev/v1alpha1\n"
    "kind: MistResult\n"
    "data:\n"
    "  result: Err\n"
    "  message: 'name the namespace in the input, on one line: \"name: my-namespace\" under \"data:\"'\n")

  (data (i32.const 768)       ;; 138 bytes
    "apiVersion: mistletoe.dev/v1alpha1\n"
    "kind: MistResult\n"
    "data:\n"
    "  result: Err\n"
    "  message: 'no room for the answer: give the package more memory'\n")

  ;; --------------------------------------------------------------- allocator
  ;; Blocks are cut from the heap one after the other, in multiples of 8 bytes. Freeing the last one gives its room back
  ;; at once. Freeing the only one left empties the heap, which happens after every call.
  (global $heap i32 (i32.const 1024))
  (global $top (mut i32) (i32.const 1024))
  (global $live (mut i32) (i32.const 0))

  (func $alloc (export "__mistletoe_alloc") (param $len i32) (result i32)
    (local $block i32) (local $end i64) (local $pages i32)
    (local.set $block (global.get $top))
    ;; A length of 0: any address except 0 will do, and freeing it does nothing.
    (if (i32.eqz (local.get $len)) (then (return (local.get $block))))
    ;; 64 bits, because a length near 4 GiB overflows 32.
    (local.set $end
      (i64.add
        (i64.extend_i32_u (local.get $block))
        (i64.and (i64.add (i64.extend_i32_u (local.get $len)) (i64.const 7)) (i64.const -8))))
    (if (i64.gt_u (local.get $end) (i64.const 0xffff0000)) (then (return (i32.const 0))))
    (local.set $pages (i32.wrap_i64 (i64.shr_u (i64.add (local.get $end) (i64.const 0xffff)) (i64.const 16))))
    (if (i32.gt_u (local.get $pages) (memory.size))
      (then
        (if (i32.eq (memory.grow (i32.sub (local.get $pages) (memory.size))) (i32.const -1))
          (then (return (i32.const 0))))))
    (global.set $top (i32.wrap_i64 (local.get $end)))
    (global.set $live (i32.add (global.get $live) (i32.const 1)))
    (local.get $block))

  (func $dealloc (export "__mistletoe_dealloc") (param $block i32) (param $len i32)
    ;; The texts above are returned too, and are never freed.
    (if (i32.or (i32.eqz (local.get $len)) (i32.lt_u (local.get $block) (global.get $heap))) (then (return)))
    (if (i32.eqz (global.get $live)) (then (return)))
    (global.set $live (i32.sub (global.get $live) (i32.const 1)))
    (if (i32.eqz (global.get $live)) (then (global.set $top (global.get $heap)) (return)))
    (if
      (i32.eq
        (i32.add (local.get $block) (i32.and (i32.add (local.get $len) (i32.const 7)) (i32.const -8)))
        (global.get $top))
      (then (global.set $top (local.get $block)))))

  ;; ------------------------------------------------------------ reading YAML
  ;; All of these functions read from $p and stop before $end.

  (func $is_blank (param $byte i32) (result i32)
    (i32.or (i32.eq (local.get $byte) (i32.const 0x20)) (i32.eq (local.get $byte) (i32.const 0x09))))

  ;; Returns the first byte that is not a blank, or $end.
  (func $skip_blanks (param $p i32) (param $end i32) (result i32)
    (loop $next
      (if (i32.lt_u (local.get $p) (local.get $end))
        (then
          (if (call $is_blank (i32.load8_u (local.get $p)))
            (then (local.set $p (i32.add (local.get $p) (i32.const 1))) (br $next))))))
    (local.get $p))

  ;; Returns the end of the line: a line feed, a carriage return or $end. If the two follow each other, an empty line
  ;; lies between them, which does no harm.
  (func $line_end (param $p i32) (param $end i32) (result i32)
    (loop $next
      (if (i32.lt_u (local.get $p) (local.get $end))
        (then
          (if (i32.eqz
                (i32.or
                  (i32.eq (i32.load8_u (local.get $p)) (i32.const 0x0a))
                  (i32.eq (i32.load8_u (local.get $p)) (i32.const 0x0d))))
            (then (local.set $p (i32.add (local.get $p) (i32.const 1))) (br $next))))))
    (local.get $p))

  ;; Returns whether the line begins with the key, followed by a blank or nothing.
  (func $has_key (param $p i32) (param $end i32) (param $key i32) (param $key_len i32) (result i32)
    (local $i i32)
    (if (i32.lt_u (i32.sub (local.get $end) (local.get $p)) (local.get $key_len)) (then (return (i32.const 0))))
    (loop $next
      (if (i32.ne
            (i32.load8_u (i32.add (local.get $p) (local.get $i)))
            (i32.load8_u (i32.add (local.get $key) (local.get $i))))
        (then (return (i32.const 0))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $key_len))))
    (local.set $p (i32.add (local.get $p) (local.get $key_len)))
    (if (i32.eq (local.get $p) (local.get $end)) (then (return (i32.const 1))))
    (call $is_blank (i32.load8_u (local.get $p))))

  ;; Returns the end of the quoted text at $p, or 0 if it is empty, has no closing quote, or is followed by something.
  (func $quoted_end (param $p i32) (param $end i32) (result i32)
    (local $quote i32) (local $start i32) (local $byte i32) (local $rest i32)
    (local.set $quote (i32.load8_u (local.get $p)))
    (local.set $start (local.get $p))
    (loop $next
      (local.set $p (i32.add (local.get $p) (i32.const 1)))
      (if (i32.ge_u (local.get $p) (local.get $end)) (then (return (i32.const 0))))
      (local.set $byte (i32.load8_u (local.get $p)))
      ;; In double quotes, a backslash escapes the next byte.
      (if (i32.and (i32.eq (local.get $byte) (i32.const 0x5c)) (i32.eq (local.get $quote) (i32.const 0x22)))
        (then (local.set $p (i32.add (local.get $p) (i32.const 1))) (br $next)))
      (br_if $next (i32.ne (local.get $byte) (local.get $quote)))
      ;; Two single quotes mean one.
      (if (i32.and
            (i32.eq (local.get $quote) (i32.const 0x27))
            (i32.lt_u (i32.add (local.get $p) (i32.const 1)) (local.get $end)))
        (then
          (if (i32.eq (i32.load8_u offset=1 (local.get $p)) (i32.const 0x27))
            (then (local.set $p (i32.add (local.get $p) (i32.const 1))) (br $next))))))
    (local.set $p (i32.add (local.get $p) (i32.const 1)))
    (if (i32.eq (i32.sub (local.get $p) (local.get $start)) (i32.const 2)) (then (return (i32.const 0))))
    (local.set $rest (call $skip_blanks (local.get $p) (local.get $end)))
    (if (i32.eq (local.get $rest) (local.get $end)) (then (return (local.get $p))))
    (if (i32.and
          (i32.gt_u (local.get $rest) (local.get $p))
          (i32.eq (i32.load8_u (local.get $rest)) (i32.const 0x23)))
      (then (return (local.get $p))))
    (i32.const 0))

  ;; Returns the end of the text without quotes at $p, or 0 if it is not such a text or is null.
  (func $plain_end (param $p i32) (param $end i32) (result i32)
    (local $indicator i32) (local $start i32) (local $last i32) (local $byte i32)
    (local.set $byte (i32.load8_u (local.get $p)))
    (local.set $indicator (i32.const 48))
    (loop $next
      (if (i32.eq (local.get $byte) (i32.load8_u (local.get $indicator))) (then (return (i32.const 0))))
      (local.set $indicator (i32.add (local.get $indicator) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $indicator) (i32.const 66))))
    (local.set $start (local.get $p))
    ;; $last ends up after the last byte that is not a blank. A blank and a `#` begin a comment.
    (local.set $last (local.get $p))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $p) (local.get $end)))
        (local.set $byte (i32.load8_u (local.get $p)))
        (br_if $done
          (i32.and (i32.eq (local.get $byte) (i32.const 0x23)) (i32.lt_u (local.get $last) (local.get $p))))
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (if (i32.eqz (call $is_blank (local.get $byte))) (then (local.set $last (local.get $p))))
        (br $next)))
    (if (i32.eq (i32.sub (local.get $last) (local.get $start)) (i32.const 4))
      (then
        (if (i32.eq (i32.load (local.get $start)) (i32.const 0x6c6c756e))    ;; "null"
          (then (return (i32.const 0))))))
    (local.get $last))

  ;; Returns the end of the quoted or unquoted text at $p, or 0.
  (func $scalar_end (param $p i32) (param $end i32) (result i32)
    (local $byte i32)
    (if (i32.ge_u (local.get $p) (local.get $end)) (then (return (i32.const 0))))
    (local.set $byte (i32.load8_u (local.get $p)))
    (if (result i32)
      (i32.or (i32.eq (local.get $byte) (i32.const 0x22)) (i32.eq (local.get $byte) (i32.const 0x27)))
      (then (call $quoted_end (local.get $p) (local.get $end)))
      (else (call $plain_end (local.get $p) (local.get $end)))))

  ;; -------------------------------------------------------------- the output
  (func (export "__mistletoe_info") (result i32) (i32.const 16))

  (func $answer (param $address i32) (param $len i32) (result i32)
    (i32.store (i32.const 24) (local.get $address))
    (i32.store (i32.const 28) (local.get $len))
    (i32.const 24))

  (func (export "__mistletoe_generate") (param $p i32) (param $len i32) (result i32)
    (local $end i32) (local $line_end i32) (local $in_data i32) (local $name_len i32) (local $out i32)
    (local.set $end (i32.add (local.get $p) (local.get $len)))
    (block $found
      (loop $line
        (if (i32.ge_u (local.get $p) (local.get $end)) (then (return (call $answer (i32.const 512) (i32.const 166)))))
        (local.set $line_end (call $line_end (local.get $p) (local.get $end)))
        ;; Exactly two spaces: names deeper in the document do not count.
        (if (local.get $in_data)
          (then (br_if $found (call $has_key (local.get $p) (local.get $line_end) (i32.const 40) (i32.const 7)))))
        ;; A line without indentation, unless it is a comment, ends what came before it.
        (if (i32.lt_u (local.get $p) (local.get $line_end))
          (then
            (if (i32.and
                  (i32.eqz (call $is_blank (i32.load8_u (local.get $p))))
                  (i32.ne (i32.load8_u (local.get $p)) (i32.const 0x23)))
              (then
                (local.set $in_data
                  (call $has_key (local.get $p) (local.get $line_end) (i32.const 32) (i32.const 5)))))))
        (local.set $p (i32.add (local.get $line_end) (i32.const 1)))
        (br $line)))

    ;; $p is at the line with the name: move it to the name itself.
    (local.set $p (call $skip_blanks (i32.add (local.get $p) (i32.const 7)) (local.get $line_end)))
    (local.set $end (call $scalar_end (local.get $p) (local.get $line_end)))
    (if (i32.eqz (local.get $end)) (then (return (call $answer (i32.const 512) (i32.const 166)))))
    (local.set $name_len (i32.sub (local.get $end) (local.get $p)))

    (local.set $len (i32.add (local.get $name_len) (i32.const 176)))
    (local.set $out (call $alloc (local.get $len)))
    (if (i32.eqz (local.get $out)) (then (return (call $answer (i32.const 768) (i32.const 138)))))
    (memory.copy (local.get $out) (i32.const 256) (i32.const 175))
    (memory.copy (i32.add (local.get $out) (i32.const 175)) (local.get $p) (local.get $name_len))
    (i32.store8 (i32.add (local.get $out) (i32.add (local.get $name_len) (i32.const 175))) (i32.const 0x0a))
    (call $answer (local.get $out) (local.get $len))))
