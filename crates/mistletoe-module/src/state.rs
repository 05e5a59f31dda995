//! Functions that write a guest's state to its memory and read it back, for instances that begin where another was.
//!
//! The state is what an instance can change: the memory, which the host reaches by itself, and the mutable globals.
//! Tables and segments are not written. A module whose code can change them has no state that is complete.

use crate::binary::{leb128, number, op, signed};
use crate::config::Config;
use crate::listing::Listing;
use crate::types::{ExternType, GlobalType, ValType};

/// The most mutable globals that are written.
const MAX_GLOBALS: usize = 1000;
/// Bytes for each global.
const SLOT: i64 = 8;

const I32_LOAD: u8 = 0x28;
const I64_LOAD: u8 = 0x29;
const F32_LOAD: u8 = 0x2a;
const F64_LOAD: u8 = 0x2b;
const I32_STORE: u8 = 0x36;
const I64_STORE: u8 = 0x37;
const F32_STORE: u8 = 0x38;
const F64_STORE: u8 = 0x39;
const I32_WRAP_I64: u8 = 0xa7;
/// The alignments of 4 and 8 bytes, as exponents.
const WORD: u8 = 2;
const DOUBLE: u8 = 3;

/// What a module's code can change besides the memory's contents and globals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The size of the memory.
    pub(crate) size: bool,
    /// Tables, or whether segments are dropped.
    pub(crate) others: bool,
}

impl Changes {
    /// Adds what another function can change.
    pub(crate) fn add(&mut self, other: Self) {
        self.size |= other.size;
        self.others |= other.others;
    }

    /// Notes what an instruction can change. `bytes` begins with it.
    pub(crate) fn note(&mut self, bytes: &[u8]) {
        match bytes {
            [op::MEMORY_GROW, ..] => self.size = true,
            [op::TABLE_SET, ..] => self.others = true,
            // `data.drop`, `table.init`, `elem.drop`, `table.copy`, `table.grow` and `table.fill`.
            [op::PREFIX, rest @ ..] if matches!(number(rest).0, 9 | 12..=15 | 17) => self.others = true,
            _ => {}
        }
    }
}

/// Returns whether a module gets the functions.
///
/// It depends on what the module declares, not on its code.
pub(crate) fn is_wanted(listing: &Listing, config: &Config) -> bool {
    let interface = &listing.interface;
    let starts = listing.start.is_some()
        || interface.has_start()
        || matches!(interface.export("_initialize"), Some(ExternType::Func(_)));
    let mut mutable = listing.globals.iter().filter(|global| global.mutable);
    // The record of the stack is not in globals alone.
    starts
        && !config.backtrace
        && !listing.memories.is_empty()
        && mutable.clone().count() <= MAX_GLOBALS
        && mutable.all(|global| access(&global.content).is_some())
}

/// Returns the instructions that load and store a value of a type, and its alignment, if it is a number.
fn access(ty: &ValType) -> Option<(u8, u8, u8)> {
    match ty {
        ValType::I32 => Some((I32_LOAD, I32_STORE, WORD)),
        ValType::I64 => Some((I64_LOAD, I64_STORE, DOUBLE)),
        ValType::F32 => Some((F32_LOAD, F32_STORE, WORD)),
        ValType::F64 => Some((F64_LOAD, F64_STORE, DOUBLE)),
        _ => None,
    }
}

/// Returns the mutable globals, those of the instrumentation included.
fn globals(listing: &Listing, config: &Config) -> impl Iterator<Item = (u32, (u8, u8, u8))> {
    let at = listing.indices(config.backtrace);
    let own = (0..).zip(&listing.globals).filter(|(_, global): &(u32, &GlobalType)| global.mutable);
    let own = own.filter_map(|(index, global)| Some((index, access(&global.content)?)));
    let injected = [at.fuel(), at.height()].into_iter().filter(|_| config.is_metered());
    own.chain(injected.map(|index| (index, (I64_LOAD, I64_STORE, DOUBLE))))
}

/// Returns the body of a function that writes the globals to the beginning of the memory, and returns how many bytes.
///
/// It returns -1, and writes nothing, if the module's code can change more than that.
pub(crate) fn save(listing: &Listing, config: &Config) -> Vec<u8> {
    let mut out = vec![0];
    let mut end = 0;
    if listing.changes.others {
        end = -1;
    } else {
        for (index, (_, store, alignment)) in globals(listing, config) {
            i32_const(&mut out, 0);
            instruction(&mut out, op::GLOBAL_GET, index);
            accessed(&mut out, store, alignment, end as u64);
            end += SLOT;
        }
    }
    out.push(op::I64_CONST);
    signed(&mut out, end);
    out.push(op::END);
    out
}

