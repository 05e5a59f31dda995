//! The WebAssembly features that guests may use.

use wasmparser::WasmFeatures;

/// The WebAssembly features that guests may use, by the names of their proposals. All others are refused.
///
/// The set is all of WebAssembly 2.0, and extended constant expressions of 3.0. An engine may lack some of them: see
/// [`without`](crate::without).
pub const FEATURES: [&str; 8] = [
    "mutable-global",
    "nontrapping-float-to-int-conversions",
    "sign-extension-ops",
    "multi-value",
    "bulk-memory-operations",
    "reference-types",
    "simd",
    "extended-const",
];

/// The validator's flag of each of [`FEATURES`], in the same order.
pub(crate) const FLAGS: [WasmFeatures; 8] = [
    WasmFeatures::MUTABLE_GLOBAL,
    WasmFeatures::SATURATING_FLOAT_TO_INT,
    WasmFeatures::SIGN_EXTENSION,
    WasmFeatures::MULTI_VALUE,
    WasmFeatures::BULK_MEMORY,
    WasmFeatures::REFERENCE_TYPES,
    WasmFeatures::SIMD,
    WasmFeatures::EXTENDED_CONST,
];

/// [`FEATURES`] as the validator's flags.
pub(crate) const ALLOWED: WasmFeatures = {
    let mut all = WasmFeatures::MVP;
    let mut i = 0;
    while i < FLAGS.len() {
        all = all.union(FLAGS[i]);
        i += 1;
    }
    all
};

/// A part of [`FEATURES`] that an engine may lack: see [`without`](crate::without).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Vectors: the proposal `simd`.
    Simd,
    /// The proposal `reference-types`.
    ReferenceTypes,
    /// The type `externref`, one part of the proposal `reference-types`.
    Externref,
}

impl Feature {
    /// All features of this type.
    pub const ALL: [Self; 3] = [Self::Simd, Self::ReferenceTypes, Self::Externref];

    /// Returns the name that [`UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature) gives the feature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simd => "simd",
            Self::ReferenceTypes => "reference-types",
            Self::Externref => "externref",
        }
    }

    pub(crate) const fn flag(self) -> WasmFeatures {
        match self {
            Self::Simd => WasmFeatures::SIMD,
            Self::ReferenceTypes => WasmFeatures::REFERENCE_TYPES,
            // Without this flag the validator refuses `externref`, and nothing else of `FEATURES`.
            Self::Externref => WasmFeatures::GC_TYPES,
        }
    }
}

/// Features outside [`FEATURES`] that can be told apart, by the names of their proposals.
///
/// A feature comes after those that it depends on.
pub(crate) const REFUSED: [(WasmFeatures, &str); 16] = [
    (WasmFeatures::RELAXED_SIMD, "relaxed-simd"),
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything-threads"),
    (WasmFeatures::TAIL_CALL, "tail-call"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::EXCEPTIONS, "exception-handling"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy-exception-handling"),
    (WasmFeatures::FUNCTION_REFERENCES, "function-references"),
    (WasmFeatures::GC, "gc"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom-descriptors"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom-page-sizes"),
    (WasmFeatures::STACK_SWITCHING, "stack-switching"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide-arithmetic"),
    (WasmFeatures::MEMORY_CONTROL, "memory-control"),
    (WasmFeatures::COMPACT_IMPORTS, "compact-import-section"),
];
