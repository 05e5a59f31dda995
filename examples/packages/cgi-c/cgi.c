// A CGI program in C: a WASI command that `mistctl serve` runs once for each request. Variables of its environment
// describe the request, its standard input is the body, and its standard output is the response: header fields, an empty
// line, and the response's body.
//
// It responds with the request's line and the body's length. Below `/missing` it responds with status 404.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32):
//
//     clang-14 --target=wasm32-wasi -O2 -Wl,--strip-all -o ../cgi-c.wasm cgi.c
//
// or, from any directory of the project, with `cargo xtask packages --only cgi-c`.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

int main(void) {
    const char *path = variable("PATH_INFO"), *query = variable("QUERY_STRING");
    if (strcmp(path, "/missing") == 0) {
        puts("Status: 404 Not Found\nContent-Type: text/plain\n\nThere is nothing here.");
        return 0;
    }
    char buffer[4096];
    size_t length = 0, more;
    while ((more = fread(buffer, 1, sizeof buffer, stdin)) > 0) length += more;
    puts("Content-Type: text/plain\n");
    printf("%s %s%s%s%s\n", variable("REQUEST_METHOD"), variable("SCRIPT_NAME"), path, *query ? "?" : "", query);
    printf("%zu bytes of body\n", length);
    return 0;
}
