//! Makes a Mistletoe package of a function.
//!
//!     const mistletoe = @import("mistletoe");
//!
//!     pub const panic = mistletoe.panic;
//!     pub const std_options = mistletoe.std_options;
//!
//!     comptime {
//!         mistletoe.package(.{ .name = "example" }, generate);
//!     }
//!
//!     const Input = struct { name: []const u8 = "" };
//!
//!     fn generate(input: Input, files: *mistletoe.Files) !void {
//!         if (input.name.len == 0) return files.fail("the name is empty", .{});
//!         try files.print("values.yaml", "name: {f}\n", .{mistletoe.scalar(input.name)});
//!     }
//!
//! Build it with this file as a module:
//!
//!     zig build-exe -target wasm32-freestanding -O ReleaseSafe -fstrip -fno-entry -rdynamic
//!         --dep mistletoe -Mroot=package.zig -Mmistletoe=mistletoe.zig -femit-bin=package.wasm
//!
//! `ReleaseSmall` halves the size of a small package, but a bug such as an index out of bounds is no longer a panic.
//!
//! An error that the function returns, values that do not fit the input, and a panic become a MistResult with
//! `result: Err`. What the package logs with `std.log` goes to the host's log; only a package that logs imports WASI.

const std = @import("std");
const Allocator = std.mem.Allocator;
const Writer = std.Io.Writer;
const gpa = std.heap.wasm_allocator;

/// The description of a package.
pub const Info = struct {
    name: []const u8,
    /// Names and values.
    labels: []const struct { []const u8, []const u8 } = &.{},
    /// More YAML of the MistPackage: `defaults` and `inputSchema`.
    yaml: []const u8 = "",
};

/// Exports a package that calls `generate(input: Input, files: *Files) !void` for each input.
///
/// `Input` is a struct whose fields are strings, booleans, numbers or optionals of them. Each is read from the value of
/// its name in the mapping `data`. Where that is missing or null, the field is its default; without one, the call
/// fails. A string takes any scalar as it is written. The strings live until the call ends.
///
/// This reads what hosts write, not all of YAML: `data` in block style, and below it scalars that are plain or quoted
/// on one line, or literal blocks (`|`). Lists and mappings are in `Files.input`, for packages that parse it.
pub fn package(comptime info: Info, comptime generate: anytype) void {
    const Input = @typeInfo(@TypeOf(generate)).@"fn".param_types[0].?;
    const exports = struct {
        const description: Text = .of(describe(info));
        var output: Text = undefined;

        fn getInfo() callconv(.c) *const Text {
            return &description;
        }

        /// Zig's allocators give no address for a length of 0. So a length of 0 is 1 here, and when the block is freed.
        fn alloc(length: usize) callconv(.c) ?[*]u8 {
            return (gpa.alloc(u8, @max(length, 1)) catch return null).ptr;
        }

        fn dealloc(block: [*]u8, length: usize) callconv(.c) void {
            gpa.free(block[0..@max(length, 1)]);
        }

        fn run(input: [*]const u8, length: usize) callconv(.c) *const Text {
            var arena: std.heap.ArenaAllocator = .init(gpa);
            defer arena.deinit();
            var files: Files = .{ .arena = arena.allocator(), .input = input[0..length] };
            output = .of(respond(&files) catch @panic("out of memory"));
            return &output;
        }

        fn respond(files: *Files) ![]const u8 {
            if (decode(Input, files)) |input| {
                generate(input, files) catch |err| note(files, err);
            } else |err| note(files, err);
            var document: Writer.Allocating = .init(files.arena);
            try files.write(&document.writer);
            return gpa.dupe(u8, document.written());
        }

        fn note(files: *Files, err: anyerror) void {
            if (files.failure == null) files.failure = @errorName(err);
        }
    };
    @export(&exports.getInfo, .{ .name = "__mistletoe_info" });
    @export(&exports.alloc, .{ .name = "__mistletoe_alloc" });
    @export(&exports.dealloc, .{ .name = "__mistletoe_dealloc" });
    @export(&exports.run, .{ .name = "__mistletoe_generate" });
    @export(&last_words, .{ .name = "__mistletoe_panic" });
}

