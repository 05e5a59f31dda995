//! The faulty engine, and what a fault can read of an instance and do with it.

use std::collections::HashMap;
use std::mem::{replace, take};

use mistletoe::backend::{HostFunc, StoreData};
use mistletoe::backend::{Instance, ModuleSource};
use mistletoe::module::Config;
use mistletoe::types::{FuncType, ValType};
use mistletoe::{Backend, Error, Operation, Result, Wasmi};
use mistletoe_scheduler::protocol::Function;

use super::{Fault, RESET, Span, Step};

type Engine = <Wasmi as Backend>::Instance;
type EngineFunc = <Engine as Instance>::Func;

/// An instance, with what a fault may need to know of earlier calls.
pub(crate) struct Guest {
    fault: Fault,
    engine: Engine,
    functions: HashMap<&'static str, EngineFunc>,
    /// The layer's name for the start function.
    start: String,
    shown: Shown,
    /// The memory after instantiation, for a fault that keeps it.
    pub(crate) fresh: Vec<u8>,
    /// The input of the current call.
    pub(crate) input: Span,
    /// The result of the last `info` or `generate`.
    pub(crate) fat_pointer: u32,
    /// The output of the current call, if the fat pointer could be read.
    pub(crate) output: Option<Span>,
    /// The info string that was last read.
    pub(crate) info: Option<Span>,
    /// Whether the output is at another address in the shown memory.
    pub(crate) moved: bool,
    /// The memory shown instead of the real one, with what was written to it.
    pub(crate) written: Vec<u8>,
    /// The size of the memory after instantiation.
    pub(crate) first_size: usize,
    /// How many times the current call has freed.
    freed: u32,
    /// Anything else that a fault has to remember.
    pub(crate) kept: Option<Span>,
    pub(crate) pending: bool,
    /// The upper half of the result of the last call, where that is an `i64`.
    pub(crate) upper: u32,
    max_output: u64,
}

/// The memory that the layer sees until the next call.
enum Shown {
    Memory,
    /// Only the first bytes of the memory.
    Bound(usize),
    /// Other bytes, and whether they were written to.
    Copy(Vec<u8>, bool),
}

/// A larger memory is not copied. Smaller ones show the same faults.
const MAX_COPY: usize = 1 << 20;

impl Guest {
    /// Makes a call without a fault.
    pub(crate) fn call(&mut self, step: Step, params: &[u32]) -> Result<u32> {
        let function = self.functions.get(step.export());
        let function = function.ok_or_else(|| Error::engine(Operation::Resolve, "a function was never resolved"))?;
        let mut slots = [0; 2];
        for (slot, param) in slots.iter_mut().zip(params) {
            *slot = u64::from(*param);
        }
        let taken = slots.get_mut(..step.slots());
        self.engine.call(function, taken.unwrap_or_default())?;
        let result = slots[0] as u32;
        self.upper = (slots[0] >> 32) as u32;
        match step {
            Step::Alloc => self.input = Span { address: result, length: params.first().copied().unwrap_or_default() },
            Step::Generate | Step::Info => {
                self.fat_pointer = result;
                let span = self.follow();
                if step == Step::Info { self.info = span } else { self.output = span }
            }
            _ => {}
        }
        Ok(result)
    }

    /// Resolves a function before the layer does.
    pub(crate) fn resolve(&mut self, step: Step, ty: &FuncType) -> Result<()> {
        let name = if step == Step::Start { &self.start } else { step.export() };
        self.functions.insert(step.export(), self.engine.get_func(name, ty)?);
        Ok(())
    }

    /// Frees a range.
    pub(crate) fn free(&mut self, span: Span) -> Result<u32> {
        self.call(Step::FreeInput, &[span.address, span.length])
    }

    /// Calls a function `[] -> []` that is not part of the protocol, if it exists.
    pub(crate) fn call_other(&mut self, name: &str) -> Result<()> {
        match self.engine.get_func(name, &FuncType::new(&[], &[])) {
            Ok(function) => self.engine.call(&function, &mut []),
            Err(_) => Ok(()),
        }
    }

    /// Returns whether there is a start function.
    pub(crate) fn has_start(&self) -> bool {
        self.functions.contains_key(Step::Start.export())
    }

