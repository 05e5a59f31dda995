//! Pods and nodes: their JSON, and what guests see of it, made when the first guest asks.

mod images;
mod text;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use images::Image;
use text::{Metadata, metadata};

pub(crate) use text::Text;

use crate::protobuf::{self, Error};

/// A pod. Its message in protobuf is made once, when a guest first asks for it.
pub struct Pod {
    name: String,
    namespace: String,
    uid: String,
    json: Text,
    message: OnceLock<Result<Vec<u8>, Error>>,
}

/// A node, or the name of one of which nothing else is known.
pub struct Node {
    name: String,
    json: Option<Text>,
    message: OnceLock<Result<Vec<u8>, Error>>,
}

/// The nodes of a cycle.
#[derive(Default)]
pub struct Nodes {
    nodes: Vec<Node>,
    positions: HashMap<String, usize>,
    list: OnceLock<Result<Vec<u8>, Error>>,
    images: OnceLock<HashMap<String, Image>>,
}

/// What guests of one cycle share: the pod that is scheduled, and the nodes.
#[derive(Debug)]
pub struct Cycle {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The nodes.
    pub nodes: Arc<Nodes>,
}

impl Pod {
    /// Reads a pod's name and UID from its JSON. The rest is read when a guest asks for it.
    ///
    /// # Errors
    ///
    /// An [`Error`] if the text is no JSON object, or its metadata are none of Kubernetes.
    pub fn new(json: impl Into<Vec<u8>>) -> Result<Self, Error> {
        Self::read(Text::new(json.into()))
    }

    pub(crate) fn read(json: Text) -> Result<Self, Error> {
        let Metadata { name, namespace, uid } = metadata(&json)?;
        let [name, namespace, uid] = [name, namespace, uid].map(Option::unwrap_or_default);
        Ok(Self { name, namespace, uid, json, message: OnceLock::new() })
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Returns the JSON.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// Returns the pod in protobuf.
    ///
    /// # Errors
    ///
    /// As [`protobuf::pod`].
    pub fn message(&self) -> Result<&[u8], Error> {
        of(self.message.get_or_init(|| protobuf::pod(&self.json)))
    }
}

impl Node {
    /// Reads a node's name from its JSON. The rest is read when a guest asks for it.
    ///
    /// # Errors
    ///
    /// As [`Pod::new`].
    pub fn new(json: impl Into<Vec<u8>>) -> Result<Self, Error> {
        Self::read(Text::new(json.into()))
    }

    pub(crate) fn read(json: Text) -> Result<Self, Error> {
        let name = metadata(&json)?.name.unwrap_or_default();
        Ok(Self { name, json: Some(json), message: OnceLock::new() })
    }

    /// Returns a node of which only the name is known. Guests that ask for the node get nothing.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), json: None, message: OnceLock::new() }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the JSON, if it is known.
    pub fn json(&self) -> Option<&[u8]> {
        self.json.as_deref()
    }

    /// Returns the node in protobuf; nothing if only its name is known.
    ///
    /// # Errors
    ///
    /// As [`protobuf::node`].
    pub fn message(&self) -> Result<&[u8], Error> {
        of(self.message.get_or_init(|| self.json.as_deref().map_or(Ok(Vec::new()), protobuf::node)))
    }
}

impl Nodes {
    /// Returns the nodes in order. Of nodes with the same name, guests see the last.
    pub fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        let nodes: Vec<_> = nodes.into_iter().collect();
        let positions = nodes.iter().enumerate().map(|(at, node)| (node.name.clone(), at)).collect();
        Self { nodes, positions, ..Self::default() }
    }

    /// Returns the nodes, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.iter()
    }

    /// Returns the position of the node with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// Returns the same for a name that need not be a text. `latest` is the position of the node before: most guests ask
    /// about one node after the other, which takes no search.
    pub(crate) fn find(&self, name: &[u8], latest: usize) -> Option<usize> {
        // Of nodes with the same name, the map has the last.
        if self.positions.len() == self.nodes.len() {
            let is_named = |at: &usize| self.nodes.get(*at).is_some_and(|node| node.name.as_bytes() == name);
            if let Some(at) = [latest, latest.saturating_add(1)].into_iter().find(is_named) {
                return Some(at);
            }
        }
        self.position(std::str::from_utf8(name).ok()?)
    }

    /// Returns the positions of nodes with the names of `others`, in their order; `None` if one is not there.
    pub(crate) fn positions_of(&self, others: &Self) -> Option<Vec<usize>> {
        let mut latest = 0;
        let mut position = |node: &Node| {
            latest = self.find(node.name.as_bytes(), latest)?;
            Some(latest)
        };
        others.nodes.iter().map(&mut position).collect()
    }

    /// Returns the node at a position.
    pub(crate) fn at(&self, position: usize) -> Option<&Node> {
        self.nodes.get(position)
    }

    /// Returns the node with this name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.at(self.position(name)?)
    }

    /// Returns all nodes as a v1.NodeList in protobuf.
    ///
    /// # Errors
    ///
    /// As [`protobuf::node`], with the name of the node.
    pub fn message(&self) -> Result<&[u8], Error> {
        of(self.list.get_or_init(|| {
            let known = self.nodes.iter().filter(|node| node.json.is_some());
            let messages = known.map(|node| node.message().map_err(|error| error.of(&node.name)));
            Ok(protobuf::node_list(messages.collect::<Result<Vec<_>, _>>()?))
        }))
    }
}

fn of(message: &Result<Vec<u8>, Error>) -> Result<&[u8], Error> {
    message.as_deref().map_err(Clone::clone)
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, namespace, uid, .. } = self;
        f.debug_struct("Pod")
            .field("name", name)
            .field("namespace", namespace)
            .field("uid", uid)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_wherever_the_one_before_was() {
        let nodes = Nodes::new(["a", "b", "c"].map(Node::named));
        for latest in [0, 1, 2, 3, usize::MAX] {
            for (at, name) in [b"a", b"b", b"c"].into_iter().enumerate() {
                assert_eq!(nodes.find(name, latest), Some(at), "after {latest}");
            }
            assert_eq!(
                (nodes.find(b"d", latest), nodes.find(b"", latest), nodes.find(b"\xff", latest)),
                (None, None, None)
            );
        }
        // Of nodes with the same name, it is the last.
        let nodes = Nodes::new(["a", "b", "a"].map(Node::named));
        for latest in 0..3 {
            assert_eq!(nodes.find(b"a", latest), Some(2), "after {latest}");
        }
    }
}
