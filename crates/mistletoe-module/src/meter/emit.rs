//! The instructions that the pass puts in.

use crate::binary::{leb128, op, signed};
use crate::config::Metering;
use crate::listing::Indices;

/// Where a run that begins looks at what is left of the fuel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    None,
    Here,
    /// At the end of the [`Edit::Loop`] around it.
    Around,
}

/// How many structured instructions are put around a loop.
pub(super) const AROUND: u64 = 3;

/// How a function counts: in the global, or in a local, which it takes from the global when it begins and after calls,
/// and brings back there before calls and when it ends. The count is spent when it is below 0.
#[derive(Clone, Copy)]
pub(super) struct Counter {
    /// Whether the count is kept in the local.
    pub(super) kept: bool,
    pub(super) at: Indices,
    pub(super) local: u32,
}

/// The height of the stack that is left, while a function runs.
#[derive(Clone, Copy)]
pub(super) struct Height {
    pub(super) at: Indices,
    pub(super) local: u32,
    /// What the function takes of it.
    pub(super) frame: u64,
}

impl Counter {
    /// Puts the count onto the stack.
    fn get(self, out: &mut Vec<u8>) {
        match self.kept {
            true => get(out, op::LOCAL_GET, self.local),
            false => get(out, op::GLOBAL_GET, self.at.fuel()),
        }
    }

    /// Keeps the count that is on the stack.
    fn set(self, out: &mut Vec<u8>) {
        match self.kept {
            true => get(out, op::LOCAL_SET, self.local),
            false => get(out, op::GLOBAL_SET, self.at.fuel()),
        }
    }

    /// Keeps it, and leaves it there.
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

    /// A function begins, and with it a run. One look is enough for the count and the height.
    pub(super) fn enter(self, out: &mut Vec<u8>, charge: u64, check: Check, height: Option<Height>) {
        if let Some(height) = height {
            height.enter(out);
        }
        let looks = check != Check::None;
        if charge != 0 || looks {
            get(out, op::GLOBAL_GET, self.at.fuel());
            subtract(out, charge);
            if looks {
                self.tee(out);
            } else {
                self.set(out);
            }
        } else {
            self.reload(out);
        }
        match height {
            None if looks => self.check(out),
            None => {}
            Some(height) => {
                if looks {
                    out.push(op::I64_OR);
                }
                spent(out);
                out.extend([op::IF, op::EMPTY]);
                self.flush(out);
                get(out, op::LOCAL_GET, height.local);
                get(out, op::CALL, self.at.slow());
                if looks {
                    self.reload(out);
                } else {
                    // The stack is too high: nothing has to be kept for later.
                    out.push(op::UNREACHABLE);
                }
                out.push(op::END);
            }
        }
    }

    /// A run of instructions begins.
    pub(super) fn run(self, out: &mut Vec<u8>, charge: u64, check: Check) {
        if charge == 0 && check == Check::None {
            return;
        }
        self.get(out);
        subtract(out, charge);
        match check {
            Check::None => self.set(out),
            Check::Here => {
                self.tee(out);
                self.check(out);
            }
            Check::Around => {
                self.tee(out);
                spent(out);
                // Out of the loop, to the end of the block around it.
                get(out, op::BR_IF, 1);
            }
        }
    }

    /// Pays for the number in a local: 2 to the power of `shift` for each, or for a negative one a fraction. Whether
    /// that was too much is left to what is called: many branches in a function are dear to compile.
    pub(super) fn pay(self, out: &mut Vec<u8>, number: u32, shift: i8) {
        self.get(out);
        get(out, op::LOCAL_GET, number);
        out.push(op::I64_EXTEND_I32_U);
        i64_const(out, shift.unsigned_abs().into());
        out.extend([if shift < 0 { op::I64_SHR_U } else { op::I64_SHL }, op::I64_SUB]);
        self.set(out);
        self.tick(out);
    }

    /// Ticks if the count on the stack is spent.
    fn check(self, out: &mut Vec<u8>) {
        spent(out);
        out.extend([op::IF, op::EMPTY]);
        self.tick(out);
        out.push(op::END);
    }

