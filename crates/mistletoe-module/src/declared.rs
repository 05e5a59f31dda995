//! Limits on what a module may declare.

/// Bytes in a page of WebAssembly's memory.
pub const PAGE: u64 = 65_536;
/// Maximum number of pages of a memory with 32-bit addresses.
pub const MAX_PAGES: u64 = 65_536;
/// Maximum number of imports of a module.
pub const MAX_IMPORTS: usize = 1_000;
/// Maximum number of exports of a module.
pub const MAX_EXPORTS: usize = 10_000;
/// Maximum number of types that a module declares.
pub const MAX_TYPES: usize = 500_000;
/// Maximum number of parameters and results of a module's types in total.
pub const MAX_TYPE_VALUES: u64 = 1_000_000;
/// Maximum number of functions of a module, imported ones included.
pub const MAX_FUNCTIONS: usize = 500_000;
/// Maximum number of globals of a module, imported ones included.
pub const MAX_GLOBALS: usize = 500_000;
/// Maximum length of all code in bytes, if the stack is recorded. Recording makes code several times as long.
pub const MAX_CODE: usize = 512 << 20;
/// Maximum length of a function's body in bytes, after instrumentation.
pub const MAX_BODY: usize = 7_654_321;
/// Maximum number of labels of a `br_table`, the default included.
pub const MAX_BRANCH_TARGETS: u64 = 65_520;
/// Maximum depth of nested loops.
pub const MAX_NESTED_LOOPS: u64 = 50;
/// Maximum number of branches, and labels of a `br_table`, that lead to a function's loops.
pub const MAX_LOOP_BRANCHES: u64 = 32_768;
/// Maximum number of elements of a module's element segments in total.
pub const MAX_ELEMENTS: usize = 1_000_000;
/// Maximum number of element segments of a module, and of its data segments.
pub const MAX_SEGMENTS: usize = 100_000;
/// Maximum number of tables of a module.
pub const MAX_TABLES: usize = 16;
/// Maximum number of elements of a table, initially and after `table.grow`.
pub const MAX_TABLE_ELEMENTS: u64 = 1_000_000;
/// Maximum number of values that a function holds at once: its parameters, its locals and its operands.
pub const MAX_FRAME: u32 = 20_000;
/// Maximum size of a function's frame in units, if the stack is limited.
///
/// Engines take a frame from their own stack before the function checks the stack depth.
pub const MAX_FRAME_HEIGHT: u32 = 262_144;
