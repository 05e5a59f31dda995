//! The layer beside hosts written by hand for one engine each, in groups of questions. `cargo xtask bench` runs this and
//! makes tables and charts of it; what it prints on stdout is one line of JSON, which is [`measured::Measured`].
//!
//! `--group NAME` (several times, too) selects groups, `--quick` measures less. With the feature `peers`, other layers are
//! among the candidates.

mod groups;
mod hosts;
mod measured;
#[cfg(feature = "peers")]
mod peers;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut quick, mut selected) = (false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--group" => selected.extend(arguments.next()),
            // Cargo says so to every benchmark.
            "--bench" => {}
            other => return usage(&format!("what is {other}?")),
        }
    }
    if let Some(unknown) = selected.iter().find(|name| !groups::GROUPS.iter().any(|group| group.name == **name)) {
        return usage(&format!("there is no group {unknown}"));
    }
    if cfg!(debug_assertions) {
        eprintln!("built with debug assertions: the layer is slower than it is");
    }
    let groups = groups::GROUPS.iter().filter(|group| selected.is_empty() || selected.iter().any(|s| s == group.name));
    let groups = groups.map(|group| group.measure(quick)).collect();
    let (optimised, peers) = (!cfg!(debug_assertions), cfg!(feature = "peers"));
    let measured = measured::Measured { quick, optimised, peers, groups };
    println!("{}", serde_json::to_string(&measured).expect("numbers and names"));
    ExitCode::SUCCESS
}

fn usage(problem: &str) -> ExitCode {
    let names: Vec<_> = groups::GROUPS.iter().map(|group| group.name).collect();
    eprintln!("{problem}\nusage: compare [--quick] [--group NAME]...\ngroups: {}", names.join(", "));
    ExitCode::from(2)
}
