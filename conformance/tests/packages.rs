//! The example packages, built by real toolchains, on every backend. Every backend has to produce the expected bytes.
//!
//! Packages larger than 320 KiB are not committed; `cargo xtask packages` builds them. A test whose package is missing
//! is ignored, and its name says so. `--include-ignored` makes it fail.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use mistletoe::documents::yaml::{self, Mapping};
use mistletoe::documents::{MistInput, MistPackage, MistResult};
use mistletoe::protocol::HttpHandler;
use mistletoe::protocol::http_handler::{Features, InMemory, Level};
use mistletoe::wasi::{Access, Wasi, imports};
use mistletoe::{AnyBackend, AnyHandler, AnyPackage, Command, ErrorKind, Handler, Imports, Limits, Middleware};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;
type Test = fn(&AnyBackend, &[u8]) -> Result<()>;

const PACKAGES: &[(&str, Test)] = &[
    ("namespace-c", namespace),
    ("namespace-wasi-c", namespace),
    ("namespace-rust", namespace),
    ("namespace-sdk", namespace_sdk),
    ("namespace-bind", namespace_bind),
    ("namespace-go", namespace),
    ("namespace-zig", |backend, wasm| sdk(backend, wasm, "namespace-zig", None)),
    ("namespace-assemblyscript", |backend, wasm| {
        too_long(backend, wasm)?;
        sdk(backend, wasm, "namespace-assemblyscript", Some(("assembly/index.ts", "throw new Error")))
    }),
    ("namespace-sdk-c", |backend, wasm| {
        sdk(backend, wasm, "namespace-sdk-c", Some(("namespace.c", "mistletoe_panic(")))
    }),
    ("namespace-sdk-go", |backend, wasm| sdk(backend, wasm, "namespace-sdk-go", Some(("main.go", "panic(")))),
    ("command-c", command),
    ("command-go", command),
    ("cgi-c", cgi),
    ("httpwasm-c", httpwasm),
    ("httpwasm-direct-c", httpwasm_direct),
    ("httpwasm-go", httpwasm),
    ("httpwasm-sdk-go", httpwasm_direct),
    ("httpwasm-sdk", httpwasm_sdk),
    ("httpwasm-direct-sdk", httpwasm_direct_sdk),
    ("echo-rust", echo),
    ("echo-sdk", echo_sdk),
    ("http-handler-c", http_handler),
    ("hello-c", hello),
    ("hello-sdk-go", hello),
    ("cgi-go", cgi_go),
    ("auth-sdk", |backend, wasm| auth(backend, wasm, "auth_sdk: ")),
    ("auth-http-wasm-go", |backend, wasm| auth(backend, wasm, "")),
    ("rate-limit-sdk-c", |backend, wasm| {
        fast_rate(backend, wasm)?;
        rate_limit(backend, wasm)
    }),
    ("rate-limit-http-wasm-go", rate_limit),
    ("strip-prefix-sdk-go", strip_prefix),
];

/// Packages that a backend cannot run, and the expected error.
const KNOWN: &[(&str, &str, &str)] = &[
    // Winch does not compile `externref`, and wasm-bindgen adds a table of it to every module.
    ("namespace-bind", "wasmtime-winch", "`wasmtime-winch` does not support"),
];

fn main() -> Result<ExitCode> {
    let mut trials = Vec::new();
    for &(name, test) in PACKAGES {
        let path = find(name);
        for info in mistletoe::backends() {
            let backend = info.name();
            let what = if path.is_some() { "" } else { " (not built: run `cargo xtask packages`)" };
            let found = path.clone();
            let run = move || {
                let path = found.ok_or("it was not built: run `cargo xtask packages`")?;
                let run = || test(&mistletoe::backend(backend)?, &fs::read(&path)?);
                run().map_err(|error| Failed::from(error.to_string()))
            };
            let known = KNOWN.iter().find(|known| known.0 == name && known.1 == backend);
            let run = move || match (run(), known) {
                (result, None) => result,
                (Err(error), Some((_, _, reason))) if error.message().is_some_and(|m| m.contains(reason)) => Ok(()),
                (Err(error), Some(_)) => Err(error),
                (Ok(()), Some(_)) => Err(Failed::from("it passes, but is listed as known to fail")),
            };
            trials.push(Trial::test(format!("{name}::{backend}{what}"), run).with_ignored_flag(path.is_none()));
        }
    }
    Ok(libtest_mimic::run(&Arguments::from_args(), trials).exit_code())
}

