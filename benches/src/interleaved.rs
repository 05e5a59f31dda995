//! Times candidates alternately, so that a temporary slowdown of the machine affects all of them alike.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

/// The default duration of a candidate's turn.
const TURN: Duration = Duration::from_micros(400);

/// The candidates of a comparison.
pub struct Comparison<'a> {
    turn: Duration,
    candidates: Vec<Candidate<'a>>,
}

struct Candidate<'a> {
    name: String,
    /// The index of the candidate that ratios refer to.
    base: usize,
    /// Does a piece of work the given number of times, and returns the time it took.
    work: Box<dyn FnMut(u32) -> Duration + 'a>,
    times: Vec<f64>,
}

/// The result of one candidate.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The candidate's name.
    pub name: String,
    /// The median of the times for one piece of work, in seconds.
    pub time: f64,
    /// The quartiles: half of the times lie between them.
    pub quartiles: [f64; 2],
    /// The median of the ratios to the base in the same round.
    pub ratio: f64,
    /// The quartiles: half of the ratios lie between them.
    pub ratio_quartiles: [f64; 2],
    /// How many rounds were run.
    pub rounds: usize,
}

/// The effort of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The time that all rounds together may take, within the bounds of `rounds`.
    pub time: Duration,
    /// The minimum and the maximum number of rounds.
    pub rounds: [usize; 2],
}

impl<'a> Comparison<'a> {
    /// Creates an empty comparison.
    pub fn new() -> Self {
        Self { turn: TURN, candidates: Vec::new() }
    }

    /// Sets the duration of each candidate's turn.
    #[must_use]
    pub fn turn(mut self, turn: Duration) -> Self {
        self.turn = turn;
        self
    }

    /// Adds a base that others are compared with.
    pub fn base(&mut self, name: impl Into<String>, work: impl FnMut() + 'a) {
        self.base_timed(name, timed(work));
    }

    /// Adds a candidate to compare with the latest base.
    pub fn add(&mut self, name: impl Into<String>, work: impl FnMut() + 'a) {
        self.add_timed(name, timed(work));
    }

    /// Adds a base that measures its own time: it does a piece of work the given number of times, and returns the time.
    pub fn base_timed(&mut self, name: impl Into<String>, work: impl FnMut(u32) -> Duration + 'a) {
        let base = self.candidates.len();
        self.candidates.push(Candidate { name: name.into(), base, work: Box::new(work), times: Vec::new() });
    }

    /// Adds a candidate that measures its own time, to compare with the latest base.
    pub fn add_timed(&mut self, name: impl Into<String>, work: impl FnMut(u32) -> Duration + 'a) {
        let base = self.candidates.last().map_or(0, |last| last.base);
        self.candidates.push(Candidate { name: name.into(), base, work: Box::new(work), times: Vec::new() });
    }

    /// Runs all candidates in this many rounds.
    pub fn run(self, rounds: usize) -> Vec<Outcome> {
        self.run_for(Effort { time: Duration::ZERO, rounds: [rounds, rounds] })
    }

    /// Runs all candidates in as many rounds as the effort allows.
    pub fn run_for(mut self, effort: Effort) -> Vec<Outcome> {
        let (turn, [least, most]) = (self.turn, effort.rounds);
        let repetitions: Vec<u32> =
            self.candidates.iter_mut().map(|candidate| repetitions(&mut *candidate.work, turn)).collect();
        let begin = Instant::now();
        let mut order: Vec<usize> = (0..self.candidates.len()).collect();
        for round in 0..most {
            if round >= least && begin.elapsed() > effort.time {
                break;
            }
            shuffle(&mut order, round);
            for &at in &order {
                let (candidate, repetitions) = (&mut self.candidates[at], repetitions[at]);
                let time = (candidate.work)(repetitions);
                candidate.times.push(time.as_secs_f64() / f64::from(repetitions));
            }
        }
        let outcome = |candidate: &Candidate<'_>| {
            let base = &self.candidates[candidate.base].times;
            let ratios = candidate.times.iter().zip(base).map(|(time, base)| time / base).collect();
            let ([low, time, high], [ratio_low, ratio, ratio_high]) =
                (quartiles(candidate.times.clone()), quartiles(ratios));
            Outcome {
                name: candidate.name.clone(),
                time,
                quartiles: [low, high],
                ratio,
                ratio_quartiles: [ratio_low, ratio_high],
                rounds: candidate.times.len(),
            }
        };
        self.candidates.iter().map(outcome).collect()
    }
}

impl Default for Comparison<'_> {
    fn default() -> Self {
        Self::new()
    }
}

fn timed<'a>(mut work: impl FnMut() + 'a) -> impl FnMut(u32) -> Duration + 'a {
    move |repetitions| {
        let begin = Instant::now();
        for _ in 0..repetitions {
            work();
        }
        begin.elapsed()
    }
}

/// Chooses another order for each round, in which no candidate runs twice in a row.
///
/// So no candidate always finds the cache contents of the same other candidate, and none finds its own.
fn shuffle(order: &mut [usize], round: usize) {
    let last = order.last().copied();
    order.sort_by_cached_key(|at| {
        let mut hasher = DefaultHasher::new();
        (round, at).hash(&mut hasher);
        hasher.finish()
    });
    if order.first().copied() == last {
        order.reverse();
    }
}

/// Returns how often a piece of work fits into a turn. Also warms it up.
fn repetitions(work: &mut dyn FnMut(u32) -> Duration, turn: Duration) -> u32 {
    let (mut time, mut count, mut next) = (Duration::ZERO, 0_u32, 1_u32);
    while time < 8 * turn {
        time += work(next);
        count = count.saturating_add(next);
        next = count;
    }
    let fits = f64::from(count) * turn.as_secs_f64() / time.as_secs_f64();
    (fits as u32).max(1)
}

/// Returns the lower quartile, the median and the upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    [last / 4, last.div_ceil(2), last - last / 4].map(|at| values.get(at).copied().unwrap_or(f64::NAN))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:32} {:>12.3?} {:6.2}", self.name, Duration::from_secs_f64(self.time), self.ratio)
    }
}

impl fmt::Debug for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.candidates.iter().map(|candidate| &candidate.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_candidate_comes_after_each_other_one_and_never_after_itself() {
        let (mut order, mut came_after) = ([0, 1, 2, 3], [[0; 4]; 4]);
        let mut before = None;
        for round in 0..1_000 {
            shuffle(&mut order, round);
            for at in order {
                if let Some(before) = before.replace(at) {
                    came_after[at][before] += 1;
                }
            }
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3], "everyone in each round");
        }
        for (at, others) in came_after.iter().enumerate() {
            for (before, &times) in others.iter().enumerate() {
                // About a third of the rounds each.
                assert_eq!((200..500).contains(&times), at != before, "{at} after {before}: {times} times");
            }
            assert_eq!(others[at], 0);
        }
    }
}
