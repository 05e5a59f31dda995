//! Limits that every engine keeps alike, because they are in the code: functions are rewritten to count what they use.
//!
//! What is injected:
//!
//! - two imports behind the module's own, from a module that no guest can name: `tick`, called when the fuel at hand is
//!   spent, and `overflow`, called when the stack is too high;
//! - two globals behind the module's own: the fuel at hand, and the height that is left;
//! - in front of each run of instructions, what it costs; at loops and where functions begin, a look at what is left;
//! - a wrapper for each function that is exported.
//!
//! None of them can be reached by the guest, whose own indices stay what they were: functions behind the imports move up by
//! two, and every mention of them is rewritten.

use std::ops::Range;

use crate::prepare::leb128;

/// What is to be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Every instruction. Without it, loops and calls are counted for the deadline alone.
    pub(crate) fuel: bool,
    /// Something ends a guest that does not end by itself: `fuel`, or a deadline.
    pub(crate) ticks: bool,
    /// The height of the stack.
    pub(crate) height: bool,
}

impl Plan {
    /// Whether anything is counted.
    pub(crate) fn is_anything(self) -> bool {
        self.ticks || self.height
    }
}

/// How many functions are put behind those that a module imports.
pub(crate) const IMPORTS: u32 = 2;
/// What the height of a function's frame is, beside the values in it.
pub(crate) const FRAME: u32 = 8;
/// A function without calls and with a frame of no more values than this does not look at the height.
const SMALL_FRAME: u32 = 64;
/// A function without calls, loops and more instructions than this does not count them for the deadline.
const SMALL_LEAF: u64 = 64;

/// The opcodes that matter here (core 2.0, section 5.4).
mod op {
    pub(super) const UNREACHABLE: u8 = 0x00;
    pub(super) const NOP: u8 = 0x01;
    pub(super) const BLOCK: u8 = 0x02;
    pub(super) const LOOP: u8 = 0x03;
    pub(super) const IF: u8 = 0x04;
    pub(super) const ELSE: u8 = 0x05;
    pub(super) const END: u8 = 0x0b;
    pub(super) const BR: u8 = 0x0c;
    pub(super) const BR_IF: u8 = 0x0d;
    pub(super) const BR_TABLE: u8 = 0x0e;
    pub(super) const RETURN: u8 = 0x0f;
    pub(super) const CALL: u8 = 0x10;
    pub(super) const CALL_INDIRECT: u8 = 0x11;
    pub(super) const LOCAL_GET: u8 = 0x20;
    pub(super) const LOCAL_SET: u8 = 0x21;
    pub(super) const LOCAL_TEE: u8 = 0x22;
    pub(super) const GLOBAL_GET: u8 = 0x23;
    pub(super) const GLOBAL_SET: u8 = 0x24;
    pub(super) const MEMORY_GROW: u8 = 0x40;
    pub(super) const I32_CONST: u8 = 0x41;
    pub(super) const I64_CONST: u8 = 0x42;
    pub(super) const I32_NE: u8 = 0x47;
    pub(super) const I32_LT_S: u8 = 0x48;
    pub(super) const I64_LT_S: u8 = 0x53;
    pub(super) const I32_SUB: u8 = 0x6b;
    pub(super) const I64_SUB: u8 = 0x7d;
    pub(super) const I64_SHL: u8 = 0x86;
    pub(super) const I64_SHR_U: u8 = 0x88;
    pub(super) const I64_EXTEND_I32_U: u8 = 0xad;
    pub(super) const REF_FUNC: u8 = 0xd2;
    pub(super) const PREFIX: u8 = 0xfc;
    pub(super) const EMPTY: u8 = 0x40;
    pub(super) const I32: u8 = 0x7f;
    pub(super) const I64: u8 = 0x7e;
}

/// Where the injected items are in the index spaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indices {
    /// How many functions the module imports itself: `tick` comes next, then `overflow`.
    pub(crate) imported: u32,
    /// How many globals it has, imported ones among them: the fuel at hand comes next, then the height that is left.
    pub(crate) globals: u32,
    /// How many of them are its own.
    pub(crate) own_globals: u32,
}