/// Returns the path of an example's module: the committed one, or else the built one.
fn find(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let folders = [root.join("examples/packages"), root.join("target/packages")];
    folders.into_iter().map(|folder| folder.join(format!("{name}.wasm"))).find(|path| path.is_file())
}

fn expect(found: &str, expected: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("expected\n{expected}\nfound\n{found}").into())
}

/// Returns the output of the namespace packages for one of their inputs.
fn output(yaml: &str) -> String {
    let indented: String = yaml.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n  result: Ok\n  files:\n    namespace.yaml: |\n{indented}"
    )
}

const REFUSAL: &str = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n  result: Err\n  message: \
    'name the namespace in the input, on one line: \"name: my-namespace\" under \"data:\"'\n";

/// Opens a session with the host's default limits and calls it twice.
///
/// The second output comes from a used instance.
fn namespace(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let package = AnyPackage::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?;
    let mut session = package.session()?;
    if !session.info()?.contains("mistletoe.dev/group: examples") {
        return Err("the package does not describe itself".into());
    }
    for name in ["web", "\"quoted\"", "'it''s'"] {
        let expected = output(&format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}"));
        for _ in 0..2 {
            expect(&session.generate(&format!("data:\n  name: {name}\n"))?, &expected)?;
        }
    }
    expect(&session.generate("data:\n  size: 1\n")?, REFUSAL)?;
    match session.fault() {
        Some(fault) => Err(format!("the session ended: {fault}").into()),
        None => Ok(()),
    }
}

/// Strings that YAML's readers and writers have got wrong.
const STRINGS: &[&str] = &[
    "web",
    "it's",
    "\"quoted\"",
    "yes",
    "Null",
    "~",
    "true",
    "1.10",
    "1e3",
    "0o17",
    "2001-01-01",
    "12:30",
    "=",
    "-",
    "- a",
    "a: b",
    "a #b",
    "#",
    "a:",
    "|",
    ">-",
    "%a",
    "@a",
    "&a",
    "*a",
    "!a",
    "[a]",
    "{a}",
    "a, b",
    "\\",
    " a ",
    "\t",
    "a\nb",
    "a\nb\n",
    "a\n\n\nb\n\n\n",
    "\na",
    "  a\nb",
    "a\n  b\n",
    "\n",
    "a\r\nb",
    "\r",
    "\0",
    "\u{7f}\u{80}\u{85}\u{9f}",
    "\u{2028}\u{2029}",
    "\u{feff}a",
    "\u{e9}\u{1f384}\u{fffd}",
];

