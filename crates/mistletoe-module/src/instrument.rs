//! Turns a module's bytes into those that an engine compiles.

use std::borrow::Cow;

use crate::check::list;
use crate::config::Config;
use crate::declared::PAGE;
use crate::error::{DeclaredItem, ErrorKind, Result};
use crate::features::ALLOWED;
use crate::interface::Interface;
use crate::listing::Listing;
use crate::read::Reading;
use crate::rewrite::{InternalExports, MODULE, rewrite};

/// A valid core module, instrumented as a [`Config`] says. Only [`instrument`] creates one.
///
/// The module is valid by the WebAssembly specification within [`FEATURES`](crate::FEATURES).
#[derive(Clone, Debug)]
pub struct Instrumented<'a> {
    bytes: Cow<'a, [u8]>,
    interface: Interface,
    internal: InternalExports,
}

/// Reads and validates a module, and instruments it as `config` says.
///
/// Every module is changed as follows: its tables get maxima, so that `table.grow` returns -1 when a table is full; a
/// start function becomes an export; an imported memory becomes the module's own. Counters are in globals that the
/// guest cannot reach.
///
/// The host instantiates [`bytes`](Instrumented::bytes) with the module's own imports and, if the configuration
/// [meters](Config::is_metered), with functions of the module [`MODULE`](crate::MODULE):
///
/// - [`TICK`](crate::TICK), `[i64] -> [i64]`: the fuel counter is spent. It counts fuel, or turns of code for a
///   deadline. The parameter is the counter, below 0. The function returns the new value of the counter, or traps. The
///   counter starts at 0, so that the guest ticks at its first check.
/// - [`OVERFLOW`](crate::OVERFLOW), `[i64] -> []`: the stack is too deep. The parameter is the remaining stack depth,
///   below 0. The function traps.
/// - [`ENTER`](crate::ENTER), `[i32 i32 i32] -> []`, if the stack is [recorded](Config::backtrace): a function begins.
///   The parameters are its index in the original module, the offset in the original module at which its caller is, and
///   the number of functions that have begun before and not returned. The offset means nothing if that number is 0.
///
/// Then the host calls [`InternalExports::start`], if there is one. With [`InternalExports::save`] and
/// [`InternalExports::load`] another instance can begin where this one is.
///
/// # Errors
///
/// Any [`ErrorKind`].
pub fn instrument<'a>(bytes: &'a [u8], config: &Config) -> Result<Instrumented<'a>> {
    let config = &config.clamped();
    let length = bytes.len() as u64;
    if length > config.max_length {
        return Err(ErrorKind::TooLarge { limit: config.max_length, length }.into());
    }
    let (listing, code, invalid) = list(bytes, config.metering());
    if let Some(error) = invalid {
        return Err(error);
    }
    if listing.tables.iter().any(|table| table.minimum > config.table_elements) {
        return Err(ErrorKind::TooMany { item: DeclaredItem::TableElements, limit: config.table_elements }.into());
    }
    if let (Some(pages), Some(memory)) = (config.memory_pages, listing.memories.first())
        && memory.minimum > pages
    {
        return Err(ErrorKind::TooMuchMemory { limit: pages * PAGE, memory: memory.minimum * PAGE }.into());
    }
    if config.is_metered() && listing.interface.imports.iter().any(|import| import.module == MODULE) {
        return Err(ErrorKind::ReservedImport.into());
    }
    let (bytes, internal) = rewrite(bytes, &listing, config, code);
    Ok(Instrumented { bytes, interface: listing.interface, internal })
}

/// Lists a module that was instrumented before, without reading its code and data.
///
/// Returns the [interface](Instrumented::interface) and the [internal exports](Instrumented::internal_exports) that
/// [`instrument`] gave for the same module and the same configuration. Nothing is validated. Returns `None` if the
/// module is longer than the configuration allows, or if its sections cannot be read or declare too much.
pub fn skim(bytes: &[u8], config: &Config) -> Option<(Interface, InternalExports)> {
    if bytes.len() as u64 > config.max_length {
        return None;
    }
    let mut listing = Listing::default();
    let mut reading = Reading { listing: Some(&mut listing), skims: true, ..Reading::default() };
    let complete = reading.read(bytes, ALLOWED).is_ok() && reading.invalid.is_none() && reading.refused.is_none();
    if !complete || listing.excess.is_some() {
        return None;
    }
    listing.own_memory();
    let internal = InternalExports::new(&listing, config);
    Some((listing.interface, internal))
}

