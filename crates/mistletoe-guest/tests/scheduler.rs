//! Plugins of the scheduler: the objects of Kubernetes' own encoder, and a plugin as the macro makes it, called without
//! WebAssembly. The tests of `mistletoe-scheduler` call real ones.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use mistletoe_guest::scheduler::{ClusterEvent, Cycle, Node, Nodes, Pod, Resource, Status, Taint, Toleration};
use mistletoe_guest::{Error, scheduler_plugin};

// Four bytes of length come before each message.
const POD: &[u8] = include_bytes!("data/pod.pb").split_at(4).1;
const NODE: &[u8] = include_bytes!("data/node.pb").split_at(4).1;

#[track_caller]
fn all<T: Debug>(items: impl Iterator<Item = Result<T, Error>>) -> Vec<T> {
    items.collect::<Result<_, _>>().expect("it is no message")
}

#[test]
fn a_pod_has_what_its_json_says() {
    let pod = Pod::from_message(POD.into());
    assert_eq!(pod.name(), Ok("web-5d9c-x7k2p"));
    assert_eq!(pod.namespace(), Ok("default"));
    assert_eq!(pod.uid(), Ok("0c3e2a64-0d6f-4d5b-8f5c-5f3b6f0e8a11"));
    assert_eq!(pod.resource_version(), Ok("1234567"));
    assert_eq!(all(pod.labels()), [("app", "web"), ("pod-template-hash", "5d9c")]);
    assert_eq!((pod.label("app"), pod.label("ap")), (Ok(Some("web")), Ok(None)));
    assert_eq!((pod.annotation("a"), pod.annotations().count()), (Ok(Some("1")), 3));
    let [container] = &all(pod.containers())[..] else { panic!("there is one container") };
    assert_eq!((container.name(), container.image()), (Ok("web"), Ok("registry.example/web@sha256:0f1e")));
    assert_eq!(all(container.requests()), [("cpu", "250m"), ("memory", "512Mi")]);
    assert_eq!(all(container.limits()), [("cpu", "2"), ("memory", "1Gi")]);
    let names: Vec<_> = all(pod.init_containers()).iter().map(|container| container.name()).collect();
    assert_eq!(names, [Ok("proxy")]);
    assert_eq!(all(pod.node_selector()), [("kubernetes.io/os", "linux")]);
    assert_eq!(
        (pod.node_name(), pod.scheduler_name(), pod.priority()),
        (Ok(""), Ok("default-scheduler"), Ok(Some(1000)))
    );
    let toleration = |key, operator, effect| Toleration { key, operator, value: "", effect };
    let second = toleration("node.kubernetes.io/not-ready", "Exists", "NoExecute");
    assert_eq!(all(pod.tolerations()), [toleration("", "", ""), second]);
    assert_eq!(pod.reference().expect("it is right").kind, "Pod");
}

#[test]
fn a_node_has_what_its_json_says() {
    let list = [&b"\x0a\x06\x0a\0\x12\0\x1a\0"[..], b"\x12\x80\0", &delimited(NODE), &delimited(b"")].concat();
    // The first node is empty, and its length takes two bytes.
    let nodes = Nodes::from_message(list);
    let nodes = all(nodes.iter());
    assert_eq!(nodes.iter().map(Node::name).collect::<Vec<_>>(), [Ok(""), Ok("node-7"), Ok("")]);
    let node = &nodes[1];
    assert_eq!(node.uid(), Ok("9d4c5c1e-8f1e-4f39-9f0a-3c1f1d3d1b77"));
    assert_eq!(node.label("kubernetes.io/hostname"), Ok(Some("node-7")));
    assert_eq!((node.unschedulable(), nodes[0].unschedulable()), (Ok(true), Ok(false)));
    let taint = Taint { key: "node.kubernetes.io/unschedulable", value: "", effect: "NoSchedule" };
    assert_eq!(all(node.taints()), [taint]);
    let allocatable: BTreeMap<_, _> = all(node.allocatable()).into_iter().collect();
    assert_eq!((allocatable["cpu"], allocatable["pods"]), ("3920m", "110"));
    let capacity: BTreeMap<_, _> = all(node.capacity()).into_iter().collect();
    assert_eq!((capacity["cpu"], capacity["memory"]), ("4", "16Gi"));
    let images = all(node.images());
    assert_eq!(images.iter().map(|image| image.size()).collect::<Vec<_>>(), [Ok(320_368), Ok(98_765_432_100), Ok(0)]);
    assert_eq!(all(images[0].names()), ["registry.k8s.io/pause@sha256:278f", "registry.k8s.io/pause:3.10"]);
}

fn delimited(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    [&[0x12, length as u8 | 0x80, (length >> 7) as u8][..], message].concat()
}

