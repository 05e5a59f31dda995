//! What a case's module is loaded with: a protocol, host functions, and WASI grants.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mistletoe_abi::protocol::HttpHandler;
use mistletoe_abi::protocol::httpwasm::Delimiter;
use mistletoe_abi::{Imports, Limits};
use mistletoe_wasi::{Access, Clock, Random, Wasi};
use serde::Deserialize;
use tempfile::TempDir;

use crate::case::Text;
use crate::host_functions::{self, Memo};
use crate::http::Http;
use crate::scheduler::Scheduler;
use crate::trace::{self, Trace};

/// The interface of a case's module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The package interface.
    #[default]
    Package,
    /// HTTP plugins.
    Httpwasm,
    /// HTTP middleware.
    HttpHandler,
    /// Plugins of the Kubernetes scheduler.
    Scheduler,
    /// WASI commands.
    Command,
    /// The server, with the module behind a route.
    Server,
}

impl Protocol {
    /// Returns the file in `docs/` with the rules that the cases of this protocol test.
    ///
    /// Commands follow WASI's own rules, and the server those of HTTP and of CGI. They have no such file.
    pub fn document(self) -> Option<&'static str> {
        match self {
            Self::Package => Some("abi.md"),
            Self::Httpwasm => Some("httpwasm.md"),
            Self::HttpHandler => Some("http-handler.md"),
            Self::Scheduler => Some("scheduler.md"),
            Self::Command | Self::Server => None,
        }
    }
}

/// What a module is loaded with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The interface of the module.
    pub protocol: Protocol,
    /// The host's limits.
    pub limits: Limits,
    /// The functions that the module can import.
    pub imports: Imports<State>,
    /// The delimiter of records in its input, if it reads records.
    pub delimiter: Delimiter,
    /// The protocol of middleware, with its settings.
    pub http_handler: HttpHandler,
    pub(crate) http: Http,
    pub(crate) scheduler: Scheduler,
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "only the server has routes"))]
    pub(crate) route: Option<toml::Table>,
    wasi: Option<Grants>,
}

/// What WASI grants. Anything left out is not granted. Without any grants table, WASI is not defined at all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// The arguments, including the program's name.
    #[serde(default)]
    args: Vec<String>,
    /// The environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// The contents of standard input.
    stdin: Option<Text>,
    /// The time of the fixed clock, in seconds since 1970-01-01.
    #[serde(default)]
    clock: u64,
    /// The seed of the random numbers.
    #[serde(default)]
    random: u64,
    /// The granted directories by their name in the guest.
    ///
    /// Their parent on the host also contains the directory `outside`, with the file `secret`.
    #[serde(default)]
    dir: BTreeMap<String, Folder>,
}

/// A granted directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Folder {
    /// Whether the directory is read-only.
    #[serde(default)]
    read_only: bool,
    /// Files and their contents. A `/` at the end of a name creates a directory.
    #[serde(default)]
    files: BTreeMap<String, Text>,
    /// Symbolic links and their targets. `OUTSIDE` stands for the absolute path of the directory `outside`.
    #[serde(default)]
    links: BTreeMap<String, String>,
}

/// The state of a case's sessions.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) memo: Memo,
    pub(crate) trace: Trace,
    pub(crate) wasi: Wasi,
    pub(crate) http: Http,
    pub(crate) scheduler: Scheduler,
    /// The parent of the granted directories, which is removed when the last state drops it.
    folders: Option<Arc<TempDir>>,
}

impl AsMut<Wasi> for State {
    fn as_mut(&mut self) -> &mut Wasi {
        &mut self.wasi
    }
}

impl Setup {
    pub(crate) fn new(
        protocol: Protocol,
        limits: Limits,
        tests: bool,
        delimiter: Delimiter,
        http: Http,
        wasi: Option<Grants>,
    ) -> Self {
        let mut imports = Imports::new();
        if tests {
            imports = host_functions::imports();
            trace::add_to(&mut imports);
        }
        if wasi.is_some() {
            mistletoe_wasi::add_to(&mut imports);
        }
        let http_handler = http.protocol();
        let scheduler = Scheduler::default();
        Self { protocol, limits, imports, delimiter, http_handler, http, scheduler, route: None, wasi }
    }

    pub(crate) fn with_scheduler(self, scheduler: Scheduler) -> Self {
        Self { scheduler, ..self }
    }

    pub(crate) fn with_route(self, route: Option<toml::Table>) -> Self {
        Self { route, ..self }
    }

    /// Creates a state for a session, with its own directories.
    ///
    /// # Errors
    ///
    /// Returns an error if the directories cannot be created.
    pub fn state(&self) -> io::Result<State> {
        let (http, scheduler) = (self.http.clone(), self.scheduler.clone());
        let Some(grants) = &self.wasi else { return Ok(State { http, scheduler, ..State::default() }) };
        let mut builder = Wasi::builder()
            .args(grants.args.iter().map(String::as_str))
            .env(grants.env.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .clock(Clock::Fixed(SystemTime::UNIX_EPOCH + Duration::from_secs(grants.clock)))
            .random(Random::Seeded(grants.random));
        if let Some(stdin) = &grants.stdin {
            builder = builder.stdin(stdin.text().into_bytes());
        }
        let mut folders = None;
        if !grants.dir.is_empty() {
            let root = TempDir::new()?;
            fs::create_dir(root.path().join("outside"))?;
            fs::write(root.path().join("outside/secret"), "secret")?;
            for (i, (guest, folder)) in grants.dir.iter().enumerate() {
                let host = root.path().join(i.to_string());
                folder.make(&host)?;
                let access = if folder.read_only { Access::ReadOnly } else { Access::ReadWrite };
                builder = builder.dir(&host, guest, access)?;
            }
            folders = Some(Arc::new(root));
        }
        Ok(State { wasi: builder.build(), http, scheduler, folders, ..State::default() })
    }
}

impl Folder {
    fn make(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)?;
        for (name, content) in &self.files {
            let file = path.join(name);
            if name.ends_with('/') {
                fs::create_dir_all(file)?;
            } else {
                if let Some(parent) = file.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(file, content.text())?;
            }
        }
        for (name, target) in &self.links {
            let outside = path.with_file_name("outside");
            let target = target.replace("OUTSIDE", &outside.to_string_lossy());
            #[cfg(unix)]
            std::os::unix::fs::symlink(target, path.join(name))?;
            #[cfg(not(unix))]
            let _ = (target, name);
        }
        Ok(())
    }
}

impl State {
    /// Takes what the guest wrote to standard output and standard error since the last call.
    ///
    /// The notes of the functions of the module `fuzz` are appended to standard error.
    pub fn take_streams(&mut self) -> (String, String) {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(self.wasi.take_stdout()), text(self.wasi.take_stderr()) + &self.trace.take())
    }

    /// Returns the contents of the granted directories.
    ///
    /// Maps the relative path of each file to its contents, and of each link to its target.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        if let Some(root) = &self.folders {
            list(root.path(), root.path(), &mut files);
        }
        files
    }
}

fn list(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let kind = entry.file_type();
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
            files.insert(format!("{name}/"), String::new());
            list(root, &path, files);
        } else if kind.is_ok_and(|kind| kind.is_symlink()) {
            let target = fs::read_link(&path).unwrap_or_default();
            files.insert(format!("{name}@"), target.to_string_lossy().replace(&*root.to_string_lossy(), "ROOT"));
        } else {
            files.insert(name, String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned());
        }
    }
}
