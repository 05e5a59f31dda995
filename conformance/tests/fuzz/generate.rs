//! Makes a case from a seed: a package, its limits, and the calls.

use arbitrary::Unstructured;
use mistletoe_conformance::Case;
use wasm_encoder::{
    EntityType, ExportKind, ExportSection, ImportSection, MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wasm_smith::{Config, InstructionKind, InstructionKinds};

use crate::drive;
use crate::parts::Parts;
use crate::random::Random;

/// The timeout of a call. No module comes near it: fuel or the module's own counter terminates it first.
const TIMEOUT_MS: u64 = 20_000;

/// A generated case.
pub(crate) struct Fuzzed {
    pub(crate) seed: u64,
    /// The module with its limits.
    pub(crate) case: Case,
    /// The module without limits on time, fuel and stack, so that its code is not instrumented.
    pub(crate) unlimited: Case,
    /// Whether the module has instructions that grow the memory or a table.
    pub(crate) grows: bool,
}

/// The imports of a package from `fuzz`: names, parameters and results, as in the suite's `trace.rs`.
const IMPORTS: [(&str, &[ValType], &[ValType]); 9] = {
    use ValType::{F32, F64, I32, I64};
    [
        ("result", &[I64], &[]),
        ("state", &[], &[]),
        ("back", &[I32], &[I32]),
        ("mix", &[I32, I64], &[I64]),
        ("float", &[F32, F64], &[F64]),
        ("many", &[I32, I64, F32, F64, I32, I64], &[I32, I64, F32, F64]),
        ("peek", &[I32], &[I32]),
        ("poke", &[I32, I32], &[]),
        ("deny", &[I32, I64], &[]),
    ]
};

/// Returns the case of a seed, or `None` if the seed produces no module.
pub(crate) fn case(seed: u64) -> Result<Option<Fuzzed>, crate::Error> {
    let mut random = Random::new(seed);
    let length = random.of_any_size(500, 20_000);
    let bytes = random.bytes(length as usize);
    let memory = memory(&mut random);
    let config = config(&mut random, memory);
    let Ok(mut module) = wasm_smith::Module::new(config, &mut Unstructured::new(&bytes)) else { return Ok(None) };
    let mut ends = None;
    if random.once_in(2) {
        // The module terminates by itself, so it needs no limit.
        let count = random.of_any_size(10, 2_000) as u32;
        ends = Some((module.ensure_termination(count)?, count));
    }
    let bytes = module.to_bytes();
    let driven = drive::package(&Parts::new(&bytes)?, ends, &mut random);

    let limits = Limits::new(&mut random, ends.is_some(), memory.maximum.is_some());
    let text = |limits: &Limits| {
        let mut text = format!(
            "about = \"seed {seed:#018x}\"\nrules = [18]\nimports = true\nlimits = {{ {} }}\n",
            limits.toml().join(", ")
        );
        for (session, start) in driven.starts.iter().enumerate() {
            let call =
                format!("call = {{ generate = \"{}\" }}\nsession = \"{session}\"\n", ".".repeat(*start as usize));
            text += &format!("\n[[step]]\n{call}");
            if session == 0 {
                text += &format!("\n[[step]]\ncall = \"info\"\nsession = \"0\"\n\n[[step]]\n{call}");
            }
        }
        text
    };
    let case = |limits: &Limits| -> Result<Case, crate::Error> {
        let header = toml::from_str(&text(limits))?;
        Ok(Case { group: "fuzz".to_owned(), name: format!("{seed:016x}"), header, wasm: driven.wasm.clone() })
    };
    Ok(Some(Fuzzed {
        seed,
        case: case(&limits)?,
        unlimited: case(&Limits { memory: limits.memory, ..Limits::default() })?,
        grows: Parts::new(&driven.wasm)?.grows()?,
    }))
}

#[derive(Default)]
struct Limits {
    memory: Option<u64>,
    timeout_ms: Option<u64>,
    fuel: Option<u64>,
    stack: Option<u64>,
}

impl Limits {
    /// Chooses a combination of limits that is safe for a module that `ends` by itself, and whose memory is `bounded`.
    ///
    /// Prefers all limits together.
    fn new(random: &mut Random, ends: bool, bounded: bool) -> Self {
        let memory = random.pick(&[65_536, 200_000, 200_000, 655_360, 1 << 20, 1 << 20]);
        let mut limits = Self {
            memory: Some(memory).filter(|_| !(bounded && random.once_in(4))),
            timeout_ms: Some(TIMEOUT_MS),
            fuel: Some(random.of_any_size(100, 1_000_000)),
            stack: Some(if random.once_in(2) { 65_536 } else { random.of_any_size(20, 65_536) }),
        };
        match random.below(12) {
            0 => limits.timeout_ms = None,
            1 => limits.stack = None,
            2 => (limits.stack, limits.timeout_ms) = (None, None),
            3..6 if ends => limits.fuel = None,
            6 if ends => (limits.fuel, limits.timeout_ms) = (None, None),
            7 if ends => (limits.fuel, limits.stack) = (None, None),
            _ => {}
        }
        limits
    }

    /// Returns the fields of a case's header.
    fn toml(&self) -> Vec<String> {
        let fields =
            [("memory", self.memory), ("timeout_ms", self.timeout_ms), ("fuel", self.fuel), ("stack", self.stack)];
        fields.into_iter().filter_map(|(name, value)| Some(format!("{name} = {}", value?))).collect()
    }
}

/// Chooses a memory of few pages, with a small maximum if it has one.
fn memory(random: &mut Random) -> MemoryType {
    let minimum = random.pick(&[0, 1, 1, 1, 1, 1, 1, 1, 2, 3]);
    let maximum = random.pick(&[None, None, Some(minimum), Some(minimum + 1), Some(100)]);
    MemoryType { minimum, maximum, memory64: false, shared: false, page_size_log2: None }
}

/// Enables exactly the features of [`mistletoe::FEATURES`], in small modules of many shapes.
fn config(random: &mut Random, memory: MemoryType) -> Config {
    let references = !random.once_in(3);
    let imported = IMPORTS.len();
    let funcs = 1 + random.below(5) as usize;
    let control =
        [InstructionKind::Control, InstructionKind::Variable, InstructionKind::Parametric, InstructionKind::NumericInt];
    Config {
        module_shape: Some(shape(memory)),
        allowed_instructions: match random.below(4) {
            0 => InstructionKinds::new(&control),
            _ => InstructionKinds::all(),
        },
        reference_types_enabled: references,
        disallow_traps: random.once_in(3),
        min_funcs: funcs,
        max_funcs: imported + funcs + 3,
        min_types: imported + 4,
        max_types: imported + 10,
        max_globals: 8,
        max_memories: 1,
        min_tables: random.below(2) as u32,
        max_tables: if references { 4 } else { 1 },
        max_table_elements: random.pick(&[10, 1_000]),
        max_data_segments: 4,
        max_element_segments: 4,
        max_elements: 20,
        max_instructions: random.pick(&[15, 40, 100, 100, 250]),
        min_uleb_size: if random.once_in(4) { 1 + random.below(5) as u8 } else { 1 },
        const_expr_fuel: 10,
        custom_descriptors_enabled: false,
        custom_page_sizes_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        relaxed_simd_enabled: false,
        shared_everything_threads_enabled: false,
        simd_enabled: random.once_in(2),
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    }
}

/// Returns a module with the imports and exports that the generated module has to have.
fn shape(memory: MemoryType) -> Vec<u8> {
    let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
    for (i, (name, params, results)) in IMPORTS.into_iter().enumerate() {
        types.ty().function(params.iter().copied(), results.iter().copied());
        imports.import("fuzz", name, EntityType::Function(i as u32));
    }
    let mut memories = MemorySection::new();
    memories.memory(memory);
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&memories).section(&exports);
    module.finish()
}
