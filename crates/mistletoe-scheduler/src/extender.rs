//! The webhook of a scheduler extender, from the bytes of a request to those of its response, without HTTP.
//!
//! A scheduler sends `POST URL_PREFIX/VERB` for each verb in its configuration. [`filter`], [`prioritize`] and
//! [`preempt`] take the body and return that of a response with the status 200. An [`Error`] is a response with another
//! status, after which the scheduler goes on without the extender if it is `ignorable`, and otherwise tries again later.
//!
//! The nodes are objects, or names if the scheduler has `nodeCacheCapable: true`. Guests that ask for a node of which
//! only the name is known get nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::objects::{Node, Nodes, Pod, Text};
use crate::protobuf;
use crate::protocol::Status;
use crate::scheduler::{Bounds, Candidate, Failure, MAX_SCORE, Refusal, Scheduler};

/// The highest score of an extender.
const MAX_EXTENDER_SCORE: i64 = 10;

/// The maximum number of nodes of a request, and of victims on all of them. A cluster of Kubernetes has up to 5,000
/// nodes.
///
/// A node or a pod may take three bytes in a request, and takes many times that once it is read. Each node may get a
/// reason, so that a short request could have a response of any length.
pub const MAX_NODES: usize = 100_000;

/// What a scheduler asks for: the last part of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `filterVerb`.
    Filter,
    /// `prioritizeVerb`.
    Prioritize,
    /// `preemptVerb`.
    Preempt,
}

/// A response with the status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The body, which is JSON.
    pub body: Vec<u8>,
    /// The failure that the body names as its `Error`.
    pub failure: Option<Failure>,
}

/// A request that has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The request is not one of a scheduler's.
    Request(protobuf::Error),
    /// A plugin failed.
    Failure(Failure),
    /// The response would be longer than this number of bytes.
    TooLong(u64),
}

/// `ExtenderArgs`. The names are those of Go's fields, which have no others in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Args<'a> {
    #[serde(borrow)]
    pod: &'a RawValue,
    #[serde(borrow)]
    nodes: Option<NodeList<'a>>,
    #[serde(default, deserialize_with = "list_of_nodes")]
    node_names: Option<Vec<String>>,
}

/// `v1.NodeList`, an object of Kubernetes.
#[derive(Deserialize, Serialize)]
struct NodeList<'a> {
    #[serde(borrow, default, deserialize_with = "list_of_nodes")]
    items: Option<Vec<&'a RawValue>>,
}

/// `ExtenderFilterResult`.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FilterResult<'a> {
    nodes: Option<NodeList<'a>>,
    node_names: Option<Vec<&'a str>>,
    failed_nodes: Option<BTreeMap<String, String>>,
    failed_and_unresolvable_nodes: Option<BTreeMap<String, String>>,
    error: String,
}

/// `HostPriority`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostPriority<'a> {
    host: &'a str,
    score: i64,
}

/// `ExtenderPreemptionArgs`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PreemptionArgs<'a> {
    #[serde(borrow)]
    pod: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "map_of_nodes")]
    node_name_to_victims: Option<BTreeMap<String, Victims<'a>>>,
    #[serde(borrow, default, deserialize_with = "map_of_nodes")]
    node_name_to_meta_victims: Option<BTreeMap<String, Victims<'a>>>,
}

/// `Victims`, or `MetaVictims`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Victims<'a> {
    /// A list that is not read yet.
    #[serde(borrow)]
    pods: Option<&'a RawValue>,
    #[serde(rename = "NumPDBViolations", default)]
    violations: i64,
}

/// `MetaVictims`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MetaVictims {
    pods: Option<Vec<MetaPod>>,
    #[serde(rename = "NumPDBViolations")]
    violations: i64,
}

/// `MetaPod`.
#[derive(Deserialize, Serialize)]
struct MetaPod {
    #[serde(rename = "UID")]
    uid: String,
}

/// `ExtenderPreemptionResult`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PreemptionResult {
    node_name_to_meta_victims: BTreeMap<String, MetaVictims>,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Self; 3] = [Self::Filter, Self::Prioritize, Self::Preempt];

    /// Returns the name that the documentation recommends for the scheduler's configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Prioritize => "prioritize",
            Self::Preempt => "preempt",
        }
    }

    /// Responds within bounds, with a body of at most this number of bytes.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn respond(
        self,
        scheduler: &Scheduler,
        body: Vec<u8>,
        bounds: &Bounds,
        max_output: u64,
    ) -> Result<Response, Error> {
        let respond = match self {
            Self::Filter => filter_within,
            Self::Prioritize => prioritize_within,
            Self::Preempt => preempt_within,
        };
        respond(scheduler, body, bounds, max_output)
    }
}

