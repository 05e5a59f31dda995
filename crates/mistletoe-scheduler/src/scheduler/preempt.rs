//! Nodes on which other pods make room.

use std::sync::Arc;

use super::Scheduler;
use super::bounds::Bounds;
use super::running::{Failure, Running};
use crate::objects::Pod;
use crate::protocol::{Answer, Call, Function, Output, Status};

/// A node that a pod would fit if others went.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The name of the node.
    pub node: &'a str,
    /// The pods that would go. They are unknown to guests if there are none.
    pub victims: &'a [Arc<Pod>],
}

impl Scheduler {
    /// Asks which of the nodes remain candidates on which other pods make room for a pod.
    ///
    /// A guest that nominates a node leaves only that one. A guest that can suppose that pods are gone (`removepod`) is
    /// asked whether the pod fits then. All remain if the cycle of `filter` is gone, which alone knows the nodes.
    ///
    /// # Errors
    ///
    /// As [`Scheduler::filter`].
    pub fn preempt(&self, pod: impl Into<Arc<Pod>>, candidates: &[Candidate<'_>]) -> Result<Vec<bool>, Failure> {
        self.preempt_within(pod, candidates, &self.bounds())
    }

    /// Asks the same, within these bounds.
    ///
    /// # Errors
    ///
    /// As [`Scheduler::filter`].
    pub fn preempt_within(
        &self,
        pod: impl Into<Arc<Pod>>,
        candidates: &[Candidate<'_>],
        bounds: &Bounds,
    ) -> Result<Vec<bool>, Failure> {
        let Some(mut running) = self.take(&pod.into()) else { return Ok(vec![true; candidates.len()]) };
        running.bind(Some(bounds));
        let remaining = self.remaining(&mut running, candidates, bounds);
        running.count_memory(bounds);
        running.end(&self.plugins);
        remaining
    }

    fn remaining(
        &self,
        running: &mut Running,
        candidates: &[Candidate<'_>],
        bounds: &Bounds,
    ) -> Result<Vec<bool>, Failure> {
        let statuses = std::mem::take(&mut running.statuses);
        let cycle = running.cycle.clone();
        let named = |(at, code)| Some((cycle.nodes.at(at)?.name(), code));
        let statuses: Vec<_> = statuses.into_iter().filter_map(named).collect();
        let mut remaining = vec![true; candidates.len()];
        for (at, plugin) in self.plugins.iter().enumerate().filter(|(_, plugin)| plugin.has(Function::PostFilter)) {
            match running.call(&self.plugins, at, Call::PostFilter(&statuses), None, bounds)? {
                // The name of another node is no opinion: the guest knows the nodes of `filter` alone, and of these the
                // scheduler offers none that it would take anyway.
                Some(Answer { status, output: Output::Nomination { overrides: true, node } })
                    if status.is_success()
                        && (node.is_empty() || candidates.iter().any(|candidate| candidate.node == node)) =>
                {
                    remaining = candidates.iter().map(|candidate| candidate.node == node).collect();
                    break;
                }
                Some(Answer { status, .. })
                    if !(status.is_success() || status.is_refusal() || status.code == Status::SKIP) =>
                {
                    running.fail(plugin, at, None, status, bounds)?;
                }
                _ => {}
            }
        }
        for (remains, candidate) in remaining.iter_mut().zip(candidates).filter(|(remains, _)| **remains) {
            *remains = self.fits_without(running, *candidate, bounds)?;
        }
        Ok(remaining)
    }

    /// Returns whether the pod fits a node without the pods that would go.
    fn fits_without(
        &self,
        running: &mut Running,
        Candidate { node, victims }: Candidate<'_>,
        bounds: &Bounds,
    ) -> Result<bool, Failure> {
        let Some(position) = running.cycle.nodes.position(node).filter(|_| !victims.is_empty()) else {
            return Ok(true);
        };
        for (at, plugin) in self.plugins.iter().enumerate().filter(|(_, plugin)| plugin.has(Function::RemovePod)) {
            // The state of the guest is that of the node before.
            running.refusal = None;
            running.prefilter(&self.plugins, at, bounds)?;
            if running.refusal.is_some() || running.excludes(at, position) {
                return Ok(false);
            }
            if running.members[at].skips_filter {
                continue;
            }
            let removals = victims.iter().map(|victim| Call::RemovePod(victim, node));
            for call in removals.chain([Call::Filter(node)]) {
                match running.call(&self.plugins, at, call, Some(node), bounds)? {
                    Some(Answer { status, .. }) if status.is_refusal() => return Ok(false),
                    Some(Answer { status, .. }) if !status.is_success() => {
                        running.fail(plugin, at, Some(node), status, bounds)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(true)
    }
}
