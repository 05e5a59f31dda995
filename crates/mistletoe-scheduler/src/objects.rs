//! Pods and nodes: their JSON, and what guests see of it, made when the first guest asks.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

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

/// The text of an object, which may be part of a longer one that objects share.
#[derive(Clone)]
pub(crate) struct Text {
    all: Arc<Vec<u8>>,
    range: Range<usize>,
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

impl Text {
    pub(crate) fn new(text: Vec<u8>) -> Self {
        let range = 0..text.len();
        Self { all: Arc::new(text), range }
    }

    /// Returns a part of the text, without a copy if it is one.
    pub(crate) fn part(&self, part: &str) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(self.all.as_ptr() as usize);
        let range = start..start.wrapping_add(part.len());
        match self.all.get(range.clone()) {
            Some(same) if same.as_ptr() == part.as_ptr() => Self { all: self.all.clone(), range },
            _ => Self::new(part.into()),
        }
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.all.get(self.range.clone()).unwrap_or_default()
    }
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

    /// Returns the node with this name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.get(self.position(name)?)
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

    /// Returns the images of a node as JSON, with their sizes and on how many of the nodes they are; `null` if there is
    /// no such node.
    pub(crate) fn image_states(&self, name: &str) -> Vec<u8> {
        let Some(node) = self.get(name) else { return b"null".to_vec() };
        let all = self.images.get_or_init(|| {
            let mut all = HashMap::new();
            for node in &self.nodes {
                for (name, size) in images(node) {
                    // As in the scheduler, the size is that of the node which comes first.
                    all.entry(name).or_insert(Image { size, nodes: 0 }).nodes += 1;
                }
            }
            all
        });
        let states: BTreeMap<_, _> =
            images(node).into_keys().filter_map(|name| all.get(&name).map(|image| (name, image))).collect();
        serde_json::to_vec(&states).unwrap_or_default()
    }
}

/// An image, on all nodes together.
#[derive(Serialize)]
struct Image {
    #[serde(rename = "Size")]
    size: i64,
    #[serde(rename = "NumNodes")]
    nodes: u32,
}

/// Returns the names of a node's images, each once, with their sizes. A node without such a status has none.
fn images(node: &Node) -> BTreeMap<String, i64> {
    #[derive(Deserialize)]
    struct Images {
        status: Option<Status>,
    }
    #[derive(Deserialize)]
    struct Status {
        images: Option<Vec<Entry>>,
    }
    #[derive(Deserialize)]
    struct Entry {
        names: Option<Vec<String>>,
        #[serde(rename = "sizeBytes")]
        size: Option<i64>,
    }
    let read = node.json.as_deref().and_then(|json| serde_json::from_slice::<Images>(json).ok());
    let entries = read.and_then(|node| node.status?.images).unwrap_or_default();
    let sized = |Entry { names, size }: Entry| {
        names.unwrap_or_default().into_iter().map(move |name| (name, size.unwrap_or_default()))
    };
    entries.into_iter().flat_map(sized).collect()
}

#[derive(Default, Deserialize)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
}

/// Reads an object's metadata, and nothing after them: they come first, and objects can be long.
fn metadata(json: &[u8]) -> Result<Metadata, Error> {
    struct Found<'a>(&'a mut Option<Metadata>);

    impl<'de> Visitor<'de> for Found<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of Kubernetes")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                if key == "metadata" {
                    *self.0 = Some(map.next_value::<Option<_>>()?.unwrap_or_default());
                    return Err(A::Error::custom("the rest is not read"));
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }

    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = reader.deserialize_map(Found(&mut found)).and_then(|()| reader.end());
    match (found, read) {
        (Some(metadata), _) => Ok(metadata),
        (None, Ok(())) => Ok(Metadata::default()),
        (None, Err(error)) => Err(Error::new(error.to_string())),
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
