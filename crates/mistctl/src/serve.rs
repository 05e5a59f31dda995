//! `mistctl serve`.

use std::fs;
#[cfg(unix)]
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::pin::pin;
#[cfg(unix)]
use std::task::Poll;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use mistletoe::AnyBackend;
use mistletoe_serve::config::{self, Config, Kind, MAX_GUESTS};
use mistletoe_serve::{BoxError, Log, Server, Service, Source};
use tokio::runtime::Builder;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::cli::Backend;
use crate::failure::Failure;
use crate::files;
use crate::registries::Registries;
use crate::stderr::{Level, note};

/// Threads for guests: those of a state that is reloaded end while those of the next one begin.
const THREADS: usize = 3 * MAX_GUESTS;
/// How long guests may take to notice that they were cancelled.
const CANCELLED: Duration = Duration::from_secs(2);
/// Interval at which files are checked for changes.
const WATCH: Duration = Duration::from_secs(1);

#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  \
    mistctl serve serve.toml\n  \
    mistctl serve hello.wasm --listen 127.0.0.1:0\n  \
    mistctl serve check serve.toml\n\n\
    The log goes to standard output, one JSON object per line. SIGHUP reads the configuration and the modules again;\n\
    SIGTERM and SIGINT stop the server after the requests under way."
)]
pub(crate) struct Serve {
    /// The configuration, if the name ends in `.toml`, or else a module that responds to every request. Middleware has
    /// nothing behind it: requests that it passes on get 404.
    #[arg(value_name = "FILE|MODULE", required = true)]
    file: Option<PathBuf>,
    /// Address to listen on, instead of the configuration's [default: 127.0.0.1:8080]. Port 0 is any free port.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Address for health, metrics and the status page, instead of the configuration's [default: none].
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Reload when the configuration or a module changes.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    backend: Backend,
    #[command(subcommand)]
    verb: Option<Verb>,
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
}

pub(crate) fn run(arguments: &Serve) -> Result<(), Failure> {
    if let Some(Verb::Check { file, registries, backend }) = &arguments.verb {
        let config = Config::read(file).map_err(|error| refused(file, &error))?;
        let service = Service::new(&config, Modules::new(file, registries, backend), Log::default());
        return service.map(drop).map_err(|error| refused(file, &error));
    }
    let Some(file) = &arguments.file else { return Err(Failure::usage("expected a configuration or a module")) };
    if file.as_os_str() == "-" {
        return Err(Failure::usage("a server reads its modules again, so they are no standard input"));
    }
    let config = arguments.config(file)?;
    let log = Log::to_writer(io::stdout()).map_err(|error| Failure::start("the log", error))?;
    let service = Service::new(&config, Modules::new(file, &arguments.registries, &arguments.backend), log.clone());
    let service = service.map_err(|error| refused(file, &error))?;

    let runtime = Builder::new_multi_thread().enable_all().max_blocking_threads(THREADS).build();
    let runtime = runtime.map_err(|error| Failure::start("the server", error))?;
    let result = runtime.block_on(serve(arguments.clone(), file.clone(), config, service));
    runtime.shutdown_timeout(CANCELLED);
    log.flush(CANCELLED);
    result
}

async fn serve(arguments: Serve, file: PathBuf, config: Config, service: Service) -> Result<(), Failure> {
    let not_started = |error| Failure::start("the server", error);
    let server = Server::bind(&config, service.clone()).await.map_err(not_started)?;
    // Before the server says that it is ready, so that no signal from then on is lost.
    let mut stop = Stop::new().map_err(not_started)?;
    let hangup = Hangup::new().map_err(not_started)?;
    let admin = server.admin_address().map(|address| format!(", administration on http://{address}"));
    note(Level::Info, &format!("listening on http://{}{}", server.address(), admin.unwrap_or_default()));
    let reloads = tokio::spawn(reloads(arguments, file, config, service, hangup));
    server.run(async move { stop.recv().await }).await;
    reloads.abort();
    Ok(())
}

/// Reloads at each hangup, and if it was asked for whenever a file has changed.
async fn reloads(arguments: Serve, file: PathBuf, mut config: Config, service: Service, mut hangup: Hangup) {
    let mut known = arguments.watch.then(|| stamps(&file, &config));
    loop {
        match &known {
            None => hangup.recv().await,
            // Whichever comes first.
            Some(known) => {
                if timeout(WATCH, hangup.recv()).await.is_err() && *known == stamps(&file, &config) {
                    continue;
                }
            }
        }
        // Before the files are read: a change from then on is seen later.
        let now = stamps(&file, &config);
        let reload = {
            let (arguments, file, service) = (arguments.clone(), file.clone(), service.clone());
            spawn_blocking(move || {
                let config = arguments.config(&file).inspect_err(|_| service.failed_reload())?;
                let reload = service.reload(&config).map_err(|error| refused(&file, &error))?;
                Ok::<_, Failure>((config, reload))
            })
        };
        match reload.await {
            Ok(Ok((new, reload))) => {
                note(Level::Info, &format!("reloaded: {} routes", reload.routes));
                if reload.listeners_differ {
                    note(Level::Warning, "what the configuration says about listeners has changed: restart for it");
                }
                let is_same = config.files().eq(new.files());
                config = new;
                known = known.map(|_| if is_same { now } else { stamps(&file, &config) });
            }
            Ok(Err(failure)) => {
                known = known.map(|_| now);
                note(Level::Warning, "the reload failed; the routes are unchanged");
                failure.report();
            }
            Err(_) => return,
        }
    }
}

/// Times and lengths of the configuration and of all files that it names. A file that cannot be read has none.
type Stamps = Vec<Option<(SystemTime, u64)>>;

fn stamps(file: &Path, config: &Config) -> Stamps {
    let stamp = |path: &Path| fs::metadata(path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
    std::iter::once(file).chain(config.files()).map(stamp).collect()
}

fn is_config(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "toml")
}

impl Serve {
    /// Reads the configuration, or makes one for a module.
    fn config(&self, file: &Path) -> Result<Config, Failure> {
        let mut config = if is_config(file) {
            Config::read(file).map_err(|error| refused(file, &error))?
        } else {
            let wasm = files::assembled(file, files::module(file, &self.registries)?)?;
            let kind = Kind::of(&wasm).ok_or_else(|| {
                Failure::refused(
                    file,
                    "it is not a plugin, middleware, command or package; `mistctl inspect` lists what is wrong",
                )
            })?;
            Config::of_module(file, kind)
        };
        config.listener.address = self.listen.unwrap_or(config.listener.address);
        config.admin = self.admin.or(config.admin);
        Ok(config)
    }
}

fn refused(file: &Path, error: &config::Error) -> Failure {
    let problems: Vec<_> = error.problems().iter().map(ToString::to_string).collect();
    Failure::refused(file, problems.join("\n"))
}

/// Modules and engines as the other verbs get them: text is assembled, and compiled code comes from the cache.
struct Modules {
    registries: Registries,
    backend: Backend,
}

impl Modules {
    /// Returns the modules of a configuration, beside which the lock file is.
    fn new(file: &Path, registries: &Registries, backend: &Backend) -> Self {
        // A module in a registry has no directory.
        let registries = if is_config(file) { registries.beside(file) } else { registries.clone() };
        Self { registries, backend: backend.clone() }
    }
}

impl Source for Modules {
    fn module(&self, path: &Path) -> Result<Vec<u8>, BoxError> {
        let assembled = files::module(path, &self.registries).and_then(|bytes| files::assembled(path, bytes));
        assembled.map_err(|failure| failure.in_one_line().into())
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
