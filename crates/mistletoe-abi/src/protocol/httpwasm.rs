//! Plugins behind HTTP: a guest reads records of its input and writes two streams of output. The numbers are those of
//! the rules in `docs/httpwasm.md`.

use std::mem;

use crate::backend::instance::Instance;
use crate::error::{ErrorKind, Region, Result};
use crate::guest::export::ExportedFunc;
use crate::guest::{Func, Guest};
use crate::host::caller::{Caller, GuestFunc};
use crate::host::imports::Imports;
use crate::host::pack;
use crate::limits::Limits;
use crate::module::Interface;
use crate::protocol::check::Check;
use crate::protocol::traits::Protocol;

/// Takes a length in bytes, answers with the address of that much memory.
const MALLOC: ExportedFunc<(u32,), u32> = ExportedFunc::new("malloc");
/// Takes back an address that `malloc` gave.
const FREE: ExportedFunc<(u32,), ()> = ExportedFunc::new("free");
/// Answers one request, whose input it asks for itself.
const RUN: ExportedFunc<(), ()> = ExportedFunc::new("run");
/// The second form: takes address and length of the whole input.
const RUN_WITH_INPUT: ExportedFunc<(u32, u32), ()> = ExportedFunc::new("run");

/// The module that guests import the protocol's functions from.
const MODULE: &str = "httpwasm";

/// The protocol of plugins behind HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpWasm {
    /// Where a record of the input ends.
    pub delimiter: Delimiter,
}

/// Where a record of the input ends (rule 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delimiter {
    /// After this byte, which belongs to the record.
    Byte(u8),
    /// After a line feed.
    #[default]
    Newline,
    /// After a zero byte.
    Nul,
    /// At the end: the whole input is one record.
    None,
}

/// What a guest wrote: bytes, of which nothing is required.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// What it wrote through `oputs`.
    pub stdout: Vec<u8>,
    /// What it wrote through `eputs`.
    pub stderr: Vec<u8>,
}

/// Whether the guest speaks the second form.
fn takes_input(interface: &Interface) -> bool {
    interface.export(RUN_WITH_INPUT.name) == Some(&RUN_WITH_INPUT.extern_type())
}

/// One request: what is left of its input, and what came out so far.
#[derive(Debug)]
pub struct Exchange {
    input: Vec<u8>,
    read: usize,
    delimiter: Delimiter,
    pub(crate) output: Output,
    limits: Limits,
    malloc: Option<GuestFunc<(u32,), u32>>,
    /// What `igets` allocated for the guest.
    given: Vec<u32>,
}

impl Exchange {
    fn new(delimiter: Delimiter, limits: &Limits) -> Self {
        Self {
            input: Vec::new(),
            read: 0,
            delimiter,
            output: Output::default(),
            limits: *limits,
            malloc: None,
            given: Vec::new(),
        }
    }

    /// The next record (rule 4); empty at the end.
    fn next_record(&mut self) -> Vec<u8> {
        let rest = self.input.get(self.read..).unwrap_or_default();
        let delimiter = match self.delimiter {
            Delimiter::Byte(byte) => byte,
            Delimiter::Newline => b'\n',
            Delimiter::Nul => 0,
            Delimiter::None => {
                self.read = self.input.len();
                return rest.to_vec();
            }
        };
        let end = rest.iter().position(|byte| *byte == delimiter);
        let mut record = rest.get(..end.map_or(rest.len(), |end| end + 1)).unwrap_or_default().to_vec();
        self.read += record.len();
        if end.is_none() && !record.is_empty() {
            record.push(delimiter);
        }
        record
    }
}

/// Rule 6: both streams together are no longer than the host allows.
fn write<T: 'static>(
    caller: &mut Caller<'_, T>,
    address: u32,
    length: u32,
    stream: fn(&mut Output) -> &mut Vec<u8>,
) -> Result<()> {
    caller.bytes("buffer", address, length)?;
    let Exchange { output, limits, .. } = caller.store_mut::<Exchange>();
    let (all, limit) = ((output.stdout.len() + output.stderr.len()) as u64 + u64::from(length), limits.max_output());
    // Before anything is copied: a guest can have more memory than its host has to spare.
    if all > limit {
        return Err(ErrorKind::TooLong { region: Region::Output, length: all, limit }.into());
    }
    let bytes = caller.bytes("buffer", address, length)?.to_vec();
    stream(&mut caller.store_mut::<Exchange>().output).extend(bytes);
    Ok(())
}

