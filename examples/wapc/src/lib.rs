//! [waPC](https://wapc.io) as a protocol outside of the project's own crates.
//!
//! A host calls operations of a guest by name, with bytes in and bytes out, and the guest calls the host's operations
//! in the same way. The guest provides all memory.
//!
//! ```
//! use mistletoe_abi::{Backend, Imports, Limits, Result};
//! use wapc_protocol::{Answer, Call, Guest, Wapc};
//!
//! fn greet<B: Backend>(backend: &B, wasm: &[u8]) -> Result<Answer> {
//!     let protocol = Wapc::new(|call| Err(format!("there is no {}", call.operation)));
//!     let guest = Guest::<B>::with_protocol(protocol, backend, wasm, &Imports::new(), Limits::default())?;
//!     guest.session()?.call(Call { operation: "greet", payload: b"world" })
//! }
//! ```

use std::fmt;
use std::sync::Arc;

use mistletoe_abi::guest::{Func, Guest as Live};
use mistletoe_abi::protocol::{Check, ExportedFunc, Region};
use mistletoe_abi::{Caller, ErrorKind, Imports, Instance, Limits, Program, ProgramSession, Protocol, Result};

/// Runs the operation whose name and payload have these lengths; returns 1 on success.
const CALL: ExportedFunc<(u32, u32), u32> = ExportedFunc::new("__guest_call");
/// Called once, after `_start`, if it is exported.
const INIT: ExportedFunc<(), ()> = ExportedFunc::new("wapc_init");
/// Module that guests import the host's functions from.
const MODULE: &str = "wapc";

/// A waPC guest compiled for one backend.
pub type Guest<B, T = ()> = Program<Wapc, B, T>;
/// An instance of a [`Guest`].
pub type Session<B, T = ()> = ProgramSession<Wapc, B, T>;

/// The protocol, with the function that handles the guest's own calls.
#[derive(Clone)]
pub struct Wapc {
    host: Host,
    log: Option<Log>,
}

type Log = Arc<dyn Fn(&str) + Send + Sync>;
type Host = Arc<dyn Fn(HostCall<'_>) -> Result<Vec<u8>, String> + Send + Sync>;

/// A call of a guest's operation.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The operation's name.
    pub operation: &'a str,
    /// The operation's input.
    pub payload: &'a [u8],
}

/// A call of a host's operation by a guest.
#[derive(Clone, Copy, Debug)]
pub struct HostCall<'a> {
    /// The recipient of the call.
    pub binding: &'a str,
    /// The namespace of the operation.
    pub namespace: &'a str,
    /// The operation's name.
    pub operation: &'a str,
    /// The operation's input.
    pub payload: &'a [u8],
}

/// The response of a guest.
pub type Answer = Result<Vec<u8>, GuestError>;

/// The guest's own message about why it has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestError(pub String);

/// The call in progress, and the response to the guest's latest call.
#[derive(Default)]
pub struct Exchange {
    operation: Vec<u8>,
    payload: Vec<u8>,
    response: Vec<u8>,
    error: Option<String>,
    /// Maximum length of responses and errors. Longer ones are refused.
    max_output: u64,
    host: Option<Host>,
    host_response: Vec<u8>,
    host_error: Vec<u8>,
}

impl Wapc {
    /// Creates the protocol. `host` handles the guests' calls.
    pub fn new(host: impl Fn(HostCall<'_>) -> Result<Vec<u8>, String> + Send + Sync + 'static) -> Self {
        Self { host: Arc::new(host), log: None }
    }

    /// Passes what guests write to their log to `log`. Without this, it is discarded.
    #[must_use]
    pub fn on_log(self, log: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { log: Some(Arc::new(log)), ..self }
    }
}

impl Protocol for Wapc {
    type Exports<F: Send + Sync + 'static> = Func<F, (u32, u32), u32>;
    type Store = Exchange;
    type Request<'a> = Call<'a>;
    type Response<'a> = Answer;
    type Output = Answer;

    fn check(&self, exports: &mut Check<'_>) {
        exports.func(&CALL).optional_func(&INIT);
    }

