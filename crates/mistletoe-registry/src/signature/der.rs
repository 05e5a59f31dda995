//! DER (ITU-T X.690), as much of it as keys and ECDSA signatures need.

/// The tag of a value.
#[derive(Clone, Copy)]
pub(super) enum Tag {
    Integer = 0x02,
    BitString = 0x03,
    OctetString = 0x04,
    Sequence = 0x30,
}

/// Splits `input` into the contents of its first value, which has to have the tag, and what follows the value.
pub(super) fn read(input: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    let (first, rest) = input.split_first()?;
    if *first != tag as u8 {
        return None;
    }
    let (length, rest) = match rest {
        [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x81, length @ 0x80..=0xff, rest @ ..] => (usize::from(*length), rest),
        [0x82, high @ 1..=0xff, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        // Nothing that is read here is as long as 64 KiB.
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Returns the contents of the only value in `input`.
pub(super) fn only(input: &[u8], tag: Tag) -> Option<&[u8]> {
    read(input, tag).filter(|(_, rest)| rest.is_empty()).map(|(contents, _)| contents)
}

/// Returns the encoding of a value of less than 64 KiB.
pub(super) fn value(tag: Tag, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let mut encoding = match (high, low) {
        (0, 0..0x80) => vec![tag as u8, low],
        (0, _) => vec![tag as u8, 0x81, low],
        _ => vec![tag as u8, 0x82, high, low],
    };
    encoding.reserve_exact(length);
    contents.iter().for_each(|part| encoding.extend_from_slice(part));
    encoding
}

/// Whether `input` is an ECDSA signature as X.690 and RFC 3279 have it: two positive integers in as few bytes as they
/// need, and nothing else.
pub(super) fn is_ecdsa_signature(input: &[u8]) -> bool {
    let positive = |integer: &[u8]| match integer {
        [0] | [] => false,
        [0, second, ..] => *second >= 0x80,
        [first, ..] => *first < 0x80,
    };
    let integers = || {
        let (r, rest) = read(only(input, Tag::Sequence)?, Tag::Integer)?;
        Some((r, only(rest, Tag::Integer)?))
    };
    integers().is_some_and(|(r, s)| positive(r) && positive(s))
}
