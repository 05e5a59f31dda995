//! The layer compared with hand-written hosts for one engine each, in groups.
//!
//! `cargo xtask bench` runs this program and turns its output into tables and charts. The program prints one line of
//! JSON on standard output: [`Measured`].
//!
//! `--group NAME` selects a group and may be repeated. `--quick` measures less. With the feature `peers`, other layers
//! are among the candidates. The program runs itself with `--child TASK` for candidates that need a process of their
//! own. `cargo xtask instructions` runs it with `--answers ENGINE HOST INPUT COUNT`.

mod groups;
mod hosts;
mod names;
mod packages;
#[cfg(feature = "peers")]
mod peers;

use std::process::ExitCode;

use groups::GROUPS;
use mistletoe_benches::measured::Measured;
use names::NAMES;

fn main() -> ExitCode {
    assert!(GROUPS.iter().map(|group| group.name).eq(NAMES), "names.rs has the groups, in their order");
    let (mut quick, mut selected) = (false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--group" => selected.extend(arguments.next()),
            "--child" => {
                groups::memory::child(&arguments.next().unwrap_or_default());
                return ExitCode::SUCCESS;
            }
            "--answers" => {
                let task: Vec<_> = arguments.filter(|argument| argument != "--bench").collect();
                let [engine, host, what, count] = task.as_slice() else { return usage("what is to be answered?") };
                let Ok(count) = count.parse() else { return usage("how many?") };
                groups::answer(engine, host, what, count);
                return ExitCode::SUCCESS;
            }
            // Cargo passes this to every benchmark.
            "--bench" => {}
            other => return usage(&format!("what is {other}?")),
        }
    }
    if let Some(unknown) = selected.iter().find(|name| !NAMES.contains(&name.as_str())) {
        return usage(&format!("there is no group {unknown}"));
    }
    if cfg!(debug_assertions) {
        eprintln!("built with debug assertions: the layer is slower than it is");
    }
    let groups = GROUPS.iter().filter(|group| selected.is_empty() || selected.iter().any(|s| s == group.name));
    let groups = groups.map(|group| group.measure(quick)).collect();
    let (optimised, peers) = (!cfg!(debug_assertions), cfg!(feature = "peers"));
    let measured = Measured { quick, optimised, peers, groups };
    println!("{}", serde_json::to_string(&measured).expect("numbers and names"));
    ExitCode::SUCCESS
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("{problem}\nusage: compare [--quick] [--group NAME]...\ngroups: {}", NAMES.join(", "));
    ExitCode::from(2)
}
