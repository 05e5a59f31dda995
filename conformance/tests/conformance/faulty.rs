//! A host on wasmi that does everything right except for what a [`Fault`] replaces.

mod guest;
mod host;
mod injected;
mod sections;

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mistletoe::{Error, ErrorKind, Limits, Result};
use mistletoe_conformance::http::Exchanged;
use mistletoe_conformance::setup::State;
use mistletoe_scheduler::protocol::Function;

pub(crate) use guest::Guest;
use host::Loaded;
pub(crate) use host::{FaultyHost, Memory, Opened, OtherSession, Shared};
pub(crate) use injected::{Code, change, change_globals, i64_const};
pub(crate) use sections::{bounded_memory, unbounded_memory};

/// A host with one fault. Fields that are not replaced are as in [`SOUND`].
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    /// What the host does wrong.
    pub(crate) name: &'static str,
    /// Alters the module that the engine compiles.
    pub(crate) bytes: fn(&[u8]) -> Option<Vec<u8>>,
    /// Runs right after instantiation.
    pub(crate) start: fn(&mut Guest) -> Result<()>,
    /// Makes a call of the protocol.
    pub(crate) call: fn(&mut Guest, Step, &[u32]) -> Result<u32>,
    /// Calls the host function of this name.
    pub(crate) host: HostCall,
    /// Chooses the limits.
    pub(crate) limits: fn(Limits) -> Limits,
    /// Decides on a module that is refused. `None` accepts it.
    pub(crate) refuse: fn(ErrorKind) -> Option<ErrorKind>,
    /// Opens a session.
    pub(crate) open: fn(&Arc<Loaded>) -> Result<Opened>,
    /// Reads a session's info, or passes it an input.
    pub(crate) ask: fn(&mut Opened, Option<&str>) -> Result<String>,
    /// Passes a request to a plugin.
    pub(crate) request: fn(&mut OtherSession, &str) -> Result<()>,
    /// Passes a message to middleware.
    pub(crate) exchange: fn(&mut OtherSession, Exchanged<'_>) -> Result<String>,
    /// Calls a function of a plugin of the scheduler.
    pub(crate) schedule: fn(&mut OtherSession, &str) -> Result<String>,
    /// Passes a request to the server.
    pub(crate) respond: fn(&mut OtherSession, &str) -> Result<String>,
    /// Returns what a plugin, or any other guest, wrote to its two streams.
    pub(crate) streams: fn(&mut OtherSession) -> (String, String),
    /// Returns the error that poisoned a session.
    pub(crate) fault: fn(&Opened) -> Option<Error>,
    /// Reports an error.
    pub(crate) error: fn(ErrorKind) -> ErrorKind,
}

/// The name of a host function, the slots of the call, and the call itself.
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
    exchange: OtherSession::exchange,
    schedule: OtherSession::schedule,
    respond: OtherSession::respond,
    streams: OtherSession::streams,
    fault: Opened::poison,
    error: |error| error,
};

/// The calls of the protocol, in the terms of `docs/abi.md`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Step {
    Start,
    /// Reads the available fuel. No fault affects this.
    Fuel,
    /// Reads where the guest is. No fault affects this.
    Position,
    /// Writes the globals to the memory.
    Save,
    /// Adds pages to the memory, and reads the globals there.
    Load,
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
    HandleRequest,
    HandleResponse,
    Plugin(Function),
}

/// A range of the guest's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Span {
    pub(crate) address: u32,
    pub(crate) length: u32,
}

thread_local! {
    /// From a host to the instance that it calls next on the same thread: the length of the input in characters.
    pub(crate) static CHARACTERS: Cell<u32> = const { Cell::new(0) };
    /// From the host, too: whether the memory is reset, and another memory to start with.
    pub(crate) static RESET: Cell<bool> = const { Cell::new(false) };
    pub(crate) static HANDED_ON: RefCell<Option<Memory>> = const { RefCell::new(None) };
    /// The state of the next session to be opened.
    static STATE: Cell<Option<State>> = const { Cell::new(None) };
    /// From the instance to the host: the length of the output, and a trap that is hidden from the layer.
    pub(crate) static LENGTH: Cell<u64> = const { Cell::new(0) };
    pub(crate) static TRAPPED: Cell<Option<ErrorKind>> = const { Cell::new(None) };
}

impl Step {
    pub(crate) fn export(self) -> &'static str {
        match self {
            Self::Start => "mistletoe: start function",
            Self::Fuel => "mistletoe: fuel",
            Self::Position => "mistletoe: position",
            Self::Save => "mistletoe: save",
            Self::Load => "mistletoe: load",
            Self::Malloc => "malloc",
            Self::Free => "free",
            Self::Run | Self::RunWithInput => "run",
            Self::Command => "_start",
            Self::HandleRequest => "handle_request",
            Self::HandleResponse => "handle_response",
            Self::Plugin(function) => function.name(),
            Self::Initialize => "_initialize",
            Self::Info => "__mistletoe_info",
            Self::Alloc => "__mistletoe_alloc",
            Self::Generate => "__mistletoe_generate",
            Self::FreeInput | Self::FreeOutput => "__mistletoe_dealloc",
        }
    }

    fn params(self) -> usize {
        match self {
            Self::Start
            | Self::Fuel
            | Self::Position
            | Self::Save
            | Self::Initialize
            | Self::Info
            | Self::Run
            | Self::Command
            | Self::HandleRequest
            | Self::Plugin(_) => 0,
            Self::Load | Self::Alloc | Self::Malloc | Self::Free => 1,
            Self::Generate | Self::FreeInput | Self::FreeOutput | Self::RunWithInput | Self::HandleResponse => 2,
        }
    }

    /// Returns the larger of the numbers of parameters and results.
    fn slots(self) -> usize {
        let responds = match self {
            Self::Save | Self::Load => true,
            Self::Fuel | Self::Position | Self::Info | Self::Alloc | Self::Malloc | Self::HandleRequest => true,
            Self::Plugin(function) => !matches!(function, Function::Enqueue | Function::Unreserve | Function::PostBind),
            _ => false,
        };
        self.params().max(usize::from(responds))
    }

    /// Returns whether it is one of the two calls that free.
    pub(crate) fn frees(self) -> bool {
        matches!(self, Self::FreeInput | Self::FreeOutput)
    }

    /// Returns whether its result is a fat pointer.
    pub(crate) fn answers(self) -> bool {
        matches!(self, Self::Info | Self::Generate)
    }
}

impl Span {
    pub(crate) fn of(self, memory: &[u8]) -> Option<&[u8]> {
        memory.get(self.address as usize..self.address as usize + self.length as usize)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
