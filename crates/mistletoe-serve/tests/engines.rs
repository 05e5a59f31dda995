//! Every kind of guest over a real socket on every engine of the build: the same responses, and the same fuel. `cargo
//! test --workspace` builds all engines, and `cargo test -p mistletoe-serve` one.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "http/client.rs"]
mod client;

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use mistletoe_serve::config::Config;
use mistletoe_serve::{Files, Log, Server, Service};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use client::Client;

/// A route for each kind, with the example modules. Fuel is counted where it is limited.
const ROUTES: &str = r#"
[server]
listen = "127.0.0.1:0"

[[route]]
path = "/hello"
kind = "httpwasm"
module = "hello-c.wasm"
limits = { fuel = 100000000 }

[[route]]
path = "/cgi/..."
kind = "command"
module = "cgi-c.wasm"
limits = { fuel = 100000000 }

[[route]]
path = "/namespace"
kind = "package"
module = "namespace-c.wasm"
limits = { fuel = 100000000 }

[[route]]
path = "/private/hello"
kind = "httpwasm"
module = "hello-c.wasm"
limits = { fuel = 100000000 }
middleware = [
    { module = "auth-sdk.wasm", config = "realm examples\nbearer example\n", limits = { fuel = 100000000 } },
]

[[route]]
path = "/limited"
kind = "response"
response = { body = "within the limit\n" }
middleware = [
    { module = "rate-limit-sdk-c.wasm", config = "1 1/86400", limits = { fuel = 100000000 }, pool = { size = 1, reuse = true } },
]
"#;

/// A request line, more of the header, a body, and the status and body of the response.
const REQUESTS: &[(&str, &str, &str, u16, &str)] = &[
    ("POST /hello", "", "ann\nbob", 200, "hello, ann\nhello, bob\n"),
    ("GET /hello?name=a%20b", "", "", 200, "hello, a b\n"),
    ("PUT /cgi/a?b=c", "", "12345", 200, "PUT /cgi/a?b=c\n5 bytes of body\n"),
    ("GET /cgi/missing", "", "", 404, "There is nothing here.\n"),
    ("POST /namespace", "", "data:\n  name: web\n", 200, MANIFESTS),
    ("POST /namespace", "", "data: {}\n", 422, REFUSAL),
    ("GET /private/hello", "", "", 401, "credentials are required\n"),
    ("GET /private/hello", "Authorization: Bearer example\r\n", "", 200, "hello, world\n"),
    ("GET /limited", "", "", 200, "within the limit\n"),
    ("GET /limited", "", "", 429, "too many requests\n"),
];

const MANIFESTS: &str = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n  result: Ok\n  files:\n    \
    namespace.yaml: |\n      apiVersion: v1\n      kind: Namespace\n      metadata:\n        name: web\n";
const REFUSAL: &str = "name the namespace in the input, on one line: \"name: my-namespace\" under \"data:\"\n";

/// Sends a request on a connection of its own. Returns the status, the header without what differs each time, and the
/// body.
fn send(address: SocketAddr, line: &str, fields: &str, body: &str) -> (u16, Vec<(String, String)>, String) {
    let mut client = Client::new(address);
    let length = body.len();
    client.send(format!(
        "{line} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    ));
    let reply = client.reply();
    assert!(reply.complete, "{line}");
    let text = reply.text();
    let own = ["date", "x-request-id", "retry-after"];
    let headers = reply.headers.into_iter().filter(|(name, _)| !own.contains(&name.as_str())).collect();
    (reply.status, headers, text)
}

#[test]
fn every_kind_responds_alike_on_every_engine() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut first = None;
    for engine in mistletoe::backends().iter().filter(|engine| engine.is_enabled()) {
        let engine = engine.name();
        let config = Config::parse(&format!("engine = '{engine}'\n{ROUTES}"), &directory).expect("it is right");
        let service = Service::new(&config, Files, Log::to_writer(std::io::sink()).expect("a log"));
        let service = service.unwrap_or_else(|error| panic!("{engine}: {error}"));
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let server = runtime.block_on(Server::bind(&config, service.clone())).expect("a server");
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            runtime.block_on(server.run(async {
                let _ = stopped.await;
            }));
        });
        let mut headers = Vec::new();
        for (line, fields, body, status, response) in REQUESTS {
            let found = send(address, line, fields, body);
            assert_eq!((found.0, found.2.as_str()), (*status, *response), "{engine}: {line}");
            headers.push(found.1);
        }
        // The guests have ended, and what they took is counted.
        drop(stop);
        thread.join().expect("the server does not panic");
        let metrics = service.metrics();
        let is_fuel = |line: &&str| line.starts_with("mistletoe_fuel_total{");
        let fuel: Vec<_> = metrics.lines().filter(is_fuel).map(str::to_owned).collect();
        let counted = fuel.iter().filter(|line| !line.ends_with(" 0")).count();
        assert!(counted >= 5, "{engine}: {fuel:?}");
        let (others, reference) = first.get_or_insert_with(|| (engine, (headers.clone(), fuel.clone())));
        assert_eq!((&headers, &fuel), (&reference.0, &reference.1), "{engine} and {others}");
    }
    assert!(first.is_some(), "the build has an engine");
}