/// Calls a package that reads its values and writes its files with an SDK.
///
/// The source of its panic, if a panic has a line, is a file of the package and a text in its line.
fn sdk(backend: &AnyBackend, wasm: &[u8], name: &str, source: Option<(&str, &str)>) -> Result<()> {
    let package = AnyPackage::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?;
    let mut session = package.session_with(Wasi::default())?;
    let info = MistPackage::parse(&session.info()?)?;
    expect(&info.name, name)?;
    if info.labels != [("mistletoe.dev/group".into(), "examples".into())] {
        return Err(format!("the labels are {:?}", info.labels).into());
    }

    let input = "data:\n  name: web\n";
    let expected = output("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web");
    for _ in 0..2 {
        expect(&session.generate(input)?, &expected)?;
    }
    // Only a byte order mark at the start of the input is not part of it.
    let expected = session.generate("data:\n  name: \"a\\uFEFFb\"\n")?;
    for start in ["", "\u{feff}"] {
        expect(&session.generate(&format!("{start}data:\n  name: \"a\u{feff}b\"\n"))?, &expected)?;
    }
    for string in STRINGS {
        let input = MistInput::new(string, Mapping::new()).to_yaml();
        let output = session.generate(&input)?;
        let file = match MistResult::parse(&output)? {
            MistResult::Ok { files, .. } => files.into_iter().next().ok_or("no files")?,
            MistResult::Err { message } => return Err(format!("{input}: {message:?}").into()),
        };
        expect(&file.0, "namespace.yaml")?;
        let found = yaml::parse(&file.1)?;
        let metadata = found.as_mapping().and_then(|file| file.get("metadata")?.as_mapping());
        if metadata.and_then(|metadata| metadata.get("name")?.as_str()) != Some(string) {
            return Err(format!("{string:?} became {found:?} in\n{output}").into());
        }
    }

    for (input, part) in [
        ("data:\n  name: ''\n", "the name is empty"),
        ("data:\n  size: 1\n", "the name is empty"),
        ("data:\n  name: [web]\n", "data.name: expected a"),
        ("metadata:\n  name: web\n", "`data`"),
        ("", "`data`"),
    ] {
        let message = failure(&session.generate(input)?)?;
        if !message.contains(part) {
            return Err(format!("the response to {input:?} is {message}").into());
        }
    }
    if let Some(fault) = session.fault() {
        return Err(format!("the session ended: {fault}").into());
    }

    let message = failure(&session.generate("data:\n  name: web\n  panic: on purpose\n")?)?;
    match source {
        None => expect(&message, "panicked: on purpose"),
        Some((file, text)) => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/packages").join(name).join(file);
            let source = fs::read_to_string(path)?;
            let line = 1 + source.lines().position(|line| line.contains(text)).ok_or("the panic is gone")?;
            let file = file.rsplit('/').next().unwrap_or(file);
            expect(&message, &format!("panicked at {file}:{line}: on purpose"))
        }
    }
}

/// An input above the maximum of AssemblyScript's allocator is one that the package cannot allocate.
fn too_long(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let input = String::from_utf8(vec![0; 1 << 30])?;
    let limits = Limits::default().with_max_input(1 << 30);
    let package = AnyPackage::with_imports(backend, wasm, &imports::<Wasi>(), limits)?;
    match package.session_with(Wasi::default())?.generate(&input) {
        Err(error) if matches!(error.kind(), ErrorKind::Allocation { .. }) => Ok(()),
        other => Err(format!("an input that is too long becomes {other:?}").into()),
    }
}

/// Returns the message of a `MistResult` that is an error.
fn failure(output: &str) -> Result<String> {
    match MistResult::parse(output)? {
        MistResult::Err { message } => Ok(message.ok_or("no message")?),
        MistResult::Ok { .. } => Err(format!("no error:\n{output}").into()),
    }
}

/// Built with `mistletoe-guest`, which reads and writes YAML, while the other packages copy a line.
fn namespace_sdk(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    // The interface lets a package have no imports, and this one does not log.
    let package = AnyPackage::new(backend, wasm)?;
    let mut session = package.session()?;
    expect(
        &session.info()?,
        "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata:\n  name: namespace-sdk\n  labels:\n    \
         mistletoe.dev/group: examples\n",
    )?;
    for (input, name) in [("web", "web"), ("'it''s'", "\"it's\""), ("\"1\"", "\"1\""), ("|\n    web\n", "|\n    web")] {
        let expected = output(&format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}"));
        for _ in 0..2 {
            expect(&session.generate(&format!("data:\n  name: {input}\n"))?, &expected)?;
        }
    }
    let refused = |message: &str| {
        format!("apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n  result: Err\n  message: {message}\n")
    };
    expect(&session.generate("data: {}")?, &refused("\"`data`: missing field `name`\""))?;
    let wrong = "\"`data.name`: invalid type: integer `1`, expected a string\"";
    expect(&session.generate("data: {name: 1}")?, &refused(wrong))?;
    let long = format!("data: {{name: {}}}", "x".repeat(64));
    expect(&session.generate(&long)?, &refused("the name is longer than 63 bytes"))?;

    // A panic is an error with its message and its line, and the last output of the session.
    let line = 1 + include_str!("../../examples/packages/namespace-sdk/src/lib.rs")
        .lines()
        .position(|line| line.contains("assert!"))
        .ok_or("the source does not panic")?;
    let output = session.generate("data: {name: web, panic: now}")?;
    let message = format!("panicked at src/lib.rs:{line}:5: on purpose");
    expect(&output, &refused(&format!("\"{message}\"")))?;
    match session.fault() {
        Some(_) => Ok(()),
        None => Err("the panic did not end the session".into()),
    }
}

