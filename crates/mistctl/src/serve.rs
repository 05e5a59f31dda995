//! `mistctl serve`.

use std::fs;
#[cfg(unix)]
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::pin::pin;
#[cfg(unix)]
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, Subcommand};
use mistletoe::AnyBackend;
#[cfg(feature = "otel")]
use mistletoe_serve::Spans;
use mistletoe_serve::config::{self, Config, GuestConfig, Kind};
use mistletoe_serve::{BoxError, Files, Log, Server, Service, Source};
use tokio::runtime::Builder;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::cli::Backend;
use crate::failure::Failure;
use crate::files;
use crate::registries::{Registries, is_reference};
use crate::stderr::{Level, note};

/// How long guests may take to notice that they were cancelled.
const CANCELLED: Duration = Duration::from_secs(2);
/// Interval at which files are checked for changes.
const WATCH: Duration = Duration::from_secs(1);
/// Maximum time until a reload that failed is tried again, although no file has changed.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  \
    mistctl serve serve.toml\n  \
    mistctl serve hello.wasm --listen 127.0.0.1:0\n  \
    mistctl serve check serve.toml\n  \
    mistctl serve scheduler --plugin nodenumber.wasm --config config.json\n\n\
    The log goes to standard output, one JSON object per line. SIGHUP reads the configuration and the modules again;\n\
    SIGTERM and SIGINT stop the server after the requests under way, and at once if they come a second time."
)]
pub(crate) struct Serve {
    /// The configuration, if the name ends in `.toml`, or else a module that responds to every request. Middleware has
    /// nothing behind it: requests that it passes on get 404.
    #[arg(value_name = "FILE|MODULE", required = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The plugins of a scheduler, in place of a file.
    #[arg(skip)]
    scheduler: Option<Scheduler>,
}

/// What both forms of a server have.
#[derive(Args, Clone, Debug)]
struct Options {
    /// Address to listen on [default: that of the configuration, or else 127.0.0.1:8080]. Port 0 is any free port.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Address for health, metrics and the status page [default: that of the configuration, or else none].
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Reload when the configuration, a module or mistletoe.lock changes. A reload that failed is tried again.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    backend: Backend,
}

/// A scheduler's plugins without a configuration of the server.
#[derive(Args, Clone, Debug)]
struct Scheduler {
    /// A plugin, a module of kube-scheduler-wasm-extension's interface. Several plugins are asked in their order.
    #[arg(long = "plugin", value_name = "MODULE", required = true)]
    plugins: Vec<PathBuf>,
    /// File with the plugins' configuration, in a form that they define. All plugins get the same.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Check a configuration and its modules, as far as the server does before it starts.
    Check {
        /// The configuration.
        file: PathBuf,
        #[command(flatten)]
        registries: Registries,
        #[command(flatten)]
        backend: Backend,
    },
    /// Serve plugins of the Kubernetes scheduler as a scheduler extender.
    ///
    /// The extender is at http://ADDRESS/scheduler, with the verbs filter, prioritize and preempt. Limits, weights and a
    /// configuration for each plugin need a file: a route of the kind `scheduler` (docs/serve.md).
    Scheduler {
        #[command(flatten)]
        scheduler: Scheduler,
        #[command(flatten)]
        options: Options,
    },
}

pub(crate) fn run(arguments: &Serve) -> Result<(), Failure> {
    if let Some(Verb::Check { file, registries, backend }) = &arguments.verb {
        let config = Config::read(file).map_err(|error| refused(file, &error))?;
        let service = Service::new(&config, Modules::new(file, registries, backend), Log::default());
        return service.map(drop).map_err(|error| refused(file, &error));
    }
    if let Some(Verb::Scheduler { scheduler, options }) = &arguments.verb {
        return run(&Serve {
            file: scheduler.plugins.first().cloned(),
            options: options.clone(),
            verb: None,
            scheduler: Some(scheduler.clone()),
        });
    }
    let Some(file) = &arguments.file else { return Err(Failure::usage("expected a configuration or a module")) };
    if file.as_os_str() == "-" {
        return Err(Failure::usage("a server reads its modules again, so standard input cannot be one"));
    }
    let log = output().and_then(Log::to_writer).map_err(|error| Failure::start("the log", error))?;
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::start("the server", error))?;
    let result = runtime.block_on(serve(arguments.clone(), file.clone(), log.clone()));
    runtime.shutdown_timeout(CANCELLED);
    log.flush(CANCELLED);
    result
}

/// Returns standard output without the buffer of Rust's, which would keep what could not be written.
#[cfg(unix)]
fn output() -> io::Result<fs::File> {
    use std::os::fd::AsFd as _;
    io::stdout().as_fd().try_clone_to_owned().map(fs::File::from)
}

#[cfg(not(unix))]
fn output() -> io::Result<io::Stdout> {
    Ok(io::stdout())
}

/// Raises the limit on open files as far as the system allows, and warns if connections alone can exceed it.
#[cfg(unix)]
fn raise_open_files(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    if let Some(limit) = if raised { maximum } else { current }
        && limit <= connections as u64
    {
        let text = format!("`max_connections` is {connections}, but the process may open only {limit} files");
        note(Level::Warning, &text);
    }
}

