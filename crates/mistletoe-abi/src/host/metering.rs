//! The host functions that instrumented code imports.

use std::sync::Arc;

use mistletoe_module::{MODULE, OVERFLOW, TICK};

use crate::backend::erased::DynInstance;
use crate::error::Result;
use crate::host::func::{Code, HostFunc};
use crate::host::name::Name;
use crate::limits::budget::Budget;
use crate::types::{FuncType, ValType};

/// Returns the host functions that instrumented code imports.
pub(crate) fn functions() -> [HostFunc; 2] {
    let func = |name: &'static str, ty: FuncType, code: fn(&mut Budget, u64) -> Result<u64>| {
        let name = Arc::new(Name { module: MODULE.into(), name: name.into() });
        HostFunc::new(name, ty, Box::new(Report(code)))
    };
    [
        func(TICK, FuncType::new(&[ValType::I64], &[ValType::I64]), |budget, left| {
            budget.tick(left.cast_signed()).map(i64::cast_unsigned)
        }),
        func(OVERFLOW, FuncType::new(&[ValType::I64], &[]), |budget, left| Err(budget.overflow(left.cast_signed()))),
    ]
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
