//! The interfaces that guests speak: each protocol's names, types and order of calls, one file each.
//!
//! - [`package`]: the package interface, `docs/abi.md` in code.
//! - [`httpwasm`]: plugins behind HTTP, `docs/httpwasm.md` in code.
//! - [`command`]: WASI commands.
//!
//! A [`Protocol`] says what a module has to export, which functions it offers itself, and takes its steps on a live
//! [`Guest`]. Checking, compiling, linking, instantiating, limits, poisoning and every look at an address are the same
//! for all of them, in `program` and `guest`. A protocol can be a crate of its own.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

pub use mistletoe_module::interface::MEMORY;

use crate::backend::Instance;
use crate::error::Result;
use crate::guest::Guest;
use crate::host::{Imports, WasmParams, WasmResults};
use crate::limits::Limits;
use crate::module::Interface;
use crate::types::{ExternType, FuncType, MemoryType, Problem};
use mistletoe_module::display::Shown;

pub mod command;
pub mod httpwasm;
pub mod package;

pub use command::WasiCommand;
pub use httpwasm::HttpWasm;
pub use package::PackageInterface;

/// What guests and hosts have to say to each other. A [`Program`](crate::Program) is a module that speaks one.
///
/// The value is what a host program may choose about a protocol; most have nothing to choose. It is cloned into each
/// program.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// The functions that each request needs, resolved once for a session. `F` is the
    /// [engine's](Instance::Func).
    type Exports<F: Send + Sync + 'static>: Send + 'static;
    /// What the protocol's own host functions keep in a session, beside the host program's state.
    type Store: Send + 'static;
    /// What a guest is asked.
    type Request<'a>;
    /// What it answers, which may lie in its memory.
    type Response<'a>;
    /// The same as a value of the host program's.
    type Output: for<'a> From<Self::Response<'a>>;

    /// Whether a guest is initialised before the first request: by `_initialize`, or by `_start` where it exports none.
    const INITIALIZES: bool = true;

    /// Looks at the exports that the protocol needs.
    fn check(&self, exports: &mut Check<'_>);

    /// Adds the functions that the protocol itself offers to guests. They find what is kept for them by
    /// [`Caller::store_mut`](crate::Caller::store_mut).
    fn provide<T: Send + 'static>(&self, imports: &mut Imports<T>) {
        let _ = imports;
    }

    /// What a session begins with.
    fn store(&self, limits: &Limits) -> Self::Store;

    /// Resolves functions of a guest that is initialised.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::resolve`], and of what is called.
    fn resolve<I: Instance>(&self, guest: &mut Guest<I>) -> Result<Self::Exports<I::Func>>;

    /// Asks the guest, and lends its answer to `respond`, which is called at most once.
    ///
    /// # Errors
    ///
    /// Those of the guest, and [`TooLong`](crate::ErrorKind::TooLong) where a limit on lengths says so.
    fn call<I: Instance, R>(
        exports: &Self::Exports<I::Func>,
        guest: &mut Guest<I>,
        request: Self::Request<'_>,
        respond: impl FnOnce(Self::Response<'_>) -> R,
    ) -> Result<R>;
}

/// Called once before anything else, where it is exported: what compilers for WASI reactors add.
pub(crate) const INITIALIZE: ExportedFunc<(), ()> = ExportedFunc::new("_initialize");

/// Runs a command: it returns, or ends through `proc_exit`. Other guests it initialises, where they export no `_initialize`.
pub(crate) const START: ExportedFunc<(), ()> = ExportedFunc::new("_start");

/// What a range in the guest's memory is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Region {
    /// The 8 bytes of address and length that an answer is found by.
    FatPointer,
    /// The package's description.
    Info,
    /// The input that a guest is handed.
    Input,
    /// What a guest answers with.
    Output,
    /// What a guest named when it called a host function, or `result`: where the answer to that call should have gone.
    Argument {
        /// The host function, as `module.name`.
        function: Cow<'static, str>,
        /// The parameter.
        argument: Cow<'static, str>,
    },
}

/// A function that a protocol has guests export: it takes `P` and answers with `R`.
///
/// ```
/// use mistletoe_abi::protocol::ExportedFunc;
///
/// const ALLOCATE: ExportedFunc<(u32,), u32> = ExportedFunc::new("allocate");
/// ```
#[derive(Debug)]
pub struct ExportedFunc<P, R> {
    pub(crate) name: &'static str,
    ty: PhantomData<fn(P) -> R>,
}

impl<P: WasmParams, R: WasmResults> ExportedFunc<P, R> {
    /// Its type.
    pub const TYPE: FuncType = FuncType::new(P::TYPES, R::TYPES);

    /// The function of this name.
    pub const fn new(name: &'static str) -> Self {
        Self { name, ty: PhantomData }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn extern_type(&self) -> ExternType {
        ExternType::Func(Some(Arc::new(Self::TYPE)))
    }
}

/// Looks at a module's exports one by one, and notes what is wrong with them: for [`Protocol::check`].
#[derive(Debug)]
pub struct Check<'a> {
    interface: &'a Interface,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    /// Every guest exports its memory.
    fn new(interface: &'a Interface) -> Self {
        let mut check = Self { interface, problems: Vec::new() };
        check.required(MEMORY, ExternType::Memory(Some(MemoryType::ANY)));
        check
    }

    /// What the module imports and exports.
    pub fn interface(&self) -> &'a Interface {
        self.interface
    }

    /// An export that has to be there.
    pub fn required(&mut self, name: &'static str, expected: ExternType) -> &mut Self {
        if self.interface.export(name).is_none() {
            self.problems.push(Problem::MissingExport { export: name.into(), expected });
            return self;
        }
        self.optional(name, expected)
    }

    /// An export that has to have this type where it is there.
    pub fn optional(&mut self, name: &'static str, expected: ExternType) -> &mut Self {
        if let Some(found) = self.interface.export(name).filter(|found| !fits(found, &expected)) {
            self.problems.push(Problem::MistypedExport { export: name.into(), expected, found: found.clone() });
        }
        self
    }

    /// A function that has to be there.
    pub fn func<P: WasmParams, R: WasmResults>(&mut self, export: &ExportedFunc<P, R>) -> &mut Self {
        self.required(export.name, export.extern_type())
    }

    /// A function that has to have this type where it is there.
    pub fn optional_func<P: WasmParams, R: WasmResults>(&mut self, export: &ExportedFunc<P, R>) -> &mut Self {
        self.optional(export.name, export.extern_type())
    }

    /// What is wrong with a module for a protocol, and whether it can be initialised.
    pub(crate) fn problems(interface: &'a Interface, protocol: &impl Protocol) -> Vec<Problem> {
        let mut check = Self::new(interface);
        protocol.check(&mut check);
        if initializes(protocol) {
            check.optional_func(&INITIALIZE);
        }
        check.problems
    }
}

fn initializes<P: Protocol>(_: &P) -> bool {
    P::INITIALIZES
}

/// A memory may have any size; all else has to be the same.
fn fits(found: &ExternType, expected: &ExternType) -> bool {
    match found {
        ExternType::Memory(Some(memory)) => {
            matches!(expected, ExternType::Memory(_)) && !memory.shared && !memory.memory64
        }
        _ => found == expected,
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FatPointer => "the fat pointer",
            Self::Info => "the package's info",
            Self::Input => "the input",
            Self::Output => "the package's output",
            Self::Argument { function, argument } => {
                return write!(f, "`{argument}` of the host function `{}`", Shown(function));
            }
        })
    }
}
