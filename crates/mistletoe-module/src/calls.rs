//! Which functions call which, as far as a module's bytes show.
//!
//! A function that cannot call itself, directly or through others, is on the stack at most once, and it ends unless one
//! of its loops does not. If it is also short, or takes little of the stack with all that it calls, its callers account
//! for that, and it needs no check of its own.
//!
//! Most programs have a few functions that do not return, which report a failure and trap. Nearly everything calls
//! them, and they call nearly everything. They would make most functions recursive, so they account for themselves and
//! for all that they call, and are no part of any path.

use std::collections::HashMap;

use crate::binary::{number, op};
use crate::listing::Listing;

/// A function is short if it executes at most this many instructions, besides those that others account for.
const SHORT: u32 = 512;
/// Instructions that a call counts as if the called function is not short.
///
/// Few, since most calls in a function are not made each time, and such functions account for themselves.
const CALL: u32 = 16;
/// Maximum number of bytes of code and of locals on a path of calls whose frames are not counted.
const PATH: u32 = 16_384;

/// Marks a call that is in a loop, which accounts for the instructions of what it calls.
const IN_LOOP: u32 = 1 << 31;
/// Stands for all imported functions.
const HOST: u32 = IN_LOOP - 1;
/// Stands for all functions that do not return.
const DIVERGES: u32 = IN_LOOP - 2;

/// What is known of a function, or of all functions that an indirect call may call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callee {
    /// Whether its frame counts where it begins.
    pub(crate) counted: bool,
    /// Whether it does not return.
    pub(crate) diverges: bool,
    /// Whether its callers account for its instructions outside of loops.
    pub(crate) short: bool,
    /// Whether it may change the fuel counter, or call the host, which does. Without fuel, only checks change it.
    pub(crate) ticks: bool,
    /// Whether it may look at the stack depth: if it is counted, calls what is, or calls the host.
    pub(crate) reads: bool,
    /// Whether it may return with another stack depth in the global than it was called with.
    pub(crate) changes: bool,
    /// Instructions that a call counts as.
    pub(crate) cost: u32,
    /// Bytes of code and of locals on the longest path of calls from here whose frames are not counted.
    path: u32,
}

impl Callee {
    /// What has to be assumed of a function of which nothing is known.
    const UNKNOWN: Self = Self {
        counted: true,
        diverges: false,
        short: false,
        ticks: true,
        reads: true,
        changes: true,
        cost: CALL,
        path: 0,
    };
    /// An imported function.
    const HOST: Self = Self { counted: false, ..Self::UNKNOWN };
    /// A function that does not return.
    const DIVERGES: Self = Self { diverges: true, changes: false, ..Self::UNKNOWN };
    /// No function.
    const NONE: Self = Self {
        counted: false,
        diverges: false,
        short: true,
        ticks: false,
        reads: false,
        changes: false,
        cost: 0,
        path: 0,
    };

    /// Returns what is known of a call that makes either of two calls.
    fn or(self, other: Self) -> Self {
        Self {
            counted: self.counted || other.counted,
            diverges: false,
            short: self.short && other.short,
            ticks: self.ticks || other.ticks,
            reads: self.reads || other.reads,
            changes: self.changes || other.changes,
            cost: self.cost.max(other.cost),
            path: self.path.max(other.path),
        }
    }
}

/// What the host's call of a function takes of the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserve {
    /// The units that it takes at once.
    pub(crate) units: u32,
    /// Whether something may look at how much is left.
    pub(crate) reads: bool,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { units: 0, reads: true }
    }
}

/// The functions of a module and their calls.
///
/// The nodes of the graph are the functions that the module does not import, and after them the types that indirect
/// calls may have. A type leads to all functions of that type that the module refers to.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    imported: u32,
    /// The node of each type.
    types: Vec<u32>,
    /// For each node, where its calls begin in `calls`. One more than nodes.
    begin: Vec<u32>,
    calls: Vec<u32>,
    known: Vec<Callee>,
    /// The nodes, called ones before their callers. Those that can call each other are neighbours.
    order: Vec<u32>,
    /// Where in `order` the nodes begin that can call each other.
    groups: Vec<u32>,
}

