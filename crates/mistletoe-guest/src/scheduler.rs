//! What plugins of the Kubernetes scheduler consist of besides [`scheduler_plugin!`](crate::scheduler_plugin!): pods and
//! nodes, the cycle, and statuses.

#[doc(hidden)]
pub mod call;
mod cycle;
mod host;
#[cfg(target_family = "wasm")]
mod instance;
mod json;
mod log;
mod objects;
mod protobuf;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

#[cfg(target_family = "wasm")]
pub use instance::Instance;

pub use cycle::{Cycle, ImageState};
pub use log::{Event, Reference, Severity, is_logged, log, log_with};
pub use objects::{Container, Image, Node, Nodes, Pod, Taint, Toleration};

use crate::Error;

/// Makes a plugin of the Kubernetes scheduler of a type: a module with [the interface of
/// kube-scheduler-wasm-extension].
///
/// The macro names the extension points that the plugin takes part in. Each is a method of the type with the same name.
///
/// ```
/// use mistletoe_guest::scheduler::{Cycle, Status};
/// use mistletoe_guest::{Error, scheduler_plugin};
///
/// scheduler_plugin!(Zone: filter, score);
///
/// /// Keeps pods in one zone.
/// struct Zone(String);
///
/// impl Zone {
///     fn new(config: Vec<u8>) -> Result<Self, Error> {
///         match String::from_utf8(config) {
///             Ok(zone) if !zone.is_empty() => Ok(Self(zone)),
///             _ => Err(Error::new("the configuration is not the name of a zone")),
///         }
///     }
///
///     fn filter(&mut self, cycle: &mut Cycle, node: &str) -> Result<(), Status> {
///         let Some(node) = cycle.node(node) else { return Ok(()) };
///         match node.label("topology.kubernetes.io/zone")? {
///             Some(zone) if zone == self.0 => Ok(()),
///             _ => Err(Status::unresolvable(format!("the node is not in the zone {}", self.0))),
///         }
///     }
///
///     fn score(&mut self, cycle: &mut Cycle, node: &str) -> Result<i32, Status> {
///         let is_there = cycle.pod().node_selector().next().is_some();
///         Ok(if is_there { 100 } else { 0 })
///     }
/// }
/// # fn main() {}
/// ```
///
/// `new` gets the configuration, bytes in a form that the plugin defines, once for each instance of the module. If it
/// fails, the error goes to the host's log, and the instance does not start. The methods, with `S` for `Status`:
///
/// | method | parameters after `&mut self` | result |
/// |---|---|---|
/// | `enqueue` | | `Vec<ClusterEvent>` |
/// | `prefilter` | `&mut Cycle` | `Result<Option<Vec<String>>, S>`: the nodes that are left; `None` for all |
/// | `filter` | `&mut Cycle, &str` | `Result<(), S>` |
/// | `postfilter` | `&mut Cycle, &BTreeMap<String, i64>` | `Result<Option<String>, S>`: the node that is nominated, or an empty name to take a nomination back; `None` leaves it to other plugins |
/// | `addpod`, `removepod` | `&mut Cycle, &Pod, &str` | `Result<(), S>` |
/// | `prescore` | `&mut Cycle, &[String]` | `Result<(), S>` |
/// | `score` | `&mut Cycle, &str` | `Result<i32, S>`: 0 to 100 |
/// | `normalizescore` | `&mut Cycle, &mut BTreeMap<String, i64>` | `Result<(), S>` |
/// | `reserve`, `prebind`, `bind` | `&mut Cycle, &str` | `Result<(), S>` |
/// | `unreserve`, `postbind` | `&mut Cycle, &str` | `()` |
/// | `permit` | `&mut Cycle, &str` | `Result<Option<Duration>, S>`: how long the pod waits; `None` lets it pass |
///
/// The text is the name of the node that the call is about. The maps have the codes or scores of nodes by their names.
/// Pods of `addpod` and `removepod` are those that are supposed on the node, or not on it.
///
/// `addpod`, `removepod` and `postfilter` need `filter`; `prescore` needs `score`; `prebind` and `postbind` need `bind`.
/// Hosts refuse modules otherwise, and those without any function but `enqueue`.
///
/// An [`Error`] is a [`Status`] with the code [`ERROR`](Status::ERROR), so the operator `?` makes one. If the plugin
/// panics, the message and the line in the source go to the standard error, which hosts add to the reason of the failure,
/// and to the log; the call ends in a trap, and the instance with it.
///
/// # Cycles
///
/// An instance of the module schedules one pod at a time, and one after the other. What the type holds is there for all
/// of them. What belongs to one pod is in the [`Cycle`], which the module drops when the next one starts. The module
/// exports `prefilter` for that, also if the macro does not name it.
///
/// # Exports
///
/// A crate has one plugin, at most one `scheduler_plugin!`, and is a `cdylib` for `wasm32-unknown-unknown`. It imports the
/// functions of the interface that it uses. The exports are only there on WebAssembly.
///
/// Elsewhere, such as in tests of the crate, there is no host: objects, lists and texts are empty, and what is logged is
/// dropped.
///
/// [the interface of kube-scheduler-wasm-extension]: https://github.com/mistletoe-rs/mistletoe/blob/main/docs/scheduler.md
#[macro_export]
macro_rules! scheduler_plugin {
    ($plugin:ty: $($point:ident),+ $(,)?) => {
        const _: () = {
            $crate::__scheduler_plugin!($plugin);
            $crate::__scheduler_points!($plugin, $($point)+);
            $crate::__scheduler_prefilter!($plugin, $($point)+);
        };
    };
}

