//! The engine-neutral reading of a module: is it valid within the one feature set, and what does it import and export?
//!
//! Every module is read here, once, before any engine sees it. So all engines refuse the same modules with the same
//! error, and `mistctl inspect` lists what a package offers without asking an engine.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use wasmparser::{
    Chunk, CompositeInnerType, ConstExpr, ElementItems, ExternalKind, FuncValidator, FuncValidatorAllocations,
    FunctionBody, Operator, Parser, Payload, SectionLimited, TypeRef, ValidPayload, Validator, ValidatorResources,
    WasmFeatures,
};

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Found, Item, Result};
use crate::limits::PAGE;
use crate::limits::budget::Budget;
use crate::limits::pass::{Body, Indices, MAX_FRAME_HEIGHT, Plan};
use crate::prepare::{Bounds, Hidden, ROOM, prepare};
use crate::protocol::{INITIALIZE, MEMORY, START};
use crate::types::{Export, ExternType, FuncType, GlobalType, Import, MemoryType, TableType, ValType};

/// The WebAssembly features that guests may use, by the names of their proposals. All else is refused.
///
/// These are WebAssembly 2.0, whole, and extended constant expressions of 3.0. A backend may lack some of them: see
/// [`Backend::supports`].
pub const FEATURES: [&str; 8] = [
    "mutable-global",
    "nontrapping-float-to-int-conversions",
    "sign-extension-ops",
    "multi-value",
    "bulk-memory-operations",
    "reference-types",
    "simd",
    "extended-const",
];

/// [`FEATURES`] as the validator knows them.
const ALLOWED: WasmFeatures = WasmFeatures::MVP
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::EXTENDED_CONST);

/// A part of [`FEATURES`] that an engine may lack: see [`Backend::supports`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Vectors: the proposal `simd`.
    Simd,
    /// The proposal `reference-types`.
    ReferenceTypes,
    /// The type `externref`, one part of the proposal `reference-types`.
    Externref,
}

impl Feature {
    const ALL: [Self; 3] = [Self::Simd, Self::ReferenceTypes, Self::Externref];

    /// The name that [`UnsupportedFeature`](ErrorKind::UnsupportedFeature) gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simd => "simd",
            Self::ReferenceTypes => "reference-types",
            Self::Externref => "externref",
        }
    }

    const fn flag(self) -> WasmFeatures {
        match self {
            Self::Simd => WasmFeatures::SIMD,
            Self::ReferenceTypes => WasmFeatures::REFERENCE_TYPES,
            // Without this flag the validator refuses `externref`, and nothing else of `FEATURES`.
            Self::Externref => WasmFeatures::GC_TYPES,
        }
    }
}

/// Features outside [`FEATURES`] that can be told apart, by the names of their proposals. Where one stands on another,
/// the other comes first.
const REFUSED: [(WasmFeatures, &str); 16] = [
    (WasmFeatures::RELAXED_SIMD, "relaxed-simd"),
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything-threads"),
    (WasmFeatures::TAIL_CALL, "tail-call"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::EXCEPTIONS, "exception-handling"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy-exception-handling"),
    (WasmFeatures::FUNCTION_REFERENCES, "function-references"),
    (WasmFeatures::GC, "gc"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom-descriptors"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom-page-sizes"),
    (WasmFeatures::STACK_SWITCHING, "stack-switching"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide-arithmetic"),
    (WasmFeatures::MEMORY_CONTROL, "memory-control"),
    (WasmFeatures::COMPACT_IMPORTS, "compact-import-section"),
];

/// How many imports a module may have.
pub const MAX_IMPORTS: usize = 1_000;
/// How many exports a module may have.
pub const MAX_EXPORTS: usize = 10_000;
/// How many types a module may declare.
pub const MAX_TYPES: usize = 500_000;
/// How many parameters and results a module's types may have in all.
pub const MAX_TYPE_VALUES: u64 = 1_000_000;
/// How many functions a module may have, imported ones among them.
pub const MAX_FUNCTIONS: usize = 500_000;
/// How many globals a module may have, imported ones among them.
pub const MAX_GLOBALS: usize = 500_000;
/// How many bytes a function's body may take up, with what limits put into it.
pub const MAX_BODY: usize = 7_654_321;
/// How many labels a `br_table` may have, the default among them.
pub const MAX_BRANCH_TARGETS: u64 = 65_520;
/// How many loops may stand in each other.
pub const MAX_NESTED_LOOPS: u64 = 50;
/// How many branches, and labels of a `br_table`, may lead to a function's loops.
pub const MAX_LOOP_BRANCHES: u64 = 32_768;
/// How many elements a module's element segments may have in all.
pub const MAX_ELEMENTS: usize = 1_000_000;
/// How many element segments a module may have, and how many data segments.
pub const MAX_SEGMENTS: usize = 100_000;
/// How many tables a module may have.
pub const MAX_TABLES: usize = 16;
/// How many elements a table may ever hold: what it starts with, and what `table.grow` makes of it.
pub const MAX_TABLE_ELEMENTS: u64 = 1_000_000;
/// How many values a function may hold at once: its parameters, its locals, and what lies on the operand stack.
pub const MAX_FRAME: u32 = 20_000;

/// What a module imports and exports, in its own order. A memory that it imports is listed as if it were its own, exported as
/// [`MEMORY`]: that is what the layer makes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// What it needs.
    pub imports: Vec<Import>,
    /// What it offers.
    pub exports: Vec<Export>,
}

impl Interface {
    /// The type of the export with this name.
    pub fn export(&self, name: &str) -> Option<&ExternType> {
        self.exports.iter().find(|export| export.name == name).map(|export| &export.ty)
    }

    /// Whether `_start` initialises the module where it is no command: what compilers leave that know commands alone.
    pub(crate) fn starts_by_itself(&self) -> bool {
        self.export(INITIALIZE.name).is_none() && self.export(START.name) == Some(&START.extern_type())
    }
}

/// A core module that is valid by the WebAssembly specification within [`FEATURES`], whose tables cannot outgrow
/// [`MAX_TABLE_ELEMENTS`], and whose start function, if it had one, is an export instead. Only [`ValidModule::new`]
/// makes one, so a backend need not doubt the bytes it is given.
#[derive(Clone, Debug)]
pub struct ValidModule<'a> {
    bytes: Cow<'a, [u8]>,
    interface: Interface,
    hidden: Hidden,
}

