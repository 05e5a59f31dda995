//! Configurations, and what is wrong with them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

const ROUTE: &str = "[[route]]\npath = '/a'\nmodule = 'a.wasm'\nkind = 'httpwasm'\n";

const RESPONSE: &str = "[[route]]\npath = '/a'\nkind = 'response'\nresponse = {}\n";

const PLUGINS: &str = "[[route]]\nkind = 'scheduler'\npath = '/s";

const EVERY_KEY: &str = r#"
        engine = "wasmi"
        [server]
        listen = "[::1]:0"
        max_connections = 1
        max_header_bytes = "16KiB"
        max_headers = 2
        max_streams = 3
        header_timeout = "1s"
        write_timeout = "2s"
        keep_alive = false
        grace = "3s"
        max_requests = 4
        response_memory = "1GiB"
        compile_timeout = "5m"
        [admin]
        listen = "127.0.0.1:1"
        [[route]]
        path = "/x/..."
        module = "m.wasm"
        kind = "httpwasm"
        name = "n"
        host = "A.example"
        methods = ["GET", "PUT"]
        engine = "wasmtime"
        env = { K = "v" }
        dirs = [{ host = "d", guest = "/d", writable = true }, { host = "/e", guest = "/e" }]
        delimiter = "nul"
        content_type = "text/html"
        show_errors = true
        body_timeout = "4s"
        limits = { timeout = "5s", memory = "1MiB", fuel = "6M", stack = 7, body = 8, output = "9kB" }
        pool = { size = 10, queue = 11, wait = "12ms", reuse = true, idle = "13s" }
        [[route]]
        path = "/y"
        module = "m.wasm"
        kind = "command"
        args = ["-v"]
        [[route]]
        path = "/r"
        kind = "response"
        response = { status = 308, headers = { Location = "/x" }, body = "gone" }
        limits = { body = 9 }
        middleware = [
            { module = "a/auth.wasm", config = "key", engine = "wasmtime", limits = { timeout = "7s" } },
            { module = "auth.wat", config = { users = ["ann"], from = 2026-01-02, n = { x = 1.5 } } },
            { module = "log.wasm", config_file = "c.json", env = { K = "v" }, pool = { size = 3, reuse = true } },
        ]
        [[route]]
        path = "/u/..."
        kind = "upstream"
        url = "http://a.example:81"
        middleware = [{ module = "auth.wasm" }]
        limits = { timeout = "8s", body = 10, output = 11 }
        pool = { size = 12, queue = 13, wait = "14s" }
        [[route]]
        path = "/m"
        kind = "http-wasm"
        module = "m.wasm"
        config_file = "m.json"
        [[route]]
        path = "/scheduler/..."
        kind = "scheduler"
        plugins = [
            { module = "a/zone.wasm", config = "text", weight = 3, on_failure = "ignore" },
            { module = "zone.wasm", config_file = "z.json", engine = "wasmtime", limits = { timeout = "2s", fuel = 9 } },
            { module = "oci://h/number:1", config = { reverse = true }, on_failure = "fail" },
        ]
        http_timeout = "10s"
        kept_cycles = 15
        keep_time = "16s"
        limits = { body = 17, output = 18 }
        pool = { size = 19, queue = 20, wait = "21s", idle = "22s" }
    "#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("dir")).map_err(|error| error.to_string())
}