impl Indices {
    pub(crate) fn tick(self) -> u32 {
        self.imported
    }

    pub(crate) fn overflow(self) -> u32 {
        self.imported + 1
    }

    pub(crate) fn fuel(self) -> u32 {
        self.globals
    }

    pub(crate) fn height(self) -> u32 {
        self.globals + 1
    }

    /// Where a function of the module's own has gone.
    pub(crate) fn func(self, index: u32) -> u32 {
        if index < self.imported { index } else { index.saturating_add(IMPORTS) }
    }
}

/// What is put in, or changed, at a place in a function's body.
#[derive(Clone, Copy, Debug)]
enum Edit {
    /// A run of instructions that cost so much begins here.
    Run { cost: u64, check: bool },
    /// The next instruction is a call.
    Call,
    /// The last instruction was a call.
    Called,
    /// The next instruction leaves the function, or may.
    Exit,
    /// The index of a function, in so many bytes.
    Func { index: u32, bytes: u32 },
    /// The next instruction is in proportion to the number on the stack: a unit for each 2 to the power of this.
    Bulk { shift: u8 },
    /// The next instruction grows something by the number on the stack.
    Grow,
    /// The last instruction did; each costs 2 to the power of this, or for a negative one a fraction.
    Grown { shift: i8 },
}

/// A structured instruction that is open.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    /// Something branches to its end.
    targeted: bool,
    /// It stands in code that is never reached.
    dead: bool,
    /// The run that it was opened in, for counting by loops.
    outer: usize,
}

/// A function's body, while it is read.
#[derive(Debug, Default)]
pub(crate) struct Body {
    plan: Plan,
    /// Where its instructions begin.
    code: usize,
    edits: Vec<(u32, Edit)>,
    frames: Vec<Frame>,
    /// Which of the edits the instructions now read are counted in.
    run: usize,
    dead: bool,
    calls: bool,
    loops: bool,
    bulk: bool,
    total: u64,
}

impl Body {
    /// Begins a body whose first instruction is at `offset`, and which declares so many locals.
    pub(crate) fn begin(&mut self, plan: Plan, offset: usize, locals: u32) {
        (self.plan, self.code) = (plan, offset);
        self.edits.clear();
        self.frames.clear();
        self.frames.push(Frame { opcode: op::BLOCK, targeted: false, dead: false, outer: 0 });
        (self.dead, self.calls, self.loops, self.bulk, self.total) = (false, false, false, false, 0);
        self.start_run(offset, false);
        // The engine has to clear the locals.
        self.cost(u64::from(locals.div_ceil(8)));
    }

    fn edit(&mut self, offset: usize, edit: Edit) {
        // A module is shorter than 4 GiB.
        self.edits.push((offset as u32, edit));
    }

    fn start_run(&mut self, offset: usize, check: bool) {
        self.run = self.edits.len();
        self.edit(offset, Edit::Run { cost: 0, check });
    }

    fn cost(&mut self, more: u64) {
        self.total += more;
        if let Some((_, Edit::Run { cost, .. })) = self.edits.get_mut(self.run) {
            *cost += more;
        }
    }

