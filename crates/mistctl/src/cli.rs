//! The arguments on the command line.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Command, Parser, Subcommand, ValueEnum};
use mistletoe::protocol::httpwasm::Delimiter;
use mistletoe::wasi::Access;

use crate::failure::in_one_line;
use crate::function::Function;
use crate::generate::Generate;
use crate::limit::{self, Limit};
use crate::registries::Registries;
use crate::stderr::{Level, note};
use crate::values::ValuesOf;

/// Runs WebAssembly packages (modules that take a YAML string and return one), plugins, and programs.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit status:\n  \
        0  success\n  \
        1  the package returned `Err`, a check found something, or a test failed\n  \
        2  wrong usage\n  \
        3  any other failure: a file, the package, the engine\n\
        `run` exits with the program's own status."
)]
pub(crate) struct Cli {
    /// Format of errors and of everything else on standard error.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = ErrorFormat::Text)]
    pub(crate) error_format: ErrorFormat,
    /// Also show an engine's own message where it led to an error.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a package on an input, and print the files of its output.
    Generate(Generate),
    /// Create the directory of a new package.
    New(crate::new::New),
    /// Run a package or program as a KRM function, which changes a list of resources.
    Fn(Function),
    /// Check a package: what it declares, and how it behaves when it runs.
    Check(crate::check::Check),
    /// Run a package's tests.
    Test(crate::test::Test),
    /// Print a package's default values with the descriptions of its schema, in a form for `generate -f`.
    Values(ValuesOf),
    /// Show the interfaces that a module implements, its description, imports and exports, and what is wrong with it.
    Inspect(Inspect),
    /// Run a program: a WASI command.
    Run(Run),
    /// Run a plugin, a module with the httpwasm interface, on a request.
    Call(Call),
    /// Not compiled in. Exists to say how to get it.
    #[cfg(not(feature = "serve"))]
    #[command(hide = true, disable_help_flag = true)]
    Serve {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
    /// Serve plugins, middleware, programs and packages over HTTP.
    #[cfg(feature = "serve")]
    Serve(crate::serve::Serve),
    /// List the engines that packages can run on.
    Backends {
        /// Format of the output.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = TextFormat::Text)]
        output: TextFormat,
    },
    /// Not compiled in. Exist to say how to get them.
    #[cfg(not(feature = "registry"))]
    #[command(hide = true, disable_help_flag = true, aliases = ["push", "verify", "sign", "update"])]
    Pull {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
    /// Pull a module from a registry, by its digest or its tag.
    #[cfg(feature = "registry")]
    Pull(crate::registry::Pull),
    /// Push a module to a registry.
    #[cfg(feature = "registry")]
    Push(crate::registry::Push),
    /// Check the signature of a module in a registry.
    #[cfg(feature = "registry")]
    Verify(crate::registry::Verify),
    /// Sign a module in a registry.
    #[cfg(feature = "registry")]
    Sign(crate::registry::Sign),
    /// Renew the digests in mistletoe.lock.
    #[cfg(feature = "registry")]
    Update(crate::registry::Update),
    /// Not compiled in. Exists to say how to get it.
    #[cfg(not(any(feature = "cache", feature = "registry")))]
    #[command(hide = true, disable_help_flag = true)]
    Cache {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
    /// Show and clear the cache of compiled code and of modules from registries.
    #[cfg(any(feature = "cache", feature = "registry"))]
    #[command(after_help = "The cache is in the directory that MISTLETOE_CACHE names, or else in `mistletoe` in the\n\
            directory of the user's caches.")]
    Cache {
        #[command(subcommand)]
        verb: CacheVerb,
    },
    /// Print a script that completes mistctl's arguments in a shell.
    #[command(after_help = "Example:\n  mistctl completions bash > ~/.local/share/bash-completion/completions/mistctl")]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

#[cfg(any(feature = "cache", feature = "registry"))]
#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// Print one line for each entry: time since its last use, bytes, the backend or `registry`, name.
    List,
    /// Remove everything.
    Clear,
    /// Print the directory of the cache.
    Path,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mistctl inspect namespace.wasm -o json\n\n\
    A module implements the interface of packages, plugins or commands, or several of them. If it implements none,\n\
    the problems with the nearest one are listed. Exits with status 3 if there are problems.")]
pub(crate) struct Inspect {
    /// The module, in the binary or the text format.
    pub(crate) package: PathBuf,
    /// Format of the output.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Yaml)]
    pub(crate) output: ListFormat,
    #[command(flatten)]
    pub(crate) registries: Registries,
    #[command(flatten)]
    pub(crate) backend: Backend,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    mistctl run report.wasm --dir data:ro --env LANG in.txt\n  \
    mistctl run report.wasm --dir data:ro --env LANG=en -- --verbose\n  \
    mistctl run tool.wasm --dir /srv/site::/site --stdin request.json\n\n\
    The program has the standard streams, the system's clocks and random numbers, and what the options grant.\n\
    Exits with the program's status (255 if it is larger), or with 3 if the program fails in another way.")]
pub(crate) struct Run {
    /// The program: a WebAssembly module in the binary or the text format.
    pub(crate) module: PathBuf,
    /// The program's arguments. `--` precedes those that begin with a hyphen.
    pub(crate) args: Vec<String>,
    /// A variable for the program's environment: a name and a value, or the name of a variable of mistctl's own
    /// environment; may be repeated.
    #[arg(long, value_name = "K[=V]", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// A directory that the program may use; may be repeated. The program sees it as GUEST, and with `:ro` can only
    /// read it.
    #[arg(long, value_name = "HOST[::GUEST][:ro]", value_parser = Grant::parse)]
    pub(crate) dir: Vec<Grant>,
    /// A file for the program's standard input, instead of mistctl's own.
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin: Option<PathBuf>,
    /// Record the program's stack, which takes several times as long, and print it if the program fails.
    #[arg(long)]
    pub(crate) trace: bool,
    #[command(flatten)]
    pub(crate) registries: Registries,
    #[command(flatten)]
    pub(crate) backend: Backend,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    echo world | mistctl call hello.wasm\n  \
    mistctl call hello.wasm --stdin body.txt --env METHOD=POST --delimiter nul")]
pub(crate) struct Call {
    /// The plugin: a WebAssembly module in the binary or the text format.
    pub(crate) module: PathBuf,
    /// A file with the request. Without it, and for `-`, standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin: Option<PathBuf>,
    /// A variable for the plugin's environment: a name and a value, or the name of a variable of mistctl's own
    /// environment; may be repeated.
    #[arg(long, value_name = "K[=V]", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// End of the request's records: `newline`, `nul`, `none`, or one character.
    #[arg(long, value_name = "END", default_value = "newline", value_parser = delimiter)]
    pub(crate) delimiter: Delimiter,
    /// Record the plugin's stack, which takes several times as long, and print it if the call fails.
    #[arg(long)]
    pub(crate) trace: bool,
    #[command(flatten)]
    pub(crate) registries: Registries,
    #[command(flatten)]
    pub(crate) backend: Backend,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// A directory that a program may use.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    pub(crate) access: Access,
}

/// Whether values are checked, in the help.
pub(crate) const SCHEMA: &str = match cfg!(feature = "schema") {
    true => "Values that do not fit the package's schema are an error, with status 3.",
    false => "This build does not check values against a package's schema: build with --features schema.",
};

/// Limits of a guest. Sizes are in bytes, or as `64Mi`, `64MiB` or `64MB`; times as `200ms` or `2s`; fuel as `50M`.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits (`unlimited` for none)")]
pub(crate) struct Limits {
    /// Time that the guest may take [default: 10s], and before that the compilation [default: 1m].
    #[arg(long, value_name = "TIME", value_parser = limit::time)]
    timeout: Option<Limit<Duration>>,
    /// Fuel that the guest may use, about one unit per instruction [default: unlimited].
    #[arg(long, value_name = "UNITS", value_parser = limit::fuel)]
    fuel: Option<Limit<u64>>,
    /// Memory that the guest may have, at most 4GiB [default: 256MiB].
    #[arg(long, value_name = "SIZE", value_parser = limit::size)]
    max_memory: Option<Limit<u64>>,
    /// Stack depth that the guest may reach, in units of one value [default: 2097152].
    #[arg(long, value_name = "UNITS", value_parser = limit::stack)]
    max_stack: Option<Limit<u32>>,
    /// Length of an output, description or response, and of each output stream of a program [default: 64MiB].
    #[arg(long, value_name = "SIZE", value_parser = limit::size)]
    max_output: Option<Limit<u64>>,
}

impl Limits {
    /// Returns the time limit of a compilation.
    pub(crate) fn compilation(&self) -> Option<Duration> {
        self.timeout.map_or(Some(COMPILATION), |Limit(timeout)| timeout)
    }

    /// Returns the library's limits as [`get`](Self::get) does, with fuel counted even if it is not limited.
    pub(crate) fn with_fuel_counted(&self) -> mistletoe::Limits {
        let limits = self.get();
        if limits.fuel().is_some() { limits } else { limits.with_fuel(u64::MAX) }
    }

    /// Returns the library's limits, with those of the command line in place of them.
    pub(crate) fn get(&self) -> mistletoe::Limits {
        let mut limits = mistletoe::Limits::default();
        if let Some(Limit(timeout)) = self.timeout {
            limits = limits.with_timeout(timeout);
        }
        if let Some(Limit(fuel)) = self.fuel {
            limits = limits.with_fuel(fuel);
        }
        if let Some(Limit(memory)) = self.max_memory {
            limits = limits.with_memory(memory);
        }
        if let Some(Limit(stack)) = self.max_stack {
            limits = limits.with_stack(stack);
        }
        if let Some(Limit(bytes)) = self.max_output {
            limits = limits.with_max_output(bytes.unwrap_or(u64::MAX));
        }
        limits
    }
}

/// Default time limit of a compilation. A compiler needs half of it for 30 MB.
const COMPILATION: Duration = Duration::from_secs(60);

#[derive(Args, Clone, Debug)]
pub(crate) struct Backend {
    /// The engine to run on; `mistctl backends` lists them.
    #[arg(short, long, value_name = "NAME", value_parser = BackendName)]
    backend: Option<String>,
    /// Compile without reading or writing the cache.
    #[cfg(feature = "cache")]
    #[arg(long)]
    no_cache: bool,
}

/// Destination of the output of `generate`.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    Yaml,
    Raw,
    Dir(PathBuf),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ListFormat {
    Yaml,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TextFormat {
    /// For people.
    Text,
    Json,
}

/// A backend's name. Shells complete those that exist; the library reports any other.
#[derive(Clone)]
struct BackendName;

impl TypedValueParser for BackendName {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(mistletoe::backends().iter().map(|info| PossibleValue::new(info.name()))))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ErrorFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Backend {
    /// Returns the named backend, or the default one, with the user's cache.
    pub(crate) fn start(&self) -> mistletoe::Result<mistletoe::AnyBackend> {
        self.start_named(self.name())
    }

    /// Returns every backend that is compiled in, the named or default one first.
    ///
    /// One that does not run on this machine is left out with a warning, unless it is the first.
    pub(crate) fn start_all(&self) -> mistletoe::Result<Vec<mistletoe::AnyBackend>> {
        let first = self.start()?;
        let others = mistletoe::backends().iter().filter(|info| info.is_enabled() && info.name() != first.name());
        let others = others.filter_map(|info| match self.start_named(info.name()) {
            Ok(backend) => Some(backend),
            Err(error) => {
                note(Level::Warning, &format!("{} is left out: {}", info.name(), in_one_line(&error)));
                None
            }
        });
        let others: Vec<_> = others.collect();
        Ok([first].into_iter().chain(others).collect())
    }

    fn name(&self) -> &str {
        self.backend.as_deref().unwrap_or_else(|| mistletoe::default_backend().name())
    }

    /// Returns the backend with this name, with the user's cache.
    pub(crate) fn start_named(&self, name: &str) -> mistletoe::Result<mistletoe::AnyBackend> {
        let backend = mistletoe::backend(name)?;
        if let Some(warning) = backend.warning() {
            note(Level::Warning, &warning);
        }
        #[cfg(feature = "cache")]
        let backend = if self.no_cache { backend } else { crate::cache::with(backend) };
        Ok(backend)
    }
}

impl Output {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "yaml" => Ok(Self::Yaml),
            "raw" => Ok(Self::Raw),
            _ => match text.strip_prefix("dir=") {
                Some("") => Err("`dir=` needs the name of a directory"),
                Some(dir) => Ok(Self::Dir(dir.into())),
                None => Err("expected `yaml`, `raw` or `dir=DIR`"),
            },
        }
    }
}

impl Grant {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (paths, access) = match text.strip_suffix(":ro") {
            Some(paths) => (paths, Access::ReadOnly),
            None => (text, Access::ReadWrite),
        };
        let (host, guest) = paths.split_once("::").unwrap_or((paths, paths));
        if host.is_empty() || guest.is_empty() {
            return Err("the name of a directory is empty");
        }
        // A misspelt `:ro` must not grant more than was intended.
        if paths.contains("::") && guest.contains(':') {
            return Err("the name for the program has no `:` in it, and what comes after it is `:ro`");
        }
        Ok(Self { host: host.into(), guest: guest.to_owned(), access })
    }
}

fn variable(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        None if !text.is_empty() => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(std::env::VarError::NotPresent) => Err("the environment has no such variable; NAME=VALUE sets one"),
            Err(std::env::VarError::NotUnicode(_)) => Err("the variable's value is not UTF-8"),
        },
        _ => Err("expected NAME=VALUE or NAME"),
    }
}

fn delimiter(text: &str) -> Result<Delimiter, &'static str> {
    match (text, text.as_bytes()) {
        ("newline", _) => Ok(Delimiter::Newline),
        ("nul", _) => Ok(Delimiter::Nul),
        ("none", _) => Ok(Delimiter::None),
        (_, [byte]) => Ok(Delimiter::Byte(*byte)),
        _ => Err("expected `newline`, `nul`, `none`, or one ASCII character"),
    }
}

impl ErrorFormat {
    /// Returns the error format that an unusable command line asks for.
    pub(crate) fn asked_for() -> Self {
        let mut arguments = std::env::args_os().take_while(|argument| argument != "--");
        while let Some(argument) = arguments.next() {
            let json = match argument.to_str() {
                Some("--error-format") => arguments.next().is_some_and(|format| format == "json"),
                Some(argument) => argument == "--error-format=json",
                None => false,
            };
            if json {
                return Self::Json;
            }
        }
        Self::Text
    }
}
