// A plugin of the Kubernetes scheduler in C, without a C library: a pod whose name ends with a digit belongs on a node
// whose name ends with the same digit.
//
// Nodes without a digit are refused. Of the others, the node with the pod's digit has the score 100, and the rest 0. With
// the configuration `reverse` it is the other way round.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14):
//
//     clang-14 --target=wasm32-unknown-unknown -O2 -ffreestanding -mbulk-memory -nostdlib -Wl,--no-entry \
//         -Wl,--strip-all -o ../node-number-c.wasm number.c
//
// or, from any directory of the project, with `cargo xtask packages --only node-number-c`.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

enum { SUCCESS = 0, ERROR = 1, UNRESOLVABLE = 3 };  // statuses
enum { INFO = 0 };                                  // severities
enum { NONE = -1 };                                 // instead of a digit

// Each returns the length of its content, and writes it if it fits.
IMPORT("k8s.io/scheduler", "get_config") u32 get_config(u8 *buffer, u32 limit);
IMPORT("k8s.io/scheduler", "currentPod") u32 current_pod(u8 *buffer, u32 limit);
IMPORT("k8s.io/scheduler", "currentNodeName") u32 current_node_name(u8 *buffer, u32 limit);
IMPORT("k8s.io/scheduler", "result.status_reason") void status_reason(const char *text, u32 length);
IMPORT("k8s.io/klog", "log") void klog(u32 severity, const char *text, u32 length);

// A name has at most 253 bytes. A pod may have up to a mebibyte and a half.
static u8 buffer[2 << 20];

// What `prefilter` knows of the pod, until the next one.
static int pod_digit = NONE;

static u32 length_of(const char *text) {
    u32 length = 0;
    while (text[length]) length++;
    return length;
}

static int refuse(int status, const char *reason) {
    status_reason(reason, length_of(reason));
    return status;
}

static int digit(const u8 *end, u32 length) {
    if (length == 0 || end[-1] < '0' || end[-1] > '9') return NONE;
    return end[-1] - '0';
}

// Reads a number of protobuf. Returns what follows it, or `end`.
static const u8 *varint(const u8 *at, const u8 *end, u32 *value) {
    *value = 0;
    for (u32 shift = 0; at < end && shift < 35; shift += 7) {
        u8 byte = *at++;
        if (shift < 32) *value |= (u32)(byte & 0x7f) << shift;
        if (byte < 0x80) return at;
    }
    return end;
}

// Returns the first field 1 of a message, which has to be bytes; 0 if it has none. All fields that the name of a pod
// follows have a length, too.
static const u8 *first_field(const u8 *at, const u8 *end, u32 *length) {
    while (at < end) {
        u32 key;
        at = varint(at, end, &key);
        if ((key & 7) != 2) return 0;
        at = varint(at, end, length);
        if (*length > (u32)(end - at)) return 0;
        if (key >> 3 == 1) return at;
        at += *length;
    }
    return 0;
}

EXPORT("prefilter") int prefilter(void) {
    u32 length = current_pod(buffer, sizeof buffer);
    if (length > sizeof buffer) return refuse(ERROR, "the pod is too long");
    // Pod.metadata is field 1, and so is ObjectMeta.name.
    const u8 *metadata = first_field(buffer, buffer + length, &length);
    const u8 *name = metadata ? first_field(metadata, metadata + length, &length) : 0;
    if (!name) return refuse(ERROR, "the pod has no name");
    pod_digit = digit(name + length, length);
    static char message[] = "the pod's digit is ?";
    message[sizeof message - 2] = pod_digit == NONE ? '-' : (char)('0' + pod_digit);
    klog(INFO, message, sizeof message - 1);
    return SUCCESS;
}

static int node_digit(void) {
    u32 length = current_node_name(buffer, 256);
    return length > 256 ? NONE : digit(buffer + length, length);
}

EXPORT("filter") int filter(void) {
    if (node_digit() == NONE) return refuse(UNRESOLVABLE, "the node's name does not end with a digit");
    return SUCCESS;
}

EXPORT("score") u64 score(void) {
    int matches = node_digit() == pod_digit;
    if (get_config(buffer, sizeof buffer) == 7 && buffer[0] == 'r') matches = !matches;
    // The score is in the upper half, the status in the lower.
    return (u64)(matches ? 100 : 0) << 32 | SUCCESS;
}
