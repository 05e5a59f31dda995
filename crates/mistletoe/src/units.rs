//! Limits as text, as command lines and configuration files have them: `64MiB`, `10s`, `50M`, `unlimited`.
//!
//! A number is whole and in decimal, and its unit follows at once. `None` is a limit that is not there.

use std::time::Duration;

/// Parses a number of bytes: `262144`, `64Mi`, `64MiB`, `64MB`.
///
/// # Errors
///
/// A sentence about what is expected.
pub fn size(text: &str) -> Result<Option<u64>, &'static str> {
    const UNITS: &[(&str, u64)] = &[
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    limit(
        text,
        UNITS,
        "expected a number of bytes, with Ki, Mi, Gi, KiB, MiB, GiB, kB, MB or GB or without, or `unlimited`",
    )
}

/// Parses a time: `200ms`, `2s`, `1m`.
///
/// # Errors
///
/// A sentence about what is expected.
pub fn time(text: &str) -> Result<Option<Duration>, &'static str> {
    const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let milliseconds = limit(text, UNITS, "expected a number with ms, s, m or h, or `unlimited`")?;
    Ok(milliseconds.map(Duration::from_millis))
}

/// Parses an amount of fuel: `50M`, `1000`.
///
/// # Errors
///
/// A sentence about what is expected.
pub fn fuel(text: &str) -> Result<Option<u64>, &'static str> {
    const UNITS: &[(&str, u64)] = &[("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)];
    limit(text, UNITS, "expected a number, with k, M or G or without, or `unlimited`")
}

/// Parses a stack depth: `10000`.
///
/// # Errors
///
/// A sentence about what is expected.
pub fn stack(text: &str) -> Result<Option<u32>, &'static str> {
    const ERROR: &str = "expected a number below 4,294,967,296, or `unlimited`";
    match limit(text, &[("", 1)], ERROR)? {
        None => Ok(None),
        Some(height) => u32::try_from(height).map(Some).map_err(|_| ERROR),
    }
}

/// Parses a whole number in one of the units.
fn limit(text: &str, units: &[(&str, u64)], error: &'static str) -> Result<Option<u64>, &'static str> {
    if text == "unlimited" {
        return Ok(None);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let product = || number.parse::<u64>().ok()?.checked_mul(unit?);
    product().map(Some).ok_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_nothing_else() {
        assert_eq!(size("262144"), Ok(Some(262_144)));
        assert_eq!(size("64MiB"), Ok(Some(67_108_864)));
        assert_eq!(size("64MB"), Ok(Some(64_000_000)));
        assert_eq!(["2Ki", "64Mi", "1Gi"].map(size), [2_048, 67_108_864, 1_073_741_824].map(|n| Ok(Some(n))));
        assert_eq!(size("unlimited"), Ok(None));
        assert_eq!(time("200ms"), Ok(Some(Duration::from_millis(200))));
        assert_eq!(time("2s"), Ok(Some(Duration::from_secs(2))));
        assert_eq!(fuel("50M"), Ok(Some(50_000_000)));
        assert_eq!(stack("4294967295"), Ok(Some(u32::MAX)));
        for text in [
            "",
            "MiB",
            "64 MiB",
            "64mib",
            "64mi",
            "64M",
            "-1",
            "1.5MiB",
            "0x10",
            "18446744073709551616",
            "17179869184GiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["2", "2 s", "2sec", "1e3s"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert!(fuel("50m").is_err() && stack("4294967296").is_err() && stack("1k").is_err());
    }
}
