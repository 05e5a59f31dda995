// Makes a Mistletoe package of a function, in C99, with or without a C library.
//
//     #include "mistletoe.h"
//
//     static void generate(void) {
//         struct mistletoe_text name = mistletoe_value("name");
//         if (name.length == 0) {
//             mistletoe_fail("the name is empty");
//             return;
//         }
//         mistletoe_file("namespace.yaml");
//         mistletoe_write("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ");
//         mistletoe_write_scalar(name);
//         mistletoe_write("\n");
//     }
//
//     MISTLETOE_PACKAGE(generate, "metadata:\n"
//                                 "  name: example\n")
//
// Without a C library, with -ffreestanding:
//
//     clang --target=wasm32-unknown-unknown -O2 -ffreestanding -nostdlib -Wl,--no-entry -o package.wasm package.c
//
// and with one, as a reactor:
//
//     clang --target=wasm32-wasi -mexec-model=reactor -O2 -o package.wasm package.c
//
// Nothing has to be freed: all memory of a call, and what `mistletoe_alloc` returns, is freed after it. With
// -ffreestanding, the header uses all memory from `__heap_base` on, so no other allocator may be linked in.
//
// A package of several files includes the header in each of them, and has one MISTLETOE_PACKAGE.
#ifndef MISTLETOE_H
#define MISTLETOE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if __STDC_HOSTED__
#include <stdlib.h>
#include <string.h>
#endif
#if !defined(__wasm__)
#include <stdio.h> // for tests that run natively
#endif

// Definitions of several files are merged, since they are weak.
#define MISTLETOE__WEAK __attribute__((weak))
#if defined(__wasm__)
#define MISTLETOE__EXPORT(name) __attribute__((export_name(name)))
#else
#define MISTLETOE__EXPORT(name)
#endif

// A UTF-8 string by its length: no zero byte ends it.
struct mistletoe_text {
    const char *address;
    size_t length;
};

// ---------------------------------------------------------------------------------------------------------- interface

// Defines the exports of a package. `function`, of the type `void (void)`, is called for each input. `description` is a
// string literal: the YAML of the MistPackage after `apiVersion` and `kind`, with `metadata`, which has a `name`.
#define MISTLETOE_PACKAGE(function, description)                                                                     \
    MISTLETOE__EXPORT("__mistletoe_info") const struct mistletoe_text *mistletoe__info(void);                        \
    const struct mistletoe_text *mistletoe__info(void) {                                                             \
        static const char text[] = MISTLETOE__HEADER("MistPackage") description;                                     \
        static const struct mistletoe_text info = {text, sizeof text - 1};                                           \
        return &info;                                                                                                \
    }                                                                                                                \
    MISTLETOE__EXPORT("__mistletoe_alloc") void *mistletoe__export_alloc(size_t length);                             \
    void *mistletoe__export_alloc(size_t length) { return mistletoe__block(length); }                                \
    MISTLETOE__EXPORT("__mistletoe_dealloc") void mistletoe__export_dealloc(void *block, size_t length);             \
    void mistletoe__export_dealloc(void *block, size_t length) {                                                     \
        (void)length;                                                                                                \
        mistletoe__free(block);                                                                                      \
    }                                                                                                                \
    MISTLETOE__EXPORT("__mistletoe_generate")                                                                        \
    const struct mistletoe_text *mistletoe__export_generate(const char *input, size_t length);                       \
    const struct mistletoe_text *mistletoe__export_generate(const char *input, size_t length) {                      \
        return mistletoe__generate(function, input, length);                                                         \
    }

// Returns the whole input, a MistInput, for packages that parse it themselves.
MISTLETOE__WEAK struct mistletoe_text mistletoe_input(void);

// Returns a value of the mapping `data`, without its quotes and escapes. The address is null if the value is missing or
// null.
//
// This reads what hosts write, not all of YAML: `data` in block style, and below it scalars that are plain or quoted on
// one line, or literal blocks (`|`). If the value is anything else, such as a list, the package fails with a message
// that names it. To read lists and mappings, parse `mistletoe_input` with a YAML library.
MISTLETOE__WEAK struct mistletoe_text mistletoe_value(const char *key);

// Whether a text is the same as a string. A missing value equals no string.
MISTLETOE__WEAK bool mistletoe_equals(struct mistletoe_text text, const char *string);

// Starts a file. What is written next is its content.
MISTLETOE__WEAK void mistletoe_file(const char *name);

