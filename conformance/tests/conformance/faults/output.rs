//! Faults in the limit on the length of a guest's output.

use mistletoe::protocol::Region;
use mistletoe::{ErrorKind, Limits, Result};

use crate::faulty::{Fault, LENGTH, Opened, SOUND, Step};

pub(super) static FAULTS: &[Fault] = &[
    // The limit.
    Fault {
        name: "allows-less-than-the-limit-only",
        ask: |session, input| limited(session, input, |text, limit| text.len() as u64 >= limit, |text| text.len()),
        ..SOUND
    },
    Fault { name: "knows-no-limit", limits: |limits| limits.with_max_output(u64::MAX), ..SOUND },
    Fault { name: "knows-only-the-default-limit", limits: |_| Limits::default(), ..SOUND },
    Fault {
        name: "allows-a-byte-more-than-the-limit",
        limits: |limits| {
            let bytes = limits.max_output().saturating_add(1);
            limits.with_max_output(bytes)
        },
        error: |error| match error {
            ErrorKind::TooLong { region, length, limit } => ErrorKind::TooLong { region, length, limit: limit - 1 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "counts-characters-for-the-limit",
        limits: |limits| limits.with_max_output(u64::MAX),
        ask: |session, input| {
            limited(session, input, |text, limit| text.chars().count() as u64 > limit, |text| text.chars().count())
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-length-in-characters",
        limits: |limits| limits.with_max_output(u64::MAX),
        ask: |session, input| {
            limited(session, input, |text, limit| text.len() as u64 > limit, |text| text.chars().count())
        },
        ..SOUND
    },
    Fault {
        name: "checks-utf8-before-the-length",
        limits: |limits| limits.with_max_output(u64::MAX),
        ask: |session, input| limited(session, input, |text, limit| text.len() as u64 > limit, |text| text.len()),
        ..SOUND
    },
    Fault {
        name: "checks-the-length-before-the-range",
        ask: |session, input| {
            let limit = session.package.max_output;
            session.ask(input).map_err(|error| match error.kind() {
                ErrorKind::OutOfBounds { region: region @ (Region::Info | Region::Output), length, .. }
                    if (*length) > limit =>
                {
                    ErrorKind::TooLong { region: region.clone(), length: (*length), limit }.into()
                }
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "cuts-at-the-limit",
        limits: |limits| limits.with_max_output(u64::MAX),
        ask: |session, input| {
            let limit = session.package.max_output;
            session.ask(input).map(|text| {
                let fits = |(at, char): &(usize, char)| (at + char.len_utf8()) as u64 <= limit;
                text.char_indices().take_while(fits).map(|(_, char)| char).collect()
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-inputs-too",
        ask: |session, input| {
            let (length, limit) = (input.unwrap_or_default().len() as u64, session.package.max_output);
            if length > limit {
                return Err(ErrorKind::TooLong { region: Region::Input, length, limit }.into());
            }
            session.ask(input)
        },
        ..SOUND
    },
    Fault {
        name: "limits-no-info",
        limits: |limits| limits.with_max_output(u64::MAX),
        call: |guest, step, params| {
            let result = guest.call(step, params);
            if step == Step::Generate {
                LENGTH.set(guest.held_output().unwrap_or_default().length.into());
            }
            result
        },
        ask: |session, input| {
            LENGTH.set(0);
            let result = session.ask(input);
            let (length, limit) = (LENGTH.get(), session.package.max_output);
            if length > limit {
                Err(ErrorKind::TooLong { region: Region::Output, length, limit }.into())
            } else {
                result
            }
        },
        ..SOUND
    },
];

/// Refuses texts by a custom limit check, and reports their length by a custom measure.
fn limited(
    session: &mut Opened,
    input: Option<&str>,
    too_long: fn(&str, u64) -> bool,
    length: fn(&str) -> usize,
) -> Result<String> {
    let text = session.ask(input)?;
    let limit = session.package.max_output;
    if too_long(&text, limit) {
        let region = if input.is_some() { Region::Output } else { Region::Info };
        return Err(ErrorKind::TooLong { region, length: length(&text) as u64, limit }.into());
    }
    Ok(text)
}
