//! Candidates timed in turns, so that what slows the machine down for a while slows all of them alike.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

/// How long a candidate runs at a time, unless told otherwise.
const TURN: Duration = Duration::from_micros(400);

/// What is compared with each other.
pub struct Comparison<'a> {
    turn: Duration,
    candidates: Vec<Candidate<'a>>,
}

struct Candidate<'a> {
    name: String,
    /// Index of the candidate that it is a ratio to.
    base: usize,
    /// Does a piece of work so many times, and says how long they took.
    work: Box<dyn FnMut(u32) -> Duration + 'a>,
    times: Vec<f64>,
}

/// What one candidate took.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The candidate's name.
    pub name: String,
    /// Median of the times for one piece of work, in seconds.
    pub time: f64,
    /// What half of the times lie between.
    pub quartiles: [f64; 2],
    /// Median of the ratios to the base in the same round.
    pub ratio: f64,
    /// What half of the ratios lie between.
    pub ratio_quartiles: [f64; 2],
    /// How many rounds there were.
    pub rounds: usize,
}

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How long all rounds may take together, as far as `rounds` lets them.
    pub time: Duration,
    /// How many rounds there are at least and at most.
    pub rounds: [usize; 2],
}

impl<'a> Comparison<'a> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { turn: TURN, candidates: Vec::new() }
    }

    /// Lets each candidate run for so long at a time.
    #[must_use]
    pub fn turn(mut self, turn: Duration) -> Self {
        self.turn = turn;
        self
    }

    /// Adds what others can be compared with.
    pub fn base(&mut self, name: impl Into<String>, work: impl FnMut() + 'a) {
        self.base_timed(name, timed(work));
    }

    /// Adds what is compared with the latest base.
    pub fn add(&mut self, name: impl Into<String>, work: impl FnMut() + 'a) {
        self.add_timed(name, timed(work));
    }

    /// A base that looks at the clock itself: it does a piece of work so many times, and says how long they took.
    pub fn base_timed(&mut self, name: impl Into<String>, work: impl FnMut(u32) -> Duration + 'a) {
        let base = self.candidates.len();
        self.candidates.push(Candidate { name: name.into(), base, work: Box::new(work), times: Vec::new() });
    }

    /// The same for what is compared with the latest base.
    pub fn add_timed(&mut self, name: impl Into<String>, work: impl FnMut(u32) -> Duration + 'a) {
        let base = self.candidates.last().map_or(0, |last| last.base);
        self.candidates.push(Candidate { name: name.into(), base, work: Box::new(work), times: Vec::new() });
    }

    /// Runs all of them in so many rounds.
    pub fn run(self, rounds: usize) -> Vec<Outcome> {
        self.run_for(Effort { time: Duration::ZERO, rounds: [rounds, rounds] })
    }

    /// Runs all of them in rounds, as many as the effort allows.
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

/// Another order in each round, in which nobody comes twice in a row: so it is not always the same candidate that finds what
/// another has left in the caches, and none finds what it has left itself.
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

/// How often a piece of work fits into a turn. This warms it up, too.
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

/// The lower quartile, the median and the upper quartile.
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
                // A third of the rounds each, give or take.
                assert_eq!((200..500).contains(&times), at != before, "{at} after {before}: {times} times");
            }
            assert_eq!(others[at], 0);
        }
    }
}
