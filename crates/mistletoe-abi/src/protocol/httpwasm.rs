//! The httpwasm interface of HTTP plugins: a guest reads records of its input and writes two streams of output.
//!
//! Rule numbers refer to `docs/httpwasm.md`.

use std::io::BufRead as _;
use std::mem;
use std::ops::Range;

use crate::backend::instance::Instance;
use crate::error::{ErrorKind, Region, Result};
use crate::guest::export::ExportedFunc;
use crate::guest::span::Span;
use crate::guest::{Func, Guest};
use crate::host::caller::{Caller, GuestFunc};
use crate::host::imports::Imports;
use crate::host::pack;
use crate::limits::Limits;
use crate::module::Interface;
use crate::protocol::check::Check;
use crate::protocol::traits::Protocol;

/// Takes a length in bytes, returns the address of that much memory.
const MALLOC: ExportedFunc<(u32,), u32> = ExportedFunc::new("malloc");
/// Takes an address that `malloc` returned, and frees it.
const FREE: ExportedFunc<(u32,), ()> = ExportedFunc::new("free");
/// The first form: handles one request and reads its input through `igets`.
const RUN: ExportedFunc<(), ()> = ExportedFunc::new("run");
/// The second form: takes address and length of the whole input.
const RUN_WITH_INPUT: ExportedFunc<(u32, u32), ()> = ExportedFunc::new("run");

/// The module from which guests import the protocol's functions.
const MODULE: &str = "httpwasm";

/// The protocol of HTTP plugins: the httpwasm interface.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpWasm {
    /// The delimiter that ends a record of the input.
    pub delimiter: Delimiter,
}

/// The delimiter that ends a record of the input (rule 4). The default is a line feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delimiter {
    /// This byte, which belongs to the record.
    Byte(u8),
    /// A line feed, which belongs to the record.
    #[default]
    Newline,
    /// A zero byte, which belongs to the record.
    Nul,
    /// No delimiter: the whole input is one record.
    None,
}

/// The response of a guest: the bytes that it wrote, in any format.
///
/// Both streams together are no longer than [`Limits::max_output`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// The bytes written through `oputs`.
    pub stdout: Vec<u8>,
    /// The bytes written through `eputs`.
    pub stderr: Vec<u8>,
}

/// Returns whether the guest uses the second form.
fn takes_input(interface: &Interface) -> bool {
    interface.export(RUN_WITH_INPUT.name) == Some(&RUN_WITH_INPUT.extern_type())
}

/// The state of one request: the rest of its input, and the output so far.
#[derive(Debug)]
pub struct Exchange {
    input: Vec<u8>,
    read: usize,
    delimiter: Delimiter,
    pub(crate) output: Output,
    limits: Limits,
    malloc: Option<GuestFunc<(u32,), u32>>,
    /// The addresses that the guest's `malloc` returned for this request, to be freed.
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

    /// Takes the next record (rule 4): its range in the input, and the delimiter that it lacks there. `None` at the end.
    fn next_record(&mut self) -> Option<(Range<usize>, Option<u8>)> {
        let rest = self.input.get(self.read..).filter(|rest| !rest.is_empty())?;
        let delimiter = match self.delimiter {
            Delimiter::Byte(byte) => Some(byte),
            Delimiter::Newline => Some(b'\n'),
            Delimiter::Nul => Some(0),
            Delimiter::None => None,
        };
        let mut reader = rest;
        let length = match delimiter {
            // Searches many bytes at once. Reading a slice does not fail.
            Some(delimiter) => reader.skip_until(delimiter).unwrap_or(rest.len()),
            None => rest.len(),
        };
        let record = self.read..self.read + length;
        self.read = record.end;
        Some((record, delimiter.filter(|delimiter| rest.get(length - 1) != Some(delimiter))))
    }
}

