//! Instrumentation leaves a module valid, with the same interface.
//!
//! Tests the module of every case, with every combination of counters.

use std::sync::Mutex;

use mistletoe::module::{Config, ErrorKind, instrument};
use mistletoe::{Error, Operation, Result};
use mistletoe_conformance::cases;
use mistletoe_conformance::host::{Host, HostPackage};
use mistletoe_conformance::setup::Setup;

/// Instruments each module, and opens no session. Counts the valid modules.
#[derive(Default)]
struct Instrumenting(Mutex<u32>);

impl Host for Instrumenting {
    fn name(&self) -> &str {
        "instrumenting"
    }

    fn load(&self, wasm: &[u8], _: &Setup) -> Result<Box<dyn HostPackage>> {
        let plain = instrument(wasm, &Config::default())?;
        for config in configs() {
            let module = match instrument(wasm, &config) {
                Ok(module) => module,
                // Only the layer imports the counters.
                Err(error) if *error.kind() == ErrorKind::ReservedImport => return Err(error.into()),
                Err(error) => panic!("valid before: {error}"),
            };
            assert_eq!(module.interface(), plain.interface());
            match instrument(module.bytes(), &Config::default()).map_err(|error| error.kind().clone()) {
                // The instrumentation can exceed the limits of a module that is already full.
                Ok(_) | Err(ErrorKind::TooMany { .. }) => {}
                Err(error) => panic!("{config:?}: {error:?}"),
            }
        }
        *self.0.lock().expect("no panic") += 1;
        Err(Error::engine(Operation::Instantiate, "there is no engine"))
    }
}

fn configs() -> impl Iterator<Item = Config> {
    (1..16).map(|bits| {
        Config::default()
            .memory_pages(65_536)
            .fuel(bits & 1 != 0)
            .deadline(bits & 2 != 0)
            .stack((bits & 4 != 0).then_some(1_000))
            .backtrace(bits & 8 != 0)
    })
}

#[test]
fn whatever_is_put_in_leaves_a_valid_module_with_the_same_interface() {
    let host = Instrumenting::default();
    for case in cases().expect("cases") {
        // Names the case if the test fails.
        println!("{case}");
        case.observe(&host).expect("it comes to the same each time");
    }
    let modules = *host.0.lock().expect("no panic");
    assert!(modules > 500, "{modules}");
}
