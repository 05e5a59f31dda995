//! Where a fault goes in: a host on wasmi that does everything right but for what a [`Fault`] replaces.

mod injected;
mod sections;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::{replace, take};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use mistletoe::host::{Data, HostFunc};
use mistletoe::types::{FuncType, ValType};
use mistletoe::{Backend, Error, ErrorKind, Instance, Limits, Operation, Package, Result, Session, ValidModule, Wasmi};
use mistletoe_conformance::host::{Host, HostPackage, HostSession, load_other};
use mistletoe_conformance::setup::{Protocol, Setup, State};

pub(crate) use injected::{Code, change, change_globals, i64_const};
pub(crate) use sections::{bounded_memory, unbounded_memory};

type Engine = <Wasmi as Backend>::Instance;
type EngineFunc = <Engine as Instance>::Func;

/// A host with one fault. What is not replaced is as in [`SOUND`].
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    /// What it does wrong.
    pub(crate) name: &'static str,
    /// Alters the module that the engine compiles.
    pub(crate) bytes: fn(&[u8]) -> Option<Vec<u8>>,
    /// Is done right after instantiation.
    pub(crate) start: fn(&mut Guest) -> Result<()>,
    /// Makes a call of the protocol's.
    pub(crate) call: fn(&mut Guest, Step, &[u32]) -> Result<u32>,
    /// Carries out a call of the host function of this name.
    pub(crate) host: HostCall,
    /// Chooses the limits.
    pub(crate) limits: fn(Limits) -> Limits,
    /// Decides on a module that is refused; `None` takes it.
    pub(crate) refuse: fn(ErrorKind) -> Option<ErrorKind>,
    /// Opens a session.
    pub(crate) open: fn(&Arc<Loaded>) -> Result<Opened>,
    /// Asks a session for its info, or hands it an input.
    pub(crate) ask: fn(&mut Opened, Option<&str>) -> Result<String>,
    /// Has a plugin answer a request.
    pub(crate) request: fn(&mut OtherSession, &str) -> Result<()>,
    /// Tells what a plugin, or any other guest, wrote to its two streams.
    pub(crate) streams: fn(&mut OtherSession) -> (String, String),
    /// Tells what poisoned a session.
    pub(crate) fault: fn(&Opened) -> Option<Error>,
    /// Reports an error.
    pub(crate) error: fn(ErrorKind) -> ErrorKind,
}

/// The name of a host function, the slots it is called with, and the call itself.
type HostCall = fn(&str, &mut [u64], &mut dyn FnMut(&mut [u64]) -> Result<()>) -> Result<()>;

/// A host without a fault.
pub(crate) const SOUND: Fault = Fault {
    name: "sound",
    bytes: |_| None,
    start: |_| Ok(()),
    call: Guest::call,
    host: |_, slots, call| call(slots),
    limits: |limits| limits,
    refuse: Some,
    open: Loaded::open,
    ask: Opened::ask,
    request: OtherSession::request,
    streams: OtherSession::streams,
    fault: Opened::poison,
    error: |error| error,
};

/// The calls of the protocol, in the terms of `docs/abi.md`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Step {
    Start,
    /// Asks for the fuel at hand: no fault is in that.
    Fuel,
    Initialize,
    Info,
    Alloc,
    Generate,
    FreeInput,
    FreeOutput,
    Malloc,
    Free,
    Run,
    RunWithInput,
    Command,
}

/// A range of the guest's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Span {
    pub(crate) address: u32,
    pub(crate) length: u32,
}

/// A live instance, with what a fault can want to know of the calls before.
pub(crate) struct Guest {
    fault: Fault,
    engine: Engine,
    functions: HashMap<&'static str, EngineFunc>,
    /// What the layer calls the start function.
    start: String,
    shown: Shown,
    /// The memory as it was after instantiation, for a fault that keeps it.
    pub(crate) fresh: Vec<u8>,
    /// The input of the current call.
    pub(crate) input: Span,
    /// What the last `info` or `generate` answered with.
    pub(crate) fat_pointer: u32,
    /// The output of the current call, where the fat pointer could be read.
    pub(crate) output: Option<Span>,
    /// The info string that was asked for last.
    pub(crate) info: Option<Span>,
    /// The output that was asked for lies elsewhere in what is shown.
    pub(crate) moved: bool,
    /// What was shown instead of the memory, with what was written there.
    pub(crate) written: Vec<u8>,
    /// How large the memory was after instantiation.
    pub(crate) first_size: usize,
    /// How many times the current call has freed.
    freed: u32,
    /// For whatever a fault has to remember.
    pub(crate) kept: Option<Span>,
    pub(crate) pending: bool,
    max_output: u64,
}

