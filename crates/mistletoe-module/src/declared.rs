//! How much a module may declare.

/// Bytes in a page of WebAssembly's memory.
pub const PAGE: u64 = 65_536;
/// Pages that a memory with addresses of 32 bits can have.
pub const MAX_PAGES: u64 = 65_536;
/// How many imports a module may have.
pub const MAX_IMPORTS: usize = 1_000;
/// How many exports a module may have.
pub const MAX_EXPORTS: usize = 10_000;
/// How many types a module may declare.
pub const MAX_TYPES: usize = 500_000;
/// How many parameters and results a module's types may have in all.
pub const MAX_TYPE_VALUES: u64 = 1_000_000;
/// How many functions a module may have, imported ones among them.
pub const MAX_FUNCTIONS: usize = 500_000;
/// How many globals a module may have, imported ones among them.
pub const MAX_GLOBALS: usize = 500_000;
/// How many bytes a function's body may take up, with what limits put into it.
pub const MAX_BODY: usize = 7_654_321;
/// How many labels a `br_table` may have, the default among them.
pub const MAX_BRANCH_TARGETS: u64 = 65_520;
/// How many loops may stand in each other.
pub const MAX_NESTED_LOOPS: u64 = 50;
/// How many branches, and labels of a `br_table`, may lead to a function's loops.
pub const MAX_LOOP_BRANCHES: u64 = 32_768;
/// How many elements a module's element segments may have in all.
pub const MAX_ELEMENTS: usize = 1_000_000;
/// How many element segments a module may have, and how many data segments.
pub const MAX_SEGMENTS: usize = 100_000;
/// How many tables a module may have.
pub const MAX_TABLES: usize = 16;
/// How many elements a table may ever hold: what it starts with, and what `table.grow` makes of it.
pub const MAX_TABLE_ELEMENTS: u64 = 1_000_000;
/// How many values a function may hold at once: its parameters, its locals, and what lies on the operand stack.
pub const MAX_FRAME: u32 = 20_000;
/// The highest frame that a function may have, where the stack is limited: engines take it from their own stack before
/// the function looks.
pub const MAX_FRAME_HEIGHT: u32 = 262_144;
