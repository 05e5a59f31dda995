//! What a host allows a guest.

pub(crate) mod budget;

use std::time::Duration;

use crate::error::{ErrorKind, Region, Result};
use crate::module::Config;
use crate::module::declared::{MAX_FRAME_HEIGHT, MAX_PAGES, MAX_TABLE_ELEMENTS, PAGE};

/// How high the stack may become by default.
const STACK: u32 = 1 << 21;

/// Bytes of stack that an engine's compiled code must have, so that a [limit on the stack](Limits::stack) no higher
/// than the default is reached first: 16 for each unit of the limit and of the highest single function, and 2 MiB for
/// host functions that call back.
pub const ENGINE_STACK: usize = 16 * (STACK as usize + MAX_FRAME_HEIGHT as usize) + (2 << 20);

/// Limits of a guest, the same on every engine; `docs/metering.md` defines the units. [`Limits::default`] lets no guest
/// hang or exhaust its host. A limit that is reached ends the session, as a trap does.
///
/// ```
/// use std::time::Duration;
///
/// use mistletoe_abi::Limits;
///
/// let limits = Limits::default().with_timeout(Duration::from_secs(2)).with_fuel(50_000_000);
/// ```
///
/// Limits on memory, time, fuel and the stack are put into a module's code before an engine gets it. Where there is
/// none of them ([`Limits::unlimited`]) nothing is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    memory: Option<u64>,
    timeout: Option<Duration>,
    fuel: Option<u64>,
    stack: Option<u32>,
    table_elements: u64,
    max_module: u64,
    max_input: u64,
    max_output: u64,
}

impl Limits {
    /// No limits at all but for those that every module has (rule 13), and what an input or output can be: 4 GiB - 1
    /// byte.
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

    /// Bytes that the memory may have, in whole pages of 64 KiB; 256 MiB by default. More than 4 GiB mean 4 GiB. A
    /// module that starts with more is refused with [`TooMuchMemory`](crate::module::ErrorKind::TooMuchMemory), and
    /// `memory.grow` beyond answers -1.
    #[must_use]
    pub fn with_memory(self, bytes: impl Into<Option<u64>>) -> Self {
        Self { memory: bytes.into(), ..self }
    }

    /// How long a call may take; 10 seconds by default. Then the guest is ended with
    /// [`TimedOut`](crate::ErrorKind::TimedOut). Opening a session is a call of its own.
    #[must_use]
    pub fn with_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        Self { timeout: time.into(), ..self }
    }

    /// How much fuel a call may use; by default fuel is neither counted nor limited. Then the guest is ended with
    /// [`OutOfFuel`](crate::ErrorKind::OutOfFuel). Opening a session is a call of its own. `u64::MAX` counts without a
    /// limit.
    #[must_use]
    pub fn with_fuel(self, units: impl Into<Option<u64>>) -> Self {
        Self { fuel: units.into(), ..self }
    }

    /// How high the stack may become: 2,097,152 by default. A function that has not returned takes 8, 1 for each value
    /// that it has room for, and more for what it computes (`docs/metering.md`). Beyond, the guest is ended with
    /// [`TooDeep`](crate::ErrorKind::TooDeep). Where it is not limited, or higher than this, the engine's own stack
    /// ends a recursion, at a depth of the engine's.
    #[must_use]
    pub fn with_stack(self, height: impl Into<Option<u32>>) -> Self {
        Self { stack: height.into(), ..self }
    }

    /// Elements that a table may have, 1,000,000 by default and at most. A module that starts with more is refused with
    /// [`TooMany`](crate::module::ErrorKind::TooMany), and `table.grow` beyond answers -1.
    #[must_use]
    pub fn with_table_elements(self, elements: u64) -> Self {
        Self { table_elements: elements, ..self }
    }

    /// Length in bytes that a module may have; 256 MiB by default. A longer one is refused with
    /// [`TooLarge`](crate::module::ErrorKind::TooLarge), before it is read.
    #[must_use]
    pub fn with_max_module(self, bytes: u64) -> Self {
        Self { max_module: bytes, ..self }
    }

    /// Length in bytes that an input may have; 64 MiB by default. A longer one is
    /// [`TooLong`](crate::ErrorKind::TooLong), and the session goes on.
    #[must_use]
    pub fn with_max_input(self, bytes: u64) -> Self {
        Self { max_input: bytes, ..self }
    }

    /// Length in bytes that an output or info may have; 64 MiB by default. A longer one is
    /// [`TooLong`](crate::ErrorKind::TooLong).
    #[must_use]
    pub fn with_max_output(self, bytes: u64) -> Self {
        Self { max_output: bytes, ..self }
    }

    /// The limit on memory, in bytes.
    pub fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// The limit on the time of a call.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The limit on the fuel of a call, in units.
    pub fn fuel(&self) -> Option<u64> {
        self.fuel
    }

    /// The limit on the height of the stack, in units.
    pub fn stack(&self) -> Option<u32> {
        self.stack
    }

    /// The limit on the elements of a table.
    pub fn table_elements(&self) -> u64 {
        self.table_elements
    }

    /// The limit on the length of a module, in bytes.
    pub fn max_module(&self) -> u64 {
        self.max_module
    }

    /// The limit on the length of an input, in bytes.
    pub fn max_input(&self) -> u64 {
        self.max_input
    }

    /// The limit on the length of an output, in bytes.
    pub fn max_output(&self) -> u64 {
        self.max_output
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
