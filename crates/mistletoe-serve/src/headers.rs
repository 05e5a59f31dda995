//! Header fields that belong to a connection, and those that frame a message.

use http::HeaderMap;
use http::header::{self, HeaderName};

/// Fields that are between two ends of a connection (RFC 9110, section 7.6.1), and older ones that are used like them.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Returns whether a field is for the connection, or says where a message ends: the server's own matter.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || *name == header::TRAILER || *name == header::CONTENT_LENGTH
}

pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Returns whether a message's body comes in chunks; nothing if it has another transfer coding, or several.
pub(crate) fn is_chunked(headers: &HeaderMap) -> Option<bool> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Some(false),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Some(true),
        _ => None,
    }
}

/// Removes `Connection` and the fields that it names, except those that are always for the connection, such as `TE`.
pub(crate) fn remove_connection(headers: &mut HeaderMap) {
    let values = headers.get_all(header::CONNECTION).iter();
    let named: Vec<HeaderName> = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_hop_by_hop(name))
        .collect();
    for name in &named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

/// Removes the fields that are for the connection on which a message came.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_connection(headers);
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}
