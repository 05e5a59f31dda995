// A plugin in C, with wasi-libc's allocator: `run` takes one record after the other from the host until there are no
// more, and greets each with a line. It imports three functions of the httpwasm interface, and nothing from WASI.
//
// `igets` calls this module's `malloc` for the record while `run` is still running. The host frees the record
// afterwards. `live` returns how many blocks the host has not freed yet.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32):
//
//     clang-14 --target=wasm32-wasi -mexec-model=reactor -O2 -Wl,--strip-all -o ../httpwasm-c.wasm hello.c
//
// or, from any directory of the project, with `cargo xtask packages --only httpwasm-c`.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("httpwasm"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT("igets") uint64_t igets(void); // the address in the upper half, the length in the lower
IMPORT("oputs") void oputs(const char *text, size_t length);
IMPORT("eputs") void eputs(const char *text, size_t length);

static int count = 0;

EXPORT("malloc") void *host_malloc(size_t length) {
    void *block = malloc(length > 0 ? length : 1); // the null pointer means "no room"
    if (block) count++;
    return block;
}

EXPORT("free") void host_free(void *block) {
    if (block) count--;
    free(block);
}

EXPORT("live") int live(void) { return count; }

static void greet(const char *record, size_t length) {
    static const char hello[] = "hello, ", empty[] = "empty record\n", no_room[] = "no room for the answer\n";
    if (length > 0 && (record[length - 1] == '\n' || record[length - 1] == 0)) length--;
    if (length == 0) {
        eputs(empty, sizeof empty - 1);
        return;
    }
    const size_t start = sizeof hello - 1;
    char *answer = malloc(start + length + 1);
    if (!answer) {
        eputs(no_room, sizeof no_room - 1);
        return;
    }
    memcpy(answer, hello, start);
    memcpy(answer + start, record, length);
    answer[start + length] = '\n';
    oputs(answer, start + length + 1);
    free(answer);
}

EXPORT("run") void run(void) {
    for (;;) {
        uint64_t record = igets();
        if ((uint32_t)record == 0) return;
        greet((const char *)(uintptr_t)(record >> 32), (uint32_t)record);
    }
}
