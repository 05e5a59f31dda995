//! The limits that a host sets for a guest.

pub(crate) mod budget;

use std::time::Duration;

use crate::error::{ErrorKind, Region, Result};
use crate::module::Config;
use crate::module::declared::{MAX_FRAME_HEIGHT, MAX_PAGES, MAX_TABLE_ELEMENTS, PAGE};

/// The default limit on the stack depth.
const STACK: u32 = 1 << 21;

/// Bytes of stack that an engine's compiled code must have.
///
/// With them, a [limit on the stack](Limits::stack) no higher than the default is reached before the engine's own stack
/// is full. They are 16 for each unit of the default limit and of the largest frame of a single function, and 2 MiB for
/// host functions that call back.
pub const ENGINE_STACK: usize = 16 * (STACK as usize + MAX_FRAME_HEIGHT as usize) + (2 << 20);

/// Limits of a guest, the same on every engine.
///
/// `docs/metering.md` defines the units. With [`Limits::default`], no guest can hang or exhaust its host. A guest that
/// exceeds a limit on time, fuel or the stack is terminated and its session poisoned, as after a trap.
///
/// Limits on memory, time, fuel and the stack are instrumented into a module before an engine gets it. Without any of
/// them ([`Limits::unlimited`]), no such instrumentation takes place.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mistletoe_abi::Limits;
///
/// let limits = Limits::default().with_timeout(Duration::from_secs(2)).with_fuel(50_000_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    memory: Option<u64>,
    timeout: Option<Duration>,
    fuel: Option<u64>,
    stack: Option<u32>,
    backtrace: bool,
    table_elements: u64,
    max_module: u64,
    max_input: u64,
    max_output: u64,
}

impl Limits {
    /// Returns the widest limits that there are.
    ///
    /// The limits of every module (rule 13 of `docs/abi.md`) stay, and an input or output has at most 4 GiB - 1 byte.
    pub fn unlimited() -> Self {
        Self {
            memory: None,
            timeout: None,
            fuel: None,
            stack: None,
            backtrace: false,
            table_elements: MAX_TABLE_ELEMENTS,
            max_module: u64::MAX,
            max_input: u32::MAX.into(),
            max_output: u32::MAX.into(),
        }
    }

    /// Sets the limit on memory, in bytes; 256 MiB by default.
    ///
    /// The limit counts in whole pages of 64 KiB, rounded down. More than 4 GiB mean 4 GiB. A module that starts with
    /// more than the limit is refused with [`TooMuchMemory`](crate::module::ErrorKind::TooMuchMemory), and
    /// `memory.grow` beyond it returns -1. `None` means no limit.
    #[must_use]
    pub fn with_memory(self, bytes: impl Into<Option<u64>>) -> Self {
        Self { memory: bytes.into(), ..self }
    }

