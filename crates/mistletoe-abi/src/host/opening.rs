//! Calls of host functions while a session is opened: recorded in one session, repeated in others.
//!
//! A function that is [repeatable](crate::Imports::repeatable_func) sees nothing of the guest but its parameters and the
//! length of the memory. It can therefore be called without a guest: on the same session, it does and returns what it
//! would if the guest called it.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::backend::erased::{AnyFunc, DynInstance, host_panicked};
use crate::backend::store::StoreData;
use crate::error::{Error, Operation, Result};
use crate::host::func::{Code, HostFunc};
use crate::host::name::Name;
use crate::host::output::{Output, To, Write};
use crate::types::{FuncType, ValType};

/// The most calls that are recorded, and the most bytes that they write in all.
const MAX_CALLS: usize = 1000;
const MAX_BYTES: usize = 1 << 20;

/// What happens to calls of repeatable functions while a session is opened.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// The next calls, which were made already.
    made: VecDeque<Call>,
    /// The calls so far, if they are recorded.
    record: Option<Vec<Call>>,
    bytes: usize,
    /// The ranges that the call in progress writes to.
    noted: Vec<Range<usize>>,
    /// The export that the guest is in.
    pub(crate) export: Option<&'static str>,
}

/// A call of a host function, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    func: HostFunc,
    params: Vec<u64>,
    /// The length of the guest's memory.
    length: usize,
    pub(crate) export: Option<&'static str>,
    pub(crate) made: Made,
}

/// What a call of a host function does to a guest: its results, and what it writes, in this order.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    results: Vec<u64>,
    writes: Vec<Write>,
}

impl Opening {
    /// Records the calls from now on.
    pub(crate) fn recording() -> Self {
        Self { record: Some(Vec::new()), ..Self::default() }
    }

    /// Lets the guest have what came of its next calls, which were made already.
    pub(crate) fn of(made: VecDeque<Call>) -> Self {
        Self { made, ..Self::default() }
    }

    /// Returns the recorded calls, unless some call could not be recorded.
    pub(crate) fn into_record(self) -> Option<Vec<Call>> {
        self.record
    }

    /// Returns where the ranges are noted that a function writes to, if its call is recorded.
    pub(crate) fn noted(&mut self) -> Option<&mut Vec<Range<usize>>> {
        self.record.is_some().then_some(&mut self.noted)
    }

    /// Gives the record up.
    pub(crate) fn spoil(&mut self) {
        self.record = None;
    }

    fn add(&mut self, mut call: Call, memory: &[u8]) {
        let Some(record) = &mut self.record else { return };
        self.noted.sort_by_key(|range| range.start);
        // Of ranges that overlap, the bytes of the first are not those that were written first.
        let apart = self.noted.windows(2).all(|pair| matches!(pair, [one, next] if one.end <= next.start));
        self.bytes += self.noted.iter().map(Range::len).sum::<usize>();
        if !apart || self.bytes > MAX_BYTES || record.len() == MAX_CALLS {
            self.record = None;
            return;
        }
        for range in &self.noted {
            let bytes = memory.get(range.clone()).unwrap_or_default().to_vec();
            call.made.writes.push(Write { address: range.start, bytes });
        }
        record.push(call);
    }
}

impl Call {
    /// Returns the same call with another outcome.
    pub(crate) fn with(&self, made: Made) -> Self {
        Self { made, ..self.clone() }
    }

    /// Makes the call for another session. Nothing of the guest is needed, and nothing is written to it.
    ///
    /// # Errors
    ///
    /// The error with which the guest would have failed.
    pub(crate) fn repeat(&self, data: &mut StoreData) -> Result<Made> {
        let ty = self.func.ty();
        let mut writes = Vec::new();
        let mut slots = self.params.clone();
        slots.resize(ty.params.len().max(ty.results.len()), 0);
        let mut absent = Absent { data, length: self.length, writes: &mut writes };
        // As `HostFunc::call` does.
        let called = catch_unwind(AssertUnwindSafe(|| self.func.code().call(&mut absent, &mut slots)));
        let called = called.unwrap_or_else(|payload| {
            data.panicked = None;
            Err(host_panicked(self.func.full_name(), &*payload))
        });
        match (called, self.export) {
            (Ok(()), _) => {
                slots.truncate(ty.results.len());
                Ok(Made { results: slots, writes })
            }
            (Err(error), Some(export)) => Err(error.in_export(export)),
            (Err(error), None) => Err(error),
        }
    }
}