/// Reads all there is. Returns whether it is malformed.
fn is_malformed(message: &[u8]) -> bool {
    let (pod, node) = (Pod::from_message(message.into()), Node::from_message(message.into()));
    let nodes = Nodes::from_message(message.into());
    let mut errors = 0;
    let mut see = |is_error: bool| errors += usize::from(is_error);
    see(pod.reference().is_err() | pod.node_name().is_err() | pod.scheduler_name().is_err() | pod.priority().is_err());
    pod.labels().chain(pod.annotations()).chain(pod.node_selector()).for_each(|entry| see(entry.is_err()));
    pod.tolerations().for_each(|toleration| see(toleration.is_err()));
    for container in pod.containers().chain(pod.init_containers()) {
        match container {
            Ok(container) => {
                see(container.name().is_err() | container.image().is_err());
                container.requests().chain(container.limits()).for_each(|quantity| see(quantity.is_err()));
            }
            Err(_) => see(true),
        }
    }
    see(node.name().is_err() | node.uid().is_err() | node.unschedulable().is_err());
    node.labels().chain(node.allocatable()).chain(node.capacity()).for_each(|entry| see(entry.is_err()));
    node.taints().for_each(|taint| see(taint.is_err()));
    for image in node.images() {
        match image {
            Ok(image) => {
                see(image.size().is_err());
                image.names().for_each(|name| see(name.is_err()));
            }
            Err(_) => see(true),
        }
    }
    nodes.iter().for_each(|node| see(node.is_err()));
    errors > 0
}

#[test]
fn what_is_cut_off_or_changed_is_read_without_a_panic() {
    for message in [POD, NODE] {
        // Three fields are whole.
        let whole = (0..message.len()).filter(|length| !is_malformed(&message[..*length])).count();
        assert!(whole <= 3, "{whole} beginnings are no error");
        let mut changed = message.to_vec();
        for at in 0..message.len() {
            for byte in [0xff, message[at] ^ 1, message[at] ^ 0x80] {
                changed[at] = byte;
                is_malformed(&changed);
            }
            changed[at] = message[at];
        }
    }
}

scheduler_plugin!(
    Every: enqueue, filter, prefilter, postfilter, addpod, removepod, prescore, score, normalizescore, reserve,
    unreserve, permit, prebind, bind, postbind
);

struct Every;

/// Each method has the type that the macro's documentation says: this compiles.
impl Every {
    fn new(_: Vec<u8>) -> Result<Self, Error> {
        Ok(Self)
    }

    fn enqueue(&mut self) -> Vec<ClusterEvent> {
        vec![ClusterEvent { resource: Resource::Node, actions: ClusterEvent::ADD | ClusterEvent::UPDATE_LABEL }]
    }

    fn prefilter(&mut self, cycle: &mut Cycle) -> Result<Option<Vec<String>>, Status> {
        Ok(Some(vec![cycle.pod().node_name()?.into()]))
    }

    fn filter(&mut self, cycle: &mut Cycle, node: &str) -> Result<(), Status> {
        match cycle.node(node) {
            Some(node) if node.unschedulable()? => Err(Status::unschedulable("it is closed")),
            _ => Ok(()),
        }
    }

    fn postfilter(&mut self, _: &mut Cycle, statuses: &BTreeMap<String, i64>) -> Result<Option<String>, Status> {
        Ok(statuses.keys().next().cloned())
    }

    fn addpod(&mut self, _: &mut Cycle, _: &Pod, _: &str) -> Result<(), Status> {
        Ok(())
    }

    fn removepod(&mut self, _: &mut Cycle, _: &Pod, _: &str) -> Result<(), Status> {
        Ok(())
    }

    fn prescore(&mut self, _: &mut Cycle, nodes: &[String]) -> Result<(), Status> {
        if nodes.is_empty() { Err(Status::skip()) } else { Ok(()) }
    }

    fn score(&mut self, cycle: &mut Cycle, node: &str) -> Result<i32, Status> {
        Ok(if cycle.image_states(node)?.is_empty() { 0 } else { 100 })
    }

    fn normalizescore(&mut self, _: &mut Cycle, scores: &mut BTreeMap<String, i64>) -> Result<(), Status> {
        scores.values_mut().for_each(|score| *score /= 2);
        Ok(())
    }

    fn reserve(&mut self, _: &mut Cycle, _: &str) -> Result<(), Status> {
        Ok(())
    }

    fn unreserve(&mut self, _: &mut Cycle, _: &str) {}

    fn permit(&mut self, _: &mut Cycle, _: &str) -> Result<Option<Duration>, Status> {
        Ok(Some(Duration::from_secs(1)))
    }

    fn prebind(&mut self, _: &mut Cycle, _: &str) -> Result<(), Status> {
        Ok(())
    }

    fn bind(&mut self, _: &mut Cycle, _: &str) -> Result<(), Status> {
        Ok(())
    }

    fn postbind(&mut self, _: &mut Cycle, _: &str) {}
}

#[test]
fn the_methods_of_a_plugin_can_be_called_without_a_host() {
    let (mut plugin, mut cycle) = (Every, Cycle::default());
    assert_eq!(plugin.prefilter(&mut cycle), Ok(Some(vec![String::new()])));
    assert_eq!(plugin.filter(&mut cycle, "a"), Ok(()));
    assert_eq!(plugin.prescore(&mut cycle, &[]), Err(Status::skip()));
    assert_eq!(plugin.score(&mut cycle, "a"), Ok(0));
}
