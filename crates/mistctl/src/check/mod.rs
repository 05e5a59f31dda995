//! `mistctl check`: what can be told of a package without its author.
//!
//! First what the module declares, then how it behaves: the same input on fresh sessions, on one session, on every
//! engine, and many times.

mod declared;
#[cfg(feature = "schema")]
mod defaults;
mod finding;
mod probe;
mod repeat;
#[cfg(feature = "serve")]
mod scheduler;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use mistletoe::documents::yaml::{Mapping, Value};
use mistletoe::documents::{MistPackage, MistResult};
use mistletoe::guest::Span;
use mistletoe::wasi::{self, Wasi};
use mistletoe::{AnyBackend, AnyPackage, AnyProgram, Error, ErrorKind};

use crate::cli::{self, ListFormat};
use crate::engines::{self, Compiled, Outcome};
use crate::failure::{Failure, in_one_line};
use crate::input::ValueArgs;
use crate::inspect::MAX_NAME;
use crate::json::to_json;
use crate::limit::{self, Limit};
use crate::registries::Registries;
use crate::stderr::Excerpt;
use crate::{deadline, files, log, package, print};
use declared::{Declared, declared};
use finding::Findings;
use probe::{Output, Probe, Request};
use repeat::{Leak, Repetition};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    mistctl check app.wasm\n  \
    mistctl check app.wasm -f values.yaml --set replicas=3 -o json\n\n\
    Runs the package on the input: on every engine that is compiled in, and many times on one session of the first.\n\
    Exits with status 1 if it finds errors or warnings. docs/testing-packages.md explains each finding.")]
pub(crate) struct Check {
    /// The package: a WebAssembly module in the binary or the text format. Not a program. In builds with the feature
    /// `serve` also a plugin of the Kubernetes scheduler, of which it checks what the module declares.
    package: PathBuf,
    /// Name of the installation; the package gets it as `name`.
    #[arg(long, value_name = "NAME", default_value = "check")]
    name: String,
    #[command(flatten)]
    values: ValueArgs,
    /// Time for repeated calls. A call that has begun is finished, within its own limits.
    #[arg(long, value_name = "TIME", value_parser = limit::time, default_value = "20s")]
    budget: Limit<Duration>,
    /// Format of the output.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Yaml)]
    output: ListFormat,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    backend: cli::Backend,
    #[command(flatten)]
    limits: cli::Limits,
}

pub(crate) fn run(arguments: &Check) -> Result<(), Failure> {
    let values = arguments.values.read()?;
    let file = files::module(&arguments.package, &arguments.registries.beside_values(&arguments.values))?;
    let mut report = Report::default();
    let read = deadline::compiling(&arguments.package, &arguments.limits, || {
        let wasm = match files::assembled(&arguments.package, file) {
            Err(Failure::Assembly { source, .. }) => {
                let advice = "correct the text: `wasm-tools parse` reads the same format";
                report.findings.error("invalid", source.to_string(), advice);
                return Ok(None);
            }
            wasm => wasm?,
        };
        #[cfg(feature = "serve")]
        if scheduler::is_meant(&wasm, &mut report) {
            let limits = arguments.limits.get();
            let backends = arguments.backend.start_all();
            let backends = backends.map_err(|error| Failure::library(&arguments.package, error))?;
            scheduler::starts(&backends, &wasm, limits, &mut report);
            return Ok(None);
        }
        Ok::<_, Failure>(declared(&wasm, &mut report).map(|declared| (declared, wasm)))
    })?;
    if let Some((declared, wasm)) = read {
        behaviour(arguments, &wasm, &declared, values, &mut report)?;
    }
    let ids = report.findings.ids();
    let listing = report.into_value();
    match arguments.output {
        ListFormat::Yaml => print(&listing.to_text())?,
        ListFormat::Json => print(&format!("{:#}\n", to_json(&listing)))?,
    }
    if ids.is_empty() { Ok(()) } else { Err(Failure::findings(&arguments.package, ids)) }
}

/// What is printed.
#[derive(Default)]
struct Report {
    listing: Mapping,
    findings: Findings,
}

impl Report {
    fn insert(&mut self, key: &str, value: impl Into<Value>) {
        self.listing.insert(key, value);
    }

    fn into_value(mut self) -> Value {
        self.listing.insert("findings", self.findings.to_value());
        Value::Mapping(self.listing)
    }
}

fn int(number: impl Into<i128>) -> Value {
    Value::Int(number.into())
}

