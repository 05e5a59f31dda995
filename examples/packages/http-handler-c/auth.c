// Middleware in C, without a C library: it refuses requests without the right key, and marks the responses of the
// others.
//
// Its configuration is the key. A request goes on to the next handler if its header `x-api-key` has the key as its only
// value; the header is removed, so that the next handler does not see it. Any other request is answered with status 401.
// Responses get the header `x-requests`: how many requests this instance has let through.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14):
//
//     clang-14 --target=wasm32-unknown-unknown -O2 -ffreestanding -mbulk-memory -nostdlib -Wl,--no-entry \
//         -Wl,--strip-all -o ../http-handler-c.wasm auth.c
//
// or, from any directory of the project, with `cargo xtask packages --only http-handler-c`.

typedef unsigned int u32;
typedef unsigned long long u64;

#define IMPORT(name) __attribute__((import_module("http_handler"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

enum { REQUEST = 0, RESPONSE = 1 };          // kinds of headers and bodies
enum { BUFFER_RESPONSE = 2 };                // features
enum { INFO = 0, WARN = 1 };                 // levels of the log

IMPORT("enable_features") u32 enable_features(u32 features);
IMPORT("get_config") u32 get_config(char *buffer, u32 limit);
IMPORT("log") void log_message(u32 level, const char *message, u32 length);
IMPORT("get_header_values") u64 get_header_values(u32 kind, const char *name, u32 length, char *buffer, u32 limit);
IMPORT("set_header_value")
void set_header_value(u32 kind, const char *name, u32 name_length, const char *value, u32 length);
IMPORT("remove_header") void remove_header(u32 kind, const char *name, u32 length);
IMPORT("write_body") void write_body(u32 kind, const char *bytes, u32 length);
IMPORT("set_status_code") void set_status_code(u32 status);

#define TEXT(text) (text), sizeof(text) - 1

static char key[256], value[256];
static u32 key_length, requests;

// Returns whether the request's only key is the right one. The time does not depend on where they differ.
static int is_allowed(void) {
    u64 list = get_header_values(REQUEST, TEXT("x-api-key"), value, sizeof value);
    if (key_length == 0 || list != ((u64)1 << 32 | (key_length + 1))) return 0; // one value, ended by a zero byte
    char difference = 0;
    for (u32 i = 0; i < key_length; i++) difference |= key[i] ^ value[i];
    return difference == 0;
}

EXPORT("_initialize") void initialize(void) {
    // `handle_response` changes the response, which must not have been sent by then.
    if (!(enable_features(BUFFER_RESPONSE) & BUFFER_RESPONSE)) __builtin_trap();
    key_length = get_config(key, sizeof key - 1);
    if (key_length > sizeof key - 1) __builtin_trap();
    if (key_length == 0) log_message(WARN, TEXT("no key is configured: every request is refused"));
}

EXPORT("handle_request") u64 handle_request(void) {
    if (!is_allowed()) {
        log_message(INFO, TEXT("refused"));
        set_status_code(401);
        set_header_value(RESPONSE, TEXT("www-authenticate"), TEXT("ApiKey"));
        write_body(RESPONSE, TEXT("a key is required\n"));
        return 0;
    }
    remove_header(REQUEST, TEXT("x-api-key"));
    return (u64)++requests << 32 | 1;
}

EXPORT("handle_response") void handle_response(u32 number, u32 failed) {
    (void)failed;
    char digits[10];
    u32 at = sizeof digits;
    do digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    set_header_value(RESPONSE, TEXT("x-requests"), digits + at, sizeof digits - at);
}
