//! Scores of nodes.

use std::sync::Arc;

use super::bounds::Bounds;
use super::running::{Failure, Running};
use super::{Scheduler, plugin};
use crate::objects::{Cycle, Node, Nodes, Pod};
use crate::protocol::{Answer, Call, Function, Output, Status};

/// The highest score of a node.
pub const MAX_SCORE: i64 = 100;

impl Scheduler {
    /// Asks for the scores of nodes, from 0 to [`MAX_SCORE`]: the mean of the plugins' scores by their weights.
    ///
    /// The scores are in the order of the nodes.
    ///
    /// # Errors
    ///
    /// As [`Scheduler::filter`]. A score that is out of range is a failure of its plugin.
    pub fn prioritize(&self, pod: impl Into<Arc<Pod>>, nodes: impl Into<Arc<Nodes>>) -> Result<Vec<i64>, Failure> {
        self.prioritize_within(pod, nodes, &self.bounds())
    }

    /// Asks the same, within these bounds.
    ///
    /// # Errors
    ///
    /// As [`Scheduler::prioritize`].
    pub fn prioritize_within(
        &self,
        pod: impl Into<Arc<Pod>>,
        nodes: impl Into<Arc<Nodes>>,
        bounds: &Bounds,
    ) -> Result<Vec<i64>, Failure> {
        let (pod, nodes) = (pod.into(), nodes.into());
        // The nodes are those that `filter` has left, and the guests know all.
        let kept = self.take(&pod).and_then(|running| match running.cycle.nodes.positions_of(&nodes) {
            Some(positions) => Some((running, positions)),
            None => {
                running.end(&self.plugins);
                None
            }
        });
        let (mut running, positions) = match kept {
            Some((mut running, positions)) => {
                running.bind(Some(bounds));
                (running, positions)
            }
            None => {
                let positions = (0..nodes.iter().len()).collect();
                (Running::begin(&self.plugins, Arc::new(Cycle { pod, nodes }), bounds)?, positions)
            }
        };
        let cycle = running.cycle.clone();
        // A call need not copy the cycle's own texts.
        let names: Vec<_> = positions.into_iter().filter_map(|at| cycle.nodes.at(at)).map(Node::name).collect();
        let scores = plugin::with_room(&self.plugins, || self.scores(&mut running, &names, bounds));
        running.count_memory(bounds);
        running.end(&self.plugins);
        scores
    }

    fn scores(&self, running: &mut Running, names: &[&str], bounds: &Bounds) -> Result<Vec<i64>, Failure> {
        let mut totals = vec![0; names.len()];
        let mut weights = 0;
        for (at, plugin) in self.plugins.iter().enumerate().filter(|(_, plugin)| plugin.has(Function::Score)) {
            let weight = i64::from(plugin.weight);
            let scores = self.scores_of(running, at, names, bounds)?;
            // A plugin whose failure is ignored has no part in the mean.
            if running.is_out(at) {
                continue;
            }
            weights += weight;
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += weight * score;
            }
        }
        Ok(totals.into_iter().map(|total| total / weights.max(1)).collect())
    }

    /// Returns the scores of one plugin; none if it has nothing to say.
    fn scores_of(
        &self,
        running: &mut Running,
        at: usize,
        names: &[&str],
        bounds: &Bounds,
    ) -> Result<Vec<i64>, Failure> {
        let (plugins, plugin) = (&self.plugins[..], &self.plugins[at]);
        if plugin.has(Function::PreScore) {
            match running.call(plugins, at, Call::PreScore(names), None, bounds)? {
                Some(Answer { status, .. }) if status.code == Status::SKIP => return Ok(Vec::new()),
                Some(Answer { status, .. }) if !status.is_success() => {
                    running.fail(plugin, at, None, status, bounds)?;
                }
                _ => {}
            }
        }
        let mut scores = Vec::with_capacity(names.len());
        for name in names {
            match running.call(plugins, at, Call::Score(name), Some(name), bounds)? {
                Some(Answer { status, output: Output::Score(score) }) if status.is_success() => {
                    scores.push((*name, i64::from(score)));
                }
                Some(Answer { status, .. }) => running.fail(plugin, at, Some(name), status, bounds)?,
                None => {}
            }
        }
        if plugin.has(Function::NormalizeScore) && !scores.is_empty() {
            match running.call(plugins, at, Call::NormalizeScore(&scores), None, bounds)? {
                Some(Answer { status, output: Output::Scores(normalized) }) if status.is_success() => {
                    for ((_, score), normalized) in scores.iter_mut().zip(normalized) {
                        *score = normalized;
                    }
                }
                Some(Answer { status, .. }) => running.fail(plugin, at, None, status, bounds)?,
                None => {}
            }
        }
        if let Some((name, score)) = scores.iter().find(|(_, score)| !(0..=MAX_SCORE).contains(score))
            && running.members[at].instance.is_some()
        {
            let status = Status::error(format!("the score {score} is not between 0 and {MAX_SCORE}"));
            running.fail(plugin, at, Some(name), status, bounds)?;
        }
        // A plugin that has failed meanwhile says nothing.
        let is_out = running.members[at].instance.is_none();
        Ok(if is_out { Vec::new() } else { scores.into_iter().map(|(_, score)| score).collect() })
    }
}
