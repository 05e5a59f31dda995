//! Plugins behind HTTP: a guest reads records of its input and writes two streams of output. The numbers are those of
//! the rules in `docs/httpwasm.md`.

use std::mem;

use crate::backend::Instance;
use crate::error::{ErrorKind, Result};
use crate::guest::{Func, Guest};
use crate::host::{Caller, GuestFunc, Imports, pack};
use crate::limits::Limits;
use crate::module::Interface;
use crate::protocol::{Check, ExportedFunc, INITIALIZE, Region};
use crate::types::{FuncType, Problem, ValType::I32};

/// Takes a length in bytes, answers with the address of that much memory.
const MALLOC: ExportedFunc<1, 1> = ExportedFunc::new("malloc", FuncType::new(&[I32], &[I32]));
/// Takes back an address that `malloc` gave.
const FREE: ExportedFunc<1, 0> = ExportedFunc::new("free", FuncType::new(&[I32], &[]));
/// Answers one request, whose input it asks for itself.
const RUN: ExportedFunc<0, 0> = ExportedFunc::new("run", FuncType::new(&[], &[]));
/// The second form: takes address and length of the whole input.
const RUN_WITH_INPUT: ExportedFunc<2, 0> = ExportedFunc::new("run", FuncType::new(&[I32, I32], &[]));

/// The module that guests import the protocol's functions from.
const MODULE: &str = "httpwasm";

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

/// Everything in which a module's exports do not fit the protocol; empty if they do.
pub fn problems(interface: &Interface) -> Vec<Problem> {
    let mut check = Check::new(interface);
    check.func(&MALLOC).func(&FREE).optional(INITIALIZE.name, INITIALIZE.extern_type());
    if !takes_input(interface) {
        check.func(&RUN);
    }
    check.problems()
}

/// Whether the guest speaks the second form.
fn takes_input(interface: &Interface) -> bool {
    interface.export(RUN_WITH_INPUT.name) == Some(&RUN_WITH_INPUT.extern_type())
}

/// One request: what is left of its input, and what came out so far.
pub(crate) struct Exchange {
    input: Vec<u8>,
    read: usize,
    delimiter: Delimiter,
    output: Output,
    limits: Limits,
    malloc: Option<GuestFunc<(u32,), u32>>,
    /// What `igets` allocated for the guest.
    given: Vec<u32>,
}

impl Exchange {
    pub(crate) fn new(delimiter: Delimiter, limits: &Limits) -> Self {
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

/// The functions that guests import, for sessions whose protocol state is an [`Exchange`]; added to what the host program
/// offers.
pub(crate) fn offer<T: Send + 'static>(imports: &mut Imports<T>) {
    imports.func(MODULE, "igets", |caller: &mut Caller<'_, T>| -> Result<u64> {
        let exchange = caller.protocol_mut::<Exchange>();
        let record = exchange.next_record();
        if record.is_empty() {
            return Ok(pack(0, 0));
        }
        let malloc = match exchange.malloc.clone() {
            Some(malloc) => malloc,
            None => {
                let malloc = caller.get_func(MALLOC.name)?;
                caller.protocol_mut::<Exchange>().malloc = Some(malloc.clone());
                malloc
            }
        };
        let (address, length) = caller.give(&malloc, &record)?;
        caller.protocol_mut::<Exchange>().given.push(address);
        Ok(pack(address, length))
    });
    imports.func(MODULE, "oputs", |caller: &mut Caller<'_, T>, address: u32, length: u32| {
        write(caller, address, length, |output| &mut output.stdout)
    });
    imports.func(MODULE, "eputs", |caller: &mut Caller<'_, T>, address: u32, length: u32| {
        write(caller, address, length, |output| &mut output.stderr)
    });
}

/// Rule 6: both streams together are no longer than the host allows.
fn write<T: 'static>(
    caller: &mut Caller<'_, T>,
    address: u32,
    length: u32,
    stream: fn(&mut Output) -> &mut Vec<u8>,
) -> Result<()> {
    caller.bytes("buffer", address, length)?;
    let Exchange { output, limits, .. } = caller.protocol_mut::<Exchange>();
    let (all, limit) = ((output.stdout.len() + output.stderr.len()) as u64 + u64::from(length), limits.max_output);
    // Before anything is copied: a guest can have more memory than its host has to spare.
    if all > limit {
        return Err(ErrorKind::TooLong { region: Region::Output, length: all, limit }.into());
    }
    let bytes = caller.bytes("buffer", address, length)?.to_vec();
    stream(&mut caller.protocol_mut::<Exchange>().output).extend(bytes);
    Ok(())
}

/// A guest's instance and its functions: the steps of the protocol.
pub(crate) struct HttpInstance<I: Instance> {
    guest: Guest<I>,
    malloc: Func<I::Func, 1, 1>,
    free: Func<I::Func, 1, 0>,
    run: Run<I::Func>,
}

/// The two forms.
enum Run<F> {
    Asks(Func<F, 0, 0>),
    Takes(Func<F, 2, 0>),
}

impl<I: Instance> HttpInstance<I> {
    pub(crate) fn new(mut guest: Guest<I>, interface: &Interface) -> Result<Self> {
        Ok(Self {
            malloc: guest.resolve(&MALLOC)?,
            free: guest.resolve(&FREE)?,
            run: match takes_input(interface) {
                true => Run::Takes(guest.resolve(&RUN_WITH_INPUT)?),
                false => Run::Asks(guest.resolve(&RUN)?),
            },
            guest,
        })
    }

    pub(crate) fn guest(&self) -> &Guest<I> {
        &self.guest
    }

    pub(crate) fn guest_mut(&mut self) -> &mut Guest<I> {
        &mut self.guest
    }

    /// Answers one request (rules 2 to 5). What was written before a failure stays for `take_output`.
    pub(crate) fn run(&mut self, input: &[u8]) -> Result<()> {
        // All of it at once, since an engine may have to change stacks.
        I::with_room(|| self.run_here(input))?
    }

    fn run_here(&mut self, input: &[u8]) -> Result<()> {
        let exchange = self.exchange();
        exchange.limits.input(input.len())?;
        (exchange.output, exchange.given) = Default::default();
        match &self.run {
            Run::Asks(run) => {
                let exchange = self.guest.data_mut().protocol_mut::<Exchange>();
                (exchange.input, exchange.read) = (input.to_vec(), 0);
                self.guest.call(run, [])?;
            }
            Run::Takes(run) => {
                let given = self.guest.steps(|steps| steps.hand_over(&self.malloc, input))?;
                self.guest.data_mut().protocol_mut::<Exchange>().given.push(given.address);
                self.guest.call(run, [given.address, given.length])?;
            }
        }
        // Rule 5: a trap in here poisons the guest, and takes nothing from what was written.
        loop {
            let given = mem::take(&mut self.exchange().given);
            if given.is_empty() {
                return Ok(());
            }
            // Freeing may ask for more records, which are then freed in turn.
            for address in given {
                if address != 0 && self.guest.call(&self.free, [address]).is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// What the latest run wrote.
    pub(crate) fn take_output(&mut self) -> Output {
        mem::take(&mut self.exchange().output)
    }

    fn exchange(&mut self) -> &mut Exchange {
        self.guest.data_mut().protocol_mut()
    }
}
