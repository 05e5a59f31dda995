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
    /// The path of the source file, of at most 100 characters. Of a longer path, the end is kept.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The function, the offset and the number of functions left out of each frame.
    fn frames(recorder: &Recorder, position: u32, depth: usize) -> Vec<(u32, u32, u32)> {
        let backtrace = recorder.backtrace((depth as u64) << 32 | u64::from(position));
        let frames = backtrace.map(|backtrace| backtrace.frames).unwrap_or_default();
        frames.iter().map(|frame| (frame.function, frame.offset, frame.omitted)).collect()
    }

    #[test]
    fn what_has_returned_has_no_frame() {
        let mut recorder = Recorder::new(Arc::default());
        assert_eq!(frames(&recorder, 7, 0), []);
        recorder.enter(1, 0, 0);
        recorder.enter(2, 10, 1);
        recorder.enter(3, 20, 2);
        assert_eq!(frames(&recorder, 30, 3), [(3, 30, 0), (2, 20, 0), (1, 10, 0)]);
        // 3 and 2 have returned, which only the number says, and then 1 has called 4.
        assert_eq!(frames(&recorder, 11, 1), [(1, 11, 0)]);
        recorder.enter(4, 12, 1);
        assert_eq!(frames(&recorder, 40, 2), [(4, 40, 0), (1, 12, 0)]);
    }

    #[test]
    fn the_innermost_and_the_outermost_of_a_deep_stack_have_frames() {
        let mut recorder = Recorder::new(Arc::default());
        (0..81).for_each(|i| recorder.enter(i, 100 + i, i));
        let found = frames(&recorder, 1, 81);
        assert_eq!(found.len(), 80);
        assert_eq!(found.first(), Some(&(80, 1, 0)));
        // One is left out between these: the 17th from the outside.
        assert_eq!(found.get(63..65), Some(&[(17, 118, 0), (15, 116, 1)][..]));
        assert_eq!(found.last(), Some(&(0, 101, 0)));
    }

    #[test]
    fn of_more_functions_than_are_recorded_the_innermost_are_left_out() {
        let mut recorder = Recorder::new(Arc::default());
        let deep = MAX_RECORDED as u32 + 10;
        (0..deep).for_each(|i| recorder.enter(i, 0, i));
        assert_eq!(recorder.frames.len(), MAX_RECORDED);
        let found = frames(&recorder, 1, deep as usize);
        // The 10 that are not recorded, and the last that is: where it is, is not known.
        assert_eq!(found.first(), Some(&(MAX_RECORDED as u32 - 2, 0, 11)));
        let all: u32 = found.iter().map(|(_, _, omitted)| 1 + omitted).sum();
        assert_eq!(all, deep);
        // After they have returned, all is known again.
        assert_eq!(frames(&recorder, 1, 5).len(), 5);
    }

    #[test]
    fn a_frame_is_one_line() {
        let frame = Frame {
            function: 12,
            name: None,
            offset: 0x1a2,
            file: None,
            line: None,
            column: None,
            inlined: false,
            omitted: 0,
        };
        assert_eq!(frame.to_string(), "func[12] (offset 0x1a2)");
        let named = Frame { name: Some("a\nb".to_owned()), file: Some("src/\x1b.rs".to_owned()), ..frame.clone() };
        assert_eq!(named.to_string(), "a\\nb at src/\\u{1b}.rs");
        let placed = Frame { line: Some(12), column: Some(5), ..named };
        assert_eq!(placed.to_string(), "a\\nb at src/\\u{1b}.rs:12:5");
        let backtrace = Backtrace { frames: vec![frame.clone(), Frame { omitted: 5_878, ..frame }] };
        let lines = "  0: func[12] (offset 0x1a2)\n     (5,878 more)\n5879: func[12] (offset 0x1a2)";
        assert_eq!(backtrace.to_string(), lines);
    }
}