/// The functions that each request needs.
#[derive(Debug)]
pub struct Exports<F> {
    malloc: Func<F, (u32,), u32>,
    free: Func<F, (u32,), ()>,
    run: Run<F>,
}

/// The two forms.
#[derive(Debug)]
enum Run<F> {
    Asks(Func<F, (), ()>),
    Takes(Func<F, (u32, u32), ()>),
}

impl Protocol for HttpWasm {
    type Exports<F: Send + Sync + 'static> = Exports<F>;
    type Store = Exchange;
    type Request<'a> = &'a [u8];
    type Response<'a> = Output;
    type Output = Output;

    fn check(&self, exports: &mut Check<'_>) {
        exports.func(&MALLOC).func(&FREE);
        if !takes_input(exports.interface()) {
            exports.func(&RUN);
        }
    }

    fn provide<T: Send + 'static>(&self, imports: &mut Imports<T>) {
        imports.func(MODULE, "igets", |caller: &mut Caller<'_, T>| -> Result<u64> {
            let exchange = caller.store_mut::<Exchange>();
            let record = exchange.next_record();
            if record.is_empty() {
                return Ok(pack(0, 0));
            }
            let malloc = match exchange.malloc.clone() {
                Some(malloc) => malloc,
                None => {
                    let malloc = caller.get_func(MALLOC.name)?;
                    caller.store_mut::<Exchange>().malloc = Some(malloc.clone());
                    malloc
                }
            };
            let (address, length) = caller.give(&malloc, &record)?;
            caller.store_mut::<Exchange>().given.push(address);
            Ok(pack(address, length))
        });
        imports.func(MODULE, "oputs", |caller: &mut Caller<'_, T>, address: u32, length: u32| {
            write(caller, address, length, |output| &mut output.stdout)
        });
        imports.func(MODULE, "eputs", |caller: &mut Caller<'_, T>, address: u32, length: u32| {
            write(caller, address, length, |output| &mut output.stderr)
        });
    }

    fn store(&self, limits: &Limits) -> Exchange {
        Exchange::new(self.delimiter, limits)
    }

    fn resolve<I: Instance>(&self, guest: &mut Guest<I>) -> Result<Exports<I::Func>> {
        Ok(Exports {
            malloc: guest.resolve(&MALLOC)?,
            free: guest.resolve(&FREE)?,
            run: match takes_input(guest.interface()) {
                true => Run::Takes(guest.resolve(&RUN_WITH_INPUT)?),
                false => Run::Asks(guest.resolve(&RUN)?),
            },
        })
    }

    /// Answers one request (rules 2 to 5). What was written before a failure stays for
    /// [`HandlerSession::unfinished`](crate::HandlerSession::unfinished).
    fn call<I: Instance, R>(
        exports: &Exports<I::Func>,
        guest: &mut Guest<I>,
        input: &[u8],
        respond: impl FnOnce(Output) -> R,
    ) -> Result<R> {
        // All of it at once, since an engine may have to change stacks.
        I::with_room(|| run(exports, guest, input))??;
        Ok(respond(mem::take(&mut guest.store_mut::<Exchange>().output)))
    }
}

fn run<I: Instance>(exports: &Exports<I::Func>, guest: &mut Guest<I>, input: &[u8]) -> Result<()> {
    guest.check_input(input.len())?;
    let exchange = guest.store_mut::<Exchange>();
    (exchange.output, exchange.given) = Default::default();
    match &exports.run {
        Run::Asks(run) => {
            (exchange.input, exchange.read) = (input.to_vec(), 0);
            guest.call(run, ())?;
        }
        Run::Takes(run) => {
            let given = guest.steps(|steps| steps.hand_over(&exports.malloc, input))?;
            guest.store_mut::<Exchange>().given.push(given.address);
            guest.call(run, (given.address, given.length))?;
        }
    }
    // Rule 5: a trap in here poisons the guest, and takes nothing from what was written.
    loop {
        let given = mem::take(&mut guest.store_mut::<Exchange>().given);
        if given.is_empty() {
            return Ok(());
        }
        // Freeing may ask for more records, which are then freed in turn.
        for address in given {
            if address != 0 && guest.call(&exports.free, (address,)).is_err() {
                return Ok(());
            }
        }
    }
}
