//! The instructions that the pass puts in.

use crate::limits::pass::{Check, Indices, Plan};
use crate::prepare::leb128;

/// The opcodes that matter here (core 2.0, section 5.4).
pub(super) mod op {
    pub(in crate::limits) const UNREACHABLE: u8 = 0x00;
    pub(in crate::limits) const NOP: u8 = 0x01;
    pub(in crate::limits) const BLOCK: u8 = 0x02;
    pub(in crate::limits) const LOOP: u8 = 0x03;
    pub(in crate::limits) const IF: u8 = 0x04;
    pub(in crate::limits) const ELSE: u8 = 0x05;
    pub(in crate::limits) const END: u8 = 0x0b;
    pub(in crate::limits) const BR: u8 = 0x0c;
    pub(in crate::limits) const BR_IF: u8 = 0x0d;
    pub(in crate::limits) const BR_TABLE: u8 = 0x0e;
    pub(in crate::limits) const RETURN: u8 = 0x0f;
    pub(in crate::limits) const CALL: u8 = 0x10;
    pub(in crate::limits) const CALL_INDIRECT: u8 = 0x11;
    pub(in crate::limits) const LOCAL_GET: u8 = 0x20;
    pub(in crate::limits) const LOCAL_SET: u8 = 0x21;
    pub(in crate::limits) const LOCAL_TEE: u8 = 0x22;
    pub(in crate::limits) const GLOBAL_GET: u8 = 0x23;
    pub(in crate::limits) const GLOBAL_SET: u8 = 0x24;
    pub(in crate::limits) const MEMORY_GROW: u8 = 0x40;
    pub(in crate::limits) const I32_CONST: u8 = 0x41;
    pub(in crate::limits) const I64_CONST: u8 = 0x42;
    pub(in crate::limits) const I32_EQZ: u8 = 0x45;
    pub(in crate::limits) const I32_NE: u8 = 0x47;
    pub(in crate::limits) const I32_LT_S: u8 = 0x48;
    pub(in crate::limits) const I64_LT_S: u8 = 0x53;
    pub(in crate::limits) const I32_SUB: u8 = 0x6b;
    pub(in crate::limits) const I32_SHL: u8 = 0x74;
    pub(in crate::limits) const I32_SHR_U: u8 = 0x76;
    pub(in crate::limits) const I64_SUB: u8 = 0x7d;
    pub(in crate::limits) const I64_SHL: u8 = 0x86;
    pub(in crate::limits) const I64_SHR_U: u8 = 0x88;
    pub(in crate::limits) const I32_WRAP_I64: u8 = 0xa7;
    pub(in crate::limits) const I64_EXTEND_I32_S: u8 = 0xac;
    pub(in crate::limits) const I64_EXTEND_I32_U: u8 = 0xad;
    pub(in crate::limits) const REF_FUNC: u8 = 0xd2;
    pub(in crate::limits) const PREFIX: u8 = 0xfc;
    pub(in crate::limits) const EMPTY: u8 = 0x40;
    pub(in crate::limits) const I32: u8 = 0x7f;
    pub(in crate::limits) const I64: u8 = 0x7e;
}

/// How many structured instructions are put around a loop.
pub(super) const AROUND: u64 = 3;
/// Instructions that make up a turn.
const TURN: u64 = 1 << TURN_SHIFT;
const TURN_SHIFT: i8 = 8;

/// How a function counts: in the global, or in a local, which it takes from the global when it begins and after calls, and
/// brings back there before calls and when it ends.
///
/// Fuel is counted exactly, and spent when it is below 0. For a deadline alone, turns are counted, in the global: 1 each
/// time that is counted at all, and 1 more for each 256 instructions. They are spent at 0, and whatever counts them looks
/// at once whether they are, so that one comparison is enough.
#[derive(Clone, Copy)]
pub(super) struct Counter {
    pub(super) fuel: bool,
    /// Whether the count is kept in the local.
    pub(super) kept: bool,
    pub(super) at: Indices,
    pub(super) local: u32,
}

