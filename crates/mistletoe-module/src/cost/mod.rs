//! Bounds what a module may cost to compile.
//!
//! The cost is counted from the module's bytes, before any work whose cost is out of proportion to them. This bounds
//! the validator's own work, too. `docs/compile-cost.md` defines what counts.

use wasmparser::{
    BlockType, CompositeInnerType, ElementItems, FrameKind, FuncValidator, Payload, RecGroup, TypeRef,
    TypeSectionReader, ValidatorResources,
};

use crate::binary::{number, op};
use crate::declared::{
    MAX_BODY, MAX_BRANCH_TARGETS, MAX_ELEMENTS, MAX_EXPORTS, MAX_FUNCTIONS, MAX_GLOBALS, MAX_IMPORTS,
    MAX_LOOP_BRANCHES, MAX_NESTED_LOOPS, MAX_SEGMENTS, MAX_TABLES, MAX_TYPE_VALUES, MAX_TYPES,
};
use crate::error::{CompileCost, DeclaredItem, ErrorKind};
use merges::Merges;

mod merges;

/// Values that a module may move: a base, plus an amount for each byte of its code.
const MOVED: (u64, u64) = (25_000, 1);
/// Values that a function counts as, besides its own: engines compile its entries and exits, and record metadata.
const FUNCTION: u64 = 24;
/// Values that an element counts as if it is an expression: engines compile code that evaluates it.
const EXPRESSION: u64 = 16;
/// Values that a module may hold at labels and calls: a base, plus an amount for each byte of its code.
const HELD: (u64, u64) = (100_000, 32);

/// Maximum sum of the squares of the functions' merges: a base, plus an amount for each byte of code.
const MERGED: (u64, u64) = (4_000_000, 8_000);
/// Functions with shorter bodies than this have too few merges to matter.
const SHORT: usize = 2_048;

type Validated = FuncValidator<ValidatorResources>;

/// Number of parameters and results of a function type.
#[derive(Clone, Copy, Debug, Default)]
struct Arity {
    params: u16,
    results: u16,
}

impl Arity {
    fn both(self) -> u64 {
        u64::from(self.params) + u64::from(self.results)
    }
}

/// What has been counted so far.
#[derive(Debug)]
pub(crate) struct Budget {
    types: Vec<Arity>,
    /// The type index of each function.
    functions: Vec<u32>,
    moved: Count,
    held: Count,
    /// Parameters and locals of the function being read.
    locals: u64,
    /// Number of its results.
    results: u64,
    /// Number of its open loops.
    loops: u64,
    /// Number of branches to its loops.
    turns: u64,
    /// Its merges, if it is long enough for them to matter.
    merges: Option<Merges>,
    spare: Merges,
    /// Squares of the merges of earlier functions.
    merged: Count,
    /// Maximum number of merges in this function.
    room: u64,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    used: u64,
    limit: u64,
}

impl Count {
    /// Creates an empty count, with the limit of a module without code.
    const fn new((limit, _): (u64, u64)) -> Self {
        Self { used: 0, limit }
    }

    fn add(&mut self, more: u64, cost: CompileCost) -> Result<(), Excess> {
        self.used = self.used.saturating_add(more);
        if self.used > self.limit { Err(Excess::Cost(cost)) } else { Ok(()) }
    }
}

/// What a function has too much of: [`Budget::error`] gives the limit.
///
/// Small, since it is returned for each instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Excess {
    LoopBranches,
    BranchTargets,
    NestedLoops,
    Cost(CompileCost),
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            types: Vec::new(),
            functions: Vec::new(),
            moved: Count::new(MOVED),
            held: Count::new(HELD),
            locals: 0,
            results: 0,
            loops: 0,
            turns: 0,
            merges: None,
            spare: Merges::default(),
            merged: Count::new(MERGED),
            room: 0,
        }
    }
}

