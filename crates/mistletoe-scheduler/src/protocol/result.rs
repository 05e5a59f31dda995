//! From what a function returned and handed over to its answer.

use std::collections::HashMap;
use std::mem;
use std::time::Duration;

use serde::de::{Deserializer as _, MapAccess, Visitor};

use super::call::{Call, Function};
use super::state::State;
use super::status::{Answer, ClusterEvent, Output, Status};

/// Returns the answer to a call whose function returned `number`.
#[inline(always)]
pub(super) fn answer(call: &Call<'_>, number: u64, state: &mut State) -> Answer {
    let (high, low) = ((number >> 32) as u32, number as u32);
    let code = match call {
        Call::Permit(_) => high,
        _ => low,
    };
    let status = Status { code: code.cast_signed(), reason: mem::take(&mut state.reason) };
    match call {
        Call::Score(_) => Answer { status, output: Output::Score(high.cast_signed()) },
        Call::Permit(_) => Answer { status, output: Output::Wait(Duration::from_millis(low.into())) },
        Call::Enqueue | Call::PreFilter | Call::PostFilter(_) | Call::NormalizeScore(_) => {
            with_result(call, high, status, state)
        }
        _ => Answer { status, output: Output::None },
    }
}

/// Returns the answer to a call whose function hands over more than numbers. There are few of them for each pod.
#[cold]
fn with_result(call: &Call<'_>, high: u32, status: Status, state: &mut State) -> Answer {
    let result = state.result.take();
    let output = match call {
        Call::Enqueue => Output::Events(events(&result.unwrap_or_default())),
        Call::PreFilter => Output::Nodes(result.map(|names| positions(&names, state))),
        Call::PostFilter(_) => {
            let node = String::from_utf8_lossy(&result.unwrap_or_default()).into_owned();
            Output::Nomination { overrides: high != 0, node }
        }
        Call::NormalizeScore(before) => match normalized(&result.unwrap_or_default(), before) {
            Ok(scores) => Output::Scores(scores),
            Err(reason) => return Answer { status: Status::error(reason), output: Output::None },
        },
        _ => Output::None,
    };
    Answer { status, output }
}

/// Returns the import by which a function's result is handed over, without its prefix.
pub(super) fn import(function: Function) -> Option<&'static str> {
    match function {
        Function::Enqueue => Some("cluster_events"),
        Function::PreFilter => Some("node_names"),
        Function::PostFilter => Some("nominated_node_name"),
        Function::NormalizeScore => Some("normalized_score_list"),
        _ => None,
    }
}

/// Reads events of two numbers each, little endian.
fn events(bytes: &[u8]) -> Vec<ClusterEvent> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    bytes.chunks_exact(8).map(|e| ClusterEvent { resource: number(&e[..4]), action: number(&e[4..]) }).collect()
}

/// Returns the positions of nodes, whose names each end with a zero byte. Unknown ones are passed over.
fn positions(names: &[u8], state: &State) -> Vec<usize> {
    let Some(cycle) = &state.cycle else { return Vec::new() };
    let mut is_named = vec![false; cycle.nodes.iter().len()];
    for name in names.split(|byte| *byte == 0) {
        let position = std::str::from_utf8(name).ok().and_then(|name| cycle.nodes.position(name));
        if let Some(named) = position.and_then(|at| is_named.get_mut(at)) {
            *named = true;
        }
    }
    is_named.into_iter().enumerate().filter(|(_, named)| *named).map(|(at, _)| at).collect()
}

/// Reads scores by the names of nodes. There is one for each node, or none at all if the scores stay as they are.
fn normalized(json: &[u8], before: &[(&str, i64)]) -> Result<Vec<i64>, String> {
    struct Scores<'a>(HashMap<&'a str, usize>, Vec<Option<i64>>);

    impl<'de> Visitor<'de> for &mut Scores<'_> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object with a score for each node")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                let score = map.next_value()?;
                let position = self.0.get(&*name).and_then(|at| self.1.get_mut(*at));
                *position.ok_or_else(|| serde::de::Error::custom("a node that has no score"))? = Some(score);
            }
            Ok(())
        }
    }

    if json.is_empty() {
        return Ok(before.iter().map(|(_, score)| *score).collect());
    }
    let names = before.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
    let mut scores = Scores(names, vec![None; before.len()]);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = reader.deserialize_map(&mut scores).and_then(|()| reader.end());
    read.map_err(|error| format!("normalized_score_list: {error}"))?;
    let Scores(names, scores) = scores;
    let count = scores.iter().flatten().count();
    // Nodes with the same name have one score.
    if count != names.len() {
        return Err(format!("normalized_score_list: {count} scores for {} nodes", names.len()));
    }
    Ok(before.iter().map(|(name, _)| names.get(name).and_then(|at| scores[*at]).unwrap_or_default()).collect())
}
