//! Limits as the command line has them.

use std::time::Duration;

/// A limit, or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

/// Parses `262144`, `64Mi`, `64MiB`, `64MB`.
pub(crate) fn size(text: &str) -> Result<Limit<u64>, &'static str> {
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

/// Parses `200ms`, `2s`, `1m`.
pub(crate) fn time(text: &str) -> Result<Limit<Duration>, &'static str> {
    const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let Limit(milliseconds) = limit(text, UNITS, "expected a number with ms, s, m or h, or `unlimited`")?;
    Ok(Limit(milliseconds.map(Duration::from_millis)))
}

/// Parses `50M`, `1000`.
pub(crate) fn fuel(text: &str) -> Result<Limit<u64>, &'static str> {
    const UNITS: &[(&str, u64)] = &[("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)];
    limit(text, UNITS, "expected a number, with k, M or G or without, or `unlimited`")
}

/// Parses `10000`.
pub(crate) fn stack(text: &str) -> Result<Limit<u32>, &'static str> {
    const ERROR: &str = "expected a number below 4,294,967,296, or `unlimited`";
    match limit(text, &[("", 1)], ERROR)? {
        Limit(None) => Ok(Limit(None)),
        Limit(Some(height)) => u32::try_from(height).map(|height| Limit(Some(height))).map_err(|_| ERROR),
    }
}

/// Parses a whole number in one of the units.
fn limit(text: &str, units: &[(&str, u64)], error: &'static str) -> Result<Limit<u64>, &'static str> {
    if text == "unlimited" {
        return Ok(Limit(None));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let product = || number.parse::<u64>().ok()?.checked_mul(unit?);
    product().map(|product| Limit(Some(product))).ok_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_nothing_else() {
        assert_eq!(size("262144"), Ok(Limit(Some(262_144))));
        assert_eq!(size("64MiB"), Ok(Limit(Some(67_108_864))));
        assert_eq!(size("64MB"), Ok(Limit(Some(64_000_000))));
        assert_eq!(["2Ki", "64Mi", "1Gi"].map(size), [2_048, 67_108_864, 1_073_741_824].map(|n| Ok(Limit(Some(n)))));
        assert_eq!(size("unlimited"), Ok(Limit(None)));
        assert_eq!(time("200ms"), Ok(Limit(Some(Duration::from_millis(200)))));
        assert_eq!(time("2s"), Ok(Limit(Some(Duration::from_secs(2)))));
        assert_eq!(fuel("50M"), Ok(Limit(Some(50_000_000))));
        assert_eq!(stack("4294967295"), Ok(Limit(Some(u32::MAX))));
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
