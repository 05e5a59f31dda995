//! Reads a module in one pass.
//!
//! The pass validates and lists the module, counts what compiling may cost, and meters functions' bodies.

use wasmparser::{
    Chunk, FuncValidator, FuncValidatorAllocations, FunctionBody, Parser, Payload, ValidPayload, Validator,
    ValidatorResources, WasmFeatures,
};

use crate::binary::{ROOM, fill};
use crate::calls::{Calls, Reserve};
use crate::config::Metering;
use crate::cost::Budget;
use crate::declared::MAX_FRAME;
use crate::error::{DeclaredItem, ErrorKind};
use crate::listing::{Indices, Listing};
use crate::meter::Body;
use crate::state::Changes;

/// Why reading the sections stopped early.
pub(crate) enum End {
    Truncated { offset: u64, missing: u64 },
    Malformed(wasmparser::Error),
}

/// The results of reading a module.
#[derive(Default)]
pub(crate) struct Reading<'a> {
    /// The listing, if one is wanted.
    pub(crate) listing: Option<&'a mut Listing>,
    /// What functions are instrumented with, if anything.
    pub(crate) metering: Metering,
    /// Where the injected items are in the index spaces.
    pub(crate) at: Option<Indices>,
    /// What functions call, if something is counted.
    pub(crate) calls: Calls,
    /// The frame of each function in units, if the stack depth is counted.
    pub(crate) frames: Vec<u32>,
    /// Where in the code a frame has to be filled in, and the function's position among the frames.
    pub(crate) unknown: Vec<(usize, usize)>,
    /// The instrumented bodies of the functions.
    pub(crate) code: Vec<u8>,
    /// The most bytes of instrumented code, if the stack is recorded.
    pub(crate) max_code: usize,
    /// Why the module is not valid.
    pub(crate) invalid: Option<wasmparser::Error>,
    /// What the module may cost to compile.
    pub(crate) budget: Budget,
    /// Why the module is read no further, whether it is valid or not.
    pub(crate) refused: Option<ErrorKind>,
    /// Whether only the sections are read, without the code and without validation.
    pub(crate) skims: bool,
    /// The largest number of values that a function holds at once.
    pub(crate) frame: u32,
    /// The length of the longest body after instrumentation.
    pub(crate) body: usize,
}

