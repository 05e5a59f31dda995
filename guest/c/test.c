// Tests of mistletoe.h that run natively: `cc -std=c99 -fsanitize=address,undefined -o test test.c && ./test`.

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
    test("twice", twice, "", HEAD "Err\n  message: \"the same file is generated twice: a\"\n");
    test("unreadable", unreadable, "", HEAD "Err\n  message: \"this file is not UTF-8: a\"\n");
    expect("info", *mistletoe__info(),
           "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata:\n  name: test\n");
    if (failures == 0) puts("all tests passed");
    return failures != 0;
}
