//! Counts how often a compiler merges the values of a function's locals, where several paths lead to one place.
//!
//! Engines were observed to take time in proportion to the square of that count.

/// Counts, while a function is read, what a compiler that turns locals into values merges.
///
/// The use of a local counts one merge for each structured instruction that the local was last set or used in and that
/// has ended since, and one for each loop that has begun since. The end of a loop uses the locals that its next
/// iteration begins with.
#[derive(Debug, Default)]
pub(super) struct Merges {
    locals: Vec<Local>,
    frames: Vec<Frame>,
    /// The number of the innermost frame.
    top: u32,
    /// Linked lists of what loops begin with: a local, and the index of the loop's next entry plus 1, or 0 at the end.
    carried: Vec<(u32, u32)>,
    /// Number of frames opened so far.
    opened: u32,
    used: u64,
}

/// Where a local was last set or used.
#[derive(Clone, Copy, Debug, Default)]
struct Local {
    /// Number of open frames around the innermost one, and the number of the innermost one.
    depth: u32,
    frame: u32,
    /// Merges of values that it had before.
    pending: u32,
}

/// An open structured instruction.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    /// Number of frames opened before it.
    number: u32,
    /// Number of open loops, itself included.
    loops: u32,
    is_loop: bool,
    /// The first entry of its list, as in [`Merges::carried`].
    carried: u32,
}

impl Merges {
    /// Begins a function with `locals` parameters and locals.
    pub(super) fn begin(&mut self, locals: usize) {
        self.locals.clear();
        self.locals.resize(locals, Local::default());
        self.frames.clear();
        self.carried.clear();
        (self.opened, self.used) = (0, 0);
        self.open(false);
    }

    /// Returns the number of merges so far.
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

    /// Uses a local, and returns whether this can have added merges.
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

    /// Counts `times` accesses to a table by an instruction.
    ///
    /// If elements are created when they are first read, there are two paths to each. An access was measured to cost as
    /// much as two merges.
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

/// Returns the innermost open frame that was already open when a local was last set or used.
fn common(frames: &[Frame], local: &Local) -> usize {
    let opened = |frame: &Frame| frame.number <= local.frame;
    // At most as deep as the local was, and mostly not much less.
    let most = (local.depth as usize).min(frames.len().saturating_sub(1));
    for depth in (most.saturating_sub(3)..=most).rev() {
        if frames.get(depth).is_some_and(opened) {
            return depth;
        }
    }
    frames.get(..most).unwrap_or_default().partition_point(opened).saturating_sub(1)
}