/// Checks how a package behaves.
fn behaviour(
    arguments: &Check,
    wasm: &[u8],
    declared: &Declared,
    values: Mapping,
    report: &mut Report,
) -> Result<(), Failure> {
    let limits = arguments.limits.with_fuel_counted();
    let backends = arguments.backend.start_all()?;
    let [first, ..] = backends.as_slice() else { return Ok(()) };
    let compiled = engines::compile(&arguments.package, wasm, &backends, limits, &arguments.limits)?;
    refusals(&compiled, report);
    let mut usable = compiled.iter().filter_map(|Compiled { engine, package }| Some((*engine, package.as_ref().ok()?)));
    let Some((engine, package)) = usable.next() else { return Ok(()) };
    let Some(description) = info(package, report) else { return Ok(()) };
    #[cfg(feature = "schema")]
    if let Some(description) = &description {
        defaults::check(arguments, description, report);
    }
    let Some(input) = input(arguments, description.as_ref(), values, report)? else { return Ok(()) };
    let input = input.as_str();
    let expected = fresh(engine, package, usable, input, report);
    let Ok(output) = &expected.result else { return Ok(()) };
    let (opening, fuel) = (expected.fuel.0.unwrap_or_default(), expected.fuel.1.unwrap_or_default());
    let used = Used { output: output.len() as u64, fuel, opening, ..Used::default() };
    // Nothing can be repeated on a session that the package poisons.
    if expected.fault.is_some() {
        return Ok(());
    }

    let begin = Instant::now();
    let quarter = arguments.budget.0.unwrap_or(NO_BUDGET) / 4;
    let until = |quarters: u32| begin.checked_add(quarter.saturating_mul(quarters)).unwrap_or(begin + NO_BUDGET);
    let stack = stack(arguments, wasm, first, output, input, until(1));
    let program = deadline::compiling(&arguments.package, &arguments.limits, || {
        // Trying the allocator takes fuel that a call does not need.
        let limits = limits.with_fuel(u64::MAX);
        AnyProgram::with_protocol(Probe, first, wasm, &wasi::imports::<Wasi>(), limits)
    });
    let program = program.map_err(|error| Failure::library(&arguments.package, error))?;
    let allocator = Allocator { program: &program, declared, input, output, until: until(2) };
    allocator.check(report);
    let repetition = Repetition::run(&program, (input, output), until(3), until(4));
    let repetition = repetition.map_err(|error| Failure::library(&arguments.package, error))?;
    repeated(&repetition, report);
    let fuel = used.fuel.max(repetition.most_fuel());
    let time = (repetition.calls() > 0).then_some(repetition.slowest);
    let used = Used { fuel, memory: repetition.memory(), time, stack, ..used };
    used.report(&limits, arguments.limits.get().fuel(), declared.maximum, report);
    Ok(())
}

/// The time for repeated calls, if there is no limit: more than they ever take.
const NO_BUDGET: Duration = Duration::from_secs(24 * 60 * 60);

/// Reports the engines, and those that cannot run the package.
fn refusals(compiled: &[Compiled], report: &mut Report) {
    let engines = compiled.iter().filter(|compiled| compiled.package.is_ok()).map(|compiled| compiled.engine);
    report.insert("engines", Value::Sequence(engines.map(Value::from).collect()));
    for Compiled { engine, package } in compiled {
        if let Err(error) = package {
            let message = format!("{engine} cannot run the package: {}", in_one_line(error));
            let advice = "build without this feature if the package has to run there";
            report.findings.note("engine-refuses", message, advice);
        }
    }
}

/// Calls the package on fresh sessions and twice on one, and compares. Returns the outcome of the first call.
fn fresh<'a>(
    engine: &str,
    package: &AnyPackage<Wasi>,
    others: impl Iterator<Item = (&'a str, &'a AnyPackage<Wasi>)>,
    input: &str,
    report: &mut Report,
) -> Outcome {
    let mut again = None;
    let first = match package.session_with(log::wasi().build()) {
        Ok(mut session) => {
            let first = Outcome::next(&mut session, input);
            if first.result.is_ok() && first.fault.is_none() {
                again = Some(Outcome::next(&mut session, input));
            }
            first
        }
        Err(error) => Outcome { fuel: (None, None), result: Err(error), fault: None },
    };
    judge(&first, report);
    // More calls would take as long.
    if first.timed_out() {
        return first;
    }
    let silent = || log::discarded(log::MAX).build();
    if let Some(difference) = first.difference(&Outcome::of(package, silent(), input)) {
        let message = format!("the same input on a second fresh session on {engine} came to {difference}");
        report.findings.error("not-deterministic", message, "remove what depends on time, chance or the host's state");
    }
    for (other, package) in others {
        let outcome = Outcome::of(package, silent(), input);
        if outcome.timed_out() {
            let message = format!("the time ran out on {other}, so its output was not compared");
            report.findings.note("engine-slow", message, "raise --timeout");
        } else if let Some(difference) = first.difference(&outcome) {
            let message = format!("{other} differs from {engine}: {difference}");
            let advice = "if the limits are not the reason, it is an error of an engine or of mistctl: report it";
            report.findings.error("engines-differ", message, advice);
        }
    }
    if let (Ok(one), Some(Ok(two))) = (&first.result, again.as_ref().map(|again| &again.result))
        && one != two
    {
        changed(2, report);
    } else if let Some(Err(error)) = again.as_ref().map(|again| &again.result) {
        later(2, error, report);
    }
    first
}

