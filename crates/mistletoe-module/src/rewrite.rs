//! Rewrites a module for engines: bounded and metered, its start function exported, its memory its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::binary::{ROOM, body, fill, leb128, number, signed};
use crate::config::Config;
use crate::interface::MEMORY as MEMORY_EXPORT;
use crate::listing::{Indices, Listing};
use crate::meter::emit;
use crate::state;
use crate::types::{ExternType, ValType};

/// Section ids in their order (core 2.0, section 5.5.16): the data count section comes before the code.
const ORDER: [u8; 12] = [TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, 12, CODE, 11];

const TYPE: u8 = 1;
const IMPORT: u8 = 2;
const FUNCTION: u8 = 3;
const TABLE: u8 = 4;
const MEMORY: u8 = 5;
const GLOBAL: u8 = 6;
const EXPORT: u8 = 7;
const START: u8 = 8;
const ELEMENT: u8 = 9;
const CODE: u8 = 10;

/// The module that the injected functions are imported from.
///
/// If the configuration meters, a guest that imports from it is refused: no host provides anything there.
pub const MODULE: &str = "mistletoe limits";
/// Called with the fuel counter when it is below 0; returns its new value.
pub const TICK: &str = "tick";
/// Called when the stack is too deep.
pub const OVERFLOW: &str = "overflow";
/// Called where a function begins, if the stack is recorded.
pub const ENTER: &str = "enter";

/// Exports that the layer adds for itself, under names that the module does not use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InternalExports {
    /// The start function.
    pub start: Option<String>,
    /// Returns the fuel counter.
    pub fuel: Option<String>,
    /// Restores the whole stack depth. For a guest whose `_start` exits, which leaves its functions before their ends.
    pub unwind: Option<String>,
    /// Returns where the guest is, if the stack is recorded: the offset in the original module of the instruction that
    /// runs or has failed, in the lower half, and the number of functions that have begun and not returned, in the upper.
    pub position: Option<String>,
    /// Writes the mutable globals, the injected ones included, to the beginning of the memory. `[] -> [i64]`: the number
    /// of bytes, or -1 if the code can change tables or drop segments, which are not written.
    ///
    /// It is there if the module has something to start: a start function, `_initialize` or `_start`; not if the stack is
    /// recorded, or if there are mutable globals that are not numbers. What it writes is at most a page.
    pub save: Option<String>,
    /// Adds pages to the memory, then reads what [`save`](Self::save) wrote. `[i64] -> [i64]`: the number of pages; 1, or
    /// 0 if the memory cannot grow.
    pub load: Option<String>,
}

impl InternalExports {
    pub(crate) fn new(listing: &Listing, config: &Config) -> Self {
        let state = state::is_wanted(listing, config);
        Self {
            start: listing.start.map(|_| listing.unused_export("start function")),
            fuel: config.fuel.then(|| listing.unused_export("fuel")),
            unwind: ((config.stack.is_some() || config.backtrace) && listing.interface.has_start())
                .then(|| listing.unused_export("unwind")),
            position: config.backtrace.then(|| listing.unused_export("position")),
            save: state.then(|| listing.unused_export("save")),
            load: state.then(|| listing.unused_export("load")),
        }
    }

    /// Returns the functions added after the wrappers, in their order: the name, and the type among the injected ones.
    fn after_wrappers(&self) -> impl Iterator<Item = (&String, u64)> {
        let added = [(&self.fuel, 2), (&self.unwind, 3), (&self.position, 2), (&self.save, 2), (&self.load, 0)];
        added.into_iter().filter_map(|(name, ty)| Some((name.as_ref()?, ty)))
    }
}

