//! The functions that guests import.

use std::error::Error as StdError;
use std::ops::Range;

use mistletoe_abi::{Caller, ErrorKind, Imports, Result};

use super::call::Function;
use super::log::{Record, Severity};
use super::result;
use super::state::State;
use crate::objects::Node;

/// The result of a host function.
type Outcome<R> = Result<R, Box<dyn StdError + Send + Sync>>;

const API: &str = "k8s.io/api";
const KLOG: &str = "k8s.io/klog";
const SCHEDULER: &str = "k8s.io/scheduler";

/// The maximum length of a message, in bytes. The rest is cut off.
const MAX_MESSAGE: u32 = 64 << 10;
/// The maximum length of a reason, in bytes. The rest is cut off: the scheduler keeps one for each node.
const MAX_REASON: u32 = 1 << 10;
/// The maximum length of an event, in bytes.
const MAX_EVENT: u32 = 64 << 10;
/// The maximum length of a node's name in Kubernetes, in bytes.
const MAX_NAME: u32 = 253;

/// Adds the functions that the protocol provides.
pub(super) fn provide<T: Send + 'static>(imports: &mut Imports<T>) {
    imports
        .func(API, "node", node::<T>)
        .func(API, "nodeList", |caller: &mut Caller<'_, T>, buffer: u32, limit: u32| {
            fill(caller, buffer, limit, |state| match &state.cycle {
                Some(cycle) => Ok(cycle.nodes.message()?),
                None => Ok(b""),
            })
        })
        .func(KLOG, "log", |caller: &mut Caller<'_, T>, severity: i32, message: u32, length: u32| {
            log(caller, severity, message, length, None);
        })
        .func(
            KLOG,
            "logs",
            |caller: &mut Caller<'_, T>, severity: i32, message: u32, length: u32, pairs: u32, pairs_length: u32| {
                log(caller, severity, message, length, Some((pairs, pairs_length)));
            },
        )
        .func(KLOG, "severity", |caller: &mut Caller<'_, T>| caller.store_mut::<State>().severity() as i32)
        .func(SCHEDULER, "get_config", |caller: &mut Caller<'_, T>, buffer: u32, limit: u32| {
            fill(caller, buffer, limit, |state| Ok(state.config()))
        })
        .func(SCHEDULER, "currentPod", |caller: &mut Caller<'_, T>, buffer: u32, limit: u32| {
            fill(caller, buffer, limit, |state| Ok(state.pod().map_or(Ok(&b""[..]), |pod| pod.message())?))
        })
        .func(SCHEDULER, "targetPod", |caller: &mut Caller<'_, T>, buffer: u32, limit: u32| {
            fill(caller, buffer, limit, |state| Ok(state.target().map_or(Ok(&b""[..]), |pod| pod.message())?))
        })
        .func(SCHEDULER, "currentNodeName", |caller: &mut Caller<'_, T>, buffer: u32, limit: u32| {
            fill(caller, buffer, limit, |state| Ok(state.node().as_bytes()))
        })
        .func(SCHEDULER, "nodeImageStates", image_states::<T>)
        .func(SCHEDULER, "handle.eventrecorder.eventf", event::<T>)
        .func(SCHEDULER, "handle.reject_waiting_pod", waiting_pod::<T>)
        .func(SCHEDULER, "handle.get_waiting_pod", waiting_pod::<T>)
        .func(SCHEDULER, "result.status_reason", reason::<T>);
    for (name, function) in [
        ("filteredNodeList", Function::PreScore),
        ("nodeToStatusMap", Function::PostFilter),
        ("nodeScoreList", Function::NormalizeScore),
    ] {
        imports.func(SCHEDULER, name, move |caller: &mut Caller<'_, T>, buffer: u32, limit: u32| {
            fill(caller, buffer, limit, |state| Ok(state.input(function)))
        });
    }
    for function in Function::ALL {
        if let Some(name) = result::import(function) {
            imports.func(
                SCHEDULER,
                format!("result.{name}"),
                move |caller: &mut Caller<'_, T>, address: u32, length: u32| {
                    let limit = caller.store_mut::<State>().max_result;
                    let bytes = copy(caller, "buf", address, length, limit)?;
                    let state = caller.store_mut::<State>();
                    if state.is_in(|current| current == function) {
                        state.result = Some(bytes);
                    }
                    Ok::<_, mistletoe_abi::Error>(())
                },
            );
        }
    }
}

/// Writes the bytes that `pick` finds to the guest's buffer if they fit. Returns their length.
fn fill<T: 'static>(
    caller: &mut Caller<'_, T>,
    buffer: u32,
    limit: u32,
    pick: impl FnOnce(&mut State) -> Outcome<&[u8]>,
) -> Outcome<u32> {
    let (memory, state) = caller.memory_and_store::<State>();
    match put(memory, pick(state)?, buffer, limit)? {
        Ok(length) => Ok(length),
        // For the error, which names the range.
        Err(length) => Ok(caller.bytes("buf", buffer, length).map(|_| length)?),
    }
}