    /// Reads the instruction at `range` of `bytes`, which is valid.
    pub(crate) fn instruction(&mut self, bytes: &[u8], range: Range<usize>) {
        let Some((&opcode, operands)) = bytes.get(range.clone()).and_then(<[u8]>::split_first) else { return };
        // Free: they are no instructions to any engine.
        if !self.dead && !matches!(opcode, op::NOP | op::BLOCK | op::LOOP | op::ELSE | op::END) {
            self.cost(1);
        }
        match opcode {
            op::BLOCK => self.open(opcode),
            op::LOOP => {
                self.open(opcode);
                self.loops = true;
                if !self.dead {
                    self.start_run(range.end, true);
                }
            }
            op::IF => {
                self.open(opcode);
                self.split(range.end);
            }
            op::ELSE => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.opcode = op::ELSE;
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
                if self.branch(number(operands).0) && !self.dead {
                    self.edit(range.start, Edit::Exit);
                }
                if opcode == op::BR {
                    self.dead = true;
                } else {
                    self.split(range.end);
                }
            }
            op::BR_TABLE => {
                let (mut labels, mut rest) = number(operands);
                let mut exit = false;
                // One more than the count: the default.
                loop {
                    let (label, length) = number(operands.get(rest..).unwrap_or_default());
                    exit |= self.branch(label);
                    rest += length;
                    if labels == 0 {
                        break;
                    }
                    labels -= 1;
                }
                if exit && !self.dead {
                    self.edit(range.start, Edit::Exit);
                }
                self.dead = true;
            }
            op::RETURN | op::UNREACHABLE => {
                if !self.dead {
                    self.edit(range.start, Edit::Exit);
                }
                self.dead = true;
            }
            op::CALL | op::CALL_INDIRECT => {
                self.calls = true;
                if !self.dead {
                    self.edit(range.start, Edit::Call);
                }
                if opcode == op::CALL {
                    self.func(range.start + 1, operands);
                }
                if !self.dead {
                    self.edit(range.end, Edit::Called);
                }
            }
            op::REF_FUNC => self.func(range.start + 1, operands),
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

    fn bulk(&mut self, offset: usize, shift: u8) {
        self.bulk = true;
        self.edit(offset, Edit::Bulk { shift });
    }

    fn func(&mut self, offset: usize, operands: &[u8]) {
        let (index, length) = number(operands);
        self.edit(offset, Edit::Func { index, bytes: length as u32 });
    }

    fn open(&mut self, opcode: u8) {
        self.frames.push(Frame { opcode, targeted: false, dead: self.dead, outer: self.run });
    }

    /// Control may come to `offset` without having come to what is before, or the other way round.
    fn split(&mut self, offset: usize) {
        if self.plan.fuel && !self.dead {
            self.start_run(offset, false);
        }
    }

    /// Notes a branch, and tells whether it leaves the function.
    fn branch(&mut self, label: u32) -> bool {
        let index = self.frames.len().checked_sub(1 + label as usize);
        if let Some(frame) = index.and_then(|index| self.frames.get_mut(index)) {
            frame.targeted |= frame.opcode != op::LOOP;
        }
        index == Some(0)
    }

    fn close(&mut self, offset: usize) {
        let Some(frame) = self.frames.pop() else { return };
        match frame.opcode {
            op::LOOP if !self.plan.fuel => self.run = frame.outer,
            op::LOOP => {}
            // Of an `if` without `else`, the end is reached where the condition is false.
            op::IF => {
                self.dead = frame.dead;
                self.split(offset);
            }
            _ if frame.targeted || frame.opcode == op::ELSE => {
                self.dead = frame.dead;
                self.split(offset);
            }
            _ => {}
        }
    }

    /// The rewritten body. `bytes` is the module, `body` the body's range in it; it has so many parameters and locals, and
    /// so many operands at most.
    pub(crate) fn finish(
        &mut self,
        at: Indices,
        bytes: &[u8],
        body: Range<usize>,
        locals: u32,
        operands: u32,
    ) -> Vec<u8> {
        let (plan, code) = (self.plan, self.code);
        let leaf = !self.calls;
        // What a leaf does is no more than its caller's next look at the fuel can wait for.
        let counts = plan.ticks && (plan.fuel || !leaf || self.loops || self.bulk || self.total > SMALL_LEAF);
        if let Some((_, Edit::Run { check, .. })) = self.edits.first_mut() {
            *check = !leaf || !plan.fuel;
        }
        let values = locals.saturating_add(operands);
        let height = plan.height && (!leaf || values > SMALL_FRAME);

        // What is counted once, at the beginning, is counted in the global alone.
        let more =
            |(_, edit): &(u32, Edit)| matches!(edit, Edit::Run { cost: 1.., .. } | Edit::Run { check: true, .. });
        let kept = counts && (self.bulk || self.edits.iter().skip(1).any(more));
        let checked = counts && matches!(self.edits.first(), Some((_, Edit::Run { check: true, .. })));
        let fuel = Fuel { at, local: locals };
        let (number_local, result_local, height_local) = (locals + 1, locals + 2, locals + 3);
        let mut out = Vec::with_capacity(body.len() + body.len() / 4 + 16);
        // Core 2.0, section 5.5.13: groups of locals, each a count and a type.
        let (groups, length) = number(bytes.get(body.clone()).unwrap_or_default());
        let declared = bytes.get(body.start + length..code).unwrap_or_default();
        let bulk = self.bulk && plan.ticks;
        let added: &[(u32, u8)] = match (kept || checked || height, bulk || height) {
            (false, _) => &[],
            (true, false) => &[(1, op::I64)],
            (true, true) => &[(1, op::I64), (3, op::I32)],
        };
        leb128(&mut out, u64::from(groups) + added.len() as u64);
        out.extend_from_slice(declared);
        for (count, ty) in added {
            leb128(&mut out, u64::from(*count));
            out.push(*ty);
        }

        if height {
            let cost = FRAME.saturating_add(values);
            get(&mut out, op::GLOBAL_GET, at.height());
            i32_const(&mut out, cost as i32);
            out.push(op::I32_SUB);
            get(&mut out, op::LOCAL_TEE, height_local);
            i32_const(&mut out, 0);
            out.extend([op::I32_LT_S, op::IF, op::EMPTY]);
            get(&mut out, op::LOCAL_GET, height_local);
            get(&mut out, op::CALL, at.overflow());
            out.push(op::END);
        }
        let mut copied = code;
        let mut first = true;
        for &(offset, edit) in &self.edits {
            let offset = offset as usize;
            out.extend_from_slice(bytes.get(copied..offset).unwrap_or_default());
            copied = offset;
            match edit {
                Edit::Run { cost, check } => {
                    match counts {
                        true if kept => fuel.run(&mut out, cost, check, first),
                        true if first => fuel.once(&mut out, cost, check),
                        _ => {}
                    }
                    first = false;
                }
                Edit::Call => {
                    if kept {
                        fuel.flush(&mut out);
                    }
                    if height {
                        get(&mut out, op::LOCAL_GET, height_local);
                        get(&mut out, op::GLOBAL_SET, at.height());
                    }
                }
                Edit::Called if kept => fuel.reload(&mut out),
                Edit::Exit if kept => fuel.flush(&mut out),
                Edit::Func { index, bytes } => {
                    leb128(&mut out, at.func(index).into());
                    copied += bytes as usize;
                }
                Edit::Bulk { shift } if bulk => {
                    get(&mut out, op::LOCAL_TEE, number_local);
                    fuel.get(&mut out);
                    get(&mut out, op::LOCAL_GET, number_local);
                    out.push(op::I64_EXTEND_I32_U);
                    i64_const(&mut out, shift.into());
                    out.extend([op::I64_SHR_U, op::I64_SUB]);
                    fuel.set(&mut out);
                    fuel.check(&mut out);
                }
                Edit::Grow if bulk => get(&mut out, op::LOCAL_TEE, number_local),
                Edit::Grown { shift } if bulk => {
                    get(&mut out, op::LOCAL_TEE, result_local);
                    i32_const(&mut out, -1);
                    out.extend([op::I32_NE, op::IF, op::EMPTY]);
                    fuel.get(&mut out);
                    get(&mut out, op::LOCAL_GET, number_local);
                    out.push(op::I64_EXTEND_I32_U);
                    i64_const(&mut out, shift.unsigned_abs().into());
                    out.extend([if shift < 0 { op::I64_SHR_U } else { op::I64_SHL }, op::I64_SUB]);
                    fuel.set(&mut out);
                    out.push(op::END);
                    get(&mut out, op::LOCAL_GET, result_local);
                }
                _ => {}
            }
        }
        out.extend_from_slice(bytes.get(copied..body.end).unwrap_or_default());
        out
    }
}

/// The body of a function that calls another, with the same parameters and results: what the host calls in its place. It
/// leaves the height as it was, whatever the other does, and asks for fuel if more was used than there was.
pub(crate) fn wrapper(plan: Plan, at: Indices, index: u32, params: u32) -> Vec<u8> {
    let mut out = vec![2, 1, op::I64, 1, op::I32];
    let (fuel, height) = (params, params + 1);
    if plan.height {
        get(&mut out, op::GLOBAL_GET, at.height());
        get(&mut out, op::LOCAL_SET, height);
    }
    for param in 0..params {
        get(&mut out, op::LOCAL_GET, param);
    }
    get(&mut out, op::CALL, at.func(index));
    if plan.fuel {
        let fuel = Fuel { at, local: fuel };
        fuel.reload(&mut out);
        fuel.check(&mut out);
    }
    if plan.height {
        get(&mut out, op::LOCAL_GET, height);
        get(&mut out, op::GLOBAL_SET, at.height());
    }
    out.push(op::END);
    out
}

/// The body of a function that answers with the fuel at hand.
pub(crate) fn fuel(at: Indices) -> Vec<u8> {
    let mut out = vec![0];
    get(&mut out, op::GLOBAL_GET, at.fuel());
    out.push(op::END);
    out
}

/// How a function counts: in a local, which it takes from the global when it begins and after calls, and brings back there
/// before calls and when it ends.
#[derive(Clone, Copy)]
struct Fuel {
    at: Indices,
    local: u32,
}

impl Fuel {
    fn get(self, out: &mut Vec<u8>) {
        get(out, op::LOCAL_GET, self.local);
    }

