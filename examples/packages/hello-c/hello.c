// A plugin in C for a web server: it greets the names in a request's body, one on each line. Without a body it greets
// the `name` in the query, or the world. It shows what a server tells of the request, in variables of the environment.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32):
//
//     clang-14 --target=wasm32-wasi -mexec-model=reactor -O2 -Wl,--strip-all -o ../hello-c.wasm hello.c
//
// or, from any directory of the project, with `cargo xtask packages --only hello-c`.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/libc-environ.h>

#define IMPORT(name) __attribute__((import_module("httpwasm"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT("igets") uint64_t igets(void); // the address in the upper half, the length in the lower
IMPORT("oputs") void oputs(const char *text, size_t length);

EXPORT("malloc") void *host_malloc(size_t length) { return malloc(length > 0 ? length : 1); }
EXPORT("free") void host_free(void *block) { free(block); }

static void greet(const char *name, size_t length) {
    oputs("hello, ", 7);
    oputs(name, length);
    oputs("\n", 1);
}

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Greets the first `name` of a query, decoded.
static int greet_query(const char *query) {
    while (query && strncmp(query, "name=", 5) != 0) {
        query = strchr(query, '&');
        if (query) query++;
    }
    if (!query) return 0;
    query += 5;
    size_t encoded = strcspn(query, "&"), length = 0;
    char *name = malloc(encoded + 1);
    if (!name) return 0;
    for (size_t i = 0; i < encoded; i++) {
        char c = query[i] == '+' ? ' ' : query[i];
        // Before the end of the query there is a digit or something else that is none.
        if (c == '%' && digit(query[i + 1]) >= 0 && digit(query[i + 2]) >= 0) {
            c = (char)(digit(query[i + 1]) << 4 | digit(query[i + 2]));
            i += 2;
        }
        name[length++] = c;
    }
    greet(name, length);
    free(name);
    return 1;
}

EXPORT("run") void run(void) {
    int names = 0;
    for (uint64_t record; (uint32_t)(record = igets()) != 0; names++) {
        const char *name = (const char *)(uintptr_t)(record >> 32);
        size_t length = (uint32_t)record;
        if (name[length - 1] == '\n') length--;
        greet(name, length);
    }
    // An instance can respond to several requests, and the C library keeps the variables of the first.
    __wasilibc_deinitialize_environ();
    if (names == 0 && !greet_query(getenv("HTTP_QUERY"))) greet("world", 5);
}
