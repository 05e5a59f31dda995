//! Checks that wasmi, as it is built here, does not grow the host's stack as a guest runs.
//!
//! wasmi's fast dispatch from one instruction to the next is a call in tail position, which it leaves to the optimiser.
//! In a build with optimisation and debug assertions, the optimiser turns some of them into ordinary calls. Each takes
//! space on the host's stack, so that an endless loop in a guest ends the process. No setting tells a crate how another
//! crate is built. So this module runs a small guest with a loop, and checks that the stack stays at the same place.

use std::sync::OnceLock;

use mistletoe_abi::{Error, Operation, Result};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, InstructionSink, MemArg, MemArgTarget, MemorySection,
    MemoryType, Module, RefType, TableSection, TableType, TypeSection, ValType,
};
use wasmi::{Caller, Config, Engine, Linker, Store};

/// Number of iterations of the guest's loop.
const TURNS: i32 = 8;

/// Returns an error if running guests is not safe for the host's stack.
pub(crate) fn is_sound() -> Result<()> {
    static SOUND: OnceLock<bool> = OnceLock::new();
    if *SOUND.get_or_init(|| stack_stays().unwrap_or(false)) {
        return Ok(());
    }
    Err(Error::engine(
        Operation::Configure,
        "wasmi was built with optimisation and debug assertions, which lets guests overflow the host's stack: set \
         `debug-assertions = false` in `[profile.*.package.wasmi]`, or enable the feature `wasmi-portable`",
    ))
}

/// Returns whether the stack is at the same place each time the guest calls the host.
fn stack_stays() -> Option<bool> {
    let engine = Engine::new(&Config::default());
    let module = wasmi::Module::new(&engine, guest()).ok()?;
    let mut linker = Linker::<Vec<usize>>::new(&engine);
    let mark = |mut caller: Caller<'_, Vec<usize>>| {
        let here = 0_u8;
        caller.data_mut().push((&raw const here).addr());
    };
    linker.func_wrap("", "mark", mark).ok()?;
    let mut store = Store::new(&engine, Vec::new());
    let instance = linker.instantiate_and_start(&mut store, &module).ok()?;
    instance.get_typed_func::<(), ()>(&store, "run").ok()?.call(&mut store, ()).ok()?;
    let marks = store.data();
    Some(marks.len() == TURNS as usize && marks.iter().all(|mark| Some(mark) == marks.first()))
}

/// Returns a module whose loop has instructions of each kind, and calls the host once per iteration.
fn guest() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([ValType::I32], [ValType::I32]);
    let mut imports = ImportSection::new();
    imports.import("", "mark", EntityType::Function(0));
    let mut functions = FunctionSection::new();
    functions.function(0).function(1);
    let mut tables = TableSection::new();
    let table = TableType { element_type: RefType::FUNCREF, minimum: 1, maximum: None, table64: false, shared: false };
    tables.table(table);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut globals = GlobalSection::new();
    let counter = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
    globals.global(counter, &ConstExpr::i64_const(0));
    let mut exports = ExportSection::new();
    exports.export("run", ExportKind::Func, 1);
    let mut elements = ElementSection::new();
    elements.active(None, &ConstExpr::i32_const(0), Elements::Functions([2_u32].as_slice().into()));
    let mut code = CodeSection::new();
    code.function(&run()).function(&one_less());
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&tables).section(&memories);
    module.section(&globals).section(&exports).section(&elements).section(&code);
    module.finish()
}

fn run() -> Function {
    const LEFT: u32 = 0;
    const INT: u32 = 1;
    const LONG: u32 = 2;
    const SINGLE: u32 = 3;
    const DOUBLE: u32 = 4;
    let mut function =
        Function::new([ValType::I32, ValType::I32, ValType::I64, ValType::F32, ValType::F64].map(|ty| (1, ty)));
    let mut sink = function.instructions();
    sink.i32_const(TURNS).local_set(LEFT).loop_(BlockType::Empty).call(0);
    // Numbers of each width, each computed from another, through memory and a global.
    let at = |offset| MemArg { offset, align: 0, target: MemArgTarget::Memory(0), ordering: None };
    sink.local_get(LEFT).local_get(INT).i32_mul().i32_const(5).i32_rotl().i32_const(7).i32_div_u().local_set(INT);
    sink.i32_const(8).local_get(INT).i32_store(at(0)).i32_const(8).i64_load32_u(at(0)).local_get(LONG).i64_add();
    sink.i64_const(3).i64_xor().local_tee(LONG).global_get(0).i64_sub().global_set(0);
    sink.local_get(LONG).f32_convert_i64_s().f32_sqrt().local_get(SINGLE).f32_max().local_set(SINGLE);
    sink.local_get(SINGLE).f64_promote_f32().local_get(DOUBLE).f64_div().f64_nearest().local_set(DOUBLE);
    sink.i32_const(16).local_get(DOUBLE).f64_store(at(8)).i32_const(16).f32_load(at(4)).local_set(SINGLE);
    sink.i32_const(32).i32_const(0).i32_const(16).memory_copy(0, 0).memory_size(0).local_get(INT).local_get(LEFT);
    sink.select().local_set(INT);
    // Branches of each kind.
    sink.block(BlockType::Empty).block(BlockType::Empty).local_get(INT).i32_const(1).i32_and();
    sink.br_table([0], 1).end().local_get(LONG).i64_eqz().br_if(0).end();
    sink.local_get(DOUBLE).local_get(DOUBLE).f64_lt().if_(BlockType::Empty).local_get(INT).i32_const(1).i32_add();
    sink.local_set(INT).else_().local_get(SINGLE).i32_trunc_sat_f32_s().local_set(INT).end();
    // Calls.
    sink.local_get(INT).call(2).i32_const(0).call_indirect(0, 1).local_set(INT);
    tail(&mut sink, LEFT);
    function
}

/// Continues the loop while iterations are left.
fn tail(sink: &mut InstructionSink<'_>, left: u32) {
    sink.local_get(left).i32_const(1).i32_sub().local_tee(left).br_if(0).end().end();
}

fn one_less() -> Function {
    let mut function = Function::new([]);
    function.instructions().local_get(0).i32_const(1).i32_sub().end();
    function
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_is_one() {
        // The module runs in every profile: `None` would be a mistake in the module.
        assert!(stack_stays().is_some());
    }
}
