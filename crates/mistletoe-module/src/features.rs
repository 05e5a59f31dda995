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

/// [`FEATURES`] as the validator's flags.
pub(crate) const ALLOWED: WasmFeatures = WasmFeatures::MVP
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::EXTENDED_CONST);

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
