// Makes http-wasm middleware of functions, in C99, with or without a C library.
//
//     #include "http_handler.h"
//
//     static void start(void) {
//         if (!http_enable(HTTP_BUFFER_RESPONSE)) http_fail("responses cannot be changed");
//     }
//
//     static bool handle_request(uint32_t *context) {
//         *context = 0;
//         http_set_header(HTTP_REQUEST, "x-seen", "yes");
//         return true; // the request goes on
//     }
//
//     static void handle_response(uint32_t context, bool failed) {
//         http_set_header(HTTP_RESPONSE, "x-failed", failed ? "yes" : "no");
//     }
//
//     HTTP_MIDDLEWARE(start, handle_request, handle_response)
//
// Without a C library, with -ffreestanding:
//
//     clang --target=wasm32-unknown-unknown -O2 -ffreestanding -nostdlib -Wl,--no-entry -o middleware.wasm middleware.c
//
// and with one, as a reactor:
//
//     clang --target=wasm32-wasi -mexec-model=reactor -O2 -o middleware.wasm middleware.c
//
// Every function of the interface (docs/http-handler.md) is here as `http_handler_NAME`, and the common ones also in a
// form for strings that end with a zero byte. A module imports those that it calls. A call that the interface does not
// allow, such as a change of the request after the next handler, ends the call into the module.
//
// The header has no memory of its own: buffers are the module's.
#ifndef MISTLETOE_HTTP_HANDLER_H
#define MISTLETOE_HTTP_HANDLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP__IMPORT(name) __attribute__((import_module("http_handler"), import_name(name))) extern
#define HTTP__EXPORT(name) __attribute__((export_name(name)))
#define HTTP__UNUSED __attribute__((unused))

// Whose headers, trailers or body. Bodies are the first two.
enum http_kind { HTTP_REQUEST = 0, HTTP_RESPONSE = 1, HTTP_REQUEST_TRAILERS = 2, HTTP_RESPONSE_TRAILERS = 3 };

// Features: bits of a set.
enum http_feature { HTTP_BUFFER_REQUEST = 1, HTTP_BUFFER_RESPONSE = 2, HTTP_TRAILERS = 4 };

enum http_level { HTTP_DEBUG = -1, HTTP_INFO = 0, HTTP_WARN = 1, HTTP_ERROR = 2 };

// ---------------------------------------------------------------------------------------------------------- interface

// Defines the exports of middleware.
//
// `start`, of the type `void (void)`, is called once for each instance: there, features are enabled for all requests,
// and the configuration is read.
//
// `request`, of the type `bool (uint32_t *context)`, is called for each request. It returns whether the request goes on
// to the next handler; otherwise its response is sent. What it stores in the context is what `response` gets.
//
// `response`, of the type `void (uint32_t context, bool failed)`, is called after the next handler, on the same
// instance. `failed` tells that the next handler failed.
//
// A module with a C library starts by a constructor, since the library has the export `_initialize`.
#if __STDC_HOSTED__
#define HTTP__START(start)                                                                                           \
    __attribute__((constructor)) static void http__start(void) { start(); }
#else
#define HTTP__START(start)                                                                                           \
    HTTP__EXPORT("_start") void http__start(void);                                                                   \
    void http__start(void) { start(); }
#endif
#define HTTP_MIDDLEWARE(start, request, response)                                                                    \
    HTTP__START(start)                                                                                               \
    HTTP__EXPORT("handle_request") uint64_t http__handle_request(void);                                              \
    uint64_t http__handle_request(void) {                                                                            \
        uint32_t context = 0;                                                                                        \
        bool next = request(&context);                                                                               \
        return next ? (uint64_t)context << 32 | 1 : 0;                                                               \
    }                                                                                                                \
    HTTP__EXPORT("handle_response") void http__handle_response(uint32_t context, uint32_t failed);                   \
    void http__handle_response(uint32_t context, uint32_t failed) { response(context, failed != 0); }

// A function with a buffer and its limit returns the whole length. It writes to the buffer if the length is at most the
// limit, and otherwise nothing. No zero byte ends what it writes.

