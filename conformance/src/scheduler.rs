//! Plugins of the Kubernetes scheduler: calls and answers as text.
//!
//! A call is written as the name of the function, and what it is about:
//!
//! - `"enqueue"`, `"prefilter"`;
//! - `"postfilter a=2 b=3"`, with the codes of the nodes' statuses;
//! - `"addpod a {…}"`, `"removepod a {…}"`, with the other pod in JSON;
//! - `"prescore a b"`, `"normalizescore a=1 b=-2"`;
//! - any other function with the name of a node, such as `"filter a"`.
//!
//! An answer is written as the code of the status, and what the function hands over besides: `"0"`, `"0 all nodes"`,
//! `"0 nodes a c"`, `"0 score 7"`, `"0 scores a=1 b=-2"`, `"0 overrides a"`, `"0 no opinion a"`, `"4 wait 1500"` in
//! milliseconds, or `"0 events 1:16 10:63"`. A reason is on the next line.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;

use mistletoe_abi::{Error, Operation, Result};
use mistletoe_scheduler::protocol::{
    Answer, Call, Event, Function, KubeScheduler, Output, Record, Reference, Severity,
};
use mistletoe_scheduler::{Cycle, Node, Nodes, Pod};
use serde::Deserialize;

use crate::case::Text;

thread_local! {
    /// What the guests of this thread have logged, one line each.
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What a plugin is loaded with, and the cycle of its sessions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    /// The guest's configuration.
    config: Option<Text>,
    /// The lowest severity of messages that are logged, to standard error: `"info"`, `"warning"`, `"error"` or
    /// `"fatal"`. Nothing is logged by default.
    log: Option<String>,
    /// The pod that is scheduled, in JSON. Without it, there is no cycle.
    pod: Option<String>,
    /// The nodes of the cycle, in JSON, or by name if nothing else is known of them.
    #[serde(default)]
    nodes: Vec<String>,
}

impl Scheduler {
    /// Returns the protocol with these settings.
    pub(crate) fn protocol(&self) -> KubeScheduler {
        let mut protocol = KubeScheduler::default();
        if let Some(config) = &self.config {
            protocol = protocol.config(config.text());
        }
        let severity = self.log.as_deref().map(|log| match log {
            "info" => Severity::Info,
            "warning" => Severity::Warning,
            "error" => Severity::Error,
            _ => Severity::Fatal,
        });
        match severity {
            Some(severity) => protocol.severity(severity).log(|record| {
                LOG.with_borrow_mut(|log| {
                    _ = match record {
                        Record::Message { severity, text } => writeln!(log, "{severity}: {text}"),
                        Record::Event(event) => writeln!(log, "{}", event_line(event)),
                        _ => writeln!(log, "{record:?}"),
                    };
                });
            }),
            None => protocol,
        }
    }

    /// Returns a new cycle, if there is one.
    pub(crate) fn cycle(&self) -> Result<Option<Arc<Cycle>>> {
        let Some(pod) = &self.pod else { return Ok(None) };
        let node = |text: &String| if text.starts_with('{') { Node::new(&**text) } else { Ok(Node::named(text)) };
        let nodes = self.nodes.iter().map(node).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        let pod = Arc::new(Pod::new(&**pod).map_err(malformed)?);
        Ok(Some(Arc::new(Cycle { pod, nodes: Arc::new(Nodes::new(nodes)) })))
    }
}

/// Takes what was logged on this thread.
pub(crate) fn take_log() -> String {
    LOG.take()
}

