//! What is put into a module.

use crate::declared::{MAX_PAGES, MAX_TABLE_ELEMENTS};

/// What is put into a module: [`instrument`](crate::instrument) says how. By default nothing is but what every module
/// gets.
///
/// ```
/// use mistletoe_module::Config;
///
/// let config = Config::default().fuel(true).stack(100_000).memory_pages(160);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// Whether fuel is counted: each instruction, and what bulk operations move.
    pub fuel: bool,
    /// Whether the guest looks up from time to time, so that the host can end it: it calls [`TICK`](crate::TICK). With
    /// `fuel` it does in any case.
    pub deadline: bool,
    /// How high the stack may become, in units.
    pub stack: Option<u32>,
    /// How many pages of 64 KiB the memory may have; more than 65,536 mean as many.
    pub memory_pages: Option<u64>,
    /// How many elements a table may have; [`MAX_TABLE_ELEMENTS`](crate::declared::MAX_TABLE_ELEMENTS) by default and
    /// at most.
    pub table_elements: u64,
    /// How many bytes the module may have.
    pub max_length: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fuel: false,
            deadline: false,
            stack: None,
            memory_pages: None,
            table_elements: MAX_TABLE_ELEMENTS,
            max_length: u64::MAX,
        }
    }
}

impl Config {
    /// Whether fuel is counted.
    #[must_use]
    pub fn fuel(mut self, count: bool) -> Self {
        self.fuel = count;
        self
    }

    /// Whether the guest looks up from time to time.
    #[must_use]
    pub fn deadline(mut self, look: bool) -> Self {
        self.deadline = look;
        self
    }

    /// How high the stack may become.
    #[must_use]
    pub fn stack(mut self, units: impl Into<Option<u32>>) -> Self {
        self.stack = units.into();
        self
    }

    /// How many pages the memory may have.
    #[must_use]
    pub fn memory_pages(mut self, pages: impl Into<Option<u64>>) -> Self {
        self.memory_pages = pages.into();
        self
    }

    /// How many elements a table may have.
    #[must_use]
    pub fn table_elements(mut self, elements: u64) -> Self {
        self.table_elements = elements.min(MAX_TABLE_ELEMENTS);
        self
    }

    /// How many bytes the module may have.
    #[must_use]
    pub fn max_length(mut self, bytes: u64) -> Self {
        self.max_length = bytes;
        self
    }

    /// Whether code is put into functions, which calls [`TICK`](crate::TICK) and [`OVERFLOW`](crate::OVERFLOW).
    pub fn is_metered(&self) -> bool {
        self.metering().is_anything()
    }

    /// No more than a valid module can have.
    pub(crate) fn clamped(&self) -> Self {
        Self {
            memory_pages: self.memory_pages.map(|pages| pages.min(MAX_PAGES)),
            table_elements: self.table_elements.min(MAX_TABLE_ELEMENTS),
            ..*self
        }
    }

    pub(crate) fn metering(&self) -> Metering {
        Metering { fuel: self.fuel, ticks: self.fuel || self.deadline, height: self.stack.is_some() }
    }

    /// The height at the beginning.
    pub(crate) fn height(&self) -> u32 {
        self.stack.unwrap_or_default()
    }
}

/// What is to be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metering {
    /// Every instruction. Without it, loops and calls are counted for the deadline alone.
    pub(crate) fuel: bool,
    /// Something ends a guest that does not end by itself: `fuel`, or a deadline.
    pub(crate) ticks: bool,
    /// The height of the stack.
    pub(crate) height: bool,
}

impl Metering {
    /// Whether anything is counted.
    pub(crate) fn is_anything(self) -> bool {
        self.ticks || self.height
    }
}
