//! The instructions that the metering pass injects.

use crate::binary::{ROOM, leb128, op, signed};
use crate::calls::Reserve;
use crate::config::Metering;
use crate::listing::Indices;

/// Where a basic block checks the fuel counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    None,
    Here,
    /// At the end of the [`Edit::Loop`] around it.
    Around,
}

/// Number of structured instructions around a loop.
pub(super) const AROUND: u64 = 3;

/// The fuel counter in a function: a global, or a local.
///
/// A local is loaded from the global at function entry and after calls, and stored there before calls and at function
/// exit. The counter is spent when it is below 0.
#[derive(Clone, Copy)]
pub(super) struct Counter {
    /// Whether the counter is in the local.
    pub(super) kept: bool,
    pub(super) at: Indices,
    pub(super) local: u32,
}

/// The remaining stack depth, while a function runs.
#[derive(Clone, Copy)]
pub(super) struct Height {
    pub(super) at: Indices,
    pub(super) local: u32,
    pub(super) frame: Units,
}

/// Units of the stack that a function takes.
#[derive(Clone, Copy)]
pub(super) enum Units {
    /// Its callers have taken them.
    Reserved,
    Counted(u64),
    /// They are known only when all functions have been read.
    Unknown,
}

/// The record of the stack, in a function.
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub(super) at: Indices,
    /// Holds the number of frames, this function's own included.
    pub(super) local: u32,
}

impl Record {
    /// Begins the function with the index `function`, whose first instruction is at `position`.
    pub(super) fn enter(self, out: &mut Vec<u8>, function: u32, position: u32) {
        u32_const(out, function);
        u32_const(out, position);
        get(out, op::CALL, self.at.entered());
        get(out, op::LOCAL_SET, self.local);
    }

    /// Says that the instruction at `position` runs next.
    pub(super) fn position(self, out: &mut Vec<u8>, position: u32) {
        u32_const(out, position);
        get(out, op::GLOBAL_SET, self.at.position());
    }

    /// Ends what was recorded during the call at `position`. Functions themselves record nothing where they return.
    pub(super) fn returned(self, out: &mut Vec<u8>, position: u32) {
        self.position(out, position);
        get(out, op::LOCAL_GET, self.local);
        get(out, op::GLOBAL_SET, self.at.frames());
    }
}

impl Counter {
    /// Pushes the counter onto the stack.
    fn get(self, out: &mut Vec<u8>) {
        match self.kept {
            true => get(out, op::LOCAL_GET, self.local),
            false => get(out, op::GLOBAL_GET, self.at.fuel()),
        }
    }

    /// Stores the counter that is on the stack.
    fn set(self, out: &mut Vec<u8>) {
        match self.kept {
            true => get(out, op::LOCAL_SET, self.local),
            false => get(out, op::GLOBAL_SET, self.at.fuel()),
        }
    }

    /// Stores the counter, and leaves it on the stack.
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

