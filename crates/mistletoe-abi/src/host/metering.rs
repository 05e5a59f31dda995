//! The host functions that instrumented code imports.

use std::sync::Arc;

use mistletoe_module::{ENTER, MODULE, OVERFLOW, TICK};

use crate::backend::erased::DynInstance;
use crate::error::Result;
use crate::host::func::{Code, HostFunc};
use crate::host::name::Name;
use crate::limits::budget::Budget;
use crate::module::Config;
use crate::types::{FuncType, ValType};

/// Returns the host functions that code with this instrumentation imports.
pub(crate) fn functions(config: &Config) -> Vec<HostFunc> {
    if !config.is_metered() {
        return Vec::new();
    }
    let name = |name: &'static str| Arc::new(Name { module: MODULE.into(), name: name.into() });
    let func = |function: &'static str, ty: FuncType, code: fn(&mut Budget, u64) -> Result<u64>| {
        HostFunc::new(name(function), ty, Box::new(Report(code)))
    };
    let mut functions = vec![
        func(TICK, FuncType::new(&[ValType::I64], &[ValType::I64]), |budget, left| {
            budget.tick(left.cast_signed()).map(i64::cast_unsigned)
        }),
        func(OVERFLOW, FuncType::new(&[ValType::I64], &[]), |budget, left| Err(budget.overflow(left.cast_signed()))),
    ];
    if config.backtrace {
        let ty = FuncType::new(&[ValType::I32, ValType::I32, ValType::I32], &[]);
        functions.push(HostFunc::new(name(ENTER), ty, Box::new(Enter)));
    }
    functions
}

#[derive(Clone, Copy)]
struct Report(fn(&mut Budget, u64) -> Result<u64>);

impl Code for Report {
    fn call(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()> {
        let result = self.call_few(instance, slots.first().copied().unwrap_or_default(), 0, 0, 0)?;
        if let [slot, ..] = slots {
            *slot = result;
        }
        Ok(())
    }

    fn call_few(&self, instance: &mut dyn DynInstance, a: u64, _: u64, _: u64, _: u64) -> Result<u64> {
        (self.0)(&mut instance.data_mut().budget, a)
    }

    fn named(&self, _: Arc<Name>) -> Box<dyn Code> {
        Box::new(*self)
    }
}

/// Records that a function begins.
struct Enter;

impl Code for Enter {
    fn call(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()> {
        if let [function, caller, frames, ..] = *slots {
            self.call_few(instance, function, caller, frames, 0)?;
        }
        Ok(())
    }

    fn call_few(&self, instance: &mut dyn DynInstance, function: u64, caller: u64, frames: u64, _: u64) -> Result<u64> {
        if let Some(recorder) = &mut instance.data_mut().recorder {
            // The upper halves may hold anything.
            recorder.enter(function as u32, caller as u32, frames as u32);
        }
        Ok(0)
    }

    fn named(&self, _: Arc<Name>) -> Box<dyn Code> {
        Box::new(Self)
    }
}
