//! What the macros use.

pub use alloc::string::String;
pub use alloc::vec::Vec;

pub use crate::info::Info;
#[cfg(target_family = "wasm")]
pub use crate::memory::{Text, info, output};
pub use crate::memory::{allocate, allocate_sized, bytes, free, free_sized, input};
#[cfg(target_family = "wasm")]
pub use crate::middleware::Instance;
pub use crate::output::Output;
#[cfg(target_family = "wasm")]
pub use crate::panic::{panicked, start, trap};
#[cfg(target_family = "wasm")]
pub use crate::scheduler::Instance as SchedulerInstance;

/// Calls the function of a package that takes a string.
#[inline]
pub fn identity<'a, O: Output>(generate: impl FnOnce(&'a str) -> O, input: &'a str) -> String {
    generate(input).into_output()
}

/// Calls the function of a package that takes a value.
#[cfg(feature = "serde")]
#[inline]
pub fn typed<'a, I: serde::Deserialize<'a>, O: Output>(generate: impl FnOnce(I) -> O, input: &'a str) -> String {
    match crate::yaml::de::input(input) {
        Ok(input) => generate(input).into_output(),
        Err(error) => Err::<crate::Files, _>(error).into_output(),
    }
}

/// Returns the output of a package whose function panicked.
pub fn from_panic<I, O: Output>(_generate: impl FnOnce(I) -> O, message: &str) -> Option<String> {
    O::from_panic(message)
}

/// Reports a panic of a plugin.
pub fn report(message: &str) {
    crate::plugin::eprint(alloc::format!("{message}\n"));
}

/// Installs the log of a package or plugin.
#[cfg(target_family = "wasm")]
#[inline]
pub fn install_log() {
    #[cfg(feature = "log")]
    crate::log::install();
}

/// Returns the schema of what the function of a package takes.
#[cfg(feature = "schema")]
pub fn schema_of<I: schemars::JsonSchema, O>(_generate: impl FnOnce(I) -> O) -> schemars::Schema {
    schemars::schema_for!(I)
}