impl Instrumented<'_> {
    /// Returns the module in the binary format, for an engine to compile.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what the module imports and exports, without the injected items.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Returns the injected exports.
    pub fn internal_exports(&self) -> &InternalExports {
        &self.internal
    }

    /// Returns the same module with owned bytes.
    pub fn into_owned(self) -> Instrumented<'static> {
        Instrumented { bytes: Cow::Owned(self.bytes.into_owned()), interface: self.interface, internal: self.internal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::{body, leb128};
    use crate::config::Metering;
    use crate::declared::{MAX_BODY, MAX_EXPORTS, MAX_FUNCTIONS, MAX_GLOBALS, MAX_TYPES};
    use crate::inspect;

    fn check(wasm: &[u8]) -> Result<Instrumented<'_>> {
        instrument(wasm, &Config::default())
    }

    #[test]
    fn custom_sections_in_a_row_are_listed_as_one() {
        let mut bytes = wat::parse_str("(module (memory 1) (func))").expect("a module");
        let own = list(&bytes, Metering::default()).0.sections.len();
        bytes.extend([0, 1, 0].repeat(100_000));
        assert_eq!(list(&bytes, Metering::default()).0.sections.len(), own + 1);
        let instrumented = instrument(&bytes, &Config::default().fuel(true)).expect("a module");
        assert!(instrumented.bytes().len() < 1_000, "{}", instrumented.bytes().len());
        assert_eq!(instrument(&bytes, &Config::default()).expect("a module").bytes(), bytes);
    }

    #[test]
    fn every_table_gets_a_maximum_and_the_rest_of_the_module_stays() {
        let wasm = wat::parse_str(
            r#"(module (memory 1) (table 0 funcref) (table 1 externref) (table 200 300 funcref) (table 1 0xffffffff funcref)
                (func (export "f")) (elem (i32.const 2) func 0) (data (i32.const 0) "x"))"#,
        );
        let wasm = wasm.expect("a module");
        let module = check(&wasm).expect("valid");
        let read_back = check(module.bytes()).expect("still valid");
        assert_eq!(read_back.bytes(), module.bytes(), "bounding twice changes nothing");
        let (listing, _, invalid) = list(module.bytes(), Metering::default());
        assert!(invalid.is_none());
        let maxima: Vec<_> = listing.tables.iter().map(|table| table.maximum).collect();
        assert_eq!(maxima, [Some(1_000_000), Some(1_000_000), Some(300), Some(1_000_000)]);
        let without_tables = |bytes: &[u8]| {
            let sections = list(bytes, Metering::default()).0.sections;
            let others = sections.into_iter().filter(|section| section.0 != 4);
            others.map(|(id, _, content)| (id, bytes[content].to_vec())).collect::<Vec<_>>()
        };
        assert_eq!(without_tables(module.bytes()), without_tables(&wasm));
    }

    /// Every combination of what can be counted.
    fn configs() -> impl Iterator<Item = Config> {
        (1..16).map(|bits: u32| {
            let stack = (bits & 4 != 0).then_some(1000);
            let counting = Config::default().fuel(bits & 1 != 0).deadline(bits & 2 != 0).stack(stack);
            counting.backtrace(bits & 8 != 0).memory_pages(65536)
        })
    }

    #[test]
    fn nobody_imports_what_counts() {
        let import = |module: &str| format!("(module (import \"{module}\" \"tick\" (func (param i64) (result i64))))");
        let reserved = wat::parse_str(import(MODULE)).expect("a module");
        for config in configs() {
            let error = instrument(&reserved, &config).map(drop).expect_err("reserved");
            assert_eq!(*error.kind(), ErrorKind::ReservedImport);
            instrument(&wat::parse_str(import("limits")).expect("a module"), &config).expect("anybody's");
        }
        check(&reserved).expect("nothing is put in");
    }

    #[test]
    fn a_configuration_beyond_what_is_valid_is_none() {
        let wasm = wat::parse_str("(module (memory 1) (table 1 funcref))").expect("a module");
        let config = Config { table_elements: u64::MAX, ..Config::default().memory_pages(u64::MAX) };
        let module = instrument(&wasm, &config).expect("valid");
        wasmparser::Validator::new_with_features(ALLOWED).validate_all(module.bytes()).expect("still valid");
    }

    #[test]
    fn more_exports_than_a_host_carries_are_refused() {
        let module = |exports: usize| {
            let exports: String = (0..exports).map(|i| format!("(export \"{i}\" (memory 0))")).collect();
            wat::parse_str(format!("(module (memory 1) {exports})")).expect("a module")
        };
        assert!(check(&module(MAX_EXPORTS)).is_ok());
        let error = check(&module(MAX_EXPORTS + 1)).expect_err("one too many");
        assert_eq!(*error.kind(), ErrorKind::TooMany { item: DeclaredItem::Exports, limit: MAX_EXPORTS as u64 });
    }

    #[test]
    fn more_functions_types_and_globals_than_a_host_carries_are_refused() {
        // A section with `count` copies of an item.
        let section = |id: u8, count: usize, item: &[u8]| {
            let mut content = Vec::new();
            leb128(&mut content, count as u64);
            (0..count).for_each(|_| content.extend_from_slice(item));
            let mut section = vec![id];
            body(&mut section, &content);
            section
        };
        let module = |types: usize, functions: usize, globals: usize| {
            let mut wasm = b"\0asm\x01\0\0\0".to_vec();
            wasm.extend(section(1, types, &[0x60, 0, 0]));
            wasm.extend(section(3, functions, &[0]));
            wasm.extend(section(6, globals, &[0x7f, 0, 0x41, 0, 0x0b]));
            // Each function has enough code to stay within the budget for compiling.
            wasm.extend(section(10, functions, &[&[32, 0][..], &[0x01; 30], &[0x0b]].concat()));
            wasm
        };
        let all = Config::default().fuel(true).deadline(true).stack(1).backtrace(true);
        let wasm = module(MAX_TYPES, MAX_FUNCTIONS, MAX_GLOBALS);
        let full = instrument(&wasm, &all).expect("as many as are allowed");
        wasmparser::Validator::new_with_features(ALLOWED).validate_all(full.bytes()).expect("still valid");
        for (wasm, item) in [
            (module(MAX_TYPES + 1, 1, 1), DeclaredItem::Types),
            (module(1, MAX_FUNCTIONS + 1, 1), DeclaredItem::Functions),
            (module(1, 1, MAX_GLOBALS + 1), DeclaredItem::Globals),
        ] {
            let error = check(&wasm).map(drop).expect_err("one too many");
            assert_eq!(*error.kind(), ErrorKind::TooMany { item, limit: 500_000 });
        }
    }

    #[test]
    fn a_function_that_outgrows_what_engines_take_is_refused() {
        // Calls to itself, the instructions that need the most code around them.
        let module = |calls: usize| {
            let mut calling = vec![0];
            (0..calls).for_each(|_| calling.extend([0x10, 0]));
            calling.push(0x0b);
            let mut code = vec![1];
            body(&mut code, &calling);
            let mut wasm = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a".to_vec();
            body(&mut wasm, &code);
            wasm
        };
        let all = Config::default().fuel(true).deadline(true).stack(1);
        let refused = |calls, config: &Config| instrument(&module(calls), config).err();
        assert!(refused(1_500_000, &Config::default()).is_none());
        assert!(refused(1_000_000, &all).is_none());
        let error = refused(1_500_000, &all).expect("too long by then");
        assert_eq!(*error.kind(), ErrorKind::TooMany { item: DeclaredItem::FunctionBytes, limit: MAX_BODY as u64 });
    }

    #[test]
    fn any_prefix_and_any_flipped_bit_is_refused_or_read_without_a_panic() {
        let wasm = wat::parse_str(include_str!("../tests/data/everything-wrong.wat"));
        let wasm = wasm.expect("a module");
        for end in 0..wasm.len() {
            // A module may end between two sections, if those that follow are not needed.
            if let Err(error) = check(&wasm[..end]) {
                assert!(!matches!(error.kind(), ErrorKind::UnsupportedFeature { .. }), "{error}");
            }
        }
        for bit in 0..wasm.len() * 8 {
            let mut wasm = wasm.clone();
            wasm[bit / 8] ^= 1 << (bit % 8);
            let _ = inspect(&wasm);
        }
    }

    #[test]
    fn with_any_flipped_bit_what_is_still_valid_stays_so_with_limits() {
        let mut valid = 0;
        for text in [
            include_str!("../tests/data/bulk-tables.wat"),
            include_str!("../tests/data/multi-value.wat"),
            include_str!("../tests/data/reference-functions.wat"),
            include_str!("../tests/data/fuel-of-each-way-out.wat"),
            include_str!("../tests/data/time-loop-br-table.wat"),
        ] {
            let wasm = wat::parse_str(text).expect("a module");
            for (bit, config) in (0..wasm.len() * 8).flat_map(|bit| configs().map(move |config| (bit, config))) {
                let mut wasm = wasm.clone();
                wasm[bit / 8] ^= 1 << (bit % 8);
                let Ok(module) = instrument(&wasm, &config) else { continue };
                let still = wasmparser::Validator::new_with_features(ALLOWED).validate_all(module.bytes()).map(drop);
                assert!(still.is_ok(), "bit {bit}, {config:?}: {still:?}");
                valid += 1;
            }
        }
        assert!(valid > 10_000, "{valid}");
    }
}
