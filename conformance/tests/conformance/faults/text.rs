//! Faults in text: what counts as UTF-8, and how much of an input or output arrives.

use std::str::Utf8Error;

use mistletoe::protocol::Region;
use mistletoe::{ErrorKind, Result};

use crate::faulty::{Fault, Guest, Opened, SOUND, Step};

pub(super) static FAULTS: &[Fault] = &[
    // Text.
    Fault {
        name: "takes-bad-utf8-lossily",
        call: |guest, step, params| lossy(guest, step, params, |_, _| true),
        ..SOUND
    },
    Fault {
        name: "takes-bad-utf8-lossily-in-info-only",
        call: |guest, step, params| match step {
            Step::Info => lossy(guest, step, params, |_, _| true),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "takes-surrogates-for-utf8",
        call: |guest, step, params| {
            lossy(guest, step, params, |bad, _| matches!(bad, [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..]))
        },
        ..SOUND
    },
    Fault {
        name: "takes-overlong-forms-for-utf8",
        call: |guest, step, params| {
            lossy(guest, step, params, |bad, _| {
                matches!(bad, [0xc0 | 0xc1, 0x80..=0xff, ..] | [0xe0, 0x80..=0x9f, ..] | [0xf0, 0x80..=0x8f, ..])
            })
        },
        ..SOUND
    },
    Fault {
        name: "takes-characters-past-10ffff-for-utf8",
        call: |guest, step, params| {
            lossy(guest, step, params, |bad, _| matches!(bad, [0xf4, 0x90..=0xbf, ..] | [0xf5..=0xf7, 0x80..=0xbf, ..]))
        },
        ..SOUND
    },
    Fault {
        name: "takes-a-cut-off-character-for-utf8",
        call: |guest, step, params| lossy(guest, step, params, |_, error| error.error_len().is_none()),
        ..SOUND
    },
    Fault {
        name: "checks-utf8-in-the-first-kib-only",
        call: |guest, step, params| lossy(guest, step, params, |_, error| error.valid_up_to() >= 1 << 10),
        ..SOUND
    },
    Fault {
        name: "tells-the-bad-byte-counted-from-1",
        error: |error| match error {
            ErrorKind::InvalidUtf8 { region, offset } => ErrorKind::InvalidUtf8 { region, offset: offset + 1 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-no-offset-of-the-bad-byte",
        error: |error| match error {
            ErrorKind::InvalidUtf8 { region, .. } => ErrorKind::InvalidUtf8 { region, offset: 0 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "stops-at-nul",
        ask: |session, input| answer(session, input, |text| text.split('\0').next().unwrap_or_default().to_owned()),
        ..SOUND
    },
    Fault {
        name: "stops-the-input-at-nul",
        ask: |session, input| session.ask(input.and_then(|input| input.split('\0').next())),
        ..SOUND
    },
    Fault {
        name: "strips-a-byte-order-mark",
        ask: |session, input| answer(session, input, |text| text.trim_start_matches('\u{feff}').to_owned()),
        ..SOUND
    },
    Fault {
        name: "strips-the-byte-order-mark-of-an-input",
        ask: |session, input| session.ask(input.map(|input| input.trim_start_matches('\u{feff}'))),
        ..SOUND
    },
    Fault {
        name: "trims-line-ends",
        ask: |session, input| answer(session, input, |text| text.trim_end_matches(['\r', '\n']).to_owned()),
        ..SOUND
    },
    Fault { name: "trims-the-input", ask: |session, input| session.ask(input.map(str::trim)), ..SOUND },
    Fault {
        name: "adds-a-line-end",
        ask: |session, input| {
            answer(session, input, |text| if text.ends_with('\n') { text } else { format!("{text}\n") })
        },
        ..SOUND
    },
    Fault {
        name: "adds-a-line-end-to-the-input",
        ask: |session, input| match input {
            Some(input) if !input.ends_with('\n') => session.ask(Some(&format!("{input}\n"))),
            _ => session.ask(input),
        },
        ..SOUND
    },
    Fault {
        name: "normalises-line-ends",
        ask: |session, input| answer(session, input, |text| text.replace("\r\n", "\n")),
        ..SOUND
    },
    Fault {
        name: "normalises-line-ends-of-an-input",
        ask: |session, input| session.ask(input.map(|input| input.replace("\r\n", "\n")).as_deref()),
        ..SOUND
    },
    Fault {
        name: "drops-control-characters",
        ask: |session, input| {
            answer(session, input, |text| {
                text.chars().filter(|char| !char.is_control() || char.is_whitespace()).collect()
            })
        },
        ..SOUND
    },
    Fault {
        name: "composes-characters",
        // Normalises one letter with one accent, and nothing else.
        ask: |session, input| answer(session, input, |text| text.replace("e\u{301}", "\u{e9}")),
        ..SOUND
    },
    Fault {
        name: "replaces-characters-outside-the-basic-plane",
        ask: |session, input| {
            answer(session, input, |text| {
                text.chars().map(|char| if char > '\u{ffff}' { '\u{fffd}' } else { char }).collect()
            })
        },
        ..SOUND
    },
    Fault {
        name: "trims-the-info",
        ask: |session, input| match input {
            None => session.ask(None).map(|info| info.trim().to_owned()),
            _ => session.ask(input),
        },
        ..SOUND
    },
    Fault {
        name: "cuts-outputs-at-64-kib",
        ask: |session, input| answer(session, input, |text| cut(&text).to_owned()),
        ..SOUND
    },
    Fault { name: "cuts-inputs-at-64-kib", ask: |session, input| session.ask(input.map(cut)), ..SOUND },
    Fault {
        name: "refuses-an-empty-output",
        ask: |session, input| match session.ask(input) {
            Ok(output) if output.is_empty() => {
                Err(ErrorKind::OutOfBounds { region: Region::Output, address: 0, length: 0, memory: 0 }.into())
            }
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "answers-an-empty-input-itself",
        ask: |session, input| if input == Some("") { Ok(String::new()) } else { session.ask(input) },
        ..SOUND
    },
    Fault {
        name: "answers-with-the-input-where-the-output-is-empty",
        ask: |session, input| {
            session.ask(input).map(|output| if output.is_empty() { input.unwrap_or_default().into() } else { output })
        },
        ..SOUND
    },
];

/// Shows an output or info with replacement characters, if all its invalid UTF-8 is tolerated.
fn lossy(guest: &mut Guest, step: Step, params: &[u32], tolerated: fn(&[u8], &Utf8Error) -> bool) -> Result<u32> {
    let result = guest.call(step, params)?;
    let span = match step {
        Step::Info => guest.info,
        Step::Generate => guest.output,
        _ => None,
    };
    let Some(mut rest) = span.and_then(|span| span.of(guest.memory())) else { return Ok(result) };
    let mut text = Vec::new();
    let mut bad = false;
    while let Err(error) = std::str::from_utf8(rest) {
        let (good, after) = rest.split_at(error.valid_up_to());
        if !tolerated(after, &error) {
            return Ok(result);
        }
        bad = true;
        text.extend(good);
        text.extend("\u{fffd}".bytes());
        // The rest of the character is replaced together with its first byte.
        let tail = after.iter().skip(1).take(3).take_while(|byte| matches!(byte, 0x80..=0xbf)).count();
        rest = &after[1 + tail..];
    }
    if bad {
        text.extend(rest);
        guest.show_answer(&text);
    }
    Ok(result)
}

/// Alters outputs, but not the info.
fn answer(session: &mut Opened, input: Option<&str>, alter: impl FnOnce(String) -> String) -> Result<String> {
    let answer = session.ask(input)?;
    Ok(if input.is_some() { alter(answer) } else { answer })
}

/// Returns the first 64 KiB of a text at most.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(1 << 16);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
