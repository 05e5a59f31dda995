//! Functions that guests export.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::host::numbers::{WasmParams, WasmResults};
use crate::types::{ExternType, FuncType};

/// Called once before anything else, if it is exported. Compilers add it to WASI reactors.
pub(crate) const INITIALIZE: ExportedFunc<(), ()> = ExportedFunc::new("_initialize");

/// Runs a command: returns, or exits through `proc_exit`.
///
/// It initialises guests of other kinds that export no `_initialize`.
pub(crate) const START: ExportedFunc<(), ()> = ExportedFunc::new("_start");

/// A function that guests export for a protocol: takes `P` and returns `R`.
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
    /// The function's type.
    pub const TYPE: FuncType = FuncType::new(P::TYPES, R::TYPES);

    /// Declares the function `name`.
    pub const fn new(name: &'static str) -> Self {
        Self { name, ty: PhantomData }
    }

    /// Returns the function's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn extern_type(&self) -> ExternType {
        ExternType::Func(Some(Arc::new(Self::TYPE)))
    }
}
