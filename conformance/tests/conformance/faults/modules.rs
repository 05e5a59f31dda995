//! Faults in which modules are refused, and in what the errors say.

use mistletoe::ErrorKind::{self, Module};
use mistletoe::module::{DeclaredItem, ErrorKind as ModuleError, NotWasm};
use mistletoe::types::Problem;

use super::without;
use crate::faulty::{Fault, SOUND, Step};

pub(super) static FAULTS: &[Fault] = &[
    // Modules.
    Fault {
        name: "tells-the-first-problem-only",
        error: |error| match error {
            ErrorKind::Interface { mut problems } => {
                problems.truncate(1);
                ErrorKind::Interface { problems }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-first-import-only",
        error: |error| match error {
            ErrorKind::Interface { mut problems } => {
                let mut imports = 0;
                problems.retain(|problem| {
                    !matches!(problem, Problem::UnknownImport { .. }) || {
                        imports += 1;
                        imports == 1
                    }
                });
                ErrorKind::Interface { problems }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "ignores-unknown-imports",
        refuse: |error| without(error, |problem| matches!(problem, Problem::UnknownImport { .. })),
        ..SOUND
    },
    Fault {
        name: "ignores-imports-of-wasi",
        refuse: |error| {
            without(error, |problem| match problem {
                Problem::UnknownImport { module, .. } => module.starts_with("wasi"),
                _ => false,
            })
        },
        ..SOUND
    },
    Fault {
        name: "ignores-a-mistyped-initialize",
        refuse: |error| {
            without(error, |problem| match problem {
                Problem::MistypedExport { export, .. } => export == Step::Initialize.export(),
                _ => false,
            })
        },
        ..SOUND
    },
    Fault {
        name: "ignores-types-of-exports",
        refuse: |error| {
            without(error, |problem| match problem {
                Problem::MistypedExport { expected, found, .. } => expected.kind() == found.kind(),
                _ => false,
            })
        },
        ..SOUND
    },
    Fault {
        name: "ignores-kinds-of-exports",
        refuse: |error| {
            without(error, |problem| match problem {
                Problem::MistypedExport { expected, found, .. } => expected.kind() != found.kind(),
                _ => false,
            })
        },
        ..SOUND
    },
    Fault {
        name: "takes-an-export-of-another-kind-for-a-missing-one",
        error: |error| match error {
            ErrorKind::Interface { problems } => {
                let missing = |problem| match problem {
                    Problem::MistypedExport { export, expected, found } if expected.kind() != found.kind() => {
                        Problem::MissingExport { export, expected }
                    }
                    other => other,
                };
                ErrorKind::Interface { problems: problems.into_iter().map(missing).collect() }
            }
            other => other,
        },
        ..SOUND
    },
    Fault { name: "needs-no-memory", refuse: |error| without_missing(error, "memory"), ..SOUND },
    Fault { name: "needs-no-info", refuse: |error| without_missing(error, Step::Info.export()), ..SOUND },
    Fault { name: "needs-no-alloc", refuse: |error| without_missing(error, Step::Alloc.export()), ..SOUND },
    Fault { name: "needs-no-dealloc", refuse: |error| without_missing(error, Step::FreeInput.export()), ..SOUND },
    Fault { name: "needs-no-generate", refuse: |error| without_missing(error, Step::Generate.export()), ..SOUND },
    Fault {
        name: "lists-imports-first",
        error: |error| match error {
            ErrorKind::Interface { mut problems } => {
                problems.sort_by_key(|problem| !matches!(problem, Problem::UnknownImport { .. }));
                ErrorKind::Interface { problems }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "accepts-any-feature",
        refuse: |error| Some(error).filter(|error| !matches!(error, Module(ModuleError::UnsupportedFeature { .. }))),
        ..SOUND
    },
    Fault { name: "accepts-relaxed-simd", refuse: |error| with_feature(error, "relaxed-simd"), ..SOUND },
    Fault { name: "accepts-threads", refuse: |error| with_feature(error, "threads"), ..SOUND },
    Fault { name: "accepts-tail-call", refuse: |error| with_feature(error, "tail-call"), ..SOUND },
    Fault { name: "accepts-multi-memory", refuse: |error| with_feature(error, "multi-memory"), ..SOUND },
    Fault { name: "accepts-memory64", refuse: |error| with_feature(error, "memory64"), ..SOUND },
    Fault { name: "accepts-exception-handling", refuse: |error| with_feature(error, "exception-handling"), ..SOUND },
    Fault {
        name: "accepts-legacy-exception-handling",
        refuse: |error| with_feature(error, "legacy-exception-handling"),
        ..SOUND
    },
    Fault { name: "accepts-function-references", refuse: |error| with_feature(error, "function-references"), ..SOUND },
    Fault { name: "accepts-gc", refuse: |error| with_feature(error, "gc"), ..SOUND },
    Fault { name: "accepts-custom-page-sizes", refuse: |error| with_feature(error, "custom-page-sizes"), ..SOUND },
    Fault { name: "accepts-stack-switching", refuse: |error| with_feature(error, "stack-switching"), ..SOUND },
    Fault { name: "accepts-wide-arithmetic", refuse: |error| with_feature(error, "wide-arithmetic"), ..SOUND },
    Fault {
        name: "takes-unsupported-features-for-malformed-modules",
        error: |error| match error {
            Module(ModuleError::UnsupportedFeature { offset, .. }) => Module(ModuleError::Malformed { offset }),
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "names-every-feature-relaxed-simd",
        error: |error| match error {
            Module(ModuleError::UnsupportedFeature { offset, .. }) => {
                Module(ModuleError::UnsupportedFeature { feature: "relaxed-simd", offset })
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-offset-of-a-feature-behind-the-header",
        error: |error| match error {
            Module(ModuleError::UnsupportedFeature { feature, offset }) => {
                Module(ModuleError::UnsupportedFeature { feature, offset: offset.saturating_sub(8) })
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-a-malformed-offset-behind-the-header",
        error: |error| match error {
            Module(ModuleError::Malformed { offset }) => {
                Module(ModuleError::Malformed { offset: offset.saturating_sub(8) })
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "accepts-malformed-modules",
        refuse: |error| Some(error).filter(|error| !matches!(error, Module(ModuleError::Malformed { .. }))),
        ..SOUND
    },
    Fault {
        name: "takes-truncated-modules-for-malformed-ones",
        error: |error| match error {
            Module(ModuleError::Truncated { offset, .. }) => Module(ModuleError::Malformed { offset }),
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "miscounts-what-is-missing",
        error: |error| match error {
            Module(ModuleError::Truncated { offset, missing }) => {
                Module(ModuleError::Truncated { offset, missing: missing + 1 })
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-all-that-is-no-module-for-malformed",
        error: |error| match error {
            Module(ModuleError::NotAModule { .. }) => Module(ModuleError::Malformed { offset: 0 }),
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-components-for-another-version",
        error: |error| other_found(error, NotWasm::Component, NotWasm::Version),
        ..SOUND
    },
    Fault {
        name: "takes-text-for-unknown-bytes",
        error: |error| other_found(error, NotWasm::Text, NotWasm::Unknown),
        ..SOUND
    },
    Fault {
        name: "takes-empty-files-for-unknown-bytes",
        error: |error| other_found(error, NotWasm::Empty, NotWasm::Unknown),
        ..SOUND
    },
    Fault {
        name: "takes-unknown-bytes-for-text",
        error: |error| other_found(error, NotWasm::Unknown, NotWasm::Text),
        ..SOUND
    },
    Fault { name: "counts-no-imports", refuse: |error| uncounted(error, DeclaredItem::Imports), ..SOUND },
    Fault { name: "counts-no-tables", refuse: |error| uncounted(error, DeclaredItem::Tables), ..SOUND },
    Fault { name: "counts-no-elements", refuse: |error| uncounted(error, DeclaredItem::TableElements), ..SOUND },
    Fault { name: "counts-no-frames", refuse: |error| uncounted(error, DeclaredItem::FrameValues), ..SOUND },
    Fault {
        name: "compiles-when-a-session-is-opened",
        // Only the first session reports what is wrong with a module.
        refuse: |_| None,
        ..SOUND
    },
];

fn other_found(error: ErrorKind, from: NotWasm, to: NotWasm) -> ErrorKind {
    match error {
        Module(ModuleError::NotAModule { found }) if found == from => Module(ModuleError::NotAModule { found: to }),
        other => other,
    }
}

fn without_missing(error: ErrorKind, name: &str) -> Option<ErrorKind> {
    without(error, |problem| matches!(problem, Problem::MissingExport { export, .. } if export == name))
}

/// Accepts modules that use a feature.
fn with_feature(error: ErrorKind, name: &str) -> Option<ErrorKind> {
    Some(error)
        .filter(|error| !matches!(error, Module(ModuleError::UnsupportedFeature { feature, .. }) if *feature == name))
}

/// Accepts modules with too many of an item.
fn uncounted(error: ErrorKind, which: DeclaredItem) -> Option<ErrorKind> {
    Some(error).filter(|error| !matches!(error, Module(ModuleError::TooMany { item, .. }) if *item == which))
}