    /// Begins a function and its first basic block. One check covers the counter and the stack depth.
    ///
    /// Returns the position of the frame in `out`, if the frame is not known yet.
    pub(super) fn enter(self, out: &mut Vec<u8>, charge: u64, check: Check, height: Option<Height>) -> Option<usize> {
        let mut unknown = None;
        let height = height.filter(|height| match height.frame {
            Units::Reserved => {
                height.save(out);
                false
            }
            _ => {
                unknown = height.enter(out);
                true
            }
        });
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
                    // The stack is too deep: no later code needs the counter.
                    out.push(op::UNREACHABLE);
                }
                out.push(op::END);
            }
        }
        unknown
    }

    /// Begins a basic block.
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
                // Leaves the loop, to the end of the block around it.
                get(out, op::BR_IF, 1);
            }
        }
    }

    /// Charges the number in a local times 2^`shift`, rounded down.
    ///
    /// The called function checks whether the counter is spent: many branches in a function are expensive to compile.
    pub(super) fn pay(self, out: &mut Vec<u8>, number: u32, shift: i8) {
        self.get(out);
        get(out, op::LOCAL_GET, number);
        out.push(op::I64_EXTEND_I32_U);
        i64_const(out, shift.unsigned_abs().into());
        out.extend([if shift < 0 { op::I64_SHR_U } else { op::I64_SHL }, op::I64_SUB]);
        self.set(out);
        self.tick(out);
    }

    /// Ticks if the counter on the stack is spent.
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

    /// Opens three structured instructions around a loop of a type without parameters.
    ///
    /// The loop can then tick outside its own body. A call inside the body would make the engine keep the loop's values
    /// where calls preserve them, which is not in registers.
    pub(super) fn around(self, out: &mut Vec<u8>, ty: u8) {
        out.extend([op::BLOCK, ty, op::LOOP, ty, op::BLOCK, op::EMPTY]);
    }

    /// Closes them after the loop, and refunds the charge for the iteration, which begins again.
    pub(super) fn around_end(self, out: &mut Vec<u8>, charge: u64) {
        // The loop's results go to the outermost end.
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
    /// Keeps the remaining depth, to store it before calls.
    fn save(self, out: &mut Vec<u8>) {
        get(out, op::GLOBAL_GET, self.at.height());
        get(out, op::LOCAL_SET, self.local);
    }

    /// Subtracts the frame, and leaves the rest on the stack.
    ///
    /// Returns the position of the frame in `out`, if the frame is not known yet.
    fn enter(self, out: &mut Vec<u8>) -> Option<usize> {
        get(out, op::GLOBAL_GET, self.at.height());
        let mut unknown = None;
        match self.frame {
            Units::Reserved => {}
            Units::Counted(frame) => subtract(out, frame),
            Units::Unknown => {
                out.push(op::I64_CONST);
                unknown = Some(out.len());
                // As a signed number, this is the same: it is below 2^32.
                out.extend(ROOM);
                out.push(op::I64_SUB);
            }
        }
        get(out, op::LOCAL_TEE, self.local);
        unknown
    }

    /// Stores the remaining depth in the global.
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

/// Returns the body of the function that is called when something is spent.
///
/// Its parameter is the remaining stack depth. A separate function keeps all others short.
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

/// Returns the body of a wrapper of a function, with the same parameters and results. The host calls it instead.
///
/// The wrapper takes the reserve of the stack depth, for the frames that do not count where their functions begin. It
/// leaves the stack depth and the record of the stack as they were, whatever the function does, and ticks if more fuel
/// was used than there was.
pub(crate) fn wrapper(metering: Metering, at: Indices, index: u32, params: u32, reserve: Reserve) -> Vec<u8> {
    let recorded = [at.position(), at.frames()].into_iter().zip(params + 1..).filter(|_| metering.backtrace);
    let mut out = if metering.backtrace { vec![2, 1, op::I64, 2, op::I32] } else { vec![1, 1, op::I64] };
    for (global, local) in recorded.clone() {
        get(&mut out, op::GLOBAL_GET, global);
        get(&mut out, op::LOCAL_SET, local);
    }
    let height = Height { at, local: params, frame: Units::Reserved };
    if metering.height {
        height.save(&mut out);
        if reserve.units != 0 {
            let rest = |out: &mut Vec<u8>| {
                get(out, op::LOCAL_GET, height.local);
                subtract(out, reserve.units.into());
            };
            get(&mut out, op::LOCAL_GET, height.local);
            i64_const(&mut out, reserve.units.into());
            out.extend([op::I64_LT_S, op::IF, op::EMPTY]);
            rest(&mut out);
            get(&mut out, op::CALL, at.slow());
            out.extend([op::UNREACHABLE, op::END]);
            if reserve.reads {
                rest(&mut out);
                get(&mut out, op::GLOBAL_SET, at.height());
            }
        }
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
    if metering.height && reserve.reads {
        height.flush(&mut out);
    }
    for (global, local) in recorded {
        get(&mut out, op::LOCAL_GET, local);
        get(&mut out, op::GLOBAL_SET, global);
    }
    out.push(op::END);
    out
}

/// Returns the body of a function that is called where a function begins, if the stack is recorded.
///
/// Its parameters are the index of the function that begins, and its position. The result is the number of frames with
/// the new one. The position so far is that of the caller.
pub(crate) fn entered(at: Indices) -> Vec<u8> {
    let mut out = vec![0];
    get(&mut out, op::LOCAL_GET, 0);
    get(&mut out, op::GLOBAL_GET, at.position());
    get(&mut out, op::GLOBAL_GET, at.frames());
    get(&mut out, op::CALL, at.enter());
    // Nothing is changed before the host knows the frame: the call itself may exhaust the engine's stack.
    get(&mut out, op::LOCAL_GET, 1);
    get(&mut out, op::GLOBAL_SET, at.position());
    get(&mut out, op::GLOBAL_GET, at.frames());
    i32_const(&mut out, 1);
    out.push(op::I32_ADD);
    get(&mut out, op::LOCAL_TEE, 0);
    get(&mut out, op::GLOBAL_SET, at.frames());
    get(&mut out, op::LOCAL_GET, 0);
    out.push(op::END);
    out
}

/// Returns the body of a function that returns the position in the lower half and the number of frames in the upper.
pub(crate) fn position(at: Indices) -> Vec<u8> {
    let mut out = vec![0];
    get(&mut out, op::GLOBAL_GET, at.position());
    out.push(op::I64_EXTEND_I32_U);
    get(&mut out, op::GLOBAL_GET, at.frames());
    out.push(op::I64_EXTEND_I32_U);
    i64_const(&mut out, 32);
    out.extend([op::I64_SHL, op::I64_OR, op::END]);
    out
}

/// Returns the body of a function that returns the fuel counter.
pub(crate) fn fuel(at: Indices) -> Vec<u8> {
    let mut out = vec![0];
    get(&mut out, op::GLOBAL_GET, at.fuel());
    out.push(op::END);
    out
}

/// Returns the body of a function that restores the whole stack depth, and removes all frames from the record.
pub(crate) fn unwind(metering: Metering, at: Indices, height: u32) -> Vec<u8> {
    let mut out = vec![0];
    i64_const(&mut out, height.into());
    get(&mut out, op::GLOBAL_SET, at.height());
    if metering.backtrace {
        i32_const(&mut out, 0);
        get(&mut out, op::GLOBAL_SET, at.frames());
    }
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

fn u32_const(out: &mut Vec<u8>, value: u32) {
    i32_const(out, value.cast_signed());
}

fn i64_const(out: &mut Vec<u8>, value: i64) {
    out.push(op::I64_CONST);
    signed(out, value);
}
