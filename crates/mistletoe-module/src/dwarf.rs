//! Places in the source of a module, from its debug information (DWARF).
//!
//! Debug information may hold anything. Reading it ends after [`TIME`], with what was found by then, and what it may
//! take in memory for its length is bounded before it is read.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use gimli::{
    AttributeValue, ColumnType, DebugInfoOffset, DebugLineOffset, DebuggingInformationEntry, Dwarf, EndianSlice,
    Format, LineInstruction, LineProgramHeader, LittleEndian, Reader, Section, SectionId, Unit, UnitHeader, UnitOffset,
    constants,
};

use crate::symbols::{Location, beginning, demangled};

/// The sections that are read.
const SECTIONS: [SectionId; 9] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];
/// The most time that reading takes.
pub(crate) const TIME: Duration = Duration::from_secs(2);
/// The steps between two checks of the clock.
const STEPS: u32 = 16;
/// The most units that are read.
const MAX_UNITS: usize = 100_000;
/// The longest table of abbreviations that is read, in bytes. In memory, it can take 30 times as much.
const MAX_ABBREVIATIONS: usize = 2 << 20;
/// The longest header of a line program that is read, in bytes. In memory, it can take 100 times as much.
const MAX_LINE_HEADER: u64 = 256 << 10;
/// The most functions that are inlined into each other.
const MAX_DEPTH: usize = 64;
/// The most entries that lead from a function to its name.
const MAX_HOPS: u32 = 8;
/// The longest path that is returned, in characters. Its end says more than its beginning.
const MAX_PATH: usize = 100;
/// The most bytes of a string that are read.
const MAX_STRING: usize = 10_000;

type Slice<'a> = EndianSlice<'a, LittleEndian>;
/// Reading goes on, or ends because the debug information cannot be read or the time is over.
type Read<T> = Result<T, Stop>;

/// Why reading ends.
enum Stop {
    /// A unit cannot be read; others may.
    Unreadable,
    TimeIsOver,
}

impl From<gimli::Error> for Stop {
    fn from(_: gimli::Error) -> Self {
        Self::Unreadable
    }
}

/// Returns the name of a section of debug information, if it is one that is read.
pub(crate) fn section(name: &str) -> Option<&'static str> {
    SECTIONS.into_iter().map(SectionId::name).find(|known| *known == name)
}

/// Returns the places that the code at each offset in the module comes from, innermost first.
///
/// `sections` are the sections of debug information by their names, and `code` is where the content of the code section
/// begins: addresses are relative to it.
pub(crate) fn locations(sections: &BTreeMap<&str, Vec<u8>>, code: usize, offsets: &[u32]) -> Vec<Vec<Location>> {
    let section = |id: SectionId| sections.get(id.name()).map(Vec::as_slice).unwrap_or_default();
    let nothing = vec![Vec::new(); offsets.len()];
    if section(SectionId::DebugAbbrev).len() > MAX_ABBREVIATIONS {
        return nothing;
    }
    let dwarf = Dwarf::load(|id| Ok::<_, Stop>(EndianSlice::new(section(id), LittleEndian)));
    let Ok(dwarf) = dwarf else { return nothing };
    let targets = offsets.iter().map(|offset| Target {
        address: u64::from(*offset).checked_sub(code as u64),
        place: None,
        scopes: Vec::new(),
        found: false,
    });
    let mut search =
        Search { dwarf, units: Vec::new(), end: Instant::now() + TIME, steps: 0, targets: targets.collect() };
    // Sums in the parser may overflow, which is a panic where a build checks for it. What was found stays.
    let _ = catch_unwind(AssertUnwindSafe(|| search.run()));
    search.targets.into_iter().map(Target::locations).collect()
}

/// An address that is searched for, and what was found.
struct Target {
    address: Option<u64>,
    place: Option<Location>,
    /// The function that the address is in, and those inlined into it, innermost last.
    scopes: Vec<Scope>,
    /// Whether the unit that it is in was read.
    found: bool,
}

