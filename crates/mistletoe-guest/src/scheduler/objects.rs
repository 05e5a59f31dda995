//! Pods and nodes, in the bytes that the host has sent. A field is read when it is asked for.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::protobuf::{all, at, bytes, number, text, utf8};
use crate::Error;

/// A message in bytes that others share.
#[derive(Clone)]
struct Message {
    all: Rc<Vec<u8>>,
    range: Range<usize>,
}

impl Message {
    fn new(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), all: Rc::new(bytes) }
    }

    fn bytes(&self) -> &[u8] {
        self.all.get(self.range.clone()).unwrap_or_default()
    }
}

/// A pod.
///
/// It has the bytes that the host has sent, and a clone shares them. Each method reads them: keep what is needed more
/// than once. What is missing is empty, and an error is a message that is malformed.
#[derive(Clone)]
pub struct Pod(Message);

/// A node of the cluster.
///
/// As in a [`Pod`], each method reads the bytes that the host has sent.
#[derive(Clone)]
pub struct Node(Message);

/// The nodes of the cluster.
#[derive(Clone)]
pub struct Nodes(Message);

/// The metadata that all objects have.
macro_rules! metadata {
    ($type:ident) => {
        impl $type {
            /// Returns the object in this message, a `v1` object in protobuf.
            pub fn from_message(message: Vec<u8>) -> Self {
                Self(Message::new(message))
            }

            /// Returns the name.
            pub fn name(&self) -> Result<&str, Error> {
                text(self.metadata()?, 1)
            }

            /// Returns the UID.
            pub fn uid(&self) -> Result<&str, Error> {
                text(self.metadata()?, 5)
            }

            /// Returns the version of the object in the cluster.
            pub fn resource_version(&self) -> Result<&str, Error> {
                text(self.metadata()?, 6)
            }

            /// Returns the labels, with their values.
            pub fn labels(&self) -> impl Iterator<Item = Result<(&str, &str), Error>> {
                entries(self.metadata(), 11)
            }

            /// Returns the value of a label.
            pub fn label(&self, name: &str) -> Result<Option<&str>, Error> {
                find(self.labels(), name)
            }

            /// Returns the annotations, with their values.
            pub fn annotations(&self) -> impl Iterator<Item = Result<(&str, &str), Error>> {
                entries(self.metadata(), 12)
            }

            /// Returns the value of an annotation.
            pub fn annotation(&self, name: &str) -> Result<Option<&str>, Error> {
                find(self.annotations(), name)
            }

            fn metadata(&self) -> Result<&[u8], Error> {
                bytes(self.0.bytes(), 1)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).field("name", &self.name()).finish_non_exhaustive()
            }
        }
    };
}

metadata!(Pod);
metadata!(Node);

impl Pod {
    /// Returns the namespace.
    pub fn namespace(&self) -> Result<&str, Error> {
        text(self.metadata()?, 3)
    }

    /// Returns the containers, in order, without those that run before.
    pub fn containers(&self) -> impl Iterator<Item = Result<Container<'_>, Error>> {
        all(self.spec(), 2).map(|container| container.map(Container))
    }

    /// Returns the containers that run before the others, in order.
    pub fn init_containers(&self) -> impl Iterator<Item = Result<Container<'_>, Error>> {
        all(self.spec(), 20).map(|container| container.map(Container))
    }

    /// Returns the name of the node that the pod is on, or is to be on; empty if there is none.
    pub fn node_name(&self) -> Result<&str, Error> {
        text(self.spec()?, 10)
    }

    /// Returns the labels that a node must have.
    pub fn node_selector(&self) -> impl Iterator<Item = Result<(&str, &str), Error>> {
        entries(self.spec(), 7)
    }

    /// Returns the name of the profile of the scheduler that schedules the pod.
    pub fn scheduler_name(&self) -> Result<&str, Error> {
        text(self.spec()?, 19)
    }

    /// Returns the priority, if the pod has one.
    pub fn priority(&self) -> Result<Option<i32>, Error> {
        // A negative number has all 64 bits.
        Ok(number(self.spec()?, 25)?.map(|priority| priority as i32))
    }

    /// Returns the taints that the pod tolerates.
    pub fn tolerations(&self) -> impl Iterator<Item = Result<Toleration<'_>, Error>> {
        all(self.spec(), 22).map(|toleration| {
            let toleration = toleration?;
            let text = |number| text(toleration, number);
            Ok(Toleration { key: text(1)?, operator: text(2)?, value: text(3)?, effect: text(4)? })
        })
    }

    fn spec(&self) -> Result<&[u8], Error> {
        bytes(self.0.bytes(), 2)
    }
}

impl Node {
    /// Returns whether the node takes no new pods.
    pub fn unschedulable(&self) -> Result<bool, Error> {
        Ok(number(self.spec()?, 4)?.is_some_and(|unschedulable| unschedulable != 0))
    }

