//! Checks whether a module is valid within the feature set, and finds out why it is refused.

use wasmparser::{Parser, WasmFeatures};

use crate::config::Metering;
use crate::declared::{
    MAX_BODY, MAX_CODE, MAX_FRAME, MAX_FRAME_HEIGHT, MAX_FUNCTIONS, MAX_GLOBALS, MAX_TABLE_ELEMENTS, MAX_TABLES,
    MAX_TYPES,
};
use crate::error::{DeclaredItem, Error, ErrorKind, NotWasm};
use crate::features::{ALLOWED, Feature, REFUSED};
use crate::interface::Interface;
use crate::listing::Listing;

use crate::read::{End, Reading};

/// The readable parts of a module, which may be broken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// What was read before reading stopped.
    pub interface: Interface,
    /// Why the module cannot run on every engine, if it cannot.
    pub invalid: Option<Error>,
}

/// Reads as much of a module as possible, for tools that also show broken modules.
pub fn inspect(bytes: &[u8]) -> Inspection {
    let (listing, _, invalid) = list(bytes, Metering::default());
    Inspection { interface: listing.interface, invalid }
}

/// Reads a module as far as possible, and returns why it is refused, if it is.
pub(crate) fn list(bytes: &[u8], metering: Metering) -> (Listing, Vec<u8>, Option<Error>) {
    let mut listing = Listing::default();
    if let Some(found) = not_a_module(bytes) {
        return (listing, Vec::new(), Some(ErrorKind::NotAModule { found }.into()));
    }
    let mut reading = Reading { listing: Some(&mut listing), metering, max_code: MAX_CODE, ..Reading::default() };
    let end = reading.read(bytes, ALLOWED);
    let Reading { code, invalid, refused, frame, body, frames, .. } = reading;
    let invalid = match (invalid, refused) {
        // The validator's error comes first: after it stopped, the rest was only listed.
        (Some(error), _) => Some(explain(bytes, error)),
        (None, Some(refused)) => Some(refused.into()),
        (None, None) => end.err().map(|end| match end {
            End::Truncated { offset, missing } => ErrorKind::Truncated { offset, missing }.into(),
            End::Malformed(error) => explain(bytes, error),
        }),
    };
    listing.own_memory();
    let lengths = [
        (DeclaredItem::Types, listing.types.len(), MAX_TYPES),
        (DeclaredItem::Functions, listing.functions.len(), MAX_FUNCTIONS),
        (DeclaredItem::Globals, listing.globals.len(), MAX_GLOBALS),
        (DeclaredItem::Tables, listing.tables.len(), MAX_TABLES),
        (DeclaredItem::FunctionBytes, body, MAX_BODY),
    ];
    if let Some((item, _, limit)) = lengths.into_iter().find(|(_, length, limit)| length > limit) {
        listing.excess = Some((item, limit as u64));
    } else if listing.tables.iter().any(|table| table.minimum > MAX_TABLE_ELEMENTS) {
        listing.excess = Some((DeclaredItem::TableElements, MAX_TABLE_ELEMENTS));
    } else if frame > MAX_FRAME {
        listing.excess = Some((DeclaredItem::FrameValues, MAX_FRAME.into()));
    } else if frames.iter().any(|frame| *frame > MAX_FRAME_HEIGHT) {
        listing.excess = Some((DeclaredItem::FrameUnits, MAX_FRAME_HEIGHT.into()));
    }
    let invalid = invalid.or_else(|| listing.excess.map(|(item, limit)| ErrorKind::TooMany { item, limit }.into()));
    (listing, code, invalid)
}

/// Recognises by the first bytes what is not a core module.
fn not_a_module(bytes: &[u8]) -> Option<NotWasm> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        Some(NotWasm::Empty)
    } else if Parser::is_component(bytes) {
        Some(NotWasm::Component)
    } else if bytes.starts_with(MAGIC) {
        // Fewer than the eight bytes of the header are a truncated module, not another version.
        let version = bytes.get(MAGIC.len()..8)?;
        (version != [1, 0, 0, 0]).then_some(NotWasm::Version)
    } else if MAGIC.starts_with(bytes) {
        None
    } else if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) {
        Some(NotWasm::Text)
    } else {
        Some(NotWasm::Unknown)
    }
}

