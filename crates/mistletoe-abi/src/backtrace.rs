//! The guest's stack where a call failed.

use std::fmt;
use std::sync::Arc;

use mistletoe_module::display::{Count, Shown};
use mistletoe_module::symbols::Symbols;

/// The most functions that are recorded. The default limit on the stack ends a guest far below.
const MAX_RECORDED: usize = 1 << 20;
/// The functions of a backtrace that are not left out: the innermost and the outermost.
const INNERMOST: usize = 64;
const OUTERMOST: usize = 16;
/// The most functions inlined into one whose frames are in a backtrace.
const MAX_INLINED: usize = 16;

/// The functions of a guest that had begun and not returned where a call failed, innermost first.
///
/// [`Error::backtrace`](crate::Error::backtrace) returns it. It is the same on every engine. A backtrace has the frames
/// of the innermost 64 functions and of the outermost 16.
///
/// It displays as one line for each frame. With the feature `serde` it serialises to a list of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Backtrace {
    frames: Vec<Frame>,
}

/// A function in a [`Backtrace`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Frame {
    /// Its index in the module. A function that was inlined has the index of the function that it was inlined into.
    pub function: u32,
    /// Its name, of at most 1,000 bytes: from the debug information, the name section or an export.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none", serialize_with = "shown"))]
    pub name: Option<String>,
    /// Offset in the module of the instruction that failed or that calls the next frame, in bytes.
    pub offset: u32,
    /// The source file, of at most 1,000 bytes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none", serialize_with = "shown"))]
    pub file: Option<String>,
    /// The line in it, counted from 1.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub line: Option<u32>,
    /// The column in it, counted from 1.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub column: Option<u32>,
    /// Whether the function was inlined into that of the following frame.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "std::ops::Not::not"))]
    pub inlined: bool,
    /// The number of functions left out between the previous frame and this one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_zero"))]
    pub omitted: u32,
}

#[cfg(feature = "serde")]
fn shown<S: serde::Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    mistletoe_module::display::beginning(text.as_deref().unwrap_or_default(), serializer)
}

#[cfg(feature = "serde")]
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Backtrace {
    /// Returns the frames, innermost first.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = 0_u64;
        for (i, frame) in self.frames.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            if frame.omitted > 0 {
                writeln!(f, "     ({} more)", Count(frame.omitted))?;
            }
            number += u64::from(frame.omitted);
            write!(f, "{number:>3}: {frame}")?;
            number += 1;
        }
        Ok(())
    }
}

/// The function's name or index, and its place in the source, or else in the module.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}", Shown(name))?,
            None => write!(f, "func[{}]", self.function)?,
        }
        let Some(file) = &self.file else { return write!(f, " (offset {:#x})", self.offset) };
        write!(f, " at {}", Shown(file))?;
        for number in [self.line, self.line.and(self.column)].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        Ok(())
    }
}

/// What an instance's code records of its stack.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// For each function, its index, and the offset at which its caller is.
    frames: Vec<(u32, u32)>,
    symbols: Arc<Symbols>,
}

impl Recorder {
    pub(crate) fn new(symbols: Arc<Symbols>) -> Self {
        Self { frames: Vec::new(), symbols }
    }

    /// Records that a function begins, which a function at the offset `caller` calls. `frames` have begun before.
    ///
    /// What returned since the last call is dropped.
    pub(crate) fn enter(&mut self, function: u32, caller: u32, frames: u32) {
        self.frames.truncate(frames as usize);
        if self.frames.len() == frames as usize && self.frames.len() < MAX_RECORDED {
            self.frames.push((function, caller));
        }
    }

    /// Returns the stack. `position` is the offset in the lower half, and the number of frames in the upper.
    ///
    /// `None` if the guest is not in any function.
    pub(crate) fn backtrace(&self, position: u64) -> Option<Backtrace> {
        let (depth, mut offset) = ((position >> 32) as usize, position as u32);
        let recorded = self.frames.get(..depth).unwrap_or(&self.frames);
        let unknown = depth - recorded.len();
        let mut places = Vec::new();
        let mut omitted = unknown as u32;
        for (inner, &(function, caller)) in recorded.iter().rev().enumerate() {
            let outer = recorded.len() - 1 - inner;
            // Where the innermost recorded function is, only the first one that is not recorded would tell.
            let is_known = unknown == 0 || inner > 0;
            if is_known && (inner < INNERMOST || outer < OUTERMOST) {
                places.push((function, offset, omitted));
                omitted = 0;
            } else {
                omitted += 1;
            }
            offset = caller;
        }
        if places.is_empty() {
            return None;
        }
        let functions: Vec<u32> = places.iter().map(|place| place.0).collect();
        let offsets: Vec<u32> = places.iter().map(|place| place.1).collect();
        let names = self.symbols.names(&functions);
        let locations = self.symbols.locations(&offsets);
        let mut frames = Vec::new();
        for ((function, offset, omitted), mut locations) in places.into_iter().zip(locations) {
            // The outermost is the function itself, the others are inlined into it.
            let own = locations.pop().unwrap_or_default();
            let inlined = locations.into_iter().take(MAX_INLINED).map(|location| (location, true));
            for (i, (location, inlined)) in inlined.chain([(own, false)]).enumerate() {
                let name = location.function.or_else(|| names.get(&function).filter(|_| !inlined).cloned());
                frames.push(Frame {
                    function,
                    name,
                    offset,
                    file: location.file,
                    line: location.line,
                    column: location.column,
                    inlined,
                    omitted: if i == 0 { omitted } else { 0 },
                });
            }
        }
        Some(Backtrace { frames })
    }
}