impl<'a> ValidModule<'a> {
    /// Reads and validates a module.
    ///
    /// # Errors
    ///
    /// [`NotAModule`](ErrorKind::NotAModule), [`Truncated`](ErrorKind::Truncated),
    /// [`Malformed`](ErrorKind::Malformed), [`UnsupportedFeature`](ErrorKind::UnsupportedFeature) or
    /// [`TooMany`](ErrorKind::TooMany).
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        Self::bounded(bytes, &Bounds::default())
    }

    /// The same with bounds put into the code.
    pub(crate) fn bounded(bytes: &'a [u8], bounds: &Bounds) -> Result<Self> {
        let length = bytes.len() as u64;
        if length > bounds.length {
            return Err(ErrorKind::TooLarge { limit: bounds.length, length }.into());
        }
        let (listing, code, invalid) = list(bytes, bounds.plan);
        if let Some(error) = invalid {
            return Err(error);
        }
        if listing.tables.iter().any(|table| table.minimum > bounds.elements) {
            return Err(ErrorKind::TooMany { item: Item::TableElements, limit: bounds.elements }.into());
        }
        if let (Some(pages), Some(memory)) = (bounds.pages, listing.memories.first())
            && memory.minimum > pages
        {
            return Err(ErrorKind::TooMuchMemory { limit: pages * PAGE, memory: memory.minimum * PAGE }.into());
        }
        let (bytes, hidden) = prepare(bytes, &listing, bounds, code);
        Ok(Self { bytes, interface: listing.interface, hidden })
    }

    /// The interface of a module that was read before and found valid, and what is exported besides: all but its code
    /// and data is read again.
    #[cfg(feature = "cache")]
    pub(crate) fn known(bytes: &[u8], bounds: &Bounds) -> Option<(Interface, Hidden)> {
        let mut listing = Listing::default();
        let mut reading = Reading { listing: Some(&mut listing), is_known: true, ..Reading::default() };
        let complete = reading.read(bytes, ALLOWED).is_ok() && reading.invalid.is_none();
        listing.own_memory();
        let hidden = Hidden::new(&listing, bounds);
        complete.then_some((listing.interface, hidden))
    }

    /// The module in the binary format, for an engine to compile. It exports a function more than the
    /// [`interface`](ValidModule::interface) says where the module had a start function.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it imports and exports.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The same with bytes of its own.
    pub(crate) fn into_owned(self) -> ValidModule<'static> {
        ValidModule { bytes: Cow::Owned(self.bytes.into_owned()), interface: self.interface, hidden: self.hidden }
    }

    /// The interface, and what is exported besides.
    pub(crate) fn into_parts(self) -> (Interface, Hidden) {
        (self.interface, self.hidden)
    }
}

/// What can be told of a module, also of a broken one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// What was read before the reading had to end.
    pub interface: Interface,
    /// Why the module cannot run on every engine, if so.
    pub invalid: Option<Error>,
}

/// Reads as much of a module as can be read, for tools that show broken modules too.
pub fn inspect(bytes: &[u8]) -> Inspection {
    let (listing, _, invalid) = list(bytes, Plan::default());
    Inspection { interface: listing.interface, invalid }
}

