// The namespace package in C, with the header in guest/c.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14):
//
//     clang-14 --target=wasm32-unknown-unknown -O2 -ffreestanding -mbulk-memory -nostdlib -I ../../../guest/c
//         -Wl,--no-entry -Wl,--strip-all -o ../namespace-sdk-c.wasm namespace.c
//
// or, from any directory of the project, with `cargo xtask packages --only namespace-sdk-c`.

#include "mistletoe.h"

static void generate(void) {
    if (mistletoe_value("panic").length > 0) mistletoe_panic("on purpose"); // shows what the user sees of a bug
    struct mistletoe_text name = mistletoe_value("name");
    if (name.length == 0) {
        mistletoe_fail("the name is empty");
        return;
    }
    mistletoe_log("a namespace");
    mistletoe_file("namespace.yaml");
    mistletoe_write("apiVersion: v1\n"
                    "kind: Namespace\n"
                    "metadata:\n"
                    "  name: ");
    mistletoe_write_scalar(name);
    mistletoe_write("\n");
}

MISTLETOE_PACKAGE(generate, "metadata:\n"
                            "  name: namespace-sdk-c\n"
                            "  labels:\n"
                            "    mistletoe.dev/group: examples\n")