// Starts the text that the host shows to the user besides the files. What is written next is appended to it.
MISTLETOE__WEAK void mistletoe_message(const char *text);

// Makes the call fail with this message. What is written next is appended to it. The function that generates should
// return soon. The first failure of a call counts.
MISTLETOE__WEAK void mistletoe_fail(const char *message);

// Write to the file, message or failure that was started last.
MISTLETOE__WEAK void mistletoe_write(const char *string);
MISTLETOE__WEAK void mistletoe_write_text(struct mistletoe_text text);
MISTLETOE__WEAK void mistletoe_write_integer(long long number);

// Writes a YAML scalar on one line that every reader of YAML takes for this string, in quotes if it needs them.
MISTLETOE__WEAK void mistletoe_write_scalar(struct mistletoe_text text);

// Allocates memory until the call ends, at addresses that are multiples of 8. It never returns null: a call without
// memory ends in a panic.
MISTLETOE__WEAK void *mistletoe_alloc(size_t length);

// Writes a line to the host's log. Only a module that calls it imports `fd_write` from WASI.
MISTLETOE__WEAK void mistletoe_log(const char *line);

// Terminates the call, for bugs: the user sees the message with the name of the file and the line. The instance cannot
// be used afterwards. On hosts that do not know the export `__mistletoe_panic`, it is a trap.
#define mistletoe_panic(message) mistletoe__panic(__FILE_NAME__, __LINE__, message)

// ----------------------------------------------------------------------------------------------------- implementation

#define MISTLETOE__HEADER(kind) "apiVersion: mistletoe.dev/v1alpha1\nkind: " kind "\n"
#define MISTLETOE__ERR MISTLETOE__HEADER("MistResult") "data:\n  result: Err\n  message: "
#define MISTLETOE__MAX_NAME 512

// Bytes under construction. A fixed buffer drops what does not fit.
struct mistletoe__buffer {
    char *address;
    size_t length, capacity;
    bool fixed;
};

struct mistletoe__file {
    struct mistletoe__file *next;
    const char *name;
    struct mistletoe__buffer content;
};

// The header of each block of a call's memory.
struct mistletoe__link {
    struct mistletoe__link *next;
    uint64_t aligned[];
};

enum mistletoe__target { MISTLETOE__NONE, MISTLETOE__FILE, MISTLETOE__NOTE, MISTLETOE__DISCARD };

// The state of a call.
struct mistletoe__state {
    struct mistletoe_text input, output;
    struct mistletoe__link *memory;
    struct mistletoe__file *files, *last;
    struct mistletoe__buffer note; // the message, or the failure
    bool noted, failed;
    enum mistletoe__target target;
};
MISTLETOE__WEAK struct mistletoe__state mistletoe__state;

// A host reads here what a call that trapped has to say. The directive exports the address without a linker's flag.
MISTLETOE__WEAK __attribute__((used, visibility("default"))) struct mistletoe_text __mistletoe_panic;
#if defined(__wasm__)
__asm__(".export_name __mistletoe_panic, __mistletoe_panic");
#endif

MISTLETOE__WEAK __attribute__((noreturn)) void mistletoe__panic(const char *file, int line, const char *message);

// ---- memory

MISTLETOE__WEAK void mistletoe__copy(char *to, const char *from, size_t length) {
#if __STDC_HOSTED__
    if (length > 0) memcpy(to, from, length);
#elif defined(__wasm_bulk_memory__)
    __builtin_memcpy(to, from, length);
#else
    while (length-- > 0) *to++ = *from++;
#endif
}

MISTLETOE__WEAK bool mistletoe__same(const char *a, const char *b, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (a[i] != b[i]) return false;
    return true;
}

MISTLETOE__WEAK size_t mistletoe__length(const char *string) {
    size_t length = 0;
    while (string[length]) length++;
    return length;
}

#if __STDC_HOSTED__
// Returns a block that is not null even if it is empty, or null without memory.
MISTLETOE__WEAK void *mistletoe__block(size_t length) { return malloc(length > 0 ? length : 1); }
MISTLETOE__WEAK void mistletoe__free(void *block) { free(block); }
#else
// Blocks are cut from the heap one after the other. Once none is left, the heap is empty again, as it is after every
// call. The heap is all memory from `__heap_base` on: no other allocator may be linked in.
extern char __heap_base; // the linker puts it after everything else
MISTLETOE__WEAK size_t mistletoe__top, mistletoe__live;

