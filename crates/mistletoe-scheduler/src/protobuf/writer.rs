//! The bytes of messages: tags, lengths, zero values and the order of fields.

use super::message::{Field, Kind, Message};

/// Writes messages as Kubernetes' own encoder does: fields by number, entries of maps by key, missing values as zeros.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) out: Vec<u8>,
    /// What the messages and maps under way consist of, the outermost first.
    segments: Vec<Segment>,
    scratch: Vec<u8>,
}

/// A field or an entry of a map in the output.
#[derive(Clone, Copy)]
struct Segment {
    order: u64,
    start: usize,
    end: usize,
}

/// A message or map under way.
#[derive(Clone, Copy)]
pub(super) struct Open {
    segments: usize,
    start: usize,
}

impl Writer {
    /// Writes a field with a number.
    pub(super) fn number(&mut self, field: u32, value: i64) {
        varint(&mut self.out, u64::from(field) << 3);
        varint(&mut self.out, value.cast_unsigned());
    }

    /// Writes a field with bytes.
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        varint(&mut self.out, u64::from(field) << 3 | 2);
        varint(&mut self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// Writes a field with the message that `write` writes.
    fn delimited(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let at = self.begin(field);
        write(self);
        self.end(at);
    }

    /// Begins a field with a message. Returns where its length is.
    pub(super) fn begin(&mut self, field: u32) -> usize {
        varint(&mut self.out, u64::from(field) << 3 | 2);
        // Most lengths take one byte. For others, the message is moved.
        self.out.push(0);
        self.out.len() - 1
    }

    /// Ends the field with a message whose length is at `at`.
    pub(super) fn end(&mut self, at: usize) {
        let end = self.out.len();
        let length = end - at - 1;
        if length < 0x80 {
            self.out[at] = length as u8;
            return;
        }
        let mut prefix = Vec::new();
        varint(&mut prefix, length as u64);
        self.out.resize(end + prefix.len() - 1, 0);
        self.out.copy_within(at + 1..end, at + prefix.len());
        self.out[at..at + prefix.len()].copy_from_slice(&prefix);
    }

    pub(super) fn open(&self) -> Open {
        Open { segments: self.segments.len(), start: self.out.len() }
    }

    /// Ends a field of the message under way, which began at `start`.
    pub(super) fn field(&mut self, field: &Field, start: usize) {
        let end = self.out.len();
        if end > start {
            self.segments.push(Segment { order: field.order(), start, end });
        }
    }

    /// Ends a message, whose fields with these bits were written.
    pub(super) fn close(&mut self, message: &Message, open: Open, written: u64) {
        let mut missing = message.always & !written;
        while missing != 0 {
            let field = &message.fields[missing.trailing_zeros() as usize];
            missing &= missing - 1;
            let start = self.out.len();
            self.zero(field.number, field.kind);
            self.field(field, start);
        }
        let is_sorted = self.segments[open.segments..].is_sorted_by_key(|segment| segment.order);
        if !is_sorted || !message.inlined.is_empty() {
            self.arrange(message, open);
        }
        self.segments.truncate(open.segments);
    }

    /// Sorts the fields of a message, and gives inlined ones the message that they belong to.
    #[cold]
    fn arrange(&mut self, message: &Message, open: Open) {
        let end = self.out.len();
        // They are written even if they are empty. Each goes before its fields.
        let headers = message.inlined.iter().map(|number| Segment { order: u64::from(*number) << 32, start: end, end });
        self.segments.extend(headers);
        self.segments[open.segments..].sort_unstable_by_key(|segment| segment.order);
        let mut at = open.segments;
        self.scratch.clear();
        while let Some(segment) = self.segments.get(at) {
            let outer = (segment.order >> 32) as u32;
            if segment.order & u64::from(u32::MAX) == 0 && message.inlined.contains(&outer) {
                let rest = &self.segments[at + 1..];
                let fields = rest.iter().take_while(|field| (field.order >> 32) as u32 == outer);
                let length: usize = fields.map(|field| field.end - field.start).sum();
                varint(&mut self.scratch, u64::from(outer) << 3 | 2);
                varint(&mut self.scratch, length as u64);
            }
            self.scratch.extend_from_slice(&self.out[segment.start..segment.end]);
            at += 1;
        }
        self.out.truncate(open.start);
        self.out.extend_from_slice(&self.scratch);
    }

    /// Ends an entry of the map under way, which began at `start`.
    pub(super) fn entry(&mut self, start: usize) {
        self.segments.push(Segment { order: 0, start, end: self.out.len() });
    }

    /// Ends a map. Returns whether each key is there once.
    pub(super) fn close_map(&mut self, open: Open) -> bool {
        let out = &self.out;
        let key = |entry: &Segment| entry_key(&out[entry.start..entry.end]);
        let entries = &mut self.segments[open.segments..];
        let is_ascending = |entries: &[Segment]| entries.windows(2).all(|two| key(&two[0]) < key(&two[1]));
        let mut is_unique = true;
        if !is_ascending(entries) {
            entries.sort_unstable_by(|a, b| key(a).cmp(key(b)));
            is_unique = is_ascending(entries);
            self.scratch.clear();
            for entry in entries {
                self.scratch.extend_from_slice(&out[entry.start..entry.end]);
            }
            self.out.truncate(open.start);
            self.out.extend_from_slice(&self.scratch);
        }
        self.segments.truncate(open.segments);
        is_unique
    }

    /// Writes the value that Go has for one that is missing.
    pub(super) fn zero(&mut self, number: u32, kind: Kind) {
        match kind {
            Kind::Bool | Kind::Int32 | Kind::Int64 => self.number(number, 0),
            Kind::String | Kind::Time | Kind::FieldsV1 => self.bytes(number, b""),
            Kind::Quantity => self.text(number, "0"),
            Kind::IntOrString => self.int_or_string(number, Ok(0)),
            Kind::Message(message) => self.delimited(number, |writer| {
                let open = writer.open();
                writer.close(message, open, 0);
            }),
        }
    }

    /// Writes a message with one string.
    pub(super) fn text(&mut self, number: u32, text: &str) {
        self.delimited(number, |writer| writer.bytes(1, text.as_bytes()));
    }

    pub(super) fn int_or_string(&mut self, number: u32, value: Result<i32, &str>) {
        self.delimited(number, |writer| {
            writer.number(1, value.is_err().into());
            writer.number(2, value.unwrap_or_default().into());
            writer.bytes(3, value.err().unwrap_or_default().as_bytes());
        });
    }

    /// Writes a time; the zero of Go's times is an empty message.
    pub(super) fn time(&mut self, number: u32, seconds: i64) {
        /// 0001-01-01T00:00:00Z.
        const ZERO: i64 = -62_135_596_800;
        self.delimited(number, |writer| {
            if seconds != ZERO {
                writer.number(1, seconds);
                // Nanoseconds, of which Kubernetes keeps none.
                writer.number(2, 0);
            }
        });
    }
}

pub(super) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Returns the key in an entry of a map: what follows two tags, each with a length.
fn entry_key(entry: &[u8]) -> &[u8] {
    fn skip_varint(bytes: &[u8]) -> &[u8] {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).map_or(bytes.len(), |last| last + 1);
        &bytes[length..]
    }
    let key = skip_varint(skip_varint(skip_varint(entry)));
    let mut length = 0;
    for (i, byte) in key.iter().enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return &key[i + 1..i + 1 + length];
        }
    }
    &[]
}
