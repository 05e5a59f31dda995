//! The images of nodes.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{Node, Nodes};

impl Nodes {
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
pub(super) struct Image {
    #[serde(rename = "Size")]
    size: i64,
    #[serde(rename = "NumNodes")]
    nodes: u32,
}

/// Returns the names of a node's images, each once, with their sizes. A node without such a status has none. Of a name
/// that is listed twice, the first size counts, as in the scheduler.
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
    entries.into_iter().flat_map(sized).rev().collect()
}