/// Built with the published `mistletoe-bind`. Freeing an output traps, but the output stays valid.
fn namespace_bind(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let package = AnyPackage::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?;
    if !package.session()?.info()?.contains("mistletoe.dev/group: examples") {
        return Err("the package does not describe itself".into());
    }
    let mut session = package.session()?;
    let input = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput\ndata:\n  name: web\n";
    expect(&session.generate(input)?, &output("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web"))?;
    let again = session.generate(input).err().ok_or("the session did not end")?;
    expect(&again.to_string(), "an earlier failure poisoned the session; open a new one")
}

/// Checks what the header of `command-c/command.c` states.
fn command(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/packages");
    let root = tempfile::tempdir()?;
    let data = root.path().join("data");
    fs::create_dir_all(data.join("notes"))?;
    fs::write(data.join("notes/a.txt"), "")?;
    fs::write(data.join("greeting.txt"), "Hello from the host.\n")?;
    fs::write(root.path().join("secret"), "secret")?;
    let wasi = Wasi::builder()
        .args(["command", "--flag", "two words", ""])
        .env([("LANG", "C"), ("EMPTY", ""), ("GREETING", "hello there"), ("EXIT", "3")])
        .stdin(fs::read(examples.join("command.stdin.txt"))?)
        .dir(&data, "/data", Access::ReadWrite)?
        .build();
    let session = Command::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?.session_with(wasi)?;
    let (code, wasi) = session.run();
    expect(&code?.to_string(), "3")?;
    expect(&String::from_utf8_lossy(wasi.stdout()), &fs::read_to_string(examples.join("command.expected.txt"))?)?;
    expect(&String::from_utf8_lossy(wasi.stderr()), "command: done\n")?;
    expect(&fs::read_to_string(data.join("greeting.txt"))?, "Hello from the host.\n")
}

/// Runs the program as a server does, for two requests.
fn cgi(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let command = Command::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?;
    let posted = "Content-Type: text/plain\n\nPOST /cgi/x?y\n4 bytes of body\n";
    let missing = "Status: 404 Not Found\nContent-Type: text/plain\n\nThere is nothing here.\n";
    for (path, expected) in [("/x", posted), ("/missing", missing)] {
        let variables =
            [("REQUEST_METHOD", "POST"), ("SCRIPT_NAME", "/cgi"), ("PATH_INFO", path), ("QUERY_STRING", "y")];
        let (code, wasi) = command.session_with(Wasi::builder().env(variables).stdin("body").build())?.run();
        expect(&code?.to_string(), "0")?;
        expect(&String::from_utf8_lossy(wasi.stdout()), expected)?;
    }
    Ok(())
}