/// Rule 6: appends to a stream. Both streams together are no longer than the host allows.
fn write<T: 'static>(
    caller: &mut Caller<'_, T>,
    address: u32,
    length: u32,
    stream: fn(&mut Output) -> &mut Vec<u8>,
) -> Result<()> {
    caller.bytes("buffer", address, length)?;
    let Exchange { output, limits, .. } = caller.store_mut::<Exchange>();
    let (all, limit) = ((output.stdout.len() + output.stderr.len()) as u64 + u64::from(length), limits.max_output());
    // Before anything is copied: a guest's memory can be larger than the host can spare.
    if all > limit {
        return Err(ErrorKind::TooLong { region: Region::Output, length: all, limit }.into());
    }
    let (memory, exchange) = caller.memory_and_store::<Exchange>();
    stream(&mut exchange.output).extend_from_slice(Span { address, length }.get(memory).unwrap_or_default());
    Ok(())
}

/// The functions that every request needs.
#[derive(Debug)]
pub struct Exports<F> {
    malloc: Func<F, (u32,), u32>,
    free: Func<F, (u32,), ()>,
    run: Run<F>,
}

/// The two forms of `run` (rule 3).
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
            let Some((record, delimiter)) = exchange.next_record() else { return Ok(pack(0, 0)) };
            let malloc = match exchange.malloc.clone() {
                Some(malloc) => malloc,
                None => {
                    let malloc = caller.get_func(MALLOC.name)?;
                    caller.store_mut::<Exchange>().malloc = Some(malloc.clone());
                    malloc
                }
            };
            let given = caller.allocate(&malloc, record.len() + usize::from(delimiter.is_some()))?;
            let (memory, exchange) = caller.memory_and_store::<Exchange>();
            let bytes = exchange.input.get(record).unwrap_or_default();
            if let Some((room, rest)) = given.get_mut(memory).and_then(|room| room.split_at_mut_checked(bytes.len())) {
                room.copy_from_slice(bytes);
                rest.fill(delimiter.unwrap_or_default());
            }
            exchange.given.push(given.address);
            Ok(pack(given.address, given.length))
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

    /// Handles one request (rules 2 to 5).
    ///
    /// After a failure, [`HandlerSession::unfinished`](crate::HandlerSession::unfinished) returns what was written
    /// before it.
    fn call<I: Instance, R>(
        exports: &Exports<I::Func>,
        guest: &mut Guest<I>,
        input: &[u8],
        respond: impl FnOnce(Output) -> R,
    ) -> Result<R> {
        // One `with_room` for all calls, since an engine may have to switch stacks.
        I::with_room(|| run(exports, guest, input))??;
        Ok(respond(mem::take(&mut guest.store_mut::<Exchange>().output)))
    }
}

fn run<I: Instance>(exports: &Exports<I::Func>, guest: &mut Guest<I>, input: &[u8]) -> Result<()> {
    // First, so that a request that is refused leaves nothing of an earlier one to `unfinished`.
    let exchange = guest.store_mut::<Exchange>();
    (exchange.output, exchange.given) = Default::default();
    guest.check_input(input.len())?;
    let exchange = guest.store_mut::<Exchange>();
    match &exports.run {
        Run::Asks(run) => {
            // In the memory of the request before.
            exchange.input.clear();
            exchange.input.extend_from_slice(input);
            exchange.read = 0;
            guest.call(run, ())?;
        }
        Run::Takes(run) => {
            let given = guest.steps(|steps| steps.hand_over(&exports.malloc, input))?;
            guest.store_mut::<Exchange>().given.push(given.address);
            guest.call(run, (given.address, given.length))?;
        }
    }
    // Rule 5: a trap in here poisons the guest, but the output stays valid.
    loop {
        let given = mem::take(&mut guest.store_mut::<Exchange>().given);
        if given.is_empty() {
            return Ok(());
        }
        // `free` may call `igets`, whose records are then freed as well.
        for address in given {
            if address != 0 && guest.call(&exports.free, (address,)).is_err() {
                return Ok(());
            }
        }
    }
}
