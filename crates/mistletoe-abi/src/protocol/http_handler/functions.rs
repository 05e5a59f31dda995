//! The functions that guests import.

use super::exchange::{BodyKind, Features, HeaderKind, Misuse};
use super::state::{Outcome, State};
use crate::error::{ErrorKind, Result};
use crate::guest::Span;
use crate::host::caller::Caller;
use crate::host::imports::Imports;
use crate::host::pack;

/// The module from which guests import the protocol's functions.
const MODULE: &str = "http_handler";

/// The most bytes of a message that are logged.
const MAX_MESSAGE: u32 = 64 << 10;

/// The caller of a host function.
type At<'a, 'b, T> = &'a mut Caller<'b, T>;

/// Adds all functions.
pub(super) fn provide<T: Send + 'static>(imports: &mut Imports<T>) {
    administration(imports);
    request(imports);
    headers(imports);
    bodies(imports);
    status(imports);
}

fn administration<T: Send + 'static>(imports: &mut Imports<T>) {
    imports
        .func(MODULE, "enable_features", |caller: At<'_, '_, T>, features: u32| {
            caller.store_mut::<State>().enable(Features::of(features)).bits()
        })
        .func(MODULE, "get_config", |caller: At<'_, '_, T>, buffer: u32, limit: u32| {
            let config = caller.store_mut::<State>().settings.config.clone();
            fill(caller, buffer, limit, &config)
        })
        .func(MODULE, "log_enabled", |caller: At<'_, '_, T>, level: i32| {
            u32::from(caller.store_mut::<State>().log(level).is_some())
        })
        .func(MODULE, "log", |caller: At<'_, '_, T>, level: i32, message: u32, length: u32| -> Result<()> {
            let Some((level, log)) = caller.store_mut::<State>().log(level) else { return Ok(()) };
            caller.bytes("message", message, length)?;
            let message = caller.bytes("message", message, length.min(MAX_MESSAGE))?;
            log(level, &String::from_utf8_lossy(message));
            Ok(())
        });
}

fn request<T: Send + 'static>(imports: &mut Imports<T>) {
    imports
        .func(MODULE, "get_method", |caller: At<'_, '_, T>, buffer: u32, limit: u32| {
            text(caller, buffer, limit, |state| Ok(state.exchange()?.method().to_owned()))
        })
        .func(MODULE, "set_method", |caller: At<'_, '_, T>, method: u32, length: u32| -> Outcome<()> {
            caller.store_mut::<State>().changeable(BodyKind::Request)?;
            let method = caller.bytes("method", method, length)?;
            let method = token(method).ok_or(Misuse::Method)?.to_owned();
            Ok(caller.store_mut::<State>().exchange()?.set_method(&method)?)
        })
        .func(MODULE, "get_uri", |caller: At<'_, '_, T>, buffer: u32, limit: u32| {
            text(caller, buffer, limit, |state| {
                let uri = state.exchange()?.uri();
                Ok(if uri.is_empty() { "/" } else { uri }.to_owned())
            })
        })
        .func(MODULE, "set_uri", |caller: At<'_, '_, T>, uri: u32, length: u32| -> Outcome<()> {
            let state = caller.store_mut::<State>();
            state.changeable(BodyKind::Request)?;
            let limit = state.settings.max_header_bytes;
            let uri = caller.bytes("uri", uri, length)?;
            if u64::from(length) > limit {
                return Err(Misuse::HeadersTooLong { length: length.into(), limit }.into());
            }
            let uri = path_and_query(uri).ok_or(Misuse::Uri)?.to_owned();
            Ok(caller.store_mut::<State>().exchange()?.set_uri(&uri)?)
        })
        .func(MODULE, "get_protocol_version", |caller: At<'_, '_, T>, buffer: u32, limit: u32| {
            text(caller, buffer, limit, |state| Ok(state.exchange()?.protocol_version().to_owned()))
        })
        .func(MODULE, "get_source_addr", |caller: At<'_, '_, T>, buffer: u32, limit: u32| {
            text(caller, buffer, limit, |state| Ok(state.exchange()?.source_addr()))
        });
}

