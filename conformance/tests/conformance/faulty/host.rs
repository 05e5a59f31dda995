//! The faulty host: what it loads, and the sessions that it opens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use mistletoe::{AnyBackend, Error, Operation, Package, Result, Session, Wasmi};
use mistletoe_conformance::host::{Host, HostPackage, HostSession, load_other};
use mistletoe_conformance::http::Exchanged;
use mistletoe_conformance::setup::{Protocol, Setup, State};

use super::guest::Faulty;
use super::{CHARACTERS, Fault, STATE, lock};

/// A host with a fault.
pub(crate) struct FaultyHost(pub(crate) Fault);

/// A package loaded by a faulty host.
pub(crate) struct Loaded {
    /// `None` for a module that should have been refused.
    package: Option<Package<Faulty, State>>,
    fault: Fault,
    pub(crate) max_output: u64,
    /// How many sessions were opened.
    pub(crate) opened: AtomicUsize,
    /// For faults that keep sessions: the sessions, each with the thread that opened it.
    pub(crate) sessions: Mutex<Vec<(ThreadId, Shared)>>,
    /// For faults that keep outputs.
    pub(crate) answers: Mutex<Answers>,
    /// For faults that count calls.
    pub(crate) asked: Mutex<u32>,
    /// For faults that pass an instance's memory on to the next.
    pub(crate) memory: Memory,
}

/// A memory that outlives its instance.
pub(crate) type Memory = Arc<Mutex<Vec<u8>>>;
/// A session that may be shared.
pub(crate) type Shared = Arc<Mutex<Session<Faulty, State>>>;
/// Outputs by input, with the key `None` for the info.
pub(crate) type Answers = HashMap<Option<String>, String>;

/// A session as its user has it.
pub(crate) struct Opened {
    pub(crate) package: Arc<Loaded>,
    pub(crate) session: Shared,
    /// For faults that keep an error or outputs, or reuse a session.
    pub(crate) error: Option<Error>,
    pub(crate) answers: Answers,
    pub(crate) reused: bool,
}

/// A reference to a loaded package.
struct Handle(Arc<Loaded>);

/// A module of another protocol. `None` for a module that should have been refused.
struct Other {
    package: Option<Box<dyn HostPackage>>,
    fault: Fault,
}

/// A session of a protocol other than packages'.
pub(crate) struct OtherSession {
    session: Box<dyn HostSession>,
    fault: Fault,
    /// For faults that keep part of a request's input or output for the next one.
    pub(crate) kept: (String, String),
    /// For faults that hide what a request wrote.
    pub(crate) silent: bool,
}

impl Loaded {
    /// Opens a new session.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Opened> {
        self.opened.fetch_add(1, Relaxed);
        let package = self.package.as_ref().ok_or_else(|| Error::engine(Operation::Instantiate, "not a package"))?;
        let state = STATE.take().unwrap_or_default();
        Ok(self.opened_as(Arc::new(Mutex::new(package.session_with(state)?)), false))
    }

    /// Opens a kept session that `will_do`. If there is none, opens a new session and keeps it.
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

    pub(crate) fn exchange(&mut self, call: Exchanged<'_>) -> Result<String> {
        self.session.exchange(call)
    }

    pub(crate) fn schedule(&mut self, call: &str) -> Result<String> {
        self.session.schedule(call)
    }

    pub(crate) fn respond(&mut self, request: &str) -> Result<String> {
        self.session.respond(request)
    }

    pub(crate) fn streams(&mut self) -> (String, String) {
        self.session.streams()
    }

    pub(crate) fn poison(&self) -> Option<Error> {
        self.session.fault()
    }
}

/// Returns the error as the fault reports it.
fn report(fault: Fault, error: &Error) -> Error {
    match (fault.error)(error.kind().clone()) {
        kind if kind == *error.kind() => error.clone(),
        kind => kind.into(),
    }
}

/// Returns what was loaded, or `None` if the fault accepts a module that is refused.
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
        let max_output = setup.limits.max_output();
        let backend = Faulty { wasmi: Wasmi::new(), fault, max_output };
        // A guest that never ends because of a fault is stopped soon, and leaves no thread behind.
        let ends = setup.limits.timeout().unwrap_or(Duration::from_secs(15));
        let limits = (fault.limits)(setup.limits.with_timeout(ends));
        if setup.protocol != Protocol::Package {
            let mut setup = setup.clone();
            setup.limits = limits;
            let loaded = match setup.protocol {
                Protocol::Server => AnyBackend::new(backend).load(wasm, &setup),
                _ => load_other(&backend, wasm, &setup),
            };
            let package = unless_taken(fault, loaded)?;
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

    fn exchange(&mut self, call: Exchanged<'_>) -> Result<String> {
        let fault = self.fault;
        (fault.exchange)(self, call).map_err(|error| report(fault, &error))
    }

    fn schedule(&mut self, call: &str) -> Result<String> {
        let fault = self.fault;
        (fault.schedule)(self, call).map_err(|error| report(fault, &error))
    }

    fn respond(&mut self, request: &str) -> Result<String> {
        let fault = self.fault;
        (fault.respond)(self, request).map_err(|error| report(fault, &error))
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
