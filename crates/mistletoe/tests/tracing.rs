//! The spans that the feature `tracing` adds, on every engine that is built in.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use mistletoe::{AnyPackage, Caller, Imports, Limits, Result};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const PACKAGE: &str = r#"(module
    (import "env" "back" (func $back))
    (func (export "called_back"))
    (memory (export "memory") 1)
    ;; 2 units: a constant and `drop`.
    (func (export "_initialize") (drop (i32.const 0)))
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32)
        (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 98)) (then (call $back)))
        (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 116)) (then (unreachable)))
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))"#;

/// A span with its fields, and how many are around it.
#[derive(Clone, Debug, Default)]
struct Span {
    name: &'static str,
    depth: usize,
    fields: BTreeMap<&'static str, String>,
}

/// Keeps all spans in the order in which they were made.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<(Vec<Span>, usize)>>);

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "mistletoe"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let (spans, depth) = &mut *self.0.lock().expect("no panic");
        let mut new = Span { name: span.metadata().name(), depth: *depth, ..Span::default() };
        span.record(&mut new);
        spans.push(new);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let (spans, _) = &mut *self.0.lock().expect("no panic");
        values.record(&mut spans[span.into_u64() as usize - 1]);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {
        self.0.lock().expect("no panic").1 += 1;
    }

    fn exit(&self, _: &Id) {
        self.0.lock().expect("no panic").1 -= 1;
    }
}

impl Recorder {
    /// Each span as one line: its depth, name and fields, but for the times, which are only counted.
    fn take(&self) -> Vec<String> {
        let (spans, depth) = &mut *self.0.lock().expect("no panic");
        assert_eq!(*depth, 0, "all spans are over");
        let line = |span: Span| {
            let mut fields = span.fields;
            let time = fields.remove("duration_us").expect("every span has its time");
            time.parse::<u64>().expect("microseconds");
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}{} {}", "  ".repeat(span.depth), span.name, fields.join(" "))
        };
        std::mem::take(spans).into_iter().map(line).collect()
    }
}

#[test]
fn what_happens_is_seen_with_engine_export_fuel_and_time() {
    let wasm = wat::parse_str(PACKAGE).expect("it assembles");
    let mut imports = Imports::<()>::new();
    imports.func("env", "back", |caller: &mut Caller<'_, ()>| -> Result<()> {
        let back = caller.get_func::<(), ()>("called_back")?;
        caller.call(&back, ())
    });
    for name in mistletoe::backends().iter().filter(|info| info.is_enabled()).map(|info| info.name()) {
        let backend = mistletoe::backend(name).expect("a backend");
        let recorder = Recorder::default();
        tracing::subscriber::with_default(recorder.clone(), || {
            let limits = Limits::default().with_fuel(1_000);
            let package = AnyPackage::<()>::with_imports(&backend, &wasm, &imports, limits).expect("a package");
            assert_eq!(recorder.take(), [format!("compile bytes={} engine={name}", wasm.len())]);

            let mut session = package.session().expect("a session");
            assert_eq!(
                recorder.take(),
                [format!("instantiate engine={name} fuel=2"), format!("  export engine={name} export=_initialize")]
            );

            assert_eq!(session.generate("x").expect("an answer"), "x");
            let fuel = session.fuel_used().expect("it can be asked for").expect("it is counted");
            assert_eq!(
                recorder.take(),
                [
                    format!("call engine={name} fuel={fuel}"),
                    format!("  export engine={name} export=__mistletoe_alloc"),
                    format!("  export engine={name} export=__mistletoe_generate"),
                    // The input, and the answer.
                    format!("  export engine={name} export=__mistletoe_dealloc"),
                    format!("  export engine={name} export=__mistletoe_dealloc"),
                ]
            );

            session.generate("back").expect("an answer");
            let nested = format!("    export engine={name} export=called_back");
            assert_eq!(recorder.take().get(3), Some(&nested), "a host function calls back");

            let error = session.generate("trap").expect_err("a trap");
            let spans = recorder.take();
            assert_eq!(spans[2], format!("  export engine={name} error={error} export=__mistletoe_generate"));
            assert!(spans[0].starts_with(&format!("call engine={name} error={error}")), "{spans:?}");
        });
    }
    // A module that is refused.
    let backend = mistletoe::backend("wasmi").expect("a backend");
    let recorder = Recorder::default();
    tracing::subscriber::with_default(recorder.clone(), || {
        let invalid = wat::parse_str(PACKAGE.replace("(i32.const 116)", "(i64.const 116)")).expect("it assembles");
        let invalidated = AnyPackage::with_imports(&backend, &invalid, &imports, Limits::default());
        let error = invalidated.expect_err("it is invalid");
        assert_eq!(recorder.take(), [format!("compile bytes={} engine=wasmi error={error}", invalid.len())]);
        // And one whose imports nobody offers, which no engine sees.
        let error = AnyPackage::new(&backend, &wasm).expect_err("it imports what there is not");
        assert_eq!(recorder.take(), [format!("compile bytes={} engine=wasmi error={error}", wasm.len())]);
    });
}