MISTLETOE__WEAK void *mistletoe__block(size_t length) {
    const size_t page = 65536, end_of_memory = (size_t)0 - page;
    if (mistletoe__live == 0) mistletoe__top = ((size_t)&__heap_base + 7) & ~(size_t)7;
    if (length == 0) length = 1;
    if (length > end_of_memory - mistletoe__top) return NULL;
    size_t end = mistletoe__top + ((length + 7) & ~(size_t)7);
    size_t have = __builtin_wasm_memory_size(0), want = (end + page - 1) / page;
    if (want > have && __builtin_wasm_memory_grow(0, want - have) == (size_t)-1) return NULL;
    void *block = (void *)mistletoe__top;
    mistletoe__top = end;
    mistletoe__live++;
    return block;
}

MISTLETOE__WEAK void mistletoe__free(void *block) {
    if (block && mistletoe__live > 0) mistletoe__live--;
}
#endif

MISTLETOE__WEAK void *mistletoe_alloc(size_t length) {
    struct mistletoe__link *link = NULL;
    if (length <= SIZE_MAX - sizeof *link) link = mistletoe__block(sizeof *link + length);
    if (!link) mistletoe__panic(NULL, 0, "out of memory");
    link->next = mistletoe__state.memory;
    mistletoe__state.memory = link;
    return link->aligned;
}

// ---- writing

MISTLETOE__WEAK void mistletoe__put(struct mistletoe__buffer *buffer, const char *bytes, size_t length) {
    if (length > buffer->capacity - buffer->length) {
        if (buffer->fixed) {
            buffer->capacity = buffer->length; // no shorter text may follow a dropped one
            return;
        }
        if (length > SIZE_MAX / 2 - buffer->length) mistletoe__panic(NULL, 0, "out of memory");
        size_t capacity = (buffer->length + length) * 2;
        char *address = mistletoe_alloc(capacity);
        mistletoe__copy(address, buffer->address, buffer->length);
        buffer->address = address;
        buffer->capacity = capacity;
    }
    mistletoe__copy(buffer->address + buffer->length, bytes, length);
    buffer->length += length;
}

MISTLETOE__WEAK void mistletoe__puts(struct mistletoe__buffer *buffer, const char *string) {
    mistletoe__put(buffer, string, mistletoe__length(string));
}

MISTLETOE__WEAK void mistletoe__put_integer(struct mistletoe__buffer *buffer, long long number) {
    char digits[24], *start = digits + sizeof digits;
    unsigned long long rest = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    do *--start = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0) *--start = '-';
    mistletoe__put(buffer, start, (size_t)(digits + sizeof digits - start));
}

// Returns the character at the start of a text and sets its length in bytes, or returns -1 if the text is not UTF-8.
MISTLETOE__WEAK int32_t mistletoe__character(struct mistletoe_text text, size_t *length) {
    const unsigned char *bytes = (const unsigned char *)text.address;
    *length = 1;
    if (bytes[0] < 0x80) return bytes[0];
    size_t count = bytes[0] >= 0xf0 ? 4 : bytes[0] >= 0xe0 ? 3 : 2;
    if (bytes[0] < 0xc2 || bytes[0] > 0xf4 || text.length < count) return -1;
    int32_t character = bytes[0] & (0xff >> (count + 1));
    for (size_t i = 1; i < count; i++) {
        if ((bytes[i] & 0xc0) != 0x80) return -1;
        character = character << 6 | (bytes[i] & 0x3f);
    }
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool surrogate = character >= 0xd800 && character <= 0xdfff;
    if (character < least[count] || character > 0x10ffff || surrogate) return -1;
    *length = count;
    return character;
}

MISTLETOE__WEAK struct mistletoe_text mistletoe__from(struct mistletoe_text text, size_t start) {
    return (struct mistletoe_text){text.address + start, text.length - start};
}

MISTLETOE__WEAK bool mistletoe__utf8(struct mistletoe_text text) {
    for (size_t at = 0, length; at < text.length; at += length)
        if (mistletoe__character(mistletoe__from(text, at), &length) < 0) return false;
    return true;
}

// Whether YAML can hold the character as it is. Line and paragraph separators and a byte order mark are left out, since
// readers differ in what they make of them.
MISTLETOE__WEAK bool mistletoe__printable(int32_t c) {
    return (c >= 0x20 && c < 0x7f) || c == '\t' || (c >= 0xa0 && c != 0x2028 && c != 0x2029 && c != 0xfeff &&
                                                    (c & 0xfffe) != 0xfffe);
}

