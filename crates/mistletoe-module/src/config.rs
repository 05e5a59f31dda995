//! How a module is instrumented.

use crate::declared::{MAX_PAGES, MAX_TABLE_ELEMENTS};

/// What a module is instrumented with: see [`instrument`](crate::instrument).
///
/// By default a module gets only the changes that every module gets.
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
    /// Whether the guest regularly calls [`TICK`](crate::TICK), so that the host can terminate it.
    ///
    /// With `fuel` it always does.
    pub deadline: bool,
    /// Maximum stack depth, in units.
    pub stack: Option<u32>,
    /// Whether the guest's stack is recorded: the functions that have begun and not returned, and where each of them is.
    ///
    /// The host gets it through [`ENTER`](crate::ENTER) and [`InternalExports::position`](crate::InternalExports).
    /// What is counted stays the same.
    pub backtrace: bool,
    /// Maximum size of the memory, in pages of 64 KiB. Values above 65,536 count as 65,536.
    pub memory_pages: Option<u64>,
    /// Maximum number of elements of a table.
    ///
    /// [`MAX_TABLE_ELEMENTS`](crate::declared::MAX_TABLE_ELEMENTS) is the default and the upper bound.
    pub table_elements: u64,
    /// Maximum length of the module, in bytes.
    pub max_length: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fuel: false,
            deadline: false,
            stack: None,
            backtrace: false,
            memory_pages: None,
            table_elements: MAX_TABLE_ELEMENTS,
            max_length: u64::MAX,
        }
    }
}

impl Config {
    /// Sets whether fuel is counted.
    #[must_use]
    pub fn fuel(mut self, count: bool) -> Self {
        self.fuel = count;
        self
    }

    /// Sets whether the guest regularly calls [`TICK`](crate::TICK).
    #[must_use]
    pub fn deadline(mut self, look: bool) -> Self {
        self.deadline = look;
        self
    }

    /// Sets the maximum stack depth, in units.
    #[must_use]
    pub fn stack(mut self, units: impl Into<Option<u32>>) -> Self {
        self.stack = units.into();
        self
    }

    /// Sets whether the guest's stack is recorded.
    #[must_use]
    pub fn backtrace(mut self, record: bool) -> Self {
        self.backtrace = record;
        self
    }

    /// Sets the maximum size of the memory, in pages of 64 KiB.
    #[must_use]
    pub fn memory_pages(mut self, pages: impl Into<Option<u64>>) -> Self {
        self.memory_pages = pages.into();
        self
    }

    /// Sets the maximum number of elements of a table.
    #[must_use]
    pub fn table_elements(mut self, elements: u64) -> Self {
        self.table_elements = elements.min(MAX_TABLE_ELEMENTS);
        self
    }

    /// Sets the maximum length of the module, in bytes.
    #[must_use]
    pub fn max_length(mut self, bytes: u64) -> Self {
        self.max_length = bytes;
        self
    }

    /// Returns whether functions are instrumented.
    ///
    /// The module then imports [`TICK`](crate::TICK) and [`OVERFLOW`](crate::OVERFLOW), and [`ENTER`](crate::ENTER) if
    /// the stack is recorded.
    pub fn is_metered(&self) -> bool {
        self.metering().is_anything()
    }

    /// Returns the configuration, reduced to what a valid module can have.
    pub(crate) fn clamped(&self) -> Self {
        Self {
            memory_pages: self.memory_pages.map(|pages| pages.min(MAX_PAGES)),
            table_elements: self.table_elements.min(MAX_TABLE_ELEMENTS),
            ..*self
        }
    }

    pub(crate) fn metering(&self) -> Metering {
        Metering {
            fuel: self.fuel,
            ticks: self.fuel || self.deadline,
            height: self.stack.is_some(),
            backtrace: self.backtrace,
        }
    }

    /// Returns the stack depth that is available at the start.
    pub(crate) fn height(&self) -> u32 {
        self.stack.unwrap_or_default()
    }
}

/// What functions are instrumented with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metering {
    /// Every instruction. Without it, loops and calls are counted for the deadline only.
    pub(crate) fuel: bool,
    /// Whether something terminates a guest that does not end by itself: `fuel`, or a deadline.
    pub(crate) ticks: bool,
    /// The stack depth is counted.
    pub(crate) height: bool,
    /// The stack is recorded.
    pub(crate) backtrace: bool,
}

impl Metering {
    /// Returns whether functions are instrumented.
    pub(crate) fn is_anything(self) -> bool {
        self.counts() || self.backtrace
    }

    /// Returns whether functions count something.
    pub(crate) fn counts(self) -> bool {
        self.ticks || self.height
    }
}