/// A function, or a function that was inlined.
struct Scope {
    entry: UnitOffset,
    name: Option<String>,
    /// For a function that was inlined, the place that it is called from.
    caller: Option<Location>,
}

impl Target {
    /// Returns the places, innermost first.
    fn locations(self) -> Vec<Location> {
        let mut place = self.place;
        let mut locations = Vec::new();
        for scope in self.scopes.into_iter().rev() {
            let here = place.take().unwrap_or_default();
            locations.push(Location { function: scope.name, ..here });
            place = scope.caller;
        }
        if locations.is_empty() { place.into_iter().collect() } else { locations }
    }
}

struct Search<'a> {
    dwarf: Dwarf<Slice<'a>>,
    units: Vec<UnitHeader<Slice<'a>>>,
    end: Instant,
    steps: u32,
    targets: Vec<Target>,
}

impl<'a> Search<'a> {
    fn run(&mut self) {
        let mut units = self.dwarf.units();
        while let Ok(Some(unit)) = units.next()
            && self.units.len() < MAX_UNITS
        {
            self.units.push(unit);
        }
        for i in 0..self.units.len() {
            if let Err(Stop::TimeIsOver) = self.search(i) {
                break;
            }
        }
    }

    /// Counts a step, and checks the clock after some of them.
    fn step(&mut self) -> Read<()> {
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS) { self.check() } else { Ok(()) }
    }

    fn check(&self) -> Read<()> {
        if Instant::now() < self.end { Ok(()) } else { Err(Stop::TimeIsOver) }
    }

    /// Reads a unit, except for its functions and lines.
    fn unit(&self, header: &UnitHeader<Slice<'a>>) -> Read<Unit<Slice<'a>>> {
        self.check()?;
        // Addresses of 32 bits cannot overflow.
        if header.address_size() != 4 {
            return Err(Stop::Unreadable);
        }
        let abbreviations = self.dwarf.abbreviations(header)?;
        let mut entries = header.entries(&abbreviations);
        let root = entries.next_dfs()?.ok_or(Stop::Unreadable)?;
        // Of several, the parser reads the last.
        for attribute in root.attrs().iter().filter(|attribute| attribute.name() == constants::DW_AT_stmt_list) {
            if let AttributeValue::DebugLineRef(offset) = attribute.value() {
                self.check_line_header(offset)?;
            }
        }
        Ok(Unit::new_with_abbreviations(&self.dwarf, *header, abbreviations)?)
    }

    /// Checks the length of a line program's header, which lists directories and files.
    fn check_line_header(&self, offset: DebugLineOffset) -> Read<()> {
        // DWARF 5, section 6.2.4.
        let mut input = *self.dwarf.debug_line.reader();
        input.skip(offset.0)?;
        let (_, format) = input.read_initial_length()?;
        if input.read_u16()? >= 5 {
            input.skip(2)?;
        }
        let length = match format {
            Format::Dwarf32 => input.read_u32()?.into(),
            Format::Dwarf64 => input.read_u64()?,
        };
        if length <= MAX_LINE_HEADER { Ok(()) } else { Err(Stop::Unreadable) }
    }

    /// Looks for the targets in a unit.
    fn search(&mut self, i: usize) -> Read<()> {
        let Some(header) = self.units.get(i) else { return Ok(()) };
        let unit = self.unit(header)?;
        let mut entries = unit.entries();
        let root = entries.next_dfs()?.ok_or(Stop::Unreadable)?;
        let mut inside = self.inside(&unit, root)?;
        inside.retain(|target| self.targets.get(*target).is_some_and(|target| !target.found));
        if inside.is_empty() {
            return Ok(());
        }
        let read = self.lines(&unit, &inside);
        let read = read.and_then(|()| self.functions(&unit, &inside));
        for target in inside {
            if let Some(target) = self.targets.get_mut(target) {
                target.found = true;
            }
        }
        read
    }

    /// Returns the targets in the ranges of an entry.
    fn inside(&mut self, unit: &Unit<Slice<'a>>, entry: &DebuggingInformationEntry<Slice<'a>>) -> Read<Vec<usize>> {
        let mut inside = Vec::new();
        let mut ends = entry.attrs().iter().filter(|attribute| attribute.name() == constants::DW_AT_high_pc);
        if ends.any(|end| matches!(end.value(), AttributeValue::Udata(size) if size > u32::MAX.into())) {
            return Ok(inside);
        }
        let mut ranges = self.dwarf.die_ranges(unit, entry)?;
        while let Some(range) = ranges.next()? {
            self.step()?;
            let targets = self.targets.iter().enumerate();
            let hit = targets.filter(|(_, target)| {
                target.address.is_some_and(|address| (range.begin..range.end).contains(&address))
            });
            inside.extend(hit.map(|(i, _)| i));
            // Ranges do not overlap.
            if inside.len() >= self.targets.len() {
                break;
            }
        }
        Ok(inside)
    }

    /// Finds the lines of targets.
    fn lines(&mut self, unit: &Unit<Slice<'a>>, inside: &[usize]) -> Read<()> {
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        if self.defines_files(program.header())? {
            return Ok(());
        }
        let mut rows = program.rows();
        let mut last: Option<gimli::LineRow> = None;
        while let Some((header, row)) = rows.next_row()? {
            self.step()?;
            if let Some(last) = last.take() {
                for target in inside {
                    let Some(target) = self.targets.get_mut(*target).filter(|target| target.place.is_none()) else {
                        continue;
                    };
                    if target.address.is_some_and(|address| (last.address()..row.address()).contains(&address)) {
                        target.place = Some(Location {
                            function: None,
                            file: file(&self.dwarf, unit, header, last.file_index()),
                            line: last.line().and_then(|line| u32::try_from(line.get()).ok()),
                            column: match last.column() {
                                ColumnType::LeftEdge => None,
                                ColumnType::Column(column) => u32::try_from(column.get()).ok(),
                            },
                        });
                    }
                }
            }
            last = (!row.end_sequence()).then_some(*row);
        }
        Ok(())
    }

    /// Returns whether a line program defines files, which compilers do in its header.
    ///
    /// The parser keeps each of them in ten times its length, and does so before it returns a row.
    fn defines_files(&mut self, header: &LineProgramHeader<Slice<'a>>) -> Read<bool> {
        // Later versions have no such instruction.
        if header.version() > 4 {
            return Ok(false);
        }
        let mut instructions = header.instructions();
        while let Ok(Some(instruction)) = instructions.next_instruction(header) {
            self.step()?;
            if matches!(instruction, LineInstruction::DefineFile(_)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds the functions that targets are in.
    fn functions(&mut self, unit: &Unit<Slice<'a>>, inside: &[usize]) -> Read<()> {
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            self.step()?;
            let inlined = match entry.tag() {
                constants::DW_TAG_subprogram => false,
                constants::DW_TAG_inlined_subroutine => true,
                _ => continue,
            };
            let Some(hits) = unless_unreadable(self.inside(unit, entry))? else { continue };
            if hits.is_empty() {
                continue;
            }
            let caller = inlined.then(|| self.caller(unit, entry));
            for hit in hits.iter().filter(|hit| inside.contains(hit)) {
                let Some(target) = self.targets.get_mut(*hit) else { continue };
                if !inlined {
                    target.scopes.clear();
                } else if target.scopes.is_empty() || target.scopes.len() == MAX_DEPTH {
                    continue;
                }
                target.scopes.push(Scope { entry: entry.offset(), name: None, caller: caller.clone() });
            }
        }
        let mut names = BTreeMap::new();
        for target in inside {
            let scopes = self.targets.get(*target).map(|target| &*target.scopes).unwrap_or_default();
            for entry in scopes.iter().map(|scope| scope.entry) {
                if let std::collections::btree_map::Entry::Vacant(vacant) = names.entry(entry) {
                    vacant.insert(unless_unreadable(self.name(unit, entry, 0))?.flatten());
                }
            }
        }
        for target in inside {
            for scope in self.targets.get_mut(*target).map(|target| &mut *target.scopes).unwrap_or_default() {
                scope.name = names.get(&scope.entry).cloned().flatten();
            }
        }
        Ok(())
    }

    /// Returns the place that an inlined function is called from.
    fn caller(&self, unit: &Unit<Slice<'a>>, entry: &DebuggingInformationEntry<Slice<'a>>) -> Location {
        let number = |name| entry.attr_value(name).and_then(|value| u32::try_from(value.udata_value()?).ok());
        let header = unit.line_program.as_ref().map(|program| program.header());
        let path = match entry.attr_value(constants::DW_AT_call_file) {
            Some(AttributeValue::FileIndex(index)) => header.and_then(|header| file(&self.dwarf, unit, header, index)),
            _ => None,
        };
        let [line, column] = [constants::DW_AT_call_line, constants::DW_AT_call_column]
            .map(|name| number(name).filter(|number| *number != 0));
        Location { function: None, file: path, line, column }
    }

    /// Returns the name of a function: the one for linking, which tells more, or else the plain one.
    fn name(&self, unit: &Unit<Slice<'a>>, offset: UnitOffset, hops: u32) -> Read<Option<String>> {
        self.check()?;
        let entry = unit.entry(offset)?;
        for name in [constants::DW_AT_linkage_name, constants::DW_AT_MIPS_linkage_name] {
            if let Some(name) = entry.attr_value(name) {
                return Ok(string(&self.dwarf, unit, name).map(|name| demangled(&name)));
            }
        }
        let origin = [constants::DW_AT_abstract_origin, constants::DW_AT_specification];
        if let Some(origin) = origin.into_iter().find_map(|name| entry.attr_value(name))
            && hops < MAX_HOPS
        {
            let name = match origin {
                AttributeValue::UnitRef(offset) => self.name(unit, offset, hops + 1)?,
                AttributeValue::DebugInfoRef(offset) => self.name_elsewhere(offset, hops + 1)?,
                _ => None,
            };
            if name.is_some() {
                return Ok(name);
            }
        }
        let name = entry.attr_value(constants::DW_AT_name).and_then(|name| string(&self.dwarf, unit, name));
        Ok(name.map(|name| beginning(format_args!("{name}"))))
    }

    /// Returns the name of a function in any unit.
    fn name_elsewhere(&self, offset: DebugInfoOffset, hops: u32) -> Read<Option<String>> {
        let after = self.units.partition_point(|unit| unit.debug_info_offset().is_some_and(|begin| begin <= offset));
        let Some(header) = after.checked_sub(1).and_then(|i| self.units.get(i)) else { return Ok(None) };
        let Some(offset) = offset.to_unit_offset(header) else { return Ok(None) };
        self.name(&self.unit(header)?, offset, hops)
    }
}

/// Returns nothing for what cannot be read.
fn unless_unreadable<T>(read: Read<T>) -> Read<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Stop::Unreadable) => Ok(None),
        Err(Stop::TimeIsOver) => Err(Stop::TimeIsOver),
    }
}