MISTLETOE__WEAK bool mistletoe__letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Whether the text is a string without quotes, to readers of YAML 1.1 and 1.2.
MISTLETOE__WEAK bool mistletoe__plain(struct mistletoe_text text) {
    static const char *const words[] = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"};
    if (text.length == 0 || !(mistletoe__letter(text.address[0]) || text.address[0] == '/')) return false;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.address[i];
        if (!mistletoe__letter(c) && !(c >= '-' && c <= '9') && c != '_') return false; // - . / and digits
    }
    for (size_t word = 0; word < sizeof words / sizeof *words; word++) {
        size_t i = 0;
        while (i < text.length && words[word][i] && (text.address[i] | 0x20) == words[word][i]) i++;
        if (i == text.length && !words[word][i]) return false;
    }
    return true;
}

// Puts what is between the quotes of a scalar. Question marks stand for bytes that are not UTF-8.
MISTLETOE__WEAK void mistletoe__put_escaped(struct mistletoe__buffer *buffer, struct mistletoe_text text) {
    static const char hex[] = "0123456789abcdef";
    for (size_t at = 0, length; at < text.length; at += length) {
        int32_t c = mistletoe__character(mistletoe__from(text, at), &length);
        if (c == '\n') mistletoe__put(buffer, "\\n", 2);
        else if (c == '\t') mistletoe__put(buffer, "\\t", 2);
        else if (c == '"') mistletoe__put(buffer, "\\\"", 2);
        else if (c == '\\') mistletoe__put(buffer, "\\\\", 2);
        else if (c < 0) mistletoe__put(buffer, "?", 1);
        else if (mistletoe__printable(c)) mistletoe__put(buffer, text.address + at, length);
        else {
            char escape[10] = "\\U";
            for (int i = 0; i < 8; i++) escape[2 + i] = hex[c >> (28 - 4 * i) & 15];
            mistletoe__put(buffer, escape, sizeof escape);
        }
    }
}

MISTLETOE__WEAK void mistletoe__put_scalar(struct mistletoe__buffer *buffer, struct mistletoe_text text) {
    if (mistletoe__plain(text)) mistletoe__put(buffer, text.address, text.length);
    else {
        mistletoe__put(buffer, "\"", 1);
        mistletoe__put_escaped(buffer, text);
        mistletoe__put(buffer, "\"", 1);
    }
}

// Puts a text as a literal block below a key with this indentation, if the text has lines and a block can hold it; as a
// scalar on one line otherwise. A line end follows.
MISTLETOE__WEAK void mistletoe__put_block(struct mistletoe__buffer *buffer, struct mistletoe_text text,
                                          const char *indent) {
    bool block = false;
    for (size_t at = 0, length; at < text.length; at += length) {
        int32_t c = mistletoe__character(mistletoe__from(text, at), &length);
        // Blanks at the start need an indicator that readers have taken for different things.
        if ((at == 0 && (c == ' ' || c == '\t' || c == '\n')) || (c != '\n' && !mistletoe__printable(c))) {
            block = false;
            break;
        }
        block |= c == '\n';
    }
    if (!block) {
        mistletoe__put_scalar(buffer, text);
        mistletoe__put(buffer, "\n", 1);
        return;
    }
    bool ended = text.address[text.length - 1] == '\n';
    mistletoe__puts(buffer, !ended ? "|-\n" : text.address[text.length - 2] == '\n' ? "|+\n" : "|\n");
    for (size_t at = 0, end; at < text.length; at = end + 1) {
        for (end = at; end < text.length && text.address[end] != '\n';) end++;
        if (end > at) mistletoe__puts(buffer, indent);
        mistletoe__put(buffer, text.address + at, end - at);
        mistletoe__put(buffer, "\n", 1);
    }
}

MISTLETOE__WEAK struct mistletoe__buffer *mistletoe__target(void) {
    struct mistletoe__state *state = &mistletoe__state;
    if (state->target == MISTLETOE__NONE) mistletoe__panic(NULL, 0, "a write before any file is started");
    if (state->target == MISTLETOE__DISCARD) return NULL;
    return state->target == MISTLETOE__FILE ? &state->last->content : &state->note;
}

MISTLETOE__WEAK void mistletoe_write_text(struct mistletoe_text text) {
    struct mistletoe__buffer *buffer = mistletoe__target();
    if (buffer) mistletoe__put(buffer, text.address, text.length);
}

