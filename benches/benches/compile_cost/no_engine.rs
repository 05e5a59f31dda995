//! A backend that compiles nothing.

use std::hint::black_box;

use mistletoe::backend::{HostFunc, StoreData};
use mistletoe::backend::{Instance, ModuleSource};
use mistletoe::types::FuncType;
use mistletoe::{Backend, Result};

/// A backend without an engine: the layer's own share of compilation.
#[derive(Clone)]
pub(crate) struct NoEngine;

pub(crate) enum NoInstance {}

impl Backend for NoEngine {
    type Module = ();
    type Instance = NoInstance;

    fn name(&self) -> &'static str {
        "none"
    }

    fn compile(&self, source: &ModuleSource<'_>, _: &[HostFunc]) -> Result<()> {
        black_box(source.validate(self)?.bytes());
        Ok(())
    }

    fn instantiate(&self, (): &(), _: StoreData) -> Result<NoInstance> {
        unreachable!("nothing is called")
    }
}

impl Instance for NoInstance {
    type Func = ();

    fn get_func(&mut self, _: &str, _: &FuncType) -> Result<()> {
        match *self {}
    }

    fn call(&mut self, (): &(), _: &mut [u64]) -> Result<()> {
        match *self {}
    }

    fn memory(&self) -> &[u8] {
        match *self {}
    }

    fn data(&self) -> &StoreData {
        match *self {}
    }

    fn data_mut(&mut self) -> &mut StoreData {
        match *self {}
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        match *self {}
    }
}
