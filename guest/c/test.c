// Tests of mistletoe.h that run natively: `cc -std=c99 -fsanitize=address,undefined -o test test.c && ./test`.

#define _POSIX_C_SOURCE 200809L
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mistletoe.h"

static const char *key;

static void echo(void) {
    struct mistletoe_text value = mistletoe_value(key);
    mistletoe_file("value");
    if (value.address) mistletoe_write_text(value);
    else mistletoe_write("(none)");
}

static void everything(void) {
    mistletoe_message("one\ntwo");
    mistletoe_file("a.yaml");
    mistletoe_write("n: ");
    mistletoe_write_integer(-9223372036854775807LL - 1);
    mistletoe_write("\n\n");
    mistletoe_file("on");
    mistletoe_file("b: c");
    mistletoe_write(" starts with a blank\n");
}

static void twice(void) {
    mistletoe_file("a");
    mistletoe_file("a");
    mistletoe_write("discarded");
    mistletoe_fail("a second failure");
    mistletoe_message("discarded");
}

static void unreadable(void) {
    mistletoe_file("a");
    mistletoe_write("\xed\xa0\x80");
}

static void long_names(void) {
    static char name[201];
    memset(name, 1, 200);
    mistletoe_file(name);
    mistletoe_write("a");
    mistletoe_file("b");
    mistletoe_write("c");
}

// The escapes of 200 control characters.
#define X4 "\\U00000001\\U00000001\\U00000001\\U00000001"
#define X20 X4 X4 X4 X4 X4
#define X200 X20 X20 X20 X20 X20 X20 X20 X20 X20 X20

static void nothing(void) {}

MISTLETOE_PACKAGE(nothing, "metadata:\n  name: test\n")

static int failures = 0;

static void expect(const char *what, struct mistletoe_text found, const char *expected) {
    if (mistletoe_equals(found, expected)) return;
    failures++;
    printf("%s\nexpected\n%s\nfound\n%.*s\n", what, expected, (int)found.length, found.address);
}

static void test(const char *what, void (*function)(void), const char *input, const char *expected) {
    // A copy without a zero byte after it, so that a read beyond its end is found.
    size_t length = strlen(input);
    char *own = mistletoe__export_alloc(length);
    memcpy(own, input, length);
    const struct mistletoe_text *output = mistletoe__generate(function, own, length);
    expect(what, *output, expected);
    mistletoe__export_dealloc(own, length);
    mistletoe__export_dealloc((void *)output->address, output->length);
}

#define HEAD "apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n  result: "
#define VALUE(content) HEAD "Ok\n  files:\n    value: " content
#define UNFIT HEAD "Err\n  message: \"data.k: expected a scalar on one line or a literal block\"\n"
#define NO_DATA HEAD "Err\n  message: \"the input has no mapping `data` in block style\"\n"

// Panics end the process, so each is one of its own, which shows its document on standard error.
static void panics(void) {
    // The characters take 1, 2 and 10 bytes. By the number of others before them, the document is truncated at each of
    // their bytes.
    static const char characters[] = "a\"\\\n\x01";
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    static const char start[] = HEAD "Err\n  message: \"panicked: ";
    for (const char *c = characters; *c; c++) {
        for (size_t before = 0; before < 20; before++) {
            int ends[2], status;
            if (pipe(ends) != 0) exit(2);
            pid_t child = fork();
            if (child == 0) {
                char message[521] = "";
                memset(message, *c, 520);
                memset(message, 'a', before);
                dup2(ends[1], 2);
                mistletoe__panic(NULL, 0, message);
            }
            close(ends[1]);
            char document[2048];
            size_t size = 0;
            for (ssize_t got; (got = read(ends[0], document + size, sizeof document - size)) > 0;) size += (size_t)got;
            close(ends[0]);
            waitpid(child, &status, 0);
            // A whole number of characters, and then the only quote that is not escaped, and the end of the line.
            bool fine = size >= sizeof start + 1 && memcmp(document, start, sizeof start - 1) == 0;
            size_t at = sizeof start - 1;
            while (fine && at < size && document[at] != '"')
                at += document[at] != '\\' ? 1 : document[at + 1] == 'U' ? 10 : 2;
            if (fine && at + 2 == size && document[at + 1] == '\n') continue;
            failures++;
            printf("a panic of character %d after %zu others\nfound\n%.*s\n", *c, before, (int)size, document);
            return;
        }
    }
}