/// What a function's body has, besides its calls.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    /// Instructions outside of loops.
    cost: u32,
    /// Bytes of code and of locals.
    size: u32,
    /// Whether it has loops, or instructions whose cost depends on an operand.
    ticks: bool,
    /// Whether it ends with `unreachable`, and no branch or `return` leaves it.
    diverges: bool,
}

/// Takes a number from the front of `bytes`.
fn take(bytes: &mut &[u8]) -> Option<u32> {
    let (value, length) = number(bytes);
    *bytes = bytes.get(length..).filter(|_| length != 0)?;
    Some(value)
}

/// Returns where the number ends that begins at `at`.
fn after(bytes: &[u8], at: usize) -> Option<usize> {
    let last = bytes.get(at..)?.iter().position(|byte| byte & 0x80 == 0)?;
    Some(at + last + 1)
}

/// Returns the length of the type of a value (core 2.0, section 5.3.4), which may have the long form of a reference.
fn value_type(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        0x63 | 0x64 => after(bytes, 1),
        _ => Some(1),
    }
}

/// Returns the length of the operands of an instruction (core 2.0, section 5.4), which `bytes` begins with.
fn operands_length(opcode: u8, bytes: &[u8]) -> Option<usize> {
    let numbers = |count: usize, at: usize| (0..count).try_fold(at, |at, _| after(bytes, at));
    match opcode {
        // A type that has no index may have the long form of a reference.
        op::BLOCK | op::LOOP | op::IF if matches!(bytes.first(), Some(0x63 | 0x64)) => value_type(bytes),
        op::BLOCK | op::LOOP | op::IF | op::BR | op::BR_IF | op::CALL => numbers(1, 0),
        op::BR_TABLE => numbers(number(bytes).0 as usize + 1, after(bytes, 0)?),
        op::CALL_INDIRECT => numbers(2, 0),
        op::SELECT_T => {
            (0..number(bytes).0).try_fold(after(bytes, 0)?, |at, _| Some(at + value_type(bytes.get(at..)?)?))
        }
        op::LOCAL_GET..=op::TABLE_SET => numbers(1, 0),
        // Loads and stores: alignment and offset.
        0x28..=0x3e => numbers(2, 0),
        op::MEMORY_SIZE | op::MEMORY_GROW | op::I32_CONST | op::I64_CONST => numbers(1, 0),
        0x43 => Some(4),
        0x44 => Some(8),
        // `ref.null` and `ref.func`.
        0xd0 | op::REF_FUNC => numbers(1, 0),
        op::PREFIX => {
            let count = match number(bytes).0 {
                // `memory.init`, `memory.copy`, `table.init` and `table.copy`.
                8 | 10 | 12 | 14 => 2,
                9 | 11 | 13 | 15..=17 => 1,
                _ => 0,
            };
            numbers(1 + count, 0)
        }
        op::VECTOR => match number(bytes).0 {
            0..=11 | 92 | 93 => numbers(3, 0),
            // Loads and stores of single lanes.
            84..=91 => Some(numbers(3, 0)? + 1),
            // `v128.const` and `i8x16.shuffle`.
            12 | 13 => Some(after(bytes, 0)? + 16),
            // Lanes.
            21..=34 => Some(after(bytes, 0)? + 1),
            _ => numbers(1, 0),
        },
        _ => Some(0),
    }
}

impl Calls {
    /// Reads the calls in the functions' bodies: `code` is the content of the code section.
    ///
    /// Nothing is validated. Where the code cannot be read, the module is not valid, and what is known means nothing.
    pub(crate) fn read(module: &[u8], code: &[u8], listing: &Listing) -> Self {
        let imported = listing.indices(false).imported;
        let own = listing.functions.len().saturating_sub(imported as usize);
        let mut calls = Self { imported, ..Self::default() };
        // Equal types are one: `call_indirect` compares types, not indices.
        let mut nodes = HashMap::new();
        for ty in &listing.types {
            let next = (own + nodes.len()) as u32;
            calls.types.push(*nodes.entry(ty.as_ref()).or_insert(next));
        }
        let mut referred: Vec<u32> =
            listing.mentions.iter().map(|at| number(module.get(*at..).unwrap_or_default()).0).collect();
        let bodies = calls.bodies(code, own, &mut referred).unwrap_or_default();
        if bodies.len() != own {
            return Self::default();
        }
        calls.referred(referred, listing, nodes.len());
        for call in &mut calls.calls {
            if bodies.get((*call & !IN_LOOP) as usize).is_some_and(|body| body.diverges) {
                *call = *call & IN_LOOP | DIVERGES;
            }
        }
        calls.resolve(&bodies);
        calls
    }

