//! Other layers over engines, with the interface of the hosts.

use mistletoe_benches::baseline::wasmtime::Settings;
use mistletoe_benches::peers::{extism, wapc, wasm_runtime_layer};
use wasm_runtime_layer::WasmEngine;

use crate::hosts::{Host, Live, Loaded, Offer, runs};

/// Returns the peers for one engine, by name.
///
/// Two of them have protocols of their own, and therefore guests of their own.
pub(crate) fn hosts(engine: &str, offer: Offer, pooling: bool) -> Vec<(&'static str, Box<dyn Host>)> {
    let mut hosts: Vec<(_, Box<dyn Host>)> = Vec::new();
    let settings = Settings { pooling, ..Settings::default() };
    match (engine, offer) {
        ("wasmtime", Offer::Nothing | Offer::Echo) => {
            let host = wasm_runtime_layer::wasmtime(settings).expect("an engine");
            hosts.push(("wasm_runtime_layer", Box::new(host)));
        }
        ("wasmi", Offer::Nothing | Offer::Echo) => {
            hosts.push(("wasm_runtime_layer", Box::new(wasm_runtime_layer::wasmi())));
        }
        _ => {}
    }
    if let ("wasmtime", Offer::Echo) = (engine, offer) {
        let wapc = Own { host: wapc::Host::new(settings).expect("an engine"), guest: assembled(wapc::ECHO) };
        let extism = Own { host: extism::Host::new(pooling), guest: assembled(extism::ECHO) };
        hosts.push(("waPC", Box::new(wapc)));
        hosts.push(("Extism", Box::new(extism)));
    }
    hosts
}

fn assembled(guest: &str) -> Vec<u8> {
    wat::parse_str(guest).expect("the guest assembles")
}

impl<E: WasmEngine + Sync> Host for wasm_runtime_layer::Host<E> {
    fn load(&self, wasm: &[u8]) -> Box<dyn Loaded> {
        Box::new(self.compile(wasm).expect("a package"))
    }
}

runs!([E: WasmEngine + Sync] wasm_runtime_layer::Package<E>, wasm_runtime_layer::Session<E>);

/// A host that runs its own guest in place of the package.
struct Own<H> {
    host: H,
    guest: Vec<u8>,
}

macro_rules! own {
    ($($peer:ident)*) => {$(
        impl Host for Own<$peer::Host> {
            fn load(&self, _: &[u8]) -> Box<dyn Loaded> {
                Box::new(self.host.compile(&self.guest).expect("a guest"))
            }
        }

        runs!([] $peer::Package, $peer::Session);
    )*};
}

own!(wapc extism);