    fn set(self, out: &mut Vec<u8>) {
        get(out, op::LOCAL_SET, self.local);
    }

    fn flush(self, out: &mut Vec<u8>) {
        self.get(out);
        get(out, op::GLOBAL_SET, self.at.fuel());
    }

    fn reload(self, out: &mut Vec<u8>) {
        get(out, op::GLOBAL_GET, self.at.fuel());
        self.set(out);
    }

    fn run(self, out: &mut Vec<u8>, cost: u64, check: bool, first: bool) {
        if cost != 0 || first {
            match first {
                true => get(out, op::GLOBAL_GET, self.at.fuel()),
                false => self.get(out),
            }
            i64_const(out, cost as i64);
            out.push(op::I64_SUB);
            self.set(out);
        }
        if check {
            self.check(out);
        }
    }

    /// The whole function at once, in the global.
    fn once(self, out: &mut Vec<u8>, cost: u64, check: bool) {
        if cost == 0 {
            return;
        }
        get(out, op::GLOBAL_GET, self.at.fuel());
        i64_const(out, cost as i64);
        out.push(op::I64_SUB);
        if check {
            get(out, op::LOCAL_TEE, self.local);
        }
        get(out, op::GLOBAL_SET, self.at.fuel());
        if check {
            self.check(out);
        }
    }

