//! What guests answer.

use std::fmt;
use std::time::Duration;

/// A guest's verdict: a code and a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The code. Codes other than those below are passed on as they are.
    pub code: i32,
    /// The reason, at most 1 KiB; often empty.
    pub reason: String,
}

impl Status {
    /// The code of success.
    pub const SUCCESS: i32 = 0;
    /// The code of a failure of the plugin.
    pub const ERROR: i32 = 1;
    /// The code of a node that the pod does not fit now.
    pub const UNSCHEDULABLE: i32 = 2;
    /// The code of a node that the pod would not fit if other pods went.
    pub const UNRESOLVABLE: i32 = 3;
    /// The code of a pod that has to wait for a permit.
    pub const WAIT: i32 = 4;
    /// The code of a plugin that has nothing to say on this pod.
    pub const SKIP: i32 = 5;

    /// Creates a failure of a plugin.
    pub fn error(reason: impl Into<String>) -> Self {
        Self { code: Self::ERROR, reason: reason.into() }
    }

    /// Returns whether the code is that of success.
    pub fn is_success(&self) -> bool {
        self.code == Self::SUCCESS
    }

    /// Returns whether the node or pod was refused, which is no failure of the plugin.
    pub fn is_refusal(&self) -> bool {
        matches!(self.code, Self::UNSCHEDULABLE | Self::UNRESOLVABLE)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.code {
            Self::SUCCESS => "success",
            Self::ERROR => "error",
            Self::UNSCHEDULABLE => "unschedulable",
            Self::UNRESOLVABLE => "unschedulable and unresolvable",
            Self::WAIT => "wait",
            Self::SKIP => "skip",
            code => return write!(f, "status {code}: {}", self.reason),
        };
        if self.reason.is_empty() { f.write_str(name) } else { write!(f, "{name}: {}", self.reason) }
    }
}

/// What a call of a guest returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status. It is success for functions that have none.
    pub status: Status,
    /// What the function returned besides.
    pub output: Output,
}

/// What functions return besides a status.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Nothing.
    None,
    /// From [`Call::Enqueue`](super::Call::Enqueue): the events that may make a pod schedulable.
    Events(Vec<ClusterEvent>),
    /// From [`Call::PreFilter`](super::Call::PreFilter): the positions of the nodes that are left, in order. Without
    /// them, all are.
    Nodes(Option<Vec<usize>>),
    /// From [`Call::PostFilter`](super::Call::PostFilter).
    Nomination {
        /// Whether the guest has an opinion.
        overrides: bool,
        /// The node that is to become free; empty for none.
        node: String,
    },
    /// From [`Call::Score`](super::Call::Score).
    Score(i32),
    /// From [`Call::NormalizeScore`](super::Call::NormalizeScore): the scores in the order of the call.
    Scores(Vec<i64>),
    /// From [`Call::Permit`](super::Call::Permit): how long the pod waits.
    Wait(Duration),
}

/// An event of a cluster that a guest registers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterEvent {
    /// The resource: 0 for pods, 1 for nodes, and so on to 10 for all.
    pub resource: u32,
    /// The actions, as bits.
    pub action: u32,
}
