//! The Common Gateway Interface, version 1.1 (RFC 3875): a request as variables, and the header of an output.

use std::net::SocketAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Version};

use super::authority;
use crate::failure::Failure;
use crate::headers::is_hop_by_hop;
use crate::route::Pattern;

/// Maximum length of an output's header, in bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// Maximum number of fields of an output's header.
const MAX_FIELDS: usize = 100;

/// Header fields of a request that are no variables: secrets of the connection, and `Proxy`, whose variable some
/// libraries take for the address of a proxy to use.
const HIDDEN: [HeaderName; 4] =
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::CONNECTION, HeaderName::from_static("proxy")];

/// Returns the variables of a request whose body has this length, if it is known.
pub(super) fn environment(
    parts: &Parts,
    remote: Option<SocketAddr>,
    route: &Pattern,
    length: Option<u64>,
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let path = parts.uri.path();
    let raw_info = route.rest(path).unwrap_or_default();
    let info = decoded(raw_info).ok_or(Failure::Request("the path has an encoded NUL"))?;
    let query = parts.uri.query().unwrap_or_default();
    let authority = authority(parts);
    let (name, port) = split_port(authority);
    let port = port.unwrap_or("80");
    let remote = remote.map(|address| address.ip().to_string()).unwrap_or_default();
    let field = |name: HeaderName| parts.headers.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default();
    let url = format!("http://{authority}{path}{}{query}", if query.is_empty() { "" } else { "?" });
    let protocol = match parts.version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    let text = |value: &str| value.as_bytes().to_vec();
    let mut variables = vec![
        ("AUTH_TYPE".to_owned(), Vec::new()),
        ("CONTENT_TYPE".to_owned(), field(header::CONTENT_TYPE)),
        ("GATEWAY_INTERFACE".to_owned(), text("CGI/1.1")),
        ("PATH_INFO".to_owned(), info.clone()),
        ("PATH_TRANSLATED".to_owned(), info),
        ("QUERY_STRING".to_owned(), text(query)),
        ("REMOTE_ADDR".to_owned(), text(&remote)),
        ("REMOTE_HOST".to_owned(), text(&remote)),
        ("REMOTE_USER".to_owned(), Vec::new()),
        ("REQUEST_METHOD".to_owned(), text(parts.method.as_str())),
        ("SCRIPT_NAME".to_owned(), text(route.base())),
        ("SERVER_NAME".to_owned(), text(name)),
        ("SERVER_PORT".to_owned(), text(port)),
        ("SERVER_PROTOCOL".to_owned(), text(protocol)),
        ("SERVER_SOFTWARE".to_owned(), text(concat!("mistletoe/", env!("CARGO_PKG_VERSION")))),
        ("X_FULL_URL".to_owned(), text(&url)),
        ("X_MATCHED_ROUTE".to_owned(), text(route.as_str())),
        ("X_RAW_PATH_INFO".to_owned(), text(raw_info)),
    ];
    // Programs read a body of unknown length to its end.
    if let Some(length) = length {
        variables.push(("CONTENT_LENGTH".to_owned(), text(&length.to_string())));
    }
    for name in parts.headers.keys().filter(|name| !HIDDEN.contains(name)) {
        // `_` would be taken for `-`, with which a client could forge a field that a proxy sets.
        if name.as_str().contains('_') {
            continue;
        }
        let mut all = Vec::new();
        let separator: &[u8] = if *name == header::COOKIE { b"; " } else { b", " };
        for (i, value) in parts.headers.get_all(name).iter().enumerate() {
            all.extend_from_slice(if i == 0 { b"" } else { separator });
            all.extend_from_slice(value.as_bytes());
        }
        variables.push((format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_")), all));
    }
    if !parts.headers.contains_key(header::HOST) && !authority.is_empty() {
        variables.push(("HTTP_HOST".to_owned(), text(authority)));
    }
    Ok(variables)
}

/// Splits a port off.
pub(crate) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => {
            (name, Some(port).filter(|port| !port.is_empty()))
        }
        _ => (authority, None),
    }
}

/// Decodes `%41`. Other bytes, and a `%` without two digits, stay. Returns nothing for a NUL.
fn decoded(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| byte == b'%');
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let code = digits.and_then(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { after.get(2..)? } else { after };
    }
    (!bytes.contains(&0)).then_some(bytes)
}

