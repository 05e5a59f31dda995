//! Calls of the methods of plugins, one function for each form. The macro uses them.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{ClusterEvent, Cycle, Pod, Status, host, json};

/// Starts a cycle.
pub fn begin<P>(_: &mut P, cycle: &mut Cycle) -> i32 {
    *cycle = Cycle::default();
    0
}

pub fn enqueue<P>(plugin: &mut P, _: &mut Cycle, method: impl FnOnce(&mut P) -> Vec<ClusterEvent>) {
    let events = method(plugin);
    let numbers = events.iter().flat_map(|event| [event.resource as u32, event.actions]);
    host::pass(host::cluster_events, numbers.flat_map(u32::to_le_bytes).collect::<Vec<_>>());
}

pub fn prefilter<P>(
    plugin: &mut P,
    cycle: &mut Cycle,
    method: impl FnOnce(&mut P, &mut Cycle) -> Result<Option<Vec<String>>, Status>,
) -> i32 {
    begin(plugin, cycle);
    status(method(plugin, cycle).map(|nodes| {
        if let Some(nodes) = nodes {
            let ended: Vec<_> = nodes.iter().flat_map(|name| [name.as_bytes(), b"\0"]).collect();
            host::pass(host::node_names, ended.concat());
        }
    }))
}

/// Asks about a node.
pub fn node<P>(
    plugin: &mut P,
    cycle: &mut Cycle,
    method: impl FnOnce(&mut P, &mut Cycle, &str) -> Result<(), Status>,
) -> i32 {
    status(method(plugin, cycle, &current_node()))
}

/// Tells about a node.
pub fn notice<P>(plugin: &mut P, cycle: &mut Cycle, method: impl FnOnce(&mut P, &mut Cycle, &str)) {
    method(plugin, cycle, &current_node());
}

/// Asks about a node and another pod.
pub fn target<P>(
    plugin: &mut P,
    cycle: &mut Cycle,
    method: impl FnOnce(&mut P, &mut Cycle, &Pod, &str) -> Result<(), Status>,
) -> i32 {
    let pod = Pod::from_message(host::get(host::target_pod));
    status(method(plugin, cycle, &pod, &current_node()))
}

pub fn postfilter<P>(
    plugin: &mut P,
    cycle: &mut Cycle,
    method: impl FnOnce(&mut P, &mut Cycle, &BTreeMap<String, i64>) -> Result<Option<String>, Status>,
) -> u64 {
    let statuses = json::numbers(&host::get(host::node_to_status_map));
    let nomination = statuses.map_err(Status::from).and_then(|statuses| method(plugin, cycle, &statuses));
    let mut mode = 0;
    let code = status(nomination.map(|node| {
        if let Some(node) = node {
            mode = 1;
            host::pass(host::nominated_node_name, node);
        }
    }));
    pair(mode, code)
}

pub fn prescore<P>(
    plugin: &mut P,
    cycle: &mut Cycle,
    method: impl FnOnce(&mut P, &mut Cycle, &[String]) -> Result<(), Status>,
) -> i32 {
    let nodes = json::names(&host::get(host::filtered_node_list));
    status(nodes.map_err(Status::from).and_then(|nodes| method(plugin, cycle, &nodes)))
}

pub fn score<P>(
    plugin: &mut P,
    cycle: &mut Cycle,
    method: impl FnOnce(&mut P, &mut Cycle, &str) -> Result<i32, Status>,
) -> u64 {
    let mut number = 0;
    let code = status(method(plugin, cycle, &current_node()).map(|score| number = score));
    pair(number, code)
}

pub fn normalizescore<P>(
    plugin: &mut P,
    cycle: &mut Cycle,
    method: impl FnOnce(&mut P, &mut Cycle, &mut BTreeMap<String, i64>) -> Result<(), Status>,
) -> i32 {
    let scores = json::numbers(&host::get(host::node_score_list));
    status(scores.map_err(Status::from).and_then(|mut scores| {
        method(plugin, cycle, &mut scores)?;
        host::pass(host::normalized_score_list, json::write_numbers(&scores));
        Ok(())
    }))
}

pub fn permit<P>(
    plugin: &mut P,
    cycle: &mut Cycle,
    method: impl FnOnce(&mut P, &mut Cycle, &str) -> Result<Option<Duration>, Status>,
) -> u64 {
    let (code, milliseconds) = match method(plugin, cycle, &current_node()) {
        Ok(None) => (0, 0),
        Ok(Some(time)) => (Status::WAIT, u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
        Err(failed) => (status(Err(failed)), 0),
    };
    // The other way round than all others.
    pair(code, milliseconds.cast_signed())
}

/// Hands the reason over, if there is one, and returns the code.
fn status(result: Result<(), Status>) -> i32 {
    let Err(Status { code, reason }) = result else { return 0 };
    if !reason.is_empty() {
        host::pass(host::status_reason, reason);
    }
    code
}

fn pair(upper: i32, lower: i32) -> u64 {
    u64::from(upper.cast_unsigned()) << 32 | u64::from(lower.cast_unsigned())
}

fn current_node() -> String {
    let name = host::get(host::current_node_name);
    String::from_utf8(name).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_halves_that_the_interface_has() {
        let (plugin, cycle) = (&mut (), &mut Cycle::default());
        assert_eq!(node(plugin, cycle, |_, _, _| Ok(())), 0);
        assert_eq!(node(plugin, cycle, |_, _, _| Err(Status::new(i32::MIN, ""))), i32::MIN);
        assert_eq!(score(plugin, cycle, |_, _, _| Ok(7)), 7 << 32);
        assert_eq!(score(plugin, cycle, |_, _, _| Ok(-1)), 0xffff_ffff << 32);
        assert_eq!(score(plugin, cycle, |_, _, _| Err(Status::error("no"))), 1);
        let wait = |milliseconds| {
            permit(&mut (), &mut Cycle::default(), |_, _, _| Ok(Some(Duration::from_millis(milliseconds))))
        };
        assert_eq!(wait(5), 4 << 32 | 5);
        assert_eq!(wait(u64::MAX), 4 << 32 | 0xffff_ffff);
        assert_eq!(permit(plugin, cycle, |_, _, _| Ok(None)), 0);
        assert_eq!(permit(plugin, cycle, |_, _, _| Err(Status::unschedulable("no"))), 2 << 32);
        assert_eq!(postfilter(plugin, cycle, |_, _, _| Ok(None)), 0);
        assert_eq!(postfilter(plugin, cycle, |_, _, _| Ok(Some("a".into()))), 1 << 32);
        assert_eq!(postfilter(plugin, cycle, |_, _, _| Err(Status::unschedulable(""))), 2);
    }

    #[test]
    fn each_prefilter_starts_a_cycle() {
        let (plugin, cycle) = (&mut (), &mut Cycle::default());
        cycle.insert("key", 7);
        assert_eq!((cycle.get("key"), cycle.get::<u8>("key"), cycle.get::<i32>("other")), (Some(&7), None, None));
        cycle.insert("key", 6);
        assert_eq!(cycle.get("key"), Some(&6));
        let seen = |_: &mut (), cycle: &mut Cycle| {
            assert_eq!(cycle.get::<i32>("key"), None);
            cycle.insert("key", 8);
            Ok(Some(Vec::new()))
        };
        assert_eq!(prefilter(plugin, cycle, seen), 0);
        assert_eq!(cycle.get_mut("key"), Some(&mut 8));
        assert_eq!(begin(plugin, cycle), 0);
        assert_eq!(cycle.get::<i32>("key"), None);
    }
}