/// Returns the rewritten module, and the exports added to it.
///
/// `code` is the bodies after the metering pass, if it ran, preceded by room for their number.
pub(crate) fn rewrite<'a>(
    bytes: &'a [u8],
    listing: &Listing,
    config: &Config,
    code: Vec<u8>,
) -> (Cow<'a, [u8]>, InternalExports) {
    let internal = InternalExports::new(listing, config);
    let module = Module { bytes, listing, config, at: listing.indices(config.backtrace), metered: config.is_metered() };
    let mut changed = BTreeMap::new();
    let mut change =
        |id, content: Option<Vec<u8>>| changed.extend(content.map(|content| (position(id), (id, content))));
    change(TABLE, module.content(TABLE).map(|_| module.tables()));
    let imported = listing.imported_memory.is_some();
    if imported || config.memory_pages.is_some() && module.content(MEMORY).is_some() {
        change(MEMORY, Some(module.memories(config.memory_pages)));
    }
    if module.metered {
        let wrapped = module.wrapped();
        change(TYPE, Some(module.types()));
        change(IMPORT, Some(module.imports()));
        change(FUNCTION, Some(module.functions(&wrapped, &internal)));
        change(GLOBAL, Some(module.globals()));
        change(EXPORT, Some(module.exports(&wrapped, &internal)));
        let declared = if listing.refers { wrapped.as_slice() } else { &[] };
        change(ELEMENT, module.elements(declared));
        change(CODE, Some(module.code(code, &wrapped, &internal)));
    } else {
        if imported {
            change(IMPORT, Some(module.imports()));
        }
        if internal.start.is_some() || listing.exports_memory || internal.save.is_some() {
            change(EXPORT, Some(module.exports(&[], &internal)));
        }
        if internal.save.is_some() {
            change(TYPE, Some(module.types()));
            change(FUNCTION, Some(module.functions(&[], &internal)));
            change(CODE, Some(module.code(Vec::new(), &[], &internal)));
        }
    }
    if changed.is_empty() && internal.start.is_none() {
        return (bytes.into(), internal);
    }
    let mut out =
        Vec::with_capacity(bytes.len() + changed.values().map(|(_, content)| content.len() + 8).sum::<usize>());
    out.extend_from_slice(bytes.get(..8).unwrap_or_default());
    for (id, begin, content) in &listing.sections {
        let whole = bytes.get(*begin..content.end).unwrap_or_default();
        if *id == 0 {
            // Function indices in custom sections would be wrong.
            out.extend_from_slice(if module.metered { &[] } else { whole });
            continue;
        }
        let place = position(*id);
        while let Some(entry) = changed.first_entry().filter(|entry| *entry.key() < place) {
            let (id, content) = entry.remove();
            section(&mut out, id, &content);
        }
        match changed.remove(&place) {
            Some((id, content)) => section(&mut out, id, &content),
            None if *id == START => {}
            None => out.extend_from_slice(whole),
        }
    }
    for (id, content) in changed.into_values() {
        section(&mut out, id, &content);
    }
    (out.into(), internal)
}

struct Module<'a> {
    bytes: &'a [u8],
    listing: &'a Listing,
    config: &'a Config,
    at: Indices,
    /// Whether functions are injected.
    metered: bool,
}