/// What a package generates.
pub const Files = struct {
    /// Memory that lives until the call ends.
    arena: Allocator,
    /// The whole MistInput.
    input: []const u8,
    /// What the host shows to the user besides the files.
    message: ?[]const u8 = null,

    files: std.ArrayList(struct { name: []const u8, content: []const u8 }) = .empty,
    failure: ?[]const u8 = null,

    /// Adds a file. Its name and content must be UTF-8, and live until the call ends.
    pub fn add(self: *Files, name: []const u8, content: []const u8) !void {
        for ([_][]const u8{ name, content }) |text| {
            if (!std.unicode.utf8ValidateSlice(text)) return self.fail("the file {f} is not UTF-8", .{scalar(name)});
        }
        for (self.files.items) |file| {
            if (std.mem.eql(u8, file.name, name)) return self.fail("the file {f} is generated twice", .{scalar(name)});
        }
        try self.files.append(self.arena, .{ .name = name, .content = content });
    }

    /// Adds a file with a formatted text. `{f}` with `scalar` writes a string as YAML.
    pub fn print(self: *Files, name: []const u8, comptime format: []const u8, args: anytype) !void {
        try self.add(name, try std.fmt.allocPrint(self.arena, format, args));
    }

    /// Makes the call fail with this message: `return files.fail("no such version: {s}", .{version});`.
    pub fn fail(self: *Files, comptime format: []const u8, args: anytype) error{ Failed, OutOfMemory } {
        self.failure = std.fmt.allocPrint(self.arena, format, args) catch return error.OutOfMemory;
        return error.Failed;
    }

    fn write(self: *const Files, out: *Writer) Writer.Error!void {
        if (self.failure) |failure| {
            try out.writeAll(err_start);
            return writeBlock(out, failure, "    ");
        }
        try out.writeAll(comptime header("MistResult") ++ "data:\n  result: Ok\n");
        if (self.message) |message| {
            try out.writeAll("  message: ");
            try writeBlock(out, message, "    ");
        }
        if (self.files.items.len > 0) try out.writeAll("  files:\n");
        for (self.files.items) |file| {
            // A key of 1,024 characters needs YAML's long form, and an escaped byte has 10.
            const start, const end = if (file.name.len < 100) .{ "    ", ": " } else .{ "    ? ", "\n    : " };
            try out.print("{s}{f}{s}", .{ start, scalar(file.name), end });
            try writeBlock(out, file.content, "      ");
        }
    }
};

/// Formats a string as a YAML scalar on one line, in quotes if it needs them: `{f}` with `scalar(text)`.
pub fn scalar(text: []const u8) Scalar {
    return .{ .text = text };
}

pub const Scalar = struct {
    text: []const u8,

    pub fn format(self: Scalar, out: *Writer) Writer.Error!void {
        if (isPlain(self.text)) return out.writeAll(self.text);
        try out.writeByte('"');
        var rest = self.text;
        while (rest.len > 0) {
            const c, const length = character(rest);
            switch (c) {
                '\n' => try out.writeAll("\\n"),
                '\t' => try out.writeAll("\\t"),
                '"' => try out.writeAll("\\\""),
                '\\' => try out.writeAll("\\\\"),
                else => if (isPrintable(c)) try out.print("{u}", .{c}) else try out.print("\\U{x:0>8}", .{c}),
            }
            rest = rest[length..];
        }
        try out.writeByte('"');
    }
};

/// Options for a package's root file, with a log that reaches the host.
pub const std_options: std.Options = .{ .logFn = log };

/// Writes one line to the host's log. A long line is truncated.
pub fn log(
    comptime level: std.log.Level,
    comptime scope: @EnumLiteral(),
    comptime format: []const u8,
    args: anytype,
) void {
    const name = if (scope == .default) "" else "(" ++ @tagName(scope) ++ ")";
    var buffer: [1024]u8 = undefined;
    var line: Writer = .fixed(buffer[0 .. buffer.len - 1]);
    line.print(comptime level.asText() ++ name ++ ": " ++ format, args) catch {};
    buffer[line.end] = '\n';
    var written: usize = undefined;
    _ = wasi.fd_write(2, &.of(buffer[0 .. line.end + 1]), 1, &written); // a full log is no reason to fail
}

const wasi = struct {
    extern "wasi_snapshot_preview1" fn fd_write(file: u32, texts: *const Text, count: usize, written: *usize) u16;
};

/// A package's panics, for its root file: the user sees the message, and the instance cannot be used afterwards. On
/// hosts that do not know the export `__mistletoe_panic`, a panic is a trap.
pub const panic = std.debug.FullPanic(struct {
    const max_shown = 128;
    /// An escaped byte is 10 bytes.
    var buffer: [err_start.len + 10 * max_shown + "\"\"\n".len]u8 = undefined;

    fn call(message: []const u8, _: ?usize) noreturn {
        // There may be no memory. A long message is truncated.
        var shown: [max_shown]u8 = undefined;
        var text: Writer = .fixed(&shown);
        text.print("panicked: {s}", .{message}) catch {};
        var document: Writer = .fixed(&buffer);
        document.print("{s}{f}\n", .{ err_start, scalar(text.buffered()) }) catch {};
        last_words = .of(document.buffered());
        @trap();
    }
}.call);

