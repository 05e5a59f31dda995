//! Other layers over engines, with the interface of the hosts.

use mistletoe::{Imports, Limits, Wasmtime};
use mistletoe_benches::baseline::wasmtime::Settings;
use mistletoe_benches::peers::{extism, wapc, wasm_runtime_layer};
use wapc_protocol::{Call, Guest, Session, Wapc};
use wasm_runtime_layer::WasmEngine;

use crate::hosts::{Host, Live, Loaded, Offer, runs};

/// Returns the peers for one engine, by name.
///
/// Two of them have protocols of their own, and therefore guests of their own. One of these guests runs on the layer,
/// too: its protocol takes one call where that of packages takes four.
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
        hosts.push(("static, waPC's guest", Box::new(Same(Wasmtime::new().expect("an engine")))));
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

/// The layer with the guest and the protocol of waPC.
struct Same(Wasmtime);

impl Host for Same {
    fn load(&self, _: &[u8]) -> Box<dyn Loaded> {
        let protocol = Wapc::new(|call| Err(format!("there is no {}", call.operation)));
        let (guest, imports) = (assembled(wapc::ECHO), Imports::new());
        let guest = Guest::<Wasmtime>::with_protocol(protocol, &self.0, &guest, &imports, Limits::unlimited());
        Box::new(guest.expect("a guest"))
    }
}

impl Loaded for Guest<Wasmtime> {
    fn open(&self) -> Box<dyn Live> {
        Box::new(self.session().expect("a session"))
    }

    fn answer(&self, input: &str) -> String {
        self.session().expect("a session").answer(input)
    }
}

impl Live for Session<Wasmtime> {
    fn answer(&mut self, input: &str) -> String {
        let response = self.call(Call { operation: "echo", payload: input.as_bytes() }).expect("an answer");
        String::from_utf8(response.expect("no error")).expect("text")
    }
}
