//! Instruments functions to count what they use, so that every engine enforces the same limits.
//!
//! The pass injects:
//!
//! - two imports after the module's own, from a module that no guest can name: `tick`, called when the fuel counter is
//!   spent, and `overflow`, called when the stack is too deep;
//! - two globals after the module's own: the fuel counter, and the remaining stack depth;
//! - at the start of each basic block, its charge; at loops and function entries, a check of what is left;
//! - a function after the module's own that is called when something is spent, and that calls those imports;
//! - a wrapper for each exported function, if fuel or the stack is limited, or the stack is recorded.
//!
//! If the stack is recorded, the pass also injects:
//!
//! - an import, `enter`, and a function that calls it where a function begins;
//! - two globals: the position, which is the offset of the last instruction that can trap, call or tick; and the number
//!   of frames, which a function keeps in a local. A function restores both after each call.
//!
//! The guest can reach none of them, and its own indices stay valid: functions after the imports move up by the number
//! of injected imports, and every reference to them is rewritten.

use std::ops::Range;

use crate::binary::{ROOM, fill, leb128, number, op};
use crate::calls::{Callee, Calls};
use crate::config::Metering;
use crate::listing::{Indices, Listing};
use emit::{AROUND, Check, Counter, Height, Record, Units, get, i32_const};

pub(crate) mod emit;

/// Units of a function's frame besides the values in it.
const FRAME: u32 = 8;
/// Parameters and results of a call that the rest of a frame has room for: [`FRAME`], and registers.
const CALL_ROOM: u32 = 8;
/// A loop of at most this many bytes is unrolled to [`UNROLLED`] iterations.
const SMALL_LOOP: usize = 96;
const UNROLLED: u64 = 4;
/// With only a deadline: the loops of a function that get a tick site around them.
///
/// A tick site around a loop is expensive to compile, and so is a counter that is carried through many loops. A
/// function has tick sites for `FREE_LOOPS` loops, and for one more for each `LOOP_BYTES` bytes before the loop.
const FREE_LOOPS: usize = 2;
const LOOP_BYTES: usize = 32;
/// With only a deadline: instructions per turn, and units of bulk operations per turn, as powers of 2.
///
/// Bulk operations are slow on some engines.
const TURN: u8 = 7;
const BULK_TURN: i8 = 3;
/// Turns granted at once with only a deadline. A turn is up to 128 instructions.
pub const TURNS: u64 = 10_000;
/// What follows the next call checks again if more than so many instructions wait for a check, with fuel or without.
const MANY: (u64, u64) = (100_000, (TURNS << TURN) / 4);
/// Maximum number of instructions around the loop that a function begins with, if the function does not check itself,
/// with only a deadline.
const SMALL: u64 = 64;

/// A change at a place in a function's body.
#[derive(Clone, Copy, Debug)]
enum Edit {
    /// A basic block of this cost begins here. For a small loop to be unrolled, `end` is the edit at the loop's end.
    Run { cost: u64, check: Check, end: Option<u32> },
    /// The next instruction is a loop of this type, which gets a tick site around it.
    Loop { ty: u8 },
    /// Such a loop has ended. `run` is the edit of its basic block.
    LoopEnd { run: u32 },
    /// The label of a branch, in `bytes` bytes. The branch leaves `loops` such loops.
    Label { label: u32, bytes: u32, loops: u32 },
    /// A call, in `bytes` bytes: of the function with this index, or an indirect one. Whether what it calls may change
    /// the fuel counter, and may look at the stack depth.
    Call { index: Option<u32>, bytes: u32, ticks: bool, reads: bool },
    /// The next instruction leaves the function, or may leave it.
    Exit,
    /// The index of a function, in `bytes` bytes.
    Func { index: u32, bytes: u32 },
    /// The next instruction's cost is in proportion to the number on the stack: one unit for each 2^`shift`.
    Bulk { shift: i8 },
    /// The next instruction grows something by the number on the stack.
    Grow,
    /// The last instruction grew something. Each costs 2^`shift`, a fraction if `shift` is negative.
    Grown { shift: i8 },
    /// The next instruction, at this offset in the module, can trap, call or tick. Only if the stack is recorded.
    Position(u32),
}