/// Responds to `filterVerb`. A plugin that fails is the response's `Error`.
///
/// # Errors
///
/// [`Error::Request`].
pub fn filter(scheduler: &Scheduler, body: Vec<u8>) -> Result<Vec<u8>, Error> {
    filter_within(scheduler, body, &scheduler.bounds(), u64::MAX).map(|response| response.body)
}

fn filter_within(scheduler: &Scheduler, body: Vec<u8>, bounds: &Bounds, max_output: u64) -> Result<Response, Error> {
    let body = Text::new(body);
    let args: Args<'_> = read(&body)?;
    let (pod, nodes) = args.objects(&body)?;
    let filtered = match scheduler.filter_within(pod, nodes.clone(), bounds) {
        Ok(filtered) => filtered,
        Err(failure) => {
            let result = FilterResult { error: failure.to_string(), ..FilterResult::default() };
            return Ok(Response { failure: Some(failure), ..write(&result, 0, max_output)? });
        }
    };
    let (mut failed, mut unresolvable) = (BTreeMap::new(), BTreeMap::new());
    for Refusal { node, plugin, status } in filtered.refused {
        let list = if status.code == Status::UNRESOLVABLE { &mut unresolvable } else { &mut failed };
        let reason = if status.reason.is_empty() { format!("plugin {plugin}: {status}") } else { status.reason };
        list.insert(node, reason);
    }
    let fits = filtered.fits;
    let mut result = FilterResult {
        failed_nodes: Some(failed),
        failed_and_unresolvable_nodes: Some(unresolvable),
        ..FilterResult::default()
    };
    match (&args.nodes, &args.node_names) {
        (Some(NodeList { items }), _) => {
            let items = items.as_deref().unwrap_or_default();
            result.nodes = Some(NodeList { items: Some(fits.iter().map(|at| items[*at]).collect()) });
        }
        (None, names) => {
            let names = names.as_deref().unwrap_or_default();
            result.node_names = Some(fits.iter().map(|at| &*names[*at]).collect());
        }
    }
    // Most of a response are nodes of the request.
    write(&result, body.len(), max_output)
}

/// Responds to `prioritizeVerb`, with scores from 0 to 10.
///
/// # Errors
///
/// [`Error`].
pub fn prioritize(scheduler: &Scheduler, body: Vec<u8>) -> Result<Vec<u8>, Error> {
    prioritize_within(scheduler, body, &scheduler.bounds(), u64::MAX).map(|response| response.body)
}

fn prioritize_within(
    scheduler: &Scheduler,
    body: Vec<u8>,
    bounds: &Bounds,
    max_output: u64,
) -> Result<Response, Error> {
    let body = Text::new(body);
    let (pod, nodes) = read::<Args<'_>>(&body)?.objects(&body)?;
    let scores = scheduler.prioritize_within(pod, nodes.clone(), bounds).map_err(Error::Failure)?;
    let scores = scores.into_iter().map(|score| score * MAX_EXTENDER_SCORE / MAX_SCORE);
    let list: Vec<_> =
        nodes.iter().zip(scores).map(|(node, score)| HostPriority { host: node.name(), score }).collect();
    write(&list, 0, max_output)
}

/// Responds to `preemptVerb`. Victims stay as they are; a node may be left out.
///
/// # Errors
///
/// [`Error`].
pub fn preempt(scheduler: &Scheduler, body: Vec<u8>) -> Result<Vec<u8>, Error> {
    preempt_within(scheduler, body, &scheduler.bounds(), u64::MAX).map(|response| response.body)
}

fn preempt_within(scheduler: &Scheduler, body: Vec<u8>, bounds: &Bounds, max_output: u64) -> Result<Response, Error> {
    let body = Text::new(body);
    let args: PreemptionArgs<'_> = read(&body)?;
    let pod = Pod::read(body.part(args.pod.get())).map_err(|error| Error::Request(error.of("Pod")))?;
    let mut nodes = BTreeMap::new();
    let mut left = MAX_NODES;
    for (node, Victims { pods, violations }) in args.node_name_to_victims.unwrap_or_default() {
        let pods = victims::<&RawValue>(pods, &node, &mut left)?.unwrap_or_default().into_iter();
        let pods = pods.map(|pod| Pod::read(body.part(pod.get())).map(Arc::new));
        let pods = pods.collect::<Result<Vec<_>, _>>().map_err(|error| Error::Request(error.of(&node)))?;
        let meta = pods.iter().map(|pod| MetaPod { uid: pod.uid().to_owned() }).collect();
        nodes.insert(node, (pods, MetaVictims { pods: Some(meta), violations }));
    }
    // With UIDs alone, guests cannot be asked what would be without the pods.
    for (node, Victims { pods, violations }) in args.node_name_to_meta_victims.unwrap_or_default() {
        let pods = victims(pods, &node, &mut left)?;
        nodes.entry(node).or_insert((Vec::new(), MetaVictims { pods, violations }));
    }
    let candidates: Vec<_> = nodes.iter().map(|(node, (victims, _))| Candidate { node, victims }).collect();
    let remaining = scheduler.preempt_within(pod, &candidates, bounds).map_err(Error::Failure)?;
    let remaining = nodes.into_iter().zip(remaining).filter(|(_, remains)| *remains);
    let result =
        PreemptionResult { node_name_to_meta_victims: remaining.map(|((node, (_, meta)), _)| (node, meta)).collect() };
    write(&result, 0, max_output)
}