MISTLETOE__WEAK void mistletoe_write(const char *string) {
    mistletoe_write_text((struct mistletoe_text){string, mistletoe__length(string)});
}

MISTLETOE__WEAK void mistletoe_write_integer(long long number) {
    struct mistletoe__buffer *buffer = mistletoe__target();
    if (buffer) mistletoe__put_integer(buffer, number);
}

MISTLETOE__WEAK void mistletoe_write_scalar(struct mistletoe_text text) {
    struct mistletoe__buffer *buffer = mistletoe__target();
    if (buffer) mistletoe__put_scalar(buffer, text);
}

MISTLETOE__WEAK void mistletoe__note(const char *text) {
    struct mistletoe__state *state = &mistletoe__state;
    state->target = MISTLETOE__NOTE;
    state->noted = true;
    state->note.length = 0;
    mistletoe_write(text);
}

MISTLETOE__WEAK void mistletoe_message(const char *text) {
    if (mistletoe__state.failed) mistletoe__state.target = MISTLETOE__DISCARD;
    else mistletoe__note(text);
}

MISTLETOE__WEAK void mistletoe_fail(const char *message) {
    if (mistletoe__state.failed) mistletoe__state.target = MISTLETOE__DISCARD;
    else mistletoe__note(message);
    mistletoe__state.failed = true;
}

MISTLETOE__WEAK void mistletoe_file(const char *name) {
    struct mistletoe__state *state = &mistletoe__state;
    size_t length = mistletoe__length(name);
    struct mistletoe_text text = {name, length};
    if (length > MISTLETOE__MAX_NAME || !mistletoe__utf8(text)) mistletoe_fail("the name of a file is not usable");
    for (struct mistletoe__file *file = state->files; file; file = file->next) {
        if (mistletoe_equals(text, file->name)) {
            mistletoe_fail("the same file is generated twice: ");
            mistletoe_write(name);
            break;
        }
    }
    if (state->failed) {
        state->target = MISTLETOE__DISCARD;
        return;
    }
    char *own = mistletoe_alloc(length + 1);
    mistletoe__copy(own, name, length + 1);
    struct mistletoe__file *file = mistletoe_alloc(sizeof *file);
    *file = (struct mistletoe__file){.name = own};
    *(state->last ? &state->last->next : &state->files) = file;
    state->last = file;
    state->target = MISTLETOE__FILE;
}

MISTLETOE__WEAK struct mistletoe_text mistletoe__written(const struct mistletoe__buffer *buffer) {
    return (struct mistletoe_text){buffer->address, buffer->length};
}

// ---- calls

MISTLETOE__WEAK const struct mistletoe_text *mistletoe__generate(void (*function)(void), const char *input,
                                                                 size_t length) {
    struct mistletoe__state *state = &mistletoe__state;
    *state = (struct mistletoe__state){.input = {input, length}};
    function();
    for (struct mistletoe__file *file = state->files; file; file = file->next) {
        if (mistletoe__utf8(mistletoe__written(&file->content))) continue;
        mistletoe_fail("this file is not UTF-8: ");
        mistletoe_write(file->name);
    }

    struct mistletoe__buffer out = {NULL, 0, 0, false};
    if (state->failed) {
        mistletoe__puts(&out, MISTLETOE__ERR);
    } else {
        mistletoe__puts(&out, MISTLETOE__HEADER("MistResult") "data:\n  result: Ok\n");
        if (state->noted) mistletoe__puts(&out, "  message: ");
    }
    if (state->noted) mistletoe__put_block(&out, mistletoe__written(&state->note), "    ");
    if (!state->failed && state->files) {
        mistletoe__puts(&out, "  files:\n");
        for (struct mistletoe__file *file = state->files; file; file = file->next) {
            struct mistletoe_text name = {file->name, mistletoe__length(file->name)};
            // A key of 1,024 characters needs YAML's long form, and an escaped byte has 10.
            bool is_long = name.length >= 100;
            mistletoe__puts(&out, is_long ? "    ? " : "    ");
            mistletoe__put_scalar(&out, name);
            mistletoe__puts(&out, is_long ? "\n    : " : ": ");
            mistletoe__put_block(&out, mistletoe__written(&file->content), "      ");
        }
    }

    // The host frees this block. All others are freed here.
    char *address = mistletoe__block(out.length);
    if (!address) mistletoe__panic(NULL, 0, "out of memory");
    mistletoe__copy(address, out.address, out.length);
    state->output = (struct mistletoe_text){address, out.length};
    while (state->memory) {
        struct mistletoe__link *link = state->memory;
        state->memory = link->next;
        mistletoe__free(link);
    }
    return &state->output;
}