/// Returns the body of a function that adds pages to the memory, and then reads what [`save`] wrote.
///
/// Its parameter is the number of pages. It returns 1, or 0 if there is no memory for them; then it reads nothing.
pub(crate) fn load(listing: &Listing, config: &Config) -> Vec<u8> {
    let mut out = vec![0];
    if listing.changes.size {
        instruction(&mut out, op::LOCAL_GET, 0);
        out.extend([I32_WRAP_I64, op::MEMORY_GROW, 0]);
        i32_const(&mut out, 0);
        out.extend([op::I32_LT_S, op::IF, op::EMPTY, op::I64_CONST, 0, op::RETURN, op::END]);
    }
    if !listing.changes.others {
        for ((index, (load, _, alignment)), at) in globals(listing, config).zip((0..).step_by(SLOT as usize)) {
            i32_const(&mut out, 0);
            accessed(&mut out, load, alignment, at);
            instruction(&mut out, op::GLOBAL_SET, index);
        }
    }
    out.extend([op::I64_CONST, 1, op::END]);
    out
}

fn instruction(out: &mut Vec<u8>, opcode: u8, index: u32) {
    out.push(opcode);
    leb128(out, index.into());
}

/// Appends a load or store at a fixed address.
fn accessed(out: &mut Vec<u8>, opcode: u8, alignment: u8, address: u64) {
    out.extend([opcode, alignment]);
    leb128(out, address);
}