/// Exports the functions that the macro names, but `prefilter`.
#[doc(hidden)]
#[macro_export]
macro_rules! __scheduler_points {
    ($plugin:ty,) => {};
    ($plugin:ty, enqueue $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, enqueue() -> (), enqueue(<$plugin>::enqueue));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, prefilter $($rest:ident)*) => {
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, filter $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, filter() -> i32, node(<$plugin>::filter));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, postfilter $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, postfilter() -> u64, postfilter(<$plugin>::postfilter));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, addpod $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, addpod() -> i32, target(<$plugin>::addpod));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, removepod $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, removepod() -> i32, target(<$plugin>::removepod));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, prescore $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, prescore() -> i32, prescore(<$plugin>::prescore));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, score $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, score() -> u64, score(<$plugin>::score));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, normalizescore $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, normalizescore() -> i32, normalizescore(<$plugin>::normalizescore));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, reserve $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, reserve() -> i32, node(<$plugin>::reserve));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, unreserve $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, unreserve() -> (), notice(<$plugin>::unreserve));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, permit $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, permit() -> u64, permit(<$plugin>::permit));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, prebind $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, prebind() -> i32, node(<$plugin>::prebind));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, bind $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, bind() -> i32, node(<$plugin>::bind));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, postbind $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, postbind() -> (), notice(<$plugin>::postbind));
        $crate::__scheduler_points!($plugin, $($rest)*);
    };
    ($plugin:ty, $unknown:ident $($rest:ident)*) => {
        ::core::compile_error!(::core::concat!(
            "the scheduler has no extension point `",
            ::core::stringify!($unknown),
            "`"
        ));
    };
}

/// Exports `prefilter`, which drops the state of the cycle before, whether the plugin has such a method or not.
#[doc(hidden)]
#[macro_export]
macro_rules! __scheduler_prefilter {
    ($plugin:ty,) => {
        $crate::__scheduler_export!($plugin, prefilter() -> i32, begin());
    };
    ($plugin:ty, prefilter $($rest:ident)*) => {
        $crate::__scheduler_export!($plugin, prefilter() -> i32, prefilter(<$plugin>::prefilter));
    };
    ($plugin:ty, $other:ident $($rest:ident)*) => {
        $crate::__scheduler_prefilter!($plugin, $($rest)*);
    };
}

#[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __scheduler_plugin {
    ($plugin:ty) => {
        static __INSTANCE: $crate::__private::SchedulerInstance<$plugin> =
            $crate::__private::SchedulerInstance::new(<$plugin>::new);

        #[unsafe(no_mangle)]
        pub extern "C" fn _initialize() {
            __INSTANCE.call(|_, _| ());
        }
    };
}

#[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __scheduler_export {
    ($plugin:ty, $name:ident() -> $result:ty, $call:ident($($method:expr)?)) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $name() -> $result {
            __INSTANCE.call(|plugin, cycle| $crate::scheduler::call::$call(plugin, cycle, $($method)?))
        }
    };
}

#[cfg(target_os = "wasi")]
#[doc(hidden)]
#[macro_export]
macro_rules! __scheduler_plugin {
    ($($tokens:tt)*) => {
        ::core::compile_error!(
            "plugins of the scheduler need the target wasm32-unknown-unknown: WASI's C library defines `_initialize` itself"
        );
    };
}

