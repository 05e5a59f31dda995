//! What a table of messages consists of.

/// A message of Kubernetes, which is an object in JSON.
pub(super) struct Message {
    pub(super) name: &'static str,
    /// A bit for each field that Go writes even if it is missing.
    pub(super) always: u64,
    /// The numbers of the messages whose fields are inlined: in JSON, they are fields of this object.
    pub(super) inlined: &'static [u32],
    /// At most 64, in the order of Go's JSON.
    pub(super) fields: &'static [Field],
}

pub(super) struct Field {
    /// The name in JSON.
    pub(super) name: &'static str,
    /// The number of the inlined message that the field belongs to, or 0.
    pub(super) inline: u32,
    /// The number in its message.
    pub(super) number: u32,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Written even if it is missing.
    Value,
    /// Not written if it is missing.
    Pointer,
    List,
    /// Keys are strings.
    Map,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    String,
    Bool,
    Int32,
    Int64,
    /// A string or number in JSON, a message with its text in protobuf.
    Quantity,
    IntOrString,
    /// Whole seconds.
    Time,
    /// Any JSON, whose text is kept.
    FieldsV1,
    Message(&'static Message),
}

pub(super) const fn field(name: &'static str, inline: u32, number: u32, shape: Shape, kind: Kind) -> Field {
    Field { name, inline, number, shape, kind }
}

impl Field {
    /// Returns what the fields of a message are sorted by: the number in the outer message, then in the inlined one.
    pub(super) fn order(&self) -> u64 {
        if self.inline == 0 {
            u64::from(self.number) << 32
        } else {
            u64::from(self.inline) << 32 | u64::from(self.number)
        }
    }
}