impl Module<'_> {
    fn content(&self, id: u8) -> Option<Range<usize>> {
        self.listing.sections.iter().find(|section| section.0 == id).map(|section| section.2.clone())
    }

    /// Returns a section's content after the number of its items, or nothing if there is no such section.
    fn items(&self, id: u8) -> &[u8] {
        let content = self.content(id).and_then(|range| self.bytes.get(range)).unwrap_or_default();
        content.get(number(content).1..).unwrap_or_default()
    }

    /// Returns the items of an index space that are not imported.
    fn own<'a, T>(&self, space: &'a [T], kind: fn(&ExternType) -> bool) -> &'a [T] {
        let imported = self.listing.interface.imports.iter().filter(|import| kind(&import.ty)).count();
        space.get(imported..).unwrap_or_default()
    }

    /// Returns the table section with a maximum for every table.
    ///
    /// Engines allocate as much memory for a table as `table.grow` asks for, and some end the process when there is
    /// none. With a maximum, `table.grow` returns -1 instead, at the same size on every engine.
    fn tables(&self) -> Vec<u8> {
        // Core 2.0, section 5.5.7: a vector of tables, each its element type and limits with a maximum (flag 1).
        let tables = self.own(&self.listing.tables, |ty| matches!(ty, ExternType::Table(_)));
        let mut out = Vec::new();
        leb128(&mut out, tables.len() as u64);
        for table in tables {
            out.extend([if table.element == ValType::FuncRef { 0x70 } else { 0x6f }, 1]);
            leb128(&mut out, table.minimum);
            leb128(
                &mut out,
                table.maximum.map_or(self.config.table_elements, |maximum| maximum.min(self.config.table_elements)),
            );
        }
        out
    }

    /// Returns the memory section with at most `pages` pages for a memory. An imported memory becomes the module's own.
    fn memories(&self, pages: Option<u64>) -> Vec<u8> {
        // Core 2.0, section 5.5.8: a vector of limits, with a maximum (flag 1) or without.
        let mut out = Vec::new();
        leb128(&mut out, self.listing.memories.len() as u64);
        for memory in &self.listing.memories {
            let maximum = [memory.maximum, pages].into_iter().flatten().min();
            out.push(maximum.is_some().into());
            leb128(&mut out, memory.minimum);
            if let Some(maximum) = maximum {
                leb128(&mut out, maximum);
            }
        }
        out
    }

    /// Returns the functions that get wrappers, each once: exported functions, and the start function.
    ///
    /// The host calls the wrapper in place of the function.
    fn wrapped(&self) -> Vec<u32> {
        if self.config.stack.is_none() && !self.config.fuel && !self.config.backtrace {
            return Vec::new();
        }
        let mut wrapped: Vec<u32> = self.exports_of_functions().map(|at| self.index(at).0).collect();
        wrapped.extend(self.listing.start);
        wrapped.retain(|index| *index >= self.at.imported);
        wrapped.sort_unstable();
        wrapped.dedup();
        wrapped
    }

    /// Returns the offsets at which exports name functions: after the length of the name, the name, and the kind.
    fn exports_of_functions(&self) -> impl Iterator<Item = usize> {
        self.listing.exported.iter().map(|at| {
            let (name, length) = self.index(*at);
            at + length + name as usize + 1
        })
    }

    /// Returns the index at an offset in the module, and its length in bytes.
    fn index(&self, at: usize) -> (u32, usize) {
        number(self.bytes.get(at..).unwrap_or_default())
    }

    /// Returns the new index of an exported function: that of its wrapper, if it has one.
    fn exported(&self, wrapped: &[u32], index: u32) -> u32 {
        match wrapped.binary_search(&index) {
            Ok(i) => self.at.wrappers() + i as u32,
            Err(_) if self.metered => self.at.func(index),
            Err(_) => index,
        }
    }

    /// Returns the type section, with the types of the injected functions after the module's own.
    fn types(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let recorded = if self.config.backtrace { 2 } else { 0 };
        leb128(&mut out, self.listing.types.len() as u64 + 4 + recorded);
        out.extend_from_slice(self.items(TYPE));
        // `[i64] -> [i64]`, `[i64] -> []`, `[] -> [i64]`, `[] -> []`.
        out.extend([0x60, 1, 0x7e, 1, 0x7e, 0x60, 1, 0x7e, 0, 0x60, 0, 1, 0x7e, 0x60, 0, 0]);
        if self.config.backtrace {
            // `[i32 i32 i32] -> []`, `[i32 i32] -> [i32]`.
            out.extend([0x60, 3, 0x7f, 0x7f, 0x7f, 0, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]);
        }
        out
    }

    fn ty(&self, injected: u64) -> u64 {
        self.listing.types.len() as u64 + injected
    }

    /// Returns the import section without the memory, and with the injected functions.
    fn imports(&self) -> Vec<u8> {
        let injected: &[_] = match (self.metered, self.config.backtrace) {
            (false, _) => &[],
            (true, false) => &[(TICK, 0), (OVERFLOW, 1)],
            (true, true) => &[(TICK, 0), (OVERFLOW, 1), (ENTER, 4)],
        };
        let mut out = Vec::new();
        leb128(&mut out, (self.listing.interface.imports.len() + injected.len()) as u64);
        match (self.content(IMPORT), &self.listing.imported_memory) {
            (Some(content), Some(memory)) => {
                let begin = content.start + self.index(content.start).1;
                out.extend_from_slice(self.bytes.get(begin..memory.start).unwrap_or_default());
                out.extend_from_slice(self.bytes.get(memory.end..content.end).unwrap_or_default());
            }
            _ => out.extend_from_slice(self.items(IMPORT)),
        }
        for &(function, ty) in injected {
            name(&mut out, MODULE);
            name(&mut out, function);
            out.push(0);
            leb128(&mut out, self.ty(ty));
        }
        out
    }

    fn functions(&self, wrapped: &[u32], internal: &InternalExports) -> Vec<u8> {
        let mut out = Vec::new();
        leb128(&mut out, self.number(wrapped, internal) as u64);
        out.extend_from_slice(self.items(FUNCTION));
        if self.metered {
            leb128(&mut out, self.ty(1));
        }
        if self.config.backtrace {
            leb128(&mut out, self.ty(5));
        }
        for index in wrapped {
            leb128(&mut out, self.listing.functions.get(*index as usize).copied().unwrap_or_default().into());
        }
        for (_, ty) in internal.after_wrappers() {
            leb128(&mut out, self.ty(ty));
        }
        out
    }

    /// Copies items that refer to functions, with the new indices.
    fn items_moved(&self, range: Range<usize>, out: &mut Vec<u8>) {
        let mut copied = range.start;
        for at in self.listing.mentions.iter().copied().filter(|at| range.contains(at)) {
            let (index, length) = self.index(at);
            out.extend_from_slice(self.bytes.get(copied..at).unwrap_or_default());
            leb128(out, self.at.func(index).into());
            copied = at + length;
        }
        out.extend_from_slice(self.bytes.get(copied..range.end).unwrap_or_default());
    }

    /// Returns the element section.
    ///
    /// Code may refer to exported functions. If wrappers are exported in their place, the functions need another
    /// declaration (core 2.0, section 3.4.10).
    fn elements(&self, declared: &[u32]) -> Option<Vec<u8>> {
        let content = self.content(ELEMENT);
        if content.is_none() && declared.is_empty() {
            return None;
        }
        let (count, length) = content.as_ref().map_or((0, 0), |content| self.index(content.start));
        let mut out = Vec::new();
        leb128(&mut out, u64::from(count) + u64::from(!declared.is_empty()));
        if let Some(content) = content {
            self.items_moved(content.start + length..content.end, &mut out);
        }
        if !declared.is_empty() {
            // Core 2.0, section 5.5.12: declarative, of functions by their indices.
            out.extend([3, 0]);
            leb128(&mut out, declared.len() as u64);
            for index in declared {
                leb128(&mut out, self.at.func(*index).into());
            }
        }
        Some(out)
    }

    fn globals(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let recorded = if self.config.backtrace { 2 } else { 0 };
        leb128(&mut out, u64::from(self.at.own_globals) + 2 + recorded);
        if let Some(content) = self.content(GLOBAL) {
            let begin = content.start + self.index(content.start).1;
            self.items_moved(begin..content.end, &mut out);
        }
        // Core 2.0, section 5.5.9: a type, whether it is mutable, and an expression.
        out.extend([0x7e, 1, 0x42, 0, 0x0b]);
        out.extend([0x7e, 1, 0x42]);
        signed(&mut out, self.config.height().into());
        out.push(0x0b);
        (0..recorded).for_each(|_| out.extend([0x7f, 1, 0x41, 0, 0x0b]));
        out
    }

    fn exports(&self, wrapped: &[u32], internal: &InternalExports) -> Vec<u8> {
        // Core 2.0, section 5.5.10: a vector of exports, each its name, its kind (0: function, 2: memory) and its
        // index.
        let added = internal.start.iter().count() + internal.after_wrappers().count();
        let mut out = Vec::new();
        leb128(&mut out, (self.listing.interface.exports.len() + added) as u64);
        if let Some(content) = self.content(EXPORT) {
            let mut copied = content.start + self.index(content.start).1;
            for at in self.exports_of_functions() {
                let (index, length) = self.index(at);
                out.extend_from_slice(self.bytes.get(copied..at).unwrap_or_default());
                leb128(&mut out, self.exported(wrapped, index).into());
                copied = at + length;
            }
            out.extend_from_slice(self.bytes.get(copied..content.end).unwrap_or_default());
        }
        if self.listing.exports_memory {
            name(&mut out, MEMORY_EXPORT);
            out.extend([2, 0]);
        }
        if let (Some(start), Some(index)) = (&internal.start, self.listing.start) {
            name(&mut out, start);
            out.push(0);
            leb128(&mut out, self.exported(wrapped, index).into());
        }
        let behind = if self.metered { self.at.wrappers() } else { self.at.functions };
        let behind = u64::from(behind) + wrapped.len() as u64;
        for (index, (added, _)) in (behind..).zip(internal.after_wrappers()) {
            name(&mut out, added);
            out.push(0);
            leb128(&mut out, index);
        }
        out
    }

    /// Returns how many functions are not imported, injected ones included.
    fn number(&self, wrapped: &[u32], internal: &InternalExports) -> usize {
        let own = self.listing.functions.len() - self.at.imported as usize;
        let slow = usize::from(self.metered) + usize::from(self.config.backtrace);
        own + slow + wrapped.len() + internal.after_wrappers().count()
    }

    /// Returns the code section, with the bodies of the injected functions after the module's own.
    fn code(&self, mut out: Vec<u8>, wrapped: &[u32], internal: &InternalExports) -> Vec<u8> {
        if out.is_empty() {
            out.extend(ROOM);
        }
        fill(&mut out, self.number(wrapped, internal));
        if self.metered {
            body(&mut out, &emit::slow(self.at));
        } else {
            out.extend_from_slice(self.items(CODE));
        }
        if self.config.backtrace {
            body(&mut out, &emit::entered(self.at));
        }
        for index in wrapped {
            let ty = self.listing.functions.get(*index as usize).and_then(|ty| self.listing.func_type(*ty));
            let params = ty.map_or(0, |ty| ty.params.len() as u32);
            let own = index.saturating_sub(self.at.imported) as usize;
            let reserve = self.listing.reserves.get(own).copied().unwrap_or_default();
            body(&mut out, &emit::wrapper(self.config.metering(), self.at, *index, params, reserve));
        }
        if internal.fuel.is_some() {
            body(&mut out, &emit::fuel(self.at));
        }
        if internal.unwind.is_some() {
            body(&mut out, &emit::unwind(self.config.metering(), self.at, self.config.height()));
        }
        if internal.position.is_some() {
            body(&mut out, &emit::position(self.at));
        }
        if internal.save.is_some() {
            body(&mut out, &state::save(self.listing, self.config));
        }
        if internal.load.is_some() {
            body(&mut out, &state::load(self.listing, self.config));
        }
        out
    }
}

fn position(id: u8) -> usize {
    ORDER.iter().position(|other| *other == id).unwrap_or(ORDER.len())
}

/// Appends a section of the binary format (core 2.0, section 5.5.2).
fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    body(out, content);
}

fn name(out: &mut Vec<u8>, name: &str) {
    body(out, name.as_bytes());
}