    /// Returns the taints, in order.
    pub fn taints(&self) -> impl Iterator<Item = Result<Taint<'_>, Error>> {
        all(self.spec(), 5).map(|taint| {
            let taint = taint?;
            let text = |number| text(taint, number);
            Ok(Taint { key: text(1)?, value: text(2)?, effect: text(3)? })
        })
    }

    /// Returns the resources that pods can have, with their quantities, such as `3920m` of `cpu`.
    pub fn allocatable(&self) -> impl Iterator<Item = Result<(&str, &str), Error>> {
        quantities(self.status(), 2)
    }

    /// Returns all resources of the node, with their quantities.
    pub fn capacity(&self) -> impl Iterator<Item = Result<(&str, &str), Error>> {
        quantities(self.status(), 1)
    }

    /// Returns the images on the node, in order.
    pub fn images(&self) -> impl Iterator<Item = Result<Image<'_>, Error>> {
        all(self.status(), 8).map(|image| image.map(Image))
    }

    fn spec(&self) -> Result<&[u8], Error> {
        bytes(self.0.bytes(), 2)
    }

    fn status(&self) -> Result<&[u8], Error> {
        bytes(self.0.bytes(), 3)
    }
}

impl Nodes {
    /// Returns the nodes in this message, a `v1.NodeList` in protobuf.
    pub fn from_message(message: Vec<u8>) -> Self {
        Self(Message::new(message))
    }

    /// Returns the nodes. They share the bytes of the list.
    pub fn iter(&self) -> impl Iterator<Item = Result<Node, Error>> {
        let start = self.0.bytes().as_ptr().addr();
        all(Ok(self.0.bytes()), 2).map(move |node| {
            let node = node?;
            let from = node.as_ptr().addr() - start;
            Ok(Node(Message { all: Rc::clone(&self.0.all), range: from..from + node.len() }))
        })
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A container of a pod.
#[derive(Clone, Copy)]
pub struct Container<'a>(&'a [u8]);

impl<'a> Container<'a> {
    /// Returns the name.
    pub fn name(&self) -> Result<&'a str, Error> {
        text(self.0, 1)
    }

    /// Returns the name of the image, as the author of the pod has written it.
    pub fn image(&self) -> Result<&'a str, Error> {
        text(self.0, 2)
    }

    /// Returns the resources that the container needs, with their quantities, such as `500m` of `cpu`.
    pub fn requests(&self) -> impl Iterator<Item = Result<(&'a str, &'a str), Error>> + use<'a> {
        quantities(at(self.0, &[8]), 2)
    }

    /// Returns the resources that the container gets at most, with their quantities.
    pub fn limits(&self) -> impl Iterator<Item = Result<(&'a str, &'a str), Error>> + use<'a> {
        quantities(at(self.0, &[8]), 1)
    }
}

impl fmt::Debug for Container<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// An image on a node.
#[derive(Clone, Copy)]
pub struct Image<'a>(&'a [u8]);

impl<'a> Image<'a> {
    /// Returns the names of the image.
    pub fn names(&self) -> impl Iterator<Item = Result<&'a str, Error>> + use<'a> {
        all(Ok(self.0), 1).map(|name| utf8(name?))
    }

    /// Returns the size, in bytes.
    pub fn size(&self) -> Result<i64, Error> {
        Ok(number(self.0, 2)?.unwrap_or_default().cast_signed())
    }
}

impl fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// A taint of a node, which keeps pods away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taint<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: &'a str,
}

/// A toleration of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toleration<'a> {
    /// The key; empty for all keys.
    pub key: &'a str,
    /// `Exists` or `Equal`; empty for the latter.
    pub operator: &'a str,
    /// The value.
    pub value: &'a str,
    /// The effect; empty for all effects.
    pub effect: &'a str,
}

/// The entries of a map of strings.
fn entries(message: Result<&[u8], Error>, number: u32) -> impl Iterator<Item = Result<(&str, &str), Error>> {
    all(message, number).map(|entry| {
        let entry = entry?;
        Ok((text(entry, 1)?, text(entry, 2)?))
    })
}

/// The entries of a map of quantities, each of which is a message with its text.
fn quantities(message: Result<&[u8], Error>, number: u32) -> impl Iterator<Item = Result<(&str, &str), Error>> {
    all(message, number).map(|entry| {
        let entry = entry?;
        Ok((text(entry, 1)?, text(bytes(entry, 2)?, 1)?))
    })
}

fn find<'a>(
    mut entries: impl Iterator<Item = Result<(&'a str, &'a str), Error>>,
    name: &str,
) -> Result<Option<&'a str>, Error> {
    let found = entries.find(|entry| !matches!(entry, Ok((other, _)) if *other != name));
    Ok(found.transpose()?.map(|(_, value)| value))
}