/// A host reads here what a call that trapped has to say.
var last_words: Text = .{ .address = null, .length = 0 };

/// How a package returns a text: the host gets the address of this struct and reads both numbers.
const Text = extern struct {
    address: ?[*]const u8,
    length: usize,

    fn of(text: []const u8) Text {
        return .{ .address = text.ptr, .length = text.len };
    }
};

// ------------------------------------------------------------------------------------------------------------ writing

fn header(comptime kind: []const u8) []const u8 {
    return "apiVersion: mistletoe.dev/v1alpha1\nkind: " ++ kind ++ "\n";
}

const err_start = header("MistResult") ++ "data:\n  result: Err\n  message: ";

fn describe(comptime info: Info) []const u8 {
    comptime {
        @setEvalBranchQuota(100_000);
        var text: []const u8 = header("MistPackage");
        text = text ++ std.fmt.comptimePrint("metadata:\n  name: {f}\n", .{scalar(info.name)});
        if (info.labels.len > 0) text = text ++ "  labels:\n";
        for (info.labels) |label| {
            text = text ++ std.fmt.comptimePrint("    {f}: {f}\n", .{ scalar(label[0]), scalar(label[1]) });
        }
        return text ++ info.yaml;
    }
}

/// Returns the first character and its length. The replacement character stands for bytes that are not UTF-8.
fn character(text: []const u8) struct { u21, usize } {
    const invalid = .{ 0xfffd, 1 };
    const length = std.unicode.utf8ByteSequenceLength(text[0]) catch return invalid;
    if (length > text.len) return invalid;
    return .{ std.unicode.utf8Decode(text[0..length]) catch return invalid, length };
}

/// Whether YAML can hold the character as it is. Line and paragraph separators and a byte order mark are left out,
/// since readers differ in what they make of them.
fn isPrintable(c: u21) bool {
    return switch (c) {
        '\t', 0x20...0x7e => true,
        0x2028, 0x2029, 0xfeff => false,
        else => c >= 0xa0 and c & 0xfffe != 0xfffe,
    };
}

/// Whether the text is a string without quotes, to readers of YAML 1.1 and 1.2.
fn isPlain(text: []const u8) bool {
    if (text.len == 0 or !(std.ascii.isAlphabetic(text[0]) or text[0] == '/')) return false;
    for (text) |c| if (!std.ascii.isAlphanumeric(c) and std.mem.findScalar(u8, "-./_", c) == null) return false;
    for ([_][]const u8{ "y", "n", "yes", "no", "on", "off", "true", "false", "null" }) |word| {
        if (std.ascii.eqlIgnoreCase(text, word)) return false;
    }
    return true;
}

/// Writes a text as a literal block, if it has lines and a block can hold it; as a scalar on one line otherwise. A line
/// end follows.
fn writeBlock(out: *Writer, text: []const u8, indent: []const u8) Writer.Error!void {
    if (!isBlock(text)) return out.print("{f}\n", .{scalar(text)});
    const content = std.mem.trimEnd(u8, text, "\n");
    try out.writeAll(switch (text.len - content.len) {
        0 => "|-\n",
        1 => "|\n",
        else => "|+\n",
    });
    var lines = std.mem.splitScalar(u8, text[0 .. text.len - @intFromBool(text.len > content.len)], '\n');
    while (lines.next()) |line| {
        if (line.len > 0) try out.writeAll(indent);
        try out.print("{s}\n", .{line});
    }
}

fn isBlock(text: []const u8) bool {
    // Blanks at the start need an indicator that readers have taken for different things.
    if (std.mem.findScalar(u8, text, '\n') == null or std.mem.findScalar(u8, " \t\n", text[0]) != null) return false;
    var rest = text;
    while (rest.len > 0) {
        const c, const length = character(rest);
        if (c != '\n' and !isPrintable(c)) return false;
        rest = rest[length..];
    }
    return true;
}

// ------------------------------------------------------------------------------------------------------------ reading