/// What the layer sees as the guest's memory until the next call.
enum Shown {
    Memory,
    /// So many bytes of it.
    Bound(usize),
    /// Other bytes, and whether they were written to.
    Copy(Vec<u8>, bool),
}

/// A larger memory is not copied: its faults are shown on smaller ones.
const MAX_COPY: usize = 1 << 20;

thread_local! {
    /// From a host to the instance that it is about to call on the same thread: how many characters the input has, …
    pub(crate) static CHARACTERS: Cell<u32> = const { Cell::new(0) };
    /// … that its memory starts anew, and another memory to start with.
    pub(crate) static RESET: Cell<bool> = const { Cell::new(false) };
    pub(crate) static HANDED_ON: RefCell<Option<Memory>> = const { RefCell::new(None) };
    /// The state of the session that is about to be opened.
    static STATE: Cell<Option<State>> = const { Cell::new(None) };
    /// And back from the instance: how long the output is, and a trap that the layer was not told of.
    pub(crate) static LENGTH: Cell<u64> = const { Cell::new(0) };
    pub(crate) static TRAPPED: Cell<Option<ErrorKind>> = const { Cell::new(None) };
}

impl Step {
    pub(crate) fn export(self) -> &'static str {
        match self {
            Self::Start => "start function",
            Self::Fuel => "fuel",
            Self::Malloc => "malloc",
            Self::Free => "free",
            Self::Run | Self::RunWithInput => "run",
            Self::Command => "_start",
            Self::Initialize => "_initialize",
            Self::Info => "__mistletoe_info",
            Self::Alloc => "__mistletoe_alloc",
            Self::Generate => "__mistletoe_generate",
            Self::FreeInput | Self::FreeOutput => "__mistletoe_dealloc",
        }
    }

    fn params(self) -> usize {
        match self {
            Self::Start | Self::Fuel | Self::Initialize | Self::Info | Self::Run | Self::Command => 0,
            Self::Alloc | Self::Malloc | Self::Free => 1,
            Self::Generate | Self::FreeInput | Self::FreeOutput | Self::RunWithInput => 2,
        }
    }

    /// As many slots as it has parameters or results.
    fn slots(self) -> usize {
        self.params().max(usize::from(matches!(self, Self::Fuel | Self::Info | Self::Alloc | Self::Malloc)))
    }

    /// Whether it is one of the two that free.
    pub(crate) fn frees(self) -> bool {
        matches!(self, Self::FreeInput | Self::FreeOutput)
    }

    /// Whether it answers with a fat pointer.
    pub(crate) fn answers(self) -> bool {
        matches!(self, Self::Info | Self::Generate)
    }
}

impl Span {
    pub(crate) fn of(self, memory: &[u8]) -> Option<&[u8]> {
        memory.get(self.address as usize..self.address as usize + self.length as usize)
    }
}

