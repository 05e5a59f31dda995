//! Makes a package of a generated module. Adds functions that call the module's functions and report their effects.

use mistletoe_conformance::trace::STEPS;
use wasm_encoder::{ExportKind, ExportSection, Function, HeapType, InstructionSink, ValType};
use wasmparser::ValType::{F32, F64, I32, I64, Ref, V128};

use crate::parts::{Parts, value_type};
use crate::random::Random;

/// The indices of `result`, `state` and `back` among the imports.
const RESULT: u32 = 0;
const STATE: u32 = 1;
const BACK: u32 = 2;
/// How often each function is called, each time with other arguments.
const TRIES: usize = 3;
/// The maximum number of globals to report at once.
const GLOBALS: usize = 12;

/// A package that drives itself.
pub(crate) struct Driven {
    pub(crate) wasm: Vec<u8>,
    /// The input lengths of the sessions' `generate` calls. Each byte of input skips one step.
    pub(crate) starts: Vec<u32>,
}

/// Adds the functions of a package to a module.
///
/// `ends` is a global that terminates the module when it reaches zero, and the value that it is set to before each
/// step.
pub(crate) fn package(parts: &Parts<'_>, ends: Option<(u32, u32)>, random: &mut Random) -> Driven {
    let own = parts.imported..parts.funcs.len();
    let tries = (STEPS as usize / own.len()).clamp(1, TRIES);
    let called: Vec<_> =
        own.clone().flat_map(|func| std::iter::repeat_n(func as u32, tries)).take(STEPS as usize).collect();
    let (mut types, mut funcs, mut code) = (parts.type_section(), parts.function_section(), parts.code_section());
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    for func in own.clone() {
        exports.export(&format!("func-{func}"), ExportKind::Func, func as u32);
    }
    for table in 0..parts.tables.len() as u32 {
        exports.export(&format!("table-{table}"), ExportKind::Table, table);
    }
    for global in 0..parts.globals.len() {
        exports.export(&format!("global-{global}"), ExportKind::Global, global as u32);
    }
    let mut add = |name: &str, params: usize, results: usize, function: &Function| {
        let index = parts.imported as u32 + funcs.len();
        funcs.function(types.len());
        types.ty().function(vec![ValType::I32; params], vec![ValType::I32; results]);
        code.function(function);
        exports.export(name, ExportKind::Func, index);
        index
    };

    let mut steps = Vec::new();
    for (i, func) in called.iter().enumerate() {
        let ty = parts.func(*func as usize);
        let globals = parts.globals.iter().map(|global| &global.content_type);
        // A vector is reported from a local, half by half.
        let vectors = ty.results().iter().chain(globals).any(|ty| *ty == V128);
        let mut function = Function::new(vectors.then_some((1, ValType::V128)));
        let mut sink = function.instructions();
        if let Some((global, count)) = ends {
            sink.i32_const(count as i32).global_set(global);
        }
        for param in ty.params() {
            argument(&mut sink, *param, random);
        }
        sink.call(*func);
        if random.once_in(4) {
            bulk(&mut sink, parts, random);
        }
        for result in ty.results().iter().rev() {
            report(&mut sink, *result);
        }
        let mutable = parts.globals.iter().enumerate().filter(|(_, global)| global.mutable);
        for (i, global) in mutable.take(GLOBALS) {
            sink.global_get(i as u32);
            report(&mut sink, global.content_type);
        }
        sink.call(STATE).end();
        steps.push(add(&format!("step-{i}"), 0, 0, &function));
    }

    // The module determines what these addresses contain.
    const ADDRESSES: [i32; 10] = [0, 8, 100, 1_024, 4_096, 9_000, 32_768, 60_000, 65_528, 65_529];
    let mut function = Function::new([]);
    function.instructions().i32_const(random.pick(&ADDRESSES)).end();
    add("__mistletoe_info", 0, 1, &function);
    let mut function = Function::new([]);
    function.instructions().i32_const(random.pick(&[16, 16, 16, 16, 1_000, 1_000, 30_000, 65_532])).end();
    add("__mistletoe_alloc", 1, 1, &function);
    let mut function = Function::new([]);
    for param in 0..2 {
        function.instructions().local_get(param).i64_extend_i32_u().call(RESULT);
    }
    function.instructions().call(steps[steps.len() - 1]).end();
    add("__mistletoe_dealloc", 2, 0, &function);
    let mut function = Function::new([]);
    let mut sink = function.instructions();
    for (i, step) in steps.iter().enumerate() {
        sink.local_get(1).i32_const(i as i32).i32_le_u().if_(wasm_encoder::BlockType::Empty);
        if random.once_in(2) {
            sink.call(*step)
        } else {
            sink.i32_const(i as i32).call(BACK).drop()
        };
        sink.end();
    }
    sink.i32_const(random.pick(&ADDRESSES)).end();
    add("__mistletoe_generate", 2, 1, &function);

    Driven {
        wasm: parts.with(&[&types, &funcs, &exports, &code]),
        starts: (0..steps.len() as u32).step_by(tries).collect(),
    }
}

