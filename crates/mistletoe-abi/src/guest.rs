//! A live instance as every protocol uses it: poisoned by its first failure, and with every address checked.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::backend::Instance;
use crate::erased::DynInstance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::host::Data;
use crate::protocol::{ExportedFunc, Region};
use crate::types::{FuncType, ValType};

/// An instance together with what poisoned it.
pub(crate) struct Guest<I: Instance> {
    instance: I,
    fault: Option<Error>,
    /// Answers with the fuel at hand, where fuel is counted.
    fuel: Option<I::Func>,
}

/// A function of a guest's with `N` parameters, and the name to blame when it traps.
pub(crate) struct Func<F, const N: usize> {
    func: F,
    name: &'static str,
}

/// Slots of a call that a protocol makes: one for each parameter, of which there are two at most.
const SLOTS: usize = 2;

/// A range of the guest's memory, as the guest named it: nothing says that it lies inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) address: u32,
    pub(crate) length: u32,
}

impl<I: Instance> Guest<I> {
    /// `fuel` is the export that answers with the fuel at hand, where fuel is counted.
    pub(crate) fn new(mut instance: I, fuel: Option<&str>) -> Result<Self> {
        let fuel = fuel.map(|name| instance.func(name, &FuncType::new(&[], &[ValType::I64]))).transpose()?;
        Ok(Self { instance, fault: None, fuel })
    }

    /// What follows is one call, as limits see it.
    pub(crate) fn begin(&mut self) -> Result<()> {
        if self.fault.is_none() && !self.instance.data().broken {
            let left = self.fuel_left()?.unwrap_or_default();
            self.instance.data_mut().account.begin(left);
        }
        Ok(())
    }

    /// How much fuel the call that was begun last has used so far, if fuel is counted.
    pub(crate) fn fuel_used(&mut self) -> Result<Option<u64>> {
        let left = self.fuel_left()?;
        Ok(left.map(|left| self.instance.data().account.used(left)))
    }

    fn fuel_left(&mut self) -> Result<Option<i64>> {
        let Some(fuel) = &self.fuel else { return Ok(None) };
        let mut slots = [0; SLOTS];
        self.instance.call(fuel, &mut slots)?;
        Ok(Some(slots[0].cast_signed()))
    }

    pub(crate) fn resolve<const N: usize>(&mut self, export: &ExportedFunc<N>) -> Result<Func<I::Func, N>> {
        let func = self.instance.func(export.name, &export.ty)?;
        Ok(Func { func, name: export.name })
    }

    /// Calls the module's start function, which is no export of the package's: a trap in it names none.
    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        let func = self.instance.func(name, &FuncType::new(&[], &[]))?;
        caught(&mut self.instance, |instance| Instance::call(instance, &func, &mut [0; SLOTS]))
    }

    /// What poisoned the instance, if anything did.
    pub(crate) fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    pub(crate) fn data(&self) -> &Data {
        self.instance.data()
    }

    pub(crate) fn data_mut(&mut self) -> &mut Data {
        self.instance.data_mut()
    }

    /// Calls into the guest, unless it is poisoned; poisons it if the call fails. A function without a result gives
    /// anything.
    pub(crate) fn call<const N: usize>(&mut self, func: &Func<I::Func, N>, params: [u32; N]) -> Result<u32> {
        if let Some(fault) = &self.fault {
            return Err(Error::poisoned(fault));
        }
        if self.instance.data().broken {
            return Err(Error::engine(Operation::Call, "the engine panicked in an earlier call"));
        }
        let mut slots = [0; SLOTS];
        for (slot, param) in slots.iter_mut().zip(params) {
            *slot = param.into();
        }
        match caught(&mut self.instance, |instance| Instance::call(instance, &func.func, &mut slots)) {
            Ok(()) => Ok(slots[0] as u32),
            Err(error) => {
                let error = error.in_export(func.name);
                self.fault = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Has the guest allocate, and writes the input there.
    pub(crate) fn hand_over(&mut self, alloc: &Func<I::Func, 1>, input: &[u8]) -> Result<Span> {
        // No limit is higher.
        let length = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let address = self.call(alloc, [length])?;
        if address == 0 && length != 0 {
            return Err(ErrorKind::Allocation { length }.into());
        }
        let span = Span { address, length };
        self.bytes_mut(&Region::Input, span)?.copy_from_slice(input);
        Ok(span)
    }

    /// The bytes of `span` in the memory as it is now.
    pub(crate) fn bytes(&self, region: &Region, span: Span) -> Result<&[u8]> {
        let memory = self.instance.memory();
        memory.get(span.range()).ok_or_else(|| span.outside(region.clone(), memory.len()))
    }

    /// The same, to be written.
    pub(crate) fn bytes_mut(&mut self, region: &Region, span: Span) -> Result<&mut [u8]> {
        let memory = self.instance.memory_and_data().0;
        let size = memory.len();
        memory.get_mut(span.range()).ok_or_else(|| span.outside(region.clone(), size))
    }

    /// The fat pointer at `address`: two little-endian words at any alignment.
    pub(crate) fn fat_pointer(&self, address: u32) -> Result<Span> {
        let bytes = self.bytes(&Region::FatPointer, Span { address, length: 8 })?;
        match *bytes {
            [a0, a1, a2, a3, l0, l1, l2, l3] => {
                Ok(Span { address: u32::from_le_bytes([a0, a1, a2, a3]), length: u32::from_le_bytes([l0, l1, l2, l3]) })
            }
            _ => Err(Span { address, length: 8 }.outside(Region::FatPointer, bytes.len())),
        }
    }

    /// The string at `span`, at most `limit` bytes of it.
    pub(crate) fn string(&self, region: &Region, span: Span, limit: u64) -> Result<&str> {
        let bytes = self.bytes(region, span)?;
        let length = u64::from(span.length);
        if length > limit {
            return Err(ErrorKind::TooLong { region: region.clone(), length, limit }.into());
        }
        std::str::from_utf8(bytes).map_err(|error| {
            let offset = error.valid_up_to() as u64;
            Error::with_source(ErrorKind::InvalidUtf8 { region: region.clone(), offset }, error)
        })
    }

    /// Whether `span` lies inside the memory as it is now.
    pub(crate) fn holds(&self, span: Span) -> bool {
        self.instance.memory().get(span.range()).is_some()
    }
}

/// Calls into a guest, and makes an error of the panic of a host function that the guest calls. Any other panic goes on.
pub(crate) fn caught<I: DynInstance + ?Sized>(instance: &mut I, call: impl FnOnce(&mut I) -> Result<()>) -> Result<()> {
    // What a panic leaves half done is the guest's, which is poisoned, and the session's state, which is its owner's.
    catch_unwind(AssertUnwindSafe(|| call(instance))).unwrap_or_else(|payload| {
        let data = instance.data_mut();
        match data.panicked.take() {
            Some(name) => Err(Error::host_panic(&name, &*payload)),
            None => {
                data.broken = true;
                resume_unwind(payload)
            }
        }
    })
}

impl Span {
    /// Both ends as `usize`; the sum cannot wrap, since a host has 64 bits (the crate does not build elsewhere).
    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        let start = self.address as usize;
        start..start + self.length as usize
    }

    #[cold]
    pub(crate) fn outside(self, region: Region, memory: usize) -> Error {
        let Self { address, length } = self;
        ErrorKind::OutOfBounds { region, address, length, memory: memory as u64 }.into()
    }
}