#[cfg(target_os = "wasi")]
#[doc(hidden)]
#[macro_export]
macro_rules! __scheduler_export {
    ($($tokens:tt)*) => {};
}

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __scheduler_plugin {
    ($plugin:ty) => {
        const _: fn($crate::__private::Vec<u8>) -> ::core::result::Result<$plugin, $crate::Error> = <$plugin>::new;
    };
}

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __scheduler_export {
    ($plugin:ty, $name:ident() -> $result:ty, $call:ident($($method:expr)?)) => {
        const _: fn(&mut $plugin, &mut $crate::scheduler::Cycle) -> $result =
            |plugin, cycle| $crate::scheduler::call::$call(plugin, cycle, $($method)?);
    };
}

/// A value of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// A string.
    Text(String),
}

/// Reads a configuration that is a JSON object of plain values. An empty one has none.
///
/// For more than that there is the crate `serde_json`, which adds some 25 kB to a module.
///
/// # Errors
///
/// If the configuration is something else.
///
/// ```
/// use mistletoe_guest::Error;
/// use mistletoe_guest::scheduler::{Setting, settings};
///
/// fn zone(config: &[u8]) -> Result<String, Error> {
///     let mut zone = String::new();
///     for setting in settings(config)? {
///         match setting {
///             (name, Setting::Text(value)) if name == "zone" => zone = value,
///             (name, _) => return Err(Error::new(format!("the setting {name} is unknown, or of another type"))),
///         }
///     }
///     Ok(zone)
/// }
///
/// assert_eq!(zone(br#"{"zone": "a"}"#)?, "a");
/// assert!(zone(br#"{"zone": 1}"#).is_err());
/// # Ok::<(), Error>(())
/// ```
pub fn settings(config: &[u8]) -> Result<Vec<(String, Setting)>, Error> {
    json::settings(config).map_err(|error| Error::new(alloc::format!("the configuration: {error}")))
}

/// What a plugin says other than success: a code and a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    code: i32,
    reason: String,
}

impl Status {
    /// The code of a failure of the plugin.
    pub const ERROR: i32 = 1;
    /// The code of a node that the pod does not fit now.
    pub const UNSCHEDULABLE: i32 = 2;
    /// The code of a node that the pod would not fit if other pods went.
    pub const UNRESOLVABLE: i32 = 3;
    /// The code of a pod that has to wait for a permit.
    pub const WAIT: i32 = 4;
    /// The code of a plugin that has nothing to say on this pod.
    pub const SKIP: i32 = 5;

    /// Returns a status with this code, and a reason for people. Hosts cut a long one off.
    pub fn new(code: i32, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Returns a failure of the plugin.
    pub fn error(reason: impl Into<String>) -> Self {
        Self::new(Self::ERROR, reason)
    }

    /// Returns that the pod does not fit now.
    pub fn unschedulable(reason: impl Into<String>) -> Self {
        Self::new(Self::UNSCHEDULABLE, reason)
    }

    /// Returns that the pod does not fit, and would not if other pods went.
    pub fn unresolvable(reason: impl Into<String>) -> Self {
        Self::new(Self::UNRESOLVABLE, reason)
    }

    /// Returns that the plugin has nothing to say on this pod. From `prefilter`, it means that the host does not call
    /// `filter`; from `prescore`, that it does not call `score`.
    pub fn skip() -> Self {
        Self::new(Self::SKIP, "")
    }

    /// Returns the code.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// Returns the reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::error(alloc::format!("{error}"))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}: {}", self.code, self.reason)
    }
}

impl core::error::Error for Status {}

/// What may make a pod schedulable that was not: actions on a kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterEvent {
    /// The kind of resource.
    pub resource: Resource,
    /// The actions, such as `ClusterEvent::ADD | ClusterEvent::UPDATE_LABEL`.
    pub actions: u32,
}

impl ClusterEvent {
    /// An object is added.
    pub const ADD: u32 = 1;
    /// An object is deleted.
    pub const DELETE: u32 = 1 << 1;
    /// A node has other resources for pods.
    pub const UPDATE_ALLOCATABLE: u32 = 1 << 2;
    /// A node has other labels.
    pub const UPDATE_LABEL: u32 = 1 << 3;
    /// A node has other taints.
    pub const UPDATE_TAINT: u32 = 1 << 4;
    /// A node has other conditions.
    pub const UPDATE_CONDITION: u32 = 1 << 5;
}

/// A kind of resource of a [`ClusterEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Resource {
    Pod = 0,
    Node = 1,
    PersistentVolume = 2,
    PersistentVolumeClaim = 3,
    PodSchedulingContext = 4,
    ResourceClaim = 5,
    StorageClass = 6,
    CsiNode = 7,
    CsiDriver = 8,
    CsiStorageCapacity = 9,
    /// All of them.
    All = 10,
}
