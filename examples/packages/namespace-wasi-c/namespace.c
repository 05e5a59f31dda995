// The namespace package in C with a C library, wasi-libc: it reads `data.name` from its input and returns one file,
// `namespace.yaml`, which describes a Kubernetes namespace of that name. It shows a reactor: a module without `main`,
// which the host initialises once with its `_initialize` and calls many times. It writes to standard error when it
// finds no name. For that it imports a few functions of WASI, as most modules with a C library do.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32):
//
//     clang-14 --target=wasm32-wasi -mexec-model=reactor -O2 -Wl,--strip-all -o ../namespace-wasi-c.wasm namespace.c
//
// or, from any directory of the project, with `cargo xtask packages --only namespace-wasi-c`.

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name(name)))

// How a package returns a text: the host gets the address of this struct and reads both numbers.
struct text {
    char *address;
    size_t length;
};
#define TEXT(literal) {(literal), sizeof(literal) - 1}

static struct text description = TEXT("apiVersion: mistletoe.dev/v1alpha1\n"
                                      "kind: MistPackage\n"
                                      "metadata:\n"
                                      "  name: namespace-wasi-c\n"
                                      "  labels:\n"
                                      "    mistletoe.dev/group: examples\n");

#define RESULT "apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n  result: "
static const char answer_start[] = RESULT "Ok\n" // the name and a line end follow
                                          "  files:\n"
                                          "    namespace.yaml: |\n"
                                          "      apiVersion: v1\n"
                                          "      kind: Namespace\n"
                                          "      metadata:\n"
                                          "        name: ";
static const char no_name[] = RESULT "Err\n  message: 'name the namespace in the input, on one line: "
                                     "\"name: my-namespace\" under \"data:\"'\n";
static struct text no_room = TEXT(RESULT "Err\n  message: 'no room for the answer: give the package more memory'\n");

EXPORT("__mistletoe_info") struct text *info(void) { return &description; }

// One more byte than asked for, because `malloc(0)` may return the null pointer, which means "no room".
EXPORT("__mistletoe_alloc") void *alloc(size_t length) { return length == SIZE_MAX ? NULL : malloc(length + 1); }

EXPORT("__mistletoe_dealloc") void dealloc(void *block, size_t length) {
    (void)length; // `free` knows it
    if (block != no_room.address) free(block);
}

// Reading the input: only the lines that matter here, not all of YAML. The input is not a C string: only its length
// ends it, and a zero byte in it is a byte like any other.
static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static bool has_key(const char *line, const char *end, const char *key) {
    size_t length = strlen(key), have = end - line;
    return have >= length && memcmp(line, key, length) == 0 && (have == length || is_blank(line[length]));
}

// Returns the end of the quoted text at the start, after the closing quote, or null if there is none.
static const char *quoted_end(const char *start, const char *end) {
    for (const char *p = start + 1; p < end; p++) {
        if (*p == '\\' && *start == '"') p++; // escapes the next byte
        else if (*p == '\'' && *start == '\'' && p + 1 < end && p[1] == '\'') p++; // two mean one
        else if (*p == *start) return p + 1;
    }
    return NULL;
}

// Returns the name as it is written, quotes included, without a comment after it; empty if there is none to use.
static struct text read_name(const char *start, const char *end) {
    const struct text none = {NULL, 0};
    while (start < end && is_blank(*start)) start++;
    if (start == end) return none;
    const char *last = start;
    if (*start == '"' || *start == '\'') {
        last = quoted_end(start, end);
        if (!last || last - start == 2) return none;
        const char *p = last;
        while (p < end && is_blank(*p)) p++;
        if (p < end && (p == last || *p != '#')) return none;
    } else {
        if (memchr("-?:,[]{}#&*!|>@`%~", *start, 18)) return none; // these mean something else at the start
        for (const char *p = start; p < end && !(*p == '#' && last < p); p++)
            if (!is_blank(*p)) last = p + 1;
        if (last - start == 4 && memcmp(start, "null", 4) == 0) return none;
    }
    return (struct text){(char *)start, last - start};
}

static struct text find_name(const char *p, const char *end) {
    bool in_data = false;
    for (; p < end; p++) { // each iteration reads a line, and the step skips its end
        const char *line = p;
        while (p < end && *p != '\n' && *p != '\r') p++;
        // Exactly two spaces: names deeper in the document do not count.
        if (in_data && has_key(line, p, "  name:")) return read_name(line + 7, p);
        // A line without indentation, unless it is a comment, ends what came before it.
        if (line < p && !is_blank(*line) && *line != '#') in_data = has_key(line, p, "data:");
    }
    return (struct text){NULL, 0};
}

EXPORT("__mistletoe_generate") struct text *generate(const char *input, size_t length) {
    static struct text answer; // the host frees the text it points to, not the struct
    answer = (struct text){NULL, 0};
    struct text name = find_name(input, input + length);
    // A stream into a block from `malloc`, as large as what is written to it.
    FILE *out = open_memstream(&answer.address, &answer.length);
    if (!out) return &no_room;
    if (name.length == 0) {
        fprintf(stderr, "namespace-wasi-c: no name in %zu bytes of input\n", length);
        fputs(no_name, out);
    } else {
        fputs(answer_start, out);
        fwrite(name.address, 1, name.length, out);
        fputc('\n', out);
    }
    bool failed = ferror(out);
    if (fclose(out) == 0 && !failed) return &answer;
    free(answer.address);
    return &no_room;
}
