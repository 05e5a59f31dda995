// The namespace package in C, with only a compiler: it reads `data.name` from its input and returns one file,
// `namespace.yaml`, which describes a Kubernetes namespace of that name.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14):
//
//     clang-14 --target=wasm32-unknown-unknown -O2 -ffreestanding -mbulk-memory -nostdlib
//         -Wl,--no-entry -Wl,--strip-all -o ../namespace-c.wasm namespace.c
//
// or, from any directory of the project, with `cargo xtask packages --only namespace-c`. There is no C library:
// -ffreestanding tells the compiler so. With -mbulk-memory, __builtin_memcpy is a single instruction.

#define EXPORT(name) __attribute__((export_name(name)))

typedef unsigned char byte;
typedef unsigned long size; // 32 bits here, as pointers are

// How a package returns a text: the host gets the address of this struct and reads both numbers.
struct text {
    const byte *address;
    size length;
};
#define TEXT(literal) {(const byte *)(literal), sizeof(literal) - 1}

static const struct text description = TEXT("apiVersion: mistletoe.dev/v1alpha1\n"
                                            "kind: MistPackage\n"
                                            "metadata:\n"
                                            "  name: namespace-c\n"
                                            "  labels:\n"
                                            "    mistletoe.dev/group: examples\n");

#define RESULT "apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n  result: "
static const struct text answer_start = TEXT(RESULT "Ok\n" // the name and a line end follow
                                                    "  files:\n"
                                                    "    namespace.yaml: |\n"
                                                    "      apiVersion: v1\n"
                                                    "      kind: Namespace\n"
                                                    "      metadata:\n"
                                                    "        name: ");
static const struct text no_name =
    TEXT(RESULT "Err\n  message: 'name the namespace in the input, on one line: "
                "\"name: my-namespace\" under \"data:\"'\n");
static const struct text no_room =
    TEXT(RESULT "Err\n  message: 'no room for the answer: give the package more memory'\n");

EXPORT("__mistletoe_info") const struct text *info(void) { return &description; }

// The allocator. Blocks are cut from the heap one after the other. Freeing the last one gives its room back. Once no
// block is left, the heap is empty again, as it is after every call. A package that keeps more needs a better
// allocator.
extern byte __heap_base; // the linker puts it after everything else
static size top = 0, live = 0;

static size round_up(size length) { return (length + 7) & ~(size)7; }

EXPORT("__mistletoe_alloc") byte *alloc(size length) {
    if (live == 0) top = round_up((size)&__heap_base);
    if (length == 0) return (byte *)top; // any address but 0; 0 means "no room"
    if (length > 0xffff0000 - top) return 0;
    size end = top + round_up(length), have = __builtin_wasm_memory_size(0), want = (end + 0xffff) >> 16;
    if (want > have && __builtin_wasm_memory_grow(0, want - have) == (size)-1) return 0;
    byte *block = (byte *)top;
    top = end;
    live++;
    return block;
}

EXPORT("__mistletoe_dealloc") void dealloc(byte *block, size length) {
    // Texts of this file are returned too, and are never freed.
    if (length == 0 || (size)block < (size)&__heap_base || live == 0) return;
    live--;
    if ((size)block + round_up(length) == top) top = (size)block;
}

// Reading the input: only the lines that matter here, not all of YAML. Nothing reads at or after `end`.
static int is_blank(byte c) { return c == ' ' || c == '\t'; }

static int has_key(const byte *line, const byte *end, const char *key) {
    for (; *key; key++, line++)
        if (line == end || *line != (byte)*key) return 0;
    return line == end || is_blank(*line);
}

// Returns the name as it is written, quotes included, without a comment after it; of length 0 if there is none to use.
static struct text read_name(const byte *start, const byte *end) {
    const struct text none = {start, 0};
    while (start < end && is_blank(*start)) start++;
    if (start == end) return none;
    const byte *p = start, *last = start;
    byte quote = *start;
    if (quote == '"' || quote == '\'') {
        for (p++;; p++) {
            if (p >= end) return none;
            if (*p == '\\' && quote == '"') p++; // escapes the next byte
            else if (*p == quote && quote == '\'' && p + 1 < end && p[1] == quote) p++; // two mean one
            else if (*p == quote) break;
        }
        last = ++p;
        if (last - start == 2) return none;
        while (p < end && is_blank(*p)) p++;
        if (p < end && (p == last || *p != '#')) return none;
    } else {
        for (const char *c = "-?:,[]{}#&*!|>@`%~"; *c; c++) // these mean something else at the start
            if (quote == (byte)*c) return none;
        for (; p < end && !(*p == '#' && last < p); p++)
            if (!is_blank(*p)) last = p + 1;
        if (last - start == 4 && has_key(start, last, "null")) return none;
    }
    return (struct text){start, (size)(last - start)};
}

static struct text find_name(const byte *p, const byte *end) {
    for (int in_data = 0; p < end; p++) { // each iteration reads a line, and the step skips its end
        const byte *line = p;
        while (p < end && *p != '\n' && *p != '\r') p++;
        // Exactly two spaces: names deeper in the document do not count.
        if (in_data && has_key(line, p, "  name:")) return read_name(line + 7, p);
        // A line without indentation, unless it is a comment, ends what came before it.
        if (line < p && !is_blank(*line) && *line != '#') in_data = has_key(line, p, "data:");
    }
    return (struct text){end, 0};
}

EXPORT("__mistletoe_generate") const struct text *generate(const byte *input, size length) {
    static struct text answer; // the host frees the text it points to, not the struct
    struct text name = find_name(input, input + length);
    if (name.length == 0) return &no_name;
    answer.length = answer_start.length + name.length + 1;
    byte *out = alloc(answer.length);
    if (!out) return &no_room;
    answer.address = out;
    __builtin_memcpy(out, answer_start.address, answer_start.length);
    __builtin_memcpy(out + answer_start.length, name.address, name.length);
    out[answer.length - 1] = '\n';
    return &answer;
}