/// Built with the standard library's `net/http/cgi`, which ends lines of the header with CR and LF.
fn cgi_go(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let command = Command::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?;
    let posted = "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nPOST /cgi/x?y\n4 bytes of body\n";
    let missing = "Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nThere is nothing here.\n";
    for (path, expected) in [("/x", posted), ("/missing", missing)] {
        let variables = [
            ("REQUEST_METHOD", "POST"),
            ("SCRIPT_NAME", "/cgi"),
            ("PATH_INFO", path),
            ("QUERY_STRING", "y"),
            ("CONTENT_LENGTH", "4"),
            ("HTTP_HOST", "a.example"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
        ];
        let (code, wasi) = command.session_with(Wasi::builder().env(variables).stdin("body").build())?.run();
        expect(&code?.to_string(), "0")?;
        expect(&String::from_utf8_lossy(wasi.stdout()), expected)?;
    }
    Ok(())
}

/// Sends requests to one instance, each with an environment of its own.
fn hello(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let handler = Handler::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?;
    let mut session = handler.session_with(Wasi::default())?;
    for (query, body, expected) in [
        ("", "", "hello, world\n"),
        ("name=ann", "", "hello, ann\n"),
        ("nickname=a&name=b%2Fc+%C3%BC&name=d", "", "hello, b/c \u{fc}\n"),
        ("name=", "", "hello, \n"),
        ("names=ann", "", "hello, world\n"),
        ("name=ann", "bob\ncarl", "hello, bob\nhello, carl\n"),
        ("", "\n", "hello, \n"),
    ] {
        *session.state_mut() = Wasi::builder().env([("HTTP_QUERY", query)]).build();
        let output = session.run(body.as_bytes())?;
        expect(&String::from_utf8_lossy(&output.stdout), expected)?;
        expect(&String::from_utf8_lossy(&output.stderr), "")?;
    }
    // A `%` without digits, which languages decode differently, at the end of what the guest may read.
    for query in ["name=%", "name=%4", "name=%4&a", "name=%zz"] {
        *session.state_mut() = Wasi::builder().env([("HTTP_QUERY", query)]).build();
        session.run(b"")?;
    }
    Ok(())
}

/// Sends requests in sequence to one instance.
fn httpwasm(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let handler = Handler::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?;
    let mut session = handler.session_with(Wasi::default())?;
    let requests = [("ann\nbob\n", "hello, ann\nhello, bob\n"), ("", ""), ("last", "hello, last\n")];
    for (request, expected) in requests {
        let output = session.run(request.as_bytes())?;
        expect(&String::from_utf8_lossy(&output.stdout), expected)?;
        expect(&String::from_utf8_lossy(&output.stderr), "")?;
    }
    let output = session.run(b"\n")?;
    expect(&String::from_utf8_lossy(&output.stdout), "")?;
    match output.stderr.is_empty() {
        true => Err("an empty record is no complaint".into()),
        false => Ok(()),
    }
}

/// Tests the second form: the whole input is one record.
fn httpwasm_direct(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let handler = Handler::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?;
    let mut session = handler.session_with(Wasi::default())?;
    for _ in 0..2 {
        expect(&String::from_utf8_lossy(&session.run(b"ann\n")?.stdout), "hello, ann\n")?;
    }
    match session.run(b"")?.stderr.is_empty() {
        true => Err("an empty input is no complaint".into()),
        false => Ok(()),
    }
}

/// Built with `mistletoe-guest`, with the functions of WASI that it calls by itself.
fn httpwasm_sdk(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    httpwasm(backend, wasm)?;
    let handler = Handler::with_imports(backend, wasm, &imports::<Wasi>(), Limits::default())?;
    let wasi = Wasi::builder().env([("GREET", "no"), ("GREETING", "good=morning"), ("GREETINGS", "no")]).build();
    let mut session = handler.session_with(wasi)?;
    for _ in 0..2 {
        let output = session.run(b"ann\nbob")?;
        expect(&String::from_utf8_lossy(&output.stdout), "good=morning, ann\ngood=morning, bob\n")?;
        let log = session.state_mut().take_stderr();
        expect(&String::from_utf8_lossy(&log), "INFO httpwasm_sdk: 2 records\n")?;
    }
    Ok(())
}

/// Tests the second form through `mistletoe-guest`, with an error and a panic.
fn httpwasm_direct_sdk(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    httpwasm_direct(backend, wasm)?;
    let handler = AnyHandler::new(backend, wasm)?;
    let mut session = handler.session()?;
    let output = session.run(b"\xff")?;
    expect(&String::from_utf8_lossy(&output.stdout), "")?;
    expect(&String::from_utf8_lossy(&output.stderr), "the record is not text\n")?;
    if session.run(b"\n").is_ok() {
        return Err("a panic is no response".into());
    }
    let unfinished = session.unfinished();
    let stderr = String::from_utf8_lossy(&unfinished.stderr);
    match stderr.strip_prefix("panicked at src/lib.rs:") {
        Some(rest) if rest.ends_with(": a record has a name\n") => Ok(()),
        _ => Err(format!("the panic is reported as {stderr:?}").into()),
    }
}

/// Sends inputs of several lengths, and returns the fuel of one of 4 KiB that is not the first.
fn echo_fuel(backend: &AnyBackend, wasm: &[u8]) -> Result<u64> {
    let limits = Limits::default().with_fuel(1 << 30);
    let package = AnyPackage::<()>::with_imports(backend, wasm, &Imports::new(), limits)?;
    let mut session = package.session()?;
    session.info()?;
    let text = "0123456789abcdef".repeat(256);
    let mut fuel = 0;
    for input in ["", "x", &text, &text[1..], "", &text, "ü"] {
        expect(&session.generate(input)?, input)?;
        if input.len() == 4096 {
            fuel = session.fuel_used()?.ok_or("no fuel is counted")?;
        }
    }
    Ok(fuel)
}

fn echo(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    echo_fuel(backend, wasm)?;
    Ok(())
}

/// The library costs an output of 4 KiB at most a tenth more than the same package by hand.
fn echo_sdk(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let by_hand = fs::read(find("echo-rust").ok_or("echo-rust was not built: run `cargo xtask packages`")?)?;
    let (fuel, expected) = (echo_fuel(backend, wasm)?, echo_fuel(backend, &by_hand)?);
    match fuel * 10 <= expected * 11 {
        true => Ok(()),
        false => Err(format!("it takes {fuel} fuel, and {expected} by hand").into()),
    }
}

/// Checks that requests without the key are refused, and that those with it go on without it.
fn http_handler(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let (send, log) = std::sync::mpsc::channel();
    let protocol = HttpHandler::default().config("secret").log(Level::Info, move |level, message| {
        // There is no receiver after a failed test.
        let _ = send.send(format!("{level}: {message}"));
    });
    let middleware = Middleware::with_protocol(protocol, backend, wasm, &Imports::<()>::new(), Limits::default())?;
    let mut session = middleware.session()?;
    let request = |keys: &[&str]| {
        let mut exchange = InMemory::new("GET", "/");
        exchange.request.headers = keys.iter().map(|key| ("X-Api-Key".to_owned(), (*key).into())).collect();
        exchange
    };
    for keys in [&[][..], &["other!"], &["secre"], &["secret "], &["secret", "secret"]] {
        let (next, exchange) = session.handle_request(request(keys));
        if next?.is_some() {
            return Err(format!("a request with the keys {keys:?} went on").into());
        }
        expect(&exchange.status.to_string(), "401")?;
        expect(&String::from_utf8_lossy(exchange.response.body()), "a key is required\n")?;
        expect(&log.try_recv()?, "info: refused")?;
    }
    for number in ["1", "2"] {
        let (next, mut exchange) = session.handle_request(request(&["secret"]));
        let next = next?.ok_or("a request with the key was refused")?;
        expect(&format!("{:?}", exchange.request.headers), "[]")?;
        expect(&next.features().to_string(), &Features::BUFFER_RESPONSE.to_string())?;
        exchange.response.set_body("hello");
        let (result, exchange) = session.handle_response(exchange, next, false);
        result?;
        expect(&format!("{:?}", exchange.response.headers), &format!("{:?}", [("x-requests", number.as_bytes())]))?;
        expect(&String::from_utf8_lossy(&exchange.response.into_body()), "hello")?;
    }
    Ok(())
}

/// An instance of middleware, and what it logs.
struct Guest {
    session: mistletoe::MiddlewareSession<AnyBackend, Wasi>,
    log: std::sync::mpsc::Receiver<String>,
}

impl Guest {
    fn new(backend: &AnyBackend, wasm: &[u8], config: &str) -> Result<Self> {
        let (send, log) = std::sync::mpsc::channel();
        let protocol = HttpHandler::default().config(config).log(Level::Debug, move |level, message| {
            // There is no receiver after a failed test.
            let _ = send.send(format!("{level}: {message}"));
        });
        let middleware = Middleware::with_protocol(protocol, backend, wasm, &imports::<Wasi>(), Limits::default())?;
        // With the log, which says what is wrong.
        let session = middleware.session_with(Wasi::default()).map_err(|error| match log.try_recv() {
            Ok(message) => message.into(),
            Err(_) => Box::<dyn Error>::from(error),
        })?;
        Ok(Self { session, log })
    }

    /// Passes a request through the guest to a handler that responds with this header and body.
    fn request(&mut self, exchange: InMemory, header: (&str, &str), body: &str) -> Result<(bool, InMemory)> {
        let (next, mut exchange) = self.session.handle_request(exchange);
        let Some(next) = next? else { return Ok((false, exchange)) };
        exchange.response.headers.push((header.0.to_owned(), header.1.into()));
        exchange.response.set_body(body);
        let (result, exchange) = self.session.handle_response(exchange, next, false);
        result?;
        Ok((true, exchange))
    }
}

/// Returns the values of a header, separated by `|`.
fn values(headers: &[(String, Vec<u8>)], name: &str) -> String {
    let found = headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| String::from_utf8_lossy(value)).collect::<Vec<_>>().join("|")
}

