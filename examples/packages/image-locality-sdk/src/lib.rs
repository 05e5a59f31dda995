//! A plugin of the Kubernetes scheduler in Rust, through `mistletoe-guest`: it favours nodes that have the images of the
//! pod already, as the scheduler's own plugin `ImageLocality` does.
//!
//! The size of each image that a node has counts as much as the part of all nodes that have it, so that pods do not all go
//! to the few nodes with an image. A sum of up to 23 MiB scores 0, and of 1,000 MiB for each container 100.

use std::collections::BTreeMap;

use mistletoe_guest::scheduler::{Cycle, ImageState, Status};
use mistletoe_guest::{Error, scheduler_plugin};

scheduler_plugin!(ImageLocality: prescore, score);

struct ImageLocality;

/// What is the same for all nodes.
struct Images {
    /// The name of the image of each container.
    names: Vec<String>,
    /// The number of nodes.
    nodes: usize,
}

const MIB: i64 = 1 << 20;
/// The sum that scores 0.
const MIN: i64 = 23 * MIB;
/// The sum that scores the maximum, for each container.
const MAX: i64 = 1000 * MIB;
const MAX_SCORE: i64 = 100;
/// More than a pod has, so that no product overflows.
const MAX_CONTAINERS: usize = 1 << 20;

/// The name of [`Images`] in the cycle.
const IMAGES: &str = "images";

impl ImageLocality {
    fn new(_: Vec<u8>) -> Result<Self, Error> {
        Ok(Self)
    }

    fn prescore(&mut self, cycle: &mut Cycle, _: &[String]) -> Result<(), Status> {
        let pod = cycle.pod();
        let containers = pod.init_containers().chain(pod.containers());
        let names = containers.map(|container| Ok(with_tag(container?.image()?))).collect::<Result<Vec<_>, Error>>()?;
        let nodes = cycle.nodes().iter().count();
        cycle.insert(IMAGES, Images { names, nodes });
        Ok(())
    }

    fn score(&mut self, cycle: &mut Cycle, node: &str) -> Result<i32, Status> {
        let images: &Images = cycle.get(IMAGES).ok_or_else(|| Status::error("the host has not called `prescore`"))?;
        Ok(images.score(&cycle.image_states(node)?))
    }
}

impl Images {
    /// Returns the score of a node with these images.
    fn score(&self, on_node: &BTreeMap<String, ImageState>) -> i32 {
        let max = MAX * self.names.len().min(MAX_CONTAINERS) as i64;
        if max <= MIN || self.nodes == 0 {
            return 0;
        }
        let mut sum = 0;
        for image in self.names.iter().filter_map(|name| on_node.get(name)) {
            let spread = image.nodes as f64 / self.nodes as f64;
            // More than the maximum counts as the maximum, so the sum does not overflow.
            sum += (image.size as f64 * spread).clamp(0.0, max as f64) as i64;
            sum = sum.min(max);
        }
        (MAX_SCORE * (sum.max(MIN) - MIN) / (max - MIN)) as i32
    }
}

/// Returns the name of an image with its tag, as nodes name it.
fn with_tag(image: &str) -> String {
    let has_tag = image.rsplit('/').next().is_some_and(|name| name.contains(':'));
    if has_tag { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mistletoe_guest::scheduler::ImageState;

    use super::{Images, MIB, with_tag};

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        for (image, name) in [
            ("web", "web:latest"),
            ("web:1", "web:1"),
            ("registry:5000/web", "registry:5000/web:latest"),
            ("registry:5000/web:1", "registry:5000/web:1"),
            ("web@sha256:0f1e", "web@sha256:0f1e"),
            ("", ":latest"),
        ] {
            assert_eq!(with_tag(image), name);
        }
    }

    #[test]
    fn a_score_is_the_size_of_the_images_by_their_spread() {
        let score = |containers: &[&str], nodes, size, on| {
            let state = ImageState { size, nodes: on };
            let names = containers.iter().map(|name| (*name).to_owned()).collect();
            Images { names, nodes }.score(&BTreeMap::from([("a".to_owned(), state)]))
        };
        assert_eq!(score(&["a"], 1, 23 * MIB, 1), 0);
        assert_eq!(score(&["a"], 1, 1000 * MIB, 1), 100);
        // (500 / 2 - 23) / (1000 - 23), and half of 977 more than 23.
        assert_eq!(score(&["a"], 2, 500 * MIB, 1), 23);
        assert_eq!(score(&["a"], 1, 512 * MIB, 1), 50);
        assert_eq!(score(&["b"], 1, 500 * MIB, 1), 0);
        // (2 * 500 - 23) / (2 * 1000 - 23)
        assert_eq!(score(&["a", "a"], 1, 500 * MIB, 1), 49);
        assert_eq!(score(&[], 1, 500 * MIB, 1), 0);
        assert_eq!(score(&["a"], 0, 500 * MIB, 1), 0);
        for (size, on) in [(i64::MAX, i64::MAX), (i64::MIN, i64::MIN), (i64::MIN, 1), (1, i64::MIN)] {
            let score = score(&["a", "a", "a"], 1, size, on);
            assert!(score == 0 || score == 100, "{score}");
        }
    }
}