    fn check(self, out: &mut Vec<u8>) {
        self.get(out);
        i64_const(out, 0);
        out.extend([op::I64_LT_S, op::IF, op::EMPTY]);
        // The host looks at the global where it ends the guest, and counts on from what it answers.
        self.flush(out);
        self.get(out);
        get(out, op::CALL, self.at.tick());
        get(out, op::LOCAL_TEE, self.local);
        get(out, op::GLOBAL_SET, self.at.fuel());
        out.push(op::END);
    }
}

fn get(out: &mut Vec<u8>, opcode: u8, index: u32) {
    out.push(opcode);
    leb128(out, index.into());
}

fn i32_const(out: &mut Vec<u8>, value: i32) {
    out.push(op::I32_CONST);
    signed(out, value.into());
}

fn i64_const(out: &mut Vec<u8>, value: i64) {
    out.push(op::I64_CONST);
    signed(out, value);
}

/// Appends a number as the binary format writes signed ones (core 2.0, section 5.2.2).
pub(crate) fn signed(out: &mut Vec<u8>, mut number: i64) {
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 && byte & 0x40 == 0 || number == -1 && byte & 0x40 != 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// An unsigned number of up to 32 bits and how many bytes it takes up. It is valid.
pub(crate) fn number(bytes: &[u8]) -> (u32, usize) {
    let mut number = 0_u32;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        number |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (number, i + 1);
        }
    }
    (number, bytes.len().min(5))
}