    /// Returns whether it is a package.
    pub(crate) fn is_package(&mut self) -> bool {
        self.engine.get_func(Step::Info.export(), &FuncType::new(&[], &[ValType::I32])).is_ok()
    }

    /// Returns whether a function of the protocol exists.
    pub(crate) fn has(&mut self, step: Step) -> bool {
        self.engine.get_func(step.export(), &FuncType::new(&[], &[])).is_ok()
    }

    pub(crate) fn memory(&self) -> &[u8] {
        self.engine.memory()
    }

    pub(crate) fn memory_mut(&mut self) -> &mut [u8] {
        self.engine.memory_and_data().0
    }

    /// Returns the range that the current fat pointer describes.
    pub(crate) fn follow(&self) -> Option<Span> {
        match *(Span { address: self.fat_pointer, length: 8 }).of(self.memory())? {
            [a, b, c, d, e, f, g, h] => {
                Some(Span { address: u32::from_le_bytes([a, b, c, d]), length: u32::from_le_bytes([e, f, g, h]) })
            }
            _ => None,
        }
    }

    /// Returns the current output, if it lies inside the memory.
    pub(crate) fn held_output(&self) -> Option<Span> {
        self.output.filter(|span| span.of(self.memory()).is_some())
    }

    /// Returns whether the host cannot read the current output: it is out of bounds, too long, or not UTF-8.
    pub(crate) fn is_unreadable(&self) -> bool {
        let bytes = self.output.and_then(|span| span.of(self.memory()));
        bytes.is_none_or(|bytes| bytes.len() as u64 > self.max_output || std::str::from_utf8(bytes).is_err())
    }

    /// Returns whether the current output is longer than the host allows.
    pub(crate) fn is_too_long(&self) -> bool {
        self.output.is_some_and(|span| u64::from(span.length) > self.max_output)
    }

    /// Shows the layer only the first bytes of the memory.
    pub(crate) fn show_bound(&mut self, bytes: usize) {
        self.shown = Shown::Bound(bytes);
    }

    /// Shows the layer other bytes in place of the memory.
    pub(crate) fn show(&mut self, bytes: Vec<u8>) {
        self.shown = Shown::Copy(bytes, false);
    }

    /// Returns a copy of the memory, to alter and show.
    pub(crate) fn copy(&self) -> Option<Vec<u8>> {
        Some(self.memory()).filter(|memory| memory.len() <= MAX_COPY).map(<[u8]>::to_vec)
    }

    /// Shows the layer another fat pointer, if there is one.
    pub(crate) fn show_fat_pointer(&mut self, span: Span) {
        if let Some(mut copy) = self.copy() {
            let at = self.fat_pointer as usize;
            if let Some(bytes) = copy.get_mut(at..at + 8) {
                bytes[..4].copy_from_slice(&span.address.to_le_bytes());
                bytes[4..].copy_from_slice(&span.length.to_le_bytes());
                self.show(copy);
            }
        }
    }

    /// Shows the layer another output or info. The guest's own output is still what is freed.
    pub(crate) fn show_answer(&mut self, answer: &[u8]) {
        let Ok(address) = u32::try_from(self.memory().len()) else { return };
        let Ok(length) = u32::try_from(answer.len()) else { return };
        self.show_fat_pointer(Span { address, length });
        if let Shown::Copy(bytes, _) = &mut self.shown {
            bytes.extend(answer);
            self.moved = true;
        }
    }
}

impl Instance for Guest {
    type Func = Step;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<Step> {
        use Step::{Alloc, Command, Free, FreeInput, Generate, Info, Initialize, Malloc, Run, RunWithInput};
        use Step::{HandleRequest, HandleResponse};
        let packages = [Initialize, Info, Alloc, Generate, FreeInput];
        let others = [Malloc, Free, Run, RunWithInput, Command, HandleRequest, HandleResponse];
        let plugins = Function::ALL.into_iter().map(Step::Plugin);
        let mut steps = packages.into_iter().chain(others).chain(plugins);
        let step = steps.find(|step| step.export() == name && step.params() == ty.params.len());
        // The layer calls these functions by names that it chooses.
        let own = [Step::Position, Step::Save, Step::Load];
        let step = step.unwrap_or(match ty.results.is_empty() {
            true => Step::Start,
            false => own.into_iter().find(|step| name.starts_with(step.export())).unwrap_or(Step::Fuel),
        });
        match step {
            Step::Start => name.clone_into(&mut self.start),
            Step::Fuel | Step::Position | Step::Save | Step::Load => {
                self.functions.insert(step.export(), self.engine.get_func(name, ty)?);
                return Ok(step);
            }
            _ => {}
        }
        self.resolve(step, ty)?;
        Ok(step)
    }

