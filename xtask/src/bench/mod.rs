//! `cargo xtask bench`: compares the layer with hand-written hosts, and `mistctl serve` with hand-written servers, as
//! tables and charts.

mod chart;
mod go;
mod measured;
#[path = "../../../benches/benches/compare/names.rs"]
mod names;
mod scheduler;
mod serve;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};

use clap::builder::PossibleValuesParser;
use measured::{Environment, Group, Report, Results};
use names::NAMES;
use serve::Effort;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run fewer rounds, and leave out slow ones: for a quick check, not for a report
    #[arg(long)]
    quick: bool,
    /// Run only this group; may be repeated. `serve` loads servers and `scheduler` asks plugins of the Kubernetes
    /// scheduler; each of them only runs alone
    #[arg(long, value_name = "GROUP", value_parser = PossibleValuesParser::new(NAMES.into_iter().chain(ALONE)))]
    group: Vec<String>,
    /// With the group `serve`: only check that each server starts and responds as expected
    #[arg(long, requires = "group", conflicts_with_all = ["quick", "report"])]
    check: bool,
    /// Include other layers: wasm_runtime_layer, waPC and Extism, which take some minutes to build
    #[arg(long)]
    peers: bool,
    /// Output format of the results
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
    /// Also write a document, and a chart for each group into a directory of the same name beside it
    #[arg(long, value_name = "FILE", conflicts_with = "quick")]
    report: Option<PathBuf>,
    /// Read the JSON of an earlier run instead of measuring
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "group", "peers"])]
    from: Option<PathBuf>,
}

/// The groups with a report of their own.
const ALONE: [&str; 2] = [serve::NAME, scheduler::NAME];

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Markdown,
    Json,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let alone = ALONE.into_iter().find(|name| args.group.iter().any(|group| group == name));
    if let Some(name) = alone {
        ensure!(args.group.len() == 1, "the group `{name}` has a report of its own: run it alone");
        ensure!(!args.peers, "the group `{name}` always has its peers");
    }
    ensure!(alone == Some(serve::NAME) || !args.check, "only the group `serve` can be checked");
    ensure!(
        alone.is_some() || args.group.is_empty() || args.report.is_none(),
        "a report is made of all groups, or of one that only runs alone"
    );
    let results = match &args.from {
        Some(path) => {
            serde_json::from_slice(&read(path)?).with_context(|| format!("cannot make sense of {}", path.display()))?
        }
        None => match alone {
            Some(serve::NAME) => load(args)?,
            Some(_) => scheduler(args)?,
            None => Results::Report(measure(args)?),
        },
    };
    match (args.format, &results) {
        (Format::Json, _) => println!("{}", serde_json::to_string_pretty(&results)?),
        (Format::Markdown, Results::Load { load, .. }) => print!("{}", serve::tables(load)),
        (Format::Markdown, Results::Scheduler { scheduler, .. }) => print!("{}", tables::tables(scheduler)),
        (Format::Markdown, Results::Report(report)) => print!("{}", tables::tables(&report.measured)),
    }
    match &args.report {
        Some(path) => write(&results, path),
        None => Ok(()),
    }
}

/// Runs the group `serve`.
fn load(args: &Args) -> Result<Results> {
    let effort = match (args.check, args.quick) {
        (true, _) => Effort::Check,
        (false, true) => Effort::Quick,
        (false, false) => Effort::Whole,
    };
    let begin = Load::now();
    let (load, versions) = serve::measure(effort)?;
    let other_load = begin.and_then(|begin| Some(begin.others_until(Load::now()?)));
    let mut environment = environment(false, other_load)?;
    environment.versions.extend(versions);
    Ok(Results::Load { environment, load })
}

/// Runs the group `scheduler`.
fn scheduler(args: &Args) -> Result<Results> {
    let begin = Load::now();
    let (scheduler, versions) = scheduler::measure(args.quick)?;
    let other_load = begin.and_then(|begin| Some(begin.others_until(Load::now()?)));
    let mut environment = environment(false, other_load)?;
    environment.versions.extend(versions);
    Ok(Results::Scheduler { environment, scheduler })
}

/// Programs that cargo has built.
struct Executables(String);

