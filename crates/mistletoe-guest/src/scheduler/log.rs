//! What the host logs and records.

use alloc::format;
use alloc::string::String;
use core::fmt::Display;

use super::json::quote;
use super::{Pod, host};
use crate::Error;

/// How severe a message of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For operators.
    Info = 0,
    /// What may be wrong.
    Warning = 1,
    /// What is wrong.
    Error = 2,
    /// What the plugin cannot work with.
    Fatal = 3,
}

/// Returns whether the host logs messages of this severity.
pub fn is_logged(severity: Severity) -> bool {
    // SAFETY: there are no arguments.
    severity as i32 >= unsafe { host::severity() }
}

/// Writes a message to the host's log, if the host logs this severity.
///
/// ```
/// use mistletoe_guest::scheduler::{self, Severity};
///
/// scheduler::log(Severity::Info, format_args!("{} nodes", 3));
/// ```
pub fn log(severity: Severity, message: impl Display) {
    if is_logged(severity) {
        let message = format!("{message}");
        // SAFETY: the host reads the bytes during the call.
        unsafe { host::log(severity as i32, message.as_ptr(), message.len()) }
    }
}

/// Writes a message with keys and values to the host's log, if the host logs this severity.
///
/// ```
/// use mistletoe_guest::scheduler::{self, Severity};
///
/// scheduler::log_with(Severity::Info, "no node has the image", &[("image", &"web:1.2"), ("nodes", &3)]);
/// ```
pub fn log_with(severity: Severity, message: &str, pairs: &[(&str, &dyn Display)]) {
    if is_logged(severity) {
        let pairs = encode(pairs);
        // SAFETY: the host reads the bytes during the call.
        unsafe { host::logs(severity as i32, message.as_ptr(), message.len(), pairs.as_ptr(), pairs.len()) }
    }
}

/// Writes keys and values, each of which a zero byte ends. A zero byte in one of them would end it, too.
fn encode(pairs: &[(&str, &dyn Display)]) -> String {
    let texts = pairs.iter().flat_map(|(key, value)| [String::from(*key), format!("{value}")]);
    texts.map(|text| text.replace('\0', "\u{fffd}") + "\0").collect()
}

/// A reference to an object of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// The kind, such as `Pod`.
    pub kind: String,
    /// The version of the API, such as `v1`.
    pub api_version: String,
    /// The name.
    pub name: String,
    /// The namespace; empty for objects without one, such as nodes.
    pub namespace: String,
    /// The UID.
    pub uid: String,
    /// The version of the object.
    pub resource_version: String,
}

impl Pod {
    /// Returns a reference to the pod.
    pub fn reference(&self) -> Result<Reference, Error> {
        Ok(Reference {
            kind: "Pod".into(),
            api_version: "v1".into(),
            name: self.name()?.into(),
            namespace: self.namespace()?.into(),
            uid: self.uid()?.into(),
            resource_version: self.resource_version()?.into(),
        })
    }
}

/// An event about an object of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The object.
    pub regarding: Reference,
    /// Another object that has to do with it.
    pub related: Option<Reference>,
    /// Whether it is a warning.
    pub is_warning: bool,
    /// Why it happened, in a word.
    pub reason: String,
    /// What was done, in a word.
    pub action: String,
    /// What happened.
    pub note: String,
}

impl Event {
    /// Asks the host to record the event.
    pub fn record(&self) {
        host::pass(host::event, self.to_json());
    }

    fn to_json(&self) -> String {
        let mut json = String::from("{\"RegardingReference\":");
        self.regarding.write(&mut json);
        json.push_str(",\"RelatedReference\":");
        match &self.related {
            Some(related) => related.write(&mut json),
            None => json.push_str("null"),
        }
        let event_type = if self.is_warning { "Warning" } else { "Normal" };
        let fields =
            [("Eventtype", event_type), ("Reason", &self.reason), ("Action", &self.action), ("Note", &self.note)];
        for (name, value) in fields {
            json.push(',');
            field(&mut json, name, value);
        }
        json.push('}');
        json
    }
}

impl Reference {
    fn write(&self, json: &mut String) {
        let fields = [
            ("Kind", &self.kind),
            ("APIVersion", &self.api_version),
            ("Name", &self.name),
            ("Namespace", &self.namespace),
            ("UID", &self.uid),
            ("ResourceVersion", &self.resource_version),
        ];
        let mut separator = '{';
        for (name, value) in fields {
            json.push(separator);
            field(json, name, value);
            separator = ',';
        }
        json.push('}');
    }
}

fn field(json: &mut String, name: &str, value: &str) {
    quote(json, name);
    json.push(':');
    quote(json, value);
}

/// Sends the messages of the crate `log` to the host's log.
#[cfg(target_family = "wasm")]
pub(super) fn install() {
    #[cfg(feature = "log")]
    {
        use ::log::{LevelFilter, Log, Metadata, Record, set_logger, set_max_level};

        struct Logger;

        impl Log for Logger {
            fn enabled(&self, _: &Metadata<'_>) -> bool {
                true
            }

            fn log(&self, record: &Record<'_>) {
                let severity = match record.level() {
                    ::log::Level::Error => Severity::Error,
                    ::log::Level::Warn => Severity::Warning,
                    _ => Severity::Info,
                };
                log(severity, format_args!("{}: {}", record.target(), record.args()));
            }

            fn flush(&self) {}
        }

        // The lowest severity that the host logs. It has none for debugging.
        let levels = [
            (Severity::Info, LevelFilter::Info),
            (Severity::Warning, LevelFilter::Warn),
            (Severity::Error, LevelFilter::Error),
        ];
        let logged = levels.into_iter().find(|(severity, _)| is_logged(*severity));
        // The author may have set another one.
        if set_logger(&Logger).is_ok() {
            set_max_level(logged.map_or(LevelFilter::Off, |(_, filter)| filter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_byte_ends_each_key_and_value() {
        assert_eq!(encode(&[("a", &1), ("b\0", &"c\0d")]), "a\x001\0b\u{fffd}\0c\u{fffd}d\0");
    }

    #[test]
    fn an_event_is_json() {
        let regarding = Reference { kind: "Pod".into(), name: "a\"b".into(), ..Reference::default() };
        let event = Event { regarding: regarding.clone(), note: "two\nlines".into(), ..Event::default() };
        let pod = r#"{"Kind":"Pod","APIVersion":"","Name":"a\"b","Namespace":"","UID":"","ResourceVersion":""}"#;
        let rest = r#""Reason":"","Action":"","Note":"two\u000alines"}"#;
        let expected = |related, event_type| {
            format!(r#"{{"RegardingReference":{pod},"RelatedReference":{related},"Eventtype":"{event_type}",{rest}"#)
        };
        assert_eq!(event.to_json(), expected("null", "Normal"));
        let event = Event { related: Some(regarding), is_warning: true, ..event };
        assert_eq!(event.to_json(), expected(pod, "Warning"));
    }
}
