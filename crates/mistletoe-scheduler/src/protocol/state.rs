//! What the protocol keeps in a session: the cycle, the call under way, and what the guest hands over in it.

use std::collections::BTreeMap;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use mistletoe_abi::Limits;

use super::KubeScheduler;
use super::call::{Call, Function};
use super::log::{Record, Severity};
use crate::objects::{Cycle, Node, Pod};

/// The state of a session.
pub struct State {
    settings: KubeScheduler,
    /// The maximum length of what a guest hands over, in bytes.
    pub(super) max_result: u64,
    pub(super) cycle: Option<Arc<Cycle>>,
    /// The function that was called.
    function: Option<Function>,
    /// The node that it is about.
    node: Subject,
    /// The pod that it supposes on a node, or not on it.
    target: Option<Arc<Pod>>,
    /// The names, statuses or scores of nodes that it is about, as JSON.
    input: Vec<u8>,
    pub(super) reason: String,
    /// What the guest has handed over as the result of the function.
    pub(super) result: Option<Vec<u8>>,
    /// The position of the latest node that a call was about or a guest has asked for.
    latest: usize,
    /// The latest node whose images a guest has asked for: it asks twice.
    images: Option<(String, Vec<u8>)>,
}

/// The node that a call is about.
enum Subject {
    /// One of the cycle's, by its position. Its name is not copied.
    Known(usize),
    /// Any other; empty for none.
    Named(String),
}

impl State {
    pub(super) fn new(settings: KubeScheduler, limits: &Limits) -> Self {
        Self {
            settings,
            max_result: limits.max_output(),
            cycle: None,
            function: None,
            node: Subject::Named(String::new()),
            target: None,
            input: Vec::new(),
            reason: String::new(),
            result: None,
            latest: 0,
            images: None,
        }
    }

    /// Sets the cycle that the calls from now on are about. [`Call::PreFilter`] has to be the first of them.
    pub fn set_cycle(&mut self, cycle: Option<Arc<Cycle>>) {
        self.cycle = cycle;
        self.latest = 0;
        self.images = None;
        self.node = Subject::Named(String::new());
    }

    /// Returns the cycle that calls are about.
    pub fn cycle(&self) -> Option<&Arc<Cycle>> {
        self.cycle.as_ref()
    }

    /// Begins a call.
    #[inline]
    pub(super) fn begin(&mut self, call: &Call<'_>) {
        let (function, node) = call.parts();
        self.function = Some(function);
        self.node = match self.known(node) {
            Some(position) => {
                self.latest = position;
                Subject::Known(position)
            }
            None => Subject::Named(node.to_owned()),
        };
        self.reason.clear();
        self.result = None;
        // Most calls have neither an input nor a target.
        match call {
            Call::PostFilter(statuses) => self.input = json(&statuses.iter().copied().collect::<BTreeMap<_, _>>()),
            Call::PreScore(nodes) => self.input = json(nodes),
            Call::NormalizeScore(scores) => self.input = json(&scores.iter().copied().collect::<BTreeMap<_, _>>()),
            Call::AddPod(pod, _) | Call::RemovePod(pod, _) => self.target = Some(Arc::clone(pod)),
            _ => {}
        }
    }

    /// Returns the position of a node whose name is the cycle's own text, if it is the latest, the one after it or
    /// the first. Calls are about one node after the other.
    fn known(&self, name: &str) -> Option<usize> {
        let nodes = &self.cycle.as_ref()?.nodes;
        let is_same = |at: &usize| nodes.at(*at).is_some_and(|node| ptr::eq(node.name(), name));
        [self.latest, self.latest.saturating_add(1), 0].into_iter().find(is_same)
    }

    /// Ends a call, also one that failed.
    pub(super) fn end(&mut self) {
        self.function = None;
        self.target = None;
        self.input = Vec::new();
    }

    pub(super) fn config(&self) -> &[u8] {
        &self.settings.config
    }

    pub(super) fn severity(&self) -> Severity {
        self.settings.severity
    }

    /// Passes a record to the host's log.
    pub(super) fn log(&self, record: Record<'_>) {
        if let Some(log) = &self.settings.log {
            log(record);
        }
    }

    pub(super) fn is_logged(&self, severity: Severity) -> bool {
        self.settings.log.is_some() && severity >= self.settings.severity
    }

    /// Returns the pod that is scheduled, in a cycle.
    pub(super) fn pod(&self) -> Option<&Pod> {
        let in_cycle = self.function.is_some_and(|function| function != Function::Enqueue);
        self.cycle.as_ref().filter(|_| in_cycle).map(|cycle| &*cycle.pod)
    }

    pub(super) fn target(&self) -> Option<&Pod> {
        self.target.as_deref()
    }

    /// Returns the name of the node that the call is about; empty if it is about none.
    pub(super) fn node(&self) -> &str {
        match &self.node {
            Subject::Known(position) => {
                self.cycle.as_ref().and_then(|cycle| cycle.nodes.at(*position)).map_or("", Node::name)
            }
            Subject::Named(name) => name,
        }
    }

    /// Returns the JSON that a function has; empty in any other.
    pub(super) fn input(&self, function: Function) -> &[u8] {
        if self.is_in(|current| current == function) { &self.input } else { b"" }
    }

    /// Returns whether a function is under way that is like this.
    pub(super) fn is_in(&self, like: impl FnOnce(Function) -> bool) -> bool {
        self.function.is_some_and(like)
    }

    /// Returns the node with this name.
    pub(super) fn find(&mut self, name: &[u8]) -> Option<&Node> {
        let nodes = &self.cycle.as_ref()?.nodes;
        self.latest = nodes.find(name, self.latest)?;
        nodes.at(self.latest)
    }

    /// Returns the images of a node as JSON.
    pub(super) fn image_states(&mut self, name: &str) -> &[u8] {
        if self.images.as_ref().is_none_or(|(of, _)| of != name) {
            let images = self.cycle.as_ref().map_or_else(|| b"null".to_vec(), |cycle| cycle.nodes.image_states(name));
            self.images = Some((name.to_owned(), images));
        }
        self.images.as_ref().map_or(b"null", |(_, images)| images)
    }
}

/// Names and numbers always have a JSON.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("cycle", &self.cycle).field("function", &self.function).finish_non_exhaustive()
    }
}
