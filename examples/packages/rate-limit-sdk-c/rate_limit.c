// Middleware in C, without a C library, with `guest/c/http_handler.h`: it limits how many requests a client sends.
//
// Each client has a token bucket: an IPv4 address, or the first 64 bits of an IPv6 address, since a client has at least
// all addresses with these. Its configuration is `BURST REQUESTS/SECONDS`, such as `10 5/1`: a bucket
// holds at most 10 tokens (up to 100,000), and gets 5 (up to 1,000,000) in 1 second (up to 86,400). A request takes a
// token and goes on, or gets status 429 with `Retry-After`: the number of seconds until there is a token.
//
// The buckets are in the instance's memory. A host with several instances has as many buckets for each client, and one
// with fresh instances for each request has none: run it as one instance that is reused. Behind a proxy, all clients
// have the proxy's address.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14):
//
//     clang-14 --target=wasm32-unknown-unknown -O2 -ffreestanding -mbulk-memory -nostdlib -Wl,--no-entry \
//         -Wl,--strip-all -I ../../../guest/c -o ../rate-limit-sdk-c.wasm rate_limit.c
//
// or, from any directory of the project, with `cargo xtask packages --only rate-limit-sdk-c`.

#include "http_handler.h"

__attribute__((import_module("wasi_snapshot_preview1"), import_name("clock_time_get")))
extern uint32_t clock_time_get(uint32_t clock, uint64_t precision, uint64_t *nanoseconds);

enum { MONOTONIC = 1 };

#define SECOND 1000000000ull

// Nanoseconds in which a bucket gets one token, and gets full.
static uint64_t interval, capacity;

// A bucket is one number: the time at which it is full. It is full at first, and what is full is as good as new. So
// clients that have not sent anything for a while take no room.
struct bucket {
    uint64_t client; // a hash of the address: clients with the same one share a bucket
    uint64_t full_at;
};

enum { SETS = 1024, WAYS = 8 };

// A client's bucket is in the set that its hash selects. If all buckets of the set are in use by others, the one that
// is full next makes room.
static struct bucket buckets[SETS][WAYS];

static uint64_t now(void) {
    uint64_t time;
    if (clock_time_get(MONOTONIC, 1, &time) != 0) http_fail("the host has no clock");
    return time;
}

// FNV-1a.
static uint64_t hash(const char *bytes, size_t length) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)bytes[i]) * 0x100000001b3;
    return hash;
}

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// Returns the hash of the first four groups of an IPv6 address, of which `::` may stand for any number that are zero.
static uint64_t network(const char *text, const char *end) {
    uint16_t groups[8] = {0};
    int count = 0, gap = 8;
    while (text < end && count < 8) {
        if (*text == ':') {
            if (++text < end && *text == ':') gap = count;
        } else {
            while (text < end && *text != ':') {
                int value = digit(*text++);
                if (value < 0) http_fail("the client's address is malformed");
                groups[count] = (uint16_t)(groups[count] << 4 | value);
            }
            count++;
        }
    }
    char first[8];
    for (int i = 0; i < 4; i++) {
        // What comes after the gap counts from the end.
        int from = i < gap ? i : i - (8 - count);
        uint16_t group = i < gap || from >= gap ? groups[from] : 0;
        first[2 * i] = (char)(group >> 8);
        first[2 * i + 1] = (char)group;
    }
    return hash(first, sizeof first);
}

// Returns the hash of what identifies the client. An IPv4 address may be written as an IPv6 address:
// `[::ffff:192.0.2.1]:80`.
static uint64_t client(void) {
    char address[64];
    size_t length = http_handler_get_source_addr(address, sizeof address);
    if (length > sizeof address) http_fail("the client's address is too long");
    const char *start = address, *end = address + length;
    while (end > start && end[-1] != ':') end--; // the port
    end = end > start ? end - 1 : address + length;
    if (start == end || *start != '[') return hash(start, (size_t)(end - start));
    start++;
    for (const char *at = start; at < end; at++)
        if (*at == ']' || *at == '%') end = at; // without a zone
    for (const char *at = end; at > start; at--)
        if (at[-1] == '.') {
            for (at = end; at > start && at[-1] != ':';) at--;
            return hash(at, (size_t)(end - at));
        }
    return network(start, end);
}

static struct bucket *bucket_of(uint64_t client) {
    struct bucket *set = buckets[client % SETS], *first = set;
    for (int i = 0; i < WAYS; i++) {
        if (set[i].client == client) return &set[i];
        if (set[i].full_at < first->full_at) first = &set[i];
    }
    *first = (struct bucket){client, 0};
    return first;
}

// Reads a number between 1 and `most` that `end` follows; a zero byte is the end of the text.
static const char *number(const char *text, char end, uint64_t most, uint64_t *value) {
    *value = 0;
    while (*text >= '0' && *text <= '9' && *value <= most) *value = *value * 10 + (uint64_t)(*text++ - '0');
    if (*value < 1 || *value > most || *text != end) http_fail("the configuration is not `BURST REQUESTS/SECONDS`");
    return text + 1;
}

static void start(void) {
    static char config[64];
    size_t length = http_handler_get_config(config, sizeof config - 1);
    if (length > sizeof config - 1) length = 0;
    if (length > 0 && config[length - 1] == '\n') length--;
    config[length] = 0;
    uint64_t burst, requests, seconds;
    const char *rest = number(config, ' ', 100000, &burst);
    rest = number(rest, '/', 1000000, &requests);
    number(rest, 0, 86400, &seconds);
    interval = seconds * SECOND / requests;
    capacity = burst * interval;
}

static bool handle_request(uint32_t *context) {
    (void)context;
    uint64_t time = now();
    struct bucket *bucket = bucket_of(client());
    uint64_t full_at = (bucket->full_at > time ? bucket->full_at : time) + interval;
    if (full_at - time <= capacity) {
        bucket->full_at = full_at;
        return true;
    }
    uint64_t wait = (full_at - time - capacity + SECOND - 1) / SECOND;
    char digits[24], *seconds = digits + sizeof digits - 1;
    *seconds = 0;
    do *--seconds = (char)('0' + wait % 10);
    while (wait /= 10);
    http_handler_set_status_code(429);
    http_set_header(HTTP_RESPONSE, "retry-after", seconds);
    http_set_header(HTTP_RESPONSE, "content-type", "text/plain");
    http_write(HTTP_RESPONSE, "too many requests\n");
    return false;
}

static void handle_response(uint32_t context, bool failed) {
    (void)context;
    (void)failed;
}

HTTP_MIDDLEWARE(start, handle_request, handle_response)