/// Finds the first use of one of `features` in a valid module.
///
/// Returns the part of [`FEATURES`](crate::FEATURES) that is used, and the offset in bytes of its first use. Returns
/// `None` if the module uses none of `features`.
pub fn without(bytes: &[u8], features: &[Feature]) -> Option<(Feature, u64)> {
    let mut set = ALLOWED.difference(features.iter().map(|feature| feature.flag()).collect());
    if set == ALLOWED {
        return None;
    }
    let mut reading = Reading::default();
    let end = reading.read(bytes, set);
    let error = reading.invalid.or(match end {
        Err(End::Malformed(error)) => Some(error),
        _ => None,
    })?;
    let feature = features.iter().copied().find(|feature| {
        set = set.union(feature.flag());
        gets_past(bytes, set, error.offset())
    });
    // The module is valid with all features, so it must use one of these.
    Some((feature.or(features.first().copied())?, error.offset() as u64))
}

/// The validator's own limits, by its messages. The specification has no such limits.
const OWN_LIMITS: [(&str, DeclaredItem, u64); 4] = [
    ("string size out of bounds", DeclaredItem::NameBytes, 100_000),
    ("function params size is out of bounds", DeclaredItem::Parameters, 1_000),
    ("function returns size is out of bounds", DeclaredItem::Results, 1_000),
    ("effective type size exceeds the limit", DeclaredItem::InterfaceValues, 999_998),
];

/// Turns a validation error into a kind: too much of something, a feature outside the set, or invalid.
#[cold]
fn explain(bytes: &[u8], error: wasmparser::Error) -> Error {
    let offset = error.offset() as u64;
    if let Some((_, item, limit)) = OWN_LIMITS.iter().find(|(words, ..)| error.message().contains(words)) {
        return Error::with_source(ErrorKind::TooMany { item: *item, limit: *limit }, error);
    }
    let feature = error.missing_wasm_feature().and_then(refused);
    let kind = match feature.or_else(|| feature_by_trial(bytes, error.offset())) {
        Some(feature) => ErrorKind::UnsupportedFeature { feature, offset },
        None => ErrorKind::Malformed { offset },
    };
    Error::with_source(kind, error)
}

/// Returns the name of a feature outside the set.
fn refused(missing: WasmFeatures) -> Option<&'static str> {
    REFUSED.iter().find(|(flag, _)| flag.intersects(missing)).map(|(_, name)| *name)
}

/// Returns whether the validator gets past an offset with these features.
fn gets_past(bytes: &[u8], features: WasmFeatures, offset: usize) -> bool {
    let mut reading = Reading::default();
    match reading.read(bytes, features) {
        _ if reading.invalid.is_some() => reading.invalid.is_some_and(|error| error.offset() > offset),
        Err(End::Malformed(error)) => error.offset() > offset,
        Err(End::Truncated { offset: end, .. }) => end > offset as u64,
        Ok(()) => true,
    }
}

/// Finds the feature that was used by validating again.
///
/// The validator does not always know which feature is missing. This validates with ever more of [`REFUSED`], in order.
/// The feature that first gets the validator past the offset is the one that was used.
#[cold]
fn feature_by_trial(bytes: &[u8], offset: usize) -> Option<&'static str> {
    let everything = REFUSED.iter().fold(ALLOWED, |set, (flag, _)| set.union(*flag));
    if !gets_past(bytes, everything, offset) {
        return None;
    }
    let mut set = ALLOWED;
    REFUSED
        .iter()
        .find(|(flag, _)| {
            set = set.union(*flag);
            gets_past(bytes, set, offset)
        })
        .map(|(_, name)| *name)
}
