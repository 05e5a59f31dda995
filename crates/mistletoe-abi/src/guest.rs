//! A live instance as every protocol uses it: poisoned by its first failure, and with every address checked.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::backend::Instance;
use crate::erased::DynInstance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::host::StoreData;
use crate::protocol::{ExportedFunc, Region, START};
use crate::types::{FuncType, ValType};

/// An instance together with what poisoned it.
pub(crate) struct Guest<I: Instance> {
    instance: I,
    fault: Option<Error>,
    /// Answers with the fuel at hand, where fuel is counted.
    fuel: Option<I::Func>,
    /// Whether there is an account to keep.
    limited: bool,
}

/// A guest that steps are taken with, by [`Guest::steps`].
pub(crate) struct Steps<'a, I: Instance>(&'a mut Guest<I>);

/// A function of a guest's with `P` parameters and `R` results, and the name to blame when it traps.
pub(crate) struct Func<F, const P: usize, const R: usize> {
    func: F,
    name: &'static str,
}

/// The most slots of a call that a protocol makes.
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
        let fuel = fuel.map(|name| instance.get_func(name, &FuncType::new(&[], &[ValType::I64]))).transpose()?;
        let limited = fuel.is_some() || instance.data().budget.is_timed();
        Ok(Self { instance, fault: None, fuel, limited })
    }

    /// What follows is one call, as limits see it.
    #[inline(always)]
    pub(crate) fn begin(&mut self) -> Result<()> {
        if self.limited && self.fault.is_none() { self.begin_budget() } else { Ok(()) }
    }

    fn begin_budget(&mut self) -> Result<()> {
        let left = self.fuel_left()?.unwrap_or_default();
        self.instance.data_mut().budget.begin(left);
        Ok(())
    }

    /// How much fuel the call that was begun last has used so far, if fuel is counted.
    pub(crate) fn fuel_used(&mut self) -> Result<Option<u64>> {
        let left = self.fuel_left()?;
        Ok(left.map(|left| self.instance.data().budget.used(left)))
    }

    #[inline]
    fn fuel_left(&mut self) -> Result<Option<i64>> {
        let Some(fuel) = &self.fuel else { return Ok(None) };
        let mut left = [0];
        self.instance.call(fuel, &mut left)?;
        Ok(Some(left[0].cast_signed()))
    }

    pub(crate) fn resolve<const P: usize, const R: usize>(
        &mut self,
        export: &ExportedFunc<P, R>,
    ) -> Result<Func<I::Func, P, R>> {
        let func = self.instance.get_func(export.name, &export.ty)?;
        Ok(Func { func, name: export.name })
    }

    /// Calls a function that is no export of the guest's own, such as the module's start function: a trap in it names none.
    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        let func = self.instance.get_func(name, &FuncType::new(&[], &[]))?;
        self.steps(|steps| Instance::call(&mut steps.0.instance, &func, &mut []))
    }

    /// Has `_start` initialise the guest. If it exits with 0, that ends the initialisation alone; `unwind` is then called,
    /// since the functions that were left never gave their part of the stack back.
    pub(crate) fn start_up(&mut self, unwind: Option<&str>) -> Result<()> {
        let start = self.resolve(&START)?;
        match self.call(&start, []) {
            Err(error) if *error.kind() == (ErrorKind::Exit { code: 0 }) => {
                self.fault = None;
                unwind.map_or(Ok(()), |unwind| self.start(unwind))
            }
            result => result.map(drop),
        }
    }

    /// What poisoned the instance, if anything did.
    pub(crate) fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    pub(crate) fn data(&self) -> &StoreData {
        self.instance.data()
    }

    pub(crate) fn data_mut(&mut self) -> &mut StoreData {
        self.instance.data_mut()
    }

    /// One step of a protocol: see [`Steps::call`].
    pub(crate) fn call<const P: usize, const R: usize>(
        &mut self,
        func: &Func<I::Func, P, R>,
        params: [u32; P],
    ) -> Result<[u32; R]> {
        self.steps(|steps| steps.call(func, params))
    }

    /// Takes steps that call into the guest. The panic of a host function that the guest calls is an error of theirs; an
    /// engine's own panic is for who called the layer. Either poisons the instance.
    #[inline(always)]
    pub(crate) fn steps<R>(&mut self, steps: impl FnOnce(&mut Steps<'_, I>) -> Result<R>) -> Result<R> {
        // What a panic leaves half done is the guest's, which is poisoned, and the session's state, which is its owner's.
        // One landing place for several calls, since each is some 30 instructions in the way of an answer.
        catch_unwind(AssertUnwindSafe(|| steps(&mut Steps(self)))).unwrap_or_else(|payload| Err(self.panicked(payload)))
    }

    #[cold]
    fn panicked(&mut self, payload: Panic) -> Error {
        match host_panic(&mut self.instance, payload) {
            Ok(error) => self.poisoned(error),
            Err(payload) => {
                self.poisoned(Error::engine(Operation::Call, "the engine panicked"));
                resume_unwind(payload)
            }
        }
    }

    #[cold]
    fn poisoned(&mut self, fault: Error) -> Error {
        self.fault.insert(fault).clone()
    }

    /// The memory as it is now.
    #[inline]
    pub(crate) fn memory(&self) -> &[u8] {
        self.instance.memory()
    }
}