/// Checks that a guest does not start with these configurations, and that the log says why.
fn refuses(backend: &AnyBackend, wasm: &[u8], configs: &[(&str, &str)]) -> Result<()> {
    for (config, problem) in configs {
        match Guest::new(backend, wasm, config) {
            Ok(_) => return Err(format!("{config:?} is accepted").into()),
            Err(error) if error.to_string().starts_with("error: ") && error.to_string().contains(problem) => {}
            Err(error) => return Err(format!("{config:?}: {error}").into()),
        }
    }
    Ok(())
}

/// Sends requests with and without credentials to one instance.
///
/// Lines of its log begin with `target`.
fn auth(backend: &AnyBackend, wasm: &[u8], target: &str) -> Result<()> {
    let mut guest = Guest::new(backend, wasm, "# who may pass\nrealm here\nbearer token\nbasic ann:secret\n")?;
    let request = |credentials: &[&str]| {
        let mut exchange = InMemory::new("GET", "/");
        let headers = credentials.iter().map(|value| ("Authorization".to_owned(), (*value).into()));
        exchange.request.headers = headers.collect();
        exchange
    };
    // `printf ann:secret | base64`
    for credentials in ["Bearer token", "bearer token", "Basic YW5uOnNlY3JldA=="] {
        let (next, exchange) = guest.request(request(&[credentials]), ("a", "b"), "hello")?;
        expect(&format!("{next} {:?}", exchange.request.headers), "true []")?;
        expect(&String::from_utf8_lossy(exchange.response.body()), "hello")?;
    }
    for credentials in [
        &[][..],
        &["Bearer other"],
        &["Bearer token", "Bearer token"],
        &["Bearer token2"],
        &["Basic token"],
        &["Bearer YW5uOnNlY3JldA=="],
        &["token"],
    ] {
        let (next, exchange) = guest.request(request(credentials), ("a", "b"), "hello")?;
        expect(&format!("{credentials:?} {next} {}", exchange.status), &format!("{credentials:?} false 401"))?;
        let challenges = values(&exchange.response.headers, "www-authenticate");
        expect(&challenges, "Bearer realm=\"here\"|Basic realm=\"here\", charset=\"UTF-8\"")?;
        expect(&String::from_utf8_lossy(exchange.response.body()), "credentials are required\n")?;
        expect(&guest.log.try_recv()?, &format!("info: {target}refused a request from 127.0.0.1:0"))?;
    }
    refuses(backend, wasm, &[("", "no credentials"), ("bearer t\nx\n", "line 2"), ("basic ann\n", "USER:PASSWORD")])
}