/// Reads a module as far as it goes, and says why it is refused, if it is.
fn list(bytes: &[u8], plan: Plan) -> (Listing, Vec<u8>, Option<Error>) {
    let mut listing = Listing::default();
    if let Some(found) = not_a_module(bytes) {
        return (listing, Vec::new(), Some(ErrorKind::NotAModule { found }.into()));
    }
    let mut reading = Reading { listing: Some(&mut listing), plan, ..Reading::default() };
    let end = reading.read(bytes, ALLOWED);
    let Reading { code, invalid, refused, frame, body, height, .. } = reading;
    let invalid = match (invalid, refused) {
        // The validator's word comes first: where it stopped, the rest was only listed.
        (Some(error), _) => Some(explain(bytes, error)),
        (None, Some(refused)) => Some(refused.into()),
        (None, None) => end.err().map(|end| match end {
            End::Truncated { offset, missing } => ErrorKind::Truncated { offset, missing }.into(),
            End::Malformed(error) => explain(bytes, error),
        }),
    };
    listing.own_memory();
    let lengths = [
        (Item::Types, listing.types.len(), MAX_TYPES),
        (Item::Functions, listing.functions.len(), MAX_FUNCTIONS),
        (Item::Globals, listing.globals.len(), MAX_GLOBALS),
        (Item::Tables, listing.tables.len(), MAX_TABLES),
        (Item::FunctionBytes, body, MAX_BODY),
    ];
    if let Some((item, _, limit)) = lengths.into_iter().find(|(_, length, limit)| length > limit) {
        listing.excess = Some((item, limit as u64));
    } else if listing.tables.iter().any(|table| table.minimum > MAX_TABLE_ELEMENTS) {
        listing.excess = Some((Item::TableElements, MAX_TABLE_ELEMENTS));
    } else if frame > MAX_FRAME {
        listing.excess = Some((Item::FrameValues, MAX_FRAME.into()));
    } else if height > MAX_FRAME_HEIGHT {
        listing.excess = Some((Item::FrameUnits, MAX_FRAME_HEIGHT.into()));
    }
    let invalid = invalid.or_else(|| listing.excess.map(|(item, limit)| ErrorKind::TooMany { item, limit }.into()));
    (listing, code, invalid)
}

/// Tells by the first bytes what is no core module.
fn not_a_module(bytes: &[u8]) -> Option<Found> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        Some(Found::Empty)
    } else if Parser::is_component(bytes) {
        Some(Found::Component)
    } else if bytes.starts_with(MAGIC) {
        // Fewer than the eight bytes of the header is a truncated module, not another version.
        let version = bytes.get(MAGIC.len()..8)?;
        (version != [1, 0, 0, 0]).then_some(Found::Version)
    } else if MAGIC.starts_with(bytes) {
        None
    } else if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) {
        Some(Found::Text)
    } else {
        Some(Found::Unknown)
    }
}

/// Why the reading of the sections ended early.
enum End {
    Truncated { offset: u64, missing: u64 },
    Malformed(wasmparser::Error),
}

/// What is made of a module while it is read.
#[derive(Default)]
struct Reading<'a> {
    /// What there is to list, where that is asked for.
    listing: Option<&'a mut Listing>,
    /// What is put into functions, where anything is.
    plan: Plan,
    /// Where that is in the index spaces.
    at: Option<Indices>,
    /// The functions' bodies with it.
    code: Vec<u8>,
    /// Why the module is not valid.
    invalid: Option<wasmparser::Error>,
    /// What it may cost to compile.
    budget: Budget,
    /// Why it is not read any further, valid or not.
    refused: Option<ErrorKind>,
    /// The module is known to be valid: there is no need to validate it, nor to read its code.
    is_known: bool,
    /// The largest number of values that a function holds at once.
    frame: u32,
    /// The length of the longest body with what was put in.
    body: usize,
    /// The height of the highest function, where that is counted.
    height: u32,
}