/// Returns the beginning of a string.
fn string(dwarf: &Dwarf<Slice<'_>>, unit: &Unit<Slice<'_>>, value: AttributeValue<Slice<'_>>) -> Option<String> {
    Some(text(dwarf.attr_string(unit, value).ok()?))
}

fn text(string: Slice<'_>) -> String {
    let string = string.slice();
    String::from_utf8_lossy(string.get(..MAX_STRING).unwrap_or(string)).into_owned()
}

/// Returns the path of a file, relative to the directory of the compilation if it is below it.
fn file<'a>(
    dwarf: &Dwarf<Slice<'a>>,
    unit: &Unit<Slice<'a>>,
    header: &LineProgramHeader<Slice<'a>>,
    index: u64,
) -> Option<String> {
    let file = header.file(index)?;
    let mut path = string(dwarf, unit, file.path_name())?;
    let compiled_in = unit.comp_dir.map(text).unwrap_or_default();
    if !path.starts_with('/')
        && let Some(directory) = file.directory(header).and_then(|directory| string(dwarf, unit, directory))
        && !directory.is_empty()
    {
        path = format!("{directory}/{path}");
    }
    if let Some(relative) = path.strip_prefix(&*compiled_in).and_then(|rest| rest.strip_prefix('/'))
        && !compiled_in.is_empty()
    {
        path = relative.to_owned();
    }
    let length = path.chars().count();
    if length > MAX_PATH {
        let end: String = path.chars().skip(length - MAX_PATH + 1).collect();
        path = format!("…{end}");
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::Symbols;

    // `docs/debugging.md` has the source of these modules, and how they are built.
    const DWARF_4: &[u8] = include_bytes!("../tests/data/replicas-dwarf-4.wasm");
    const DWARF_5: &[u8] = include_bytes!("../tests/data/replicas-dwarf-5.wasm");
    /// Where the content of their code section begins.
    const CODE: u32 = 0xa0;

    fn shown(wasm: &[u8], offset: u32) -> Vec<String> {
        let locations = Symbols::new(wasm).locations(&[CODE + offset]);
        let number = |number: Option<u32>| number.map_or("?".to_owned(), |number| number.to_string());
        let show = |Location { function, file, line, column }: &Location| {
            let (function, file) = (function.as_deref().unwrap_or("?"), file.as_deref().unwrap_or("?"));
            format!("{function} {file}:{}:{}", number(*line), number(*column))
        };
        locations.iter().flatten().map(show).collect()
    }

    /// The expected places are those that `llvm-symbolizer -i` of LLVM 14 prints for the same addresses.
    #[test]
    fn code_is_found_in_its_source_with_what_was_inlined() {
        for wasm in [DWARF_4, DWARF_5] {
            for (offset, places) in [
                (0x03, &["info replicas.c:16:5"][..]),
                (0x42, &["generate replicas.c:28:21"]),
                (0x64, &["replicas replicas.c:11:12"]),
                (0x88, &["digit replicas.c:5:21", "replicas replicas.c:11:50"]),
                (0xb9, &["digit replicas.c:5:37", "replicas replicas.c:11:50"]),
                // Before the first function, and after the last one.
                (0x00, &[]),
                (0xbb, &[]),
            ] {
                assert_eq!(shown(wasm, offset), places, "{offset:#x}");
            }
        }
    }

    #[test]
    fn all_offsets_are_looked_up_at_once() {
        let together = Symbols::new(DWARF_4).locations(&[CODE + 0x88, 3, CODE + 0x42, u32::MAX, CODE + 0x88]);
        let lengths: Vec<_> = together.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 0, 1, 0, 2]);
        assert_eq!(together.first(), together.last());
    }

    #[test]
    fn any_changed_byte_of_debug_information_is_read_to_an_end() {
        for wasm in [DWARF_4, DWARF_5] {
            let begin = wasm.windows(11).position(|name| name == b".debug_info").expect("debug information");
            for (at, change) in (begin..wasm.len()).flat_map(|at| [0x01, 0x80, 0xff].map(|change| (at, change))) {
                let mut wasm = wasm.to_vec();
                wasm[at] ^= change;
                let begun = Instant::now();
                let locations = Symbols::new(&wasm).locations(&[CODE + 0x88, CODE + 0x42]);
                assert!(locations.iter().all(|places| places.len() <= MAX_DEPTH + 1));
                assert!(begun.elapsed() < TIME, "{at:#x}");
            }
        }
    }

    /// Units that all have the same ranges, none of which is the one that is searched for.
    #[test]
    fn debug_information_that_takes_too_long_is_not_read_to_its_end() {
        // DWARF 5, section 7.5.1: length, version, abbreviations, address size; then an entry with an offset.
        let unit = [&12_u32.to_le_bytes()[..], &[4, 0], &[0; 4], &[4], &[1], &[0; 4]].concat();
        // A compilation unit without children: ranges, an offset into their section.
        let abbreviations = [1, 0x11, 0, 0x55, 0x17, 0, 0, 0];
        let ranges = [1_u32, 2].map(u32::to_le_bytes).concat().repeat(1 << 20);
        let sections = [
            (".debug_info", unit.repeat(MAX_UNITS)),
            (".debug_abbrev", abbreviations.to_vec()),
            (".debug_ranges", ranges),
        ];
        let sections = sections.into();
        let begun = Instant::now();
        assert_eq!(locations(&sections, 0, &[7]), [[]]);
        let took = begun.elapsed();
        assert!(took >= TIME, "it is read to its end after {took:?}: the test proves nothing");
        assert!(took < TIME * 5, "{took:?}");
    }

    /// Sections with one unit, whose code is at 0 to 16, and whose line programs are at the offsets `programs`.
    fn unit(programs: &[u32], comp_dir: &[u8], lines: Vec<u8>) -> BTreeMap<&'static str, Vec<u8>> {
        // DWARF 4, section 7.5.3: a compilation unit without children. Addresses, a string, and offsets of lines.
        let mut abbreviations = vec![1, 0x11, 0, 0x11, 0x01, 0x12, 0x06, 0x1b, 0x08];
        let mut entry = [&[1][..], &0_u32.to_le_bytes(), &16_u32.to_le_bytes(), comp_dir, &[0]].concat();
        for program in programs {
            abbreviations.extend([0x10, 0x17]);
            entry.extend(program.to_le_bytes());
        }
        abbreviations.extend([0, 0, 0]);
        let info = [&(entry.len() as u32 + 7).to_le_bytes()[..], &[4, 0], &[0; 4], &[4], &entry].concat();
        [(".debug_info", info), (".debug_abbrev", abbreviations), (".debug_line", lines)].into()
    }

    /// A line program of version 4, with line 7 for code at 0 to 16 of one file.
    fn program(directory: &[u8], before: &[u8]) -> Vec<u8> {
        // Section 6.2.4: lengths of instructions and steps of lines, then the lengths of the standard opcodes.
        let mut header = vec![1, 1, 1, 0, 1, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1];
        header.extend([directory, b"\0\0a.c\0\x01\0\0\0"].concat());
        // An address of 0, the next line but five, a row, 16 bytes further, the end.
        let rows = [0, 5, 2, 0, 0, 0, 0, 3, 6, 1, 2, 16, 0, 1, 1];
        let program = [&[4, 0][..], &(header.len() as u32).to_le_bytes(), &header, before, &rows].concat();
        [&(program.len() as u32).to_le_bytes()[..], &program].concat()
    }

    fn found(sections: &BTreeMap<&str, Vec<u8>>) -> Option<(String, u32)> {
        let location = locations(sections, 0, &[3]).remove(0).pop()?;
        Some((location.file?, location.line?))
    }

    #[test]
    fn each_line_program_of_a_unit_is_checked() {
        let small = program(b"/x/src", &[]);
        let large = program(&b"a".repeat(MAX_LINE_HEADER as usize), &[]);
        let at = small.len() as u32;
        let lines = [small, large].concat();
        assert_eq!(found(&unit(&[0], b"/x", lines.clone())), Some(("src/a.c".to_owned(), 7)));
        assert_eq!(found(&unit(&[at, 0], b"/x", lines.clone())), None);
        assert_eq!(found(&unit(&[0, at], b"/x", lines)), None);
    }

    #[test]
    fn a_line_program_that_defines_files_is_not_run() {
        // Section 6.2.5.3: a name, and three numbers.
        let define = [0, 6, 3, b'b', 0, 0, 0, 0];
        assert_eq!(found(&unit(&[0], b"/x", program(b"/x/src", &define))), None);
        assert_eq!(found(&unit(&[0], b"/x", program(b"/x/src", &[0x0a]))), Some(("src/a.c".to_owned(), 7)));
    }

    #[test]
    fn the_directory_of_a_compilation_is_read_to_an_end() {
        // Directories that are equal up to where both are cut off.
        let directory = [&b"/"[..], &b"x".repeat(MAX_STRING), b"/more"].concat();
        let sections = unit(&[0], &directory, program(&directory, &[]));
        assert_eq!(found(&sections), Some(("a.c".to_owned(), 7)));
    }
}