impl Counter {
    /// The type of the local and the global.
    pub(super) fn ty(self) -> u8 {
        if self.fuel { op::I64 } else { op::I32 }
    }

    /// The count, on the stack.
    fn get(self, out: &mut Vec<u8>) {
        match self.kept {
            true => get(out, op::LOCAL_GET, self.local),
            false => get(out, op::GLOBAL_GET, self.at.fuel()),
        }
    }

    /// Keeps the count that is on the stack, and leaves it there.
    fn tee(self, out: &mut Vec<u8>) {
        get(out, op::LOCAL_TEE, self.local);
        if !self.kept {
            get(out, op::GLOBAL_SET, self.at.fuel());
            get(out, op::LOCAL_GET, self.local);
        }
    }

    pub(super) fn flush(self, out: &mut Vec<u8>) {
        if self.kept {
            get(out, op::LOCAL_GET, self.local);
            get(out, op::GLOBAL_SET, self.at.fuel());
        }
    }

    pub(super) fn reload(self, out: &mut Vec<u8>) {
        if self.kept {
            get(out, op::GLOBAL_GET, self.at.fuel());
            get(out, op::LOCAL_SET, self.local);
        }
    }

    fn constant(self, out: &mut Vec<u8>, value: i64) {
        out.push(if self.fuel { op::I64_CONST } else { op::I32_CONST });
        signed(out, value);
    }

    fn sub(self, out: &mut Vec<u8>) {
        out.push(if self.fuel { op::I64_SUB } else { op::I32_SUB });
    }

    /// What a run is charged.
    fn charge(self, cost: u64, check: Check) -> u64 {
        match check {
            _ if self.fuel => cost,
            Check::None => 0,
            Check::Here | Check::Around => 1 + cost / TURN,
        }
    }

    /// A run of instructions begins, in a function that counts.
    pub(super) fn run(self, out: &mut Vec<u8>, cost: u64, check: Check, first: bool) {
        let charge = self.charge(cost, check);
        if charge == 0 && check == Check::None {
            if first {
                self.reload(out);
            }
            return;
        }
        match first {
            true => get(out, op::GLOBAL_GET, self.at.fuel()),
            false => self.get(out),
        }
        if charge != 0 {
            self.constant(out, charge as i64);
            self.sub(out);
        }
        match check {
            Check::None if self.kept => get(out, op::LOCAL_SET, self.local),
            Check::None => get(out, op::GLOBAL_SET, self.at.fuel()),
            Check::Here => {
                self.tee(out);
                self.check(out, charge);
            }
            Check::Around => {
                self.tee(out);
                self.spent(out, charge);
                // Out of the loop, to the end of the block around it.
                get(out, op::BR_IF, 1);
            }
        }
    }

    /// Pays for the number in a local: 2 to the power of `shift` for each, or for a negative one a fraction.
    pub(super) fn pay(self, out: &mut Vec<u8>, number: u32, shift: i8) {
        self.get(out);
        get(out, op::LOCAL_GET, number);
        let shift = if self.fuel { shift } else { shift - TURN_SHIFT };
        if self.fuel {
            out.push(op::I64_EXTEND_I32_U);
        }
        self.constant(out, shift.unsigned_abs().into());
        out.push(match (self.fuel, shift < 0) {
            (true, true) => op::I64_SHR_U,
            (true, false) => op::I64_SHL,
            (false, true) => op::I32_SHR_U,
            (false, false) => op::I32_SHL,
        });
        self.sub(out);
        self.tee(out);
        self.check(out, 0);
    }

    /// Whether the count on the stack is spent, when so much was taken from it.
    fn spent(self, out: &mut Vec<u8>, charge: u64) {
        match (self.fuel, charge) {
            (true, _) => {
                self.constant(out, 0);
                out.push(op::I64_LT_S);
            }
            (false, 1) => out.push(op::I32_EQZ),
            (false, _) => {
                self.constant(out, 1);
                out.push(op::I32_LT_S);
            }
        }
    }