fn headers<T: Send + 'static>(imports: &mut Imports<T>) {
    imports
        .func(MODULE, "get_header_names", |caller: At<'_, '_, T>, kind: u32, buffer: u32, limit: u32| -> Outcome<u64> {
            let kind = HeaderKind::of(kind)?;
            let mut names = Vec::new();
            let visit = &mut |name: &str, _: &[u8]| names.push(name.to_ascii_lowercase().into_bytes());
            caller.store_mut::<State>().visit_headers(kind, visit)?;
            names.sort_unstable();
            names.dedup();
            list(caller, buffer, limit, &names)
        })
        .func(
            MODULE,
            "get_header_values",
            |caller: At<'_, '_, T>, kind: u32, name: u32, length: u32, buffer: u32, limit: u32| -> Outcome<u64> {
                let kind = HeaderKind::of(kind)?;
                caller.bytes("name", name, length)?;
                let (memory, state) = caller.memory_and_store::<State>();
                let name = Span { address: name, length }.get(memory).unwrap_or_default();
                let mut values = Vec::new();
                state.visit_headers(kind, &mut |other, value| {
                    if other.as_bytes().eq_ignore_ascii_case(name) {
                        values.push(value.to_vec());
                    }
                })?;
                list(caller, buffer, limit, &values)
            },
        )
        .func(
            MODULE,
            "set_header_value",
            |caller: At<'_, '_, T>, kind: u32, name: u32, name_length: u32, value: u32, length: u32| {
                change_header(caller, kind, (name, name_length), Change::Set(value, length))
            },
        )
        .func(
            MODULE,
            "add_header_value",
            |caller: At<'_, '_, T>, kind: u32, name: u32, name_length: u32, value: u32, length: u32| {
                change_header(caller, kind, (name, name_length), Change::Add(value, length))
            },
        )
        .func(MODULE, "remove_header", |caller: At<'_, '_, T>, kind: u32, name: u32, name_length: u32| {
            change_header(caller, kind, (name, name_length), Change::Remove)
        });
}

fn bodies<T: Send + 'static>(imports: &mut Imports<T>) {
    imports
        .func(MODULE, "read_body", |caller: At<'_, '_, T>, kind: u32, buffer: u32, limit: u32| {
            read_body(caller, kind, buffer, limit)
        })
        .func(MODULE, "write_body", |caller: At<'_, '_, T>, kind: u32, body: u32, length: u32| -> Outcome<()> {
            let kind = BodyKind::of(kind)?;
            caller.store_mut::<State>().changeable(kind)?;
            caller.bytes("body", body, length)?;
            let deadline = caller.deadline();
            let (memory, state) = caller.memory_and_store::<State>();
            let bytes = Span { address: body, length }.get(memory).unwrap_or_default();
            let written = state.write(kind, bytes, deadline);
            // An error at the end of the guest's time is about the time.
            written.or_else(|error| caller.in_time().map_err(Into::into).and(Err(error)))
        });
}

fn status<T: Send + 'static>(imports: &mut Imports<T>) {
    imports
        .func(MODULE, "get_status_code", |caller: At<'_, '_, T>| -> Outcome<u32> {
            Ok(caller.store_mut::<State>().exchange()?.status().into())
        })
        .func(MODULE, "set_status_code", |caller: At<'_, '_, T>, status: u32| -> Outcome<()> {
            let exchange = caller.store_mut::<State>().changeable(BodyKind::Response)?;
            match u16::try_from(status) {
                Ok(code @ 200..=999) => Ok(exchange.set_status(code)?),
                _ => Err(Misuse::Status(status).into()),
            }
        });
}

/// A change to the headers of one name. A value is an address and a length.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Set(u32, u32),
    Add(u32, u32),
    Remove,
}

/// Rules 6 and 7: checks and makes a change.
fn change_header<T: 'static>(
    caller: &mut Caller<'_, T>,
    kind: u32,
    (name, name_length): (u32, u32),
    change: Change,
) -> Outcome<()> {
    let kind = HeaderKind::of(kind)?;
    caller.store_mut::<State>().check_change(kind)?;
    caller.bytes("name", name, name_length)?;
    let value = match change {
        Change::Set(address, length) | Change::Add(address, length) => {
            caller.bytes("value", address, length)?;
            Span { address, length }
        }
        Change::Remove => Span { address: 0, length: 0 },
    };
    let (memory, state) = caller.memory_and_store::<State>();
    let name = Span { address: name, length: name_length }.get(memory).unwrap_or_default();
    let value = value.get(memory).unwrap_or_default();
    if change != Change::Remove {
        // Before anything is copied: a guest's memory can be larger than the host can spare.
        state.check_room(kind, name, value.len(), matches!(change, Change::Add(..)))?;
    }
    let name = token(name).ok_or(Misuse::HeaderName)?.to_ascii_lowercase();
    if !value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
        return Err(Misuse::HeaderValue.into());
    }
    let exchange = state.exchange()?;
    match change {
        Change::Set(..) => exchange.set_header(kind, &name, value)?,
        Change::Add(..) => exchange.add_header(kind, &name, value)?,
        Change::Remove => exchange.remove_header(kind, &name)?,
    }
    Ok(())
}

