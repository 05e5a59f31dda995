//! A server of one httpwasm plugin, written by hand for one engine: hyper, tokio and the engine's own interface.
//!
//! `by-hand ENGINE fresh|reused MODULE` listens on a free port of the loopback address, and prints it to standard
//! error. Every request goes to the plugin. Guests run on as many blocking threads as there are processors. A thread
//! creates an instance for each request, or keeps the one that it has created.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::convert::Infallible;
use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mistletoe_benches::plugin::{Host, Result, Session as _, wasmer, wasmi, wasmtime};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [engine, instances, module] = arguments.as_slice() else {
        return Err("expected ENGINE fresh|reused MODULE".into());
    };
    let is_reused = match instances.as_str() {
        "fresh" => false,
        "reused" => true,
        other => return Err(format!("instances are fresh or reused, not {other}").into()),
    };
    let wasm = fs::read(module)?;
    match engine.as_str() {
        "wasmtime" => run(wasmtime::Plugin::compile(&wasm)?, is_reused),
        "wasmer" => run(wasmer::Plugin::compile(&wasm)?, is_reused),
        "wasmi" => run(wasmi::Plugin::compile(&wasm)?, is_reused),
        other => Err(format!("no engine {other}").into()),
    }
}

fn run<H: Host>(plugin: H, is_reused: bool) -> Result<()> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(available_parallelism()?.get())
        // Instances stay as long as their threads.
        .thread_keep_alive(Duration::MAX)
        .build()?;
    runtime.block_on(serve(Arc::new(plugin), is_reused))
}

async fn serve<H: Host>(plugin: Arc<H>, is_reused: bool) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let plugin = plugin.clone();
        let service = service_fn(move |request| {
            let plugin = plugin.clone();
            async move { Ok::<_, Infallible>(respond(plugin, is_reused, request).await.unwrap_or_else(failed)) }
        });
        tokio::spawn(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service));
    }
}

async fn respond<H: Host>(
    plugin: Arc<H>,
    is_reused: bool,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>> {
    let input = request.into_body().collect().await?.to_bytes();
    let output = spawn_blocking(move || if is_reused { reused(&*plugin, input) } else { fresh(&*plugin, input) });
    let output = output.await??;
    let content_type = match std::str::from_utf8(&output) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    let mut response = Response::new(Full::from(output));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

fn fresh<H: Host>(plugin: &H, input: Bytes) -> Result<Vec<u8>> {
    plugin.session()?.respond(input)
}

fn reused<H: Host>(plugin: &H, input: Bytes) -> Result<Vec<u8>> {
    thread_local! {
        /// The session of this thread. There is one plugin, so that all have the same type.
        static SESSION: RefCell<Option<Box<dyn mistletoe_benches::plugin::Session>>> = const { RefCell::new(None) };
    }
    SESSION.with_borrow_mut(|kept| {
        let mut session = match kept.take() {
            Some(session) => session,
            None => Box::new(plugin.session()?),
        };
        // After an error, the session is not kept.
        let output = session.respond(input)?;
        *kept = Some(session);
        Ok(output)
    })
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> Response<Full<Bytes>> {
    eprintln!("{error}");
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