MISTLETOE__WEAK __attribute__((noreturn)) void mistletoe__panic(const char *file, int line, const char *message) {
    // There may be no memory.
    static char document[1024], text[512];
    struct mistletoe__buffer out = {text, 0, sizeof text, true};
    mistletoe__puts(&out, "panicked");
    if (file) {
        mistletoe__puts(&out, " at ");
        mistletoe__puts(&out, file);
        mistletoe__puts(&out, ":");
        mistletoe__put_integer(&out, line);
    }
    mistletoe__puts(&out, ": ");
    // A long message is truncated.
    for (; *message; message++) mistletoe__put(&out, message, 1);
    struct mistletoe_text written = mistletoe__written(&out);

    static const char end[] = "\"\n";
    out = (struct mistletoe__buffer){document, 0, sizeof document - (sizeof end - 1), true};
    mistletoe__puts(&out, MISTLETOE__ERR "\"");
    mistletoe__put_escaped(&out, written);
    out.capacity = sizeof document; // what is dropped still leaves room for the end
    mistletoe__puts(&out, end);
    __mistletoe_panic = mistletoe__written(&out);
#if defined(__wasm__)
    __builtin_trap();
#else
    fwrite(out.address, 1, out.length, stderr);
    abort();
#endif
}

#if defined(__wasm__)
__attribute__((import_module("wasi_snapshot_preview1"), import_name("fd_write"))) uint32_t
mistletoe__fd_write(uint32_t file, const struct mistletoe_text *texts, size_t count, size_t *written);
#endif

MISTLETOE__WEAK void mistletoe_log(const char *line) {
#if defined(__wasm__)
    struct mistletoe_text texts[] = {{line, mistletoe__length(line)}, {"\n", 1}};
    size_t written;
    (void)mistletoe__fd_write(2, texts, 2, &written); // a log that is full is no reason to fail
#else
    fprintf(stderr, "%s\n", line);
#endif
}

// ---- reading

MISTLETOE__WEAK struct mistletoe_text mistletoe_input(void) { return mistletoe__state.input; }

MISTLETOE__WEAK bool mistletoe_equals(struct mistletoe_text text, const char *string) {
    if (!text.address || mistletoe__length(string) != text.length) return false;
    return mistletoe__same(text.address, string, text.length);
}

MISTLETOE__WEAK bool mistletoe__blank(char c) { return c == ' ' || c == '\t'; }

// Takes the first line from a text, without its end.
MISTLETOE__WEAK struct mistletoe_text mistletoe__line(struct mistletoe_text *text) {
    size_t length = 0;
    while (length < text->length && text->address[length] != '\n' && text->address[length] != '\r') length++;
    struct mistletoe_text line = {text->address, length};
    if (length < text->length)
        length += text->length - length > 1 && mistletoe__same(text->address + length, "\r\n", 2) ? 2 : 1;
    *text = mistletoe__from(*text, length);
    return line;
}

MISTLETOE__WEAK size_t mistletoe__indent(struct mistletoe_text line) {
    size_t spaces = 0;
    while (spaces < line.length && line.address[spaces] == ' ') spaces++;
    return spaces;
}

MISTLETOE__WEAK struct mistletoe_text mistletoe__trim(struct mistletoe_text text) {
    while (text.length > 0 && mistletoe__blank(*text.address)) text = mistletoe__from(text, 1);
    while (text.length > 0 && mistletoe__blank(text.address[text.length - 1])) text.length--;
    return text;
}

// Whether a trimmed text has no content.
MISTLETOE__WEAK bool mistletoe__empty(struct mistletoe_text text) { return text.length == 0 || *text.address == '#'; }

// Puts a character as UTF-8.
MISTLETOE__WEAK void mistletoe__put_character(struct mistletoe__buffer *buffer, uint32_t c) {
    char bytes[4];
    size_t count = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = count - 1; i > 0; i--, c >>= 6) bytes[i] = (char)(0x80 | (c & 0x3f));
    bytes[0] = (char)(first[count] | c);
    mistletoe__put(buffer, bytes, count);
}

