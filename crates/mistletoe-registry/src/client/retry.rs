//! What is tried again, and when.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ureq::http::StatusCode;

use super::Client;
use crate::error::{Error, ErrorKind, Result};

/// The longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// The longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The end of an operation. There is none if the clock cannot express it.
#[derive(Clone, Copy)]
pub(super) struct Deadline(pub(super) Option<Instant>);

impl Deadline {
    pub(super) fn is_over(self) -> bool {
        self.remaining().is_some_and(|remaining| remaining.is_zero())
    }

    pub(super) fn remaining(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }
}

/// Why an attempt failed.
pub(super) enum Failure {
    /// Another attempt would fail, too.
    Final(Error),
    /// Another attempt may succeed, after `wait` if the server says so.
    Again { error: Error, wait: Option<Duration> },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Returns whether a server that responds with this status may respond with another one soon.
pub(super) fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Reads a `Retry-After` header field: seconds or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    match text.trim() {
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // A number that does not fit is a long time.
            Some(Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
        }
        date => {
            let date = httpdate::parse_http_date(date).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

impl Client {
    /// Repeats an operation until it succeeds, fails for good, or its attempts or time are used up.
    pub(super) fn retrying<T>(
        &self,
        deadline: Deadline,
        subject: impl fmt::Display,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T> {
        let mut backoff = self.backoff;
        for left in (0..self.attempts).rev() {
            let (error, wait) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again { error, wait }) => (error, wait),
            };
            if let Some(wait) = wait.filter(|wait| *wait > MAX_RETRY_AFTER) {
                return Err(Error::new(subject, ErrorKind::RetryAfter { wait }));
            }
            let wait = wait.unwrap_or_default().max(shortened(backoff));
            if left == 0 || deadline.remaining().is_some_and(|remaining| remaining <= wait) {
                return Err(error);
            }
            thread::sleep(wait);
            backoff = backoff.saturating_mul(2).min(MAX_BACKOFF);
        }
        Err(Error::new(subject, ErrorKind::TimedOut))
    }
}

/// Shortens a wait by up to a half, at random, so that many clients do not return at once.
fn shortened(wait: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(0);
    wait / 2 + (wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_wait_is_shortened_by_at_most_a_half() {
        let wait = Duration::from_millis(100);
        assert!((0..1000).map(|_| shortened(wait)).all(|short| (wait / 2..=wait).contains(&short)));
    }

    fn attempts(client: &Client, failure: impl Fn() -> Failure) -> (u32, Error) {
        let mut count = 0;
        let deadline = client.deadline();
        let result = client.retrying::<()>(deadline, "x", || {
            count += 1;
            Err(failure())
        });
        (count, result.expect_err("it fails"))
    }

    #[test]
    fn attempts_are_counted_and_waits_are_bounded() {
        let again = |wait: Option<u64>| {
            let error = Error::new("x", ErrorKind::Connection);
            Failure::Again { error, wait: wait.map(Duration::from_secs) }
        };
        let client = Client::new().attempts(3, Duration::ZERO);
        let (count, error) = attempts(&client, || again(None));
        assert_eq!((count, error.kind()), (3, &ErrorKind::Connection));
        let (count, error) = attempts(&client, || again(Some(61)));
        assert_eq!((count, error.kind()), (1, &ErrorKind::RetryAfter { wait: Duration::from_secs(61) }));
        let (count, _) = attempts(&client, || Failure::Final(Error::new("x", ErrorKind::Tls)));
        assert_eq!(count, 1);
        // There is no time left for the wait.
        let (count, error) = attempts(&client.timeout(Duration::from_secs(1)), || again(Some(60)));
        assert_eq!((count, error.kind()), (1, &ErrorKind::Connection));
    }
}
