//! A plugin in Rust, through `mistletoe-guest`, in the form without `igets`: it takes the whole input, which is one
//! record here, and greets it with a line. An input that is not text shows what becomes of an error, and one without a
//! name what becomes of a panic.

use mistletoe_guest::plugin;

plugin!(handle);

fn handle(record: &[u8]) -> Result<String, String> {
    let name = str::from_utf8(record).map_err(|_| "the record is not text")?.trim_end();
    if record.is_empty() {
        return Err("empty record".to_owned());
    }
    let first = name.chars().next().expect("a record has a name");
    Ok(format!("hello, {}{}\n", first, &name[first.len_utf8()..]))
}