    /// Ticks if the count on the stack is spent.
    fn check(self, out: &mut Vec<u8>, charge: u64) {
        self.spent(out, charge);
        out.extend([op::IF, op::EMPTY]);
        self.tick(out);
        out.push(op::END);
    }

    fn tick(self, out: &mut Vec<u8>) {
        // The host looks at the global where it ends the guest, and counts on from what it answers.
        self.flush(out);
        self.get(out);
        if !self.fuel {
            out.push(op::I64_EXTEND_I32_S);
        }
        get(out, op::CALL, self.at.tick());
        if !self.fuel {
            out.push(op::I32_WRAP_I64);
        }
        if self.kept {
            get(out, op::LOCAL_TEE, self.local);
        }
        get(out, op::GLOBAL_SET, self.at.fuel());
    }

    /// In front of a loop of a type without parameters: three structured instructions around it, so that it can tick
    /// outside of its own body. A call in there would have the engine keep the loop's values where calls leave them
    /// alone, which is not in registers.
    pub(super) fn around(self, out: &mut Vec<u8>, ty: u8) {
        out.extend([op::BLOCK, ty, op::LOOP, ty, op::BLOCK, op::EMPTY]);
    }

    /// Behind it.
    pub(super) fn around_end(self, out: &mut Vec<u8>) {
        // Its results go to the outermost end.
        get(out, op::BR, 2);
        out.push(op::END);
        self.tick(out);
        get(out, op::BR, 0);
        out.extend([op::END, op::END]);
    }
}

/// The height of the stack that is left, while a function runs.
#[derive(Clone, Copy)]
pub(super) struct Height {
    pub(super) at: Indices,
    pub(super) local: u32,
}

impl Height {
    /// A function with a frame of this height begins.
    pub(super) fn enter(self, out: &mut Vec<u8>, frame: u32) {
        get(out, op::GLOBAL_GET, self.at.height());
        i32_const(out, frame as i32);
        out.push(op::I32_SUB);
        get(out, op::LOCAL_TEE, self.local);
        i32_const(out, 0);
        out.extend([op::I32_LT_S, op::IF, op::EMPTY]);
        get(out, op::LOCAL_GET, self.local);
        get(out, op::CALL, self.at.overflow());
        // It does not come back: nothing has to be kept for later.
        out.extend([op::UNREACHABLE, op::END]);
    }

    /// It calls another.
    pub(super) fn flush(self, out: &mut Vec<u8>) {
        get(out, op::LOCAL_GET, self.local);
        get(out, op::GLOBAL_SET, self.at.height());
    }
}

/// The body of a function that calls another, with the same parameters and results: what the host calls in its place. It
/// leaves the height as it was, whatever the other does, and asks for fuel if more was used than there was.
pub(crate) fn wrapper(plan: Plan, at: Indices, index: u32, params: u32) -> Vec<u8> {
    let counter = Counter { fuel: true, kept: false, at, local: params };
    let height = Height { at, local: params + 1 };
    let mut out = vec![2, 1, op::I64, 1, op::I32];
    if plan.height {
        get(&mut out, op::GLOBAL_GET, at.height());
        get(&mut out, op::LOCAL_SET, height.local);
    }
    for param in 0..params {
        get(&mut out, op::LOCAL_GET, param);
    }
    get(&mut out, op::CALL, at.func(index));
    if plan.fuel {
        counter.get(&mut out);
        counter.check(&mut out, 0);
    }
    if plan.height {
        height.flush(&mut out);
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

pub(super) fn get(out: &mut Vec<u8>, opcode: u8, index: u32) {
    out.push(opcode);
    leb128(out, index.into());
}

pub(super) fn i32_const(out: &mut Vec<u8>, value: i32) {
    out.push(op::I32_CONST);
    signed(out, value.into());
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