#[test]
fn every_key_has_its_value() {
    let config = parse(EVERY_KEY).expect("a configuration");
    let seconds = Duration::from_secs;
    let listener = Listener {
        address: "[::1]:0".parse().expect("an address"),
        max_connections: 1,
        max_header_bytes: 16 << 10,
        max_headers: 2,
        max_streams: 3,
        header_timeout: seconds(1),
        write_timeout: seconds(2),
        keep_alive: false,
        grace: seconds(3),
        max_requests: 4,
        response_memory: 1 << 30,
    };
    assert_eq!(config.listener, listener);
    assert_eq!((config.admin, config.compile_timeout), ("127.0.0.1:1".parse().ok(), seconds(300)));
    let guest = Guest {
        name: None,
        module: PathBuf::from("dir/m.wasm"),
        kind: Kind::Httpwasm,
        engine: Some("wasmtime".to_owned()),
        config: GuestConfig::Bytes(Bytes::new()),
        args: Vec::new(),
        env: [("K".to_owned(), "v".to_owned())].into(),
        dirs: vec![
            Dir { host: "dir/d".into(), guest: "/d".to_owned(), writable: true },
            Dir { host: "/e".into(), guest: "/e".to_owned(), writable: false },
        ],
        delimiter: Delimiter::Nul,
        content_type: Some(HeaderValue::from_static("text/html")),
        limits: Limits::default()
            .with_timeout(seconds(5))
            .with_memory(1 << 20)
            .with_fuel(6_000_000)
            .with_stack(7)
            .with_max_input(8)
            .with_max_output(9_000),
        pool: Pool { size: 10, queue: 11, wait: Duration::from_millis(12), reuse: true, idle: seconds(13) },
    };
    let route = Route {
        name: "n".to_owned(),
        path: Pattern::parse("/x/...").expect("a pattern"),
        host: Some("a.example".to_owned()),
        methods: vec![Method::GET, Method::PUT],
        middleware: Vec::new(),
        handler: Handler::Guest(guest),
        show_errors: true,
        body_timeout: seconds(4),
        line: 18,
    };
    assert_eq!(config.routes[0], route);
    let Route { name, handler: Handler::Guest(guest), methods, .. } = &config.routes[1] else { panic!("a guest") };
    let Guest { args, engine, .. } = guest;
    assert_eq!((name.as_str(), &args[..], engine.as_deref()), ("/y", &["-v".to_owned()][..], Some("wasmi")));
    assert!(methods.is_empty());

    let Route { middleware, handler: Handler::Response(response), .. } = &config.routes[2] else {
        panic!("a response")
    };
    let headers = HeaderMap::from_iter([(http::header::LOCATION, HeaderValue::from_static("/x"))]);
    let gone = FixedResponse { status: StatusCode::PERMANENT_REDIRECT, headers, body: "gone".into(), max_body: 9 };
    assert_eq!(*response, gone);
    let auth = Guest {
        name: Some("auth".to_owned()),
        engine: Some("wasmtime".to_owned()),
        config: GuestConfig::Bytes("key".into()),
        limits: Limits::default().with_max_input(1 << 20).with_timeout(seconds(7)),
        ..Guest::new("dir/a/auth.wasm", Kind::HttpWasm)
    };
    let json = r#"{"from":"2026-01-02","n":{"x":1.5},"users":["ann"]}"#;
    let second = Guest {
        name: Some("auth-2".to_owned()),
        engine: Some("wasmi".to_owned()),
        config: GuestConfig::Bytes(json.into()),
        ..Guest::new("dir/auth.wat", Kind::HttpWasm)
    };
    let log = Guest {
        name: Some("log".to_owned()),
        engine: Some("wasmi".to_owned()),
        config: GuestConfig::File("dir/c.json".into()),
        env: [("K".to_owned(), "v".to_owned())].into(),
        pool: Pool { size: 3, reuse: true, ..Pool::default() },
        ..Guest::new("dir/log.wasm", Kind::HttpWasm)
    };
    assert_eq!(*middleware, [auth, second, log]);

    let upstream = Upstream {
        authority: Authority::from_static("a.example:81"),
        timeout: seconds(8),
        max_body: 10,
        max_output: 11,
        pool: Pool { size: 12, queue: 13, wait: seconds(14), ..Pool::default() },
    };
    assert_eq!(config.routes[3].handler, Handler::Upstream(upstream));
    assert_eq!(config.routes[3].middleware[0].pool, Pool { size: 12, ..Pool::default() }, "the size is the upstream's");
    let Handler::Guest(guest) = &config.routes[4].handler else { panic!("a guest") };
    assert_eq!((guest.kind, &guest.config), (Kind::HttpWasm, &GuestConfig::File("dir/m.json".into())));

    let plugin = |name: &str, module: &str, config: &'static str, time: u64| Plugin {
        name: name.to_owned(),
        module: module.into(),
        engine: Some("wasmi".to_owned()),
        config: GuestConfig::Bytes(config.into()),
        weight: 1,
        on_failure: OnFailure::Fail,
        limits: Limits::default().with_max_input(1 << 20).with_timeout(seconds(time)),
    };
    let scheduler = Scheduler {
        plugins: vec![
            Plugin { weight: 3, on_failure: OnFailure::Ignore, ..plugin("zone", "dir/a/zone.wasm", "text", 2) },
            Plugin {
                engine: Some("wasmtime".to_owned()),
                config: GuestConfig::File("dir/z.json".into()),
                limits: Limits::default().with_max_input(1 << 20).with_timeout(seconds(2)).with_fuel(9),
                ..plugin("zone-2", "dir/zone.wasm", "", 2)
            },
            plugin("number:1", "oci://h/number:1", r#"{"reverse":true}"#, 2),
        ],
        http_timeout: seconds(10),
        kept_cycles: 15,
        keep_time: seconds(16),
        max_body: 17,
        max_output: 18,
        pool: Pool { size: 19, queue: 20, wait: seconds(21), idle: seconds(22), ..Pool::default() },
    };
    assert_eq!(scheduler.time(), seconds(8));
    assert_eq!(config.routes[5].handler, Handler::Scheduler(scheduler));
    assert_eq!(config.routes[5].methods, [Method::POST]);

    let files: Vec<_> = config.files().map(|file| file.display().to_string()).collect();
    let plugins = ["dir/a/zone.wasm", "dir/zone.wasm", "dir/z.json", "oci://h/number:1"];
    let modules = ["dir/m.wasm", "dir/m.wasm", "dir/a/auth.wasm", "dir/auth.wat", "dir/log.wasm", "dir/c.json"];
    assert_eq!(files, [&modules[..], &["dir/auth.wasm", "dir/m.wasm", "dir/m.json"], &plugins].concat());
}