impl<I: Instance> Steps<'_, I> {
    /// Calls into the guest, unless it is poisoned; poisons it if the call fails.
    #[inline(always)]
    pub(crate) fn call<const P: usize, const R: usize>(
        &mut self,
        func: &Func<I::Func, P, R>,
        params: [u32; P],
    ) -> Result<[u32; R]> {
        let guest = &mut *self.0;
        if let Some(fault) = &guest.fault {
            return Err(Error::poisoned(fault));
        }
        let mut slots = [0; SLOTS];
        let slots = &mut slots[..const { if P > R { P } else { R } }];
        for (slot, param) in slots.iter_mut().zip(params) {
            *slot = param.into();
        }
        match guest.instance.call(&func.func, slots) {
            Ok(()) => Ok(std::array::from_fn(|at| slots[at] as u32)),
            Err(error) => Err(guest.poisoned(error.in_export(func.name))),
        }
    }

    /// Has the guest allocate, and writes the input there.
    #[inline(always)]
    pub(crate) fn hand_over(&mut self, alloc: &Func<I::Func, 1, 1>, input: &[u8]) -> Result<Span> {
        // No limit is higher.
        let length = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let [address] = self.call(alloc, [length])?;
        if address == 0 && length != 0 {
            return Err(ErrorKind::Allocation { length: length.into() }.into());
        }
        let span = Span { address, length };
        span.of_mut(self.0.instance.memory_mut(), &Region::Input)?.copy_from_slice(input);
        Ok(span)
    }
}

/// What a panic carries.
type Panic = Box<dyn Any + Send>;

/// The error that a panic is which went through a guest: its host function's. Gives an engine's own panic back.
pub(crate) fn host_panic<I: DynInstance + ?Sized>(instance: &mut I, payload: Panic) -> Result<Error, Panic> {
    match instance.data_mut().panicked.take() {
        Some(name) => Ok(Error::host_panic(&name, &*payload)),
        None => Err(payload),
    }
}

impl Span {
    /// The one that the fat pointer at `address` holds: two little-endian words at any alignment.
    #[inline]
    pub(crate) fn behind(memory: &[u8], address: u32) -> Result<Self> {
        let pointer = Self { address, length: 8 };
        match *pointer.of(memory, &Region::FatPointer)? {
            [a0, a1, a2, a3, l0, l1, l2, l3] => {
                Ok(Self { address: u32::from_le_bytes([a0, a1, a2, a3]), length: u32::from_le_bytes([l0, l1, l2, l3]) })
            }
            _ => Err(pointer.outside(&Region::FatPointer, memory.len())),
        }
    }

    /// The bytes of a memory that it names.
    #[inline]
    pub(crate) fn of<'a>(self, memory: &'a [u8], region: &Region) -> Result<&'a [u8]> {
        memory.get(self.range()).ok_or_else(|| self.outside(region, memory.len()))
    }

    /// The same, to be written.
    #[inline]
    pub(crate) fn of_mut<'a>(self, memory: &'a mut [u8], region: &Region) -> Result<&'a mut [u8]> {
        let size = memory.len();
        memory.get_mut(self.range()).ok_or_else(|| self.outside(region, size))
    }

    /// Both ends as `usize`; the sum cannot wrap, since a host has 64 bits (the crate does not build elsewhere).
    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        let start = self.address as usize;
        start..start + self.length as usize
    }

    #[cold]
    pub(crate) fn outside(self, region: &Region, memory: usize) -> Error {
        let Self { address, length } = self;
        let (address, length) = (address.into(), length.into());
        ErrorKind::OutOfBounds { region: region.clone(), address, length, memory: memory as u64 }.into()
    }
}

/// The string that the bytes of a region are, at most `limit` bytes of it.
#[inline]
pub(crate) fn text<'a>(bytes: &'a [u8], region: &Region, limit: u64) -> Result<&'a str> {
    let length = bytes.len() as u64;
    if length > limit {
        return Err(ErrorKind::TooLong { region: region.clone(), length, limit }.into());
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to() as u64;
        Error::with_source(ErrorKind::InvalidUtf8 { region: region.clone(), offset }, error)
    })
}