async fn serve(arguments: Serve, file: PathBuf, log: Log) -> Result<(), Failure> {
    let not_started = |error| Failure::start("the server", error);
    // Before modules are pulled and compiled, which takes up to minutes. Without a handler, the first process of a
    // container ignores a signal, and any other one is ended by it.
    let mut stop = Stop::new().map_err(not_started)?;
    let hangup = Hangup::new().map_err(not_started)?;
    // A file that reaches the limit on its size is then an error of its writer, and does not end the process.
    #[cfg(unix)]
    let _file_size = signal(SignalKind::from_raw(libc::SIGXFSZ)).map_err(not_started)?;
    let loading = {
        let (arguments, file) = (arguments.clone(), file.clone());
        spawn_blocking(move || {
            let (config, known) = arguments.read(&file)?;
            let modules = Modules::new(&file, &arguments.options.registries, &arguments.options.backend);
            let service = Service::new(&config, modules, log).map_err(|error| refused(&file, &error))?;
            Ok::<_, Failure>((config, known, service))
        })
    };
    let loaded = tokio::select! {
        loaded = loading => loaded,
        () = stop.recv() => return Ok(()),
    };
    let (config, known, service) = loaded.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;

    #[cfg(unix)]
    raise_open_files(config.listener.max_connections);
    let server = Server::bind(&config, service.clone()).await.map_err(not_started)?;
    #[cfg(feature = "otel")]
    let spans = Spans::from_env().map_err(|error| Failure::start("the export of spans", io::Error::other(error)))?;
    #[cfg(feature = "otel")]
    if let Some(spans) = &spans {
        service.export_spans(spans.clone());
    }
    let admin = server.admin_address().map(|address| format!(", administration on http://{address}"));
    note(Level::Info, &format!("listening on http://{}{}", server.address(), admin.unwrap_or_default()));
    if arguments.scheduler.is_some() {
        note(Level::Info, &format!("the extender's urlPrefix is http://{}/scheduler", server.address()));
    }
    let reloads = tokio::spawn(reloads(arguments, file, known, service.clone(), hangup));
    let (stopping, stopped) = oneshot::channel();
    let signals = async move {
        stop.recv().await;
        let _ = stopping.send(());
        stop.recv().await;
    };
    tokio::select! {
        () = server.run(async { _ = stopped.await }) => {}
        // A second signal ends the grace time: dropping the server cancels the requests that are left.
        () = signals => {}
    }
    reloads.abort();
    #[cfg(feature = "otel")]
    if let Some(spans) = spans {
        spans.flush(CANCELLED).await;
    }
    // Nothing else is left to do on this thread.
    service.wait_for_guests(CANCELLED);
    Ok(())
}

/// Reloads at each hangup, and if it was asked for whenever a file has changed.
async fn reloads(arguments: Serve, file: PathBuf, mut known: Stamps, service: Service, mut hangup: Hangup) {
    // Of a reload that has failed: what it failed for may have passed, such as a directory that was missing.
    let mut again: Option<Again> = None;
    loop {
        if !arguments.options.watch {
            hangup.recv().await;
        } else if timeout(WATCH, hangup.recv()).await.is_err()
            && known.are_true()
            && again.as_ref().is_none_or(|again| Instant::now() < again.at)
        {
            // Whichever comes first.
            continue;
        }
        let renewed = known.renewed();
        let reload = {
            let (arguments, file, service) = (arguments.clone(), file.clone(), service.clone());
            let known = renewed.clone();
            spawn_blocking(move || match arguments.read(&file) {
                Ok((config, stamps)) => (stamps, service.reload(&config).map_err(|error| refused(&file, &error))),
                Err(failure) => {
                    service.failed_reload();
                    (known, Err(failure))
                }
            })
        };
        let result;
        (known, result) = match reload.await {
            Ok((stamps, result)) => (stamps, result.map_err(Some)),
            // Its message is on standard error.
            Err(error) if error.is_panic() => {
                service.failed_reload();
                (renewed, Err(None))
            }
            // The runtime shuts down.
            Err(_) => return,
        };
        match result {
            Ok(reload) => {
                again = None;
                note(Level::Info, &format!("reloaded: {} routes", reload.routes));
                if reload.listeners_differ {
                    note(Level::Warning, "what the configuration says about listeners has changed: restart for it");
                }
            }
            Err(failure) => {
                again = Some(Again::after(again));
                note(Level::Warning, "the reload failed; the routes are unchanged");
                failure.iter().for_each(Failure::report);
            }
        }
    }
}

/// When a reload that failed is tried again.
struct Again {
    at: Instant,
    pause: Duration,
}

impl Again {
    fn after(last: Option<Self>) -> Self {
        let pause = last.map_or(WATCH, |last| RETRY.min(2 * last.pause));
        Self { at: Instant::now() + pause, pause }
    }
}

