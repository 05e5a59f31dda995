//! A Kubernetes namespace with the label of a team.

const std = @import("std");
const mistletoe = @import("mistletoe.zig");

pub const panic = mistletoe.panic;
pub const std_options = mistletoe.std_options;

comptime {
    mistletoe.package(.{ .name = "{{name}}", .yaml = @embedFile("values.yaml") }, generate);
}

/// The values. The name is that of the installation.
const Input = struct {
    name: []const u8,
    team: []const u8,
};

fn generate(input: Input, files: *mistletoe.Files) !void {
    try files.print("namespace.yaml",
        \\apiVersion: v1
        \\kind: Namespace
        \\metadata:
        \\  name: {f}
        \\  labels:
        \\    team: {f}
        \\
    , .{ mistletoe.scalar(input.name), mistletoe.scalar(input.team) });
}