impl Executables {
    /// Runs `cargo build` with these arguments.
    fn build(arguments: &[&str]) -> Result<Self> {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--message-format", "json-render-diagnostics"])
            .args(arguments)
            .current_dir(crate::root())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo")?;
        ensure!(output.status.success(), "the programs were not built");
        Ok(Self(String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Returns the path of a program of this kind: `bin` or `bench`.
    fn find(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let mut executables = self.0.lines().filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let executable = PathBuf::from(message["executable"].as_str()?);
            (message["target"]["name"] == name && message["target"]["kind"][0] == kind).then_some(executable)
        });
        executables.next().with_context(|| format!("cargo did not say where {name} is"))
    }
}

/// The crates that `--peers` adds.
const PEERS: [&str; 6] =
    ["wasm_runtime_layer", "wasmtime_runtime_layer", "wasmi_runtime_layer", "wapc", "wasmtime-provider", "extism"];

/// Builds the benchmark as `cargo bench --workspace` does, so that nothing is built twice, and runs it.
fn measure(args: &Args) -> Result<Report> {
    let cargo = || {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(crate::root()).args(["bench", "--workspace", "--bench", "compare"]);
        if args.peers {
            // Extism's wasmtime requires a newer compiler than the one used here.
            command.args(["--features", "mistletoe-benches/peers", "--ignore-rust-version"]);
        }
        command
    };
    let built = cargo().arg("--no-run").status().context("cannot run cargo")?;
    ensure!(built.success(), "the benchmark was not built");

    let begin = Load::now();
    let mut command = cargo();
    command.args(["--quiet", "--"]).args(args.quick.then_some("--quick"));
    for group in &args.group {
        command.args(["--group", group]);
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "the benchmark failed");
    let other_load = begin.and_then(|begin| Some(begin.others_until(Load::now()?)));
    let measured = serde_json::from_slice(&output.stdout).context("the benchmark printed something else than JSON")?;
    Ok(Report { environment: environment(args.peers, other_load)?, measured })
}

fn write(results: &Results, path: &Path) -> Result<()> {
    let folder = path.with_extension("");
    let name = folder.file_name().and_then(|name| name.to_str()).context("the report needs a name")?;
    let (is_whole, document, groups): (bool, String, &[Group]) = match results {
        Results::Load { environment, load } => {
            (load.whole, serve::document(load, environment, name), &serve::groups(load))
        }
        Results::Scheduler { environment, scheduler } => {
            (scheduler.is_whole(), scheduler::document(scheduler, environment, name), &scheduler.groups)
        }
        Results::Report(report) => {
            (report.measured.is_whole(), tables::document(report, name), &report.measured.groups)
        }
    };
    ensure!(is_whole, "a report is made of a whole run in the profile `bench`");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let put =
        |path: &Path, text: &str| fs::write(path, text).with_context(|| format!("cannot write {}", path.display()));
    put(path, &document)?;
    for group in groups {
        put(&folder.join(&group.name).with_extension("svg"), &chart::chart(group))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn environment(peers: bool, other_load: Option<f64>) -> Result<Environment> {
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let field = |file: &str, name: &str, between: char| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(between)?.1.trim().trim_matches('"').to_owned())
    };
    let memory = field("/proc/meminfo", "MemTotal", ':');
    let kibibytes = memory.and_then(|memory| memory.split(' ').next()?.parse::<f64>().ok());
    let os = field("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(|| std::env::consts::OS.to_owned());
    let rustc =
        Command::new("rustc").arg("--version").current_dir(crate::root()).output().context("cannot run rustc")?;
    let rustc = String::from_utf8_lossy(&rustc.stdout).split(' ').take(2).collect::<Vec<_>>().join(" ");
    let lock = fs::read_to_string(crate::root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let locked = |name: &str| locked(&lock, name);
    let version = |name: &str| format!("{name} {}", locked(name).first().unwrap_or(&"?"));
    let mut versions = vec![rustc];
    versions.extend(["wasmi", "wasmtime", "wasmer"].map(version));
    if peers {
        versions.extend(PEERS.map(version));
        // The newer of two versions belongs to Extism, the last crate of the list.
        versions.extend(locked("wasmtime").get(1).map(|wasmtime| format!("its wasmtime {wasmtime}")));
    }
    Ok(Environment {
        date: date.split('T').next().unwrap_or_default().to_owned(),
        cpu: field("/proc/cpuinfo", "model name", ':'),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_gib: kibibytes.map(|kibibytes| kibibytes / f64::from(1 << 20)),
        os: format!("{os} ({})", std::env::consts::ARCH),
        other_load,
        versions,
    })
}

/// Returns the versions of a crate in a lockfile, in its order, which is oldest first.
fn locked<'a>(lock: &'a str, name: &str) -> Vec<&'a str> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    lock.split(&entry).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The processor time since the machine was started, in kernel ticks, as Linux reports it.
#[derive(Clone, Copy)]
struct Load {
    /// The sum over all processors.
    busy: f64,
    idle: f64,
    cores: f64,
    /// The share of this program's finished children.
    own: f64,
}

impl Load {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?, &fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(stat: &str, own: &str) -> Option<Self> {
        let cores = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
        let line = stat.lines().find(|line| line.starts_with("cpu "))?;
        // user, nice, system, idle, iowait, irq, softirq, steal. The first two include the time of guests.
        let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let idle = ticks.get(3)? + ticks.get(4)?;
        // The fields after the program's name, which may contain spaces. `cutime` and `cstime` are the 16th and 17th of
        // all.
        let fields: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
        let child = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some(Self { busy: ticks.iter().sum::<f64>() - idle, idle, cores: cores as f64, own: child(13)? + child(14)? })
    }

    /// Returns how many cores other programs used on average from `self` to `end`.
    fn others_until(self, end: Self) -> f64 {
        let all = (end.busy + end.idle - self.busy - self.idle).max(1.0);
        let others = end.busy - self.busy - (end.own - self.own);
        (others / all * self.cores).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_of_others_leaves_out_the_own_children() {
        let own = |ticks: u32| format!("7 (a (b) c) S 1 7 7 0 -1 0 0 0 0 0 1 1 {ticks} 10 20 0 1 0 0\n");
        let stat = |busy: u32, idle: u32| format!("cpu  {busy} 0 0 {idle} 0 0 0 0 9 9\ncpu0 1\ncpu1 1\nctxt 5\n");
        let begin = Load::parse(&stat(100, 1000), &own(0)).expect("numbers");
        let end = Load::parse(&stat(400, 1100), &own(150)).expect("numbers");
        // Others used 150 of 400 ticks on two cores.
        assert_eq!(begin.others_until(end), 0.75);
        assert!(Load::parse("", "").is_none());
    }

    #[test]
    fn a_lockfile_says_which_versions() {
        let lock = "[[package]]\nname = \"wasmi_core\"\nversion = \"1\"\n\n\
            [[package]]\nname = \"wasmi\"\nversion = \"2.0.0\"\n\n\
            [[package]]\nname = \"wasmi\"\nversion = \"2.1.0\"\n";
        assert_eq!(locked(lock, "wasmi"), ["2.0.0", "2.1.0"]);
        assert!(locked(lock, "wasm").is_empty());
    }
}
