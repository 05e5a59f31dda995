//! A cycle under way: the instances that it has for itself.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plugin::{OnFailure, Plugin, Session, failure};
use crate::objects::Cycle;
use crate::protocol::{Answer, Call, Function, Output, Status};

/// A request that failed because of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of the plugin.
    pub plugin: String,
    /// The node that the plugin was asked about, if it was asked about one.
    pub node: Option<String>,
    /// The plugin's status.
    pub status: Status,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, node, status } = self;
        match node {
            Some(node) => write!(f, "plugin {plugin}: node {node}: {status}"),
            None => write!(f, "plugin {plugin}: {status}"),
        }
    }
}

impl std::error::Error for Failure {}

/// The end of a request's time.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    pub(super) limit: Duration,
    pub(super) at: Option<Instant>,
}

/// A cycle that has begun.
pub(super) struct Running {
    pub(super) cycle: Arc<Cycle>,
    pub(super) members: Vec<Member>,
    /// A plugin that has refused the pod on every node, and its status.
    pub(super) refusal: Option<(usize, Status)>,
    /// The nodes that did not fit, with the codes.
    pub(super) statuses: Vec<(String, i32)>,
    pub(super) started: Instant,
}

/// A plugin in a cycle.
pub(super) struct Member {
    /// `None` after a failure that is ignored.
    pub(super) session: Option<Session>,
    /// Whether the plugin has nothing to say about nodes.
    pub(super) skips_filter: bool,
    /// The positions of the nodes that the plugin has left, if it has left only some.
    pub(super) left: Option<Vec<usize>>,
}

impl Running {
    /// Begins a cycle with each plugin.
    pub(super) fn begin(plugins: &[Plugin], cycle: Arc<Cycle>, deadline: Deadline) -> Result<Self, Failure> {
        let started = Instant::now();
        let mut running = Self { cycle, members: Vec::new(), refusal: None, statuses: Vec::new(), started };
        let begun = running.open(plugins, deadline);
        match begun {
            Ok(()) => Ok(running),
            Err(failure) => {
                running.end(plugins);
                Err(failure)
            }
        }
    }

    fn open(&mut self, plugins: &[Plugin], deadline: Deadline) -> Result<(), Failure> {
        for (at, plugin) in plugins.iter().enumerate() {
            let session = match plugin.open() {
                Ok(mut session) => {
                    session.store_mut().set_cycle(Some(self.cycle.clone()));
                    Some(session)
                }
                Err(error) => {
                    ignore(plugin, None, failure("instantiate", "", &error))?;
                    None
                }
            };
            self.members.push(Member { session, skips_filter: false, left: None });
            if self.refusal.is_none() {
                self.prefilter(plugins, at, deadline)?;
            }
        }
        Ok(())
    }

    /// Starts the cycle of a plugin, again if it has started already.
    pub(super) fn prefilter(&mut self, plugins: &[Plugin], at: usize, deadline: Deadline) -> Result<(), Failure> {
        let plugin = &plugins[at];
        if !plugin.has(Function::PreFilter) {
            return Ok(());
        }
        let Some(Answer { status, output }) = self.call(plugins, at, Call::PreFilter, None, deadline)? else {
            return Ok(());
        };
        let member = &mut self.members[at];
        match status.code {
            Status::SUCCESS => {
                if let Output::Nodes(nodes) = output {
                    member.left = nodes;
                }
            }
            Status::SKIP => member.skips_filter = true,
            Status::UNSCHEDULABLE | Status::UNRESOLVABLE => self.refusal = Some((at, status)),
            _ => self.fail(plugin, at, None, status)?,
        }
        Ok(())
    }

    /// Calls a function of a plugin. There is no answer if the plugin is out of the cycle, or is now.
    pub(super) fn call(
        &mut self,
        plugins: &[Plugin],
        at: usize,
        call: Call<'_>,
        node: Option<&str>,
        deadline: Deadline,
    ) -> Result<Option<Answer>, Failure> {
        let plugin = &plugins[at];
        let Some(session) = &mut self.members[at].session else { return Ok(None) };
        if deadline.at.is_some_and(|at| Instant::now() >= at) {
            let status = Status::error(format!("the request takes more than {:?}", deadline.limit));
            return Err(Failure { plugin: plugin.name.clone(), node: node.map(str::to_owned), status });
        }
        match plugin.call(session, call) {
            Ok(answer) => Ok(Some(answer)),
            Err(status) => self.fail(plugin, at, node, status).map(|()| None),
        }
    }

    /// Takes a plugin that has failed out of the cycle, or fails.
    pub(super) fn fail(
        &mut self,
        plugin: &Plugin,
        at: usize,
        node: Option<&str>,
        status: Status,
    ) -> Result<(), Failure> {
        ignore(plugin, node, status)?;
        self.members[at].session = None;
        Ok(())
    }

    /// Ends the cycle. Its instances are idle.
    pub(super) fn end(self, plugins: &[Plugin]) {
        for (plugin, member) in plugins.iter().zip(self.members) {
            if let Some(session) = member.session {
                plugin.close(session);
            }
        }
    }
}

fn ignore(plugin: &Plugin, node: Option<&str>, status: Status) -> Result<(), Failure> {
    match plugin.on_failure {
        OnFailure::Fail => Err(Failure { plugin: plugin.name.clone(), node: node.map(str::to_owned), status }),
        OnFailure::Ignore => {
            plugin.ignored(node, &status);
            Ok(())
        }
    }
}
