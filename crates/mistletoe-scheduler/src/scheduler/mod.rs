//! Plugins in order, as in a profile of the scheduler, without HTTP.

mod bounds;
mod instance;
mod plugin;
mod preempt;
mod running;
mod score;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::objects::{Cycle, Nodes, Pod};
use crate::protocol::{Answer, Call, Function, Status};
use running::Running;

pub use bounds::{Bounds, Used};
pub use plugin::{OnFailure, Plugin, PluginOptions};
pub use preempt::Candidate;
pub use running::Failure;
pub use score::MAX_SCORE;

/// The default limit on the time of a request. The scheduler waits for five seconds unless it is told otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(4);
/// The default limit on the number of cycles that are kept.
const MAX_KEPT: usize = 4;
/// The default limit on how long a cycle is kept.
const KEEP: Duration = Duration::from_secs(30);
/// The default limit on how long an instance is idle.
const IDLE: Duration = Duration::from_secs(60);

/// Plugins that schedule pods, one after the other.
///
/// A request has instances of its own from its first call to its last. [`Scheduler::filter`] keeps them, by the pod's
/// UID, for [`Scheduler::prioritize`] and [`Scheduler::preempt`], where the guest then finds the state that it has made.
/// If they are gone, these start a cycle of their own.
///
/// Requests under way have an instance of each plugin each, so whoever lets requests in bounds the instances.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::{AnyBackend, Result};
/// use mistletoe_scheduler::{Node, Nodes, Plugin, Pod, Scheduler};
///
/// fn schedule(backend: &AnyBackend, wasm: &[u8], pod: &str, nodes: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
///     let scheduler = Scheduler::new([Plugin::options("nodenumber").load(backend, wasm)?]);
///     let nodes = Nodes::new(nodes.iter().map(|json| Node::new(*json)).collect::<Result<Vec<_>, _>>()?);
///     let filtered = scheduler.filter(Pod::new(pod)?, nodes)?;
///     for refusal in filtered.refused {
///         println!("{}: {}", refusal.node, refusal.status);
///     }
///     Ok(())
/// }
/// ```
pub struct Scheduler {
    plugins: Vec<Plugin>,
    time_limit: Duration,
    max_kept: usize,
    keep: Duration,
    idle: Duration,
    kept: Mutex<VecDeque<Running>>,
}

/// What plugins say about the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// The positions of the nodes that the pod fits, in order.
    pub fits: Vec<usize>,
    /// The other nodes, in order.
    pub refused: Vec<Refusal>,
}

/// A node that the pod does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name of the node.
    pub node: String,
    /// The name of the plugin.
    pub plugin: Arc<str>,
    /// The status, with the code [`Status::UNSCHEDULABLE`] or [`Status::UNRESOLVABLE`].
    pub status: Status,
}

impl Scheduler {
    /// Creates a scheduler of these plugins, in order.
    pub fn new(plugins: impl IntoIterator<Item = Plugin>) -> Self {
        Self {
            plugins: plugins.into_iter().collect(),
            time_limit: TIME_LIMIT,
            max_kept: MAX_KEPT,
            keep: KEEP,
            idle: IDLE,
            kept: Mutex::default(),
        }
    }

    /// Sets the limit on the time of a request; 4 seconds by default.
    ///
    /// It ends the call under way, too. Requests with [`Bounds`] have the time of these.
    #[must_use]
    pub fn time_limit(self, limit: Duration) -> Self {
        Self { time_limit: limit, ..self }
    }

    /// Sets how many cycles are kept after `filter`, and for how long; 4 for 30 seconds by default.
    ///
    /// A kept cycle has an instance of each plugin, and the objects of its request.
    #[must_use]
    pub fn keep(self, cycles: usize, time: Duration) -> Self {
        Self { max_kept: cycles, keep: time, ..self }
    }

    /// Sets how long an instance may be idle before [`Scheduler::prune`] closes it; a minute by default.
    #[must_use]
    pub fn idle(self, time: Duration) -> Self {
        Self { idle: time, ..self }
    }

    /// Returns the plugins.
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// Asks which nodes a pod fits. The first plugin that refuses a node decides.
    ///
    /// # Errors
    ///
    /// A [`Failure`] if a plugin fails whose failures are not [ignored](OnFailure::Ignore), or the time is over.
    pub fn filter(&self, pod: impl Into<Arc<Pod>>, nodes: impl Into<Arc<Nodes>>) -> Result<Filtered, Failure> {
        self.filter_within(pod, nodes, &self.bounds())
    }

