//! Other layers over engines, each used as its documentation recommends, with its options for speed.
//!
//! They have the same structure as the hosts in `baseline`: a `Host` that compiles, a `Package` and a `Session`.
//!
//! `wasm_runtime_layer` calls the packages' own exports. `wapc` and `extism` prescribe the protocol between guest and
//! host, so they run guests written for it, which output their input as `conformance/fixtures/protocol/echo.wat` does.

pub mod extism;
pub mod wapc;
pub mod wasm_runtime_layer;

pub use crate::baseline::Result;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::wasmtime::Settings;

    #[test]
    fn the_guests_hand_back_texts_of_all_lengths() {
        let wasm = |text: &str| wat::parse_str(text).expect("the guest assembles");
        for pooling in [false, true] {
            let settings = Settings { pooling, ..Settings::default() };
            let wapc = wapc::Host::new(settings).and_then(|host| host.compile(&wasm(wapc::ECHO))).expect("a package");
            let extism = extism::Host::new(pooling).compile(&wasm(extism::ECHO)).expect("a package");
            let (mut wapc, mut extism) = (wapc.session().expect("a session"), extism.session().expect("a session"));
            for length in [0, 1, 7, 8, 9, 4_095, 65_535, 65_536, 65_541, 4 << 20, 3] {
                let input: String = ('!'..='~').cycle().take(length).collect();
                assert!(wapc.generate(&input).is_ok_and(|output| output == input), "waPC, {length}");
                assert!(extism.generate(&input).is_ok_and(|output| output == input), "Extism, {length}");
            }
        }
    }
}