impl Reading<'_> {
    /// Walks through the sections and validates them. After the first invalid one the walk goes on without the validator,
    /// for what else there is to list.
    fn read(&mut self, bytes: &[u8], features: WasmFeatures) -> Result<(), End> {
        let mut parser = Parser::new(0);
        parser.set_features(features);
        let mut validator = Validator::new_with_features(features);
        let mut allocations = FuncValidatorAllocations::default();
        let mut scratch = Body::default();
        let mut rest = bytes;
        let mut bodies = 0;
        loop {
            let offset = parser.offset();
            let parsed = match parser.parse(rest, false) {
                // At the end of the bytes the parser has its say, but for function bodies that are still to come.
                Ok(Chunk::NeedMoreData(_)) if rest.is_empty() && bodies == 0 => parser.parse(rest, true),
                other => other,
            };
            let (consumed, payload) = match parsed {
                Ok(Chunk::Parsed { consumed, payload }) => (consumed, payload),
                Ok(Chunk::NeedMoreData(missing)) => return Err(End::Truncated { offset, missing }),
                Err(error) => return Err(End::Malformed(error)),
            };
            rest = rest.get(consumed..).unwrap_or_default();
            match payload {
                Payload::CodeSectionStart { count, size, .. } => {
                    if self.is_known {
                        parser.skip_section();
                        rest = rest.get(size as usize..).unwrap_or_default();
                        continue;
                    }
                    bodies = count;
                    if self.plan.is_anything() {
                        // What is put in takes up a fifth, mostly.
                        self.code.reserve(rest.len().min(size as usize) / 4 * 5);
                        self.code.extend(ROOM);
                    }
                }
                Payload::CodeSectionEntry(_) => bodies = bodies.saturating_sub(1),
                _ => {}
            }
            if self.refused.is_none() && !self.is_known {
                self.refused = self.budget.section(&payload, bytes).err();
            }
            if self.invalid.is_none() && self.refused.is_none() && !self.is_known {
                let valid = validator.payload(&payload).and_then(|valid| match valid {
                    ValidPayload::Func(function, body) => {
                        let mut function = function.into_validator(std::mem::take(&mut allocations));
                        let result = self.function(&mut function, &body, bytes, features, &mut scratch);
                        allocations = function.into_allocations();
                        result
                    }
                    _ => Ok(()),
                });
                self.invalid = valid.err();
            }
            // What is too much is not listed, but for imports and exports, as many as there may be.
            let is_interface = matches!(payload, Payload::ImportSection(_) | Payload::ExportSection(_));
            if let Some(listing) = self.listing.as_mut().filter(|_| self.refused.is_none() || is_interface)
                && let Err(error) = listing.add(&payload, offset as usize..parser.offset() as usize)
            {
                // What a valid section lists can be read, so this one is known to be invalid already.
                self.invalid.get_or_insert(error);
            }
            if matches!(payload, Payload::End(_)) {
                return Ok(());
            }
        }
    }

    /// Validates a function's body, notes how many values it holds at once, and puts in what is to be put in.
    fn function(
        &mut self,
        function: &mut FuncValidator<ValidatorResources>,
        body: &FunctionBody<'_>,
        bytes: &[u8],
        features: WasmFeatures,
        scratch: &mut Body,
    ) -> wasmparser::Result<()> {
        // The validator has a limit of its own, beyond ours, and calls what exceeds it invalid, which it is not.
        let mut declared: u32 = 0;
        for locals in body.get_locals_reader()? {
            declared = declared.saturating_add(locals?.0);
        }
        if declared > MAX_FRAME {
            self.frame = self.frame.max(declared);
            return Ok(());
        }
        let mut reader = body.get_binary_reader();
        function.read_locals(&mut reader)?;
        reader.set_features(features);
        let metered = match &self.listing {
            Some(listing) if self.plan.is_anything() => {
                // Nothing that it depends on comes behind the first function's body.
                let at = *self.at.get_or_insert_with(|| listing.indices());
                scratch.begin(self.plan, at, reader.original_position(), declared);
                Some(&**listing)
            }
            _ => None,
        };
        if let Err(excess) = self.budget.function(function, declared, body.range().len()) {
            self.refused = Some(self.budget.error(excess));
            return Ok(());
        }
        let mut operands = 0;
        while !reader.eof() {
            let offset = reader.original_position();
            if let Err(excess) = self.budget.instruction(function, bytes, offset) {
                self.refused = Some(self.budget.error(excess));
                return Ok(());
            }
            reader.visit_operator(&mut function.visitor(offset))??;
            operands = operands.max(function.operand_stack_height());
            if let Some(listing) = metered {
                scratch.instruction(bytes, offset..reader.original_position(), listing);
            }
        }
        // Locals include the parameters.
        let locals = function.len_locals();
        self.frame = self.frame.max(locals.saturating_add(operands));
        let offset = reader.original_position();
        reader.finish_expression(&function.visitor(offset))?;
        if metered.is_some() {
            if let Some(listing) = &mut self.listing {
                listing.refers |= scratch.refers;
            }
            let (length, height) = scratch.finish(bytes, body.range(), locals, operands, &mut self.code);
            (self.body, self.height) = (self.body.max(length), self.height.max(height));
        }
        Ok(())
    }
}

/// Refuses a valid module that needs a part of [`FEATURES`] which the backend lacks.
pub(crate) fn supported(bytes: &[u8], backend: &impl Backend) -> Result<()> {
    let lacking = Feature::ALL.into_iter().filter(|feature| !backend.supports(*feature));
    let mut set = ALLOWED.difference(lacking.clone().map(Feature::flag).collect());
    if set == ALLOWED {
        return Ok(());
    }
    let mut reading = Reading::default();
    let end = reading.read(bytes, set);
    let Some(error) = reading.invalid.or(match end {
        Err(End::Malformed(error)) => Some(error),
        _ => None,
    }) else {
        return Ok(());
    };
    let offset = error.offset() as u64;
    let feature = lacking.clone().find(|feature| {
        set = set.union(feature.flag());
        gets_past(bytes, set, error.offset())
    });
    let kind = match feature {
        Some(feature) => ErrorKind::UnsupportedFeature {
            feature: feature.name().into(),
            offset,
            backend: Some(backend.name().into()),
        },
        None => ErrorKind::Malformed { offset },
    };
    Err(Error::with_source(kind, error))
}