/// Adds a bulk instruction. Those of the generated module mostly trap or do nothing.
fn bulk(sink: &mut InstructionSink<'_>, parts: &Parts<'_>, random: &mut Random) {
    let memory = random.once_in(2) || parts.tables.is_empty();
    let (places, most) = if memory { (60_000, 5_000) } else { (4, 40) };
    let mut number = |end: u64| random.below(end) as i32;
    let (to, from, count) = (number(places), number(places), number(most));
    match (memory, number(3)) {
        (true, 0) => sink.i32_const(to).i32_const(from).i32_const(count).memory_copy(0, 0),
        (true, 1) => sink.i32_const(to).i32_const(from).i32_const(count).memory_fill(0),
        (true, _) => sink.i32_const(number(3)).memory_grow(0).i64_extend_i32_u().call(RESULT),
        (false, what) => {
            let table = number(parts.tables.len() as u64) as u32;
            let null = if parts.tables[table as usize].is_func_ref() { HeapType::FUNC } else { HeapType::EXTERN };
            sink.ref_null(null).i32_const(number(60)).table_grow(table).i64_extend_i32_u().call(RESULT);
            match what {
                0 => sink.i32_const(to).i32_const(from).i32_const(count).table_copy(table, table),
                1 => sink.i32_const(to).ref_null(null).i32_const(count).table_fill(table),
                _ => sink,
            }
        }
    };
}

/// Pushes an argument. Prefers values that often expose errors.
fn argument(sink: &mut InstructionSink<'_>, ty: wasmparser::ValType, random: &mut Random) {
    let bits = match random.below(3) {
        0 => random.next(),
        1 => random.below(20),
        _ => random.pick(&[0, 1, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 63, (1 << 63) - 1, 65_535, 65_536]),
    };
    let float = random.pick(&[0.0, -0.0, 1.0, -1.5, 0.5, f64::MIN_POSITIVE, 4e9, -9.3e18, f64::INFINITY, f64::NAN]);
    let random_bits = random.once_in(3);
    match ty {
        I32 => sink.i32_const(bits as i32),
        I64 => sink.i64_const(bits as i64),
        F32 if random_bits => sink.f32_const(f32::from_bits(bits as u32).into()),
        F64 if random_bits => sink.f64_const(f64::from_bits(bits).into()),
        F32 => sink.f32_const((float as f32).into()),
        F64 => sink.f64_const(float.into()),
        V128 => sink.v128_const(i128::from(bits) << 64 | i128::from(random.next())),
        _ => sink.ref_null(if value_type(&ty) == ValType::FUNCREF { HeapType::FUNC } else { HeapType::EXTERN }),
    };
}

/// Reports the value on top of the stack: its bits, or whether a reference is null.
///
/// A vector goes through the first local.
fn report(sink: &mut InstructionSink<'_>, ty: wasmparser::ValType) {
    match ty {
        I32 => sink.i64_extend_i32_u(),
        F32 => sink.i32_reinterpret_f32().i64_extend_i32_u(),
        F64 => sink.i64_reinterpret_f64(),
        Ref(_) => sink.ref_is_null().i64_extend_i32_u(),
        V128 => sink.local_tee(0).i64x2_extract_lane(0).call(RESULT).local_get(0).i64x2_extract_lane(1),
        I64 => sink,
    }
    .call(RESULT);
}