// Enables features, and returns all that are enabled.
HTTP__IMPORT("enable_features") uint32_t http_handler_enable_features(uint32_t features);
HTTP__IMPORT("get_config") size_t http_handler_get_config(char *buffer, size_t limit);
HTTP__IMPORT("log_enabled") uint32_t http_handler_log_enabled(int32_t level);
HTTP__IMPORT("log") void http_handler_log(int32_t level, const char *message, size_t length);
HTTP__IMPORT("get_method") size_t http_handler_get_method(char *buffer, size_t limit);
HTTP__IMPORT("set_method") void http_handler_set_method(const char *method, size_t length);
// Path and query, encoded as on the wire.
HTTP__IMPORT("get_uri") size_t http_handler_get_uri(char *buffer, size_t limit);
HTTP__IMPORT("set_uri") void http_handler_set_uri(const char *uri, size_t length);
HTTP__IMPORT("get_protocol_version") size_t http_handler_get_protocol_version(char *buffer, size_t limit);
// The client's address and port: `192.0.2.1:1234`, `[2001:db8::1]:1234`.
HTTP__IMPORT("get_source_addr") size_t http_handler_get_source_addr(char *buffer, size_t limit);
// Lists: the number of entries in the upper half of the result, their length in the lower. A zero byte ends each entry.
HTTP__IMPORT("get_header_names") uint64_t http_handler_get_header_names(uint32_t kind, char *buffer, size_t limit);
HTTP__IMPORT("get_header_values")
uint64_t http_handler_get_header_values(uint32_t kind, const char *name, size_t name_length, char *buffer,
                                        size_t limit);
HTTP__IMPORT("set_header_value")
void http_handler_set_header_value(uint32_t kind, const char *name, size_t name_length, const char *value,
                                   size_t length);
HTTP__IMPORT("add_header_value")
void http_handler_add_header_value(uint32_t kind, const char *name, size_t name_length, const char *value,
                                   size_t length);
HTTP__IMPORT("remove_header") void http_handler_remove_header(uint32_t kind, const char *name, size_t length);
// Reads on from where the last read stopped: the length in the lower half of the result, 1 in the upper at the end.
HTTP__IMPORT("read_body") uint64_t http_handler_read_body(uint32_t kind, char *buffer, size_t limit);
// Appends to the body. The first call while a request or response is handled replaces it.
HTTP__IMPORT("write_body") void http_handler_write_body(uint32_t kind, const char *bytes, size_t length);
HTTP__IMPORT("get_status_code") uint32_t http_handler_get_status_code(void);
HTTP__IMPORT("set_status_code") void http_handler_set_status_code(uint32_t status);

// -------------------------------------------------------------------------------------------------------- for strings

HTTP__UNUSED static size_t http__length(const char *string) {
    size_t length = 0;
    while (string[length]) length++;
    return length;
}

// Enables features: for all requests in `start`, for one in `request`. Returns whether the host supports all of them.
HTTP__UNUSED static bool http_enable(uint32_t features) {
    return (http_handler_enable_features(features) & features) == features;
}

HTTP__UNUSED static void http_log(enum http_level level, const char *message) {
    http_handler_log(level, message, http__length(message));
}

// Logs an error and ends the call. The instance cannot be used afterwards.
HTTP__UNUSED __attribute__((noreturn)) static void http_fail(const char *message) {
    http_log(HTTP_ERROR, message);
    __builtin_trap();
}

// Gets the value of a header as a string. Returns its length without the zero byte, or -1 if the header is missing, has
// several values, or has one that does not fit the buffer.
HTTP__UNUSED static ptrdiff_t http_header(enum http_kind kind, const char *name, char *buffer, size_t size) {
    uint64_t list = http_handler_get_header_values(kind, name, http__length(name), buffer, size);
    uint32_t length = (uint32_t)list;
    return list >> 32 == 1 && length > 0 && length <= size ? (ptrdiff_t)length - 1 : -1;
}

// Replaces all values of a header.
HTTP__UNUSED static void http_set_header(enum http_kind kind, const char *name, const char *value) {
    http_handler_set_header_value(kind, name, http__length(name), value, http__length(value));
}

// Adds a value to a header.
HTTP__UNUSED static void http_add_header(enum http_kind kind, const char *name, const char *value) {
    http_handler_add_header_value(kind, name, http__length(name), value, http__length(value));
}

HTTP__UNUSED static void http_remove_header(enum http_kind kind, const char *name) {
    http_handler_remove_header(kind, name, http__length(name));
}

// Appends to a body.
HTTP__UNUSED static void http_write(enum http_kind kind, const char *string) {
    http_handler_write_body(kind, string, http__length(string));
}

#endif