    /// Sets the limit on the time of a call; 10 seconds by default.
    ///
    /// A guest that exceeds it is terminated with [`TimedOut`](crate::ErrorKind::TimedOut). Opening a session is a call
    /// of its own. `None` means no limit. The time begins when the clock is first read in the call, after up to eight
    /// host functions. A host function that can take long should ask for [the deadline](crate::Caller::deadline).
    #[must_use]
    pub fn with_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        Self { timeout: time.into(), ..self }
    }

    /// Sets the limit on the fuel of a call, in units; by default, fuel is neither counted nor limited.
    ///
    /// A guest that exceeds it is terminated with [`OutOfFuel`](crate::ErrorKind::OutOfFuel). Opening a session is a
    /// call of its own. `u64::MAX` counts fuel without a limit; `None` does not count it.
    #[must_use]
    pub fn with_fuel(self, units: impl Into<Option<u64>>) -> Self {
        Self { fuel: units.into(), ..self }
    }

    /// Sets the limit on the stack depth, in units; 2,097,152 by default.
    ///
    /// A function that has not returned takes 8 units, 1 for each value that it has room for, and more for what it
    /// computes (`docs/metering.md`). A guest that exceeds the limit is terminated with
    /// [`TooDeep`](crate::ErrorKind::TooDeep). Without a limit, or with a higher one than the default, a recursion may
    /// end where the engine's own stack is full, at a depth that depends on the engine. `None` means no limit.
    #[must_use]
    pub fn with_stack(self, height: impl Into<Option<u32>>) -> Self {
        Self { stack: height.into(), ..self }
    }

    /// Sets whether the guest's stack is recorded, so that errors have a [backtrace](crate::Error::backtrace); by default,
    /// it is not.
    ///
    /// Other limits are reached at the same instructions. Code that records is several times as long, and takes
    /// several times as long to run. A module is refused with [`TooMany`](crate::module::ErrorKind::TooMany) if one of
    /// its functions becomes too long by this, or all of its code longer than 512 MiB. The backtrace takes up to 8 MiB while the guest runs, and the
    /// program keeps up to 64 MiB of the module for it.
    ///
    /// A package can be called again with its input, so it need not record before a call has failed:
    ///
    /// ```
    /// use mistletoe_abi::{AnyBackend, AnyPackage, Imports, Limits, Result};
    ///
    /// fn generate(backend: &AnyBackend, wasm: &[u8], input: &str) -> Result<String> {
    ///     let (imports, limits) = (Imports::<()>::new(), Limits::default());
    ///     let package = AnyPackage::with_imports(backend, wasm, &imports, limits)?;
    ///     package.generate(input).inspect_err(|error| {
    ///         let records = AnyPackage::with_imports(backend, wasm, &imports, limits.with_backtrace(true));
    ///         let again = records.and_then(|package| package.generate(input));
    ///         if let Err(again) = again
    ///             && again.kind() == error.kind()
    ///             && let Some(backtrace) = again.backtrace()
    ///         {
    ///             eprintln!("{error}\n{backtrace}");
    ///         }
    ///     })
    /// }
    /// ```
    #[must_use]
    pub fn with_backtrace(self, record: bool) -> Self {
        Self { backtrace: record, ..self }
    }

    /// Sets the limit on the elements of a table; 1,000,000 by default and at most.
    ///
    /// A module that starts with more is refused with [`TooMany`](crate::module::ErrorKind::TooMany), and `table.grow`
    /// beyond the limit returns -1.
    #[must_use]
    pub fn with_table_elements(self, elements: u64) -> Self {
        Self { table_elements: elements, ..self }
    }

    /// Sets the limit on the length of a module, in bytes; 256 MiB by default.
    ///
    /// A longer module is refused with [`TooLarge`](crate::module::ErrorKind::TooLarge), before it is read.
    #[must_use]
    pub fn with_max_module(self, bytes: u64) -> Self {
        Self { max_module: bytes, ..self }
    }

    /// Sets the limit on the length of an input, in bytes; 64 MiB by default.
    ///
    /// A longer input fails with [`TooLong`](crate::ErrorKind::TooLong), and the session stays usable.
    #[must_use]
    pub fn with_max_input(self, bytes: u64) -> Self {
        Self { max_input: bytes, ..self }
    }

    /// Sets the limit on the length of an output or info, in bytes; 64 MiB by default.
    ///
    /// A longer one fails with [`TooLong`](crate::ErrorKind::TooLong).
    #[must_use]
    pub fn with_max_output(self, bytes: u64) -> Self {
        Self { max_output: bytes, ..self }
    }

    /// Returns the limit on memory, in bytes; `None` if there is no limit.
    pub fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// Returns the limit on the time of a call; `None` if there is no limit.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Returns the limit on the fuel of a call, in units; `None` if fuel is not counted.
    pub fn fuel(&self) -> Option<u64> {
        self.fuel
    }

    /// Returns the limit on the stack depth, in units; `None` if there is no limit.
    pub fn stack(&self) -> Option<u32> {
        self.stack
    }

    /// Returns whether the guest's stack is recorded.
    pub fn backtrace(&self) -> bool {
        self.backtrace
    }

    /// Returns the limit on the elements of a table.
    pub fn table_elements(&self) -> u64 {
        self.table_elements
    }

    /// Returns the limit on the length of a module, in bytes.
    pub fn max_module(&self) -> u64 {
        self.max_module
    }

    /// Returns the limit on the length of an input, in bytes.
    pub fn max_input(&self) -> u64 {
        self.max_input
    }

    /// Returns the limit on the length of an output, in bytes.
    pub fn max_output(&self) -> u64 {
        self.max_output
    }

    /// Checks that code compiled for `compiled` enforces these limits.
    pub(crate) fn fit(&self, compiled: &Self) -> Result<()> {
        let fixed = [
            ("memory", self.memory == compiled.memory),
            ("timeout", self.timeout.is_none() || compiled.timeout.is_some() || compiled.fuel.is_some()),
            ("fuel", self.fuel.is_none() || compiled.fuel.is_some()),
            ("stack", self.stack == compiled.stack),
            ("backtrace", self.backtrace == compiled.backtrace),
            ("table_elements", self.table_elements == compiled.table_elements),
            ("max_module", self.max_module == compiled.max_module),
        ];
        match fixed.iter().find(|(_, fits)| !fits) {
            Some((limit, _)) => Err(ErrorKind::FixedLimit { limit }.into()),
            None => Ok(()),
        }
    }

    /// Checks the length of an input, in bytes, against the limit.
    #[inline]
    pub(crate) fn input(&self, length: usize) -> Result<()> {
        let (length, limit) = (length as u64, self.max_input.min(u32::MAX.into()));
        if length > limit { Err(ErrorKind::TooLong { region: Region::Input, length, limit }.into()) } else { Ok(()) }
    }

    /// Returns what a module is instrumented with to enforce these limits.
    pub(crate) fn config(&self) -> Config {
        Config::default()
            .fuel(self.fuel.is_some())
            .deadline(self.timeout.is_some())
            .stack(self.stack)
            .backtrace(self.backtrace)
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
            backtrace: false,
            table_elements: MAX_TABLE_ELEMENTS,
            max_module: 256 << 20,
            max_input: 64 << 20,
            max_output: 64 << 20,
        }
    }
}