/// Reports the outcome of the first call.
fn judge(outcome: &Outcome, report: &mut Report) {
    let output = match &outcome.result {
        Ok(output) => output,
        Err(error) => return fails(error, report),
    };
    let result = match MistResult::parse(output) {
        Ok(MistResult::Ok { files, .. }) => {
            report.insert("files", int(files.len() as u64));
            "Ok".to_owned()
        }
        Ok(MistResult::Err { message }) => format!("Err: {}", Excerpt::of(message.unwrap_or_default(), MAX_NAME)),
        Err(error) => {
            let advice = "return a MistResult (docs/documents.md)";
            report.findings.error("output", in_one_line(&error), advice);
            "not a MistResult".to_owned()
        }
    };
    report.insert("result", result);
    if let Some(fault) = &outcome.fault {
        let message = in_one_line(fault);
        if engines::is_panic(fault) {
            let advice = "return an error instead of panicking: the session cannot be used again";
            report.findings.error("panic", format!("the package panicked: {message}"), advice);
        } else {
            dealloc_trap(format!("the package failed while a block was freed: {message}"), report);
        }
    }
}

fn fails(error: &Error, report: &mut Report) {
    let advice = "run `mistctl generate` on the input to see the error; raise a limit if one was reached";
    report.findings.error("fails", in_one_line(error), advice);
}

fn dealloc_trap(message: String, report: &mut Report) {
    let advice = "free each block once and with the length it was allocated with: the host frees the input and the \
        output; an output's capacity has to be its length";
    report.findings.error("dealloc-trap", message, advice);
}

fn changed(call: usize, report: &mut Report) {
    let message = format!("call {call} of one session returned another output for the same input");
    let advice = "keep nothing between calls that an output depends on: hosts reuse sessions";
    report.findings.error("output-changes", message, advice);
}

fn later(call: usize, error: &Error, report: &mut Report) {
    let message = format!("call {call} of one session failed, unlike the first: {}", in_one_line(error));
    report.findings.error(
        "fails-later",
        message,
        "hosts reuse sessions: a call has to leave the package as it found it",
    );
}

/// Checks a package's description of itself. Returns nothing if the package cannot be called: then nobody can use it.
fn info(package: &AnyPackage<Wasi>, report: &mut Report) -> Option<Option<MistPackage>> {
    let text = package.session_with(log::discarded(log::MAX).build()).and_then(|mut session| session.info());
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            fails(&error, report);
            return None;
        }
    };
    match MistPackage::parse(&text) {
        Ok(package) => {
            report.insert("package", Excerpt::of(&package.name, MAX_NAME));
            Some(Some(package))
        }
        Err(error) => {
            let advice = "return a MistPackage from `__mistletoe_info` (docs/documents.md)";
            report.findings.error("info", in_one_line(&error), advice);
            Some(None)
        }
    }
}