    /// Reads the bodies of `own` functions. Appends the functions that they refer to.
    ///
    /// Returns `None` if they cannot be read.
    fn bodies(&mut self, mut code: &[u8], own: usize, referred: &mut Vec<u32>) -> Option<Vec<Own>> {
        let mut bodies = Vec::new();
        let _count = take(&mut code)?;
        for _ in 0..own {
            let size = take(&mut code)? as usize;
            let (body, rest) = code.split_at_checked(size)?;
            code = rest;
            self.begin.push(self.calls.len() as u32);
            bodies.push(self.body(body, referred)?);
        }
        Some(bodies)
    }

    fn body(&mut self, mut code: &[u8], referred: &mut Vec<u32>) -> Option<Own> {
        let mut found = Own { size: code.len() as u32, ..Own::default() };
        let mut declared = 0_u32;
        for _ in 0..take(&mut code)? {
            declared = declared.saturating_add(take(&mut code)?);
            code = code.get(value_type(code)?..)?;
        }
        found.size = found.size.saturating_add(declared);
        // The engine has to clear them.
        found.cost = declared.div_ceil(8);
        // For each open structured instruction, whether it is in a loop.
        let (mut open, mut in_loop) = (Vec::new(), false);
        // Whether the last instruction is `unreachable`, and whether a branch or `return` leaves the function.
        let (mut trapped, mut left) = (false, false);
        while let Some((&opcode, operands)) = code.split_first() {
            let length = operands_length(opcode, operands)?;
            code = operands.get(length..)?;
            // No engine compiles these to instructions.
            let free = matches!(opcode, op::NOP | op::BLOCK | op::LOOP | op::ELSE | op::END);
            found.cost = found.cost.saturating_add((!in_loop && !free).into());
            // In no block: what follows one that ends with a trap may be reached otherwise.
            trapped = opcode == op::UNREACHABLE && open.is_empty() || trapped && opcode == op::END;
            let outermost = open.len() as u32;
            let mut call = None;
            match opcode {
                op::BLOCK | op::IF => open.push(in_loop),
                op::LOOP => {
                    open.push(in_loop);
                    (in_loop, found.ticks) = (true, true);
                }
                op::END => in_loop = open.pop().unwrap_or_default(),
                op::RETURN => left = true,
                op::BR | op::BR_IF => left |= number(operands).0 == outermost,
                op::BR_TABLE => {
                    let mut labels = operands.get(..length)?;
                    // The default label is not in the count.
                    for _ in 0..=take(&mut labels)? {
                        left |= take(&mut labels)? == outermost;
                    }
                }
                op::CALL => call = Some(number(operands).0.checked_sub(self.imported).unwrap_or(HOST)),
                op::CALL_INDIRECT => {
                    call = Some(self.types.get(number(operands).0 as usize).copied().unwrap_or(HOST));
                }
                op::REF_FUNC => referred.push(number(operands).0),
                op::MEMORY_GROW => found.ticks = true,
                op::PREFIX => found.ticks |= matches!(number(operands).0, 8 | 10..=12 | 14 | 15 | 17),
                _ => {}
            }
            self.calls.extend(call.map(|call| if in_loop { call | IN_LOOP } else { call }));
        }
        found.diverges = trapped && !left;
        Some(found)
    }

    /// Adds the types, which lead to the functions that the module refers to.
    fn referred(&mut self, mut referred: Vec<u32>, listing: &Listing, types: usize) {
        referred.sort_unstable();
        referred.dedup();
        let own = self.begin.len();
        let mut by_type = vec![Vec::new(); types];
        for function in referred {
            let node = listing.type_of(function).and_then(|ty| self.types.get(ty as usize));
            if let Some(functions) = node.and_then(|node| by_type.get_mut(*node as usize - own)) {
                functions.push(function.checked_sub(self.imported).unwrap_or(HOST));
            }
        }
        for functions in by_type {
            self.begin.push(self.calls.len() as u32);
            self.calls.extend(functions);
        }
        self.begin.push(self.calls.len() as u32);
    }

