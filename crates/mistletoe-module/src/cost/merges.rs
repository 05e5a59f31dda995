//! How often a compiler has to merge the values of a function's locals, where several ways lead to one place: engines
//! were seen to take time in proportion to the square of that.

/// Counts, while a function is read, what a compiler that turns locals into values would count: where a local is used,
/// one merge for each structured instruction that it was set in and that has ended since, and one for each loop that
/// has begun since; and where a loop ends, those of the locals that its next turn begins with.
#[derive(Debug, Default)]
pub(super) struct Merges {
    locals: Vec<Local>,
    frames: Vec<Frame>,
    /// The innermost frame's number.
    top: u32,
    /// What loops begin with: a local, and the next one of the same loop behind 1 more than its index here, or 0.
    carried: Vec<(u32, u32)>,
    /// How many frames were opened.
    opened: u32,
    used: u64,
}

/// Where a local was last set or used.
#[derive(Clone, Copy, Debug, Default)]
struct Local {
    /// How many frames were open around the innermost one, and which it was.
    depth: u32,
    frame: u32,
    /// Merges of values that it had before.
    pending: u32,
}

/// A structured instruction that is open.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    /// How many frames were opened before it.
    number: u32,
    /// How many of those that are open are loops, itself among them.
    loops: u32,
    is_loop: bool,
    /// The first of what it begins with, as in [`Merges::carried`].
    carried: u32,
}

impl Merges {
    /// A function begins with so many parameters and locals.
    pub(super) fn begin(&mut self, locals: usize) {
        self.locals.clear();
        self.locals.resize(locals, Local::default());
        self.frames.clear();
        self.carried.clear();
        (self.opened, self.used) = (0, 0);
        self.open(false);
    }

    /// How many merges there were so far.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn open(&mut self, is_loop: bool) {
        let loops = self.frames.last().map_or(0, |frame| frame.loops) + u32::from(is_loop);
        self.frames.push(Frame { number: self.opened, loops, is_loop, carried: 0 });
        self.top = self.opened;
        self.opened += 1;
    }

    pub(super) fn end(&mut self) {
        let Some(frame) = self.frames.last().copied() else { return };
        let mut next = frame.carried;
        while let Some((local, behind)) = (next as usize).checked_sub(1).and_then(|i| self.carried.get(i)).copied() {
            next = behind;
            self.get(local);
        }
        self.frames.pop();
        self.top = self.frames.last().map_or(0, |frame| frame.number);
    }

    #[inline]
    pub(super) fn set(&mut self, local: u32) {
        if let Some(state) = self.locals.get_mut(local as usize)
            && state.frame != self.top
        {
            let common = common(&self.frames, state);
            state.pending = state.pending.saturating_add(state.depth - common as u32);
            (state.depth, state.frame) = (self.frames.len() as u32 - 1, self.top);
        }
    }

    /// Whether there were any.
    #[inline]
    pub(super) fn get(&mut self, local: u32) -> bool {
        match self.locals.get(local as usize) {
            Some(state) if state.frame != self.top || state.pending != 0 => {
                self.merge(local);
                true
            }
            _ => false,
        }
    }

    /// An instruction accesses a table so many times: where elements are made when they are first read, there are two
    /// ways to each. Two merges are what an access was measured to cost.
    pub(super) fn access_table(&mut self, times: u64) {
        self.used += 2 * times;
    }

    fn merge(&mut self, local: u32) {
        let (Some(top), Some(state)) = (self.frames.last(), self.locals.get_mut(local as usize)) else { return };
        let common = common(&self.frames, state);
        let begun = top.loops - self.frames.get(common).map_or(0, |frame| frame.loops);
        self.used += u64::from(state.pending) + u64::from(state.depth - common as u32) + u64::from(begun);
        *state = Local { depth: self.frames.len() as u32 - 1, frame: top.number, pending: 0 };
        if begun != 0 {
            for frame in self.frames.iter_mut().skip(common + 1).filter(|frame| frame.is_loop) {
                self.carried.push((local, frame.carried));
                frame.carried = self.carried.len() as u32;
            }
        }
    }
}

/// The innermost of the open frames that was open already where a local was last set or used.
fn common(frames: &[Frame], local: &Local) -> usize {
    let opened = |frame: &Frame| frame.number <= local.frame;
    // No deeper than it was there, and mostly not much less deep.
    let most = (local.depth as usize).min(frames.len().saturating_sub(1));
    for depth in (most.saturating_sub(3)..=most).rev() {
        if frames.get(depth).is_some_and(opened) {
            return depth;
        }
    }
    frames.get(..most).unwrap_or_default().partition_point(opened).saturating_sub(1)
}