/// Returns the input, or nothing if no host would call the package with it.
fn input(
    arguments: &Check,
    description: Option<&MistPackage>,
    values: Mapping,
    report: &mut Report,
) -> Result<Option<String>, Failure> {
    // Without the check of values, there is nothing to report.
    let _ = &report;
    match package::input(&arguments.package, description, &arguments.limits, &arguments.name, values) {
        Ok(input) => Ok(Some(input.to_yaml())),
        #[cfg(feature = "schema")]
        Err(Failure::Schema { problem, .. }) => {
            report.findings.error("schema", problem, "correct `inputSchema` in the MistPackage (docs/documents.md)");
            Ok(None)
        }
        #[cfg(feature = "schema")]
        Err(Failure::Values { problems, .. }) => {
            let advice = "pass values that fit with -f or --set, or give the package defaults that fit";
            report.findings.error("values", problems.join("; "), advice);
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Returns a limit on the stack that suffices for the input, close to the lowest one. Returns `None` if there is no
/// limit, or no time to find it.
///
/// Each step compiles the module with another limit, so that it costs nothing where nobody asks.
fn stack(
    arguments: &Check,
    wasm: &[u8],
    backend: &AnyBackend,
    expected: &str,
    input: &str,
    until: Instant,
) -> Option<u32> {
    let limits = arguments.limits.get().with_fuel(None);
    // The least that may suffice, and what does.
    let (mut low, mut high) = (0, limits.stack()?);
    // The first steps are short: most packages need little.
    let mut next = 256;
    while high - low > (high / 32).max(1) {
        if Instant::now() >= until {
            return None;
        }
        let limit = next.clamp(low + 1, low + (high - low) / 2);
        let package = deadline::compiling(&arguments.package, &arguments.limits, || {
            AnyPackage::with_imports(backend, wasm, &wasi::imports::<Wasi>(), limits.with_stack(limit))
        });
        let outcome = Outcome::of(package.as_ref().ok()?, log::discarded(log::MAX).build(), input);
        match outcome.result.as_ref().map_err(Error::kind) {
            Ok(output) if output == expected => high = limit,
            Err(ErrorKind::TooDeep { depth, .. }) => {
                low = limit.max(depth.saturating_sub(1)).min(high.saturating_sub(1));
                next = limit.saturating_mul(4);
            }
            _ => return None,
        }
    }
    Some(high)
}

/// An allocator under test.
struct Allocator<'a> {
    program: &'a AnyProgram<Probe, Wasi>,
    declared: &'a Declared,
    input: &'a str,
    output: &'a str,
    until: Instant,
}

impl Allocator<'_> {
    fn check(&self, report: &mut Report) {
        self.nothing(report);
        // What a package does before its first call, it may do on purpose.
        let shared = self.shares_blocks(0);
        match (shared, self.shares_blocks(CALLS_BEFORE_BLOCKS)) {
            (Ok(None), Ok(Some(problem))) => {
                corrupt(format!("after {CALLS_BEFORE_BLOCKS} calls, {problem}"), report);
            }
            (Ok(None), Err(error)) => {
                corrupt(
                    format!("after {CALLS_BEFORE_BLOCKS} calls, allocating failed: {}", in_one_line(&error)),
                    report,
                );
            }
            (Ok(Some(problem)), _) => {
                let advice = "fine as long as a host keeps one input at a time, which is all that it does today";
                report.findings.note("shared-blocks", format!("in a fresh session, {problem}"), advice);
            }
            (Ok(None), Ok(None)) => {}
            (Err(error), _) => {
                let message = format!("several blocks at once: {}", in_one_line(&error));
                report.findings.warning(
                    "alloc-fails",
                    message,
                    "let `__mistletoe_alloc` return null if there is no room",
                );
            }
        }
    }

    /// Checks that a block of no bytes can be allocated: hosts do so for an empty input.
    fn nothing(&self, report: &mut Report) {
        let session = self.program.session_with(log::discarded(log::MAX).build());
        if let Err(error) = session.and_then(|mut session| session.call(Request::Blocks(&[0]))) {
            let message = format!("a block of 0 bytes cannot be allocated and freed: {}", in_one_line(&error));
            let advice = "let `__mistletoe_alloc(0)` return any address, and let `__mistletoe_dealloc` ignore length 0";
            report.findings.warning("alloc-zero", message, advice);
        }
    }

    /// Returns how blocks that are allocated at once share memory, after some calls, if they do.
    fn shares_blocks(&self, calls: usize) -> mistletoe::Result<Option<String>> {
        let mut session = self.program.session_with(log::discarded(u64::MAX).build())?;
        for _ in 0..calls {
            if Instant::now() >= self.until {
                break;
            }
            session.call(Request::Generate { input: self.input, expected: self.output })?;
            // A trap while freeing is found by the repeated calls.
            if session.fault().is_some() {
                return Ok(None);
            }
        }
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let (input, output) = (length(self.input), length(self.output));
        let Output::Blocks(blocks) = session.call(Request::Blocks(&[input, output, input, output, input, output]))?
        else {
            return Ok(None);
        };
        let shown = |span: &Span| format!("{} bytes at {:#x}", span.length, span.address);
        for (i, one) in blocks.iter().enumerate() {
            if let Some(other) =
                blocks.iter().take(i).find(|other| repeat::overlap(&repeat::range(one), &repeat::range(other)))
            {
                let (one, other) = (shown(one), shown(other));
                return Ok(Some(format!("two blocks that are allocated at once overlap: {other} and {one}")));
            }
            if self.declared.analysis.data.iter().any(|data| repeat::overlap(&repeat::range(one), data)) {
                return Ok(Some(format!("a block overlaps the module's own data: {}", shown(one))));
            }
        }
        Ok(None)
    }
}

fn corrupt(message: String, report: &mut Report) {
    let advice = "free each block once, with its own address and length, and no static memory: the host frees the \
        input and the output";
    report.findings.error("heap-corrupt", message, advice);
}

/// Calls before the blocks of a session are compared. It may take some until a block that was freed twice is handed out
/// twice.
const CALLS_BEFORE_BLOCKS: usize = 10;

/// Reports what many calls of one session showed.
fn repeated(repetition: &Repetition, report: &mut Report) {
    let calls = repetition.calls();
    report.insert("calls", int(calls as u64));
    let mut memory = Mapping::new();
    memory.insert("initial", int(repetition.initial));
    for n in [1, 10, repeat::CALLS, calls] {
        if let Some(bytes) = repetition.memory_after(n) {
            memory.insert(format!("after {n}"), int(bytes));
        }
    }
    report.insert("memory", memory);
    if let Some(Leak { bytes, certain }) = repetition.leak() {
        let half = calls - calls / 2;
        let message = format!("memory grows with every call: by {bytes} bytes per call over the last {half} calls");
        if certain {
            let advice = "free what a call allocates, and let `__mistletoe_dealloc` free what the host passes to it";
            report.findings.error("leak", message, advice);
        } else {
            let advice = "give the check more time with --budget: it may be a leak, or a heap that is not yet full";
            report.findings.note("leak-suspected", message, advice);
        }
    }
    if let Some((call, block, error)) = &repetition.freeing {
        let message = format!("call {call} trapped while the host freed the {block}: {}", in_one_line(error));
        dealloc_trap(message, report);
    }
    if let Some((calls, error)) = &repetition.corrupt
        && !report.findings.ids().contains(&"heap-corrupt")
    {
        corrupt(format!("after {calls} calls, allocating failed: {}", in_one_line(error)), report);
    }
    if let Some(call) = repetition.changed.filter(|call| *call > 2) {
        changed(call, report);
    }
    if let Some((call, error)) = &repetition.failed
        && *call > 2
    {
        later(*call, error, report);
    }
    if repetition.aliased {
        let message = "an output lies in the block of its input, so the host frees that memory twice";
        report.findings.warning("output-aliases-input", message, "return the output in a block of its own");
    }
    if let Some((early, late)) = repetition.fuel().filter(|(early, late)| *late / 2 > *early) {
        let message = format!("call 10 of one session used {early} units of fuel, the last ones at least {late} each");
        report.findings.warning("slows-down", message, "look for a list or a table that every call makes longer");
    }
    if repetition.cut && calls < repeat::CALLS {
        let message = format!("there was time for {calls} of {} calls of one session", repeat::CALLS);
        report.findings.note("cut-short", message, "raise --budget");
    }
}

/// What a package used of its limits.
#[derive(Default)]
struct Used {
    opening: u64,
    fuel: u64,
    memory: u64,
    output: u64,
    stack: Option<u32>,
    time: Option<Duration>,
}

impl Used {
    /// Reports the use of each limit, and those that were nearly reached.
    fn report(&self, limits: &mistletoe::Limits, fuel: Option<u64>, maximum: Option<u64>, report: &mut Report) {
        let memory = [limits.memory(), maximum].into_iter().flatten().min();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let used = [
            ("memory", Some(self.memory), memory, "bytes of memory"),
            ("fuel", Some(self.opening.max(self.fuel)), fuel, "units of fuel"),
            ("stack", self.stack.map(u64::from), limits.stack().map(u64::from), "units of stack"),
            ("time", self.time.map(ms), limits.timeout().map(ms), "ms"),
            ("output", Some(self.output), Some(limits.max_output()), "bytes of output"),
        ];
        let mut listing = Mapping::new();
        for (name, used, limit, unit) in used {
            let Some(used) = used else { continue };
            let mut entry = Mapping::new();
            entry.insert("used", int(used));
            entry.insert("limit", limit.map_or(Value::Null, int));
            listing.insert(name, entry);
            if let Some(limit) = limit.filter(|limit| used >= limit - limit / 5) {
                let message = format!("the package used {used} of {limit} {unit}");
                report.findings.warning("near-limit", message, "use less, or tell users to raise the limit");
            }
        }
        report.insert("limits", listing);
        let mut fuel = Mapping::new();
        fuel.insert("opening", int(self.opening));
        fuel.insert("call", int(self.fuel));
        report.insert("fuel", fuel);
    }
}