    fn calls(&self, node: u32) -> &[u32] {
        let at = |node: u32| self.begin.get(node as usize).copied().unwrap_or_default() as usize;
        self.calls.get(at(node)..at(node + 1)).unwrap_or_default()
    }

    /// Orders the nodes, and finds out what is known of each: Tarjan's algorithm for strongly connected components.
    fn resolve(&mut self, bodies: &[Own]) {
        const NEW: u32 = u32::MAX;
        const DONE: u32 = u32::MAX - 1;
        let nodes = self.begin.len() - 1;
        self.known = vec![Callee::UNKNOWN; nodes];
        // When each node was reached first; `DONE` once its group is complete.
        let mut reached = vec![NEW; nodes];
        let (mut next, mut path, mut waiting) = (0, Vec::new(), Vec::new());
        for root in 0..nodes as u32 {
            if reached[root as usize] != NEW {
                continue;
            }
            // A node, the number of its calls that were followed, and the earliest node that it reaches.
            path.push((root, 0, next));
            while let Some((node, followed, earliest)) = path.last_mut() {
                let (node, calls) = (*node, self.calls(*node));
                if *followed == 0 && reached[node as usize] == NEW {
                    (reached[node as usize], *earliest) = (next, next);
                    next += 1;
                    waiting.push(node);
                }
                if let Some(call) = calls.get(*followed) {
                    *followed += 1;
                    let called = call & !IN_LOOP;
                    match reached.get(called as usize).copied() {
                        // The host, or what does not return.
                        None | Some(DONE) => {}
                        Some(NEW) => path.push((called, 0, 0)),
                        Some(time) => *earliest = time.min(*earliest),
                    }
                    continue;
                }
                let earliest = *earliest;
                path.pop();
                if let Some((_, _, of_caller)) = path.last_mut() {
                    *of_caller = earliest.min(*of_caller);
                }
                if earliest == reached[node as usize] {
                    let begin = waiting.iter().rposition(|other| *other == node).unwrap_or_default();
                    let group = waiting.split_off(begin);
                    group.iter().for_each(|node| reached[*node as usize] = DONE);
                    self.group(&group, bodies);
                    self.groups.push(self.order.len() as u32);
                    self.order.extend(group);
                }
            }
        }
    }

    /// Finds out what is known of nodes that can call each other, or of one node. All others that they call are known.
    fn group(&mut self, group: &[u32], bodies: &[Own]) {
        let is_type = |node: &&u32| **node as usize >= bodies.len();
        let alone = matches!(group, [node] if self.calls(*node).iter().all(|call| call & !IN_LOOP != *node));
        let path = group.iter().map(|node| self.called(*node).path).max().unwrap_or_default();
        for node in group.iter().filter(|node| !is_type(node)) {
            let own = bodies.get(*node as usize).copied().unwrap_or_default();
            let known = if alone { self.function(*node, own) } else { Callee { path, ..Callee::UNKNOWN } };
            self.known[*node as usize] = known;
        }
        for node in group.iter().filter(is_type) {
            self.known[*node as usize] = self.called(*node);
        }
    }

    /// Returns what is known of a function that cannot call itself.
    fn function(&self, node: u32, own: Own) -> Callee {
        let called = self.called(node);
        if own.diverges {
            return Callee::DIVERGES;
        }
        let outside = self.calls(node).iter().filter(|call| *call & IN_LOOP == 0);
        let cost = outside.map(|call| self.node(*call).cost).fold(own.cost, u32::saturating_add);
        let path = called.path.saturating_add(own.size);
        let (counted, short) = (path > PATH, cost <= SHORT);
        Callee {
            counted,
            diverges: false,
            short,
            ticks: !short || own.ticks || called.ticks,
            reads: counted || called.reads,
            changes: counted || called.changes,
            cost: if short { cost } else { CALL },
            path: if counted { called.path } else { path },
        }
    }