impl Guest {
    /// Makes a call as it should be made.
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
        self.functions.insert(step.export(), self.engine.func(name, ty)?);
        Ok(())
    }

    /// Frees a range.
    pub(crate) fn free(&mut self, span: Span) -> Result<u32> {
        self.call(Step::FreeInput, &[span.address, span.length])
    }

    /// Calls a function `[] -> []` that is none of the protocol's, if there is one.
    pub(crate) fn call_other(&mut self, name: &str) -> Result<()> {
        match self.engine.func(name, &FuncType::new(&[], &[])) {
            Ok(function) => self.engine.call(&function, &mut []),
            Err(_) => Ok(()),
        }
    }

    /// Whether there is a start function.
    pub(crate) fn has_start(&self) -> bool {
        self.functions.contains_key(Step::Start.export())
    }

    /// Whether it is a package.
    pub(crate) fn is_package(&mut self) -> bool {
        self.engine.func(Step::Info.export(), &FuncType::new(&[], &[ValType::I32])).is_ok()
    }

    /// Whether a function of the protocol's is there.
    pub(crate) fn has(&mut self, step: Step) -> bool {
        self.engine.func(step.export(), &FuncType::new(&[], &[])).is_ok()
    }

    pub(crate) fn memory(&self) -> &[u8] {
        self.engine.memory()
    }

    pub(crate) fn memory_mut(&mut self) -> &mut [u8] {
        self.engine.memory_and_data().0
    }

    /// Where the current fat pointer points.
    pub(crate) fn follow(&self) -> Option<Span> {
        match *(Span { address: self.fat_pointer, length: 8 }).of(self.memory())? {
            [a, b, c, d, e, f, g, h] => {
                Some(Span { address: u32::from_le_bytes([a, b, c, d]), length: u32::from_le_bytes([e, f, g, h]) })
            }
            _ => None,
        }
    }

    /// The current output, if it lies inside the memory.
    pub(crate) fn held_output(&self) -> Option<Span> {
        self.output.filter(|span| span.of(self.memory()).is_some())
    }

    /// Whether the current output is none for the host: outside, too long, or not UTF-8.
    pub(crate) fn is_unreadable(&self) -> bool {
        let bytes = self.output.and_then(|span| span.of(self.memory()));
        bytes.is_none_or(|bytes| bytes.len() as u64 > self.max_output || std::str::from_utf8(bytes).is_err())
    }

    /// Whether the current output is longer than the host allows.
    pub(crate) fn is_too_long(&self) -> bool {
        self.output.is_some_and(|span| u64::from(span.length) > self.max_output)
    }

    /// Shows the layer the memory's first bytes only.
    pub(crate) fn show_bound(&mut self, bytes: usize) {
        self.shown = Shown::Bound(bytes);
    }

    /// Shows the layer other bytes than the memory's.
    pub(crate) fn show(&mut self, bytes: Vec<u8>) {
        self.shown = Shown::Copy(bytes, false);
    }

    /// The memory, to be altered and shown.
    pub(crate) fn copy(&self) -> Option<Vec<u8>> {
        Some(self.memory()).filter(|memory| memory.len() <= MAX_COPY).map(<[u8]>::to_vec)
    }

    /// Shows the layer another fat pointer, where there is one.
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

    /// Shows the layer another output or info. What is freed is still what the guest said.
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

    fn func(&mut self, name: &str, ty: &FuncType) -> Result<Step> {
        use Step::{Alloc, Command, Free, FreeInput, Generate, Info, Initialize, Malloc, Run, RunWithInput};
        let steps = [Initialize, Info, Alloc, Generate, FreeInput, Malloc, Free, Run, RunWithInput, Command];
        let step = steps.into_iter().find(|step| step.export() == name && step.params() == ty.params.len());
        // The two functions that the layer calls by names of its own making.
        let step = step.unwrap_or(if ty.results.is_empty() { Step::Start } else { Step::Fuel });
        match step {
            Step::Start => name.clone_into(&mut self.start),
            Step::Fuel => {
                self.functions.insert(step.export(), self.engine.func(name, ty)?);
                return Ok(step);
            }
            _ => {}
        }
        self.resolve(step, ty)?;
        Ok(step)
    }

    fn call(&mut self, step: &Step, slots: &mut [u64]) -> Result<()> {
        if let (Step::Fuel, Some(function)) = (step, self.functions.get(step.export())) {
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
        let result = (self.fault.call)(self, step, &params)?;
        if let [slot, ..] = slots {
            *slot = result.into();
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

    fn data(&self) -> &Data {
        self.engine.data()
    }

    fn data_mut(&mut self) -> &mut Data {
        self.engine.data_mut()
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut Data) {
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
    wasmi: Wasmi,
    fault: Fault,
    max_output: u64,
}

impl Backend for Faulty {
    type Module = <Wasmi as Backend>::Module;
    type Instance = Guest;

    fn name(&self) -> &'static str {
        self.fault.name
    }

    fn compile(&self, module: &ValidModule<'_>, imports: &[HostFunc]) -> Result<Self::Module> {
        let host = self.fault.host;
        let imports: Vec<_> = imports
            .iter()
            .map(|import| {
                let name = import.name().to_owned();
                import.wrap(move |slots, call| host(&name, slots, call))
            })
            .collect();
        match (self.fault.bytes)(module.bytes()) {
            Some(bytes) => self.wasmi.compile(&ValidModule::new(&bytes)?, &imports),
            None => self.wasmi.compile(module, &imports),
        }
    }

    fn instantiate(&self, module: &Self::Module, data: Data) -> Result<Guest> {
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
            max_output: self.max_output,
        };
        guest.first_size = guest.memory().len();
        (self.fault.start)(&mut guest)?;
        Ok(guest)
    }
}

/// A host with a fault.
pub(crate) struct FaultyHost(pub(crate) Fault);

/// A package that it loaded.
pub(crate) struct Loaded {
    /// `None` for a module that should have been refused.
    package: Option<Package<Faulty, State>>,
    fault: Fault,
    pub(crate) max_output: u64,
    /// How many sessions were opened.
    pub(crate) opened: AtomicUsize,
    /// For faults that keep sessions: who opened them first, and they.
    pub(crate) sessions: Mutex<Vec<(ThreadId, Shared)>>,
    /// For faults that keep answers.
    pub(crate) answers: Mutex<Answers>,
    /// For faults that count calls.
    pub(crate) asked: Mutex<u32>,
    /// For faults that hand an instance's memory on to the next.
    pub(crate) memory: Memory,
}

/// A memory that outlives its instance.
pub(crate) type Memory = Arc<Mutex<Vec<u8>>>;
/// A session that others may have, too.
pub(crate) type Shared = Arc<Mutex<Session<Faulty, State>>>;
/// Answers by the input, or of `info`.
pub(crate) type Answers = HashMap<Option<String>, String>;

/// A session of its user's.
pub(crate) struct Opened {
    pub(crate) package: Arc<Loaded>,
    pub(crate) session: Shared,
    /// For faults that keep an error, answers, or that the session is not new.
    pub(crate) error: Option<Error>,
    pub(crate) answers: Answers,
    pub(crate) reused: bool,
}

/// A package that a faulty host has loaded.
struct Handle(Arc<Loaded>);

/// A module of another protocol that a faulty host has loaded; `None` for one that should have been refused.
struct Other {
    package: Option<Box<dyn HostPackage>>,
    fault: Fault,
}

/// A session of another protocol than packages'.
pub(crate) struct OtherSession {
    session: Box<dyn HostSession>,
    fault: Fault,
    /// For faults that keep something of a request's input or output for the next one, …
    pub(crate) kept: (String, String),
    /// … or that show nothing of what it wrote.
    pub(crate) silent: bool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loaded {
    /// Opens a session of its own.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Opened> {
        self.opened.fetch_add(1, Relaxed);
        let package = self.package.as_ref().ok_or_else(|| Error::engine(Operation::Instantiate, "not a package"))?;
        let state = STATE.take().unwrap_or_default();
        Ok(self.opened_as(Arc::new(Mutex::new(package.session_with(state)?)), false))
    }

    /// Opens a session that was kept, if there is one that will do; else a new one, and keeps it.
    pub(crate) fn open_kept(self: &Arc<Self>, will_do: fn(ThreadId, &Shared) -> bool) -> Result<Opened> {
        let kept = lock(&self.sessions).iter().find(|(by, kept)| will_do(*by, kept)).map(|(_, kept)| kept.clone());
        if let Some(session) = kept {
            return Ok(self.opened_as(session, true));
        }
        let opened = self.open()?;
        lock(&self.sessions).push((thread::current().id(), opened.session.clone()));
        Ok(opened)
    }

    fn opened_as(self: &Arc<Self>, session: Shared, reused: bool) -> Opened {
        Opened { package: self.clone(), session, error: None, answers: HashMap::new(), reused }
    }
}

impl Opened {
    pub(crate) fn ask(&mut self, input: Option<&str>) -> Result<String> {
        CHARACTERS.set(input.unwrap_or_default().chars().count() as u32);
        let mut session = lock(&self.session);
        match input {
            None => session.info(),
            Some(input) => session.generate(input),
        }
    }

    pub(crate) fn poison(&self) -> Option<Error> {
        lock(&self.session).fault().cloned()
    }

    fn answer(&mut self, input: Option<&str>) -> Result<String> {
        let fault = self.package.fault;
        (fault.ask)(self, input).map_err(|error| report(fault, &error))
    }
}

impl OtherSession {
    pub(crate) fn request(&mut self, input: &str) -> Result<()> {
        self.session.request(input)
    }

    pub(crate) fn streams(&mut self) -> (String, String) {
        self.session.streams()
    }

    pub(crate) fn poison(&self) -> Option<Error> {
        self.session.fault()
    }
}

/// An error as a fault reports it.
fn report(fault: Fault, error: &Error) -> Error {
    match (fault.error)(error.kind().clone()) {
        kind if kind == *error.kind() => error.clone(),
        kind => kind.into(),
    }
}

/// What was loaded, if anything was; `None` where a fault takes a module that is refused.
fn unless_taken<P>(fault: Fault, loaded: Result<P>) -> Result<Option<P>> {
    match loaded {
        Ok(package) => Ok(Some(package)),
        Err(error) => match (fault.refuse)(error.kind().clone()) {
            Some(error) => Err((fault.error)(error).into()),
            None => Ok(None),
        },
    }
}

impl Host for FaultyHost {
    fn name(&self) -> &str {
        self.0.name
    }

    fn load(&self, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>> {
        let fault = self.0;
        let max_output = setup.limits.max_output;
        let backend = Faulty { wasmi: Wasmi::new(), fault, max_output };
        // A guest that a fault has go on for ever is wrong soon, and leaves no thread behind.
        let ends = setup.limits.timeout.unwrap_or(Duration::from_secs(15));
        let limits = (fault.limits)(setup.limits.clone().timeout(ends));
        if setup.protocol != Protocol::Package {
            let mut setup = setup.clone();
            setup.limits = limits;
            let package = unless_taken(fault, load_other(&backend, wasm, &setup))?;
            return Ok(Box::new(Other { package, fault }));
        }
        let package = unless_taken(fault, Package::with_imports(&backend, wasm, &setup.imports, limits))?;
        Ok(Box::new(Handle(Arc::new(Loaded {
            package,
            fault,
            max_output,
            opened: AtomicUsize::new(0),
            sessions: Mutex::default(),
            answers: Mutex::default(),
            asked: Mutex::default(),
            memory: Memory::default(),
        }))))
    }
}

impl HostPackage for Handle {
    fn open(&self, state: State) -> Result<Box<dyn HostSession>> {
        let fault = self.0.fault;
        STATE.set(Some(state));
        let opened = (fault.open)(&self.0).map_err(|error| report(fault, &error))?;
        Ok(Box::new(opened))
    }
}

impl HostSession for Opened {
    fn info(&mut self) -> Result<String> {
        self.answer(None)
    }

    fn fuel(&mut self) -> Option<u64> {
        lock(&self.session).fuel_used().ok().flatten()
    }

    fn generate(&mut self, input: &str) -> Result<String> {
        self.answer(Some(input))
    }

    fn streams(&mut self) -> (String, String) {
        lock(&self.session).state_mut().take_streams()
    }

    fn state_mut(&mut self) -> Option<&mut State> {
        None
    }

    fn fault(&self) -> Option<Error> {
        let fault = self.package.fault;
        (fault.fault)(self).map(|error| report(fault, &error))
    }
}

impl HostPackage for Other {
    fn open(&self, state: State) -> Result<Box<dyn HostSession>> {
        let fault = self.fault;
        let package = self.package.as_ref().ok_or_else(|| Error::engine(Operation::Instantiate, "not a guest"))?;
        let session = package.open(state).map_err(|error| report(fault, &error))?;
        Ok(Box::new(OtherSession { session, fault, kept: Default::default(), silent: false }))
    }
}

impl HostSession for OtherSession {
    fn request(&mut self, input: &str) -> Result<()> {
        let fault = self.fault;
        self.silent = false;
        (fault.request)(self, input).map_err(|error| report(fault, &error))
    }

    fn fuel(&mut self) -> Option<u64> {
        self.session.fuel()
    }

    fn start(&mut self) -> Result<u32> {
        let fault = self.fault;
        self.session.start().map_err(|error| report(fault, &error))
    }

    fn streams(&mut self) -> (String, String) {
        let streams = (self.fault.streams)(self);
        if self.silent { Default::default() } else { streams }
    }

    fn state_mut(&mut self) -> Option<&mut State> {
        self.session.state_mut()
    }

    fn fault(&self) -> Option<Error> {
        self.session.fault().map(|error| report(self.fault, &error))
    }
}