// Reads the escape after a backslash. Returns its length, or 0 if it is none.
MISTLETOE__WEAK size_t mistletoe__escape(struct mistletoe__buffer *buffer, struct mistletoe_text text) {
    static const char names[] = "0abtnvfre \"/\\N_LP", digits[] = "xuU";
    static const unsigned short values[] = {0,    7,   8,   9,    10,   11,   12,  13,    27,
                                            ' ', '"', '/', '\\', 0x85, 0xa0, 0x2028, 0x2029};
    if (text.length == 0) return 0;
    for (size_t i = 0; names[i]; i++) {
        if (*text.address != names[i]) continue;
        mistletoe__put_character(buffer, values[i]);
        return 1;
    }
    for (size_t i = 0; digits[i]; i++) {
        size_t count = (size_t)2 << i;
        if (*text.address != digits[i] || text.length <= count) continue;
        uint32_t c = 0;
        for (size_t digit = 1; digit <= count; digit++) {
            char d = text.address[digit];
            if (d >= '0' && d <= '9') c = c << 4 | (uint32_t)(d - '0');
            else if ((d | 0x20) >= 'a' && (d | 0x20) <= 'f') c = c << 4 | (uint32_t)((d | 0x20) - 'a' + 10);
            else return 0;
        }
        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return 0;
        mistletoe__put_character(buffer, c);
        return count + 1;
    }
    return 0;
}

// Reads the quoted scalar at the start of a line into a buffer. Returns its length, or 0 if it does not end there.
MISTLETOE__WEAK size_t mistletoe__quoted(struct mistletoe__buffer *buffer, struct mistletoe_text text) {
    char quote = *text.address;
    for (size_t at = 1; at < text.length; at++) {
        char c = text.address[at];
        if (c == '\\' && quote == '"') {
            size_t length = mistletoe__escape(buffer, mistletoe__from(text, at + 1));
            if (length == 0) return 0;
            at += length;
        } else if (c != quote) {
            mistletoe__put(buffer, &c, 1);
        } else if (quote == '\'' && at + 1 < text.length && text.address[at + 1] == '\'') {
            mistletoe__put(buffer, &c, 1);
            at++;
        } else {
            return at + 1;
        }
    }
    return 0;
}

// Reads the key of a line into a buffer. Returns what follows the colon, or a null pointer if there is no key.
MISTLETOE__WEAK struct mistletoe_text mistletoe__key(struct mistletoe__buffer *key, struct mistletoe_text line) {
    size_t end = 0;
    if (line.length > 0 && (*line.address == '"' || *line.address == '\'')) {
        end = mistletoe__quoted(key, line);
        while (end > 0 && end < line.length && mistletoe__blank(line.address[end])) end++;
    } else if (line.length > 1 && (*line.address == '-' || *line.address == '?') && mistletoe__blank(line.address[1])) {
        end = 0; // an item of a list, or a key in YAML's long form
    } else {
        while (end < line.length && !(line.address[end] == ':' && (end + 1 == line.length ||
                                                                   mistletoe__blank(line.address[end + 1])))) end++;
        struct mistletoe_text name = mistletoe__trim((struct mistletoe_text){line.address, end});
        mistletoe__put(key, name.address, name.length);
    }
    if (end == 0 || end >= line.length || line.address[end] != ':') return (struct mistletoe_text){NULL, 0};
    return mistletoe__trim(mistletoe__from(line, end + 1));
}

// Reads a literal block below a key with this indentation. Returns whether its header is one.
MISTLETOE__WEAK bool mistletoe__literal(struct mistletoe__buffer *buffer, struct mistletoe_text header,
                                        struct mistletoe_text rest, size_t parent) {
    char chomp = 0;
    size_t indent = 0, at = 1, ends = 0;
    for (; at < header.length && !mistletoe__blank(header.address[at]); at++) {
        char c = header.address[at];
        if ((c == '-' || c == '+') && !chomp) chomp = c;
        else if (c >= '1' && c <= '9' && !indent) indent = parent + (size_t)(c - '0');
        else return false;
    }
    if (!mistletoe__empty(mistletoe__trim(mistletoe__from(header, at)))) return false;
    while (rest.length > 0) {
        struct mistletoe_text line = mistletoe__line(&rest);
        size_t spaces = mistletoe__indent(line);
        bool blank = spaces == line.length;
        if (!blank && spaces <= parent) break;
        if (!blank && !indent) indent = spaces;
        if (blank && (!indent || spaces <= indent)) {
            ends++;
            continue;
        }
        if (spaces < indent) break;
        for (; ends > 0; ends--) mistletoe__put(buffer, "\n", 1);
        mistletoe__put(buffer, line.address + indent, line.length - indent);
        ends = 1;
    }
    if (chomp != '+' && ends > 0) ends = chomp || buffer->length == 0 ? 0 : 1;
    for (; ends > 0; ends--) mistletoe__put(buffer, "\n", 1);
    return true;
}

