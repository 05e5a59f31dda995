//! A plugin in Rust, through `mistletoe-guest`: it takes one record after the other from the host until there are no
//! more, and greets each with a line. `GREETING` in its environment is another greeting. It logs how many there were.

use mistletoe_guest::{plugin, var};

plugin!(records: handle);

fn handle<'a>(records: impl Iterator<Item = &'a [u8]>) {
    let greeting = var("GREETING").unwrap_or_else(|| "hello".to_owned());
    let mut count = 0;
    for record in records {
        count += 1;
        match record.strip_suffix(b"\n").unwrap_or(record) {
            [] => plugin::eprint("empty record\n"),
            name => plugin::print([greeting.as_bytes(), b", ", name, b"\n"].concat()),
        }
    }
    log::info!("{count} records");
}