/// What the validator has limits of its own for, by its words, and what they are. The specification has none.
const OWN_LIMITS: [(&str, Item, u64); 4] = [
    ("string size out of bounds", Item::NameBytes, 100_000),
    ("function params size is out of bounds", Item::Parameters, 1_000),
    ("function returns size is out of bounds", Item::Results, 1_000),
    ("effective type size exceeds the limit", Item::InterfaceValues, 999_998),
];

/// Turns a validation error into a kind: too much of something, a feature outside the set, or simply invalid.
#[cold]
fn explain(bytes: &[u8], error: wasmparser::Error) -> Error {
    let offset = error.offset() as u64;
    if let Some((_, item, limit)) = OWN_LIMITS.iter().find(|(words, ..)| error.message().contains(words)) {
        return Error::with_source(ErrorKind::TooMany { item: *item, limit: *limit }, error);
    }
    let feature = error.missing_wasm_feature().and_then(refused);
    let kind = match feature.or_else(|| feature_by_trial(bytes, error.offset())) {
        Some(feature) => ErrorKind::UnsupportedFeature { feature: feature.into(), offset, backend: None },
        None => ErrorKind::Malformed { offset },
    };
    Error::with_source(kind, error)
}

/// The name of a feature outside the set.
fn refused(missing: WasmFeatures) -> Option<&'static str> {
    REFUSED.iter().find(|(flag, _)| flag.intersects(missing)).map(|(_, name)| *name)
}

/// Whether the validator gets past an offset with these features.
fn gets_past(bytes: &[u8], features: WasmFeatures, offset: usize) -> bool {
    let mut reading = Reading::default();
    match reading.read(bytes, features) {
        _ if reading.invalid.is_some() => reading.invalid.is_some_and(|error| error.offset() > offset),
        Err(End::Malformed(error)) => error.offset() > offset,
        Err(End::Truncated { offset: end, .. }) => end > offset as u64,
        Ok(()) => true,
    }
}

/// The validator does not always know which feature would help. So ask it again with each: the one with which it gets
/// past the offset, or the shortest list of them, is the one that was used.
#[cold]
fn feature_by_trial(bytes: &[u8], offset: usize) -> Option<&'static str> {
    let everything = REFUSED.iter().fold(ALLOWED, |set, (flag, _)| set.union(*flag));
    if !gets_past(bytes, everything, offset) {
        return None;
    }
    let mut set = ALLOWED;
    REFUSED
        .iter()
        .find(|(flag, _)| {
            set = set.union(*flag);
            gets_past(bytes, set, offset)
        })
        .map(|(_, name)| *name)
}

/// Gathers the [`Interface`] from the sections as they come by, trusting none of them: an index may point nowhere.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) interface: Interface,
    pub(crate) types: Vec<Option<Arc<FuncType>>>,
    /// The functions' types, by their index.
    pub(crate) functions: Vec<u32>,
    pub(crate) tables: Vec<TableType>,
    pub(crate) memories: Vec<MemoryType>,
    globals: Vec<GlobalType>,
    /// Index of the start function.
    pub(crate) start: Option<u32>,
    /// The sections in their order: what each is, where it begins, and its content.
    pub(crate) sections: Vec<(u8, usize, Range<usize>)>,
    /// Where element segments and globals mention functions.
    pub(crate) mentions: Vec<usize>,
    /// Whether code refers to functions, where it was read for that.
    pub(crate) refers: bool,
    /// Where the exports of functions begin.
    pub(crate) exported: Vec<usize>,
    /// Where the memory is imported, if it is.
    pub(crate) imported_memory: Option<Range<usize>>,
    /// Whether such a memory is exported by the layer.
    pub(crate) exports_memory: bool,
    excess: Option<(Item, u64)>,
}

