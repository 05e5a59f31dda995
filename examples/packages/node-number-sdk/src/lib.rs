//! A plugin of the Kubernetes scheduler in Rust, through `mistletoe-guest`: it favours nodes whose name ends in the same
//! digit as the pod's.
//!
//! The configuration is JSON; everything in it is optional:
//!
//! ```text
//! {"reverse": true, "required": true}
//! ```
//!
//! A node with the digit scores 10, any other 0; with `reverse`, it is the other way round. With `required`, nodes that
//! would score 0 are refused. Only the last character of a name counts. A pod whose name does not end in a digit fits all
//! nodes, and no node is favoured: each scores 10, or 0 with `reverse`.

use mistletoe_guest::scheduler::{ClusterEvent, Cycle, Resource, Setting, Status, settings};
use mistletoe_guest::{Error, scheduler_plugin};

scheduler_plugin!(NodeNumber: enqueue, prefilter, filter, score);

#[derive(Debug, Default, PartialEq)]
struct NodeNumber {
    reverse: bool,
    required: bool,
}

/// The name in the cycle of the digit of the pod, if it has one.
const DIGIT: &str = "digit";
const SCORE: i32 = 10;

impl NodeNumber {
    fn new(config: Vec<u8>) -> Result<Self, Error> {
        let mut plugin = Self::default();
        for (name, setting) in settings(&config)? {
            match (&*name, setting) {
                ("reverse", Setting::Bool(value)) => plugin.reverse = value,
                ("required", Setting::Bool(value)) => plugin.required = value,
                _ => return Err(Error::new(format!("the setting `{name}` is unknown, or not true or false"))),
            }
        }
        Ok(plugin)
    }

    /// A new node may have the digit.
    fn enqueue(&mut self) -> Vec<ClusterEvent> {
        vec![ClusterEvent { resource: Resource::Node, actions: ClusterEvent::ADD }]
    }

    fn prefilter(&mut self, cycle: &mut Cycle) -> Result<Option<Vec<String>>, Status> {
        match digit(cycle.pod().name()?) {
            Some(digit) => cycle.insert(DIGIT, digit),
            None => return Err(Status::skip()),
        }
        if self.required { Ok(None) } else { Err(Status::skip()) }
    }

    /// Is not called if `prefilter` skips it.
    fn filter(&mut self, cycle: &mut Cycle, node: &str) -> Result<(), Status> {
        match cycle.get(DIGIT) {
            Some(of_pod) if !self.favours(*of_pod, node) => {
                let not = if self.reverse { "" } else { " not" };
                Err(Status::unresolvable(format!("the name of the node does{not} end in {of_pod}")))
            }
            _ => Ok(()),
        }
    }

    fn score(&mut self, cycle: &mut Cycle, node: &str) -> Result<i32, Status> {
        let is_favoured = match cycle.get(DIGIT) {
            Some(of_pod) => self.favours(*of_pod, node),
            None => !self.reverse,
        };
        Ok(if is_favoured { SCORE } else { 0 })
    }

    fn favours(&self, of_pod: char, node: &str) -> bool {
        (digit(node) == Some(of_pod)) != self.reverse
    }
}

/// Returns the digit that a name ends in.
fn digit(name: &str) -> Option<char> {
    name.chars().next_back().filter(char::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::{NodeNumber, digit};

    #[test]
    fn only_the_last_character_counts() {
        assert_eq!(["node-17", "7", "node-7a", "", "node-\u{664}"].map(digit), [Some('7'), Some('7'), None, None, None]);
    }

    #[test]
    fn the_configuration_is_optional_json() {
        let read = |config: &str| NodeNumber::new(config.into()).ok();
        assert_eq!(read(""), Some(NodeNumber::default()));
        assert_eq!(read("{}"), Some(NodeNumber::default()));
        assert_eq!(read(r#"{"reverse": true}"#), Some(NodeNumber { reverse: true, required: false }));
        assert_eq!(read("{"), None);
        assert_eq!(read(r#"{"reverse": 1}"#), None);
        assert_eq!(read(r#"{"revers": true}"#), None);
    }

    #[test]
    fn a_node_is_favoured_by_its_digit() {
        for reverse in [false, true] {
            let plugin = NodeNumber { reverse, ..NodeNumber::default() };
            assert_eq!(plugin.favours('7', "node-17"), !reverse);
            assert_eq!(plugin.favours('7', "node-8"), reverse);
            assert_eq!(plugin.favours('7', "node"), reverse);
        }
    }
}
