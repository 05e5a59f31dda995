//! Faults in the protocol of middleware: the calls of a request, buffers and lists, headers, bodies, features, the log.

use std::cell::Cell;

use mistletoe::{ErrorKind, Result};
use mistletoe_conformance::http::Exchanged;

use super::{skipped, twice, zeroed};
use crate::faulty::{Fault, Guest, SOUND, Step};

thread_local! {
    /// The features that any request has enabled.
    static ENABLED: Cell<u64> = const { Cell::new(0) };
    /// The number of calls of a function in the current call of the guest.
    static CALLS: Cell<u32> = const { Cell::new(0) };
    /// Whether the guest handles a response.
    static AFTER_NEXT: Cell<bool> = const { Cell::new(false) };
}

pub(super) static FAULTS: &[Fault] = &[
    // The calls of a request.
    Fault {
        name: "calls-initialize-alone",
        call: |guest, step, params| match step {
            Step::Command if guest.has(Step::Initialize) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "calls-start-alone",
        call: |guest, step, params| match step {
            Step::Initialize if guest.has(Step::Command) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "goes-on-only-with-1",
        call: |guest, step, params| match (step, guest.call(step, params)?) {
            (Step::HandleRequest, next) if next != 1 => Ok(0),
            (_, result) => Ok(result),
        },
        ..SOUND
    },
    Fault {
        name: "goes-on-with-a-context-alone",
        call: |guest, step, params| match (step, guest.call(step, params)?) {
            (Step::HandleRequest, 0) if guest.upper != 0 => Ok(1),
            (_, result) => Ok(result),
        },
        ..SOUND
    },
    Fault {
        name: "goes-on-always",
        call: |guest, step, params| match (step, guest.call(step, params)?) {
            (Step::HandleRequest, _) => Ok(1),
            (_, result) => Ok(result),
        },
        ..SOUND
    },
    Fault {
        name: "forgets-the-context",
        call: |guest, step, params| match (step, params) {
            (Step::HandleResponse, &[_, failed]) => guest.call(step, &[0, failed]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "cuts-the-context-to-31-bits",
        call: |guest, step, params| match (step, params) {
            (Step::HandleResponse, &[context, failed]) => guest.call(step, &[context & 0x7fff_ffff, failed]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "swaps-context-and-failure",
        call: |guest, step, params| match (step, params) {
            (Step::HandleResponse, &[context, failed]) => guest.call(step, &[failed, context]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "hides-that-the-next-handler-failed",
        call: |guest, step, params| match (step, params) {
            (Step::HandleResponse, &[context, _]) => guest.call(step, &[context, 0]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "skips-the-response-if-the-next-handler-failed",
        call: |guest, step, params| match (step, params) {
            (Step::HandleResponse, [_, 1]) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "never-shows-the-response",
        call: |guest, step, params| if step == Step::HandleResponse { Ok(0) } else { guest.call(step, params) },
        ..SOUND
    },
    Fault {
        name: "shows-the-response-twice",
        call: |guest, step, params| twice(guest, Step::HandleResponse, step, params),
        ..SOUND
    },
    Fault {
        name: "shows-the-request-twice",
        call: |guest, step, params| twice(guest, Step::HandleRequest, step, params),
        ..SOUND
    },
    Fault {
        name: "starts-for-every-request",
        call: |guest, step, params| {
            for start in [Step::Command, Step::Initialize] {
                if step == Step::HandleRequest && guest.has(start) {
                    guest.call(start, &[])?;
                }
            }
            guest.call(step, params)
        },
        ..SOUND
    },
    // Buffers and lists.
    Fault {
        name: "writes-beyond-the-limit",
        host: |name, slots, call| {
            if name.starts_with("get_")
                && let Some(limit) = limit(name).and_then(|at| slots.get_mut(at))
            {
                *limit = u64::from(u32::MAX);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "writes-only-what-is-shorter-than-the-limit",
        host: |name, slots, call| {
            if name.starts_with("get_")
                && let Some(limit) = limit(name).and_then(|at| slots.get_mut(at))
            {
                *limit = limit.saturating_sub(1);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "returns-the-written-length",
        host: |name, slots, call| {
            let limit = limit(name).and_then(|at| slots.get(at).copied());
            call(slots)?;
            if name.starts_with("get_") && limit.is_some_and(|limit| slots[0] & 0xffff_ffff > limit) {
                slots[0] = 0;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "checks-buffers-that-it-does-not-write",
        host: |name, slots, call| {
            let outside = matches!(name, "get_uri" | "get_config") && slots[0] > 0xffff;
            call(slots)?;
            if outside { Err(ErrorKind::Allocation { length: 0 }.into()) } else { Ok(()) }
        },
        ..SOUND
    },
    Fault {
        name: "counts-no-zero-bytes",
        host: |name, slots, call| {
            call(slots)?;
            if name.starts_with("get_header") {
                slots[0] -= slots[0] >> 32;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "counts-one-entry",
        host: |name, slots, call| {
            call(slots)?;
            if name.starts_with("get_header") && slots[0] >> 32 > 1 {
                slots[0] = slots[0] & 0xffff_ffff | 1 << 32;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "swaps-count-and-length",
        host: |name, slots, call| {
            call(slots)?;
            if name.starts_with("get_header") {
                slots[0] = slots[0].rotate_left(32);
            }
            Ok(())
        },
        ..SOUND
    },
    // Headers.
    Fault {
        name: "takes-an-unknown-kind-for-the-request",
        host: |name, slots, call| {
            if name.contains("header") && slots[0] > 3 || name.ends_with("_body") && slots[0] > 1 {
                slots[0] = 0;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "takes-trailers-for-headers",
        host: |name, slots, call| {
            if name.contains("header") && matches!(slots[0], 2 | 3) {
                slots[0] -= 2;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "swaps-request-and-response",
        host: |name, slots, call| {
            if name.contains("header") && slots[0] < 4 {
                slots[0] ^= 1;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "removes-no-headers",
        host: |name, slots, call| skipped(name == "remove_header", slots, call),
        ..SOUND
    },
    Fault {
        name: "adds-no-headers",
        host: |name, slots, call| skipped(name == "add_header_value", slots, call),
        ..SOUND
    },
    Fault {
        name: "hides-the-host-header",
        exchange: |session, call| match call {
            Exchanged::Request(text) => {
                let output = session.exchange(Exchanged::Request(&text.replace("\nHost: ", "\nHidden: ")))?;
                Ok(output.replace("\nHidden: ", "\nHost: "))
            }
            _ => session.exchange(call),
        },
        ..SOUND
    },
    Fault {
        name: "limits-headers-to-less-than-the-limit",
        host: |name, slots, call| {
            call(slots)?;
            // The second header of the same name is one too many.
            let adds = name == "add_header_value" && CALLS.replace(CALLS.get() + 1) > 0;
            if adds { Err(ErrorKind::Allocation { length: 0 }.into()) } else { Ok(()) }
        },
        call: counted,
        ..SOUND
    },
    Fault {
        name: "makes-light-of-misuse",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::Host { .. }) => zeroed(slots),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "allows-changes-after-next",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::Host { .. }) && AFTER_NEXT.get() => Ok(()),
            result => result,
        },
        call: |guest, step, params| {
            AFTER_NEXT.set(step == Step::HandleResponse);
            guest.call(step, params)
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-query-where-the-uri-is-replaced",
        exchange: |session, call| {
            let query = match call {
                Exchanged::Request(text) => text.split(' ').nth(1).and_then(|uri| uri.split_once('?')).map(|(_, q)| q),
                Exchanged::Response { .. } => None,
            };
            let output = session.exchange(call)?;
            let Some(query) = query else { return Ok(output) };
            match output.contains('?') {
                true => Ok(output),
                false => Ok(output.replacen(" HTTP/", &format!("?{query} HTTP/"), 1)),
            }
        },
        ..SOUND
    },
    Fault {
        name: "drops-the-query",
        exchange: |session, call| match call {
            Exchanged::Request(text) => {
                let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
                let path = line.split_once('?').map_or(line.to_owned(), |(path, _)| format!("{path} HTTP/1.1"));
                session.exchange(Exchanged::Request(&format!("{path}\n{rest}")))
            }
            _ => session.exchange(call),
        },
        ..SOUND
    },
    Fault {
        name: "takes-the-status-for-16-bits",
        host: |name, slots, call| {
            if name == "set_status_code" {
                slots[0] &= 0xffff;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "sets-no-status",
        host: |name, slots, call| skipped(name == "set_status_code", slots, call),
        ..SOUND
    },
    // Bodies.
    Fault {
        name: "never-says-that-a-body-ends",
        host: |name, slots, call| {
            call(slots)?;
            if name == "read_body" && slots[0] as u32 != 0 {
                slots[0] &= 0xffff_ffff;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "says-that-a-body-ends-where-the-buffer-is-full",
        host: |name, slots, call| {
            call(slots)?;
            if name == "read_body" {
                slots[0] |= 1 << 32;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "fills-no-buffer",
        host: |name, slots, call| {
            if name == "read_body" {
                slots[2] = slots[2].div_ceil(2);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "reads-into-nothing",
        host: |name, slots, call| skipped(name == "read_body" && slots[2] == 0, slots, call),
        ..SOUND
    },
    Fault {
        name: "takes-an-empty-write-for-none",
        host: |name, slots, call| skipped(name == "write_body" && slots[2] == 0, slots, call),
        ..SOUND
    },
    Fault {
        name: "keeps-the-last-write-only",
        host: |name, slots, call| {
            let more = name == "write_body" && CALLS.replace(CALLS.get() + 1) > 0;
            skipped(more, slots, call)
        },
        call: counted,
        ..SOUND
    },
    Fault {
        name: "does-not-buffer-the-request",
        host: |name, slots, call| {
            if name == "enable_features" {
                slots[0] &= !1;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "buffers-every-request",
        exchange: |session, call| {
            let body = match call {
                Exchanged::Request(text) => text.split_once("\n\n").map(|(_, body)| body),
                Exchanged::Response { .. } => None,
            };
            let output = session.exchange(call)?;
            match (body, output.split_once("\n\n")) {
                (Some(body), Some((head, rest))) if body.ends_with(rest) && output.starts_with("next") => {
                    Ok(format!("{head}\n\n{body}"))
                }
                _ => Ok(output),
            }
        },
        ..SOUND
    },
    Fault {
        name: "shows-no-body-of-the-response",
        exchange: |session, call| match call {
            Exchanged::Response { text, failed } => {
                let (head, _) = text.split_once("\n\n").unwrap_or((text, ""));
                session.exchange(Exchanged::Response { text: &format!("{head}\n\n"), failed })
            }
            _ => session.exchange(call),
        },
        ..SOUND
    },
    Fault {
        name: "ends-bodies-at-nul",
        exchange: |session, call| {
            let output = session.exchange(call)?;
            Ok(output.split('\0').next().unwrap_or_default().to_owned())
        },
        ..SOUND
    },
    // Features and log.
    Fault {
        name: "enables-unsupported-features",
        host: |name, slots, call| {
            let asked = slots.first().copied().unwrap_or_default();
            call(slots)?;
            if name == "enable_features" {
                slots[0] |= asked & 7;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "returns-the-new-features-only",
        host: |name, slots, call| {
            let asked = slots.first().copied().unwrap_or_default();
            call(slots)?;
            if name == "enable_features" {
                slots[0] &= asked;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "returns-unknown-features",
        host: |name, slots, call| {
            let asked = slots.first().copied().unwrap_or_default();
            call(slots)?;
            if name == "enable_features" {
                slots[0] |= asked & !7;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-features-of-a-request",
        start: |_| {
            ENABLED.set(0);
            Ok(())
        },
        host: |name, slots, call| {
            if name == "enable_features" {
                slots[0] |= ENABLED.get();
            }
            call(slots)?;
            if name == "enable_features" {
                ENABLED.set(slots[0]);
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "logs-every-level",
        host: |name, slots, call| {
            if name.starts_with("log") && slots[0] as i32 > 2 {
                slots[0] = 2;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "says-that-every-level-is-logged",
        host: |name, slots, call| {
            call(slots)?;
            if name == "log_enabled" {
                slots[0] = 1;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "drops-messages-that-are-not-utf8",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            let kept: String = stderr.split_inclusive('\n').filter(|line| !line.contains('\u{fffd}')).collect();
            (stdout, kept)
        },
        ..SOUND
    },
    Fault {
        name: "checks-messages-that-are-not-logged",
        host: |name, slots, call| {
            let outside = name == "log" && slots[1] > 0x0010_0000;
            call(slots)?;
            if outside { Err(ErrorKind::Allocation { length: 0 }.into()) } else { Ok(()) }
        },
        ..SOUND
    },
];

/// Returns which parameter of a function is the length of its buffer.
fn limit(name: &str) -> Option<usize> {
    match name {
        "get_header_names" => Some(2),
        "get_header_values" => Some(4),
        "get_status_code" => None,
        _ => Some(1),
    }
}

/// Makes a call of the guest, in which calls of a host function are counted anew.
fn counted(guest: &mut Guest, step: Step, params: &[u32]) -> Result<u32> {
    CALLS.set(0);
    guest.call(step, params)
}
