// A plugin in C, in the form of the httpwasm interface without `igets`: the host writes the input, which is one record
// here, to a block from `malloc`, calls `run` with its address and length, and frees it afterwards. The plugin greets
// the record with a line. It imports two functions, and nothing from WASI. `live` returns how many blocks the host has
// not freed yet.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32):
//
//     clang-14 --target=wasm32-wasi -mexec-model=reactor -O2 -Wl,--strip-all -o ../httpwasm-direct-c.wasm hello.c
//
// or, from any directory of the project, with `cargo xtask packages --only httpwasm-direct-c`.

#include <stdlib.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("httpwasm"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

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

EXPORT("run") void run(const char *record, size_t length) {
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
