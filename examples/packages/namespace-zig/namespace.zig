//! The namespace package in Zig, with its standard library and no operating system: it reads `data.name` from its input
//! and returns one file, `namespace.yaml`, which describes a Kubernetes namespace of that name. It imports nothing.
//!
//! Build it from this directory (Zig 0.17):
//!
//!     zig build-exe namespace.zig -target wasm32-freestanding -O ReleaseSmall -fno-entry -rdynamic
//!         -femit-bin=../namespace-zig.wasm
//!
//! or, from any directory of the project, with `cargo xtask packages --only namespace-zig`.

const std = @import("std");
const mem = std.mem;
const gpa = std.heap.wasm_allocator;

const description =
    \\apiVersion: mistletoe.dev/v1alpha1
    \\kind: MistPackage
    \\metadata:
    \\  name: namespace-zig
    \\  labels:
    \\    mistletoe.dev/group: examples
    \\
;

const result_start =
    \\apiVersion: mistletoe.dev/v1alpha1
    \\kind: MistResult
    \\data:
    \\  result:
++ " ";

const answer_start = result_start ++
    \\Ok
    \\  files:
    \\    namespace.yaml: |
    \\      apiVersion: v1
    \\      kind: Namespace
    \\      metadata:
    \\        name:
++ " ";

const no_name = result_start ++
    \\Err
    \\  message: 'name the namespace in the input, on one line: "name: my-namespace" under "data:"'
    \\
;

const no_room = result_start ++
    \\Err
    \\  message: 'no room for the answer: give the package more memory'
    \\
;

/// Returns the result for an input, both YAML.
fn generate(input: []const u8) ![]const u8 {
    const name = findName(input) orelse return gpa.dupe(u8, no_name);
    return mem.concat(gpa, u8, &.{ answer_start, name, "\n" });
}

/// Returns `data.name` as it is written, quotes included. This reads only the lines that matter here, not all of YAML.
fn findName(input: []const u8) ?[]const u8 {
    var in_data = false;
    var lines = mem.tokenizeAny(u8, input, "\r\n");
    while (lines.next()) |line| {
        // Exactly two spaces: names deeper in the document do not count.
        if (in_data) if (afterKey(line, "  name:")) |value| return readName(mem.trim(u8, value, " \t"));
        // A line without indentation, unless it is a comment, ends what came before it.
        if (!isOneOf(line[0], " \t#")) in_data = afterKey(line, "data:") != null;
    }
    return null;
}

/// Returns what follows the key on its line, if the line has that key.
fn afterKey(line: []const u8, key: []const u8) ?[]const u8 {
    if (!mem.startsWith(u8, line, key)) return null;
    const rest = line[key.len..];
    return if (rest.len == 0 or isOneOf(rest[0], " \t")) rest else null;
}

/// Returns the name without a comment after it, unless the name is empty or takes several lines.
fn readName(text: []const u8) ?[]const u8 {
    if (text.len == 0) return null;
    const quoted = isOneOf(text[0], "\"'");
    // At the start, these mean something else.
    if (isOneOf(text[0], "-?:,[]{}#&*!|>@`%~")) return null;
    const name = text[0 .. (if (quoted) quotedLen(text) else plainLen(text)) orelse return null];
    if (mem.eql(u8, name, "null") or quoted and name.len == 2) return null;
    const rest = text[name.len..];
    const comment = mem.trimStart(u8, rest, " \t");
    return if (comment.len == 0 or comment.len < rest.len and comment[0] == '#') name else null;
}

/// Returns the length of a text without quotes, up to a `#` that follows a blank.
fn plainLen(text: []const u8) ?usize {
    const end = for (1..text.len) |at| {
        if (text[at] == '#' and isOneOf(text[at - 1], " \t")) break at;
    } else text.len;
    return mem.trimEnd(u8, text[0..end], " \t").len;
}

/// Returns the length of the quoted text at the start, both quotes included.
fn quotedLen(text: []const u8) ?usize {
    const quote = text[0];
    var at: usize = 1;
    while (at < text.len) : (at += 1) {
        const next = if (at + 1 < text.len) text[at + 1] else 0;
        if (text[at] == '\\' and quote == '"') {
            at += 1; // escapes the next byte
        } else if (text[at] == '\'' and quote == '\'' and next == '\'') {
            at += 1; // two mean one
        } else if (text[at] == quote) {
            return at + 1;
        }
    }
    return null;
}

fn isOneOf(byte: u8, set: []const u8) bool {
    return mem.findScalar(u8, set, byte) != null;
}

// The rest is how the host reaches the package.

/// How a package returns a text: the host gets the address of this struct and reads both numbers.
const Text = extern struct {
    address: [*]const u8,
    length: usize,

    fn of(text: []const u8) Text {
        return .{ .address = text.ptr, .length = text.len };
    }
};

const info: Text = .of(description);
var answer: Text = undefined;

export fn __mistletoe_info() *const Text {
    return &info;
}

/// Zig's allocators give no address for a length of 0. So a length of 0 is 1 here, and when the block is freed.
export fn __mistletoe_alloc(length: usize) ?[*]u8 {
    return (gpa.alloc(u8, @max(length, 1)) catch return null).ptr;
}

export fn __mistletoe_dealloc(block: [*]u8, length: usize) void {
    if (block != no_room.ptr) gpa.free(block[0..@max(length, 1)]);
}

export fn __mistletoe_generate(input: [*]const u8, length: usize) *const Text {
    answer = .of(generate(input[0..length]) catch no_room);
    return &answer;
}