impl Args<'_> {
    fn objects(&self, body: &Text) -> Result<(Pod, Arc<Nodes>), Error> {
        let pod = Pod::read(body.part(self.pod.get())).map_err(|error| Error::Request(error.of("Pod")))?;
        let nodes = match (&self.nodes, &self.node_names) {
            (Some(NodeList { items }), _) => {
                let items = items.as_deref().unwrap_or_default().iter().enumerate();
                let node = |(at, json): (usize, &&RawValue)| {
                    Node::read(body.part(json.get()))
                        .map_err(|error| Error::Request(error.of(&format!("Nodes.items[{at}]"))))
                };
                Nodes::new(items.map(node).collect::<Result<Vec<_>, _>>()?)
            }
            (None, Some(names)) => Nodes::new(names.iter().map(Node::named)),
            (None, None) => {
                return Err(Error::Request(protobuf::Error::new("there are neither Nodes nor NodeNames".into())));
            }
        };
        Ok((pod, Arc::new(nodes)))
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Request(protobuf::Error::new(error.to_string())))
}

fn list_of_nodes<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    deserializer.deserialize_option(AtMost::<Vec<T>>::new(MAX_NODES, "nodes"))
}

fn map_of_nodes<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, T>>, D::Error> {
    deserializer.deserialize_option(AtMost::<BTreeMap<String, T>>::new(MAX_NODES, "nodes"))
}

/// Reads the victims on a node, of which there may be `left`.
fn victims<'a, T: Deserialize<'a>>(
    pods: Option<&'a RawValue>,
    node: &str,
    left: &mut usize,
) -> Result<Option<Vec<T>>, Error> {
    let Some(pods) = pods else { return Ok(None) };
    let mut reader = serde_json::Deserializer::from_str(pods.get());
    let pods = reader.deserialize_option(AtMost::<Vec<T>>::new(*left, "victims"));
    let pods = pods.map_err(|error| Error::Request(protobuf::Error::new(error.to_string()).of(node)))?;
    *left -= pods.as_ref().map_or(0, Vec::len);
    Ok(pods)
}

/// Reads a list or a map of up to a number of elements. A longer one is refused before the rest of it is read.
struct AtMost<C> {
    /// [`MAX_NODES`], or what is left of it.
    limit: usize,
    /// The elements, for the error.
    what: &'static str,
    collection: PhantomData<C>,
}

impl<C> AtMost<C> {
    fn new(limit: usize, what: &'static str) -> Self {
        Self { limit, what, collection: PhantomData }
    }

    /// Checks that there is room for one more.
    fn check<E: serde::de::Error>(&self, length: usize) -> Result<(), E> {
        if length < self.limit {
            return Ok(());
        }
        Err(E::custom(format_args!("there are more than {MAX_NODES} {}", self.what)))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtMost<Vec<T>> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            self.check::<A::Error>(list.len())?;
            list.push(element);
        }
        Ok(Some(list))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtMost<BTreeMap<String, T>> {
    type Value = Option<BTreeMap<String, T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            self.check::<A::Error>(map.len())?;
            map.insert(name, value);
        }
        Ok(Some(map))
    }
}

/// Writes up to a limit.
struct Limited {
    out: Vec<u8>,
    limit: u64,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.out.len() + bytes.len()) as u64 > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Strings, numbers and valid JSON always have a JSON. So there is no error but that of the limit.
fn write(response: &impl Serialize, capacity: usize, limit: u64) -> Result<Response, Error> {
    let capacity = capacity.min(usize::try_from(limit).unwrap_or(usize::MAX));
    let mut out = Limited { out: Vec::with_capacity(capacity), limit };
    serde_json::to_writer(&mut out, response).map_err(|_| Error::TooLong(limit))?;
    Ok(Response { body: out.out, failure: None })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(error) => write!(f, "the request is not one of a scheduler's: {error}"),
            Self::Failure(failure) => failure.fmt(f),
            Self::TooLong(limit) => write!(f, "the response is longer than {limit} bytes"),
        }
    }
}

impl std::error::Error for Error {}
