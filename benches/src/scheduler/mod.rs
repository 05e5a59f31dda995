//! Hosts of plugins of the Kubernetes scheduler, written for one engine each, as an expert of the engine would write a
//! fast one.
//!
//! They follow the rules of `docs/scheduler.md` for a plugin with `prefilter`, `filter` and `score` that asks for the
//! pod, for the node that the call is about, and for nodes by name. The objects are in protobuf already. The hosts have no
//! limits, no WASI and no log, and trust the module in everything else.
//!
//! Each of them has a `Plugin`, which is compiled and linked once, and a `Session`, an instance that schedules one pod
//! after the other.

pub mod wasmer;
pub mod wasmi;
pub mod wasmtime;

use std::collections::HashMap;
use std::sync::Arc;

pub use crate::baseline::Result;
use crate::baseline::{range, range_mut};

const API: &str = "k8s.io/api";
const SCHEDULER: &str = "k8s.io/scheduler";

const SUCCESS: i32 = 0;
const UNSCHEDULABLE: i32 = 2;
const UNRESOLVABLE: i32 = 3;

/// The pod that is scheduled, and the nodes, in protobuf.
#[derive(Debug)]
pub struct Cycle {
    pod: Vec<u8>,
    nodes: Vec<Node>,
    positions: HashMap<String, usize>,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// The name.
    pub name: String,
    /// The node in protobuf.
    pub message: Vec<u8>,
}

/// What a plugin says about the nodes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// The positions of the nodes that the pod fits.
    pub fits: Vec<usize>,
    /// The names of the other nodes, with the status and the reason.
    pub refused: Vec<(String, i32, String)>,
}

/// A plugin on any engine.
pub trait Host: Sized {
    /// An instance.
    type Session: Session;

    /// Compiles a plugin, and links it.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    fn compile(wasm: &[u8]) -> Result<Self>;

    /// Creates an instance.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    fn session(&self) -> Result<Self::Session>;
}

/// An instance of a plugin.
pub trait Session {
    /// Asks which nodes a pod fits.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors, and an error for a failure of the plugin.
    fn filter(&mut self, cycle: &Arc<Cycle>) -> Result<Filtered>;

    /// Asks for the scores of the nodes.
    ///
    /// # Errors
    ///
    /// As [`Session::filter`].
    fn prioritize(&mut self, cycle: &Arc<Cycle>) -> Result<Vec<i64>>;
}

impl Cycle {
    /// Returns a cycle of a pod in protobuf, and of nodes.
    pub fn new(pod: Vec<u8>, nodes: Vec<Node>) -> Self {
        let positions = nodes.iter().enumerate().map(|(at, node)| (node.name.clone(), at)).collect();
        Self { pod, nodes, positions }
    }
}

/// The data of a store: what the host functions need of the instance, and what a call is about.
#[derive(Debug)]
struct State<M> {
    /// Set after instantiation.
    memory: Option<M>,
    cycle: Option<Arc<Cycle>>,
    /// The position of the node that the call is about.
    node: Option<usize>,
    reason: String,
}

impl<M> Default for State<M> {
    fn default() -> Self {
        Self { memory: None, cycle: None, node: None, reason: String::new() }
    }
}

/// What the engines' sessions have in common.
trait Calls {
    type Memory;

    fn state(&mut self) -> &mut State<Self::Memory>;
    fn call_prefilter(&mut self) -> Result<i32>;
    fn call_filter(&mut self) -> Result<i32>;
    fn call_score(&mut self) -> Result<u64>;

    /// Begins a cycle.
    fn begin(&mut self, cycle: &Arc<Cycle>) -> Result<()> {
        let state = self.state();
        (state.cycle, state.node) = (Some(cycle.clone()), None);
        self.call_prefilter().and_then(|status| self.check(status))
    }

    /// Fails if the status is no success.
    fn check(&mut self, status: i32) -> Result<()> {
        let reason = std::mem::take(&mut self.state().reason);
        if status == SUCCESS { Ok(()) } else { Err(format!("status {status}: {reason}").into()) }
    }
}

impl<C: Calls> Session for C {
    fn filter(&mut self, cycle: &Arc<Cycle>) -> Result<Filtered> {
        self.begin(cycle)?;
        let mut filtered = Filtered::default();
        for (at, node) in cycle.nodes.iter().enumerate() {
            self.state().node = Some(at);
            match self.call_filter()? {
                SUCCESS => filtered.fits.push(at),
                status @ (UNSCHEDULABLE | UNRESOLVABLE) => {
                    filtered.refused.push((node.name.clone(), status, std::mem::take(&mut self.state().reason)));
                }
                status => self.check(status)?,
            }
        }
        Ok(filtered)
    }

