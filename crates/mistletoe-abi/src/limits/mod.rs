//! What a host allows a guest.

pub(crate) mod budget;

use std::time::Duration;

use crate::error::{ErrorKind, Region, Result};
use crate::module::Config;
use crate::module::declared::{MAX_FRAME_HEIGHT, MAX_PAGES, MAX_TABLE_ELEMENTS, PAGE};

/// How high the stack may become by default.
const STACK: u32 = 1 << 21;

/// Bytes of stack that an engine's compiled code must have, so that a [limit on the stack](Limits::stack) no higher than
/// the default is reached first: 16 for each unit of the limit and of the highest single function, and 2 MiB for host
/// functions that call back.
pub const ENGINE_STACK: usize = 16 * (STACK as usize + MAX_FRAME_HEIGHT as usize) + (2 << 20);

/// Limits of a guest, the same on every engine; `docs/metering.md` defines the units. [`Limits::default`] lets no guest
/// hang or exhaust its host. A limit that is reached ends the session, as a trap does.
///
/// ```
/// use std::time::Duration;
///
/// use mistletoe_abi::Limits;
///
/// let limits = Limits::default().timeout(Duration::from_secs(2)).fuel(50_000_000);
/// ```
///
/// Limits on memory, time, fuel and the stack are put into a module's code before an engine gets it. Where there is none
/// of them ([`Limits::unlimited`]) nothing is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that the memory may have, in whole pages of 64 KiB; 256 MiB by default. More than 4 GiB mean 4 GiB. A module
    /// that starts with more is refused with [`TooMuchMemory`](crate::module::ErrorKind::TooMuchMemory), and `memory.grow` beyond
    /// answers -1.
    pub memory: Option<u64>,
    /// How long a call may take; 10 seconds by default. Then the guest is ended with
    /// [`TimedOut`](crate::ErrorKind::TimedOut). Opening a session is a call of its own.
    pub timeout: Option<Duration>,
    /// How much fuel a call may use; by default fuel is neither counted nor limited. Then the guest is ended with
    /// [`OutOfFuel`](crate::ErrorKind::OutOfFuel). Opening a session is a call of its own. `u64::MAX` counts without a
    /// limit.
    pub fuel: Option<u64>,
    /// How high the stack may become: 2,097,152 by default. A function that has not returned takes 8, 1 for each value that it
    /// has room for, and more for what it computes (`docs/metering.md`). Beyond, the guest is ended with
    /// [`TooDeep`](crate::ErrorKind::TooDeep). Where it is not limited, or higher than this, the engine's own stack ends a
    /// recursion, at a depth of the engine's.
    pub stack: Option<u32>,
    /// Elements that a table may have, 1,000,000 by default and at most. A module that starts with more is refused with
    /// [`TooMany`](crate::module::ErrorKind::TooMany), and `table.grow` beyond answers -1.
    pub table_elements: u64,
    /// Length in bytes that a module may have; 256 MiB by default. A longer one is refused with
    /// [`TooLarge`](crate::module::ErrorKind::TooLarge), before it is read.
    pub max_module: u64,
    /// Length in bytes that an input may have; 64 MiB by default. A longer one is
    /// [`TooLong`](crate::ErrorKind::TooLong), and the session goes on.
    pub max_input: u64,
    /// Length in bytes that an output or info may have; 64 MiB by default. A longer one is
    /// [`TooLong`](crate::ErrorKind::TooLong).
    pub max_output: u64,
}

impl Limits {
    /// No limits at all but for those that every module has (rule 13), and what an input or output can be: 4 GiB - 1 byte.
    pub fn unlimited() -> Self {
        Self {
            memory: None,
            timeout: None,
            fuel: None,
            stack: None,
            table_elements: MAX_TABLE_ELEMENTS,
            max_module: u64::MAX,
            max_input: u32::MAX.into(),
            max_output: u32::MAX.into(),
        }
    }

    /// These limits with another one for memory, in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.memory = bytes.into();
        self
    }

    /// These limits with another one for the time of a call.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// These limits with another one for the fuel of a call.
    #[must_use]
    pub fn fuel(mut self, fuel: impl Into<Option<u64>>) -> Self {
        self.fuel = fuel.into();
        self
    }

    /// These limits with another one for the height of the stack.
    #[must_use]
    pub fn stack(mut self, height: impl Into<Option<u32>>) -> Self {
        self.stack = height.into();
        self
    }

    /// These limits with another one for the elements of a table.
    #[must_use]
    pub fn table_elements(mut self, elements: u64) -> Self {
        self.table_elements = elements;
        self
    }

    /// These limits with another maximum for modules, in bytes.
    #[must_use]
    pub fn max_module(mut self, bytes: u64) -> Self {
        self.max_module = bytes;
        self
    }

    /// These limits with another maximum for inputs, in bytes.
    #[must_use]
    pub fn max_input(mut self, bytes: u64) -> Self {
        self.max_input = bytes;
        self
    }

    /// These limits with another maximum for outputs, in bytes.
    #[must_use]
    pub fn max_output(mut self, bytes: u64) -> Self {
        self.max_output = bytes;
        self
    }

    /// Refuses limits that code does not keep which was made for `compiled`.
    pub(crate) fn fit(&self, compiled: &Self) -> Result<()> {
        let fixed = [
            ("memory", self.memory == compiled.memory),
            ("timeout", self.timeout.is_none() || compiled.timeout.is_some() || compiled.fuel.is_some()),
            ("fuel", self.fuel.is_none() || compiled.fuel.is_some()),
            ("stack", self.stack == compiled.stack),
            ("table_elements", self.table_elements == compiled.table_elements),
            ("max_module", self.max_module == compiled.max_module),
        ];
        match fixed.iter().find(|(_, fits)| !fits) {
            Some((limit, _)) => Err(ErrorKind::FixedLimit { limit }.into()),
            None => Ok(()),
        }
    }

    /// Refuses an input of more bytes than are allowed.
    #[inline]
    pub(crate) fn input(&self, length: usize) -> Result<()> {
        let (length, limit) = (length as u64, self.max_input.min(u32::MAX.into()));
        if length > limit { Err(ErrorKind::TooLong { region: Region::Input, length, limit }.into()) } else { Ok(()) }
    }

    /// What is put into a module so that it keeps them.
    pub(crate) fn config(&self) -> Config {
        Config::default()
            .fuel(self.fuel.is_some())
            .deadline(self.timeout.is_some())
            .stack(self.stack)
            .memory_pages(self.memory.map(|bytes| (bytes / PAGE).min(MAX_PAGES)))
            .table_elements(self.table_elements)
            .max_length(self.max_module)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Some(256 << 20),
            timeout: Some(Duration::from_secs(10)),
            fuel: None,
            stack: Some(STACK),
            table_elements: MAX_TABLE_ELEMENTS,
            max_module: 256 << 20,
            max_input: 64 << 20,
            max_output: 64 << 20,
        }
    }
}
