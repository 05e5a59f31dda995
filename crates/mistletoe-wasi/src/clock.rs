//! The guest's clocks.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::errno::Errno;
use crate::memory::Memory;
use crate::wasi::Wasi;
use crate::work::Work;

/// Source of a guest's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The host's time. A wait takes as long as the guest asks for.
    ///
    /// The monotonic clock starts at one nanosecond in the process's first session. It does not start again in a
    /// session whose instance goes on with a new [`Wasi`].
    System,
    /// A frozen time, which advances only by the durations of the guest's waits.
    ///
    /// A wait returns at once. The monotonic clock starts at one nanosecond, and also advances by a microsecond with
    /// each reading. A guest that reads it until some time has passed therefore terminates.
    Fixed(SystemTime),
}

/// The start of the system's monotonic clock. A start of each session's own would let time go backwards in an instance
/// that gets a new `Wasi` for each request.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time of the default clock. To read a variable takes longer than to make all else of a session.
static SOURCE_DATE: LazyLock<SystemTime> =
    LazyLock::new(|| source_date(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref()));

/// The clocks of a session.
pub(crate) enum Time {
    System,
    /// In nanoseconds: the initial real time, the sum of all waits, and the sum of what readings add.
    Fixed {
        start: u64,
        waited: u64,
        read: u64,
    },
}

const REALTIME: u32 = 0;
/// The last clock. The clocks after the monotonic one, of the process's and the thread's time, show the same time.
const LAST: u32 = 3;

impl Default for Clock {
    /// Returns a frozen time.
    ///
    /// It is the value of the host's environment variable `SOURCE_DATE_EPOCH`, in seconds since 1970, or else the start
    /// of 1970. The process's first default clock reads the variable.
    fn default() -> Self {
        Self::Fixed(*SOURCE_DATE)
    }
}

fn source_date(seconds: Option<&str>) -> SystemTime {
    let seconds = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

impl Time {
    pub(crate) fn new(clock: Clock) -> Self {
        match clock {
            Clock::System => {
                LazyLock::force(&START);
                Self::System
            }
            Clock::Fixed(time) => Self::Fixed { start: since_epoch(time), waited: 0, read: 0 },
        }
    }

    /// Returns whether a wait takes the host's time.
    pub(crate) fn is_real(&self) -> bool {
        matches!(self, Self::System)
    }

    /// Returns the real time in nanoseconds since 1970.
    pub(crate) fn real(&self) -> u64 {
        match self {
            Self::System => since_epoch(SystemTime::now()),
            Self::Fixed { start, waited, .. } => start.saturating_add(*waited),
        }
    }

    /// Returns the nanoseconds of the monotonic clock, from 1: Go refuses a clock at 0.
    pub(crate) fn monotonic(&self) -> u64 {
        match self {
            Self::System => nanoseconds(START.elapsed()).saturating_add(1),
            Self::Fixed { waited, read, .. } => waited.saturating_add(*read).saturating_add(1),
        }
    }

    /// Returns the time of a clock, or `None` if there is no such clock.
    pub(crate) fn now(&self, clock: u32) -> Option<u64> {
        match clock {
            REALTIME => Some(self.real()),
            1..=LAST => Some(self.monotonic()),
            _ => None,
        }
    }

    fn count_reading(&mut self, clock: u32) {
        if let (Self::Fixed { read, .. }, 1..=LAST) = (self, clock) {
            *read = read.saturating_add(1000);
        }
    }

    /// Waits until the time has passed or the work is over.
    pub(crate) fn wait(&mut self, nanoseconds: u64, work: &Work) {
        match self {
            Self::System => work.wait(Duration::from_nanos(nanoseconds)),
            Self::Fixed { waited, .. } => *waited = waited.saturating_add(nanoseconds),
        }
    }
}

/// Returns the nanoseconds since 1970, or 0 for earlier times.
pub(crate) fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Wasi {
    pub(crate) fn clock_res_get(&mut self, memory: &mut Memory<'_>, clock: u32, resolution: u32) -> Result<(), Errno> {
        self.time.now(clock).ok_or(Errno::Inval)?;
        let steps = matches!(self.time, Time::Fixed { .. }) && clock != REALTIME;
        memory.write_u64(resolution, if steps { 1000 } else { 1 })
    }

    pub(crate) fn clock_time_get(
        &mut self,
        memory: &mut Memory<'_>,
        clock: u32,
        _precision: u64,
        time: u32,
    ) -> Result<(), Errno> {
        memory.write_u64(time, self.time.now(clock).ok_or(Errno::Inval)?)?;
        self.time.count_reading(clock);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_by_waiting_and_the_monotonic_one_by_reading() {
        let mut wasi = Wasi::builder().clock(Clock::Fixed(UNIX_EPOCH + Duration::from_secs(5))).build();
        let mut bytes = [0; 8];
        let mut read = |wasi: &mut Wasi, clock| {
            wasi.clock_time_get(&mut Memory::new(&mut bytes, Work::default()), clock, 0, 0)
                .map(|()| u64::from_le_bytes(bytes))
        };
        assert_eq!([read(&mut wasi, 0), read(&mut wasi, 0)], [Ok(5_000_000_000), Ok(5_000_000_000)]);
        assert_eq!([read(&mut wasi, 1), read(&mut wasi, 2)], [Ok(1), Ok(1001)]);
        wasi.time.wait(500, &Work::default());
        assert_eq!([read(&mut wasi, 0), read(&mut wasi, 3)], [Ok(5_000_000_500), Ok(2501)]);
        wasi.time.wait(u64::MAX, &Work::default());
        assert_eq!([read(&mut wasi, 0), read(&mut wasi, 1)], [Ok(u64::MAX), Ok(u64::MAX)]);
        assert_eq!(read(&mut wasi, 4), Err(Errno::Inval));
    }

    #[test]
    fn a_date_that_is_no_number_is_none() {
        assert_eq!(source_date(Some("86400")), UNIX_EPOCH + Duration::from_secs(86400));
        for none in [None, Some(""), Some("-1"), Some("today"), Some("18446744073709551615")] {
            assert_eq!(source_date(none), UNIX_EPOCH);
        }
    }

    #[test]
    fn the_systems_clock_goes_on() {
        let time = Time::new(Clock::System);
        let before = time.monotonic();
        std::thread::sleep(Duration::from_millis(2));
        let after = time.monotonic();
        assert!(before > 0 && after > before + 1_000_000);
        // An instance that gets another `Wasi` does not go back.
        assert!(Time::new(Clock::System).monotonic() >= after);
    }
}
