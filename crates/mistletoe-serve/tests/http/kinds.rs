//! What each kind makes of a request, and its output of a response.

use crate::client::{Client, get, post};
use crate::server::{assert_reply, route, start};

#[test]
fn each_kind_responds() {
    let routes = [
        route("/hello", "httpwasm-c", ""),
        route("/cat", "command-cat", ""),
        route("/namespace", "namespace", ""),
        route("/bytes", "plugin-bytes", ""),
        route("/html", "plugin-echo", "content_type = 'text/html'"),
    ];
    let server = start("", &routes.concat());
    let hello = post(server.address, "/hello", "world");
    assert_reply(&hello, 200, "hello, world\n");
    assert_eq!(hello.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(get(server.address, "/bytes").header("content-type"), Some("application/octet-stream"));
    // The record is ended by the host.
    let html = post(server.address, "/html", "<p>");
    assert_reply(&html, 200, "<p>\n");
    assert_eq!(html.header("content-type"), Some("text/html"));

    let cat = post(server.address, "/cat", "a body");
    assert_reply(&cat, 200, "a body");
    assert_eq!(cat.header("content-type"), Some("text/plain"));

    let input = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput\ndata:\n  name: web\n";
    let manifests = post(server.address, "/namespace", input);
    assert_eq!((manifests.status, manifests.header("content-type")), (200, Some("application/yaml")));
    assert!(manifests.text().contains("kind: MistResult") && manifests.text().contains("name: web"), "{manifests:?}");
}

#[test]
fn a_plugin_sees_its_request_in_its_environment() {
    let routes = [
        route("/environment/...", "plugin-environment", "env = { A = '1', HTTP_PATH = 'mine' }"),
        route("/log", "plugin-log", ""),
        route("/reused/...", "plugin-environment", "pool = { size = 1, reuse = true }"),
    ];
    let server = start("", &routes.concat());
    let mut client = Client::new(server.address);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client.send(format!(
        "PUT /environment/a%20b?x=1&y HTTP/1.1\r\nHost: A.example:81\r\ntraceparent: {trace}\r\n\
         X-Request-Id: mine\r\n\r\n"
    ));
    let reply = client.reply();
    let text = reply.text();
    let variables: Vec<_> = text.split_terminator('\0').collect();
    for variable in
        ["A=1", "HTTP_PATH=/environment/a%20b", "HTTP_METHOD=PUT", "HTTP_HOST=A.example:81", "HTTP_QUERY=x=1&y"]
    {
        assert!(variables.contains(&variable), "{variable} is not in {variables:?}");
    }
    assert!(variables.iter().any(|variable| variable.starts_with("REMOTE_ADDR=127.0.0.1:")), "{variables:?}");
    // A new span of the same trace.
    let variable = variables.iter().find_map(|variable| variable.strip_prefix("TRACEPARENT=")).expect("a trace");
    let span = &variable[36..52];
    assert!(variable.len() == trace.len() && variable[..36] == trace[..36] && span != &trace[36..52], "{variable}");
    // The request's own come last, where a reader that takes the last of two sees them, and only once.
    assert_eq!(variables.iter().filter(|variable| variable.starts_with("HTTP_PATH=")).count(), 1, "{variables:?}");
    assert_eq!(reply.header("x-request-id"), Some("mine"));
    let line = server.logged(&["\"request\"", "\"mine\""]);
    for text in [
        &format!("\"trace_id\":\"{}\",\"span_id\":\"{span}\"", &trace[3..35]),
        "\"status\":200",
        "\"route\":\"/environment/...\"",
        "/environment/a%20b?x=1&y",
        "\"method\":\"PUT\"",
    ] {
        assert!(line.contains(text), "{text} is not in {line}");
    }

    // An instance that is used again gets the variables of each request.
    for path in ["/reused/1", "/reused/2"] {
        let text = get(server.address, path).text();
        let paths: Vec<_> = text.split_terminator('\0').filter(|line| line.starts_with("HTTP_PATH=")).collect();
        assert_eq!(paths, [format!("HTTP_PATH={path}")]);
    }

    let reply = get(server.address, "/log");
    let id = reply.header("x-request-id").expect("an identifier").to_owned();
    for text in ["one line", "another"] {
        server.logged(&["\"guest\"", &format!("\"line\":\"{text}\""), &id, "\"route\":\"/log\""]);
    }
}

#[test]
fn a_command_is_a_cgi_program() {
    let routes = [
        route("/v/...", "command-variables", "args = ['-x']\nenv = { A = '1', REQUEST_METHOD = 'mine' }"),
        route("/missing", "command-missing", ""),
        route("/elsewhere", "command-elsewhere", ""),
        route("/no-content", "command-no-content", ""),
        route("/fails-late", "command-fails-late", ""),
    ];
    let server = start("", &routes.concat());
    let mut client = Client::new(server.address);
    client.send(
        "POST /v/a%2Fb/c?q=1&r HTTP/1.1\r\nHost: a.example:81\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\
         X-Own-Field: 1\r\nX-Own-Field: 2\r\nProxy: evil\r\nAuthorization: secret\r\nX_Own: no\r\n\r\nhi",
    );
    let text = client.reply().text();
    let variables: Vec<_> = text.split_terminator('\0').collect();
    for variable in [
        "A=1",
        "AUTH_TYPE=",
        "CONTENT_LENGTH=2",
        "CONTENT_TYPE=text/x",
        "GATEWAY_INTERFACE=CGI/1.1",
        "HTTP_HOST=a.example:81",
        "HTTP_X_OWN_FIELD=1, 2",
        "PATH_INFO=/a/b/c",
        "QUERY_STRING=q=1&r",
        "REMOTE_ADDR=127.0.0.1",
        "REMOTE_HOST=127.0.0.1",
        "REQUEST_METHOD=POST",
        "SCRIPT_NAME=/v",
        "SERVER_NAME=a.example",
        "SERVER_PORT=81",
        "SERVER_PROTOCOL=HTTP/1.1",
        "X_FULL_URL=http://a.example:81/v/a%2Fb/c?q=1&r",
        "X_MATCHED_ROUTE=/v/...",
        "X_RAW_PATH_INFO=/a%2Fb/c",
        // The arguments.
        "command-variables.wasm",
        "-x",
    ] {
        assert!(variables.contains(&variable), "{variable} is not in {variables:?}");
    }
    for text in ["evil", "secret", "HTTP_X_OWN=", "REQUEST_METHOD=mine"] {
        assert!(!text.is_empty() && !variables.iter().any(|variable| variable.contains(text)), "{text}: {variables:?}");
    }
    // Without a known length, there is none. The variable of the header field is another one.
    client.send("POST /v/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    let text = client.reply().text();
    assert!(text.contains("REQUEST_METHOD=POST") && !text.contains("CONTENT_LENGTH"), "{text:?}");

    let missing = get(server.address, "/missing");
    assert_reply(&missing, 404, "nothing\n");
    assert_eq!(missing.headers.iter().filter(|(name, _)| name == "x-own").count(), 2, "{missing:?}");
    let elsewhere = get(server.address, "/elsewhere");
    assert_reply(&elsewhere, 302, "");
    assert_eq!(elsewhere.header("location"), Some("/x"));
    assert_reply(&get(server.address, "/no-content"), 204, "");
    // The program's status is in the log, and changes nothing for the client.
    assert_reply(&get(server.address, "/fails-late"), 200, "Content");
}

#[test]
fn instances_are_fresh_or_reused() {
    let routes = [
        route("/fresh", "plugin-count", "pool = { size = 1 }"),
        route("/reused", "plugin-count", "pool = { size = 1, reuse = true }"),
    ];
    let server = start("", &routes.concat());
    for i in 1..4 {
        assert_reply(&get(server.address, "/fresh"), 200, "1");
        assert_reply(&get(server.address, "/reused"), 200, &i.to_string());
    }
}