int main(void) {
    static const struct {
        const char *input, *expected;
    } values[] = {
        {"data:\n  k: v\n", VALUE("v\n")},
        {"\xef\xbb\xbf" "data:\r\n  k: v # c\r\n", VALUE("v\n")},
        {"# c\ndata: # c\n\n    # c\n    a: b\n    k: v", VALUE("v\n")},
        {"kind: x\ndata:\n  a:\n    k: deep\n  l:\n  - k: item\n  k : v\n", VALUE("v\n")},
        {"data:\n  a: |\n    k: deep\n  'k': \"v\"\n", VALUE("v\n")},
        {"data:\n  \"\\x6b\": v\n", VALUE("v\n")},
        {"data:\n  k: 'it''s' # c\n", VALUE("\"it's\"\n")},
        {"data:\n  k: \"\\\"\\\\\\t\\n\\x41\\u00e9\\U0001F384\\N\\L\"\n",
         VALUE("\"\\\"\\\\\\t\\nA\xc3\xa9\xf0\x9f\x8e\x84\\U00000085\\U00002028\"\n")},
        {"data:\n  k: a#b: c\n", VALUE("\"a#b: c\"\n")},
        {"data:\n  k: -1\n", VALUE("\"-1\"\n")},
        {"data:\n  k: \"null\"\n", VALUE("\"null\"\n")},
        {"data:\n  k: ''\n", VALUE("\"\"\n")},
        {"data:\n  k: null # c\n", VALUE("\"(none)\"\n")},
        {"data:\n  k:\n  l: v\n", VALUE("\"(none)\"\n")},
        {"data:\n  k:", VALUE("\"(none)\"\n")},
        {"data:\n  l: v\nk: w\n", VALUE("\"(none)\"\n")},
        {"data:\nk: w\n", VALUE("\"(none)\"\n")},
        {"data:\n  k: |\n    a\n\n     b\n  l: v\n", VALUE("|\n      a\n\n       b\n")},
        {"data:\n  k: |-\n    a\n    b\n\n", VALUE("|-\n      a\n      b\n")},
        {"data:\n  k: |+ # c\n    a\n\n\n", VALUE("|+\n      a\n\n\n")},
        {"data:\n  k: |2\n      a\n    b\n", VALUE("\"  a\\nb\\n\"\n")},
        {"data:\n  k: |\n  l: v\n", VALUE("\"\"\n")},
        {"data:\n  k: |4\n   a", VALUE("\"\"\n")},
        {"data:\n  k:v\n  k: w\n", VALUE("w\n")},
        {"data:\n  k: >\n    a\n", UNFIT},
        {"data:\n  k: |x\n    a\n", UNFIT},
        {"data:\n  k:\n    l: v\n", UNFIT},
        {"data:\n  k:\n  - v\n", UNFIT},
        {"data:\n  k: [v]\n", UNFIT},
        {"data:\n  k: &a v\n", UNFIT},
        {"data:\n  k: v\n    w\n", UNFIT},
        {"data:\n  k: \"v\n    w\"\n", UNFIT},
        {"data:\n  k: \"v\"w\n", UNFIT},
        {"data:\n  k: \"\\ud83d\"\n", UNFIT},
        {"data:\n  k: \"\\", UNFIT},
        {"data:\n  k: '", UNFIT},
        {"data: {k: v}\n", NO_DATA},
        {"metadata:\n  k: v\n", NO_DATA},
        {"", NO_DATA},
    };
    key = "k";
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        test(values[i].input, echo, values[i].input, values[i].expected);
    // Every input that ends early.
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        for (size_t length = strlen(values[i].input); length-- > 0;) {
            char *own = malloc(length > 0 ? length : 1);
            memcpy(own, values[i].input, length);
            const struct mistletoe_text *output = mistletoe__generate(echo, own, length);
            free((void *)output->address);
            free(own);
        }
    }

    // Characters that end early, without a byte after them.
    static const char *const parts[] = {"\xc3", "\xe2\x82", "\xf0\x9f\x8e"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t length = strlen(parts[i]);
        char *own = malloc(length);
        memcpy(own, parts[i], length);
        if (mistletoe__utf8((struct mistletoe_text){own, length})) {
            failures++;
            puts("a part of a character is UTF-8");
        }
        free(own);
    }

    test("everything", everything, "",
         HEAD "Ok\n  message: |-\n    one\n    two\n  files:\n    a.yaml: |+\n      n: -9223372036854775808\n\n"
              "    \"on\": \"\"\n    \"b: c\": \" starts with a blank\\n\"\n");
    test("nothing", nothing, "", HEAD "Ok\n");
    test("long names", long_names, "", HEAD "Ok\n  files:\n    ? \"" X200 "\"\n    : a\n    b: c\n");
    test("twice", twice, "", HEAD "Err\n  message: \"the same file is generated twice: a\"\n");
    test("unreadable", unreadable, "", HEAD "Err\n  message: \"this file is not UTF-8: a\"\n");
    expect("info", *mistletoe__info(),
           "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata:\n  name: test\n");
    panics();
    if (failures == 0) puts("all tests passed");
    return failures != 0;
}