// Fails because of a value.
MISTLETOE__WEAK struct mistletoe_text mistletoe__unfit(const char *key, const char *problem) {
    mistletoe_fail("data.");
    mistletoe_write(key);
    mistletoe_write(problem);
    return (struct mistletoe_text){NULL, 0};
}

// Reads the scalar after a key with this indentation.
MISTLETOE__WEAK struct mistletoe_text mistletoe__scalar(const char *key, struct mistletoe_text value,
                                                        struct mistletoe_text rest, size_t indent) {
    static const char unsupported[] = ": expected a scalar on one line or a literal block";
    const struct mistletoe_text none = {NULL, 0};
    struct mistletoe__buffer buffer = {NULL, 0, 0, false};
    if (!mistletoe__empty(value) && *value.address == '|') {
        if (!mistletoe__literal(&buffer, value, rest, indent)) return mistletoe__unfit(key, unsupported);
        return (struct mistletoe_text){buffer.address ? buffer.address : "", buffer.length};
    }

    // What is indented deeper continues the value, as do items of a list without indentation.
    struct mistletoe_text next = none;
    size_t spaces = 0;
    while (rest.length > 0 && mistletoe__empty(next)) {
        struct mistletoe_text line = mistletoe__line(&rest);
        spaces = mistletoe__indent(line);
        next = mistletoe__trim(line);
    }
    bool item = next.length > 0 && *next.address == '-' && (next.length == 1 || mistletoe__blank(next.address[1]));
    if (!mistletoe__empty(next) && (spaces > indent || (item && spaces == indent)))
        return mistletoe__unfit(key, unsupported);
    if (mistletoe__empty(value)) return none;

    if (*value.address == '"' || *value.address == '\'') {
        size_t length = mistletoe__quoted(&buffer, value);
        struct mistletoe_text after = mistletoe__from(value, length);
        bool ends = length > 0 && (after.length == 0 || (mistletoe__blank(*after.address) &&
                                                         mistletoe__empty(mistletoe__trim(after))));
        if (!ends) return mistletoe__unfit(key, unsupported);
        return (struct mistletoe_text){buffer.address ? buffer.address : "", buffer.length};
    }
    for (const char *c = "[]{}&*!>@`%,|"; *c; c++)
        if (*value.address == *c) return mistletoe__unfit(key, unsupported);
    size_t end = 0;
    while (end < value.length && !(value.address[end] == '#' && end > 0 && mistletoe__blank(value.address[end - 1])))
        end++;
    value = mistletoe__trim((struct mistletoe_text){value.address, end});
    static const char *const nulls[] = {"~", "null", "Null", "NULL"};
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        if (mistletoe_equals(value, nulls[i])) return none;
    return value;
}

MISTLETOE__WEAK struct mistletoe_text mistletoe_value(const char *key) {
    struct mistletoe_text rest = mistletoe_input();
    if (rest.length >= 3 && mistletoe__same(rest.address, "\xef\xbb\xbf", 3)) rest = mistletoe__from(rest, 3);
    bool in_data = false;
    size_t indent = 0;
    while (rest.length > 0) {
        struct mistletoe_text line = mistletoe__line(&rest), content = mistletoe__trim(line);
        size_t spaces = mistletoe__indent(line);
        if (mistletoe__empty(content)) continue;
        if (in_data && spaces == 0) break;
        if (in_data && indent == 0) indent = spaces;
        if (spaces != (in_data ? indent : 0)) continue;
        struct mistletoe__buffer name = {NULL, 0, 0, false};
        struct mistletoe_text value = mistletoe__key(&name, content);
        if (!value.address || !name.address || !mistletoe_equals(mistletoe__written(&name), in_data ? key : "data"))
            continue;
        if (in_data) return mistletoe__scalar(key, value, rest, indent);
        if (!mistletoe__empty(value)) break;
        in_data = true;
    }
    if (!in_data) mistletoe_fail("the input has no mapping `data` in block style");
    return (struct mistletoe_text){NULL, 0};
}

#endif
