//! The cycle: what is known while one pod is scheduled.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

use super::{Node, Nodes, Pod, host, json};
use crate::Error;

/// What is known while one pod is scheduled: the pod, the nodes, and what the plugin has put here.
///
/// # Examples
///
/// ```
/// use mistletoe_guest::scheduler::{Cycle, Status};
///
/// fn prescore(cycle: &mut Cycle) -> Result<(), Status> {
///     let digit = cycle.pod().name()?.chars().last().and_then(|c| c.to_digit(10));
///     cycle.insert("digit", digit.ok_or_else(Status::skip)?);
///     Ok(())
/// }
///
/// fn score(cycle: &mut Cycle, node: &str) -> Result<i32, Status> {
///     let digit: Option<&u32> = cycle.get("digit");
///     Ok(if node.chars().last().and_then(|c| c.to_digit(10)).as_ref() == digit { 100 } else { 0 })
/// }
/// ```
#[derive(Default)]
pub struct Cycle {
    pod: Option<Pod>,
    /// A map of a few values, which is smaller in a module than one of many.
    state: Vec<(&'static str, Box<dyn Any>)>,
}

impl Cycle {
    /// Returns the pod that is scheduled. The host is asked once in a cycle.
    pub fn pod(&mut self) -> Pod {
        self.pod.get_or_insert_with(|| Pod::from_message(host::get(host::current_pod))).clone()
    }

    /// Asks the host for a node. There is none if the host does not know the node, or knows nothing but its name.
    pub fn node(&self, name: &str) -> Option<Node> {
        let message = host::get_by_name(host::node, name);
        (!message.is_empty()).then(|| Node::from_message(message))
    }

    /// Asks the host for all nodes, also those that the pod does not fit. Each call copies all of them: a plugin that
    /// needs something of them for each node puts it into the cycle.
    pub fn nodes(&self) -> Nodes {
        Nodes::from_message(host::get(host::node_list))
    }

    /// Asks the host for the images on a node, by their names. There are none if the host does not know the node.
    ///
    /// # Errors
    ///
    /// If the host sends something else.
    pub fn image_states(&self, node: &str) -> Result<BTreeMap<String, ImageState>, Error> {
        json::images(&host::get_by_name(host::node_image_states, node))
    }

    /// Keeps a value under a name until the end of the cycle.
    pub fn insert<T: 'static>(&mut self, name: &'static str, value: T) {
        let value = Box::new(value);
        match self.state.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.state.push((name, value)),
        }
    }

    /// Returns the value under a name, if there is one of this type.
    pub fn get<T: 'static>(&self, name: &str) -> Option<&T> {
        self.state.iter().find(|(other, _)| *other == name)?.1.downcast_ref()
    }

    /// Returns the value under a name, to change it.
    pub fn get_mut<T: 'static>(&mut self, name: &str) -> Option<&mut T> {
        self.state.iter_mut().find(|(other, _)| *other == name)?.1.downcast_mut()
    }
}

impl fmt::Debug for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.state.iter().map(|(name, _)| name).collect();
        f.debug_struct("Cycle").field("pod", &self.pod).field("state", &names).finish()
    }
}

/// An image of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageState {
    /// The size, in bytes.
    pub size: i64,
    /// The number of nodes that have it.
    pub nodes: i64,
}