fn decode(comptime Input: type, files: *Files) !Input {
    const data = findData(files.input) orelse return files.fail("the input has no mapping `data` in block style", .{});
    const fields = @typeInfo(Input).@"struct";
    var input: Input = undefined;
    inline for (fields.field_names, fields.field_types, fields.field_attrs) |name, T, attrs| {
        if (try readValue(files, data, name)) |text| {
            @field(input, name) = try convert(T, files, name, text);
        } else if (attrs.defaultValue(T)) |default| {
            @field(input, name) = default;
        } else if (@typeInfo(T) == .optional) {
            @field(input, name) = null;
        } else {
            return files.fail("data.{s}: missing", .{name});
        }
    }
    return input;
}

fn convert(comptime T: type, files: *Files, comptime name: []const u8, text: []const u8) !T {
    const expected = switch (@typeInfo(T)) {
        .optional => |optional| return try convert(optional.child, files, name, text),
        .bool => {
            if (std.mem.eql(u8, text, "true")) return true;
            if (std.mem.eql(u8, text, "false")) return false;
            return files.fail("data." ++ name ++ ": expected a boolean, found {f}", .{scalar(text)});
        },
        .int => if (std.fmt.parseInt(T, text, 10)) |number| return number else |_| @typeName(T),
        .float => if (std.fmt.parseFloat(T, text)) |number| return number else |_| "number",
        else => {
            if (T == []const u8) return text;
            @compileError("the field `" ++ name ++ "` is no string, boolean, number or optional of them");
        },
    };
    return files.fail("data." ++ name ++ ": expected a {s}, found {f}", .{ expected, scalar(text) });
}

/// The lines of a mapping, and the indentation of its keys.
const Block = struct { lines: Lines, indent: usize };

const Lines = struct {
    rest: []const u8,

    fn next(self: *Lines) ?[]const u8 {
        if (self.rest.len == 0) return null;
        const line, self.rest = std.mem.cutScalar(u8, self.rest, '\n') orelse .{ self.rest, "" };
        return std.mem.cutSuffix(u8, line, "\r") orelse line;
    }

    /// Returns the next line with content.
    fn content(self: *Lines) ?[]const u8 {
        while (self.next()) |line| if (!isEmpty(trim(line))) return line;
        return null;
    }
};

fn trim(text: []const u8) []const u8 {
    return std.mem.trim(u8, text, " \t");
}

/// Whether a trimmed text has no content.
fn isEmpty(text: []const u8) bool {
    return text.len == 0 or text[0] == '#';
}

fn isBlank(c: u8) bool {
    return c == ' ' or c == '\t';
}

fn indentOf(line: []const u8) usize {
    return line.len - std.mem.trimStart(u8, line, " ").len;
}

fn findData(input: []const u8) ?Block {
    var lines: Lines = .{ .rest = std.mem.cutPrefix(u8, input, "\u{feff}") orelse input };
    while (lines.content()) |line| {
        const value = trim(std.mem.cutPrefix(u8, line, "data:") orelse continue);
        if (!isEmpty(value)) return null;
        var first = lines;
        const indent = if (first.content()) |next| indentOf(next) else 0;
        // Without indentation, it is the next key: the mapping is empty.
        return if (indent == 0) .{ .lines = .{ .rest = "" }, .indent = 1 } else .{ .lines = lines, .indent = indent };
    }
    return null;
}

fn readValue(files: *Files, data: Block, name: []const u8) !?[]const u8 {
    var lines = data.lines;
    while (lines.content()) |line| {
        const indent = indentOf(line);
        if (indent == 0) break;
        if (indent != data.indent) continue;
        const value = try afterKey(files.arena, trim(line), name) orelse continue;
        return readScalar(files.arena, value, lines, data.indent) catch |err| switch (err) {
            error.Unsupported => files.fail("data.{s}: expected a scalar on one line or a literal block", .{name}),
            else => |other| other,
        };
    }
    return null;
}

/// Returns what follows the key and its colon, if the line has that key.
fn afterKey(arena: Allocator, line: []const u8, name: []const u8) !?[]const u8 {
    const key, const rest = switch (line[0]) {
        '"', '\'' => readQuoted(arena, line) catch |err| switch (err) {
            error.Unsupported => return null,
            else => |other| return other,
        },
        else => .{ name, std.mem.cutPrefix(u8, line, name) orelse return null },
    };
    if (!std.mem.eql(u8, key, name)) return null;
    const value = std.mem.cutPrefix(u8, trim(rest), ":") orelse return null;
    return if (value.len == 0 or isBlank(value[0])) trim(value) else null;
}