    fn provide<T: Send + 'static>(&self, imports: &mut Imports<T>) {
        let log = self.log.clone();
        imports
            .func(MODULE, "__guest_request", |caller: &mut Caller<'_, T>, operation: u32, payload: u32| -> Result<()> {
                let Exchange { operation: name, payload: input, .. } = caller.store_mut();
                let (name, input) = (std::mem::take(name), std::mem::take(input));
                for (argument, address, bytes) in [("operation", operation, &name), ("payload", payload, &input)] {
                    caller.bytes_mut(argument, address, bytes.len() as u32)?.copy_from_slice(bytes);
                }
                // The guest may ask again.
                let exchange: &mut Exchange = caller.store_mut();
                (exchange.operation, exchange.payload) = (name, input);
                Ok(())
            })
            .func(MODULE, "__guest_response", |caller: &mut Caller<'_, T>, address: u32, length: u32| -> Result<()> {
                let response = output(caller, "response", address, length)?;
                caller.store_mut::<Exchange>().response = response;
                Ok(())
            })
            .func(MODULE, "__guest_error", |caller: &mut Caller<'_, T>, address: u32, length: u32| -> Result<()> {
                let error = output(caller, "error", address, length)?;
                caller.store_mut::<Exchange>().error = Some(String::from_utf8_lossy(&error).into_owned());
                Ok(())
            })
            .func(MODULE, "__host_call", host_call::<T>)
            .func(MODULE, "__host_response_len", |caller: &mut Caller<'_, T>| {
                caller.store_mut::<Exchange>().host_response.len() as u32
            })
            .func(MODULE, "__host_response", |caller: &mut Caller<'_, T>, address: u32| -> Result<()> {
                let response = caller.store_mut::<Exchange>().host_response.clone();
                caller.bytes_mut("response", address, response.len() as u32)?.copy_from_slice(&response);
                Ok(())
            })
            .func(MODULE, "__host_error_len", |caller: &mut Caller<'_, T>| {
                caller.store_mut::<Exchange>().host_error.len() as u32
            })
            .func(MODULE, "__host_error", |caller: &mut Caller<'_, T>, address: u32| -> Result<()> {
                let error = caller.store_mut::<Exchange>().host_error.clone();
                caller.bytes_mut("error", address, error.len() as u32)?.copy_from_slice(&error);
                Ok(())
            })
            .func(
                MODULE,
                "__console_log",
                move |caller: &mut Caller<'_, T>, address: u32, length: u32| -> Result<()> {
                    let text = String::from_utf8_lossy(caller.bytes("text", address, length)?);
                    if let Some(log) = &log {
                        log(&text);
                    }
                    Ok(())
                },
            );
    }

    fn store(&self, limits: &Limits) -> Exchange {
        Exchange { max_output: limits.max_output(), host: Some(self.host.clone()), ..Exchange::default() }
    }

    fn resolve<I: Instance>(&self, guest: &mut Live<I>) -> Result<Func<I::Func, (u32, u32), u32>> {
        if guest.interface().export(INIT.name()).is_some() {
            let init = guest.resolve(&INIT)?;
            guest.call(&init, ())?;
        }
        guest.resolve(&CALL)
    }

    fn call<I: Instance, R>(
        call: &Func<I::Func, (u32, u32), u32>,
        guest: &mut Live<I>,
        Call { operation, payload }: Call<'_>,
        respond: impl FnOnce(Answer) -> R,
    ) -> Result<R> {
        guest.check_input(operation.len())?;
        guest.check_input(payload.len())?;
        let exchange = guest.store_mut::<Exchange>();
        (exchange.operation, exchange.payload) = (operation.into(), payload.into());
        (exchange.response, exchange.error) = (Vec::new(), None);
        let answered = guest.call(call, (operation.len() as u32, payload.len() as u32))?;
        let Exchange { response, error, .. } = guest.store_mut();
        Ok(respond(match (answered, error.take()) {
            (1, None) => Ok(std::mem::take(response)),
            (_, error) => Err(GuestError(error.unwrap_or_default())),
        }))
    }
}

/// Returns the bytes that the guest passes to the host, if they are no longer than is allowed.
fn output<T: 'static>(
    caller: &mut Caller<'_, T>,
    argument: &'static str,
    address: u32,
    length: u32,
) -> Result<Vec<u8>> {
    let limit = caller.store_mut::<Exchange>().max_output;
    if u64::from(length) > limit {
        return Err(ErrorKind::TooLong { region: Region::Output, length: length.into(), limit }.into());
    }
    Ok(caller.bytes(argument, address, length)?.to_vec())
}

/// Calls a host's operation for the guest; returns 1 on success.
#[allow(clippy::too_many_arguments)]
fn host_call<T: 'static>(
    caller: &mut Caller<'_, T>,
    binding: u32,
    binding_length: u32,
    namespace: u32,
    namespace_length: u32,
    operation: u32,
    operation_length: u32,
    payload: u32,
    payload_length: u32,
) -> Result<u32> {
    let Some(host) = caller.store_mut::<Exchange>().host.clone() else { return Ok(0) };
    let result = host(HostCall {
        binding: caller.str("binding", binding, binding_length)?,
        namespace: caller.str("namespace", namespace, namespace_length)?,
        operation: caller.str("operation", operation, operation_length)?,
        payload: caller.bytes("payload", payload, payload_length)?,
    });
    let exchange = caller.store_mut::<Exchange>();
    let is_good = result.is_ok();
    (exchange.host_response, exchange.host_error) = match result {
        Ok(response) => (response, Vec::new()),
        Err(error) => (Vec::new(), error.into_bytes()),
    };
    Ok(is_good.into())
}

impl fmt::Debug for Wapc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wapc").finish_non_exhaustive()
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("error", &self.error).finish_non_exhaustive()
    }
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest says: {}", self.0.escape_debug())
    }
}

impl std::error::Error for GuestError {}