impl Made {
    /// Returns whether a recorded call, whose writes are apart and in order of their addresses, did the same.
    pub(crate) fn is_as(&self, recorded: &Self) -> bool {
        let mut writes: Vec<&Write> = self.writes.iter().collect();
        writes.sort_by_key(|write| write.address);
        self.results == recorded.results && writes.into_iter().eq(&recorded.writes)
    }

    fn apply(&self, memory: &mut [u8], slots: &mut [u64]) {
        for Write { address, bytes } in &self.writes {
            if let Some(range) = memory.get_mut(*address..*address + bytes.len()) {
                range.copy_from_slice(bytes);
            }
        }
        for (slot, result) in slots.iter_mut().zip(&self.results) {
            *slot = *result;
        }
    }
}

/// A function whose calls are recorded and repeated.
pub(crate) struct Repeatable(pub(crate) HostFunc);

impl Code for Repeatable {
    fn call(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()> {
        match instance.data_mut().opening {
            None => self.0.code().call(instance, slots),
            Some(_) => self.call_in_opening(instance, slots),
        }
    }

    fn call_few(&self, instance: &mut dyn DynInstance, a: u64, b: u64, c: u64, d: u64) -> Result<u64> {
        match instance.data_mut().opening {
            None => self.0.code().call_few(instance, a, b, c, d),
            Some(_) => {
                let mut slots = [a, b, c, d];
                self.call_in_opening(instance, &mut slots)?;
                Ok(slots[0])
            }
        }
    }

    fn named(&self, name: Arc<Name>) -> Box<dyn Code> {
        Box::new(Self(self.0.named(Name::clone(&name))))
    }
}

impl Repeatable {
    pub(crate) fn func(func: HostFunc) -> HostFunc {
        HostFunc::new(func.full_name().clone(), func.ty().clone(), Box::new(Self(func)))
    }

    #[cold]
    fn call_in_opening(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()> {
        let (memory, data) = instance.memory_and_data();
        let length = memory.len();
        let Some(opening) = &mut data.opening else { return self.0.code().call(instance, slots) };
        let params = params(self.0.ty(), slots);
        if let Some(call) = opening.made.pop_front() {
            if (call.func.full_name(), &call.params, call.length) == (self.0.full_name(), &params, length) {
                call.made.apply(memory, slots);
                return Ok(());
            }
            // The guest does not do what it did before: it got less memory.
            opening.made.clear();
        }
        opening.noted.clear();
        let export = opening.export;
        self.0.code().call(instance, slots)?;
        let (memory, data) = instance.memory_and_data();
        if let Some(opening) = &mut data.opening {
            let results = slots.iter().take(self.0.ty().results.len()).copied().collect();
            let made = Made { results, writes: Vec::new() };
            opening.add(Call { func: self.0.clone(), params, length, export, made }, memory);
        }
        Ok(())
    }
}

/// Returns the parameters in slots. The upper half of a slot with a 32-bit value may hold anything.
fn params(ty: &FuncType, slots: &[u64]) -> Vec<u64> {
    let param = |(ty, slot): (&ValType, &u64)| match ty {
        ValType::I32 | ValType::F32 => u64::from(*slot as u32),
        _ => *slot,
    };
    ty.params.iter().zip(slots).map(param).collect()
}

/// Stands for the instance that calls a function, where there is none.
struct Absent<'a> {
    data: &'a mut StoreData,
    length: usize,
    writes: &'a mut Vec<Write>,
}

impl DynInstance for Absent<'_> {
    fn get_func(&mut self, _: &str, _: &FuncType) -> Result<AnyFunc> {
        Err(Error::engine(Operation::Resolve, "a repeatable function calls nothing"))
    }

    fn call(&mut self, _: &(dyn Any + Send + Sync), _: &mut [u64]) -> Result<()> {
        Err(Error::engine(Operation::Call, "a repeatable function calls nothing"))
    }

    fn memory(&self) -> &[u8] {
        &[]
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        &mut []
    }

    fn data(&self) -> &StoreData {
        self.data
    }

    fn data_mut(&mut self) -> &mut StoreData {
        self.data
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        (&mut [], self.data)
    }

    fn output_and_state(&mut self) -> (Output<'_>, &mut (dyn Any + Send)) {
        (Output(To::List(self.length, self.writes)), &mut *self.data.state)
    }
}
