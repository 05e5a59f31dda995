//! `mistctl generate`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use mistletoe::documents::MistResult;

use crate::cli::{self, Backend, Limits, SCHEMA};
use crate::failure::Failure;
use crate::guest::{Guest, Loaded};
use crate::input::ValueArgs;
use crate::package::{Output, Session};
use crate::program::{self, Release};
use crate::registries::Registries;
use crate::stderr::{Excerpt, Level, MAX_MESSAGE, note};
use crate::trace::Repeat;
use crate::{engines, files, manifests, print, tree};

#[derive(Args, Debug)]
#[command(after_help = format!("Examples:\n  \
    mistctl generate web -p namespace.wasm | kubectl apply -f -\n  \
    mistctl generate web -p app.wasm -f values.yaml --set image.tag=1.10,replicas=2\n  \
    mistctl generate web -p app.wasm -f base.yaml -f production.yaml --set 'hosts={{a.example,b.example}}'\n  \
    mistctl generate web -p app.wasm --set 'ports[0].name=http' --set-file config=app.conf\n  \
    mistctl generate web -p app.wasm -o dir=manifests\n  \
    mistctl generate web -p flight.wasm -f values.yaml --namespace shop -- --replicas 2\n\n\
    The values are merged over the package's defaults, which `mistctl values` prints; null removes a default.\n\
    Flags have Helm's syntax and precedence: files, then --set-json, --set, --set-string, --set-file.\n\
    With --set, true, false, null and integers have their type, and anything else is a string. A backslash makes the\n\
    next character part of a key or string: `a\\.b=x\\,y`. --set also takes YAML: 'replicas: 2, debug: true'.\n\
    {SCHEMA}"))]
pub(crate) struct Generate {
    /// Name of the installation. A package gets it as `name`, a program as its first argument.
    pub(crate) name: String,
    /// The package or program: a WebAssembly module in the binary or the text format.
    #[arg(short, long, value_name = "PKG")]
    pub(crate) package: PathBuf,
    #[command(flatten)]
    pub(crate) values: ValueArgs,
    /// `yaml`: the files as one stream; `raw`: the package's output unchanged; `dir=DIR`: the files below DIR.
    #[arg(short, long, value_name = "yaml|raw|dir=DIR", default_value = "yaml", value_parser = cli::Output::parse)]
    pub(crate) output: cli::Output,
    /// Begin each file of the stream of `-o yaml` with a comment: `# Source: PACKAGE/FILE`.
    #[arg(long)]
    pub(crate) source: bool,
    /// Namespace of the installation [default: default]. A program gets it in its environment. For a package it has no
    /// effect, so that one command line serves both.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Arguments for a program, after `--`.
    #[arg(last = true, value_name = "ARG")]
    pub(crate) args: Vec<String>,
    /// Run the package on every engine that is compiled in, and fail unless outputs and fuel are the same. Not for
    /// programs.
    #[arg(long)]
    pub(crate) cross_check: bool,
    /// Print fuel, times, memory and calls of host functions to standard error. Counts fuel, which takes some time. Not
    /// for programs.
    #[arg(long)]
    pub(crate) stats: bool,
    /// Record the package's stack from the start, which takes several times as long, and print it if the call fails.
    /// Without this, a call that fails is repeated for it, unless its time ran out.
    #[arg(long)]
    pub(crate) trace: bool,
    #[command(flatten)]
    pub(crate) registries: Registries,
    #[command(flatten)]
    pub(crate) backend: Backend,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

pub(crate) fn run(arguments: &Generate) -> Result<(), Failure> {
    let path = arguments.package.as_path();
    if arguments.source && !matches!(arguments.output, cli::Output::Yaml) {
        return Err(Failure::usage("--source is for the stream of -o yaml"));
    }
    let values = arguments.values.read()?;
    let limits = if arguments.stats { arguments.limits.with_fuel_counted() } else { arguments.limits.get() };
    let limits = limits.with_backtrace(arguments.trace);
    let registries = arguments.registries.beside_values(&arguments.values);
    let begin = Instant::now();
    let Loaded { wasm, backend, guest } =
        Guest::load(path, &registries, &arguments.backend, &arguments.limits, limits)?;
    let compile_time = begin.elapsed();
    match guest {
        Guest::Package(package) => {
            if !arguments.args.is_empty() {
                let package = path.display();
                let problem =
                    format!("arguments after `--` are for programs; {package} is a package, and --set sets its values");
                return Err(Failure::usage(problem));
            }
            let (wasm, backend, begun) = (&*wasm, &backend, Instant::now());
            let repeat = Repeat { path, wasm, backend, limits, arguments: &arguments.limits, begun };
            let session = Session::open(&package, path).map_err(|failure| repeat.traced(None, failure))?;
            let input = session.input(&arguments.limits, &arguments.name, values)?.to_yaml();
            if arguments.cross_check {
                engines::cross_check(path, wasm, &arguments.backend, &arguments.limits, &input)?;
            }
            let name = session.description().map(|description| description.name.clone());
            let repeat = Repeat { begun: Instant::now(), ..repeat };
            let (output, mut stats) = session.generate(&input);
            if arguments.stats {
                stats.compiled(compile_time);
                stats.print();
            }
            let Output { text, panic } = output.map_err(|failure| repeat.traced(Some(&input), failure))?;
            let result = MistResult::parse(&text).map_err(|error| Failure::library(path, error));
            deliver(arguments, name.as_deref(), &text, result).map_err(|failure| match (failure, panic) {
                (Failure::Package { message, fault: None }, Some(panic)) => {
                    repeat.traced(Some(&input), Failure::Package { message, fault: Some(panic) })
                }
                (failure, _) => failure,
            })
        }
        Guest::Program(program) => {
            if arguments.cross_check || arguments.stats {
                let problem = format!("{} is a program; --cross-check and --stats are for packages", path.display());
                return Err(Failure::usage(problem));
            }
            let (name, namespace) = (&arguments.name, arguments.namespace.as_deref());
            let release = Release { name, namespace, args: &arguments.args };
            let (output, result) = program::generate(&program, path, &limits, &release, values)?;
            deliver(arguments, None, &output, Ok(result))
        }
    }
}

/// Delivers the output in the form that was asked for. `name` is the package's, if it describes itself.
fn deliver(
    arguments: &Generate,
    name: Option<&str>,
    output: &str,
    result: Result<MistResult, Failure>,
) -> Result<(), Failure> {
    if let cli::Output::Raw = arguments.output {
        print(output)?;
    }
    match result? {
        MistResult::Err { message } => Err(Failure::Package { message, fault: None }),
        MistResult::Ok { message, files } => {
            match &arguments.output {
                cli::Output::Yaml => {
                    let stem = files::stem(&arguments.package);
                    let source = arguments.source.then_some(name.unwrap_or(&stem));
                    let stream = manifests::stream(&files, source);
                    print(&stream.map_err(|problem| Failure::refused(&arguments.package, problem))?)?;
                }
                cli::Output::Raw => {}
                cli::Output::Dir(root) => tree::write(&arguments.package, root, &files)?,
            }
            if let Some(message) = message {
                note(Level::Package, &Excerpt::of(message, MAX_MESSAGE));
            }
            Ok(())
        }
    }
}