impl Listing {
    /// Lists a section, which takes up `range` of the module's bytes, header and all.
    fn add(&mut self, payload: &Payload<'_>, range: Range<usize>) -> wasmparser::Result<()> {
        if let Some((id, content)) = payload.as_section() {
            self.sections.push((id, range.start, content));
        }
        match payload {
            Payload::TypeSection(section) => {
                // One of those that are the same is enough: each takes up many times what it does in the module.
                let mut known = HashSet::new();
                for group in section.clone() {
                    for ty in group?.into_types() {
                        let CompositeInnerType::Func(ty) = ty.composite_type.inner else {
                            self.types.push(None);
                            continue;
                        };
                        let ty = FuncType {
                            params: ty.params().iter().map(val_type).collect(),
                            results: ty.results().iter().map(val_type).collect(),
                        };
                        let ty = known.get(&ty).cloned().unwrap_or_else(|| Arc::new(ty));
                        known.insert(ty.clone());
                        self.types.push(Some(ty));
                    }
                }
            }
            Payload::ImportSection(section) => {
                let mut memory = None;
                for import in section.clone().into_imports_with_offsets() {
                    let (offset, import) = import?;
                    if let Some(begin) = memory.take() {
                        self.imported_memory = Some(begin..offset);
                    }
                    let ty = match import.ty {
                        TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                            self.functions.push(index);
                            ExternType::Func(self.func_type(index))
                        }
                        TypeRef::Table(ty) => {
                            self.tables.push(table_type(&ty));
                            ExternType::Table(Some(table_type(&ty)))
                        }
                        TypeRef::Memory(ty) => {
                            memory = Some(offset);
                            self.memories.push(memory_type(&ty));
                            ExternType::Memory(Some(memory_type(&ty)))
                        }
                        TypeRef::Global(ty) => {
                            self.globals.push(global_type(&ty));
                            ExternType::Global(Some(global_type(&ty)))
                        }
                        TypeRef::Tag(_) => ExternType::Tag,
                    };
                    let (module, name) = (import.module.to_owned(), import.name.to_owned());
                    if self.interface.imports.len() == MAX_IMPORTS {
                        self.excess = Some((Item::Imports, MAX_IMPORTS as u64));
                        break;
                    }
                    self.interface.imports.push(Import { module, name, ty });
                }
                if let Some(begin) = memory {
                    self.imported_memory = Some(begin..section.range().end);
                }
            }
            Payload::FunctionSection(section) => extend(&mut self.functions, section, |index| index)?,
            Payload::TableSection(section) => {
                extend(&mut self.tables, section, |table| table_type(&table.ty))?;
            }
            Payload::MemorySection(section) => extend(&mut self.memories, section, |ty| memory_type(&ty))?,
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    let global = global?;
                    self.globals.push(global_type(&global.ty));
                    self.mentioned(&global.init_expr)?;
                }
            }
            Payload::ElementSection(section) => {
                for element in section.clone() {
                    match element?.items {
                        ElementItems::Functions(functions) => {
                            for function in functions.into_iter_with_offsets() {
                                self.mentions.push(function?.0);
                            }
                        }
                        ElementItems::Expressions(_, expressions) => {
                            for expression in expressions {
                                self.mentioned(&expression?)?;
                            }
                        }
                    }
                }
            }
            Payload::StartSection { func, .. } => {
                self.start = Some(*func);
            }
            Payload::ExportSection(section) => {
                for export in section.clone().into_iter_with_offsets() {
                    let (offset, export) = export?;
                    let index = export.index as usize;
                    let ty = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => {
                            self.exported.push(offset);
                            ExternType::Func(self.functions.get(index).and_then(|ty| self.func_type(*ty)))
                        }
                        ExternalKind::Table => ExternType::Table(self.tables.get(index).cloned()),
                        ExternalKind::Memory => ExternType::Memory(self.memories.get(index).cloned()),
                        ExternalKind::Global => ExternType::Global(self.globals.get(index).cloned()),
                        ExternalKind::Tag => ExternType::Tag,
                    };
                    if self.interface.exports.len() == MAX_EXPORTS {
                        self.excess = Some((Item::Exports, MAX_EXPORTS as u64));
                        break;
                    }
                    self.interface.exports.push(Export { name: export.name.to_owned(), ty });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes where an expression mentions functions.
    fn mentioned(&mut self, expression: &ConstExpr<'_>) -> wasmparser::Result<()> {
        let mut operators = expression.get_operators_reader();
        while !operators.eof() {
            let offset = operators.original_position();
            if let Operator::RefFunc { .. } = operators.read()? {
                // Behind the opcode.
                self.mentions.push(offset + 1);
            }
        }
        Ok(())
    }

    /// Makes an imported memory the module's own, exported as guests export theirs. A valid module has no other one, since it
    /// has one at most.
    fn own_memory(&mut self) {
        if self.imported_memory.is_none() {
            return;
        }
        let Interface { imports, exports } = &mut self.interface;
        imports.retain(|import| !matches!(import.ty, ExternType::Memory(_)));
        if !exports.iter().any(|export| export.name == MEMORY) {
            let ty = ExternType::Memory(self.memories.first().cloned());
            exports.push(Export { name: MEMORY.to_owned(), ty });
            self.exports_memory = true;
        }
    }

    /// Where what is injected will be in the index spaces.
    pub(crate) fn indices(&self) -> Indices {
        let (mut imported, mut globals) = (0, 0);
        for import in &self.interface.imports {
            imported += u32::from(matches!(import.ty, ExternType::Func(_)));
            globals += u32::from(matches!(import.ty, ExternType::Global(_)));
        }
        let all = self.globals.len() as u32;
        Indices {
            imported,
            functions: self.functions.len() as u32,
            globals: all,
            own_globals: all.saturating_sub(globals),
        }
    }

    /// A name that no export has: longer than all that begin like it.
    pub(crate) fn unused_export(&self, stem: &str) -> String {
        let taken = self.interface.exports.iter().map(|export| &export.name).filter(|name| name.starts_with(stem));
        let longest = taken.map(String::len).max();
        format!("{stem}{}", "'".repeat(longest.map_or(0, |longest| longest - stem.len() + 1)))
    }

    /// The type of a function, by both their indices.
    pub(crate) fn type_of(&self, function: u32) -> Option<u32> {
        self.functions.get(function as usize).copied()
    }

    /// How many parameters and results a type has.
    pub(crate) fn passed(&self, ty: u32) -> u32 {
        let ty = self.types.get(ty as usize).and_then(Option::as_ref);
        ty.map_or(0, |ty| ty.params.len().saturating_add(ty.results.len()) as u32)
    }

    pub(crate) fn func_type(&self, index: u32) -> Option<Arc<FuncType>> {
        self.types.get(index as usize).cloned().flatten()
    }
}

