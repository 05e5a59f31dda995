//! What a module's functions call, worked out from `docs/metering.md` and not from the code, the slow and simple way.

use std::collections::{BTreeSet, HashSet};

use wasmparser::{Operator, Parser, Payload};

use crate::parts::Parts;

/// The most instructions of a short function.
const SHORT: u64 = 512;
/// The instructions that a call of another function counts as.
const CALL: u64 = 16;
/// The longest path of functions whose frames are not counted.
const PATH: u64 = 16_384;

/// A call of one of some functions.
struct Call {
    in_loop: bool,
    /// Imported functions are not among them.
    functions: Vec<usize>,
    imported: bool,
}

/// A module's own functions.
pub(crate) struct Calls {
    calls: Vec<Vec<Call>>,
    diverges: Vec<bool>,
    recursive: Vec<bool>,
    short: Vec<bool>,
    /// Of each function whose frame is not counted, the size.
    uncounted: Vec<Option<u64>>,
}

impl Calls {
    pub(crate) fn new(wasm: &[u8], parts: &Parts<'_>) -> wasmparser::Result<Self> {
        let referred = referred(wasm, parts)?;
        let own = |function: &u32| (*function as usize).checked_sub(parts.imported);
        let one = |function: u32, in_loop| Call {
            in_loop,
            functions: own(&function).into_iter().collect(),
            imported: own(&function).is_none(),
        };
        let any = |ty: u32, in_loop| {
            let functions =
                referred.iter().filter(|function| *parts.func(**function as usize) == parts.types[ty as usize]);
            let (own, imported): (Vec<_>, Vec<_>) = functions.map(own).partition(Option::is_some);
            Call { in_loop, functions: own.into_iter().flatten().collect(), imported: !imported.is_empty() }
        };
        let (mut calls, mut diverges, mut costs, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for body in &parts.bodies {
            let operators = body.get_operators_reader()?.into_iter().collect::<wasmparser::Result<Vec<_>>>()?;
            let mut blocks = vec![false];
            let (mut made, mut cost, mut left) = (Vec::new(), 0, false);
            for operator in &operators {
                let in_loop = blocks.contains(&true) || matches!(operator, Operator::Loop { .. });
                if !in_loop && self::costs(operator) {
                    cost += 1;
                }
                let mut leaves = |depth: u32| left |= depth as usize == blocks.len() - 1;
                match operator {
                    Operator::Return => left = true,
                    Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => leaves(*relative_depth),
                    Operator::BrTable { targets } => {
                        for depth in targets.targets() {
                            leaves(depth?);
                        }
                        leaves(targets.default());
                    }
                    Operator::Loop { .. } => blocks.push(true),
                    Operator::Block { .. } | Operator::If { .. } => blocks.push(false),
                    Operator::End => drop(blocks.pop()),
                    Operator::Call { function_index } => made.push(one(*function_index, in_loop)),
                    Operator::CallIndirect { type_index, .. } => made.push(any(*type_index, in_loop)),
                    _ => {}
                }
            }
            // The last one ends the function.
            let last = operators.iter().rev().nth(1);
            diverges.push(!left && matches!(last, Some(Operator::Unreachable)));
            let mut declared = 0;
            for locals in body.get_locals_reader()? {
                declared += u64::from(locals?.0);
            }
            cost += declared.div_ceil(8);
            let size = body.range().len() as u64 + declared;
            calls.push(made);
            costs.push(cost);
            sizes.push(size);
        }
        let count = calls.len();
        let mut found =
            Self { calls, diverges, recursive: Vec::new(), short: vec![false; count], uncounted: vec![None; count] };
        found.recursive = (0..count).map(|function| found.reachable(function).contains(&function)).collect();
        // A function is decided after those that it calls.
        let mut decided = HashSet::new();
        (0..count).for_each(|function| found.decide(function, &costs, &sizes, &mut decided));
        Ok(found)
    }

    /// Returns the functions that a function calls, except those that diverge.
    fn called(&self, function: usize) -> impl Iterator<Item = usize> {
        self.calls[function].iter().flat_map(|call| &call.functions).copied().filter(|called| !self.diverges[*called])
    }

    /// Returns all functions that a function calls, directly or through others.
    fn reachable(&self, function: usize) -> HashSet<usize> {
        let (mut found, mut open) = (HashSet::new(), vec![function]);
        while let Some(function) = open.pop() {
            open.extend(self.called(function).filter(|called| found.insert(*called)));
        }
        found
    }

    fn decide(&mut self, function: usize, costs: &[u64], sizes: &[u64], decided: &mut HashSet<usize>) {
        if !decided.insert(function) {
            return;
        }
        let called: Vec<usize> = self.called(function).collect();
        called.iter().for_each(|called| self.decide(*called, costs, sizes, decided));
        if self.recursive[function] || self.diverges[function] {
            return;
        }
        self.short[function] = self.cost(function, costs) <= SHORT;
        let path = called.iter().map(|called| self.path(*called)).max().unwrap_or_default() + sizes[function];
        self.uncounted[function] = Some(sizes[function]).filter(|_| path <= PATH);
    }

    fn cost(&self, function: usize, costs: &[u64]) -> u64 {
        let one = |called: &usize| if self.short[*called] { self.cost(*called, costs) } else { CALL };
        let call = |call: &Call| {
            let own = call.functions.iter().map(one).max().unwrap_or_default();
            if call.imported { own.max(CALL) } else { own }
        };
        costs[function] + self.calls[function].iter().filter(|call| !call.in_loop).map(call).sum::<u64>()
    }

    /// Returns the size of the longest path.
    fn path(&self, function: usize) -> u64 {
        self.longest(function, &|function| self.uncounted[function])
    }

    /// Returns the largest sum of `size` on a path from a function, over those functions that have a size.
    ///
    /// No function whose frame is not counted comes twice, so each recursion is passed through as a whole.
    fn longest(&self, function: usize, size: &dyn Fn(usize) -> Option<u64>) -> u64 {
        let around: BTreeSet<usize> = if self.recursive[function] {
            let group = self.reachable(function).into_iter();
            group.filter(|other| self.reachable(*other).contains(&function)).collect()
        } else {
            [function].into()
        };
        let beyond = around.iter().flat_map(|member| self.called(*member)).filter(|called| !around.contains(called));
        let beyond: BTreeSet<usize> = beyond.collect();
        beyond.iter().map(|called| self.longest(*called, size)).max().unwrap_or_default() + size(function).unwrap_or(0)
    }

    pub(crate) fn is_short(&self, function: usize) -> bool {
        self.short[function]
    }

    pub(crate) fn is_counted(&self, function: usize) -> bool {
        self.uncounted[function].is_none()
    }

    pub(crate) fn diverges(&self, function: usize) -> bool {
        self.diverges[function]
    }

    /// Returns the reserve of a call by the host, or of a function that diverges: the largest sum of frames.
    pub(crate) fn reserve(&self, function: usize, frames: &[u32]) -> u32 {
        self.longest(function, &|other| self.uncounted[other].map(|_| frames[other].into())) as u32
    }
}

/// Returns whether an instruction costs anything.
pub(crate) fn costs(operator: &Operator<'_>) -> bool {
    !matches!(operator, Operator::Nop | Operator::Block { .. } | Operator::Loop { .. } | Operator::Else | Operator::End)
}

/// Returns the functions that a module refers to, other than by calling or exporting them.
fn referred(wasm: &[u8], parts: &Parts<'_>) -> wasmparser::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut expression = |operator: Operator<'_>| {
        if let Operator::RefFunc { function_index } = operator {
            found.insert(function_index);
        }
    };
    for body in &parts.bodies {
        for operator in body.get_operators_reader()? {
            expression(operator?);
        }
    }
    let mut functions = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::GlobalSection(globals) => {
                for global in globals {
                    for operator in global?.init_expr.get_operators_reader() {
                        expression(operator?);
                    }
                }
            }
            Payload::ElementSection(elements) => {
                for element in elements {
                    match element?.items {
                        wasmparser::ElementItems::Functions(indices) => {
                            for index in indices {
                                functions.push(index?);
                            }
                        }
                        wasmparser::ElementItems::Expressions(_, expressions) => {
                            for items in expressions {
                                for operator in items?.get_operators_reader() {
                                    expression(operator?);
                                }
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }
    found.extend(functions);
    Ok(found)
}
