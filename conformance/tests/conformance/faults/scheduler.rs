//! Faults in the protocol of the scheduler's plugins: each import, statuses, buffers, results, reasons, the log.

use std::cell::Cell;

use mistletoe::types::Problem;
use mistletoe::{ErrorKind, Result};
use mistletoe_scheduler::protocol::Function;

use super::{skipped, twice, without, zeroed};
use crate::faulty::{Fault, Guest, SOUND, Step};

thread_local! {
    /// The function of a plugin that is called.
    static FUNCTION: Cell<Option<Function>> = const { Cell::new(None) };
    /// The number of calls of a host function in it.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Faults of hosts that lack what an import does: its result is 0, and it writes and takes nothing.
macro_rules! lacking {
    ($($import:literal),* $(,)?) => {
        &[$(Fault {
            name: concat!("lacks-", $import),
            host: |name, slots, call| skipped(name == $import && is_plugin(), slots, call),
            call: called,
            ..SOUND
        }),*]
    };
}

pub(super) static LACKING: &[Fault] = lacking![
    "node",
    "nodeList",
    "log",
    "logs",
    "severity",
    "get_config",
    "currentPod",
    "targetPod",
    "currentNodeName",
    "filteredNodeList",
    "nodeImageStates",
    "nodeToStatusMap",
    "nodeScoreList",
    "result.cluster_events",
    "result.node_names",
    "result.nominated_node_name",
    "result.normalized_score_list",
    "result.status_reason",
    "handle.eventrecorder.eventf",
    "handle.get_waiting_pod",
    "handle.reject_waiting_pod",
];

/// Faults of hosts that call no function of this kind: its result is 0.
macro_rules! uncalled {
    ($($name:literal $function:ident),* $(,)?) => {
        &[$(Fault {
            name: concat!("never-calls-", $name),
            call: |guest, step, params| match step {
                Step::Plugin(Function::$function) => Ok(0),
                _ => guest.call(step, params),
            },
            ..SOUND
        }),*]
    };
}

pub(super) static UNCALLED: &[Fault] = uncalled![
    "enqueue" Enqueue,
    "prefilter" PreFilter,
    "filter" Filter,
    "postfilter" PostFilter,
    "addpod" AddPod,
    "removepod" RemovePod,
    "prescore" PreScore,
    "score" Score,
    "normalizescore" NormalizeScore,
    "reserve" Reserve,
    "unreserve" Unreserve,
    "permit" Permit,
    "prebind" PreBind,
    "bind" Bind,
    "postbind" PostBind,
];

pub(super) static FAULTS: &[Fault] = &[
    // Modules and their start.
    Fault {
        name: "takes-plugins-without-a-function-that-another-needs",
        refuse: |error| {
            let overlooks = |problem: &Problem| match problem {
                Problem::MissingExport { export, .. } => {
                    Function::ALL.iter().any(|function| function.name() == &**export)
                }
                _ => false,
            };
            without(error, overlooks)
        },
        ..SOUND
    },
    Fault {
        name: "starts-plugins-for-every-call",
        call: |guest, step, params| {
            if matches!(step, Step::Plugin(_)) && guest.has(Step::Command) {
                guest.call(Step::Command, &[])?;
            }
            guest.call(step, params)
        },
        ..SOUND
    },
    // Calls and statuses.
    Fault {
        name: "filters-twice",
        call: |guest, step, params| twice(guest, Step::Plugin(Function::Filter), step, params),
        ..SOUND
    },
    Fault { name: "removes-pods-that-are-added", call: |guest, step, params| swapped(guest, step, params), ..SOUND },
    Fault {
        name: "reads-the-lower-half-of-pairs",
        call: |guest, step, params| {
            let result = guest.call(step, params)?;
            if matches!(step, Step::Plugin(_)) {
                guest.upper = 0;
            }
            Ok(result)
        },
        ..SOUND
    },
    Fault {
        name: "swaps-score-and-status",
        call: |guest, step, params| halves(guest, step, params, Function::Score),
        ..SOUND
    },
    Fault {
        name: "swaps-mode-and-status",
        call: |guest, step, params| halves(guest, step, params, Function::PostFilter),
        ..SOUND
    },
    Fault {
        name: "reads-permits-as-scores",
        call: |guest, step, params| halves(guest, step, params, Function::Permit),
        ..SOUND
    },
    Fault {
        name: "takes-unknown-statuses-for-errors",
        call: |guest, step, params| match (step, guest.call(step, params)?) {
            (Step::Plugin(_), 6..) => Ok(1),
            (_, result) => Ok(result),
        },
        ..SOUND
    },
    Fault {
        name: "takes-negative-statuses-for-success",
        call: |guest, step, params| match (step, guest.call(step, params)?) {
            (Step::Plugin(_), 0x8000_0000..) => Ok(0),
            (_, result) => Ok(result),
        },
        ..SOUND
    },
    Fault {
        name: "takes-scores-for-unsigned",
        schedule: |session, call| Ok(session.schedule(call)?.replace(" score -", " score 4294967295")),
        ..SOUND
    },
    // Buffers, and what there is.
    Fault {
        name: "writes-to-plugins-beyond-the-limit",
        host: |name, slots, call| {
            if let Some(limit) = limit(name).and_then(|at| slots.get_mut(at)) {
                *limit = u64::from(u32::MAX);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "writes-to-plugins-only-what-is-shorter-than-the-limit",
        host: |name, slots, call| {
            if let Some(limit) = limit(name).and_then(|at| slots.get_mut(at)) {
                *limit = limit.saturating_sub(1);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "returns-to-plugins-the-written-length",
        host: |name, slots, call| {
            let limit = limit(name).and_then(|at| slots.get(at).copied());
            call(slots)?;
            if limit.is_some_and(|limit| slots[0] > limit) {
                slots[0] = 0;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "checks-buffers-of-plugins-that-it-does-not-write",
        host: |name, slots, call| {
            let outside = limit(name).is_some_and(|at| slots[at - 1] > 0xffff && slots[at] == 0);
            call(slots)?;
            if outside { Err(failed()) } else { Ok(()) }
        },
        ..SOUND
    },
    Fault {
        name: "makes-light-of-ranges-of-plugins",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::OutOfBounds { .. }) && is_plugin() => zeroed(slots),
            result => result,
        },
        call: called,
        ..SOUND
    },
    Fault {
        name: "hides-the-pod-once-it-is-bound",
        host: |name, slots, call| {
            skipped(name == "currentPod" && FUNCTION.get() == Some(Function::PostBind), slots, call)
        },
        call: called,
        ..SOUND
    },
    Fault {
        name: "hides-the-node-where-pods-are-removed",
        host: |name, slots, call| {
            skipped(name == "currentNodeName" && FUNCTION.get() == Some(Function::RemovePod), slots, call)
        },
        call: called,
        ..SOUND
    },
    Fault {
        name: "shows-the-pod-for-the-other",
        schedule: |session, call| {
            let shown = call.replace(r#"{"name": "other"}"#, r#"{"name": "pod"}"#);
            session.schedule(&shown)
        },
        ..SOUND
    },
    Fault {
        name: "hides-pods-and-nodes-that-are-malformed",
        host: |name, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::Host { .. }) && limit(name).is_some() => zeroed(slots),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "cuts-names-of-nodes",
        host: |name, slots, call| {
            if matches!(name, "node" | "nodeImageStates") {
                slots[1] = slots[1].min(252);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "cuts-names-that-are-too-long",
        host: |name, slots, call| {
            if matches!(name, "node" | "nodeImageStates") {
                slots[1] = slots[1].min(253);
            }
            call(slots)
        },
        ..SOUND
    },
    // Results and reasons.
    Fault {
        name: "checks-no-results-that-it-drops",
        host: |name, slots, call| {
            let takes = match FUNCTION.get() {
                Some(Function::Enqueue) => name == "result.cluster_events",
                Some(Function::PreFilter) => name == "result.node_names",
                Some(Function::PostFilter) => name == "result.nominated_node_name",
                Some(Function::NormalizeScore) => name == "result.normalized_score_list",
                _ => false,
            };
            let is_result = name.starts_with("result.") && name != "result.status_reason";
            skipped(is_result && !takes, slots, call)
        },
        call: called,
        ..SOUND
    },
    Fault {
        name: "takes-results-of-any-length",
        host: |name, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::TooLong { .. }) && name.starts_with("result.") => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "takes-results-that-are-shorter-than-the-limit",
        host: |name, slots, call| {
            let is_full = name == "result.node_names" && slots[1] == 16;
            call(slots)?;
            if is_full { Err(failed()) } else { Ok(()) }
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-first-result",
        host: |name, slots, call| {
            let more = name == "result.node_names" && CALLS.replace(CALLS.get() + 1) > 0;
            skipped(more, slots, call)
        },
        call: called,
        ..SOUND
    },
    Fault {
        name: "leaves-all-nodes-where-none-is-left",
        schedule: |session, call| match session.schedule(call)? {
            answer if answer == "0 nodes" => Ok("0 all nodes".to_owned()),
            answer => Ok(answer),
        },
        ..SOUND
    },
    Fault {
        name: "keeps-results-for-the-next-call",
        schedule: |session, call| {
            let answer = session.schedule(call)?;
            let kept = std::mem::replace(&mut session.kept.0, answer.clone());
            Ok(if answer == "0 all nodes" && kept.starts_with("0 nodes") { kept } else { answer })
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-first-reason",
        host: |name, slots, call| {
            let more = name == "result.status_reason" && CALLS.replace(CALLS.get() + 1) > 0;
            skipped(more, slots, call)
        },
        call: called,
        ..SOUND
    },
    Fault {
        name: "keeps-reasons-for-the-next-call",
        schedule: |session, call| {
            let answer = session.schedule(call)?;
            let reason = answer.split_once('\n').map(|(_, reason)| reason.to_owned());
            match reason {
                Some(reason) => {
                    session.kept.1 = reason;
                    Ok(answer)
                }
                None if session.kept.1.is_empty() => Ok(answer),
                None => Ok(format!("{answer}\n{}", session.kept.1)),
            }
        },
        ..SOUND
    },
    Fault {
        name: "takes-no-reason-for-success",
        schedule: |session, call| {
            let answer = session.schedule(call)?;
            let (status, _) = answer.split_once('\n').unwrap_or((&answer, ""));
            Ok(if status.starts_with('0') { status.to_owned() } else { answer })
        },
        ..SOUND
    },
    Fault {
        name: "cuts-reasons-at-1000-bytes",
        host: |name, slots, call| {
            if name == "result.status_reason" && slots[0] < 0xffff {
                slots[1] = slots[1].min(1000);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "fails-for-reasons-that-it-cannot-read",
        host: |name, slots, call| {
            let outside = name == "result.status_reason" && slots[0] + slots[1] > 0x1_0000;
            call(slots)?;
            if outside { Err(failed()) } else { Ok(()) }
        },
        ..SOUND
    },
    Fault {
        name: "ends-reasons-at-nul",
        schedule: |session, call| Ok(session.schedule(call)?.split('\0').next().unwrap_or_default().to_owned()),
        ..SOUND
    },
    // The log, and waiting pods.
    Fault {
        name: "logs-messages-of-any-severity",
        host: |name, slots, call| {
            if name == "logs" {
                slots[0] = 3;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "drops-messages-of-unknown-severities",
        host: |name, slots, call| {
            skipped(name == "log" && is_plugin() && !(0..=3).contains(&(slots[0] as i32)), slots, call)
        },
        call: called,
        ..SOUND
    },
    Fault {
        name: "fails-for-messages-that-it-cannot-read",
        host: |name, slots, call| {
            let outside = is_plugin() && matches!(name, "log" | "logs") && slots[1] + slots[2] > 0x1_0000;
            call(slots)?;
            if outside { Err(failed()) } else { Ok(()) }
        },
        call: called,
        ..SOUND
    },
    Fault {
        name: "logs-no-keys-and-values",
        host: |name, slots, call| {
            if name == "logs" {
                slots[4] = 0;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "logs-everything-that-is-severe",
        host: |name, slots, call| {
            call(slots)?;
            if name == "severity" {
                slots[0] = slots[0].min(2);
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "takes-any-event",
        host: |name, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::Host { .. }) && name.ends_with(".eventf") => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "takes-events-of-any-length",
        host: |name, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::TooLong { .. }) && name.ends_with(".eventf") => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "writes-no-waiting-pod-beyond-the-limit",
        host: |name, slots, call| skipped(name.ends_with("_waiting_pod") && slots[3] < 8, slots, call),
        ..SOUND
    },
    Fault {
        name: "reads-no-uid",
        host: |name, slots, call| {
            if name.ends_with("_waiting_pod") {
                slots[..2].fill(0);
            }
            call(slots)
        },
        ..SOUND
    },
];

/// Returns which parameter of a function is the length of its buffer. The one before it is the address.
///
/// Middleware has a `get_config`, too, so that is none of these.
fn limit(name: &str) -> Option<usize> {
    match name {
        "node" | "nodeImageStates" => Some(3),
        "nodeList" | "currentPod" | "targetPod" | "currentNodeName" | "filteredNodeList" | "nodeToStatusMap"
        | "nodeScoreList" => Some(1),
        _ => None,
    }
}

fn is_plugin() -> bool {
    FUNCTION.get().is_some()
}

fn failed() -> mistletoe::Error {
    ErrorKind::Allocation { length: 0 }.into()
}

/// Makes a call of the guest, whose function is known to its calls of the host.
fn called(guest: &mut Guest, step: Step, params: &[u32]) -> Result<u32> {
    FUNCTION.set(match step {
        Step::Plugin(function) => Some(function),
        _ => None,
    });
    CALLS.set(0);
    guest.call(step, params)
}

/// Calls `removepod` in place of `addpod`.
fn swapped(guest: &mut Guest, step: Step, params: &[u32]) -> Result<u32> {
    match step {
        Step::Plugin(Function::AddPod) => guest.call(Step::Plugin(Function::RemovePod), params),
        _ => guest.call(step, params),
    }
}

/// Makes a call, and swaps the halves of the result of one function.
fn halves(guest: &mut Guest, step: Step, params: &[u32], of: Function) -> Result<u32> {
    let result = guest.call(step, params)?;
    if step != Step::Plugin(of) {
        return Ok(result);
    }
    Ok(std::mem::replace(&mut guest.upper, result))
}