/// Appends what a section declares to an index space.
fn extend<'a, T: wasmparser::FromReader<'a>, U>(
    space: &mut Vec<U>,
    section: &SectionLimited<'a, T>,
    convert: impl Fn(T) -> U,
) -> wasmparser::Result<()> {
    for item in section.clone() {
        space.push(convert(item?));
    }
    Ok(())
}

fn val_type(ty: &wasmparser::ValType) -> ValType {
    match *ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::FUNCREF => ValType::FuncRef,
        wasmparser::ValType::EXTERNREF => ValType::ExternRef,
        wasmparser::ValType::Ref(ty) => ValType::Other(ty.to_string().into()),
    }
}

fn memory_type(ty: &wasmparser::MemoryType) -> MemoryType {
    MemoryType { minimum: ty.initial, maximum: ty.maximum, shared: ty.shared, memory64: ty.memory64 }
}

fn table_type(ty: &wasmparser::TableType) -> TableType {
    let element = val_type(&wasmparser::ValType::Ref(ty.element_type));
    TableType { element, minimum: ty.initial, maximum: ty.maximum }
}

fn global_type(ty: &wasmparser::GlobalType) -> GlobalType {
    GlobalType { content: val_type(&ty.content_type), mutable: ty.mutable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare;

    #[test]
    fn every_table_gets_a_maximum_and_the_rest_of_the_module_stays() {
        let wasm = wat::parse_str(
            r#"(module (memory 1) (table 0 funcref) (table 1 externref) (table 200 300 funcref) (table 1 0xffffffff funcref)
                (func (export "f")) (elem (i32.const 2) func 0) (data (i32.const 0) "x"))"#,
        );
        let wasm = wasm.expect("a module");
        let module = ValidModule::new(&wasm).expect("valid");
        let read_back = ValidModule::new(module.bytes()).expect("still valid");
        assert_eq!(read_back.bytes(), module.bytes(), "bounding twice changes nothing");
        let (listing, _, invalid) = list(module.bytes(), Plan::default());
        assert!(invalid.is_none());
        let maxima: Vec<_> = listing.tables.iter().map(|table| table.maximum).collect();
        assert_eq!(maxima, [Some(1_000_000), Some(1_000_000), Some(300), Some(1_000_000)]);
        let without_tables = |bytes: &[u8]| {
            let sections = list(bytes, Plan::default()).0.sections;
            let others = sections.into_iter().filter(|section| section.0 != 4);
            others.map(|(id, _, content)| (id, bytes[content].to_vec())).collect::<Vec<_>>()
        };
        assert_eq!(without_tables(module.bytes()), without_tables(&wasm));
    }

    /// Every combination of what can be counted.
    fn plans() -> impl Iterator<Item = Plan> {
        (1..8).map(|bits| Plan { fuel: bits & 1 != 0, ticks: bits & 3 != 0, height: bits & 4 != 0 })
    }

    #[test]
    fn whatever_is_put_in_leaves_a_valid_module_with_the_same_interface() {
        let fixtures = ["features", "host", "interface", "lifecycle", "protocol", "traps", "wasi", "memory"];
        let mut modules = 0;
        for folder in fixtures {
            let folder = format!("{}/../../conformance/fixtures/{folder}", env!("CARGO_MANIFEST_DIR"));
            for file in std::fs::read_dir(folder).expect("fixtures") {
                let path = file.expect("a file").path();
                let Ok(wasm) = wat::parse_file(&path) else { continue };
                let Ok(plain) = ValidModule::new(&wasm) else { continue };
                for plan in plans() {
                    let bounds = Bounds { plan, height: 1000, pages: Some(65536), ..Bounds::default() };
                    let module = ValidModule::bounded(&wasm, &bounds).expect("valid before");
                    assert_eq!(module.interface(), plain.interface());
                    match ValidModule::new(module.bytes()).map_err(|error| error.kind().clone()) {
                        // What is full already takes the few more.
                        Ok(_) | Err(ErrorKind::TooMany { .. }) => {}
                        Err(error) => panic!("{} {plan:?}: {error:?}", path.display()),
                    }
                }
                modules += 1;
            }
        }
        assert!(modules > 200, "{modules}");
    }

    #[test]
    fn more_exports_than_a_host_carries_are_refused() {
        let module = |exports: usize| {
            let exports: String = (0..exports).map(|i| format!("(export \"{i}\" (memory 0))")).collect();
            wat::parse_str(format!("(module (memory 1) {exports})")).expect("a module")
        };
        assert!(ValidModule::new(&module(MAX_EXPORTS)).is_ok());
        let error = ValidModule::new(&module(MAX_EXPORTS + 1)).expect_err("one too many");
        assert_eq!(*error.kind(), ErrorKind::TooMany { item: Item::Exports, limit: MAX_EXPORTS as u64 });
    }

    #[test]
    fn more_functions_types_and_globals_than_a_host_carries_are_refused() {
        // A section with so many of the same.
        let section = |id: u8, count: usize, item: &[u8]| {
            let mut content = Vec::new();
            prepare::leb128(&mut content, count as u64);
            (0..count).for_each(|_| content.extend_from_slice(item));
            let mut section = vec![id];
            prepare::body(&mut section, &content);
            section
        };
        let module = |types: usize, functions: usize, globals: usize| {
            let mut wasm = b"\0asm\x01\0\0\0".to_vec();
            wasm.extend(section(1, types, &[0x60, 0, 0]));
            wasm.extend(section(3, functions, &[0]));
            wasm.extend(section(6, globals, &[0x7f, 0, 0x41, 0, 0x0b]));
            // Each has so much code that they are not too dear.
            wasm.extend(section(10, functions, &[&[32, 0][..], &[0x01; 30], &[0x0b]].concat()));
            wasm
        };
        let all = Bounds { plan: Plan { fuel: true, ticks: true, height: true }, height: 1, ..Bounds::default() };
        let wasm = module(MAX_TYPES, MAX_FUNCTIONS, MAX_GLOBALS);
        let full = ValidModule::bounded(&wasm, &all).expect("as many as are allowed");
        wasmparser::Validator::new_with_features(ALLOWED).validate_all(full.bytes()).expect("still valid");
        for (wasm, item) in [
            (module(MAX_TYPES + 1, 1, 1), Item::Types),
            (module(1, MAX_FUNCTIONS + 1, 1), Item::Functions),
            (module(1, 1, MAX_GLOBALS + 1), Item::Globals),
        ] {
            let error = ValidModule::new(&wasm).map(drop).expect_err("one too many");
            assert_eq!(*error.kind(), ErrorKind::TooMany { item, limit: 500_000 });
        }
    }

    #[test]
    fn a_function_that_outgrows_what_engines_take_is_refused() {
        // Calls of itself, which are the instructions with the most to put around them.
        let module = |calls: usize| {
            let mut body = vec![0];
            (0..calls).for_each(|_| body.extend([0x10, 0]));
            body.push(0x0b);
            let mut code = vec![1];
            prepare::body(&mut code, &body);
            let mut wasm = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a".to_vec();
            prepare::body(&mut wasm, &code);
            wasm
        };
        let all = Bounds { plan: Plan { fuel: true, ticks: true, height: true }, height: 1, ..Bounds::default() };
        let refused = |calls, bounds: &Bounds| ValidModule::bounded(&module(calls), bounds).err();
        assert!(refused(1_500_000, &Bounds::default()).is_none());
        assert!(refused(1_000_000, &all).is_none());
        let error = refused(1_500_000, &all).expect("too long by then");
        assert_eq!(*error.kind(), ErrorKind::TooMany { item: Item::FunctionBytes, limit: MAX_BODY as u64 });
    }

    #[test]
    fn any_prefix_and_any_flipped_bit_is_refused_or_read_without_a_panic() {
        let wasm = wat::parse_str(include_str!("../../../conformance/fixtures/interface/everything-wrong.wat"));
        let wasm = wasm.expect("a module");
        for end in 0..wasm.len() {
            // A module may end between two sections, when those behind are not needed.
            if let Err(error) = ValidModule::new(&wasm[..end]) {
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
            include_str!("../../../conformance/fixtures/features/bulk-tables.wat"),
            include_str!("../../../conformance/fixtures/features/multi-value.wat"),
            include_str!("../../../conformance/fixtures/features/reference-functions.wat"),
            include_str!("../../../conformance/fixtures/limits/fuel-of-each-way-out.wat"),
            include_str!("../../../conformance/fixtures/limits/time-loop-br-table.wat"),
        ] {
            let wasm = wat::parse_str(text).expect("a module");
            for (bit, plan) in (0..wasm.len() * 8).flat_map(|bit| plans().map(move |plan| (bit, plan))) {
                let mut wasm = wasm.clone();
                wasm[bit / 8] ^= 1 << (bit % 8);
                let bounds = Bounds { plan, height: 1000, pages: Some(65536), ..Bounds::default() };
                let Ok(module) = ValidModule::bounded(&wasm, &bounds) else { continue };
                let still = wasmparser::Validator::new_with_features(ALLOWED).validate_all(module.bytes()).map(drop);
                assert!(still.is_ok(), "bit {bit}, {plan:?}: {still:?}");
                valid += 1;
            }
        }
        assert!(valid > 10_000, "{valid}");
    }
}
