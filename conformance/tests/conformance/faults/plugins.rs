//! Faults in the protocol of plugins: what is freed, records, the output.

use std::cell::{Cell, RefCell};
use std::mem::{replace, take};

use mistletoe::{ErrorKind, Result};

use super::{HELD, held, twice};
use crate::faulty::{Fault, Guest, SOUND, Step};

thread_local! {
    /// The addresses that `igets` returned in the current request.
    static GIVEN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    /// How much of the request's input was read.
    static READ: Cell<usize> = const { Cell::new(0) };
    /// The result of `igets` for the first record.
    static FIRST: Cell<u64> = const { Cell::new(0) };
    /// The length of the current request's input.
    static INPUT: Cell<usize> = const { Cell::new(0) };
}

pub(super) static FAULTS: &[Fault] = &[
    // Plugins: what is freed, by whom and when.
    Fault {
        name: "frees-no-records",
        call: |guest, step, params| if step == Step::Free { Ok(0) } else { guest.call(step, params) },
        ..SOUND
    },
    Fault { name: "frees-records-twice", call: |guest, step, params| twice(guest, Step::Free, step, params), ..SOUND },
    Fault {
        name: "frees-records-in-reverse",
        host: giving,
        call: |guest, step, params| match step {
            Step::Free => match GIVEN.with(|given| given.borrow_mut().pop()) {
                Some(address) => guest.call(step, &[address]),
                None => guest.call(step, params),
            },
            _ => given_anew(guest, step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-first-record-only",
        call: |guest, step, params| match step {
            Step::Free if replace(&mut guest.pending, true) => Ok(0),
            Step::Run => {
                guest.pending = false;
                guest.call(step, params)
            }
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-records-with-the-next-request",
        host: giving,
        call: |guest, step, params| match step {
            Step::Free => {
                guest.pending = true;
                Ok(0)
            }
            Step::Run if take(&mut guest.pending) => {
                for address in GIVEN.with(RefCell::take) {
                    guest.call(Step::Free, &[address])?;
                }
                guest.call(step, params)
            }
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-null",
        call: |guest, step, params| {
            let result = guest.call(step, params)?;
            if let (Step::RunWithInput, [0, _]) = (step, params) {
                guest.call(Step::Free, &[0])?;
            }
            Ok(result)
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-before-run",
        call: |guest, step, params| match (step, params) {
            (Step::RunWithInput, &[address, _]) => {
                guest.call(Step::Free, &[address])?;
                guest.call(step, params)
            }
            (Step::Free, _) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-records-after-a-trap",
        host: giving,
        call: |guest, step, params| {
            given_anew(guest, step, params).inspect_err(|_| {
                if step == Step::Run {
                    for address in GIVEN.with(RefCell::take) {
                        let _ = guest.call(Step::Free, &[address]);
                    }
                }
            })
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-after-a-trap",
        call: |guest, step, params| {
            guest.call(step, params).inspect_err(|_| {
                if let (Step::RunWithInput, [address, _]) = (step, params) {
                    let _ = guest.call(Step::Free, &[*address]);
                }
            })
        },
        ..SOUND
    },
    Fault {
        name: "goes-on-freeing-after-a-trap",
        call: |guest, step, params| {
            guest.call(step, params).inspect_err(|_| {
                if step == Step::Free {
                    let _ = guest.call(step, params);
                }
            })
        },
        ..SOUND
    },
    Fault {
        name: "drops-the-answer-where-free-traps",
        request: |session, input| {
            session.request(input)?;
            session.poison().map_or(Ok(()), Err)
        },
        ..SOUND
    },
    Fault {
        name: "skips-malloc-for-an-empty-input",
        call: |guest, step, params| match (step, params) {
            (Step::Malloc, [0]) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "allocates-a-byte-more-for-an-input",
        call: |guest, step, params| match (step, params) {
            (Step::Malloc, &[length]) => guest.call(step, &[length + 1]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-an-input-that-has-no-room",
        call: |guest, step, params| {
            let address = guest.call(step, params)?;
            if step == Step::Malloc && address as usize + params[0] as usize > guest.memory().len() {
                guest.call(Step::Free, &[address])?;
            }
            Ok(address)
        },
        ..SOUND
    },
    Fault {
        name: "poisons-where-an-input-has-no-room",
        call: |guest, step, params| match guest.call(step, params)? {
            0 if step == Step::Malloc && params != [0] => {
                Err(ErrorKind::Allocation { length: params[0].into() }.into())
            }
            result => Ok(result),
        },
        ..SOUND
    },
    Fault {
        name: "initialises-for-every-request",
        call: |guest, step, params| {
            if matches!(step, Step::Run | Step::RunWithInput) && guest.has(Step::Initialize) {
                guest.call(Step::Initialize, &[])?;
            }
            guest.call(step, params)
        },
        ..SOUND
    },
    // Plugins: records.
    Fault {
        name: "hands-out-records-without-their-delimiter",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" && slots[0] != 0 {
                slots[0] -= 1;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "leaves-the-last-record-without-a-delimiter",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" && slots[0] != 0 {
                READ.set(READ.get() + (slots[0] as u32) as usize);
                if READ.get() > INPUT.get() {
                    slots[0] -= 1;
                }
            }
            Ok(())
        },
        request: |session, input| {
            READ.set(0);
            INPUT.set(input.len());
            session.request(input)
        },
        ..SOUND
    },
    Fault {
        name: "adds-a-delimiter-to-every-input",
        request: |session, input| session.request(&format!("{input}\n")),
        ..SOUND
    },
    Fault {
        name: "takes-an-empty-input-for-an-empty-record",
        request: |session, input| session.request(if input.is_empty() { "\n" } else { input }),
        ..SOUND
    },
    Fault {
        name: "drops-a-last-record-without-a-delimiter",
        request: |session, input| session.request(&input[..input.rfind('\n').map_or(0, |end| end + 1)]),
        ..SOUND
    },
    Fault {
        name: "drops-empty-records",
        request: |session, input| {
            let records = input.split_inclusive('\n').filter(|record| *record != "\n");
            session.request(&records.collect::<String>())
        },
        ..SOUND
    },
    Fault {
        name: "takes-crlf-for-a-line-feed",
        request: |session, input| session.request(&input.replace("\r\n", "\n")),
        ..SOUND
    },
    Fault {
        name: "ends-an-input-at-nul",
        request: |session, input| session.request(input.split('\0').next().unwrap_or_default()),
        ..SOUND
    },
    Fault {
        name: "keeps-unread-input-for-the-next-request",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" {
                READ.set(READ.get() + (slots[0] as u32) as usize);
            }
            Ok(())
        },
        request: |session, input| {
            READ.set(0);
            let input = take(&mut session.kept.0) + input;
            let result = session.request(&input);
            if READ.get() > 0 {
                input.get(READ.get()..).unwrap_or_default().clone_into(&mut session.kept.0);
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "answers-with-minus-1-behind-the-last-record",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" && slots[0] == 0 {
                slots[0] = u64::MAX;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "starts-the-input-anew-at-its-end",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" {
                match slots[0] {
                    // Returns the first record again, at the same address.
                    0 => slots[0] = FIRST.take(),
                    record if FIRST.get() == 0 => FIRST.set(record),
                    _ => {}
                }
            }
            Ok(())
        },
        ..SOUND
    },
    // Plugins: output.
    Fault {
        name: "swaps-the-streams",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stderr, stdout)
        },
        ..SOUND
    },
    Fault {
        name: "writes-errors-to-the-output",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stdout + &stderr, String::new())
        },
        ..SOUND
    },
    Fault { name: "keeps-no-errors", streams: |session| (session.streams().0, String::new()), ..SOUND },
    Fault {
        name: "keeps-nothing-of-a-failed-request",
        request: |session, input| {
            let result = session.request(input);
            session.silent = result.is_err();
            result
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-output-of-earlier-requests",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            session.kept.0 += &stdout;
            session.kept.1 += &stderr;
            session.kept.clone()
        },
        ..SOUND
    },
    Fault {
        name: "shows-the-last-output-again-on-a-poisoned-session",
        streams: |session| {
            let streams = session.streams();
            if streams != Default::default() || session.poison().is_none() {
                session.kept = streams;
            }
            session.kept.clone()
        },
        ..SOUND
    },
    Fault {
        name: "ends-output-at-nul",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stdout.split('\0').next().unwrap_or_default().to_owned(), stderr)
        },
        ..SOUND
    },
    Fault {
        name: "drops-output-that-is-not-utf8",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stdout.replace('\u{fffd}', ""), stderr.replace('\u{fffd}', ""))
        },
        ..SOUND
    },
    Fault {
        name: "ends-output-with-a-line-feed",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stdout.trim_end_matches('\n').to_owned() + "\n", stderr)
        },
        ..SOUND
    },
    Fault {
        name: "limits-a-plugin-to-less-than-the-limit",
        limits: |limits| {
            let bytes = limits.max_output().saturating_sub(1);
            limits.with_max_output(bytes)
        },
        error: |error| match error {
            ErrorKind::TooLong { region, length, limit } => ErrorKind::TooLong { region, length, limit: limit + 1 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-length-of-one-write-only",
        host: |name, slots, call| {
            let length = slots.get(1).copied().unwrap_or_default();
            call(slots).map_err(|error| match error.kind() {
                ErrorKind::TooLong { region, limit, .. } if name.ends_with("puts") => {
                    ErrorKind::TooLong { region: region.clone(), length, limit: *limit }.into()
                }
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "cuts-a-plugin's-output-at-the-limit",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::TooLong { .. }) => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "goes-on-after-a-failed-request",
        call: |guest, step, params| match step {
            Step::Malloc | Step::Free | Step::Run | Step::RunWithInput => held(guest, step, params, |_| true),
            _ => guest.call(step, params),
        },
        request: |session, input| {
            HELD.take();
            let result = session.request(input);
            HELD.take().map_or(result, Err)
        },
        ..SOUND
    },
];

/// Records what `igets` returns.
fn giving(name: &str, slots: &mut [u64], call: &mut dyn FnMut(&mut [u64]) -> Result<()>) -> Result<()> {
    call(slots)?;
    if name == "igets" && slots[0] != 0 {
        GIVEN.with(|given| given.borrow_mut().push((slots[0] >> 32) as u32));
    }
    Ok(())
}

/// Makes a call, and forgets the records of earlier requests.
fn given_anew(guest: &mut Guest, step: Step, params: &[u32]) -> Result<u32> {
    if step == Step::Run {
        GIVEN.with(RefCell::take);
    }
    guest.call(step, params)
}