    fn call(&mut self, step: &Step, slots: &mut [u64]) -> Result<()> {
        if let (Step::Fuel | Step::Position, Some(function)) = (step, self.functions.get(step.export())) {
            return self.engine.call(function, slots);
        }
        if let Shown::Copy(bytes, true) = replace(&mut self.shown, Shown::Memory) {
            self.engine.memory_and_data().0.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            self.written = bytes;
        }
        if RESET.take() {
            for (i, byte) in self.engine.memory_and_data().0.iter_mut().enumerate() {
                *byte = self.fresh.get(i).copied().unwrap_or_default();
            }
        }
        let mut step = *step;
        let mut params: Vec<u32> = slots.iter().take(step.params()).map(|slot| *slot as u32).collect();
        match step {
            Step::FreeInput => {
                // The layer frees the input first, then the output.
                self.freed += 1;
                if self.freed == 2 {
                    step = Step::FreeOutput;
                    if let (true, Some(Span { address, length })) = (take(&mut self.moved), self.output) {
                        params = vec![address, length];
                    }
                }
            }
            _ => (self.freed, self.moved) = (0, false),
        }
        self.upper = 0;
        let result = (self.fault.call)(self, step, &params)?;
        if let [slot, ..] = slots {
            *slot = u64::from(self.upper) << 32 | u64::from(result);
        }
        Ok(())
    }

    fn memory(&self) -> &[u8] {
        let memory = self.engine.memory();
        match &self.shown {
            Shown::Memory => memory,
            Shown::Bound(bound) => memory.get(..*bound).unwrap_or(memory),
            Shown::Copy(bytes, _) => bytes,
        }
    }

    fn data(&self) -> &StoreData {
        self.engine.data()
    }

    fn data_mut(&mut self) -> &mut StoreData {
        self.engine.data_mut()
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        let (memory, data) = self.engine.memory_and_data();
        let memory = match &mut self.shown {
            Shown::Memory => memory,
            Shown::Bound(bound) => {
                let end = memory.len().min(*bound);
                &mut memory[..end]
            }
            Shown::Copy(bytes, written) => {
                *written = true;
                bytes
            }
        };
        (memory, data)
    }
}

/// The engine with a fault.
#[derive(Clone)]
pub(crate) struct Faulty {
    pub(super) wasmi: Wasmi,
    pub(super) fault: Fault,
    pub(super) max_output: u64,
}

impl Backend for Faulty {
    type Module = <Wasmi as Backend>::Module;
    type Instance = Guest;

    fn name(&self) -> &'static str {
        self.fault.name
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<Self::Module> {
        let host = self.fault.host;
        let imports: Vec<_> = imports
            .iter()
            .map(|import| {
                let name = import.name().to_owned();
                import.wrap(move |slots, call| host(&name, slots, call))
            })
            .collect();
        match (self.fault.bytes)(source.validate(self)?.bytes()) {
            Some(bytes) => self.wasmi.compile(&ModuleSource::new(&bytes, Config::default()), &imports),
            None => self.wasmi.compile(source, &imports),
        }
    }

    fn instantiate(&self, module: &Self::Module, data: StoreData) -> Result<Guest> {
        let engine = self.wasmi.instantiate(module, data)?;
        let mut guest = Guest {
            fresh: Vec::new(),
            fault: self.fault,
            engine,
            functions: HashMap::new(),
            start: String::new(),
            shown: Shown::Memory,
            input: Span::default(),
            fat_pointer: 0,
            output: None,
            info: None,
            moved: false,
            written: Vec::new(),
            first_size: 0,
            freed: 0,
            kept: None,
            pending: false,
            upper: 0,
            max_output: self.max_output,
        };
        guest.first_size = guest.memory().len();
        (self.fault.start)(&mut guest)?;
        Ok(guest)
    }
}