/// Rule 8: reads until the buffer is full or the body ends.
fn read_body<T: 'static>(caller: &mut Caller<'_, T>, kind: u32, buffer: u32, limit: u32) -> Outcome<u64> {
    const END: u32 = 1;
    let kind = BodyKind::of(kind)?;
    let readable = caller.store_mut::<State>().readable(kind)?;
    if limit == 0 {
        return Err(Misuse::EmptyBuffer.into());
    }
    caller.bytes("buf", buffer, limit)?;
    if !readable {
        return Ok(pack(END, 0));
    }
    let deadline = caller.deadline();
    let mut length = 0;
    while length < limit {
        let (memory, state) = caller.memory_and_store::<State>();
        let rest = Span { address: buffer.wrapping_add(length), length: limit - length };
        match state.read(kind, rest.get_mut(memory).unwrap_or_default(), deadline) {
            Ok(0) => return Ok(pack(END, length)),
            // A buffer has at most 4 GiB - 1 byte.
            Ok(read) => length += read as u32,
            Err(error) => {
                // An error at the end of the guest's time is about the time.
                caller.in_time()?;
                return Err(error);
            }
        }
        if length < limit {
            caller.in_time()?;
        }
    }
    Ok(pack(0, length))
}

/// Writes a text of the exchange to the guest's buffer.
fn text<T: 'static>(
    caller: &mut Caller<'_, T>,
    buffer: u32,
    limit: u32,
    text: fn(&mut State) -> Result<String, Misuse>,
) -> Outcome<u32> {
    let text = text(caller.store_mut::<State>())?;
    Ok(fill(caller, buffer, limit, text.as_bytes())?)
}

/// Writes a list to the guest's buffer. Each entry ends with a zero byte. Returns its number and length.
fn list<T: 'static>(caller: &mut Caller<'_, T>, buffer: u32, limit: u32, entries: &[Vec<u8>]) -> Outcome<u64> {
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 1).sum());
    for entry in entries {
        bytes.extend_from_slice(entry);
        bytes.push(0);
    }
    let length = fill(caller, buffer, limit, &bytes)?;
    Ok(pack(u32::try_from(entries.len()).unwrap_or(u32::MAX), length))
}

/// Rule 5: writes bytes to the guest's buffer if they fit. The address of no bytes is not checked.
fn fill<T: 'static>(caller: &mut Caller<'_, T>, buffer: u32, limit: u32, bytes: &[u8]) -> Result<u32> {
    if bytes.is_empty() {
        return Ok(0);
    }
    // More could not be told apart from less.
    if u32::try_from(bytes.len()).is_err() {
        let (length, limit) = (bytes.len() as u64, u32::MAX.into());
        return Err(ErrorKind::TooLong { region: caller.region("buf"), length, limit }.into());
    }
    caller.fill("buf", buffer, limit, bytes)
}

/// Returns the bytes as a token (RFC 9110, section 5.6.2), if they are one.
fn token(bytes: &[u8]) -> Option<&str> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if bytes.is_empty() || !bytes.iter().all(is_part) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Returns the bytes as an encoded path with an optional query, or `*`; `/` for none.
fn path_and_query(bytes: &[u8]) -> Option<&str> {
    if bytes.is_empty() {
        return Some("/");
    }
    let starts = bytes.starts_with(b"/") || bytes == b"*";
    let is_part = |byte: &u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(byte);
    let is_encoded = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    let encoded = bytes.iter().enumerate().all(|(at, byte)| is_part(byte) && (*byte != b'%' || is_encoded(at)));
    if starts && encoded { std::str::from_utf8(bytes).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_a_path_with_a_query_in_visible_ascii() {
        for uri in ["/", "/a/b?c=d&e", "*", "/%20%fF", "/a'(b)!$*+,;=:@~", "//two", "/?", "/a?b?c/d"] {
            assert_eq!(path_and_query(uri.as_bytes()), Some(uri));
        }
        assert_eq!(path_and_query(b""), Some("/"));
        for uri in ["a", "?a", "http://a/", "/a b", "/a#b", "/%", "/%2", "/%2g", "/\u{e4}", "/\r\n", "/\0", "**", "/\""]
        {
            assert_eq!(path_and_query(uri.as_bytes()), None, "{uri:?}");
        }
    }

    #[test]
    fn a_token_has_neither_separators_nor_controls() {
        for text in ["GET", "x-Y_z.1", "!#$%&'*+-.^_`|~"] {
            assert_eq!(token(text.as_bytes()), Some(text));
        }
        for text in [
            "", " ", "a b", "a:", "a\r", "a\0", "\u{e4}", "(a)", "a/b", "\"a\"", "[a]", "{a}", "a,", "a;", "a=", "a@",
            "a?",
        ] {
            assert_eq!(token(text.as_bytes()), None, "{text:?}");
        }
    }
}