impl Budget {
    /// Counts a section before the validator sees it. The validator reports what cannot be read.
    pub(crate) fn section(&mut self, payload: &Payload<'_>) -> Result<(), ErrorKind> {
        let few = |item, count: u32, limit: usize| {
            if count as usize > limit { Err(too_many(item, limit as u64)) } else { Ok(()) }
        };
        match payload {
            Payload::TypeSection(section) => {
                few(DeclaredItem::Types, section.count(), MAX_TYPES)?;
                self.types(section)?;
            }
            Payload::ImportSection(section) => {
                few(DeclaredItem::Imports, section.count(), MAX_IMPORTS)?;
                let mut tables = 0;
                for import in section.clone().into_imports().map_while(Result::ok) {
                    match import.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.functions.push(ty),
                        TypeRef::Table(_) => tables += 1,
                        _ => {}
                    }
                }
                few(DeclaredItem::Tables, tables, MAX_TABLES)?;
            }
            Payload::FunctionSection(section) => {
                few(
                    DeclaredItem::Functions,
                    section.count().saturating_add(self.functions.len() as u32),
                    MAX_FUNCTIONS,
                )?;
                self.functions.extend(section.clone().into_iter().map_while(Result::ok));
            }
            Payload::TableSection(section) => few(DeclaredItem::Tables, section.count(), MAX_TABLES)?,
            Payload::GlobalSection(section) => few(DeclaredItem::Globals, section.count(), MAX_GLOBALS)?,
            Payload::ExportSection(section) => few(DeclaredItem::Exports, section.count(), MAX_EXPORTS)?,
            Payload::ElementSection(section) => {
                few(DeclaredItem::ElementSegments, section.count(), MAX_SEGMENTS)?;
                let mut elements = 0_u32;
                for element in section.clone().into_iter().map_while(Result::ok) {
                    let more = match element.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, items) => {
                            self.moved.used += EXPRESSION * u64::from(items.count());
                            items.count()
                        }
                    };
                    elements = elements.saturating_add(more);
                    few(DeclaredItem::Elements, elements, MAX_ELEMENTS)?;
                }
            }
            Payload::DataCountSection { count, .. } => few(DeclaredItem::DataSegments, *count, MAX_SEGMENTS)?,
            Payload::DataSection(section) => few(DeclaredItem::DataSegments, section.count(), MAX_SEGMENTS)?,
            Payload::CodeSectionStart { size, .. } => {
                for (count, (_, each)) in [(&mut self.moved, MOVED), (&mut self.held, HELD), (&mut self.merged, MERGED)]
                {
                    count.limit += each * u64::from(*size);
                }
            }
            Payload::CodeSectionEntry(body) => few(DeclaredItem::FunctionBytes, body.range().len() as u32, MAX_BODY)?,
            // Sections before the code add to the count before its limit is known.
            Payload::End(_) => self.moved.add(0, CompileCost::MovedValues).map_err(|excess| self.error(excess))?,
            _ => {}
        }
        Ok(())
    }

    /// Reads the type section with the validator's own reader, since a type can be written in several ways.
    ///
    /// If the reader cannot read a type, the validator stops there, too.
    fn types(&mut self, section: &TypeSectionReader<'_>) -> Result<(), ErrorKind> {
        let mut values = 0;
        for ty in section.clone().into_iter().map_while(Result::ok).flat_map(RecGroup::into_types) {
            let arity = match ty.composite_type.inner {
                CompositeInnerType::Func(ty) => {
                    // A type has at most a thousand of each.
                    Arity { params: ty.params().len() as u16, results: ty.results().len() as u16 }
                }
                _ => Arity::default(),
            };
            values += arity.both();
            if values > MAX_TYPE_VALUES {
                return Err(too_many(DeclaredItem::TypeValues, MAX_TYPE_VALUES));
            }
            // An engine compiles an entry and an exit for each type.
            self.moved.used = 2 * values;
            self.types.push(arity);
        }
        Ok(())
    }

    fn arity(&self, ty: u32) -> Arity {
        self.types.get(ty as usize).copied().unwrap_or_default()
    }

    fn block(&self, ty: BlockType) -> Arity {
        match ty {
            BlockType::Empty => Arity::default(),
            BlockType::Type(_) => Arity { params: 0, results: 1 },
            BlockType::FuncType(ty) => self.arity(ty),
        }
    }

    /// Records a branch to a label, and returns how many values it carries.
    fn branch(&mut self, function: &Validated, label: u32) -> Result<u64, Excess> {
        let Some(frame) = function.get_control_frame(label as usize) else { return Ok(0) };
        let arity = self.block(frame.block_type);
        if frame.kind != FrameKind::Loop {
            return Ok(arity.results.into());
        }
        self.turns += 1;
        if self.turns > MAX_LOOP_BRANCHES {
            return Err(Excess::LoopBranches);
        }
        Ok(arity.params.into())
    }

    /// Begins a function that declares `declared` locals, and whose body has `length` bytes.
    pub(crate) fn function(&mut self, function: &Validated, declared: u32, length: usize) -> Result<(), Excess> {
        let ty = self.functions.get(function.index() as usize).copied().unwrap_or_default();
        let arity = self.arity(ty);
        self.locals = u64::from(arity.params) + u64::from(declared);
        (self.results, self.loops, self.turns) = (arity.results.into(), 0, 0);
        let mut merges = match self.merges.take() {
            Some(merges) => {
                self.merged.used = self.merged.used.saturating_add(merges.used().saturating_pow(2));
                merges
            }
            None => std::mem::take(&mut self.spare),
        };
        if length < SHORT {
            self.spare = merges;
        } else {
            merges.begin(self.locals as usize);
            self.merges = Some(merges);
            self.room = self.merged.limit.saturating_sub(self.merged.used).isqrt();
        }
        // A function has two entries: one for other functions, and one for the host.
        self.moved.add(FUNCTION + 2 * arity.both() + u64::from(declared), CompileCost::MovedValues)
    }

    /// Counts the instruction that begins at this offset in the module, if there is one.
    #[inline(always)]
    pub(crate) fn instruction(&mut self, function: &Validated, bytes: &[u8], at: usize) -> Result<(), Excess> {
        let opcode = bytes.get(at).copied().unwrap_or(op::NOP);
        // Most instructions are none of these.
        if !matches!(opcode, op::BLOCK..=op::CALL_INDIRECT | op::LOCAL_GET..=op::LOCAL_TEE | op::TABLE_GET | op::PREFIX)
        {
            return Ok(());
        }
        if opcode < op::LOCAL_GET {
            return self.control(function, opcode, bytes.get(at + 1..).unwrap_or_default());
        }
        let Some(merges) = &mut self.merges else { return Ok(()) };
        if opcode > op::LOCAL_TEE {
            // `table.init`, `table.copy`, `table.grow` and `table.fill`: core 2.0, section 5.4.6.
            let accesses = match opcode {
                op::TABLE_GET => 1,
                _ if matches!(number(bytes.get(at + 1..).unwrap_or_default()).0, 12 | 14 | 15 | 17) => 2,
                _ => return Ok(()),
            };
            merges.access_table(accesses);
            return self.merged();
        }
        let local = match bytes.get(at + 1) {
            Some(byte @ ..0x80) => u32::from(*byte),
            _ => number(bytes.get(at + 1..).unwrap_or_default()).0,
        };
        if opcode != op::LOCAL_GET {
            merges.set(local);
            Ok(())
        } else if merges.get(local) {
            self.merged()
        } else {
            Ok(())
        }
    }

    fn merged(&self) -> Result<(), Excess> {
        match &self.merges {
            Some(merges) if merges.used() > self.room => Err(Excess::Cost(CompileCost::MergedValues)),
            _ => Ok(()),
        }
    }

    /// Returns the error for an excess.
    pub(crate) fn error(&self, excess: Excess) -> ErrorKind {
        let dear = |cost, count: Count| ErrorKind::TooCostly { cost, limit: count.limit };
        match excess {
            Excess::LoopBranches => too_many(DeclaredItem::LoopBranches, MAX_LOOP_BRANCHES),
            Excess::BranchTargets => too_many(DeclaredItem::BranchTargets, MAX_BRANCH_TARGETS),
            Excess::NestedLoops => too_many(DeclaredItem::NestedLoops, MAX_NESTED_LOOPS),
            Excess::Cost(cost @ CompileCost::MovedValues) => dear(cost, self.moved),
            Excess::Cost(cost @ CompileCost::HeldValues) => dear(cost, self.held),
            Excess::Cost(cost @ CompileCost::MergedValues) => dear(cost, self.merged),
        }
    }

    /// Counts an instruction that branches, calls, or begins or ends a label.
    fn control(&mut self, function: &Validated, opcode: u8, operands: &[u8]) -> Result<(), Excess> {
        if opcode == op::END {
            if self.loops != 0 && function.get_control_frame(0).is_some_and(|frame| frame.kind == FrameKind::Loop) {
                self.loops -= 1;
            }
            let Some(merges) = &mut self.merges else { return Ok(()) };
            merges.end();
            return self.merged();
        }
        let (index, length) = number(operands);
        let (moved, times) = match opcode {
            op::BLOCK | op::LOOP | op::IF => {
                let ty = match operands.first() {
                    Some(&op::EMPTY) => Arity::default(),
                    Some(0x41..0x80) => Arity { params: 0, results: 1 },
                    _ => self.arity(index),
                };
                (ty.both(), 1)
            }
            op::BR | op::BR_IF => (self.branch(function, index)?, 1),
            op::BR_TABLE => {
                let labels = u64::from(index) + 1;
                if labels > MAX_BRANCH_TARGETS {
                    return Err(Excess::BranchTargets);
                }
                let mut rest = operands.get(length..).unwrap_or_default();
                let mut carried = 0;
                for _ in 0..labels {
                    let (label, length) = number(rest);
                    carried += self.branch(function, label)?;
                    rest = rest.get(length..).unwrap_or_default();
                }
                (carried, labels)
            }
            op::RETURN => (self.results, 0),
            op::CALL => (self.functions.get(index as usize).map_or(0, |ty| self.arity(*ty).both()), 1),
            op::CALL_INDIRECT => {
                if let Some(merges) = &mut self.merges {
                    merges.access_table(1);
                    self.merged()?;
                }
                (self.arity(index).both(), 1)
            }
            _ => return Ok(()),
        };
        if let (op::BLOCK | op::LOOP | op::IF, Some(merges)) = (opcode, &mut self.merges) {
            merges.open(opcode == op::LOOP);
        }
        if opcode == op::LOOP {
            self.loops += 1;
            if self.loops > MAX_NESTED_LOOPS {
                return Err(Excess::NestedLoops);
            }
        }
        self.moved.add(moved, CompileCost::MovedValues)?;
        let held = self.locals + u64::from(function.operand_stack_height());
        self.held.add(held * times, CompileCost::HeldValues)
    }
}