impl Edit {
    /// Returns the charge, if this is a basic block that is counted.
    ///
    /// With only a deadline, only blocks that check are counted. They are charged one turn, and one more for as many
    /// instructions as make up a turn: most of the instructions are not reached each time.
    fn charge(&self, metering: Metering) -> Option<u64> {
        match *self {
            Self::Run { cost, check, .. } if metering.fuel => (cost != 0 || check != Check::None).then_some(cost),
            Self::Run { cost, check, end } => {
                let times = if end.is_some() { UNROLLED } else { 1 };
                // A block that restarts after a tick needs no more turns than are granted at once.
                (check != Check::None).then_some((1 + ((cost * times) >> TURN)).min(TURNS))
            }
            _ => None,
        }
    }
}

/// An open structured instruction.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    /// Whether something branches to its end.
    targeted: bool,
    /// Whether it is in unreachable code.
    dead: bool,
    /// The basic block that it was opened in.
    outer: usize,
    /// The outermost open instruction that something inside branches to.
    reach: usize,
    /// Number of open loops with a tick site, this one included.
    loops: u32,
    /// The edit of its basic block, if it is such a loop.
    around: Option<u32>,
    /// Number of calls before it that may change the fuel counter.
    calls: usize,
    /// The most instructions that wait for a check where it begins, and on a way to its end.
    waiting: (u64, u64),
}

/// A function's body, while it is read.
#[derive(Debug, Default)]
pub(crate) struct Body {
    metering: Metering,
    at: Indices,
    /// Where the instructions begin.
    code: usize,
    edits: Vec<(u32, Edit)>,
    frames: Vec<Frame>,
    /// The edit that the instructions now read are counted in.
    run: usize,
    dead: bool,
    /// What is known of the function from its calls.
    own: Callee,
    /// Number of calls that may change the fuel counter.
    calls: usize,
    /// Whether there is a loop without such calls.
    tight: bool,
    /// Whether it makes calls that may change the stack depth.
    changes: bool,
    bulk: bool,
    /// What the body computes that a compiler may keep, in halves of a value.
    computed: u32,
    /// Number of parameters and results of the call that has the most of them.
    passed: u32,
    /// Whether no branch, call or loop has been read yet.
    straight: bool,
    /// Whether a loop comes before any branch and any call.
    headed: bool,
    /// Whether this body, or one before, refers to a function.
    pub(crate) refers: bool,
    /// The most instructions that are executed since a check before the instruction that is read, calls included.
    waiting: u64,
    /// Number of open loops with a tick site.
    around: u32,
    /// Number of loops that have begun.
    loops: usize,
    /// Whether there are too many loops for each to have a tick site.
    dense: bool,
    /// Where in the rewritten code the frame has to be filled in, if it was not known.
    pub(crate) unknown: Option<usize>,
}

impl Body {
    /// Begins a body whose first instruction is at `offset`, and which declares `locals` locals.
    pub(crate) fn begin(&mut self, metering: Metering, at: Indices, own: Callee, offset: usize, locals: u32) {
        (self.metering, self.at, self.own, self.code) = (metering, at, own, offset);
        (self.computed, self.passed) = (0, 0);
        self.edits.clear();
        self.frames.clear();
        (self.dead, self.changes, self.bulk, self.around) = (false, false, false, 0);
        (self.calls, self.tight, self.waiting) = (0, false, 0);
        (self.straight, self.headed) = (true, false);
        (self.loops, self.dense, self.unknown) = (0, false, None);
        self.open(op::BLOCK);
        self.start_run(offset, Check::None);
        // The engine has to clear the locals.
        self.cost(u64::from(locals.div_ceil(8)));
    }

    fn edit(&mut self, offset: usize, edit: Edit) {
        // A module is shorter than 4 GiB.
        self.edits.push((offset as u32, edit));
    }

    fn start_run(&mut self, offset: usize, check: Check) {
        self.run = self.edits.len();
        self.edit(offset, Edit::Run { cost: 0, check, end: None });
    }

    fn cost(&mut self, more: u64) {
        if let Some((_, Edit::Run { cost, .. })) = self.edits.get_mut(self.run) {
            *cost += more;
        }
    }