fn i32_const(out: &mut Vec<u8>, value: i32) {
    out.push(op::I32_CONST);
    signed(out, value.into());
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::features::ALLOWED;
    use crate::rewrite::InternalExports;
    use crate::{instrument, skim};

    fn module(fields: &str) -> Vec<u8> {
        wat::parse_str(format!("(module (memory 1) (func $f) {fields})")).expect("a module")
    }

    fn config() -> Config {
        Config::default().fuel(true).deadline(true).stack(100)
    }

    fn internal(fields: &str, config: &Config) -> InternalExports {
        let wasm = module(fields);
        let module = instrument(&wasm, config).expect("valid");
        wasmparser::Validator::new_with_features(ALLOWED).validate_all(module.bytes()).expect("still valid");
        // From a cache, the code is not read.
        let (_, skimmed) = skim(&wasm, config).expect("readable");
        assert_eq!(skimmed, *module.internal_exports());
        skimmed
    }

    #[test]
    fn a_module_that_starts_gets_the_functions() {
        let has = |fields: &str, config: &Config| {
            let internal = internal(fields, config);
            assert_eq!(internal.save.is_some(), internal.load.is_some());
            internal.save.is_some()
        };
        for fields in [
            "(start $f)",
            r#"(export "_initialize" (func $f))"#,
            r#"(export "_start" (func $f))"#,
            "(start $f) (global (mut i32) (i32.const 0)) (global (mut f64) (f64.const 0))",
            "(start $f) (global v128 (v128.const i64x2 0 0)) (global externref (ref.null extern))",
            "(start $f) (table 1 externref) (func (table.set (i32.const 0) (ref.null extern)))",
        ] {
            assert!(has(fields, &config()), "{fields}");
            assert!(has(fields, &Config::default().deadline(true)), "{fields}");
            assert!(!has(fields, &config().backtrace(true)), "{fields}");
            assert!(has(fields, &Config::default().stack(100)), "{fields}");
            assert!(has(fields, &Config::default()), "{fields}");
        }
        for fields in [
            "",
            r#"(export "_initialize" (memory 0))"#,
            "(start $f) (global (mut v128) (v128.const i64x2 0 0))",
            "(start $f) (global (mut externref) (ref.null extern))",
            "(start $f) (global (mut funcref) (ref.null func))",
        ] {
            assert!(!has(fields, &config()), "{fields}");
        }
        let globals = |count| format!("(start $f) {}", "(global (mut i32) (i32.const 0))".repeat(count));
        assert!(has(&globals(MAX_GLOBALS), &config()));
        assert!(!has(&globals(MAX_GLOBALS + 1), &config()));
    }

    #[test]
    fn names_that_the_module_uses_are_left_to_it() {
        let internal = internal(
            r#"(start $f) (export "mistletoe: save" (func $f)) (export "mistletoe: load'" (memory 0))"#,
            &config(),
        );
        assert_eq!(
            (internal.save.as_deref(), internal.load.as_deref()),
            (Some("mistletoe: save'"), Some("mistletoe: load''"))
        );
    }

    #[test]
    fn what_code_changes_is_noted() {
        let changes = |code: &str| {
            let wasm = module(&format!(
                r#"(table $t 1 externref) (table $u 1 funcref) (data $d "") (elem $e funcref)
                (func (param i32 externref) {code})"#
            ));
            crate::check::list(&wasm, config().metering()).0.changes
        };
        let others = Changes { size: false, others: true };
        for code in [
            "(table.set $t (i32.const 0) (local.get 1))",
            "(drop (table.grow $t (local.get 1) (i32.const 1)))",
            "(table.fill $t (i32.const 0) (local.get 1) (i32.const 0))",
            "(table.copy $t $t (i32.const 0) (i32.const 0) (i32.const 0))",
            "(table.init $u $e (i32.const 0) (i32.const 0) (i32.const 0))",
            "(elem.drop $e)",
            "(data.drop $d)",
            // Also behind an end of the code.
            "(unreachable) (data.drop $d)",
        ] {
            assert_eq!(changes(code), others, "{code}");
        }
        assert_eq!(changes("(drop (memory.grow (i32.const 0)))"), Changes { size: true, others: false });
        for code in [
            "(drop (table.get $t (i32.const 0))) (drop (table.size $t)) (drop (memory.size))",
            "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))",
            "(memory.copy (i32.const 0) (i32.const 0) (i32.const 0)) (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))",
            // The opcodes as numbers.
            "(i32.store (i32.const 0x40) (i32.const 0x26)) (drop (i32.const 0x9fc)) (drop (i32.const 0xfc))",
        ] {
            assert_eq!(changes(code), Changes::default(), "{code}");
        }
    }

    /// The functions on an engine: what one instance saves, another one loads.
    #[test]
    fn globals_pass_from_one_instance_to_another() {
        let wasm = module(
            r#"(start $f) (global (mut i32) (i32.const 1)) (global i32 (i32.const 2)) (global (mut i64) (i64.const 3))
            (global (mut f32) (f32.const 4)) (global (mut f64) (f64.const nan:0x4000000000001))
            (export "memory" (memory 0)) (export "a" (global 0)) (export "b" (global 2)) (export "c" (global 3))
            (export "d" (global 4)) (func (drop (memory.grow (i32.const 0))))"#,
        );
        let instrumented = instrument(&wasm, &config()).expect("valid");
        let internal = instrumented.internal_exports();
        let engine = wasmi::Engine::default();
        let compiled = wasmi::Module::new(&engine, instrumented.bytes()).expect("a module");
        let mut linker = wasmi::Linker::<()>::new(&engine);
        linker.func_wrap(crate::MODULE, crate::TICK, |left: i64| left + 1000).expect("a function");
        linker.func_wrap(crate::MODULE, crate::OVERFLOW, |_: i64| ()).expect("a function");
        let mut store = wasmi::Store::new(&engine, ());
        let mut instance = || linker.instantiate_and_start(&mut store, &compiled).expect("an instance");
        let [one, other] = [instance(), instance()];
        let [save, load] = [&internal.save, &internal.load].map(|name| name.as_deref().expect("a name"));
        let values = [
            wasmi::Val::I32(-5),
            wasmi::Val::I64(i64::MIN + 6),
            wasmi::Val::F32(wasmi::F32::from_bits(0xffa0_0001)),
            wasmi::Val::F64(wasmi::F64::from_bits(0x7ff0_0000_0000_0001)),
        ];
        let names = ["a", "b", "c", "d"];
        for (name, value) in names.iter().zip(&values) {
            one.get_global(&store, name).expect("a global").set(&mut store, value.clone()).expect("mutable");
        }
        let saved: i64 =
            one.get_typed_func::<(), i64>(&store, save).and_then(|save| save.call(&mut store, ())).expect("saved");
        // Four of its own, and two counters.
        assert_eq!(saved, 48);
        let memories = [&one, &other].map(|instance| instance.get_memory(&store, "memory").expect("a memory"));
        let range: Range<usize> = 0..48;
        let bytes = memories[0].data(&store)[range.clone()].to_vec();
        // The counter of fuel, which has not been asked for any, and all of the stack.
        assert_eq!(bytes[32..], [0_i64.to_le_bytes(), 100_i64.to_le_bytes()].concat());
        memories[1].data_mut(&mut store)[range].copy_from_slice(&bytes);
        let loading = other.get_typed_func::<i64, i64>(&store, load).expect("a function");
        // The memory cannot grow by that, so nothing is loaded.
        assert_eq!(loading.call(&mut store, 65_536).expect("it returns"), 0);
        let value = |store: &wasmi::Store<()>, name| {
            format!("{:?}", other.get_global(store, name).expect("a global").get(store))
        };
        assert_eq!(value(&store, "a"), format!("{:?}", wasmi::Val::I32(1)));
        assert_eq!(loading.call(&mut store, 2).expect("it returns"), 1);
        assert_eq!(memories[1].size(&store), 3);
        for (name, expected) in names.into_iter().zip(&values) {
            assert_eq!(value(&store, name), format!("{expected:?}"), "{name}");
        }
    }
}