    /// Returns what is known of all that a node calls.
    fn called(&self, node: u32) -> Callee {
        self.calls(node).iter().fold(Callee::NONE, |known, call| known.or(self.node(*call)))
    }

    fn node(&self, call: u32) -> Callee {
        match call & !IN_LOOP {
            HOST => Callee::HOST,
            DIVERGES => Callee::DIVERGES,
            node => self.known.get(node as usize).copied().unwrap_or(Callee::UNKNOWN),
        }
    }

    /// Returns what is known of a function that the module does not import: the first of them is 0.
    pub(crate) fn own(&self, function: usize) -> Callee {
        self.known.get(function).copied().unwrap_or_default()
    }

    /// Returns what is known of the function with this index.
    pub(crate) fn function_at(&self, index: u32) -> Callee {
        index.checked_sub(self.imported).map_or(Callee::HOST, |node| self.node(node))
    }

    /// Returns what is known of a call of any function of the type with this index.
    pub(crate) fn indirect(&self, ty: u32) -> Callee {
        self.types.get(ty as usize).map_or(Callee::UNKNOWN, |node| self.node(*node))
    }

    /// Returns the largest sum of frames that are not counted on a path of calls that begins with each function.
    ///
    /// `frames` are the frames of the functions that the module does not import.
    pub(crate) fn heights(&self, frames: &[u32]) -> Vec<u32> {
        let mut heights = vec![0_u32; self.known.len()];
        let ends = self.groups.iter().skip(1).copied().chain([self.order.len() as u32]);
        for (begin, end) in self.groups.iter().zip(ends) {
            let group = self.order.get(*begin as usize..end as usize).unwrap_or_default();
            let calls = group.iter().flat_map(|node| self.calls(*node));
            let called = calls.filter_map(|call| heights.get((call & !IN_LOOP) as usize)).copied().max();
            for node in group {
                let frame = frames.get(*node as usize).copied().unwrap_or_default();
                let own = if self.node(*node).counted { 0 } else { frame };
                heights[*node as usize] = called.unwrap_or_default().saturating_add(own);
            }
        }
        heights.truncate(frames.len());
        heights
    }
}

impl Default for Callee {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;
    use crate::config::Metering;
    use crate::features::ALLOWED;
    use crate::read::Reading;

    /// Reads a module. Returns its calls, and the frame of each function.
    fn calls(text: &str) -> (Calls, Vec<u32>) {
        let wasm = wat::parse_str(text).expect("a module");
        let metering = Metering { ticks: true, height: true, ..Metering::default() };
        let mut listing = Listing::default();
        let mut reading = Reading { listing: Some(&mut listing), metering, max_code: usize::MAX, ..Reading::default() };
        assert!(reading.read(&wasm, ALLOWED).is_ok() && reading.invalid.is_none());
        (reading.calls, reading.frames)
    }

    /// Returns which functions are counted.
    fn counted(text: &str) -> Vec<bool> {
        let (calls, frames) = calls(text);
        (0..frames.len()).map(|function| calls.own(function).counted).collect()
    }

    /// Checks that the instructions of a module are told apart as the validator tells them apart.
    fn instructions_are_read(wasm: &[u8]) {
        for payload in wasmparser::Parser::new(0).parse_all(wasm) {
            let Ok(wasmparser::Payload::CodeSectionEntry(body)) = payload else { continue };
            let operators = body.get_operators_reader().expect("a body").into_iter_with_offsets();
            let offsets: Vec<usize> = operators.map(|operator| operator.expect("valid").1).collect();
            let ends = offsets.iter().skip(1).copied().chain([body.range().end]);
            for (begin, end) in offsets.iter().zip(ends) {
                let length = operands_length(wasm[*begin], &wasm[begin + 1..body.range().end]);
                assert_eq!(length.map(|length| begin + 1 + length), Some(end), "{:x?}", &wasm[*begin..end]);
            }
        }
    }