    fn tick(self, out: &mut Vec<u8>) {
        self.flush(out);
        i64_const(out, 0);
        get(out, op::CALL, self.at.slow());
        self.reload(out);
    }

    /// In front of a loop of a type without parameters: three structured instructions around it, so that it can tick
    /// outside of its own body. A call in there would have the engine keep the loop's values where calls leave them
    /// alone, which is not in registers.
    pub(super) fn around(self, out: &mut Vec<u8>, ty: u8) {
        out.extend([op::BLOCK, ty, op::LOOP, ty, op::BLOCK, op::EMPTY]);
    }

    /// Behind it. What was charged for the turn is given back, since it begins once more.
    pub(super) fn around_end(self, out: &mut Vec<u8>, charge: u64) {
        // Its results go to the outermost end.
        get(out, op::BR, 2);
        out.push(op::END);
        self.tick(out);
        if charge != 0 {
            self.get(out);
            i64_const(out, charge as i64);
            out.push(op::I64_ADD);
            self.set(out);
        }
        get(out, op::BR, 0);
        out.extend([op::END, op::END]);
    }
}

impl Height {
    /// Takes the frame away, and leaves on the stack what is left.
    fn enter(self, out: &mut Vec<u8>) {
        get(out, op::GLOBAL_GET, self.at.height());
        subtract(out, self.frame);
        get(out, op::LOCAL_TEE, self.local);
    }

    /// The function calls another.
    pub(super) fn flush(self, out: &mut Vec<u8>) {
        get(out, op::LOCAL_GET, self.local);
        get(out, op::GLOBAL_SET, self.at.height());
    }
}

fn subtract(out: &mut Vec<u8>, charge: u64) {
    if charge != 0 {
        i64_const(out, charge as i64);
        out.push(op::I64_SUB);
    }
}

fn spent(out: &mut Vec<u8>) {
    i64_const(out, 0);
    out.push(op::I64_LT_S);
}

/// The body of the function that is called where something is spent, with the height that is left: in one place, so
/// that all others are short.
pub(crate) fn slow(at: Indices) -> Vec<u8> {
    let mut out = vec![0];
    get(&mut out, op::LOCAL_GET, 0);
    spent(&mut out);
    out.extend([op::IF, op::EMPTY]);
    get(&mut out, op::LOCAL_GET, 0);
    get(&mut out, op::CALL, at.overflow());
    out.push(op::END);
    get(&mut out, op::GLOBAL_GET, at.fuel());
    spent(&mut out);
    out.extend([op::IF, op::EMPTY]);
    get(&mut out, op::GLOBAL_GET, at.fuel());
    get(&mut out, op::CALL, at.tick());
    get(&mut out, op::GLOBAL_SET, at.fuel());
    out.extend([op::END, op::END]);
    out
}

/// The body of a function that calls another, with the same parameters and results: what the host calls in its place.
/// It leaves the height as it was, whatever the other does, and asks for fuel if more was used than there was.
pub(crate) fn wrapper(metering: Metering, at: Indices, index: u32, params: u32) -> Vec<u8> {
    let mut out = vec![1, 1, op::I64];
    let height = Height { at, local: params, frame: 0 };
    if metering.height {
        height.enter(&mut out);
        out.push(op::DROP);
    }
    for param in 0..params {
        get(&mut out, op::LOCAL_GET, param);
    }
    get(&mut out, op::CALL, at.func(index));
    if metering.fuel {
        let counter = Counter { kept: false, at, local: params };
        counter.get(&mut out);
        counter.check(&mut out);
    }
    if metering.height {
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

/// The body of a function that has all of the stack left again.
pub(crate) fn unwind(at: Indices, height: u32) -> Vec<u8> {
    let mut out = vec![0];
    i64_const(&mut out, height.into());
    get(&mut out, op::GLOBAL_SET, at.height());
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

fn i64_const(out: &mut Vec<u8>, value: i64) {
    out.push(op::I64_CONST);
    signed(out, value);
}
