//! Candidates timed in turns, so that what slows the machine down for a while slows all of them alike.

use std::fmt;
use std::time::{Duration, Instant};

/// How long a candidate runs at a time.
const TURN: Duration = Duration::from_micros(400);

/// What is compared with each other.
#[derive(Default)]
pub struct Comparison<'a> {
    candidates: Vec<Candidate<'a>>,
}

struct Candidate<'a> {
    name: String,
    /// Index of the candidate that it is a ratio to.
    base: usize,
    work: Box<dyn FnMut() + 'a>,
    times: Vec<f64>,
}

/// What one candidate took.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The candidate's name.
    pub name: String,
    /// Median of the times for one piece of work.
    pub time: Duration,
    /// Median of the ratios to the base in the same round.
    pub ratio: f64,
}

impl<'a> Comparison<'a> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what others can be compared with.
    pub fn base(&mut self, name: impl Into<String>, work: impl FnMut() + 'a) {
        let base = self.candidates.len();
        self.candidates.push(Candidate { name: name.into(), base, work: Box::new(work), times: Vec::new() });
    }

    /// Adds what is compared with the latest base.
    pub fn add(&mut self, name: impl Into<String>, work: impl FnMut() + 'a) {
        let base = self.candidates.last().map_or(0, |last| last.base);
        self.candidates.push(Candidate { name: name.into(), base, work: Box::new(work), times: Vec::new() });
    }

    /// Runs all of them in so many rounds.
    pub fn run(mut self, rounds: usize) -> Vec<Outcome> {
        let repetitions: Vec<u32> =
            self.candidates.iter_mut().map(|candidate| repetitions(&mut candidate.work)).collect();
        for _ in 0..rounds {
            for (candidate, repetitions) in self.candidates.iter_mut().zip(&repetitions) {
                let begin = Instant::now();
                for _ in 0..*repetitions {
                    (candidate.work)();
                }
                candidate.times.push(begin.elapsed().as_secs_f64() / f64::from(*repetitions));
            }
        }
        let outcome = |candidate: &Candidate<'_>| {
            let base = &self.candidates[candidate.base].times;
            let ratios = candidate.times.iter().zip(base).map(|(time, base)| time / base).collect();
            Outcome {
                name: candidate.name.clone(),
                time: Duration::from_secs_f64(median(candidate.times.clone())),
                ratio: median(ratios),
            }
        };
        self.candidates.iter().map(outcome).collect()
    }
}

/// How often a piece of work fits into a turn. This warms it up, too.
fn repetitions(work: &mut dyn FnMut()) -> u32 {
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < 8 * TURN {
        work();
        count += 1;
    }
    (count / 8).max(1)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:32} {:>12.3?} {:6.2}", self.name, self.time, self.ratio)
    }
}

impl fmt::Debug for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.candidates.iter().map(|candidate| &candidate.name)).finish()
    }
}