/// What the configuration, all files that it names and the lock file were like before they were read.
#[derive(Clone)]
struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Identifies a version of a file. A file that cannot be read has none.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    /// Device, inode and the time of the last change, which nobody can set: a file that replaces one of the same length
    /// can have its modification time, too.
    #[cfg(unix)]
    node: (u64, u64, i64, i64),
}

impl Stamps {
    fn add(&mut self, file: &Path) {
        self.0.push((file.to_owned(), stamp(file)));
    }

    fn are_true(&self) -> bool {
        self.0.iter().all(|(file, known)| *known == stamp(file))
    }

    /// Returns the stamps of the same files now.
    fn renewed(&self) -> Self {
        Self(self.0.iter().map(|(file, _)| (file.clone(), stamp(file))).collect())
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    #[cfg(unix)]
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(file).ok()?;
    Some(Stamp {
        modified: metadata.modified().ok()?,
        length: metadata.len(),
        #[cfg(unix)]
        node: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Returns whether the argument names a configuration. A reference never does, whatever its tag ends in.
fn is_config(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "toml") && !is_reference(file)
}

/// Returns how modules are pulled: with the lock file beside the configuration. A module in a registry has no directory.
fn registries(file: &Path, registries: &Registries) -> Registries {
    if is_config(file) { registries.beside(file) } else { registries.clone() }
}

impl Serve {
    /// Reads the configuration, and returns what its files were like before.
    fn read(&self, file: &Path) -> Result<(Config, Stamps), Failure> {
        let mut stamps = Stamps(Vec::new());
        stamps.add(file);
        // Tags name something else when it changes.
        #[cfg(feature = "registry")]
        registries(file, &self.options.registries).lock_file().iter().for_each(|file| stamps.add(file));
        let config = self.config(file)?;
        config.files().for_each(|file| stamps.add(file));
        Ok((config, stamps))
    }

    /// Reads the configuration, or makes one for a module.
    fn config(&self, file: &Path) -> Result<Config, Failure> {
        let mut config = if let Some(Scheduler { plugins, config }) = &self.scheduler {
            let config = config.clone().map_or_else(GuestConfig::default, GuestConfig::File);
            Config::of_plugins(plugins.iter().cloned(), &config)
        } else if is_config(file) {
            Config::read(file).map_err(|error| refused(file, &error))?
        } else {
            let wasm = module(file, &self.options.registries)?;
            let kind = Kind::of(&wasm).ok_or_else(|| {
                Failure::refused(
                    file,
                    "it is not a plugin, middleware, command or package; `mistctl inspect` lists what is wrong. Plugins of a \
                     scheduler are served by `mistctl serve scheduler --plugin`",
                )
            })?;
            Config::of_module(file, kind)
        };
        config.listener.address = self.options.listen.unwrap_or(config.listener.address);
        config.admin = self.options.admin.or(config.admin);
        Ok(config)
    }
}

fn refused(file: &Path, error: &config::Error) -> Failure {
    let problems: Vec<_> = error.problems().iter().map(ToString::to_string).collect();
    Failure::refused(file, problems.join("\n"))
}

/// Reads a module. A file has to be a regular one: a reload reads it again, and opening a pipe waits for its writer.
fn module(path: &Path, registries: &Registries) -> Result<Vec<u8>, Failure> {
    if let Some(pulled) = registries.pull(path)? {
        return files::assembled(path, pulled);
    }
    files::assembled(path, Files.read(path).map_err(|error| Failure::read(path, error))?)
}

/// Modules and engines as the other verbs get them: text is assembled, and compiled code comes from the cache.
struct Modules {
    registries: Registries,
    backend: Backend,
}

impl Modules {
    /// Returns the modules of a configuration, beside which the lock file is.
    fn new(file: &Path, registries: &Registries, backend: &Backend) -> Self {
        Self { registries: self::registries(file, registries), backend: backend.clone() }
    }
}

impl Source for Modules {
    fn module(&self, path: &Path) -> Result<Vec<u8>, BoxError> {
        module(path, &self.registries).map_err(|failure| failure.in_one_line().into())
    }

    fn backend(&self, name: Option<&str>) -> mistletoe::Result<AnyBackend> {
        match name {
            Some(name) => self.backend.start_named(name),
            None => self.backend.start(),
        }
    }
}

/// The signals that stop the server.
struct Stop {
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    interrupt: Signal,
}

impl Stop {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    #[cfg(unix)]
    async fn recv(&mut self) {
        let (mut terminate, mut interrupt) = (pin!(self.terminate.recv()), pin!(self.interrupt.recv()));
        poll_fn(|context| {
            let is_any = terminate.as_mut().poll(context).is_ready() || interrupt.as_mut().poll(context).is_ready();
            if is_any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn recv(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

/// The signal to reload, where the system has it.
struct Hangup {
    #[cfg(unix)]
    signal: Signal,
}

impl Hangup {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        Ok(Self { signal: signal(SignalKind::hangup())? })
    }

    #[cfg(unix)]
    async fn recv(&mut self) {
        self.signal.recv().await;
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn recv(&mut self) {
        std::future::pending().await
    }
}
