//! Spans, as an OpenTelemetry collector gets them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use mistletoe_serve::Spans;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use crate::client::{Client, LONG, get};
use crate::server::{assert_reply, route, runtime, start};

/// A collector that takes everything, and its URL.
fn collector() -> (String, Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
    let (requests, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let requests = requests.clone();
            thread::spawn(move || {
                loop {
                    let mut head = Vec::new();
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).unwrap_or_default() == 0 {
                            return;
                        }
                        if line == "\r\n" {
                            break;
                        }
                        head.push(line.trim_end().to_ascii_lowercase());
                    }
                    assert_eq!(head[0], "post /v1/traces http/1.1");
                    assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
                    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                    let mut body = vec![0; length.parse().expect("a number")];
                    stream.read_exact(&mut body).expect("a body");
                    // An empty body is a response without a field.
                    let response =
                        "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
                    stream.get_mut().write_all(response.as_bytes()).expect("sent");
                    let _ = requests.send(ExportTraceServiceRequest::decode(&*body).expect("protobuf"));
                }
            });
        }
    });
    (url, received)
}

#[test]
fn a_collector_with_tls_is_refused() {
    runtime().block_on(async {
        for url in ["https://127.0.0.1:4318/v1/traces", "127.0.0.1:4318", "ftp://a/", "http:/", ""] {
            let error = Spans::to_collector(url).expect_err(url).to_string();
            assert!(!url.starts_with("https") || error.contains("scheme `http`; a collector is reached without TLS"));
        }
        assert!(Spans::to_collector("HTTP://127.0.0.1:4318/v1/traces").is_ok());
    });
}

#[test]
fn each_request_is_a_span() {
    let routes = [
        route("/echo/...", "plugin-echo", "limits = { fuel = '1M' }"),
        route("/trap", "plugin-trap", ""),
        route("/environment", "plugin-environment", ""),
    ];
    let server = start("", &routes.concat());
    let (url, received) = collector();
    let runtime = runtime();
    let spans = runtime.block_on(async { Spans::to_collector(&url) }).expect("a destination");
    server.service.export_spans(spans.clone());
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut client = Client::new(server.address);
    let sampled = format!("traceparent: 00-{trace}-b7ad6b7169203331-01\r\n");
    client.send(format!("GET /echo/x?secret HTTP/1.1\r\nHost: a.example\r\n{sampled}\r\n"));
    assert_reply(&client.reply(), 200, "");
    // Its trace is not recorded.
    client.send(format!("GET /echo/y HTTP/1.1\r\nHost: a\r\n{}\r\n", sampled.replace("-01\r", "-00\r")));
    assert_reply(&client.reply(), 200, "");
    client.send("X-OWN /trap HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply().status, 500);
    assert_eq!(get(server.address, "/none").status, 404);
    let environment = get(server.address, "/environment").text();
    server.wait_for(r#"mistletoe_requests_total{route="/environment",status="200"} 1"#);
    assert!(runtime.block_on(spans.flush(LONG)));

    let mut all = BTreeMap::new();
    while let Ok(request) = received.recv_timeout(if all.len() < 4 { LONG } else { Duration::ZERO }) {
        for group in request.resource_spans {
            let resource = group.resource.expect("a resource").attributes;
            let service = resource.iter().find(|attribute| attribute.key == "service.name").expect("a name");
            let name = service.value.clone().and_then(|value| value.value);
            assert_eq!(name, Some(Value::StringValue("mistletoe".to_owned())));
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                assert_eq!(span.kind(), SpanKind::Server);
                assert!(span.start_time_unix_nano > 0 && span.start_time_unix_nano <= span.end_time_unix_nano);
                all.insert(span.name.clone(), span);
            }
        }
    }
    let attribute = |name: &str, key: &str| {
        let attribute = all[name].attributes.iter().find(|attribute| attribute.key == key)?;
        Some(match attribute.value.clone()?.value? {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        })
    };
    let names: Vec<_> = all.keys().map(String::as_str).collect();
    assert_eq!(names, ["GET", "GET /echo/...", "GET /environment", "HTTP /trap"]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();

    let echo = &all["GET /echo/..."];
    assert_eq!((hex(&echo.trace_id), hex(&echo.parent_span_id)), (trace.to_owned(), "b7ad6b7169203331".to_owned()));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "/echo/..."),
        ("url.path", "/echo/x"),
        ("server.address", "a.example"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("mistletoe.engine", "wasmi"),
    ] {
        assert_eq!(attribute("GET /echo/...", key).as_deref(), Some(value), "{key}");
    }
    let fuel = attribute("GET /echo/...", "mistletoe.fuel").expect("fuel").parse::<u64>().expect("a number");
    server.wait_for(&format!("mistletoe_fuel_total{{route=\"/echo/...\"}} {}", 2 * fuel));
    assert!(!format!("{echo:?}").contains("secret"), "queries may have secrets");

    assert_eq!(attribute("HTTP /trap", "error.type").as_deref(), Some("trap-unreachable"));
    assert_eq!(attribute("HTTP /trap", "http.request.method").as_deref(), Some("_OTHER"));
    assert_eq!(all["HTTP /trap"].status.as_ref().map(|status| status.code()), Some(StatusCode::Error));
    assert_eq!(attribute("GET", "error.type").as_deref(), Some("no-route"));
    assert_eq!(all["GET"].status.as_ref().map_or(StatusCode::Unset, |status| status.code()), StatusCode::Unset);
    // A request without a trace begins one, which its guest gets.
    let own = &all["GET /environment"];
    assert!(own.parent_span_id.is_empty(), "{own:?}");
    let parent = format!("TRACEPARENT=00-{}-{}-01\0", hex(&own.trace_id), hex(&own.span_id));
    assert!(environment.contains(&parent), "{parent} is not in {environment}");
    server.wait_for("mistletoe_spans_lost_total 0");
}

#[test]
fn a_collector_that_is_gone_costs_nothing_but_spans() {
    let server = start("", &route("/echo", "plugin-echo", ""));
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let runtime = runtime();
    let spans = runtime.block_on(async { Spans::to_collector(&format!("http://{gone}/v1/traces")) });
    let spans = spans.expect("a destination");
    server.service.export_spans(spans.clone());
    let mut client = Client::new(server.address);
    let requests = 3_000;
    for _ in 0..requests {
        client.send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.reply().status, 200);
    }
    // What does not wait is lost at once, and the rest when the collector has not responded.
    assert!(runtime.block_on(spans.flush(LONG)));
    server.wait_for(&format!("mistletoe_spans_lost_total {requests}"));
    assert!(runtime.block_on(async { Spans::to_collector("no URL") }).is_err());
    assert!(Spans::to_collector(&format!("http://{gone}/v1/traces")).is_err(), "there is no runtime");
}