/// Returns where the header of an output ends, after its empty line. Looks at what comes after `from`.
pub(super) fn end(output: &[u8], from: usize) -> Option<usize> {
    // A line begins after a line feed, and at the very beginning.
    if output.starts_with(b"\n") {
        return Some(1);
    }
    if output.starts_with(b"\r\n") {
        return Some(2);
    }
    let feeds = (from..output.len()).filter(|at| output.get(*at) == Some(&b'\n'));
    feeds.into_iter().find_map(|at| match output.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The header of an output.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

impl Head {
    /// Parses a header, with its empty line.
    pub(super) fn parse(head: &[u8]) -> Result<Self, &'static str> {
        let mut status = None;
        let mut headers = HeaderMap::new();
        let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        for line in lines.filter(|line| !line.is_empty()) {
            let colon = line.iter().position(|byte| *byte == b':').ok_or("a line of the header has no `:`")?;
            let (name, value) = line.split_at(colon);
            let name = HeaderName::from_bytes(name).map_err(|_| "the name of a header field is malformed")?;
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            let value = HeaderValue::from_bytes(value).map_err(|_| "the value of a header field is malformed")?;
            if name == "status" {
                let code = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
                let code = StatusCode::from_bytes(code).ok().filter(|code| (200..600).contains(&code.as_u16()));
                let code = code.ok_or("the status is not from 200 to 599")?;
                if status.replace(code).is_some() {
                    return Err("the header has two statuses");
                }
            } else if !is_hop_by_hop(&name) && name != header::TRAILER {
                headers.append(name, value);
            }
            if headers.len() > MAX_FIELDS {
                return Err("the header has too many fields");
            }
        }
        let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
        let is_number = |value: &HeaderValue| {
            let digits = value.as_bytes();
            !digits.is_empty() && digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit)
        };
        if lengths.next().is_some_and(|length| !is_number(length)) || lengths.next().is_some() {
            return Err("the length of the content is malformed");
        }
        let located = headers.contains_key(header::LOCATION);
        if status.is_none() && !located && !headers.contains_key(header::CONTENT_TYPE) {
            return Err("the header has neither `Content-Type` nor `Location` nor `Status`");
        }
        let status = status.unwrap_or(if located { StatusCode::FOUND } else { StatusCode::OK });
        Ok(Self { status, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_with_an_empty_line() {
        for (output, found) in [
            ("", None),
            ("\nx", Some(1)),
            ("\r\nx", Some(2)),
            ("a: b\n", None),
            ("a: b\n\nx", Some(6)),
            ("a: b\r\n\r\nx", Some(8)),
            ("a: b\n\r\nx", Some(7)),
            ("a: b\n\rx\n", None),
        ] {
            assert_eq!(end(output.as_bytes(), 0), found, "{output:?}");
        }
        // Byte by byte, as `Stdout` does.
        let output = b"a: b\r\n\r\nx";
        let found = (1..=output.len()).find_map(|length| end(&output[..length], (length - 1).saturating_sub(3)));
        assert_eq!(found, Some(8));
    }

    #[test]
    fn a_header_is_a_response() {
        let parse = |text: &str| Head::parse(text.as_bytes()).map(|head| (head.status.as_u16(), head.headers.len()));
        assert_eq!(parse("Content-Type: text/plain\n\n"), Ok((200, 1)));
        assert_eq!(parse("Status: 404 Not here\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"), Ok((404, 2)));
        assert_eq!(parse("Location: /x\n\n"), Ok((302, 1)));
        assert_eq!(parse("Status: 301\nLocation: /x\n\n"), Ok((301, 1)));
        // What is between the server and its client is the server's.
        assert_eq!(parse("Status: 200\nConnection: close\nTransfer-Encoding: chunked\n\n"), Ok((200, 0)));
        for text in [
            "\n",
            "X-Only: this\n\n",
            "Status: 99\n\n",
            "Status: 101\n\n",
            "Status: 600\n\n",
            "Status: ok\n\n",
            "Status: 200\nStatus: 200\n\n",
            "no colon\n\n",
            "a b: c\nStatus: 200\n\n",
            "a: \u{1}\nStatus: 200\n\n",
            "Status: 200\nContent-Length: -1\n\n",
            "Status: 200\nContent-Length: 1\nContent-Length: 1\n\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let many: String = (0..101).map(|i| format!("a{i}: b\n")).collect();
        assert_eq!(parse(&format!("Status: 200\n{many}\n")), Err("the header has too many fields"));
    }

    #[test]
    fn a_path_is_decoded_once() {
        let decode = |path: &str| decoded(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(decode("/a%20b%2541"), Some("/a b%41".to_owned()));
        assert_eq!(decode("/%zz%4"), Some("/%zz%4".to_owned()));
        assert_eq!(decode("/%+1"), Some("/%+1".to_owned()));
        assert_eq!(decode("/a%00"), None);
    }

    #[test]
    fn a_port_is_split_off() {
        assert_eq!(split_port("a.example:80"), ("a.example", Some("80")));
        assert_eq!(split_port("a.example"), ("a.example", None));
        assert_eq!(split_port("a.example:"), ("a.example", None));
        assert_eq!(split_port("[::1]:8080"), ("[::1]", Some("8080")));
        assert_eq!(split_port("[::1]"), ("[::1]", None));
    }
}
