//! A plugin in Rust, through `mistletoe-guest`: it takes one record after the other from the host until there are no
//! more, and greets each with a line.

use mistletoe_guest::plugin;

plugin!(records: handle);

fn handle<'a>(records: impl Iterator<Item = &'a [u8]>) {
    for record in records {
        match record.strip_suffix(b"\n").unwrap_or(record) {
            [] => plugin::eprint("empty record\n"),
            name => plugin::print([b"hello, ", name, b"\n"].concat()),
        }
    }
}
