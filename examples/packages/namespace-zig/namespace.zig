//! The namespace package in Zig, with `guest/zig/mistletoe.zig`.
//!
//! Build it from this directory (Zig 0.17):
//!
//!     zig build-exe -target wasm32-freestanding -O ReleaseSafe -fstrip -fno-entry -rdynamic --dep mistletoe
//!         -Mroot=namespace.zig -Mmistletoe=../../../guest/zig/mistletoe.zig -femit-bin=../namespace-zig.wasm
//!
//! or, from any directory of the project, with `cargo xtask packages --only namespace-zig`.

const std = @import("std");
const mistletoe = @import("mistletoe");

pub const panic = mistletoe.panic;
pub const std_options = mistletoe.std_options;

comptime {
    mistletoe.package(.{
        .name = "namespace-zig",
        .labels = &.{.{ "mistletoe.dev/group", "examples" }},
    }, generate);
}

const Input = struct {
    name: []const u8 = "",
    /// Shows what the user sees if a package has a bug.
    panic: ?[]const u8 = null,
};

fn generate(input: Input, files: *mistletoe.Files) !void {
    if (input.panic) |message| @panic(message);
    if (input.name.len == 0) return files.fail("the name is empty", .{});
    std.log.info("a namespace", .{});
    try files.print("namespace.yaml",
        \\apiVersion: v1
        \\kind: Namespace
        \\metadata:
        \\  name: {f}
        \\
    , .{mistletoe.scalar(input.name)});
}
