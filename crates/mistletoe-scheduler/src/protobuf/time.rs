//! Times in RFC 3339.

/// Returns the seconds since 1970 of a time such as `2026-03-01T12:30:45.5+02:00`. Kubernetes drops the fraction.
pub(super) fn parse(text: &str) -> Option<i64> {
    let text = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        let mut number = 0;
        for byte in text.get(range)? {
            number = 10 * number + i64::from(char::from(*byte).to_digit(10)?);
        }
        Some(number)
    };
    for (at, byte) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if text.get(at) != Some(&byte) {
            return None;
        }
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let mut at = 19;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let length = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        at += length;
    }
    let offset = match text.get(at)? {
        b'Z' if at + 1 == text.len() => 0,
        sign @ (b'+' | b'-') if at + 6 == text.len() && text[at + 3] == b':' => {
            let (hours, minutes) = (digits(at + 1..at + 3)?, digits(at + 4..at + 6)?);
            if hours > 24 || minutes > 59 {
                return None;
            }
            let offset = 3600 * hours + 60 * minutes;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years are counted from March, so that a leap day is the last one. There are 719,468 days from March of the
    // year 0 to 1970.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = days + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(86_400 * days + 3600 * hour + 60 * minute + second - offset)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_time_has_an_offset_and_a_fraction() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2026-03-01T12:30:45.5+02:00", 1_772_361_045),
            ("2026-03-01T12:30:45-00:30", 1_772_370_045),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
            ("9999-12-31T23:59:59.1234567891Z", 253_402_300_799),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026",
            "2026-03-01",
            "2026-03-01T12:30:45",
            "2026-03-01 12:30:45Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00Zx",
            "2026-01-01T00:00:00+0200",
            "2026-01-01T00:00:00+02:60",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00+ä:0",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
