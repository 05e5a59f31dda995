//! Reads, validates and meters WebAssembly modules, for any engine.
//!
//! [`instrument`] takes a module's bytes and returns those that an engine compiles. They are valid within one set of
//! [features](FEATURES), and bounded in what they declare and in what compiling them can cost. The limits of a
//! [`Config`] are instrumented into the code: fuel, a deadline check, the stack depth, the size of memory and tables.
//! So every engine limits a guest in the same way, and a guest uses the same amount of fuel on every engine.
//! [`inspect`] lists what a module imports and exports, even if the module is broken. [`analyse`] says what a valid
//! module is made of.
//!
//! ```text
//!  bytes ──► read ──────────────────────────────► rewrite ──► bytes for an engine
//!            validates, lists (listing), counts    sections: limits, start,
//!            what compiling costs (cost), and      memory, exports, the
//!            meters functions' bodies (meter)      metered bodies
//! ```
//!
//! # Example
//!
//! A guest that counts, and that is terminated when it has used too much fuel. `examples/meter.rs` runs it on an
//! engine.
//!
//! ```
//! use mistletoe_module::{Config, instrument};
//!
//! let wasm = wat::parse_str("(module (func (export \"run\") (loop (br 0))))")?;
//! let module = instrument(&wasm, &Config::default().fuel(true))?;
//! assert_eq!(module.interface().exports.len(), 1);
//! // Larger by what counts, and with an export that answers how much fuel is left.
//! assert!(module.bytes().len() > wasm.len());
//! assert!(module.internal_exports().fuel.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod analysis;
mod binary;
mod calls;
mod check;
mod config;
mod cost;
pub mod declared;
pub mod display;
#[cfg(feature = "debug-info")]
mod dwarf;
mod error;
mod features;
mod instrument;
pub mod interface;
mod listing;
mod meter;
mod read;
mod rewrite;
mod state;
pub mod symbols;
pub mod types;

pub use analysis::{Analysis, Section, analyse};
pub use check::{Inspection, inspect, without};
pub use config::Config;
pub use error::{CompileCost, DeclaredItem, Error, ErrorKind, NotWasm, Result};
pub use features::{FEATURES, Feature};
pub use instrument::{Instrumented, instrument, skim};
pub use interface::Interface;
pub use meter::TURNS;
pub use rewrite::{ENTER, InternalExports, MODULE, OVERFLOW, TICK};

/// Identifies the exact version of this crate's source.
///
/// Code that was compiled from an instrumented module can be used only while this value is the same.
pub const SOURCE: &str = env!("MISTLETOE_SOURCE");
