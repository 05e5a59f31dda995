//! Limits that no case reaches. They change nothing except that fuel may be counted, and every backend counts the same.
//! Neither does it change anything that the guest's stack is recorded.

use std::time::Duration;

use libtest_mimic::Failed;
use mistletoe::{AnyBackend, Limits, Result};
use mistletoe_conformance::host::{Host, HostPackage};
use mistletoe_conformance::setup::Setup;
use mistletoe_conformance::{Report, cases};

use crate::backends;

/// A backend that adds limits to modules whose case has none: all limits, or all except the one on fuel.
struct Limited {
    backend: AnyBackend,
    fuel: Option<u64>,
}

impl Host for Limited {
    fn name(&self) -> &str {
        Host::name(&self.backend)
    }

    fn load(&self, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>> {
        let mut setup = setup.clone();
        let asked_for = Limits::unlimited().with_max_output(setup.limits.max_output());
        if setup.limits == asked_for {
            let none_is_reached = asked_for.with_memory(1 << 32).with_fuel(self.fuel).with_stack(u32::MAX);
            setup.limits = none_is_reached.with_timeout(Duration::from_secs(3600));
        }
        self.backend.load(wasm, &setup)
    }
}

/// A backend that records the stack in every case, whatever its limits. The fuel, and where limits are reached, stay.
struct Recording(AnyBackend);

impl Host for Recording {
    fn name(&self) -> &str {
        Host::name(&self.0)
    }

    fn load(&self, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>> {
        let mut setup = setup.clone();
        setup.limits = setup.limits.with_backtrace(true);
        self.0.load(wasm, &setup)
    }
}

pub(crate) fn change_nothing(fuel: Option<u64>) -> std::result::Result<(), Failed> {
    all_pass(backends()?.into_iter().map(|backend| Limited { backend, fuel }))
}

pub(crate) fn recording_changes_nothing() -> std::result::Result<(), Failed> {
    all_pass(backends()?.into_iter().map(Recording))
}

fn all_pass(hosts: impl Iterator<Item = impl Host>) -> std::result::Result<(), Failed> {
    let hosts: Vec<_> = hosts.collect();
    let hosts: Vec<_> = hosts.iter().map(|host| host as &dyn Host).collect();
    let mut report = Report::run(&cases()?, &hosts, |_| ());
    let all = report.cases.len();
    report.cases.retain(|row| !row.is_good());
    if report.cases.is_empty() && all > 0 { Ok(()) } else { Err(report.terminal(true).into()) }
}