/// Returns the scalar after a key with this indentation, or null.
fn readScalar(arena: Allocator, value: []const u8, rest: Lines, indent: usize) !?[]const u8 {
    if (value.len > 0 and value[0] == '|') return try readLiteral(arena, value, rest, indent);
    // What is indented deeper continues the value, as do items of a list without indentation.
    var lines = rest;
    if (lines.content()) |next| {
        const item = next[indentOf(next)] == '-' and (trim(next).len == 1 or isBlank(trim(next)[1]));
        if (indentOf(next) > indent or indentOf(next) == indent and item) return error.Unsupported;
    }
    if (isEmpty(value)) return null;
    if (value[0] == '"' or value[0] == '\'') {
        const text, const after = try readQuoted(arena, value);
        const ends = after.len == 0 or isBlank(after[0]) and isEmpty(trim(after));
        return if (ends) text else error.Unsupported;
    }
    if (std.mem.findScalar(u8, "[]{}&*!>@`%,", value[0]) != null) return error.Unsupported;
    const end = for (1..value.len) |at| {
        if (value[at] == '#' and isBlank(value[at - 1])) break at;
    } else value.len;
    const text = trim(value[0..end]);
    for ([_][]const u8{ "~", "null", "Null", "NULL" }) |word| if (std.mem.eql(u8, text, word)) return null;
    return text;
}

/// Reads the quoted scalar at the start. Returns it and what follows.
fn readQuoted(arena: Allocator, text: []const u8) error{ Unsupported, OutOfMemory }!struct { []const u8, []const u8 } {
    const quote = text[0];
    var out: std.ArrayList(u8) = .empty;
    var at: usize = 1;
    while (at < text.len) : (at += 1) {
        const c = text[at];
        if (c == '\\' and quote == '"') {
            at += try readEscape(arena, &out, text[at + 1 ..]);
        } else if (c != quote) {
            try out.append(arena, c);
        } else if (quote == '\'' and at + 1 < text.len and text[at + 1] == '\'') {
            try out.append(arena, c);
            at += 1;
        } else {
            return .{ out.items, text[at + 1 ..] };
        }
    }
    return error.Unsupported;
}

/// Reads what follows a backslash. Returns its length.
fn readEscape(arena: Allocator, out: *std.ArrayList(u8), text: []const u8) error{ Unsupported, OutOfMemory }!usize {
    if (text.len == 0) return error.Unsupported;
    const names = "0abtnvfre \"/\\N_LP";
    const values = [names.len]u21{ 0, 7, 8, 9, 10, 11, 12, 13, 27, ' ', '"', '/', '\\', 0x85, 0xa0, 0x2028, 0x2029 };
    const digits: usize = switch (text[0]) {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        else => 0,
    };
    const c = if (std.mem.findScalar(u8, names, text[0])) |at|
        values[at]
    else if (digits > 0 and text.len > digits)
        std.fmt.parseInt(u21, text[1 .. 1 + digits], 16) catch return error.Unsupported
    else
        return error.Unsupported;
    var bytes: [4]u8 = undefined;
    const length = std.unicode.utf8Encode(c, &bytes) catch return error.Unsupported;
    try out.appendSlice(arena, bytes[0..length]);
    return 1 + digits;
}

/// Reads the literal block below a key with this indentation.
fn readLiteral(arena: Allocator, value: []const u8, rest: Lines, parent: usize) ![]const u8 {
    const indicators = value[1 .. std.mem.findAny(u8, value, " \t") orelse value.len];
    if (!isEmpty(trim(value[1 + indicators.len ..]))) return error.Unsupported;
    var chomp: u8 = 0;
    var indent: usize = 0;
    for (indicators) |c| switch (c) {
        '-', '+' => chomp = c,
        '1'...'9' => indent = parent + c - '0',
        else => return error.Unsupported,
    };
    var out: std.ArrayList(u8) = .empty;
    var ends: usize = 0;
    var lines = rest;
    while (lines.next()) |line| {
        const spaces = indentOf(line);
        const blank = spaces == line.len;
        if (!blank and spaces <= parent) break;
        if (!blank and indent == 0) indent = spaces;
        if (blank and (indent == 0 or spaces <= indent)) {
            ends += 1;
            continue;
        }
        if (spaces < indent) break;
        try out.appendNTimes(arena, '\n', ends);
        try out.appendSlice(arena, line[indent..]);
        ends = 1;
    }
    if (chomp != '+') ends = @intFromBool(chomp == 0 and out.items.len > 0);
    try out.appendNTimes(arena, '\n', ends);
    return out.items;
}