/// Writes bytes to a buffer if they fit. Returns their length, as an error if the buffer is outside of the memory.
#[inline(always)]
fn put(memory: &mut [u8], bytes: &[u8], buffer: u32, limit: u32) -> Outcome<Result<u32, u32>> {
    let length = u32::try_from(bytes.len()).map_err(|_| "the object is longer than 4 GiB")?;
    if length == 0 || length > limit {
        return Ok(Ok(length));
    }
    let Some(buffer) = range(buffer, length).and_then(|range| memory.get_mut(range)) else { return Ok(Err(length)) };
    buffer.copy_from_slice(bytes);
    Ok(Ok(length))
}

fn range(address: u32, length: u32) -> Option<Range<usize>> {
    let start = address as usize;
    Some(start..start.checked_add(length as usize)?)
}

/// Copies bytes that the guest hands over.
fn copy<T: 'static>(
    caller: &Caller<'_, T>,
    argument: &'static str,
    address: u32,
    length: u32,
    limit: u64,
) -> Result<Vec<u8>> {
    let bytes = caller.bytes(argument, address, length)?;
    if u64::from(length) > limit {
        let region = mistletoe_abi::protocol::Region::Output;
        return Err(ErrorKind::TooLong { region, length: length.into(), limit }.into());
    }
    Ok(bytes.to_vec())
}

/// Returns the name of a node; `None` if there can be no node of this name.
fn name<T: 'static>(caller: &Caller<'_, T>, address: u32, length: u32) -> Result<Option<String>> {
    let bytes = caller.bytes("name", address, length)?;
    if length > MAX_NAME {
        return Ok(None);
    }
    Ok(std::str::from_utf8(bytes).ok().map(str::to_owned))
}

#[inline]
fn node<T: 'static>(caller: &mut Caller<'_, T>, address: u32, length: u32, buffer: u32, limit: u32) -> Outcome<u32> {
    let (memory, state) = caller.memory_and_store::<State>();
    let Some(name) = range(address, length).and_then(|range| memory.get(range)) else {
        // For the error, which names the range.
        caller.bytes("name", address, length)?;
        return Ok(0);
    };
    let node = if length > MAX_NAME { None } else { state.find(name) };
    let message = node.map_or(Ok(&b""[..]), Node::message)?;
    match put(memory, message, buffer, limit)? {
        Ok(length) => Ok(length),
        Err(length) => Ok(caller.bytes("buf", buffer, length).map(|_| length)?),
    }
}

fn image_states<T: 'static>(
    caller: &mut Caller<'_, T>,
    address: u32,
    length: u32,
    buffer: u32,
    limit: u32,
) -> Outcome<u32> {
    let name = name(caller, address, length)?;
    fill(caller, buffer, limit, |state| Ok(name.map_or(b"null", |name| state.image_states(&name))))
}

/// Answers that there is no such waiting pod.
fn waiting_pod<T: 'static>(caller: &mut Caller<'_, T>, uid: u32, length: u32, buffer: u32, _limit: u32) -> Result<()> {
    caller.bytes("uid", uid, length)?;
    caller.bytes_mut("buf", buffer, 8)?.fill(0);
    Ok(())
}

fn event<T: 'static>(caller: &mut Caller<'_, T>, address: u32, length: u32) -> Outcome<()> {
    let json = copy(caller, "buf", address, length, MAX_EVENT.into())?;
    let event = serde_json::from_slice(&json)?;
    caller.store_mut::<State>().log(Record::Event(&event));
    Ok(())
}

/// Takes the reason of a status. It is no error if it cannot be read.
fn reason<T: 'static>(caller: &mut Caller<'_, T>, address: u32, length: u32) {
    let reason = text(caller, "buf", address, length, MAX_REASON);
    caller.store_mut::<State>().reason = reason;
}

/// Logs a message, with keys and values after it. It is no error if it cannot be read.
fn log<T: 'static>(caller: &mut Caller<'_, T>, severity: i32, message: u32, length: u32, pairs: Option<(u32, u32)>) {
    let severity = Severity::of(severity);
    if !caller.store_mut::<State>().is_logged(severity) {
        return;
    }
    let mut message = text(caller, "msg", message, length, MAX_MESSAGE);
    if let Some((address, length)) = pairs {
        let pairs = text(caller, "kvs", address, length, MAX_MESSAGE);
        let mut pairs = pairs.split_terminator('\0');
        while let Some(key) = pairs.next() {
            message.extend([" ", key]);
            if let Some(value) = pairs.next() {
                message.push_str(&format!("={value:?}"));
            }
        }
        message.truncate(message.floor_char_boundary(MAX_MESSAGE as usize));
    }
    caller.store_mut::<State>().log(Record::Message { severity, text: &message });
}

/// Returns a text of the guest, up to a maximum of bytes. If it cannot be read, the text says so.
fn text<T: 'static>(caller: &Caller<'_, T>, argument: &'static str, address: u32, length: u32, max: u32) -> String {
    // A range beyond the end of the memory is not read in part.
    match caller.bytes(argument, address, length) {
        Ok(bytes) => {
            let mut text = String::from_utf8_lossy(bytes.get(..max as usize).unwrap_or(bytes)).into_owned();
            // What replaces a byte has three.
            text.truncate(text.floor_char_boundary(max as usize));
            text
        }
        Err(error) => error.to_string(),
    }
}