/// Sends a request from an address, and returns `passed`, or the status and when to try again.
fn send(guest: &mut Guest, address: &str) -> Result<String> {
    let mut exchange = InMemory::new("GET", "/");
    exchange.source_addr = address.to_owned();
    let (next, exchange) = guest.request(exchange, ("a", "b"), "hello")?;
    let retry_after = values(&exchange.response.headers, "retry-after");
    Ok(if next { "passed".to_owned() } else { format!("{} {retry_after}", exchange.status) })
}

/// Sends requests to one instance, whose clock advances by a microsecond with each of them. Go reads the clock for itself,
/// too, so that this is for others.
fn fast_rate(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    // Two tokens at first, and then one every two microseconds. The third request finds the half of the second token and
    // the half that its own microsecond has added.
    let mut guest = Guest::new(backend, wasm, "2 500000/1\n")?;
    for (port, expected) in (1000..).zip(["passed", "passed", "passed", "429 1", "passed", "429 1", "passed"]) {
        expect(&send(&mut guest, &format!("192.0.2.1:{port}"))?, expected)?;
    }
    Ok(())
}

/// Sends requests to one instance, in much less time than it takes to get another token.
fn rate_limit(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let mut guest = Guest::new(backend, wasm, "2 2/3600\n")?;
    for expected in ["passed", "passed", "429 1800", "429 1800"] {
        expect(&send(&mut guest, "192.0.2.1:1")?, expected)?;
    }
    // Each client has a bucket, and none of them takes another's.
    let mut guest = Guest::new(backend, wasm, "1 1/3600")?;
    for i in 0..500 {
        expect(&send(&mut guest, &format!("198.51.{}.{}:1", i / 256, i % 256))?, "passed")?;
    }
    for address in ["198.51.0.7:2", "198.51.1.243:3"] {
        expect(&send(&mut guest, address)?, "429 3600")?;
    }
    // A client of IPv6 has all addresses that begin with the same 64 bits.
    for [address, same] in [
        ["[2001:db8::1]:1", "[2001:DB8:0:0:ffff::2]:2"],
        ["[2001:db8:0:1::1]:1", "[2001:db8:0:1:2:3:4:5]:1"],
        ["[1::2:3:4:5:6]:1", "[1:0:0:2::]:1"],
        ["[::2:3:4:5:6:7]:1", "[0:0:2:3::%eth0]:1"],
        ["[::1]:1", "[::]:1"],
        ["[::ffff:192.0.2.1]:1", "192.0.2.1:2"],
        ["[::ffff:192.0.2.2]:1", "192.0.2.2"],
    ] {
        expect(&send(&mut guest, address)?, "passed")?;
        expect(&send(&mut guest, same)?, "429 3600")?;
    }
    let configs = ["", "1", "1 1", "1 1/", "0 1/1", "1 0/1", "1 1/0", "1 1/86401", "100001 1/1", "1  1/1", "1 1/1x"];
    refuses(backend, wasm, &configs.map(|config| (config, "BURST REQUESTS/SECONDS")))
}