impl Reading<'_> {
    /// Reads the sections and validates them.
    ///
    /// After the first invalid section, reading continues without the validator, to list the rest.
    pub(crate) fn read(&mut self, bytes: &[u8], features: WasmFeatures) -> Result<(), End> {
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
                // At the end of the bytes the parser is told so, unless function bodies are still to come.
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
                Payload::CodeSectionStart { count, ref range, size } => {
                    if self.skims {
                        parser.skip_section();
                        rest = rest.get(size as usize..).unwrap_or_default();
                        continue;
                    }
                    bodies = count;
                    if self.metering.is_anything() {
                        // Mostly, instrumentation takes up a fifth of the result.
                        self.code.reserve(rest.len().min(size as usize) / 4 * 5);
                        self.code.extend(ROOM);
                    }
                    let is_read = self.metering.counts() && self.invalid.is_none() && self.refused.is_none();
                    if let Some(listing) = self.listing.as_ref().filter(|_| is_read) {
                        self.calls = Calls::read(bytes, bytes.get(range.clone()).unwrap_or_default(), listing);
                    }
                }
                Payload::CodeSectionEntry(_) => bodies = bodies.saturating_sub(1),
                _ => {}
            }
            // A skipped code section raises no limits, so the check at the end would be wrong.
            if self.refused.is_none() && !(self.skims && matches!(payload, Payload::End(_))) {
                self.refused = self.budget.section(&payload).err();
            }
            if self.invalid.is_none() && self.refused.is_none() && !self.skims {
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
            // After a refusal, only imports and exports are listed, up to their limits.
            let is_interface = matches!(payload, Payload::ImportSection(_) | Payload::ExportSection(_));
            if let Some(listing) = self.listing.as_mut().filter(|_| self.refused.is_none() || is_interface)
                && let Err(error) = listing.add(&payload, offset as usize..parser.offset() as usize)
            {
                // Everything that a valid section lists can be read, so this section is already known to be invalid.
                self.invalid.get_or_insert(error);
            }
            if matches!(payload, Payload::End(_)) {
                self.reserve();
                return Ok(());
            }
        }
    }

    /// Finds out what calls take of the stack for frames that are not counted, and fills in what was not known.
    fn reserve(&mut self) {
        let mut reserves = self.calls.heights(&self.frames);
        for (at, function) in self.unknown.drain(..) {
            let frame = self.frames.get(function).copied().unwrap_or_default();
            // Its callers reserve nothing for it.
            let reserve = reserves.get_mut(function).map_or(0, std::mem::take);
            fill(self.code.get_mut(at..).unwrap_or_default(), frame.saturating_add(reserve) as usize);
        }
        if let Some(listing) = &mut self.listing {
            let reads = |function: usize| self.calls.own(function).reads;
            let reserves = reserves.into_iter().enumerate();
            listing.reserves = reserves.map(|(function, units)| Reserve { units, reads: reads(function) }).collect();
        }
    }

    /// Validates a function's body, records how many values it holds at once, and instruments it.
    fn function(
        &mut self,
        function: &mut FuncValidator<ValidatorResources>,
        body: &FunctionBody<'_>,
        bytes: &[u8],
        features: WasmFeatures,
        scratch: &mut Body,
    ) -> wasmparser::Result<()> {
        // The validator has its own limit, above ours. It calls a function that exceeds it invalid, which it is not.
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
            Some(listing) if self.metering.is_anything() => {
                // Nothing after the first function's body affects this.
                let at = *self.at.get_or_insert_with(|| listing.indices(self.metering.backtrace));
                let own = self.calls.function_at(function.index());
                scratch.begin(self.metering, at, own, reader.original_position(), declared);
                Some(&**listing)
            }
            _ => None,
        };
        if let Err(excess) = self.budget.function(function, declared, body.range().len()) {
            self.refused = Some(self.budget.error(excess));
            return Ok(());
        }
        let mut operands = 0;
        let mut changes = Changes::default();
        while !reader.eof() {
            let offset = reader.original_position();
            if let Err(excess) = self.budget.instruction(function, bytes, offset) {
                self.refused = Some(self.budget.error(excess));
                return Ok(());
            }
            reader.visit_operator(&mut function.visitor(offset))??;
            operands = operands.max(function.operand_stack_height());
            changes.note(bytes.get(offset..).unwrap_or_default());
            if let Some(listing) = metered {
                scratch.instruction(bytes, offset..reader.original_position(), listing, &self.calls);
            }
        }
        // Locals include the parameters.
        let locals = function.len_locals();
        self.frame = self.frame.max(locals.saturating_add(operands));
        let offset = reader.original_position();
        reader.finish_expression(&function.visitor(offset))?;
        let is_metered = metered.is_some();
        if let Some(listing) = &mut self.listing {
            listing.changes.add(changes);
            listing.refers |= is_metered && scratch.refers;
        }
        if is_metered {
            let index = function.index();
            let (length, frame) = scratch.finish(index, bytes, body.range(), locals, operands, &mut self.code);
            self.body = self.body.max(length);
            self.unknown.extend(scratch.unknown.map(|at| (at, self.frames.len())));
            self.frames.extend(frame);
            if self.metering.backtrace && self.code.len() > self.max_code {
                self.refused = Some(ErrorKind::TooMany { item: DeclaredItem::CodeBytes, limit: self.max_code as u64 });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::ALLOWED;

    #[test]
    fn code_that_records_the_stack_is_read_until_it_is_too_long() {
        let calls = "(call 0)".repeat(100);
        let wasm = wat::parse_str(format!("(module {})", format!("(func {calls})").repeat(1_000))).expect("a module");
        let read = |backtrace, max_code| {
            let metering = Metering { height: true, backtrace, ..Metering::default() };
            let mut listing = Listing::default();
            let mut reading = Reading { listing: Some(&mut listing), metering, max_code, ..Reading::default() };
            assert!(reading.read(&wasm, ALLOWED).is_ok() && reading.invalid.is_none());
            (reading.code.len(), reading.refused)
        };
        let (whole, refused) = read(true, usize::MAX);
        assert!(whole > 1_000_000 && refused.is_none(), "{whole}");
        assert_eq!(read(true, whole), (whole, None));
        let (length, refused) = read(true, 100_000);
        assert!((100_000..110_000).contains(&length), "{length}");
        assert_eq!(refused, Some(ErrorKind::TooMany { item: DeclaredItem::CodeBytes, limit: 100_000 }));
        assert_eq!(read(false, 1_000).1, None);
    }
}