/// Makes the call that a text stands for, and returns the answer as text.
pub(crate) fn call(text: &str, cycle: Option<&Cycle>, call: impl FnOnce(Call<'_>) -> Result<Answer>) -> Result<String> {
    let (name, about) = text.split_once(' ').unwrap_or((text, ""));
    let (node, pod) = about.split_once(' ').unwrap_or((about, ""));
    let function = Function::ALL.into_iter().find(|function| function.name() == name);
    let names: Vec<_> = about.split_whitespace().collect();
    let scores = match function {
        Some(Function::PostFilter | Function::NormalizeScore) => numbers(&names)?,
        _ => Vec::new(),
    };
    let statuses: Vec<_> = scores.iter().map(|(name, number)| (*name, *number as i32)).collect();
    let answer = match function.ok_or_else(|| malformed("there is no such function"))? {
        Function::Enqueue => call(Call::Enqueue),
        Function::PreFilter => call(Call::PreFilter),
        Function::Filter => call(Call::Filter(node)),
        Function::PostFilter => call(Call::PostFilter(&statuses)),
        Function::AddPod => call(Call::AddPod(&other(pod)?, node)),
        Function::RemovePod => call(Call::RemovePod(&other(pod)?, node)),
        Function::PreScore => call(Call::PreScore(&names)),
        Function::Score => call(Call::Score(node)),
        Function::NormalizeScore => call(Call::NormalizeScore(&scores)),
        Function::Reserve => call(Call::Reserve(node)),
        Function::Unreserve => call(Call::Unreserve(node)),
        Function::Permit => call(Call::Permit(node)),
        Function::PreBind => call(Call::PreBind(node)),
        Function::Bind => call(Call::Bind(node)),
        Function::PostBind => call(Call::PostBind(node)),
    }?;
    Ok(written(&answer, cycle, &scores))
}

/// Reads `name=number` for each node.
fn numbers<'a>(words: &[&'a str]) -> Result<Vec<(&'a str, i64)>> {
    let number = |word: &&'a str| {
        let (name, number) = word.split_once('=')?;
        Some((name, number.parse().ok()?))
    };
    words.iter().map(|word| number(word).ok_or_else(|| malformed("a node has no number"))).collect()
}

/// Writes an answer. Nodes are those of the cycle, and scores those of the nodes in the call.
fn written(Answer { status, output }: &Answer, cycle: Option<&Cycle>, before: &[(&str, i64)]) -> String {
    let mut text = status.code.to_string();
    match output {
        Output::None => {}
        Output::Events(events) => {
            text.push_str(" events");
            for event in events {
                let _ = write!(text, " {}:{}", event.resource, event.action);
            }
        }
        Output::Nodes(None) => text.push_str(" all nodes"),
        Output::Nodes(Some(left)) => {
            text.push_str(" nodes");
            for node in left.iter().filter_map(|at| cycle?.nodes.iter().nth(*at)) {
                text.extend([" ", node.name()]);
            }
        }
        Output::Nomination { overrides, node } => {
            text.extend([if *overrides { " overrides " } else { " no opinion " }, node]);
        }
        Output::Score(score) => _ = write!(text, " score {score}"),
        Output::Scores(scores) => {
            text.push_str(" scores");
            for ((name, _), score) in before.iter().zip(scores) {
                let _ = write!(text, " {name}={score}");
            }
        }
        Output::Wait(time) => _ = write!(text, " wait {}", time.as_millis()),
    }
    if !status.reason.is_empty() {
        text.extend(["\n", &status.reason]);
    }
    text
}

/// Writes an event: its type, reason, action, note and objects.
fn event_line(event: &Event) -> String {
    let mut text = format!("event {} {} {}: {}", event.event_type, event.reason, event.action, event.note);
    for (word, object) in [("regarding", &event.regarding), ("related", &event.related)] {
        if let Some(Reference { kind, api_version, name, namespace, uid, resource_version }) = object {
            let _ = write!(text, ", {word} {kind} {api_version} {namespace} {name} {uid} {resource_version}");
        }
    }
    text
}

/// Returns the pod that a call supposes on a node.
fn other(json: &str) -> Result<Arc<Pod>> {
    Pod::new(json).map(Arc::new).map_err(malformed)
}

fn malformed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::engine(Operation::Call, error)
}
