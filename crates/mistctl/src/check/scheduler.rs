//! Plugins of the Kubernetes scheduler: which functions they have, and what is often wrong with them.

use std::collections::BTreeMap;

use mistletoe::documents::yaml::Value;
use mistletoe::module::{self, Interface};
use mistletoe::types::ExternType;
use mistletoe::wasi::{self, Wasi};
use mistletoe::{AnyBackend, AnyProgram};
use mistletoe_scheduler::Plugin;
use mistletoe_scheduler::protocol::{Function, KubeScheduler};

use super::Report;
use super::declared::{joined, names};
use crate::failure::in_one_line;

/// The modules of the interface's imports.
const MODULES: [&str; 3] = ["k8s.io/api", "k8s.io/klog", "k8s.io/scheduler"];
/// Functions that a scheduler extender never calls.
const NEVER_CALLED: [Function; 8] = [
    Function::Enqueue,
    Function::AddPod,
    Function::Reserve,
    Function::Unreserve,
    Function::Permit,
    Function::PreBind,
    Function::Bind,
    Function::PostBind,
];

/// Returns whether a module is meant to be a plugin, and checks what it declares. It is no package then.
pub(super) fn is_meant(wasm: &[u8], report: &mut Report) -> bool {
    let inspection = module::inspect(wasm);
    let interface = inspection.interface;
    let imports = |module: &str, name: &str| {
        interface.imports.iter().any(|import| import.module == module && import.name == name)
    };
    let imports_from = |module: &str| interface.imports.iter().any(|import| import.module == module);
    let is_package = interface.exports.iter().any(|export| export.name.starts_with("__mistletoe_"));
    let functions: Vec<_> = Function::ALL.into_iter().filter(|function| has(&interface, function.name())).collect();
    let is_named = functions.iter().any(|function| !matches!(function, Function::Bind | Function::Reserve));
    if inspection.invalid.is_some() || is_package || !(is_named || MODULES.into_iter().any(imports_from)) {
        return false;
    }
    report.insert("size", super::int(wasm.len() as u64));
    let problems = AnyProgram::<KubeScheduler, Wasi>::problems_with(
        &KubeScheduler::default(),
        &interface,
        &wasi::imports::<Wasi>(),
    );
    let interfaces = if problems.is_empty() { vec![Value::from("scheduler plugin")] } else { Vec::new() };
    report.insert("interfaces", Value::Sequence(interfaces));
    let points = functions.iter().map(|function| Value::from(function.name()));
    report.insert("extensionPoints", Value::Sequence(points.collect()));
    report
        .insert("imports", names(interface.imports.iter().map(|import| format!("{}.{}", import.module, import.name))));
    if !problems.is_empty() {
        let advice = "export the functions and import only what docs/scheduler.md lists, with their types";
        report.findings.error("interface", joined(&problems), advice);
    }

    let starts = has(&interface, "_start") || has(&interface, "_initialize");
    if imports_from("wasi_snapshot_preview1") && !starts {
        let message = "it imports WASI, but exports neither `_start` nor `_initialize`";
        let advice = "export `_start` (TinyGo: build a command): a language's runtime has to start, and plugins of the \
            Go SDK are set in `main`; without it every function returns success";
        report.findings.warning("no-start", message, advice);
    }
    let refuses = [Function::PreFilter, Function::Filter].into_iter().any(|function| functions.contains(&function));
    if refuses && !imports("k8s.io/scheduler", "result.status_reason") {
        let message = "it can refuse nodes, but gives no reason";
        let advice = "call `result.status_reason` before a status other than 0: it is in the events of the pod";
        report.findings.note("no-reason", message, advice);
    }
    let keeps = functions.iter().any(|function| !matches!(function, Function::PreFilter | Function::Enqueue));
    if keeps && !functions.contains(&Function::PreFilter) {
        let message = "it does not export `prefilter`, which begins the cycle of a pod";
        let advice =
            "if it keeps anything between calls, export `prefilter` and drop it there: instances are used again";
        report.findings.note("no-prefilter", message, advice);
    }
    let never: Vec<_> = functions.iter().filter(|function| NEVER_CALLED.contains(function)).collect();
    if !never.is_empty() {
        let listed = never.iter().map(|function| function.name()).collect::<Vec<_>>().join(", ");
        let message = format!("a scheduler extender never calls: {listed}");
        report.findings.note("never-called", message, "do not rely on them under `mistctl serve scheduler`");
    }
    if ["handle.get_waiting_pod", "handle.reject_waiting_pod"].iter().any(|name| imports("k8s.io/scheduler", name)) {
        let message = "it asks for waiting pods, which an extender does not have";
        report.findings.note("no-waiting-pods", message, "treat a missing pod as the usual case");
    }
    true
}

/// Checks that each engine can make an instance, if what the module declares allows it.
pub(super) fn starts(backends: &[AnyBackend], wasm: &[u8], limits: mistletoe::Limits, report: &mut Report) {
    if report.findings.ids().contains(&"interface") {
        return;
    }
    let mut engines = Vec::new();
    // The same on every engine is one finding.
    let mut failures = BTreeMap::<String, Vec<&str>>::new();
    for backend in backends {
        match Plugin::options("check").limits(limits).load(backend, wasm) {
            Ok(_) => engines.push(Value::from(backend.name())),
            Err(error) => failures.entry(in_one_line(&error)).or_default().push(backend.name()),
        }
    }
    for (error, engines) in failures {
        let message = format!("no instance on {}: {error}", engines.join(", "));
        report.findings.error("fails", message, "see what `_start` or `_initialize` does; raise a limit");
    }
    report.insert("engines", Value::Sequence(engines));
}

fn has(interface: &Interface, name: &str) -> bool {
    matches!(interface.export(name), Some(ExternType::Func(_)))
}