/// Sends requests below prefixes and elsewhere to one instance.
fn strip_prefix(backend: &AnyBackend, wasm: &[u8]) -> Result<()> {
    let mut guest = Guest::new(backend, wasm, r#"{"prefixes": ["/api", "/v1"]}"#)?;
    for (uri, prefix, stripped) in
        [("/api/a%20b?c=d", "/api", "/a%20b?c=d"), ("/v1", "/v1", "/"), ("/api?c", "/api", "/?c")]
    {
        for (location, expected) in [("/login", format!("{prefix}/login")), ("//a.example/", "//a.example/".to_owned())]
        {
            let (next, exchange) = guest.request(InMemory::new("GET", uri), ("Location", location), "hello")?;
            expect(&format!("{next} {}", exchange.uri), &format!("true {stripped}"))?;
            expect(&values(&exchange.request.headers, "x-forwarded-prefix"), prefix)?;
            expect(&values(&exchange.response.headers, "location"), &expected)?;
            expect(&String::from_utf8_lossy(exchange.response.body()), "hello")?;
        }
    }
    for uri in ["/", "/apis", "/x/api", "/api//a.example/", "*"] {
        let (next, exchange) = guest.request(InMemory::new("GET", uri), ("a", "b"), "hello")?;
        expect(&format!("{uri} {next} {}", exchange.status), &format!("{uri} false 404"))?;
        expect(&String::from_utf8_lossy(exchange.response.body()), "no prefix matches\n")?;
    }
    refuses(backend, wasm, &[("", "not JSON"), ("{}", "no prefixes"), (r#"{"prefixes": ["api"]}"#, "\"api\"")])
}
