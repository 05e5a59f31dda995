//! The interface that cases run on: loads modules and opens sessions.
//!
//! A user of this suite only brings a backend. [`AnyBackend`] implements [`Host`], and [`Typed`] wraps a backend whose
//! sessions are not `Send`. The traits exist so that the suite can be tested on hosts with deliberate faults.

use mistletoe_abi::protocol::HttpWasm;
use mistletoe_abi::protocol::http_handler::Next;
use mistletoe_abi::{
    AnyBackend, AnyCommand, AnyCommandSession, AnyHandler, AnyHandlerSession, AnyMiddleware, AnyMiddlewareSession,
    AnyPackage, AnyProgram, AnyProgramSession, AnySession, Backend, Command, CommandSession, Error, Handler,
    HandlerSession, Middleware, MiddlewareSession, Operation, Package, Program, ProgramSession, Result, Session,
};
use mistletoe_scheduler::protocol::KubeScheduler;

use crate::http::{self, Exchanged, Served};
use crate::scheduler;
use crate::setup::{Protocol, Setup, State};

/// Loads modules.
pub trait Host: Send + Sync {
    /// Returns the name for reports.
    fn name(&self) -> &str;

    /// Checks and compiles a module.
    ///
    /// # Errors
    ///
    /// As [`AnyPackage::with_imports`].
    fn load(&self, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>>;
}

/// A loaded module, shared between threads.
pub trait HostPackage: Send + Sync {
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// As [`AnyPackage::session_with`].
    fn open(&self, state: State) -> Result<Box<dyn HostSession>>;
}

/// A session, which stays on its thread. A call that its protocol does not have returns an error.
pub trait HostSession {
    /// Reads a package's description.
    ///
    /// # Errors
    ///
    /// As [`AnySession::info`].
    fn info(&mut self) -> Result<String> {
        Err(no_such_call())
    }

    /// Passes an input to a package and returns the output.
    ///
    /// # Errors
    ///
    /// As [`AnySession::generate`].
    fn generate(&mut self, _input: &str) -> Result<String> {
        Err(no_such_call())
    }

    /// Passes an input to a package and reads the output in place.
    ///
    /// # Errors
    ///
    /// As [`AnySession::generate_with`].
    fn borrow(&mut self, input: &str, read: &mut dyn FnMut(&str)) -> Result<()> {
        self.generate(input).map(|output| read(&output))
    }

    /// Passes a request to a plugin. [`streams`](HostSession::streams) returns what it wrote.
    ///
    /// # Errors
    ///
    /// As [`HandlerSession::run`].
    fn request(&mut self, _input: &str) -> Result<()> {
        Err(no_such_call())
    }

    /// Passes a message to middleware, and returns the message that goes on.
    ///
    /// # Errors
    ///
    /// As [`MiddlewareSession::handle_request`] and [`MiddlewareSession::handle_response`].
    fn exchange(&mut self, _call: Exchanged<'_>) -> Result<String> {
        Err(no_such_call())
    }

    /// Calls a function of a plugin of the Kubernetes scheduler, and returns its answer.
    ///
    /// # Errors
    ///
    /// As [`ProgramSession::call`].
    fn schedule(&mut self, _call: &str) -> Result<String> {
        Err(no_such_call())
    }

    /// Passes a request to the server, and returns the response.
    ///
    /// # Errors
    ///
    /// Returns an error if the request is malformed. What goes wrong in the server is a response.
    fn respond(&mut self, _request: &str) -> Result<String> {
        Err(no_such_call())
    }

    /// Runs a command to its exit.
    ///
    /// # Errors
    ///
    /// As [`CommandSession::run`].
    fn start(&mut self) -> Result<u32> {
        Err(no_such_call())
    }

    /// Takes what was written to standard output and standard error since the last call.
    ///
    /// For a plugin, these are its streams of that kind. The log of middleware and of plugins of the
    /// scheduler belongs to standard error.
    fn streams(&mut self) -> (String, String) {
        self.state_mut().map(State::take_streams).unwrap_or_default()
    }

    /// Returns the state of the session, while it has one.
    fn state_mut(&mut self) -> Option<&mut State>;

    /// Returns the error that poisoned the session.
    fn fault(&self) -> Option<Error>;