fn too_many(item: DeclaredItem, limit: u64) -> ErrorKind {
    ErrorKind::TooMany { item, limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::{body, leb128};
    use crate::{Config, inspect, instrument};

    const I32: u8 = 0x7f;

    /// A section of `count` items.
    fn section(id: u8, count: usize, items: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        leb128(&mut content, count as u64);
        content.extend_from_slice(items);
        let mut section = vec![id];
        body(&mut section, &content);
        section
    }

    fn module(sections: &[Vec<u8>]) -> Vec<u8> {
        [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
    }

    fn number(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        leb128(&mut out, number);
        out
    }

    fn ty(params: usize, results: usize) -> Vec<u8> {
        let values = |count: usize| [number(count as u64), vec![I32; count]].concat();
        [vec![0x60], values(params), values(results)].concat()
    }

    /// Functions of these types with this code, without locals of their own.
    fn functions(types: &[(usize, usize)], code: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let types: Vec<_> = types.iter().map(|(params, results)| ty(*params, *results)).collect();
        let mut bodies = Vec::new();
        for (_, code) in code {
            body(&mut bodies, &[vec![0], code.clone(), vec![op::END]].concat());
        }
        module(&[
            section(1, types.len(), &types.concat()),
            section(3, code.len(), &code.iter().map(|(ty, _)| *ty).collect::<Vec<_>>()),
            section(10, code.len(), &bodies),
        ])
    }

    /// Returns why a module is refused.
    fn refused(module: &[u8]) -> Option<ErrorKind> {
        let kind = instrument(module, &Config::default()).err().map(|error| error.kind().clone());
        assert_eq!(inspect(module).invalid.map(|error| error.kind().clone()), kind);
        kind
    }

    /// Checks that a module is valid up to the limit, and has too many beyond it.
    fn edge(item: DeclaredItem, limit: u64, module: impl Fn(usize) -> Vec<u8>) {
        assert_eq!(refused(&module(limit as usize)), None, "{item}");
        assert_eq!(refused(&module(limit as usize + 1)), Some(too_many(item, limit)), "{item}");
    }

    #[test]
    fn what_a_section_has_too_many_of_is_refused_by_its_name() {
        edge(DeclaredItem::Parameters, 1000, |count| module(&[section(1, 1, &ty(count, 0))]));
        edge(DeclaredItem::Results, 1000, |count| module(&[section(1, 1, &ty(0, count))]));
        edge(DeclaredItem::TypeValues, 1_000_000, |count| {
            let types = [ty(0, count % 1000), ty(1000, 0).repeat(count / 1000)].concat();
            // Enough code to stay within the budget for compiling.
            let mut bodies = Vec::new();
            body(&mut bodies, &[vec![0], vec![op::NOP; 2_000_000], vec![op::END]].concat());
            module(&[section(1, count / 1000 + 1, &types), section(3, 1, &[0]), section(10, 1, &bodies)])
        });
        edge(DeclaredItem::Elements, 1_000_000, |count| {
            let declared = |count: usize| [vec![3, 0], number(count as u64), vec![0; count]].concat();
            let elements = section(9, 2, &[declared(1), declared(count - 1)].concat());
            module(&[section(1, 1, &ty(0, 0)), section(3, 1, &[0]), elements, section(10, 1, &[2, 0, op::END])])
        });
        edge(DeclaredItem::ElementSegments, 100_000, |count| module(&[section(9, count, &[1, 0, 0].repeat(count))]));
        edge(DeclaredItem::DataSegments, 100_000, |count| module(&[section(11, count, &[1, 0].repeat(count))]));
        edge(DeclaredItem::DataSegments, 100_000, |count| {
            let mut counted = vec![12];
            body(&mut counted, &number(count as u64));
            module(&[counted, section(11, count, &[1, 0].repeat(count))])
        });
        edge(DeclaredItem::Tables, 16, |count| module(&[section(4, count, &[0x70, 0, 0].repeat(count))]));
        assert_eq!(
            refused(&module(&[section(4, 101, &[0x70, 0, 0].repeat(101))])),
            Some(too_many(DeclaredItem::Tables, 16))
        );
    }

    #[test]
    fn what_the_validator_has_limits_of_its_own_for_is_not_called_invalid() {
        let name = |length: usize| [number(length as u64), vec![b'a'; length]].concat();
        edge(DeclaredItem::NameBytes, 100_000, |length| {
            module(&[section(1, 1, &ty(0, 0)), section(2, 1, &[name(length), name(0), vec![0, 0]].concat())])
        });
        edge(DeclaredItem::NameBytes, 100_000, |length| {
            module(&[section(5, 1, &[0, 0]), section(7, 1, &[name(length), vec![2, 0]].concat())])
        });
        edge(DeclaredItem::NameBytes, 100_000, |length| {
            let mut custom = vec![0];
            body(&mut custom, &name(length));
            module(&[custom])
        });
        // A function counts 2, plus its parameters and results.
        edge(DeclaredItem::InterfaceValues, 999_998, |values| {
            let types = [ty(998, 0), ty(values % 1000 - 2, 0)].concat();
            let import = |ty: u8| [name(0), name(0), vec![0, ty]].concat();
            let imports = [import(0).repeat(values / 1000), import(1)].concat();
            module(&[section(1, 2, &types), section(2, values / 1000 + 1, &imports)])
        });
    }

    #[test]
    fn a_body_is_too_long_by_its_own_name() {
        // The declaration of no locals, an instruction of three bytes if the number is odd, and the end.
        edge(DeclaredItem::FunctionBytes, 7_654_321, |length| functions(&[(0, 0)], &[(0, vec![op::NOP; length - 2])]));
    }

    #[test]
    fn a_table_of_branches_has_no_more_labels_than_every_engine_takes() {
        edge(DeclaredItem::BranchTargets, 65_520, |labels| {
            let table = [vec![0x41, 0, op::BR_TABLE], number(labels as u64 - 1), vec![0; labels]];
            functions(&[(0, 0)], &[(0, table.concat())])
        });
    }

    /// Returns what costs too much in a module, if anything.
    fn dear(module: &[u8]) -> Option<CompileCost> {
        match refused(module) {
            None => None,
            Some(ErrorKind::TooCostly { cost, .. }) => Some(cost),
            other => panic!("{other:?}"),
        }
    }

    /// Returns the largest number below `most` that is accepted, and what costs too much with one more.
    fn largest(most: usize, module: impl Fn(usize) -> Vec<u8>) -> (usize, Option<CompileCost>) {
        let (mut accepted, mut refused) = (0, most);
        while refused - accepted > 1 {
            let middle = accepted.midpoint(refused);
            if dear(&module(middle)).is_none() { accepted = middle } else { refused = middle }
        }
        (accepted, dear(&module(refused)))
    }

    const CONST: [u8; 2] = [0x41, 0];

    /// Code with `values` constants on the stack, which it drops at the end.
    fn above(values: usize, code: &[u8]) -> Vec<u8> {
        [CONST.repeat(values), code.to_vec(), vec![0x1a; values]].concat()
    }

    #[test]
    fn values_that_blocks_branches_and_calls_move_are_counted_before_they_are_moved() {
        // Types: 0 of the function, 1 with 100 parameters and 100 results.
        let types = [(0, 0), (100, 100)];
        let limit = |code: &[u8]| MOVED.0 + MOVED.1 * (code.len() as u64 + 5);
        // This instruction, repeated. Each moves `moves` values.
        let edge = |again: &[u8], moves: u64| {
            let module = |times| functions(&types, &[(0, above(100, &again.repeat(times)))]);
            let (times, cost) = largest(10_000, module);
            assert_eq!(cost, Some(CompileCost::MovedValues), "{again:?}");
            // The function's size takes two bytes, its declaration of locals one, and its end one.
            let limit = |times| limit(&above(100, &again.repeat(times)));
            // The types count as 400, plus the function.
            let moved = |times: usize| 400 + FUNCTION + times as u64 * moves;
            assert!(moved(times) <= limit(times) && moved(times + 1) > limit(times + 1), "{again:?}: {times}");
        };
        edge(&[op::BLOCK, 1, op::END], 200);
        edge(&[op::LOOP, 1, op::END], 200);
        edge(&[0x41, 0, op::IF, 1, op::END], 200);
        // A branch to the function's end carries nothing; one to the end of the block carries 100.
        let branches = |label: u8| {
            let module = |times: usize| {
                let code = [CONST.repeat(100), [0x41, 0, op::BR_IF, label].repeat(times)].concat();
                let block = [vec![op::BLOCK, 2], code, vec![op::END], vec![0x1a; 100]].concat();
                functions(&[(0, 0), (100, 100), (0, 100)], &[(0, block)])
            };
            largest(10_000, module)
        };
        assert_eq!(branches(0).1, Some(CompileCost::MovedValues));
        // 25,000 / 96: each moves 100, and has 4 bytes.
        assert!((255..265).contains(&branches(0).0), "{}", branches(0).0);
        assert!(branches(1).0 > 9_000);
        // 60,001 labels that carry a thousand values each.
        let table = [vec![0x41, 0, op::BR_TABLE], number(60_000), vec![0; 60_001]].concat();
        let block = [vec![op::BLOCK, 1], CONST.repeat(1000), table, vec![op::END], vec![0x1a; 1000]].concat();
        assert_eq!(dear(&functions(&[(0, 0), (0, 1000)], &[(0, block)])), Some(CompileCost::MovedValues));
        // Calls, and functions whose parameters and locals are not used.
        let calls = |times: usize| {
            let code = above(100, &[op::CALL, 1].repeat(times));
            functions(&types, &[(0, code), (1, vec![0x00])])
        };
        let (times, cost) = largest(10_000, calls);
        // 25,000 / 198.
        assert_eq!((times / 10, cost), (12, Some(CompileCost::MovedValues)));
        let many = |count: usize| functions(&types, &vec![(1, vec![0x00]); count]);
        // 25,000 / 420.
        assert_eq!(largest(10_000, many), (58, Some(CompileCost::MovedValues)));
    }

    #[test]
    fn types_count_however_they_are_written() {
        // A type marked final, and one with the long form of `funcref`.
        for odd in [&[0x4f, 0, 0x60, 0, 0][..], &[0x60, 1, 0x63, 0x70, 0]] {
            let module = |count: usize| {
                let mut bodies = Vec::new();
                (0..count).for_each(|_| body(&mut bodies, &[0, 0x00, op::END]));
                module(&[
                    section(1, 2, &[odd, &ty(1000, 0)].concat()),
                    section(3, count, &vec![1; count]),
                    section(10, count, &bodies),
                ])
            };
            // 25,000 without the types' own 2,000, / 2,024.
            assert_eq!(largest(100, module), (11, Some(CompileCost::MovedValues)), "{odd:?}");
        }
    }

    #[test]
    fn values_that_are_held_across_blocks_and_calls_are_counted() {
        for again in [&[op::BLOCK, op::EMPTY, op::END][..], &[0x41, 0, op::IF, op::EMPTY, op::END], &[op::CALL, 1]] {
            let module = |times: usize| {
                functions(&[(0, 0), (0, 0)], &[(0, above(5_000, &again.repeat(times))), (1, Vec::new())])
            };
            let (times, cost) = largest(10_000, module);
            assert_eq!(cost, Some(CompileCost::HeldValues), "{again:?}");
            // 100,000 plus 32 for each of about 15,000 bytes, / 5,000.
            assert!((115..125).contains(&times), "{again:?}: {times}");
        }
    }

    #[test]
    fn merges_of_locals_are_counted_where_they_are_used() {
        // Sets the locals within 20 ifs, and uses them afterwards.
        let code = |locals: usize, used: bool| {
            let each = |opcode: u8| move |i: usize| [vec![opcode], number(i as u64)].concat();
            let sets: Vec<u8> = (0..locals).flat_map(|i| [CONST.to_vec(), each(op::LOCAL_SET)(i)].concat()).collect();
            let uses: Vec<u8> = (0..locals).flat_map(|i| [each(op::LOCAL_GET)(i), vec![0x1a]].concat()).collect();
            let ifs = [[0x41, 0, op::IF, op::EMPTY].repeat(20), sets, vec![op::END; 20]].concat();
            // Long enough to be counted.
            [ifs, if used { uses } else { Vec::new() }, vec![op::NOP; SHORT]].concat()
        };
        let module = |locals: usize, used: bool| {
            let content = [vec![1], number(locals as u64), vec![I32], code(locals, used), vec![op::END]].concat();
            let mut bodies = Vec::new();
            body(&mut bodies, &content);
            module(&[section(1, 1, &ty(0, 0)), section(3, 1, &[0]), section(10, 1, &bodies)])
        };
        // 20 for each local; the square is at most 4,000,000 plus 8,000 for each byte.
        let (locals, cost) = largest(1_500, |locals| module(locals, true));
        assert_eq!(cost, Some(CompileCost::MergedValues));
        let squares = |locals: usize| (20 * locals as u64).pow(2);
        let limit = |locals: usize| 4_000_000 + 8_000 * (code(locals, true).len() as u64 + 8);
        assert!(squares(locals) <= limit(locals) && squares(locals + 1) > limit(locals), "{locals}");
        // Unused locals are not merged.
        assert_eq!(dear(&module(1_500, false)), None);
    }

    #[test]
    fn accesses_to_tables_count_as_merges() {
        let (get, drop) = ([0x41, 0, op::TABLE_GET, 0], 0x1a);
        let null = [0xd0, 0x70];
        for (merges, again) in [
            (2, vec![0x41, 0, op::CALL_INDIRECT, 0, 0]),
            (2, [&get[..], &[drop]].concat()),
            (4, [&CONST.repeat(3)[..], &[op::PREFIX, 12, 0, 0]].concat()),
            (4, [&CONST.repeat(3)[..], &[op::PREFIX, 14, 0, 0]].concat()),
            (4, [&null[..], &CONST, &[op::PREFIX, 15, 0, drop]].concat()),
            (4, [&CONST[..], &null, &CONST, &[op::PREFIX, 17, 0]].concat()),
        ] {
            let code = |times: usize| [vec![op::NOP; 20_000], again.repeat(times)].concat();
            let module = |times: usize| {
                let mut bodies = Vec::new();
                body(&mut bodies, &[vec![0], code(times), vec![op::END]].concat());
                module(&[
                    section(1, 1, &ty(0, 0)),
                    section(3, 1, &[0]),
                    section(4, 1, &[0x70, 0, 0]),
                    section(9, 1, &[5, 0x70, 1, 0xd0, 0x70, op::END]),
                    section(10, 1, &bodies),
                ])
            };
            let (times, cost) = largest(60_000, module);
            assert_eq!(cost, Some(CompileCost::MergedValues), "{again:?}");
            // The number of functions, the body's length, and its first and last byte.
            let limit = |times: usize| MERGED.0 + MERGED.1 * (code(times).len() as u64 + 6);
            let squares = |times: usize| (merges * times as u64).pow(2);
            assert!(squares(times) <= limit(times) && squares(times + 1) > limit(times + 1), "{again:?}: {times}");
        }
    }

    #[test]
    fn a_function_has_no_more_loops_in_each_other_than_fifty() {
        let nested = |depth: usize| [[op::LOOP, op::EMPTY].repeat(depth), vec![op::END; depth]].concat();
        edge(DeclaredItem::NestedLoops, 50, |depth| functions(&[(0, 0)], &[(0, nested(depth))]));
        // Loops in sequence and nested blocks have no such limit.
        assert_eq!(refused(&functions(&[(0, 0)], &[(0, nested(50).repeat(100))])), None);
        let blocks = [[op::BLOCK, op::EMPTY].repeat(10_000), vec![op::END; 10_000]].concat();
        assert_eq!(refused(&functions(&[(0, 0)], &[(0, blocks)])), None);
    }

    #[test]
    fn a_function_has_no_more_branches_to_loops_than_engines_bear() {
        let within = |code: Vec<u8>| [vec![op::LOOP, op::EMPTY], code, vec![op::END]].concat();
        let branches = |count: usize| within([0x41, 0, op::BR_IF, 0].repeat(count));
        edge(DeclaredItem::LoopBranches, 32_768, |count| functions(&[(0, 0)], &[(0, branches(count))]));
        // Each function counts by itself, and labels of a table count, too.
        let table =
            |count: usize| within([vec![0x41, 0, op::BR_TABLE], number(count as u64 - 1), vec![0; count]].concat());
        edge(DeclaredItem::LoopBranches, 32_768, |count| functions(&[(0, 0)], &[(0, table(count)), (0, branches(1))]));
    }

    #[test]
    fn functions_and_elements_that_are_expressions_count_by_themselves() {
        let functions = |count: usize| functions(&[(0, 0)], &vec![(0, Vec::new()); count]);
        // Each has three bytes of code; the number of functions takes two bytes.
        let (most, cost) = largest(2_000, functions);
        assert_eq!((most as u64, cost), ((MOVED.0 + 2) / (FUNCTION - 3), Some(CompileCost::MovedValues)));
        let nulls = |count: usize| [vec![5, 0x70], number(count as u64), [0xd0, 0x70, op::END].repeat(count)].concat();
        let elements = |count: usize| module(&[section(9, 2, &[nulls(1), nulls(count - 1)].concat())]);
        let (most, cost) = largest(10_000, elements);
        assert_eq!((most as u64, cost), (MOVED.0 / EXPRESSION, Some(CompileCost::MovedValues)));
    }
}
