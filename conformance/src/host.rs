//! What the cases are run on: something that loads packages and has sessions of them.
//!
//! A backend is all that a user of this suite has to bring: [`AnyBackend`] is a [`Host`], and [`Typed`] makes one of a
//! backend whose sessions stay on their threads. The traits are here so that the suite can be tried on hosts that do
//! things wrong.

use mistletoe_abi::protocol::HttpWasm;
use mistletoe_abi::{
    AnyBackend, AnyCommand, AnyCommandSession, AnyHandler, AnyHandlerSession, AnyPackage, AnySession, Backend, Command,
    CommandSession, Error, Handler, HandlerSession, Operation, Package, Result, Session,
};

use crate::setup::{Protocol, Setup, State};

/// Loads modules.
pub trait Host: Send + Sync {
    /// The name in reports.
    fn name(&self) -> &str;

    /// Checks and compiles a module.
    ///
    /// # Errors
    ///
    /// As [`AnyPackage::with_imports`].
    fn load(&self, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>>;
}

/// A loaded module, which threads share.
pub trait HostPackage: Send + Sync {
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// As [`AnyPackage::session_with`].
    fn open(&self, state: State) -> Result<Box<dyn HostSession>>;
}

/// A session, which stays on its thread. What its protocol does not have is an error.
pub trait HostSession {
    /// Asks a package for its description.
    ///
    /// # Errors
    ///
    /// As [`AnySession::info`].
    fn info(&mut self) -> Result<String> {
        Err(no_such_call())
    }

    /// Hands a package an input.
    ///
    /// # Errors
    ///
    /// As [`AnySession::generate`].
    fn generate(&mut self, _input: &str) -> Result<String> {
        Err(no_such_call())
    }

    /// Hands a package an input, and reads the output where it lies.
    ///
    /// # Errors
    ///
    /// As [`AnySession::generate_with`].
    fn borrow(&mut self, input: &str, read: &mut dyn FnMut(&str)) -> Result<()> {
        self.generate(input).map(|output| read(&output))
    }

    /// Has a plugin answer a request; what it wrote is in [`streams`](HostSession::streams).
    ///
    /// # Errors
    ///
    /// As [`HandlerSession::run`].
    fn request(&mut self, _input: &str) -> Result<()> {
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

    /// What was written to the standard output and the standard error, or to a plugin's streams of that kind, since the
    /// last time.
    fn streams(&mut self) -> (String, String) {
        self.state_mut().map(State::take_streams).unwrap_or_default()
    }

    /// The state of the session, while there is one.
    fn state_mut(&mut self) -> Option<&mut State>;

    /// What has poisoned the session.
    fn fault(&self) -> Option<Error>;

    /// How much fuel the latest call has used, where it is counted and can be asked for.
    fn fuel(&mut self) -> Option<u64> {
        None
    }
}

/// Loads a module that speaks another protocol than the package interface.
///
/// # Errors
///
/// As [`Handler::with_imports`] and [`Command::with_imports`].
pub fn load_other<B: Backend>(backend: &B, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>> {
    let Setup { limits, imports, .. } = setup;
    Ok(match setup.protocol {
        Protocol::Command => Box::new(Command::with_imports(backend, wasm, imports, *limits)?),
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
            Protocol::Command => Ok(Box::new(AnyCommand::with_imports(self, wasm, &setup.imports, setup.limits)?)),
            _ => {
                let protocol = HttpWasm { delimiter: setup.delimiter };
                Ok(Box::new(AnyHandler::with_protocol(protocol, self, wasm, &setup.imports, setup.limits)?))
            }
        }
    }
}

/// A backend as it is, without [`AnyBackend`] around it: for one whose instances are not `Send`.
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

/// The same for packages of one backend and of any.
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

/// A plugin's session, with what it wrote last.
struct Requests<S> {
    session: S,
    streams: (String, String),
}

/// The same for handlers of one backend and of any.
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

/// A command before it runs, and its state afterwards.
struct Run<S> {
    session: Option<S>,
    state: Option<State>,
}

/// The same for commands of one backend and of any.
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