    /// Returns the fuel that the latest call used, if fuel is counted and the session reports it.
    fn fuel(&mut self) -> Option<u64> {
        None
    }
}

/// Loads a module with a protocol other than the package interface.
///
/// # Errors
///
/// As [`Handler::with_imports`], [`Middleware::with_protocol`], [`Command::with_imports`] and
/// [`Program::with_protocol`].
pub fn load_other<B: Backend>(backend: &B, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>> {
    let Setup { limits, imports, .. } = setup;
    Ok(match setup.protocol {
        Protocol::Server => return Err(Error::engine(Operation::Compile, "the server takes an `AnyBackend`")),
        Protocol::Command => Box::new(Command::with_imports(backend, wasm, imports, *limits)?),
        Protocol::HttpHandler => {
            Box::new(Middleware::with_protocol(setup.http_handler.clone(), backend, wasm, imports, *limits)?)
        }
        Protocol::Scheduler => {
            Box::new(Program::with_protocol(setup.scheduler.protocol(), backend, wasm, imports, *limits)?)
        }
        _ => Box::new(Handler::with_imports(backend, wasm, imports, *limits)?.delimiter(setup.delimiter)),
    })
}

fn no_such_call() -> Error {
    Error::engine(Operation::Call, "the module speaks another protocol")
}

impl Host for AnyBackend {
    fn name(&self) -> &str {
        Backend::name(self)
    }

    fn load(&self, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>> {
        match setup.protocol {
            Protocol::Package => Ok(Box::new(AnyPackage::with_imports(self, wasm, &setup.imports, setup.limits)?)),
            #[cfg(feature = "server")]
            Protocol::Server => crate::server::load(self, wasm, setup),
            #[cfg(not(feature = "server"))]
            Protocol::Server => Err(Error::engine(Operation::Compile, "the suite is built without `server`")),
            Protocol::Command => Ok(Box::new(AnyCommand::with_imports(self, wasm, &setup.imports, setup.limits)?)),
            Protocol::HttpHandler => {
                let protocol = setup.http_handler.clone();
                Ok(Box::new(AnyMiddleware::with_protocol(protocol, self, wasm, &setup.imports, setup.limits)?))
            }
            Protocol::Scheduler => {
                let protocol = setup.scheduler.protocol();
                Ok(Box::new(AnyProgram::with_protocol(protocol, self, wasm, &setup.imports, setup.limits)?))
            }
            _ => {
                let protocol = HttpWasm { delimiter: setup.delimiter };
                Ok(Box::new(AnyHandler::with_protocol(protocol, self, wasm, &setup.imports, setup.limits)?))
            }
        }
    }
}

/// A backend without [`AnyBackend`] around it, for backends whose instances are not `Send`.
#[derive(Clone, Copy, Debug)]
pub struct Typed<B>(pub B);

impl<B: Backend> Host for Typed<B> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn load(&self, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>> {
        let Self(backend) = self;
        match setup.protocol {
            Protocol::Package => Ok(Box::new(Package::with_imports(backend, wasm, &setup.imports, setup.limits)?)),
            _ => load_other(backend, wasm, setup),
        }
    }
}

/// Implements the traits for packages of one backend and of any backend.
macro_rules! package {
    ([$($generics:tt)*] $package:ty, $session:ty) => {
        impl<$($generics)*> HostPackage for $package {
            fn open(&self, state: State) -> Result<Box<dyn HostSession>> {
                Ok(Box::new(self.session_with(state)?))
            }
        }

        impl<$($generics)*> HostSession for $session {
            fn info(&mut self) -> Result<String> {
                self.info()
            }

            fn generate(&mut self, input: &str) -> Result<String> {
                self.generate(input)
            }

            fn borrow(&mut self, input: &str, read: &mut dyn FnMut(&str)) -> Result<()> {
                self.generate_with(input, read)
            }

            fn state_mut(&mut self) -> Option<&mut State> {
                Some(self.state_mut())
            }

            fn fault(&self) -> Option<Error> {
                self.fault().cloned()
            }

            fn fuel(&mut self) -> Option<u64> {
                self.fuel_used().ok().flatten()
            }
        }
    };
}

package!([B: Backend] Package<B, State>, Session<B, State>);
package!([] AnyPackage<State>, AnySession<State>);

/// A plugin's session and what it wrote last.
struct Requests<S> {
    session: S,
    streams: (String, String),
}

/// Implements the traits for handlers of one backend and of any backend.
macro_rules! handler {
    ([$($generics:tt)*] $handler:ty, $session:ty) => {
        impl<$($generics)*> HostPackage for $handler {
            fn open(&self, state: State) -> Result<Box<dyn HostSession>> {
                Ok(Box::new(Requests { session: self.session_with(state)?, streams: Default::default() }))
            }
        }

        impl<$($generics)*> HostSession for Requests<$session> {
            fn request(&mut self, input: &str) -> Result<()> {
                let result = self.session.run(input.as_bytes());
                let (output, result) = match result {
                    Ok(output) => (output, Ok(())),
                    Err(error) => (self.session.unfinished(), Err(error)),
                };
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                self.streams = (text(&output.stdout), text(&output.stderr));
                result
            }

            fn streams(&mut self) -> (String, String) {
                std::mem::take(&mut self.streams)
            }

            fn state_mut(&mut self) -> Option<&mut State> {
                Some(self.session.state_mut())
            }

            fn fault(&self) -> Option<Error> {
                self.session.fault().cloned()
            }

            fn fuel(&mut self) -> Option<u64> {
                self.session.fuel_used().ok().flatten()
            }
        }
    };
}

handler!([B: Backend] Handler<B, State>, HandlerSession<B, State>);
handler!([] AnyHandler<State>, AnyHandlerSession<State>);

/// A session of middleware, and its exchange between request and response.
struct Exchanges<S> {
    session: S,
    pending: Option<(Served, Next)>,
}

/// Implements the traits for middleware of one backend and of any backend.
macro_rules! middleware {
    ([$($generics:tt)*] $middleware:ty, $session:ty) => {
        impl<$($generics)*> HostPackage for $middleware {
            fn open(&self, state: State) -> Result<Box<dyn HostSession>> {
                http::take_log();
                Ok(Box::new(Exchanges { session: self.session_with(state)?, pending: None }))
            }
        }

        impl<$($generics)*> HostSession for Exchanges<$session> {
            fn exchange(&mut self, call: Exchanged<'_>) -> Result<String> {
                match call {
                    Exchanged::Request(text) => {
                        let exchange = Served::new(text, &self.session.state().http);
                        let (next, mut exchange) = self.session.handle_request(exchange);
                        let Some(next) = next? else { return Ok(exchange.responded()) };
                        let text = exchange.requested();
                        self.pending = Some((exchange, next));
                        Ok(text)
                    }
                    Exchanged::Response { text, failed } => {
                        let (mut exchange, next) = self.pending.take().ok_or_else(no_such_call)?;
                        exchange.respond(text);
                        let (result, exchange) = self.session.handle_response(exchange, next, failed);
                        result.map(|()| exchange.responded())
                    }
                }
            }

            fn streams(&mut self) -> (String, String) {
                let (stdout, stderr) = self.session.state_mut().take_streams();
                (stdout, http::take_log() + &stderr)
            }

            fn state_mut(&mut self) -> Option<&mut State> {
                Some(self.session.state_mut())
            }

            fn fault(&self) -> Option<Error> {
                self.session.fault().cloned()
            }

            fn fuel(&mut self) -> Option<u64> {
                self.session.fuel_used().ok().flatten()
            }
        }
    };
}

middleware!([B: Backend] Middleware<B, State>, MiddlewareSession<B, State>);
middleware!([] AnyMiddleware<State>, AnyMiddlewareSession<State>);

/// Implements the traits for plugins of the scheduler on one backend and on any backend.
macro_rules! plugin {
    ([$($generics:tt)*] $plugin:ty, $session:ty) => {
        impl<$($generics)*> HostPackage for $plugin {
            fn open(&self, state: State) -> Result<Box<dyn HostSession>> {
                scheduler::take_log();
                let cycle = state.scheduler.cycle()?;
                let mut session = self.session_with(state)?;
                session.store_mut().set_cycle(cycle);
                Ok(Box::new(session))
            }
        }

        impl<$($generics)*> HostSession for $session {
            fn schedule(&mut self, call: &str) -> Result<String> {
                let cycle = self.store_mut().cycle().cloned();
                scheduler::call(call, cycle.as_deref(), |call| self.call(call))
            }

            fn streams(&mut self) -> (String, String) {
                let (stdout, stderr) = self.state_mut().take_streams();
                (stdout, scheduler::take_log() + &stderr)
            }

            fn state_mut(&mut self) -> Option<&mut State> {
                Some(self.state_mut())
            }

            fn fault(&self) -> Option<Error> {
                self.fault().cloned()
            }

            fn fuel(&mut self) -> Option<u64> {
                self.fuel_used().ok().flatten()
            }
        }
    };
}

plugin!([B: Backend] Program<KubeScheduler, B, State>, ProgramSession<KubeScheduler, B, State>);
plugin!([] AnyProgram<KubeScheduler, State>, AnyProgramSession<KubeScheduler, State>);

/// A command before it runs, and its state afterwards.
struct Run<S> {
    session: Option<S>,
    state: Option<State>,
}

/// Implements the traits for commands of one backend and of any backend.
macro_rules! command {
    ([$($generics:tt)*] $command:ty, $session:ty) => {
        impl<$($generics)*> HostPackage for $command {
            fn open(&self, state: State) -> Result<Box<dyn HostSession>> {
                Ok(Box::new(Run { session: Some(self.session_with(state)?), state: None }))
            }
        }

        impl<$($generics)*> HostSession for Run<$session> {
            fn start(&mut self) -> Result<u32> {
                let session = self.session.take().ok_or_else(no_such_call)?;
                let (result, state) = session.run();
                self.state = Some(state);
                result
            }

            fn state_mut(&mut self) -> Option<&mut State> {
                self.state.as_mut()
            }

            fn fault(&self) -> Option<Error> {
                None
            }
        }
    };
}

command!([B: Backend] Command<B, State>, CommandSession<B, State>);
command!([] AnyCommand<State>, AnyCommandSession<State>);