    /// Reads the instruction at `range` of `bytes`, which is valid.
    ///
    /// `functions` gives the parameters and results of what the instruction calls, and `calls` the rest.
    pub(crate) fn instruction(&mut self, bytes: &[u8], range: Range<usize>, functions: &Listing, calls: &Calls) {
        let Some((&opcode, operands)) = bytes.get(range.clone()).and_then(<[u8]>::split_first) else { return };
        // Free: no engine compiles them to instructions.
        if !self.dead && !matches!(opcode, op::NOP | op::BLOCK | op::LOOP | op::ELSE | op::END) {
            self.cost(1);
            self.waiting += 1;
        }
        self.computed = self.computed.saturating_add(self.computes(opcode, operands));
        if self.metering.backtrace && !self.dead && can_fail(opcode, operands) {
            self.edit(range.start, Edit::Position(range.start as u32));
        }
        let straight = self.straight;
        self.straight &= !matches!(opcode, op::LOOP..=op::ELSE | op::BR..=op::CALL_INDIRECT);
        match opcode {
            op::BLOCK => self.open(opcode),
            op::LOOP => {
                self.headed |= straight && !self.dead;
                self.loops += 1;
                let sparse = self.metering.fuel || self.loops <= FREE_LOOPS + (range.start - self.code) / LOOP_BYTES;
                self.dense |= !sparse;
                // A type of one byte: a loop without parameters (core 2.0, section 5.4.1).
                let check = match *operands {
                    [ty] if ty >= op::EMPTY && self.metering.ticks && !self.dead && sparse => {
                        self.edit(range.start, Edit::Loop { ty });
                        self.around += 1;
                        Check::Around
                    }
                    _ => Check::Here,
                };
                self.open(opcode);
                if !self.dead && self.metering.ticks && self.metering.backtrace {
                    self.edit(range.end, Edit::Position(range.start as u32));
                }
                if let Some(frame) = self.frames.last_mut().filter(|_| check == Check::Around) {
                    frame.around = u32::try_from(self.edits.len()).ok();
                }
                if !self.dead && self.metering.ticks {
                    self.start_run(range.end, check);
                    self.waiting = 0;
                }
            }
            op::IF => {
                self.open(opcode);
                self.split(range.end);
            }
            op::ELSE => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.opcode = op::ELSE;
                    if !self.dead {
                        frame.waiting.1 = frame.waiting.1.max(self.waiting);
                    }
                    self.waiting = frame.waiting.0;
                    self.dead = frame.dead;
                }
                self.split(range.end);
            }
            op::END => {
                if self.frames.len() == 1 && !self.dead {
                    self.edit(range.start, Edit::Exit);
                }
                self.close(range.end);
            }
            op::BR | op::BR_IF => {
                self.branch(range.start, 1, operands, 1);
                if opcode == op::BR {
                    self.dead = true;
                } else {
                    self.split(range.end);
                }
            }
            op::BR_TABLE => {
                let (labels, length) = number(operands);
                // The default label is not in the count.
                let labels = u64::from(labels) + 1;
                self.branch(range.start, 1 + length, operands.get(length..).unwrap_or_default(), labels);
                self.dead = true;
            }
            op::RETURN | op::UNREACHABLE => {
                // After a trap, the host still reads the fuel counter.
                if !self.dead && (opcode == op::RETURN || self.metering.fuel) {
                    self.edit(range.start, Edit::Exit);
                }
                if opcode == op::RETURN {
                    self.reach(0);
                }
                self.dead = true;
            }
            op::CALL | op::CALL_INDIRECT => {
                let index = number(operands).0;
                let ty = if opcode == op::CALL { functions.type_of(index) } else { Some(index) };
                self.passed = self.passed.max(ty.map_or(0, |ty| functions.passed(ty)));
                if !self.dead {
                    let callee = if opcode == op::CALL { calls.function_at(index) } else { calls.indirect(index) };
                    self.look_again(range.start);
                    self.waiting += u64::from(callee.cost);
                    if !self.metering.fuel {
                        self.cost(callee.cost.into());
                    }
                    let ticks = self.metering.fuel || callee.ticks;
                    self.calls += usize::from(ticks);
                    self.changes |= callee.changes;
                    let index = (opcode == op::CALL).then_some(index);
                    self.edit(range.start, Edit::Call { index, bytes: range.len() as u32, ticks, reads: callee.reads });
                } else if opcode == op::CALL {
                    self.func(range.start + 1, operands);
                }
            }
            op::REF_FUNC => {
                self.refers = true;
                self.func(range.start + 1, operands);
            }
            op::MEMORY_GROW if !self.dead => {
                self.bulk = true;
                self.edit(range.start, Edit::Grow);
                self.edit(range.end, Edit::Grown { shift: 10 });
            }
            op::PREFIX if !self.dead => match number(operands).0 {
                // memory.init, memory.copy, memory.fill
                8 | 10 | 11 => self.bulk(range.start, 6),
                // table.init, table.copy, table.fill
                12 | 14 | 17 => self.bulk(range.start, 3),
                15 => {
                    self.bulk = true;
                    self.edit(range.start, Edit::Grow);
                    self.edit(range.end, Edit::Grown { shift: -3 });
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Returns what a compiler may keep of an instruction while other functions run, in halves of a value.
    ///
    /// A compiler computes early what does not change in a loop, late what is needed late, and once what is computed
    /// twice. Compilers were observed to keep 8 bytes of an integer, 16 of a float or a vector, 16 for the location of
    /// an imported function, and at most 16 for the location of something in a table.
    fn computes(&self, opcode: u8, operands: &[u8]) -> u32 {
        match opcode {
            op::CALL if number(operands).0 < self.at.imported => 2,
            op::CALL_INDIRECT | op::SELECT | op::SELECT_T | op::TABLE_GET | op::TABLE_SET => 2,
            // Core 2.0, section 5.4.7: instructions with a float result, except constants.
            0x8b..=0xa6 | 0xb2..=0xbb | 0xbe | 0xbf => 2,
            op::MEMORY_SIZE | 0x45..=0xc4 | op::REF_IS_NULL => 1,
            op::PREFIX if number(operands).0 < 8 => 1,
            // The vector, and the same vector as lanes of another type.
            op::VECTOR => 4,
            _ => 0,
        }
    }

    fn bulk(&mut self, offset: usize, shift: i8) {
        self.bulk = true;
        self.edit(offset, Edit::Bulk { shift });
    }

    fn func(&mut self, offset: usize, operands: &[u8]) {
        let (index, length) = number(operands);
        self.edit(offset, Edit::Func { index, bytes: length as u32 });
    }

    fn open(&mut self, opcode: u8) {
        self.frames.push(Frame {
            opcode,
            targeted: false,
            dead: self.dead,
            outer: self.run,
            reach: usize::MAX,
            loops: self.around,
            around: None,
            calls: self.calls,
            // Control may go from an `if` to its end.
            waiting: (self.waiting, if opcode == op::IF { self.waiting } else { 0 }),
        });
    }

    /// Begins a basic block at `offset`.
    ///
    /// Control may reach `offset` without reaching what is before it, or the other way round.
    fn split(&mut self, offset: usize) {
        if self.metering.fuel && !self.dead {
            self.start_run(offset, Check::None);
        }
    }

    /// Checks at `offset` if many instructions wait for a check, whichever way control took.
    ///
    /// What calls count as can be much more than their bytes.
    fn look_again(&mut self, offset: usize) {
        if self.waiting > if self.metering.fuel { MANY.0 } else { MANY.1 } && self.metering.ticks {
            let waited = std::mem::take(&mut self.waiting);
            // The basic block goes on: no fuel is charged.
            let cost = if self.metering.fuel { 0 } else { waited };
            self.edit(offset, Edit::Run { cost, check: Check::Here, end: None });
        }
    }

    /// Records the branch at `offset`, whose labels begin `ahead` bytes after it.
    fn branch(&mut self, offset: usize, mut ahead: usize, mut labels: &[u8], count: u64) {
        let before = self.edits.len();
        let mut leaves = false;
        for _ in 0..count {
            let (label, length) = number(labels);
            let target = self.frames.len().saturating_sub(1 + label as usize);
            if let Some(frame) = self.frames.get_mut(target) {
                frame.targeted |= frame.opcode != op::LOOP;
                let loops = self.around - frame.loops;
                if loops != 0 {
                    self.edit(offset + ahead, Edit::Label { label, bytes: length as u32, loops });
                }
            }
            self.reach(target);
            leaves |= target == 0;
            ahead += length;
            labels = labels.get(length..).unwrap_or_default();
        }
        if leaves && !self.dead {
            self.edits.insert(before, (offset as u32, Edit::Exit));
        }
    }

    /// Records that control may go from here to the end, or the beginning, of the open instruction `target`.
    fn reach(&mut self, target: usize) {
        let waiting = self.waiting;
        if let Some(frame) = self.frames.get_mut(target).filter(|_| !self.dead) {
            frame.waiting.1 = frame.waiting.1.max(waiting);
        }
        if let Some(frame) = self.frames.last_mut().filter(|_| !self.dead) {
            frame.reach = frame.reach.min(target);
        }
    }

    fn close(&mut self, offset: usize) {
        let Some(frame) = self.frames.pop() else { return };
        self.tight |= frame.opcode == op::LOOP && frame.calls == self.calls;
        self.waiting = if self.dead { frame.waiting.1 } else { self.waiting.max(frame.waiting.1) };
        if let Some(run) = frame.around {
            self.around -= 1;
            self.unroll(run as usize, offset);
            self.edit(offset, Edit::LoopEnd { run });
        }
        // Nothing inside branches anywhere but to the end. Control that enters also leaves, so the outer basic block
        // continues.
        let through = frame.reach >= self.frames.len();
        if let Some(outer) = self.frames.last_mut() {
            outer.reach = outer.reach.min(frame.reach);
        }
        match frame.opcode {
            op::LOOP if through || !self.metering.fuel => self.run = frame.outer,
            op::LOOP => {}
            op::BLOCK if !frame.targeted => {}
            // The end of an `if` without `else` is also reached when the condition is false.
            _ => {
                self.dead = frame.dead;
                if through {
                    self.run = frame.outer;
                } else {
                    self.split(offset);
                }
            }
        }
    }

    /// Marks the loop that ends at `offset`, whose basic block is the edit `run`, for unrolling, if it is small and only
    /// its iterations are counted.
    ///
    /// One check of the deadline then covers several iterations. Fuel is checked at each iteration.
    fn unroll(&mut self, run: usize, offset: usize) {
        let end = self.edits.len();
        let Some(((begin, Edit::Run { end: to, .. }), edits)) =
            self.edits.get_mut(run..).and_then(<[_]>::split_first_mut)
        else {
            return;
        };
        let plain = |(_, edit): &(u32, Edit)| {
            matches!(edit, Edit::Label { .. } | Edit::Exit | Edit::Func { .. } | Edit::Position(_))
        };
        if !self.metering.fuel && offset - *begin as usize <= SMALL_LOOP && edits.iter().all(plain) {
            *to = u32::try_from(end).ok();
        }
    }

    /// Appends the rewritten body of the function with the index `function`, prefixed with its length.
    ///
    /// `bytes` is the module, `body` the body's range in it. The body has `locals` parameters and locals, and at most
    /// `operands` operands. Returns the length, and the size of the frame in units if the stack depth is counted.
    pub(crate) fn finish(
        &mut self,
        function: u32,
        bytes: &[u8],
        body: Range<usize>,
        locals: u32,
        operands: u32,
        out: &mut Vec<u8>,
    ) -> (usize, Option<u32>) {
        let (metering, at, code) = (self.metering, self.at, self.code);
        let passed = self.passed.saturating_sub(CALL_ROOM);
        let frame = [operands, self.computed / 2, passed].into_iter().fold(locals, u32::saturating_add);
        let tall = metering.height && (self.own.counted || self.changes);
        if let Some((_, Edit::Run { cost, check, .. })) = self.edits.first_mut() {
            // The caller of a short function accounts for it, and a loop checks soon.
            let soon = self.own.short || self.headed && (metering.fuel || *cost <= SMALL);
            *check = if soon || !metering.ticks { Check::None } else { Check::Here };
        }
        let bulk = self.bulk && metering.ticks;
        let runs = |edits: &[(u32, Edit)]| edits.iter().filter(|(_, edit)| edit.charge(metering).is_some()).count();
        let later = runs(self.edits.get(1..).unwrap_or_default());
        // In a local, the counter is stored before each call and loaded after it. In the global, both is done where each
        // basic block begins. With only a deadline, few basic blocks count.
        let kept = if metering.fuel { self.tight || later > self.calls } else { self.calls == 0 && !self.dense };
        // What is counted once, at function entry, needs no local.
        let kept = kept && (bulk || later != 0);
        let counts = kept || bulk || runs(&self.edits) != 0;
        let frame = frame.saturating_add(FRAME);
        let units = match self.own {
            Callee { counted: false, .. } => Units::Reserved,
            // It also takes the frames of what it calls, which may not have been read yet.
            Callee { diverges: true, .. } => Units::Unknown,
            _ => Units::Counted(frame.into()),
        };
        let height = Height { at, local: locals + 1, frame: units };
        let mut writer = Writer {
            metering,
            at,
            bytes,
            counter: Counter { kept, at, local: locals },
            bulk,
            height: tall.then_some(height),
            record: None,
            out,
            copied: code,
        };
        let begin = writer.out.len();
        writer.out.extend(ROOM);
        // Core 2.0, section 5.5.13: groups of locals, each a count and a type.
        let (groups, length) = number(bytes.get(body.clone()).unwrap_or_default());
        let declared = bytes.get(body.start + length..code).unwrap_or_default();
        let added: &[(u32, u8)] = match (counts || tall, bulk) {
            (false, _) => &[],
            (true, false) => &[(2, op::I64)],
            (true, true) => &[(2, op::I64), (2, op::I32)],
        };
        let recorded = [(1, op::I32)];
        let recorded = if metering.backtrace { &recorded[..] } else { &[] };
        let local = locals + added.iter().map(|(count, _)| count).sum::<u32>();
        writer.record = metering.backtrace.then_some(Record { at, local });
        let added = added.iter().chain(recorded);
        leb128(writer.out, u64::from(groups) + added.clone().count() as u64);
        writer.out.extend_from_slice(declared);
        for (count, ty) in added {
            leb128(writer.out, u64::from(*count));
            writer.out.push(*ty);
        }
        if let Some(record) = writer.record {
            record.enter(writer.out, function, code as u32);
        }
        let edits = self.edits.as_slice();
        for (i, (offset, edit)) in edits.iter().enumerate() {
            match edit {
                // A function begins with a basic block.
                Edit::Run { check, .. } if i == 0 => {
                    let charge = edit.charge(metering).unwrap_or_default();
                    self.unknown = writer.counter.enter(writer.out, charge, *check, writer.height);
                }
                Edit::LoopEnd { run } => {
                    let charge = edits.get(*run as usize).and_then(|(_, run)| run.charge(metering));
                    writer.copy(*offset as usize);
                    writer.counter.around_end(writer.out, charge.filter(|_| metering.fuel).unwrap_or_default());
                }
                _ => writer.write(*offset, edit, 0),
            }
            if let Edit::Run { end: Some(end), .. } = edit {
                writer.unroll(edits.get(i + 1..=*end as usize).unwrap_or_default());
            }
        }
        writer.copy(body.end);
        let length = writer.out.len() - begin - ROOM.len();
        fill(writer.out.get_mut(begin..).unwrap_or_default(), length);
        (length, metering.height.then_some(frame))
    }
}

/// Returns whether an instruction can trap or call, or may tick where it is instrumented.
fn can_fail(opcode: u8, operands: &[u8]) -> bool {
    match opcode {
        // Loads and stores (core 2.0, section 5.4.6), divisions, and conversions to integers (section 5.4.7).
        0x28..=0x3e | 0x6d..=0x70 | 0x7f..=0x82 | 0xa8..=0xab | 0xae..=0xb1 => true,
        op::UNREACHABLE | op::CALL | op::CALL_INDIRECT | op::TABLE_GET | op::TABLE_SET | op::MEMORY_GROW => true,
        // All but conversions that saturate, which come first, and what drops a segment or returns a size.
        op::PREFIX => matches!(number(operands).0, 8 | 10..=12 | 14 | 15 | 17),
        // Loads and stores, also of single lanes.
        op::VECTOR => matches!(number(operands).0, 0..=11 | 84..=93),
        _ => false,
    }
}

/// Writes an instrumented function body.
struct Writer<'a> {
    metering: Metering,
    at: Indices,
    bytes: &'a [u8],
    counter: Counter,
    bulk: bool,
    height: Option<Height>,
    record: Option<Record>,
    out: &'a mut Vec<u8>,
    /// The offset up to which the module's bytes are copied.
    copied: usize,
}

impl Writer<'_> {
    fn copy(&mut self, end: usize) {
        self.out.extend_from_slice(self.bytes.get(self.copied..end).unwrap_or_default());
        self.copied = end;
    }