    #[test]
    fn instructions_are_told_apart() {
        for entry in std::fs::read_dir("../../examples/packages").expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "wasm" || extension == "wat") {
                instructions_are_read(&wat::parse_file(path).expect("a module"));
            }
        }
        for entry in std::fs::read_dir("tests/data").expect("a directory") {
            let path = entry.expect("an entry").path();
            instructions_are_read(&wat::parse_file(path).expect("a module"));
        }
        // Every opcode of the feature set, with operands of one byte. The reader knows opcodes of others, too.
        let others = |opcode: &u8| matches!(opcode, 0x06..=0x0a | 0x12..=0x19 | 0x1f | 0xd3..=0xff);
        let numbers = (0..=0xff).filter(|opcode| !others(opcode)).map(|opcode| vec![opcode]);
        let prefixed = [op::PREFIX, op::VECTOR].into_iter().flat_map(|prefix| {
            let last = if prefix == op::PREFIX { 17 } else { 255 };
            (0..=last).map(move |opcode: u32| {
                let mut bytes = vec![prefix];
                crate::binary::leb128(&mut bytes, opcode.into());
                bytes
            })
        });
        let mut read = 0;
        for bytes in numbers.chain(prefixed) {
            let opcode = [bytes, vec![0x01; 40]].concat();
            let mut reader = wasmparser::BinaryReader::new(&opcode, 0);
            reader.set_features(ALLOWED);
            let mut operators = wasmparser::OperatorsReader::new(reader);
            if operators.read().is_ok() {
                let length = operands_length(opcode[0], &opcode[1..]).map(|length| 1 + length);
                assert_eq!(length, Some(operators.original_position()), "{:x?}", &opcode[..3]);
                read += 1;
            }
        }
        assert!(read > 400, "{read}");
    }

    #[test]
    fn what_can_call_itself_is_counted() {
        assert_eq!(counted("(module (func) (func (call 0)) (func (call 2)))"), [false, false, true]);
        let through_others = "(module (func (call 1)) (func (call 2)) (func (call 0) (call 3)) (func))";
        assert_eq!(counted(through_others), [true, true, true, false]);
        // What the host calls back begins anew.
        let host = r#"(module (import "" "" (func)) (func (export "f") (call 0)))"#;
        assert_eq!(counted(host), [false]);
    }

    #[test]
    fn an_indirect_call_leads_to_what_is_referred_to_of_its_type() {
        let indirect = |refers: &str, ty: &str| {
            let text = format!(
                r#"(module (type $t (func)) (type $same (func)) (type $other (func (param i32)))
                    (table 1 funcref) {refers}
                    (func $f (export "f") (drop (i32.const 0)) (call_indirect (type {ty}) {} (i32.const 0))))"#,
                if ty == "$other" { "(i32.const 0)" } else { "" }
            );
            counted(&text)
        };
        let elements = "(elem (i32.const 0) func $f)";
        assert_eq!(indirect(elements, "$t"), [true]);
        assert_eq!(indirect(elements, "$same"), [true], "types are compared, not their indices");
        assert_eq!(indirect(elements, "$other"), [false]);
        assert_eq!(indirect("", "$t"), [false], "an export is not in a table");
        assert_eq!(indirect("(global funcref (ref.func $f))", "$t"), [true]);
        assert_eq!(indirect("(elem funcref (item (ref.func $f)))", "$t"), [true]);
        assert_eq!(indirect("(func (drop (ref.func $f)))", "$t"), [false, true]);
    }

    #[test]
    fn what_diverges_is_counted_and_makes_nothing_else_recursive() {
        let fails = "(func $fail (call $f) (unreachable))";
        let f = "(func $f (if (i32.const 1) (then (call $fail))))";
        assert_eq!(counted(&format!("(module {fails} {f})")), [true, false]);
        for (returns, diverges) in [
            ("(call $f) (return) (unreachable)", false),
            ("(br_if 0 (i32.const 0)) (call $f) (unreachable)", false),
            ("(block (br_table 0 1 (i32.const 0))) (call $f) (unreachable)", false),
            ("(call $f) (block (unreachable))", false),
            ("(call $f) (if (i32.const 0) (then (unreachable)))", false),
            ("(call $f) (if (i32.const 0) (then) (else (unreachable)))", false),
            ("(call $f) (block (br_if 0 (i32.const 0)) (unreachable))", false),
            ("(block (br_if 0 (i32.const 0))) (call $f) (unreachable)", true),
            ("(unreachable) (call $f)", false),
        ] {
            let (calls, _) = calls(&format!("(module (func $fail {returns}) {f})"));
            assert_eq!(calls.own(0).diverges, diverges, "{returns}");
            assert_eq!(calls.own(1).counted, !diverges, "{returns}");
        }
    }

    #[test]
    fn what_is_short_has_few_instructions_outside_of_loops() {
        let drops = |count: usize| "(drop (i32.const 0))".repeat(count);
        let short = |text: &str| calls(text).0.own(0).short;
        assert!(
            short(&format!("(module (func (local {})))", "i64 ".repeat(4_096))),
            "8 locals count as an instruction"
        );
        assert!(!short(&format!("(module (func (local {})))", "i64 ".repeat(4_097))));
        // Two instructions each.
        let function =
            |inside: usize, outside: usize| format!("(module (func (loop {}) {}))", drops(inside), drops(outside));
        assert!(short(&function(1_000, 256)));
        assert!(!short(&function(0, 257)));
        // A call counts as one instruction and those of the function, outside of loops.
        let calling = |callee: &str, calls: usize| {
            format!(r#"(module (import "" "" (func $host)) (func {}) (func $f {callee}))"#, "(call $f)".repeat(calls))
        };
        assert!(short(&calling(&drops(15), 16)) && !short(&calling(&drops(16), 16)));
        assert!(short(&calling("(call $host)", 28)) && !short(&calling("(call $host)", 29)), "each is 1 + 1 + 16");
        assert!(short(&calling("(call $f)", 30)) && !short(&calling("(call $f)", 31)), "each is 1 + 16");
        assert!(short(&format!(r#"(module (func (loop {})) (func $f {}))"#, "(call $f)".repeat(99), drops(99))));
    }

    #[test]
    fn paths_are_bounded_and_reserved() {
        // Each has a frame of 8 and its operands. The bodies have 2 bytes of their own, and 2 for each call.
        let chain = |locals: usize| {
            let function = |i: usize| format!("(func $f{i} (local {}) (call $f{}))", "i64 ".repeat(locals), i + 1);
            let chain: String = (0..10).map(function).collect();
            format!("(module {chain} (func $f10))")
        };
        let (calls, frames) = calls(&chain(1_000));
        // Two bytes for each length of three, one for the number of groups, one for a type, four for code.
        assert!((0..10).all(|function| !calls.own(function).counted));
        assert_eq!(frames, [1_008; 10].into_iter().chain([8]).collect::<Vec<_>>());
        let expected: Vec<u32> = (0..=10).map(|i| (10 - i) * 1_008 + 8).collect();
        assert_eq!(calls.heights(&frames), expected);
        // Eight of 2,000 locals and a few bytes are a path that is short enough. The next one is counted, and so begins
        // no path of its own.
        let (calls, frames) = self::calls(&chain(2_000));
        let counted: Vec<bool> = (0..=10).map(|function| calls.own(function).counted).collect();
        assert_eq!(counted, iter::repeat_n(true, 2).chain([false; 9]).collect::<Vec<_>>());
        let expected: Vec<u32> = (0..=10).map(|i: u32| (10 - i.max(2)) * 2_008 + 8).collect();
        assert_eq!(calls.heights(&frames), expected);
    }

    #[test]
    fn a_recursion_is_on_a_path_once() {
        // 0 and 1 call each other; 2, with a frame of 8, and 3, with one of 18, are called from both.
        let text = "(module (func (call 1) (call 2)) (func (call 0) (call 3)) (func) (func (local i32 i32 i32 i32 i32
            i32 i32 i32 i32 i32)) (func (call 0)))";
        let (calls, frames) = calls(text);
        assert_eq!(frames, [8, 8, 8, 18, 8]);
        assert_eq!(calls.heights(&frames), [18, 18, 8, 18, 26]);
    }

    #[test]
    fn many_calls_of_short_functions_tick_as_often_as_what_they_do() {
        let short = "(drop (i32.const 0))".repeat(255);
        let rows = |calls: usize| "(call $short)".repeat(calls);
        // Also if the check that is nearest is in code that is not executed.
        let passed_by = format!("(if (i32.const 0) (then {0}) (else {0}))", rows(600)).repeat(33);
        let left = format!("(block (block (br_if 0 (i32.const 1)) {0} (br 1)) {0})", rows(600)).repeat(33);
        for calls in [rows(20_000), passed_by, left] {
            let text = format!(r#"(module (func $short {short}) (func (export "run") {calls}))"#);
            // 19,800 x 510 instructions, at most 128 for each turn.
            let turns = 19_800 * 510 / 128;
            let ticks = ticks(&text, &crate::Config::default().deadline(true), crate::TURNS as i64);
            assert!(ticks >= turns / crate::TURNS, "{ticks}");
            // With fuel, 100,000 units and what one call takes.
            let ticks = ticks_of_fuel(&text);
            assert!(ticks >= 19_800 * 510 / (100_000 + 512), "{ticks}");
        }
    }

    fn ticks_of_fuel(text: &str) -> u64 {
        ticks(text, &crate::Config::default().fuel(true), 0)
    }

    #[test]
    fn what_returns_gives_its_part_of_the_stack_back() {
        // None of these does not return, whatever it ends with.
        for check in [
            "(if (i32.eqz (local.get 0)) (then (unreachable)))",
            "(if (local.get 0) (then) (else (unreachable)))",
            "(block (br_if 0 (local.get 0)) (unreachable))",
        ] {
            let text = format!(
                r#"(module (func $again (if (i32.const 0) (then (call $again))))
                    (func $check (param i32) (call $again) {check})
                    (func (export "run") (local i32)
                        (loop
                            (call $check (i32.const 1))
                            (local.set 0 (i32.add (local.get 0) (i32.const 1)))
                            (br_if 0 (i32.lt_u (local.get 0) (i32.const 10000))))))"#
            );
            ticks(&text, &crate::Config::default().deadline(true).stack(100), crate::TURNS as i64);
        }
    }

    /// Runs a module, and returns how often it ticks. Each tick grants `more`.
    fn ticks(text: &str, config: &crate::Config, more: i64) -> u64 {
        let wasm = wat::parse_str(text).expect("a module");
        let module = crate::instrument(&wasm, config).expect("valid");
        let engine = wasmi::Engine::default();
        let mut store = wasmi::Store::new(&engine, 0_u64);
        let mut linker = wasmi::Linker::new(&engine);
        let tick = move |mut caller: wasmi::Caller<'_, u64>, counter: i64| {
            *caller.data_mut() += 1;
            // What was used too much is forgotten, if nothing is granted.
            if more == 0 { 0 } else { counter + more }
        };
        let overflow = |_: i64| -> Result<(), wasmi::Error> { Err(wasmi::Error::new("too deep")) };
        linker.func_wrap(crate::MODULE, crate::TICK, tick).expect("a function");
        linker.func_wrap(crate::MODULE, crate::OVERFLOW, overflow).expect("a function");
        let module = wasmi::Module::new(&engine, module.bytes()).expect("valid");
        let instance = linker.instantiate_and_start(&mut store, &module).expect("an instance");
        instance.get_typed_func::<(), ()>(&store, "run").expect("exported").call(&mut store, ()).expect("it ends");
        *store.data()
    }

    #[test]
    fn deep_and_wide_graphs_take_no_stack_and_little_time() {
        let module = |count: usize, call: &dyn Fn(usize) -> String| {
            let functions: String = (0..count).map(|i| format!("(func {})", call(i))).collect();
            format!("(module {functions})")
        };
        let last = 50_000;
        let chain = calls(&module(last, &|i| if i + 1 < last { format!("(call {})", i + 1) } else { String::new() }));
        assert!(chain.0.own(0).counted && !chain.0.own(last - 1).counted);
        let circle = calls(&module(last, &|i| format!("(call {})", (i + 1) % last)));
        assert!((0..last).all(|function| circle.0.own(function).counted));
        // The number of paths doubles with each function.
        let twice =
            calls(&module(1_000, &|i| if i < 999 { format!("(call {0}) (call {0})", i + 1) } else { String::new() }));
        assert_eq!(twice.0.own(999).cost, 0);
        assert_eq!(twice.0.own(998).cost, 2);
        assert!(!twice.0.own(0).short);
    }
}
