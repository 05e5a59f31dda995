//! Faults in the server's mapping of CGI: the variables of a request, the header of an output, the ends of a program.

use mistletoe::{ErrorKind, Result, Trap};

use crate::faulty::{Fault, OtherSession, SOUND};

pub(super) static FAULTS: &[Fault] = &[
    // Variables.
    Fault {
        name: "cgi-passes-proxy-on",
        respond: |session, request| shown(session, request, "proxy", "x-proxy-"),
        ..SOUND
    },
    Fault {
        name: "cgi-passes-authorization-on",
        respond: |session, request| shown(session, request, "authorization", "x-author"),
        ..SOUND
    },
    Fault {
        name: "cgi-passes-proxy-authorization-on",
        respond: |session, request| shown(session, request, "proxy-authorization", "x-author"),
        ..SOUND
    },
    Fault {
        name: "cgi-passes-connection-on",
        respond: |session, request| shown(session, request, "connection", "x-connect"),
        ..SOUND
    },
    Fault {
        name: "cgi-takes-underscores-for-hyphens",
        respond: |session, request| session.respond(&request.replace("\nx_forwarded_for:", "\nx-forwarded-for:")),
        ..SOUND
    },
    Fault { name: "cgi-decodes-twice", respond: |session, request| path(session, request, "%25", "%"), ..SOUND },
    Fault { name: "cgi-does-not-decode", respond: |session, request| path(session, request, "%", "%25"), ..SOUND },
    Fault {
        name: "cgi-takes-a-plus-in-a-path-for-a-space",
        respond: |session, request| path(session, request, "+", "%20"),
        ..SOUND
    },
    Fault { name: "cgi-takes-a-nul-in-a-path", respond: |session, request| path(session, request, "%00", ""), ..SOUND },
    Fault { name: "cgi-resolves-paths", respond: |session, request| path(session, request, "%2e%2E/", ""), ..SOUND },
    Fault {
        name: "cgi-decodes-the-query",
        respond: |session, request| session.respond(&request.replacen("&b=%20", "&b=_", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-cuts-the-query-at-a-question-mark",
        respond: |session, request| session.respond(&request.replacen("c?d", "c", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-has-no-script-name-of-exact-routes",
        respond: |session, request| edited(session, request, "SCRIPT_NAME=/cgi/x", "SCRIPT_NAME="),
        ..SOUND
    },
    Fault {
        name: "cgi-has-the-port-in-the-name",
        respond: |session, request| edited(session, request, "SERVER_NAME=a.example\nSERVER_PORT=8080", "x"),
        ..SOUND
    },
    Fault {
        name: "cgi-has-no-default-port",
        respond: |session, request| edited(session, request, "SERVER_PORT=80\n", "SERVER_PORT=\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-cuts-ipv6-addresses-at-a-colon",
        respond: |session, request| edited(session, request, "SERVER_NAME=[2001:db8::1]", "SERVER_NAME=[2001"),
        ..SOUND
    },
    Fault {
        name: "cgi-names-the-host-of-the-header-only",
        respond: |session, request| edited(session, request, "\nHTTP_HOST=a.example:81", ""),
        ..SOUND
    },
    Fault {
        name: "cgi-has-the-client's-port",
        respond: |session, request| edited(session, request, "192.0.2.1\n", "192.0.2.1:1234\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-has-no-length-of-no-body",
        respond: |session, request| edited(session, request, "CONTENT_LENGTH=0\n", "CONTENT_LENGTH=\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-takes-an-unknown-length-for-0",
        respond: |session, request| session.respond(&request.replacen("\ntransfer-encoding: chunked\n", "\n", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-says-http-1.1-always",
        respond: |session, request| edited(session, request, "=HTTP/2.0", "=HTTP/1.1"),
        ..SOUND
    },
    Fault {
        name: "cgi-writes-methods-in-capitals",
        respond: |session, request| session.respond(&request.replacen("post ", "POST ", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-keeps-the-last-field-of-a-name",
        respond: |session, request| session.respond(&request.replacen("\nx-a: 1\nx-a: 2", "\nx-a: 2", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-joins-cookies-by-commas",
        respond: |session, request| edited(session, request, "=a=b; c=d", "=a=b, c=d"),
        ..SOUND
    },
    Fault {
        name: "cgi-lets-routes-replace-variables",
        respond: |session, request| edited(session, request, "HTTP_X_A=1\n", "HTTP_X_A=forged\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-makes-arguments-of-a-query",
        respond: |session, request| {
            let query = request.split(' ').nth(1).and_then(|target| target.split_once('?')).map(|(_, query)| query);
            let arguments = query.filter(|query| !query.contains('=')).map(|query| query.replace('+', " "));
            edited(session, request, "program.wasm", &format!("program.wasm {}", arguments.unwrap_or_default()))
        },
        ..SOUND
    },
    // The header of an output.
    Fault {
        name: "cgi-takes-a-reason-for-a-bad-status",
        respond: |session, request| session.respond(&request.replacen("404 Not here", "4040 Not here", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-takes-other-statuses",
        respond: |session, request| session.respond(&request.replacen("Status: 600", "Status: 599", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-passes-information-on",
        respond: |session, request| session.respond(&request.replacen("Status: 101", "Status: 201", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-takes-the-last-of-two-statuses",
        respond: |session, request| session.respond(&request.replacen("Status: 200\nStatus", "Status", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-redirects-with-200",
        respond: |session, request| edited(session, request, "302\n", "200\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-redirects-always",
        respond: |session, request| edited(session, request, "201\nlocation", "302\nlocation"),
        ..SOUND
    },
    Fault {
        name: "cgi-follows-local-paths",
        respond: |session, request| edited(session, request, "302\nlocation: /", "200\nx: /"),
        ..SOUND
    },
    Fault {
        name: "cgi-needs-no-media-type",
        respond: |session, request| session.respond(&request.replacen("\n\nX-A: 1\n", "\n\nStatus: 200\nX-A: 1\n", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-needs-a-media-type",
        respond: |session, request| edited(session, request, "201\n\nmade", "502\n\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-needs-no-empty-line",
        respond: |session, request| match request.strip_suffix("Content-Type: text/plain\n") {
            Some(head) => session.respond(&format!("{}Content-Type: text/plain\n\n", head.replace(": 25", ": 26"))),
            None => session.respond(request),
        },
        ..SOUND
    },
    Fault {
        name: "cgi-ends-a-header-at-crlf-alone",
        respond: |session, request| match session.respond(request) {
            Ok(_) if request.contains("1\n\r\nx") => session.respond(&request.replace("1\n\r\nx", "1\n\rx")),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "cgi-skips-empty-lines-of-the-body",
        respond: |session, request| edited(session, request, "\n\n\nx", "\n\nx"),
        ..SOUND
    },
    Fault {
        name: "cgi-skips-malformed-lines",
        respond: |session, request| session.respond(&request.replacen("no colon\n", "", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-keeps-one-field-of-a-name",
        respond: |session, request| edited(session, request, "set-cookie: a=b\n", ""),
        ..SOUND
    },
    Fault {
        name: "cgi-forwards-fields-of-the-connection",
        respond: |session, request| {
            let response = session.respond(&request.replacen("\n\nUpgrade:", "\n\nX-Upgrade:", 1))?;
            Ok(response.replacen("\nx-upgrade:", "\nupgrade:", 1))
        },
        ..SOUND
    },
    Fault {
        name: "cgi-bounds-no-header",
        respond: |session, request| edited(session, request, "502\n", "200\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-bounds-headers-to-less",
        respond: |session, request| match session.respond(request)? {
            response if response.lines().next() == Some("200") && response.len() > 60_000 => Ok("502\n\n".to_owned()),
            response => Ok(response),
        },
        ..SOUND
    },
    Fault {
        name: "cgi-bounds-no-fields",
        respond: |session, request| session.respond(&request.replacen("X-0: 1\n", "", 1)),
        ..SOUND
    },
    // Bodies.
    Fault {
        name: "cgi-has-a-body-without-content",
        respond: |session, request| edited(session, request, "204\n\n", "204\n\nx"),
        ..SOUND
    },
    Fault {
        name: "cgi-has-a-length-without-content",
        respond: |session, request| edited(session, request, "204\n", "204\ncontent-length: 1\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-has-a-body-for-head",
        respond: |session, request| session.respond(&request.replacen("HEAD ", "GET ", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-sends-more-than-the-length",
        respond: |session, request| session.respond(&request.replacen("\n\nContent-Length: 4\n", "\n\nX: 4\n", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-takes-any-length",
        respond: |session, request| {
            session.respond(&request.replacen("Content-Length: +1\n", "Content-Length: 1\n", 1))
        },
        ..SOUND
    },
    Fault {
        name: "cgi-takes-a-broken-body-for-a-whole-one",
        respond: |session, request| session.respond(&request.replacen("\ncontent-length: 100\n", "\n", 1)),
        ..SOUND
    },
    Fault {
        name: "cgi-passes-the-first-piece-of-a-body",
        respond: |session, request| match request.rsplit_once("some text") {
            Some((head, _)) => session.respond(&format!("{head}some")),
            None => session.respond(request),
        },
        ..SOUND
    },
    Fault {
        name: "cgi-cuts-large-bodies",
        respond: |session, request| {
            let response = session.respond(request)?;
            let end = response.char_indices().nth(65_536 + 100).map_or(response.len(), |(at, _)| at);
            Ok(response[..end].to_owned())
        },
        ..SOUND
    },
    Fault {
        name: "cgi-waits-for-the-whole-body-to-be-read",
        respond: |session, request| match session.respond(request) {
            Ok(_) if request.len() > 1_000_000 && request.ends_with("yyyy") => Ok("504\n\n".to_owned()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "cgi-hides-that-a-body-breaks-off",
        respond: |session, request| edited(session, request, "(broken off)", ""),
        ..SOUND
    },
    Fault {
        name: "cgi-refuses-too-large-bodies-as-bad",
        respond: |session, request| edited(session, request, "413\n", "400\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-mixes-standard-error-in",
        host: |name, slots, call| {
            if name == "fd_write" && slots[0] == 2 {
                slots[0] = 1;
            }
            call(slots)
        },
        ..SOUND
    },
    // The ends of a program.
    Fault {
        name: "cgi-fails-for-an-exit-code",
        host: |name, slots, call| match name {
            // A trap in its place: the response breaks off.
            "proc_exit" if slots[0] == 3 => Err(ErrorKind::Trap { trap: Trap::Unreachable, export: None }.into()),
            _ => call(slots),
        },
        ..SOUND
    },
    Fault {
        name: "cgi-takes-exits-for-malformed-outputs",
        respond: |session, request| edited(session, request, "500\n", "502\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-takes-malformed-outputs-for-failures",
        respond: |session, request| edited(session, request, "502\n", "500\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-takes-the-end-of-time-for-a-failure",
        respond: |session, request| edited(session, request, "504\n", "500\n"),
        ..SOUND
    },
    Fault {
        name: "cgi-names-no-error",
        respond: |session, request| edited(session, request, "x-mistletoe-error", "x-error"),
        ..SOUND
    },
    Fault {
        name: "cgi-reuses-instances",
        respond: |session, request| {
            let response = session.respond(request)?;
            let second = session.kept.0 == request;
            request.clone_into(&mut session.kept.0);
            Ok(if second { response.replacen("\n\n1", "\n\n2", 1) } else { response })
        },
        ..SOUND
    },
];

/// Lets a field of the request through: under a name that is not hidden, and as the hidden one in the response.
fn shown(session: &mut OtherSession, request: &str, field: &str, other: &str) -> Result<String> {
    let variable = |name: &str| format!("HTTP_{}=", name.to_ascii_uppercase().replace('-', "_"));
    let response = session.respond(&request.replacen(&format!("\n{field}: "), &format!("\n{other}: "), 1))?;
    Ok(response.replacen(&variable(other), &variable(field), 1))
}

/// Changes the request's path, but not what the response says of the path as it was sent.
fn path(session: &mut OtherSession, request: &str, from: &str, to: &str) -> Result<String> {
    let (line, rest) = request.split_once('\n').unwrap_or((request, ""));
    let (path, query) = line.split_once('?').map_or((line, String::new()), |(path, query)| (path, format!("?{query}")));
    session.respond(&format!("{}{query}\n{rest}", path.replace(from, to)))
}

/// Changes the response.
fn edited(session: &mut OtherSession, request: &str, from: &str, to: &str) -> Result<String> {
    Ok(session.respond(request)?.replacen(from, to, 1))
}