    /// Copies up to `offset` and makes a change there, `inside` blocks deeper than in the module.
    fn write(&mut self, offset: u32, edit: &Edit, inside: u64) {
        self.copy(offset as usize);
        let shift = |units: i8| if self.metering.fuel { units } else { units - BULK_TURN };
        let (counter, out) = (self.counter, &mut *self.out);
        // Added to every function that has bulk operations.
        let (number_local, result_local) = (counter.local + 2, counter.local + 3);
        match *edit {
            Edit::Run { check, .. } => counter.run(out, edit.charge(self.metering).unwrap_or_default(), check),
            Edit::Loop { ty } => counter.around(out, ty),
            Edit::Label { label, bytes, loops } => {
                leb128(out, u64::from(label) + u64::from(loops) * AROUND + inside);
                self.copied += bytes as usize;
            }
            Edit::Call { index, bytes, ticks, reads } => {
                if ticks {
                    counter.flush(out);
                }
                if let Some(height) = self.height.filter(|_| reads) {
                    height.flush(out);
                }
                match index {
                    Some(index) => {
                        get(out, op::CALL, self.at.func(index));
                        self.copied += bytes as usize;
                    }
                    None => self.copy(offset as usize + bytes as usize),
                }
                if ticks {
                    counter.reload(self.out);
                }
                if let Some(record) = self.record {
                    record.returned(self.out, offset);
                }
            }
            Edit::Position(position) => {
                if let Some(record) = self.record {
                    record.position(out, position);
                }
            }
            Edit::Exit => counter.flush(out),
            Edit::Func { index, bytes } => {
                leb128(out, self.at.func(index).into());
                self.copied += bytes as usize;
            }
            Edit::Bulk { shift: units } if self.bulk => {
                get(out, op::LOCAL_TEE, number_local);
                counter.pay(out, number_local, shift(-units));
            }
            Edit::Grow if self.bulk => get(out, op::LOCAL_TEE, number_local),
            Edit::Grown { shift: units } if self.bulk => {
                // A failed growth costs nothing.
                get(out, op::LOCAL_TEE, result_local);
                i32_const(out, -1);
                out.push(op::I32_NE);
                get(out, op::LOCAL_GET, number_local);
                out.push(op::I32_MUL);
                get(out, op::LOCAL_SET, number_local);
                counter.pay(out, number_local, shift(units));
                get(out, op::LOCAL_GET, result_local);
            }
            _ => {}
        }
    }

    /// Writes the body of the loop that begins here, except for the last copy.
    ///
    /// The edits that follow write the last copy. `edits` are those from here to the loop's end.
    fn unroll(&mut self, edits: &[(u32, Edit)]) {
        let Some((&(end, _), edits)) = edits.split_last() else { return };
        let begin = self.copied;
        for _ in 1..UNROLLED {
            // A branch to the loop goes to the end of this block, and on to the next copy.
            self.out.extend([op::BLOCK, op::EMPTY]);
            for (offset, edit) in edits {
                self.write(*offset, edit, 1);
            }
            // Everything but the loop's own `end`.
            self.copy(end as usize - 1);
            // Leaves this block, the loop, and the blocks around the loop.
            get(self.out, op::BR, AROUND as u32 + 1);
            self.out.push(op::END);
            self.copied = begin;
        }
    }
}
