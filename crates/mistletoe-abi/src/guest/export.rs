//! Functions that guests export.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::host::numbers::{WasmParams, WasmResults};
use crate::types::{ExternType, FuncType};

/// Called once before anything else, where it is exported: what compilers for WASI reactors add.
pub(crate) const INITIALIZE: ExportedFunc<(), ()> = ExportedFunc::new("_initialize");

/// Runs a command: it returns, or ends through `proc_exit`. Other guests it initialises, where they export no
/// `_initialize`.
pub(crate) const START: ExportedFunc<(), ()> = ExportedFunc::new("_start");

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