    fn prioritize(&mut self, cycle: &Arc<Cycle>) -> Result<Vec<i64>> {
        self.begin(cycle)?;
        let mut scores = Vec::with_capacity(cycle.nodes.len());
        for at in 0..cycle.nodes.len() {
            self.state().node = Some(at);
            let score = self.call_score()?;
            self.check((score as u32).cast_signed())?;
            scores.push(i64::from(((score >> 32) as u32).cast_signed()));
        }
        Ok(scores)
    }
}

impl<M> State<M> {
    /// `currentPod`.
    fn pod(&self, memory: &mut [u8], buffer: u32, limit: u32) -> Result<u32> {
        fill(memory, self.cycle()?.pod.as_slice(), buffer, limit)
    }

    /// `currentNodeName`.
    fn node_name(&self, memory: &mut [u8], buffer: u32, limit: u32) -> Result<u32> {
        let name = match self.node {
            Some(at) => &*self.cycle()?.nodes[at].name,
            None => "",
        };
        fill(memory, name.as_bytes(), buffer, limit)
    }

    /// `node`. Most guests ask for the node that the call is about.
    fn node(&self, memory: &mut [u8], name: u32, length: u32, buffer: u32, limit: u32) -> Result<u32> {
        let (cycle, name) = (self.cycle()?, range(memory, name, length)?);
        let node = match self.node.map(|at| &cycle.nodes[at]) {
            Some(node) if node.name.as_bytes() == name => Some(node),
            _ => std::str::from_utf8(name).ok().and_then(|name| Some(&cycle.nodes[*cycle.positions.get(name)?])),
        };
        fill(memory, node.map_or(&[], |node| &node.message), buffer, limit)
    }

    /// `result.status_reason`.
    fn set_reason(&mut self, memory: &[u8], address: u32, length: u32) -> Result<()> {
        self.reason = String::from_utf8_lossy(range(memory, address, length)?).into_owned();
        Ok(())
    }

    fn cycle(&self) -> Result<&Cycle> {
        self.cycle.as_deref().ok_or_else(|| "no cycle has begun".into())
    }
}

/// Writes bytes to the guest's buffer if they fit. Returns their length.
#[inline]
fn fill(memory: &mut [u8], bytes: &[u8], buffer: u32, limit: u32) -> Result<u32> {
    // No object is as long as 4 GiB.
    let length = bytes.len() as u32;
    if length > 0 && length <= limit {
        range_mut(memory, buffer, length)?.copy_from_slice(bytes);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses the nodes whose message is as long as the pod's. Of others, the score is the length.
    const GUEST: &str = r#"(module
        (import "k8s.io/api" "node" (func $node (param i32 i32 i32 i32) (result i32)))
        (import "k8s.io/scheduler" "currentPod" (func $pod (param i32 i32) (result i32)))
        (import "k8s.io/scheduler" "currentNodeName" (func $name (param i32 i32) (result i32)))
        (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "too like")
        (data (i32.const 8) "no pod")
        (global $wanted (mut i32) (i32.const 0))
        (func $length (result i32)
            (call $node (i32.const 16) (call $name (i32.const 16) (i32.const 64)) (i32.const 1024) (i32.const 64)))
        (func (export "prefilter") (result i32)
            (global.set $wanted (call $pod (i32.const 1024) (i32.const 64)))
            (if (i32.eqz (global.get $wanted)) (then
                (call $reason (i32.const 8) (i32.const 6))
                (return (i32.const 1))))
            (i32.const 0))
        (func (export "filter") (result i32)
            (if (i32.eq (call $length) (global.get $wanted)) (then
                (call $reason (i32.const 0) (i32.const 8))
                (return (i32.const 2))))
            (i32.const 0))
        (func (export "score") (result i64)
            (i64.shl (i64.extend_i32_u (call $length)) (i64.const 32))))"#;

    #[test]
    fn every_engine_filters_and_scores() {
        fn check<H: Host>(wasm: &[u8]) {
            let mut session = H::compile(wasm).expect("a plugin").session().expect("an instance");
            let node = |name: &str, length| Node { name: name.to_owned(), message: vec![7; length] };
            let nodes = vec![node("one", 10), node("another", 20), node("a third", 30)];
            let cycle = Arc::new(Cycle::new(vec![0; 20], nodes));
            for _ in 0..2 {
                let filtered = session.filter(&cycle).expect("nodes");
                assert_eq!(filtered.fits, [0, 2]);
                assert_eq!(filtered.refused, [("another".to_owned(), 2, "too like".to_owned())]);
                assert_eq!(session.prioritize(&cycle).expect("scores"), [10, 20, 30]);
            }
            let empty = Arc::new(Cycle::new(Vec::new(), Vec::new()));
            assert_eq!(session.filter(&empty).expect_err("no pod").to_string(), "status 1: no pod");
        }
        let wasm = wat::parse_str(GUEST).expect("the guest assembles");
        check::<wasmtime::Plugin>(&wasm);
        check::<wasmer::Plugin>(&wasm);
        check::<wasmi::Plugin>(&wasm);
    }
}
