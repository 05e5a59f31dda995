//! A cycle under way: the instances that it has for itself.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::bounds::Bounds;
use super::instance::Instance;
use super::plugin::{OnFailure, Plugin, failure};
use crate::objects::Cycle;
use crate::protocol::{Answer, Call, Function, Output, Status};

/// The number of calls between two checks of the request's time. A call that is longer than a slice of fuel, or calls
/// more than a few host functions, ends with the request by itself.
const CALLS: u32 = 32;

/// A request that failed because of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of the plugin.
    pub plugin: Arc<str>,
    /// The node that the plugin was asked about, if it was asked about one.
    pub node: Option<String>,
    /// The plugin's status.
    pub status: Status,
}

impl Failure {
    #[cold]
    fn of(plugin: &Plugin, node: Option<&str>, status: Status) -> Self {
        Self { plugin: plugin.name.clone(), node: node.map(str::to_owned), status }
    }
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

/// A cycle that has begun.
pub(super) struct Running {
    pub(super) cycle: Arc<Cycle>,
    pub(super) members: Vec<Member>,
    /// A plugin that has refused the pod on every node, and its status.
    pub(super) refusal: Option<(usize, Status)>,
    /// The positions of the nodes that did not fit, with the codes.
    pub(super) statuses: Vec<(usize, i32)>,
    pub(super) started: Instant,
    /// The number of calls so far.
    calls: u32,
}

/// A plugin in a cycle.
pub(super) struct Member {
    /// `None` after a failure that is ignored.
    pub(super) instance: Option<Instance>,
    /// Whether the plugin has nothing to say about nodes.
    pub(super) skips_filter: bool,
    /// The positions of the nodes that the plugin has left, if it has left only some.
    pub(super) left: Option<Vec<usize>>,
}

impl Running {
    /// Begins a cycle with each plugin.
    pub(super) fn begin(plugins: &[Plugin], cycle: Arc<Cycle>, bounds: &Bounds) -> Result<Self, Failure> {
        let started = Instant::now();
        let mut running = Self { cycle, members: Vec::new(), refusal: None, statuses: Vec::new(), started, calls: 0 };
        let begun = running.open(plugins, bounds);
        match begun {
            Ok(()) => Ok(running),
            Err(failure) => {
                running.count_memory(bounds);
                running.end(plugins);
                Err(failure)
            }
        }
    }

    fn open(&mut self, plugins: &[Plugin], bounds: &Bounds) -> Result<(), Failure> {
        for (at, plugin) in plugins.iter().enumerate() {
            let instance = match plugin.open(bounds.cancel_handle()) {
                Ok(mut instance) => {
                    instance.set_cycle(Some(self.cycle.clone()));
                    Some(instance)
                }
                Err((error, output)) => {
                    if let Some(status) = bounds.over() {
                        return Err(Failure::of(plugin, None, status));
                    }
                    ignore(plugin, None, failure("instantiate", &output, &error))?;
                    None
                }
            };
            self.members.push(Member { instance, skips_filter: false, left: None });
            // Also after a refusal: the guest may have state of another pod, and may be asked for scores.
            self.prefilter(plugins, at, bounds)?;
        }
        Ok(())
    }

    /// Starts the cycle of a plugin, again if it has started already.
    pub(super) fn prefilter(&mut self, plugins: &[Plugin], at: usize, bounds: &Bounds) -> Result<(), Failure> {
        let plugin = &plugins[at];
        if !plugin.has(Function::PreFilter) {
            return Ok(());
        }
        let Some(Answer { status, output }) = self.call(plugins, at, Call::PreFilter, None, bounds)? else {
            return Ok(());
        };
        let member = &mut self.members[at];
        (member.skips_filter, member.left) = (status.code == Status::SKIP, None);
        match status.code {
            Status::SUCCESS => {
                if let Output::Nodes(nodes) = output {
                    member.left = nodes;
                }
            }
            Status::SKIP => {}
            Status::UNSCHEDULABLE | Status::UNRESOLVABLE => {
                self.refusal.get_or_insert((at, status));
            }
            _ => self.fail(plugin, at, None, status, bounds)?,
        }
        Ok(())
    }

    /// Returns whether the plugin's `prefilter` has left other nodes alone.
    pub(super) fn excludes(&self, at: usize, position: usize) -> bool {
        let Member { instance, left, .. } = &self.members[at];
        instance.is_some() && left.as_ref().is_some_and(|left| left.binary_search(&position).is_err())
    }

    /// Calls a function of a plugin. There is no answer if the plugin is out of the cycle, or is now.
    #[inline(always)]
    pub(super) fn call(
        &mut self,
        plugins: &[Plugin],
        at: usize,
        call: Call<'_>,
        node: Option<&str>,
        bounds: &Bounds,
    ) -> Result<Option<Answer>, Failure> {
        let plugin = &plugins[at];
        let Some(instance) = &mut self.members[at].instance else { return Ok(None) };
        if self.calls.is_multiple_of(CALLS)
            && let Some(status) = bounds.over()
        {
            return Err(Failure::of(plugin, node, status));
        }
        self.calls = self.calls.wrapping_add(1);
        let result = plugin.call(instance, call);
        if plugin.is_fuel_counted
            && let Some(units) = instance.fuel_used()
        {
            bounds.count_fuel(units);
        }
        match result {
            Ok(answer) => Ok(Some(answer)),
            // There is no time to go on without the plugin.
            Err(status) => match bounds.over() {
                Some(status) => Err(Failure::of(plugin, node, status)),
                None => self.fail(plugin, at, node, status, bounds).map(|()| None),
            },
        }
    }

    /// Takes a plugin that has failed out of the cycle, or fails.
    #[cold]
    pub(super) fn fail(
        &mut self,
        plugin: &Plugin,
        at: usize,
        node: Option<&str>,
        status: Status,
        bounds: &Bounds,
    ) -> Result<(), Failure> {
        // The instances of a request that fails are counted at its end.
        ignore(plugin, node, status)?;
        if let Some(instance) = self.members[at].instance.take() {
            bounds.count_memory(instance.memory_size());
        }
        Ok(())
    }

    /// Returns whether a plugin is out of the cycle.
    pub(super) fn is_out(&self, at: usize) -> bool {
        self.members[at].instance.is_none()
    }

    /// Counts the memory of a request that has ended.
    pub(super) fn count_memory(&self, bounds: &Bounds) {
        for instance in self.members.iter().filter_map(|member| member.instance.as_ref()) {
            bounds.count_memory(instance.memory_size());
        }
    }

    /// Lets a request go on with the cycle; `None` while it is kept.
    pub(super) fn bind(&mut self, bounds: Option<&Bounds>) {
        self.calls = 0;
        for instance in self.members.iter_mut().filter_map(|member| member.instance.as_mut()) {
            instance.set_cancel_handle(bounds.map(|bounds| bounds.cancel_handle().clone()));
        }
    }

    /// Ends the cycle. Its instances are idle.
    pub(super) fn end(self, plugins: &[Plugin]) {
        for (plugin, member) in plugins.iter().zip(self.members) {
            if let Some(instance) = member.instance {
                plugin.close(instance);
            }
        }
    }
}

fn ignore(plugin: &Plugin, node: Option<&str>, status: Status) -> Result<(), Failure> {
    match plugin.on_failure {
        OnFailure::Fail => Err(Failure::of(plugin, node, status)),
        OnFailure::Ignore => {
            plugin.ignored(node, &status);
            Ok(())
        }
    }
}