#[test]
fn a_reference_is_not_a_path_in_the_directory() {
    for (text, module) in [
        ("m.wasm", "dir/m.wasm"),
        ("./a/b:1", "dir/./a/b:1"),
        ("/m.wasm", "/m.wasm"),
        ("oci://h/web:1", "oci://h/web:1"),
        ("https://h/m.wasm", "https://h/m.wasm"),
        ("mistletoe/web:1", "mistletoe/web:1"),
    ] {
        let config = parse(&format!("[[route]]\npath = '/x'\nmodule = '{text}'\nkind = 'command'\n"));
        let files: Vec<_> = config.expect("a configuration").files().map(Path::to_owned).collect();
        assert_eq!(files, [Path::new(module)], "{text}");
    }
}

#[test]
fn a_problem_has_its_line_and_key() {
    for (text, problem) in [
        ("", "it has no `[[route]]`"),
        ("[server]\nlisen = 'a'\n", "line 2: lisen: unknown field `lisen`, expected one of "),
        ("[server]\nlisten = 'a'\n", "line 2: listen: "),
        ("[server]\nmax_headers = 0\n", "server, max_headers: 0 is not from 1 to 10000"),
        ("[server]\nmax_header_bytes = '1KiB'\n", "server, max_header_bytes: 1024 is not from 8192 to 1048576"),
        ("[server]\nmax_requests = 0\n", "server, max_requests: 0 is not from 1 to 1000000"),
        ("[server]\nresponse_memory = '1'\n", "server, response_memory: 1 is not from 1048576 to 1099511627776"),
        (
            "[server]\nresponse_memory = '63MiB'\nROUTE",
            "line 3: route `/a`, limits.output: 67108864 bytes are more than the 66060288 that a route may have of",
        ),
        (
            "[server]\nresponse_memory = '64MiB'\nROUTEmiddleware = [{ module = 'b', limits = { output = '65MiB' } }]",
            "line 3: route `/a`, middleware `b`, limits.output: 68157440 bytes are more than the 67108864 that a",
        ),
        ("[server]\nheader_timeout = '0s'\n", "server, header_timeout: expected more than 0"),
        ("[server]\nwrite_timeout = '0s'\n", "server, write_timeout: expected more than 0"),
        ("ROUTEbody_timeout = '0s'\n", "line 1: route `/a`, body_timeout: expected more than 0"),
        ("[server]\ngrace = 'unlimited'\n", "line 2: grace: a server needs this limit"),
        ("[server]\ngrace = '25h'\n", "line 2: grace: more than 24h"),
        ("a = [", "line 1: "),
        ("ROUTEpath = '/b'\n", "line 5: path: duplicate key"),
        ("ROUTEmethods = []\n", "line 5: methods: a route without methods"),
        ("ROUTEmethods = ['get']\n", "line 5: methods: `get` is not a method"),
        ("ROUTEmethods = ['CONNECT']\n", "line 5: methods: `CONNECT` has no path"),
        ("ROUTEhost = 'a:1'\n", "line 5: host: expected the name of a host, without a port"),
        ("ROUTEdelimiter = 'ab'\n", "line 5: delimiter: expected `newline`"),
        ("ROUTEcontent_type = 'x'\n", "line 5: content_type: expected a media type"),
        ("ROUTE[route.limits]\ntimeout = 'unlimited'\n", "line 6: timeout: a server needs this limit"),
        ("ROUTE[route.limits]\ntimeout = '0s'\n", "line 1: route `/a`, limits.timeout: expected more than 0"),
        ("ROUTE[route.limits]\nmemory = 'x'\n", "line 6: memory: expected a number of bytes"),
        ("ROUTE[route.pool]\nsize = 0\n", "line 1: route `/a`, pool.size: expected 1 to 4096"),
        ("ROUTE[route.pool]\nsize = 9000000000000000000\n", "the pools have 9000000000000000000 instances"),
        ("ROUTEpool = { idle = '1s' }\n", "line 1: route `/a`, pool.idle: only instances with `pool.reuse` are idle"),
        ("ROUTEargs = ['a']\n", "line 1: route `/a`, args: only routes of the kind `command` have it"),
        ("ROUTEconfig = 'a'\n", "line 1: route `/a`, config: only routes of the kind `http-wasm` have it"),
        ("ROUTEurl = 'http://a'\n", "line 1: route `/a`, url: only routes of the kind `upstream` have it"),
        ("ROUTEmiddleware = [{}]\n", "line 5: middleware: missing field `module`"),
        ("ROUTEmiddleware = [{ module = 'm.wasm', config = 1 }]\n", "line 5: middleware: expected a text or a table"),
        (
            "ROUTEmiddleware = [{ module = 'm.wasm', pool = { size = 0 } }]\n",
            "line 1: route `/a`, middleware `m`, pool.size: expected 1 to 4096",
        ),
        ("[[route]]\npath = '/a'\nkind = 'package'\n", "line 1: route `/a`, module: missing: routes of the kind `p"),
        ("[[route]]\npath = '/a'\nkind = 'upstream'\n", "line 1: route `/a`, url: missing"),
        ("[[route]]\npath = '/a'\nkind = 'response'\n", "line 1: route `/a`, response: missing"),
        ("RESPONSEengine = 'wasmi'\n", "line 1: route `/a`, engine: only routes of the kinds `httpwasm`, `http-"),
        ("RESPONSElimits = { timeout = '1s' }\n", "line 1: route `/a`, limits.timeout: only routes of"),
        ("RESPONSEpool = { size = 1 }\n", "line 1: route `/a`, pool: only routes of"),
        ("[[route]]\npath = '/a'\nkind = 'response'\nresponse = { status = 101 }\n", "line 4: response: expected a st"),
        (
            "[[route]]\npath = '/a'\nkind = 'response'\nresponse = { status = 204, body = 'x' }\n",
            "line 1: route `/a`, response: a response with the status 204 has no body",
        ),
        (
            "[[route]]\npath = '/a'\nkind = 'response'\nresponse = { headers = { Content-Length = '1' } }\n",
            "line 4: response: `Content-Length` is not a header field of a response",
        ),
        ("[[route]]\npath = '/a'\nkind = 'upstream'\nurl = 'https://a'\n", "line 4: url: expected `http://HOST`"),
        ("[[route]]\npath = '/a'\nkind = 'upstream'\nurl = 'http://a/b'\n", "line 4: url: expected `http://HOST`"),
        ("[[route]]\npath = '/a'\nkind = 'upstream'\nurl = 'http://a@b'\n", "line 4: url: expected `http://HOST`"),
        (
            "[[route]]\npath = '/a'\nkind = 'upstream'\nurl = 'http://a'\nlimits = { timeout = '0s' }\n",
            "line 1: route `/a`, limits.timeout: expected more than 0",
        ),
        ("PLUGINS/...'\n", "line 1: route `/s/...`, plugins: missing: routes of the kind `scheduler` need it"),
        ("PLUGINS/...'\nplugins = []\n", "plugins: missing"),
        ("PLUGINS'\nplugins = [{ module = 'm' }]\n", "line 1: route `/s`, path: expected `/PATH/...`"),
        ("PLUGINS/...'\nmodule = 'm'\nplugins = [{ module = 'm' }]\n", "module: only routes of the kinds"),
        ("PLUGINS/...'\nplugins = [{}]\n", "line 4: plugins: missing field `module`"),
        ("PLUGINS/...'\nplugins = [{ module = 'm', weight = 0 }]\n", "plugin `m`, weight: expected more than 0"),
        ("PLUGINS/...'\nplugins = [{ module = 'm', weight = -1 }]\n", "line 4: plugins: invalid value"),
        ("PLUGINS/...'\nplugins = [{ module = 'm', on_failure = 'x' }]\n", "line 4: plugins: unknown variant `x`"),
        (
            "PLUGINS/...'\nplugins = [{ module = 'm', config = 'a', config_file = 'b' }]\n",
            "line 1: route `/s/...`, plugins: `m`, config_file: there is a `config` already",
        ),
        (
            "PLUGINS/...'\nplugins = [{ module = 'm', limits = { body = 1 } }]\n",
            "line 1: route `/s/...`, plugins: `m`, limits.body: it is the route's",
        ),
        (
            "PLUGINS/...'\nplugins = [{ module = 'm', limits = { timeout = '5s' } }]\n",
            "plugin `m`, limits.timeout: 5s is more than a request has: 4s of the `http_timeout` 5s",
        ),
        (
            "PLUGINS/...'\nplugins = [{ module = 'm', limits = { timeout = '0s' } }]\n",
            "plugin `m`, limits.timeout: expected more than 0",
        ),
        ("PLUGINS/...'\nhttp_timeout = '0s'\nplugins = [{ module = 'm' }]\n", "http_timeout: expected more than 0"),
        ("PLUGINS/...'\nkept_cycles = 5000\nplugins = [{ module = 'm' }]\n", "kept_cycles: expected at most 4096"),
        ("PLUGINS/...'\npool = { size = 0 }\nplugins = [{ module = 'm' }]\n", "pool.size: expected 1 to 4096"),
        ("PLUGINS/...'\nlimits = { timeout = '1s' }\nplugins = [{ module = 'm' }]\n", "limits.timeout: only routes"),
        (
            "[server]\nresponse_memory = '63MiB'\nPLUGINS/...'\nplugins = [{ module = 'm' }]\n",
            "line 3: route `/s/...`, limits.output: 67108864 bytes are more than the 66060288 that a route",
        ),
        ("ROUTEkeep_time = '1s'\n", "line 1: route `/a`, keep_time: only routes of the kind `scheduler` have it"),
        ("ROUTEname = ''\n", "line 1: route ``, name: expected 1 to 200 bytes"),
        ("ROUTEenv = { '' = 'a' }\n", "line 1: route `/a`, env: "),
        ("ROUTEROUTE", "line 5: route `/a`, name: another route has this name"),
        ("ROUTEROUTEname = 'b'\n", "line 5: route `b`, path: the route `/a` takes the same requests"),
        ("ROUTEmethods = ['GET']\nROUTEmethods = ['GET', 'PUT']\n", "takes the same requests"),
        ("[[route]]\npath = 'a'\nmodule = 'a'\nkind = 'package'\n", "line 2: path: expected `/PATH`"),
        ("[[route]]\nmodule = 'a'\nkind = 'package'\n", "line 1: missing field `path`"),
        ("[[route]]\npath = '/a'\nmodule = 'a'\nkind = 'cgi'\n", "line 4: kind: unknown variant `cgi`"),
    ] {
        let error = parse(&text.replace("ROUTE", ROUTE).replace("RESPONSE", RESPONSE).replace("PLUGINS", PLUGINS))
            .expect_err(text);
        assert!(error.contains(problem), "{text}\n{error}");
    }
    // All problems of the values at once.
    let text = "[server]\nmax_headers = 0\nmax_streams = 0\nROUTE[route.pool]\nsize = 0\n".replace("ROUTE", ROUTE);
    assert_eq!(parse(&text).expect_err("three problems").lines().count(), 3);
}

