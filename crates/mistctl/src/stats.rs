//! `generate --stats`: what a call used.

use std::time::{Duration, Instant};

use mistletoe::AnySession;
use mistletoe::wasi::Wasi;
use serde::Serialize;

use crate::stderr::{self, Level, note};

/// What compiling a package, opening a session and a call used.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Stats {
    /// Units of fuel for opening the session.
    open_fuel: Option<u64>,
    /// Units of fuel for the call.
    fuel: Option<u64>,
    compile_us: u64,
    open_us: u64,
    call_us: u64,
    /// Size of the memory at the end, which is the most that there was.
    memory_bytes: u64,
    host_calls: u64,
}

/// The line in JSON.
#[derive(Serialize)]
struct Line<'a> {
    level: Level,
    #[serde(flatten)]
    stats: &'a Stats,
    message: String,
}

impl Stats {
    pub(crate) fn compiled(&mut self, time: Duration) {
        self.compile_us = microseconds(time);
    }

    pub(crate) fn opened(&mut self, since: Instant, session: &mut AnySession<Wasi>) {
        self.open_us = microseconds(since.elapsed());
        self.open_fuel = session.fuel_used().ok().flatten();
    }

    pub(crate) fn called(&mut self, since: Instant, session: &mut AnySession<Wasi>) {
        self.call_us = microseconds(since.elapsed());
        self.fuel = session.fuel_used().ok().flatten();
        (self.memory_bytes, self.host_calls) = (session.memory_size(), session.host_calls());
    }

    /// Prints the figures to standard error.
    pub(crate) fn print(&self) {
        let message = self.message();
        match stderr::is_json() {
            true => stderr::object(&Line { level: Level::Stats, stats: self, message }),
            false => note(Level::Stats, &message),
        }
    }

    fn message(&self) -> String {
        let Self { open_fuel, fuel, compile_us, open_us, call_us, memory_bytes, host_calls } = self;
        let fuel = match (open_fuel, fuel) {
            (Some(open), Some(call)) => format!("fuel {open} to open, {call} to call; "),
            _ => String::new(),
        };
        let [compile, open, call] = [compile_us, open_us, call_us].map(|us| shown(*us));
        format!(
            "{fuel}time {compile} to compile, {open} to open, {call} to call; memory {memory_bytes} bytes; \
            {host_calls} calls of host functions"
        )
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Returns a time with the unit that suits it.
fn shown(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_unit_that_suits_it() {
        for (us, text) in
            [(0, "0 µs"), (999, "999 µs"), (1_250, "1.2 ms"), (999_999, "999.9 ms"), (12_345_678, "12.34 s")]
        {
            assert_eq!(shown(us), text);
        }
    }
}
