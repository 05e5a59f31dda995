//! What guests write for people.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::Status;

/// How severe a message of a guest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// 0.
    #[default]
    Info,
    /// 1.
    Warning,
    /// 2.
    Error,
    /// 3.
    Fatal,
}

/// What a guest writes to the log of its host.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A message, cut off at 64 KiB.
    Message {
        /// How severe it is.
        severity: Severity,
        /// The text.
        text: &'a str,
    },
    /// An event about an object of the cluster.
    Event(&'a Event),
    /// A failure of the plugin that a scheduler has ignored.
    Ignored {
        /// The node that the plugin was asked about, if it was asked about one.
        node: Option<&'a str>,
        /// The plugin's status.
        status: &'a Status,
    },
}

/// An event about an object of the cluster, which a guest asks its host to record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Event {
    /// The object.
    #[serde(rename = "RegardingReference")]
    pub regarding: Option<Reference>,
    /// Another object that has to do with it.
    #[serde(rename = "RelatedReference")]
    pub related: Option<Reference>,
    /// `Normal` or `Warning`.
    #[serde(rename = "Eventtype")]
    pub event_type: String,
    /// Why it happened, in a word.
    pub reason: String,
    /// What was done.
    pub action: String,
    /// What happened.
    pub note: String,
}

/// A reference to an object of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Reference {
    /// The kind.
    pub kind: String,
    /// The version of the API.
    #[serde(rename = "APIVersion")]
    pub api_version: String,
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The UID.
    #[serde(rename = "UID")]
    pub uid: String,
    /// The resource's version.
    pub resource_version: String,
}

impl Severity {
    /// Returns the severity with this number; what is more than fatal is fatal.
    pub(super) fn of(number: i32) -> Self {
        match number {
            ..=0 => Self::Info,
            1 => Self::Warning,
            2 => Self::Error,
            3.. => Self::Fatal,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        })
    }
}

/// Takes what guests write.
pub(crate) type Log = Arc<dyn Fn(Record<'_>) + Send + Sync>;