/// What the code accepts is valid by the schema, and what the schema can say is no further.
#[test]
fn the_schema_accepts_what_the_code_accepts() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let is_valid = |text: &str| {
        let file: toml::Table = toml::from_str(text).expect("TOML");
        validator.is_valid(&serde_json::to_value(file).expect("JSON"))
    };
    for text in [EVERY_KEY, include_str!("../../tests/data/serve.toml"), ROUTE, RESPONSE] {
        assert!(parse(text).is_ok() && is_valid(text), "{text}");
    }
    for more in [
        "methods = []",
        "methods = ['get']",
        "body_timeout = '25'",
        "limits = { memory = '1KB' }",
        "limits = { timeout = 'unlimited' }",
        "limits = { stack = 4294967296 }",
        "pool = { size = 0 }",
        "middleware = [{}]",
        "plugins = [{}]",
        "kept_cycles = -1",
        "unknown = 1",
    ] {
        let text = format!("{ROUTE}{more}\n");
        assert!(parse(&text).is_err() && !is_valid(&text), "{text}");
    }
    assert!(!is_valid("[server]\n"), "there is a route");
}

/// The schema and the code name the same keys: an unknown key makes the code list those that it knows.
#[test]
fn the_schema_has_every_key() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    for (pointer, text) in [
        ("", "UNKNOWN = 1\n"),
        ("/properties/server", "[server]\nUNKNOWN = 1\n"),
        ("/properties/admin", "[admin]\nUNKNOWN = 1\n"),
        ("/properties/route/items", "[[route]]\nUNKNOWN = 1\n"),
        ("/properties/route/items/properties/response", "[[route]]\nresponse = { UNKNOWN = 1 }\n"),
        ("/properties/route/items/properties/middleware/items", "[[route]]\nmiddleware = [{ UNKNOWN = 1 }]\n"),
        ("/properties/route/items/properties/plugins/items", "[[route]]\nplugins = [{ UNKNOWN = 1 }]\n"),
        ("/$defs/limits", "[[route]]\nlimits = { UNKNOWN = 1 }\n"),
        ("/$defs/pool", "[[route]]\npool = { UNKNOWN = 1 }\n"),
        ("/$defs/dirs/items", "[[route]]\ndirs = [{ UNKNOWN = 1 }]\n"),
    ] {
        let error = parse(text).expect_err(text);
        let known = error.split_once("expected ").expect("a list of keys").1;
        let known: BTreeSet<_> = known.split('`').skip(1).step_by(2).collect();
        let object = schema.pointer(pointer).expect("an object");
        assert_eq!(object["additionalProperties"], false, "{pointer}");
        let properties = object["properties"].as_object().expect("properties");
        assert_eq!(properties.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "{pointer}");
    }
}