    /// Asks the same, within these bounds.
    ///
    /// # Errors
    ///
    /// As [`Scheduler::filter`].
    pub fn filter_within(
        &self,
        pod: impl Into<Arc<Pod>>,
        nodes: impl Into<Arc<Nodes>>,
        bounds: &Bounds,
    ) -> Result<Filtered, Failure> {
        let cycle = Arc::new(Cycle { pod: pod.into(), nodes: nodes.into() });
        // The pod is scheduled anew.
        if let Some(running) = self.take(&cycle.pod) {
            running.end(&self.plugins);
        }
        let mut running = Running::begin(&self.plugins, cycle, bounds)?;
        let filtered = plugin::with_room(&self.plugins, || self.filter_nodes(&mut running, bounds));
        running.count_memory(bounds);
        match &filtered {
            Ok(_) => self.put(running),
            Err(_) => running.end(&self.plugins),
        }
        filtered
    }

    fn filter_nodes(&self, running: &mut Running, bounds: &Bounds) -> Result<Filtered, Failure> {
        let cycle = running.cycle.clone();
        let mut filtered = Filtered::default();
        for (position, node) in cycle.nodes.iter().enumerate() {
            match self.filter_node(running, position, node.name(), bounds)? {
                None => filtered.fits.push(position),
                Some((at, status)) => {
                    running.statuses.push((position, status.code));
                    let (node, plugin) = (node.name().to_owned(), self.plugins[at].name.clone());
                    filtered.refused.push(Refusal { node, plugin, status });
                }
            }
        }
        Ok(filtered)
    }

    /// Returns the plugin that refuses a node, and its status.
    #[inline(always)]
    fn filter_node(
        &self,
        running: &mut Running,
        position: usize,
        node: &str,
        bounds: &Bounds,
    ) -> Result<Option<(usize, Status)>, Failure> {
        if let Some(refusal) = &running.refusal {
            return Ok(Some(refusal.clone()));
        }
        if let Some(at) = (0..running.members.len()).find(|at| running.excludes(*at, position)) {
            let reason = "the node is not one of those that the plugin's prefilter has left".to_owned();
            return Ok(Some((at, Status { code: Status::UNRESOLVABLE, reason })));
        }
        for (at, plugin) in self.plugins.iter().enumerate() {
            if running.members[at].skips_filter || !plugin.has(Function::Filter) {
                continue;
            }
            match running.call(&self.plugins, at, Call::Filter(node), Some(node), bounds)? {
                Some(Answer { status, .. }) if status.is_refusal() => return Ok(Some((at, status))),
                Some(Answer { status, .. }) if !status.is_success() => {
                    running.fail(plugin, at, Some(node), status, bounds)?;
                }
                _ => {}
            }
        }
        Ok(None)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds::new(self.time_limit)
    }

    /// Returns the number of cycles that are kept.
    pub fn kept_cycles(&self) -> usize {
        self.kept().len()
    }

    /// Ends the cycles that were kept for too long by now, as requests do, too, and closes the instances that were
    /// [idle](Scheduler::idle) for too long.
    ///
    /// A scheduler has no thread of its own. Call this at an interval.
    pub fn prune(&self, now: Instant) {
        let over = self.over(&mut self.kept(), now);
        for running in over {
            running.end(&self.plugins);
        }
        if let Some(time) = now.checked_sub(self.idle) {
            for plugin in &self.plugins {
                plugin.prune(time);
            }
        }
    }

    fn over(&self, kept: &mut VecDeque<Running>, now: Instant) -> Vec<Running> {
        let mut over = Vec::new();
        while kept.front().is_some_and(|running| now.saturating_duration_since(running.started) > self.keep) {
            over.extend(kept.pop_front());
        }
        over
    }

    /// Takes the kept cycle of a pod. Cycles that were kept for too long end.
    fn take(&self, pod: &Pod) -> Option<Running> {
        let mut kept = self.kept();
        let over = self.over(&mut kept, Instant::now());
        let position = kept.iter().position(|running| running.cycle.pod.uid() == pod.uid());
        let found = position.and_then(|at| kept.remove(at));
        drop(kept);
        for running in over {
            running.end(&self.plugins);
        }
        // Another version of the pod is another cycle, and so is a pod without a UID.
        let is_same = |running: &Running| !pod.uid().is_empty() && running.cycle.pod.json() == pod.json();
        match found {
            Some(running) if !is_same(&running) => {
                running.end(&self.plugins);
                None
            }
            found => found,
        }
    }

    /// Keeps a cycle. Another one of the same pod ends, and the oldest if there are too many.
    fn put(&self, mut running: Running) {
        running.bind(None);
        let mut kept = self.kept();
        let same = kept.iter().position(|other| other.cycle.pod.uid() == running.cycle.pod.uid());
        let same = same.and_then(|at| kept.remove(at));
        kept.push_back(running);
        let over = if kept.len() > self.max_kept { kept.pop_front() } else { None };
        drop(kept);
        for running in same.into_iter().chain(over) {
            running.end(&self.plugins);
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Running>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("plugins", &self.plugins)
            .field("kept", &self.kept().len())
            .finish_non_exhaustive()
    }
}
