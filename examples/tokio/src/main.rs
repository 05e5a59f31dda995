//! A server on tokio: each connection sends an input, closes its side, and receives the output.
//!
//! ```sh
//! cargo run -p tokio-host -- examples/packages/namespace.wat wasmi 127.0.0.1:7070
//! echo 'data: {name: web}' | nc -N 127.0.0.1 7070
//! ```

#![forbid(unsafe_code)]

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use mistletoe::{AnyPackage, Pool, backend};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_host::Service;

/// Maximum length of an input, in bytes.
const MAX_INPUT: u64 = 1 << 20;
/// Time limit of one output.
const DEADLINE: Duration = Duration::from_secs(2);
/// Time limit of one connection, including what it sends and receives.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, engine, address] = arguments.as_slice() else {
        bail!("usage: tokio-host PACKAGE ENGINE ADDRESS");
    };
    let package = AnyPackage::new(&backend(engine)?, &wat::parse_file(path)?)?;
    let sessions = available_parallelism().map_or(1, NonZero::get);
    let service = Service::new(Pool::new(&package, sessions).reused(), DEADLINE);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(service, address))
}

async fn serve(service: Service, address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("{address} cannot be listened on"))?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            // Too many open files, for example: the next connection may succeed.
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        let service = service.clone();
        tokio::spawn(async move {
            let answered = timeout(PATIENCE, answer(&service, connection)).await;
            if let Err(error) = answered.context("the connection took too long").flatten() {
                eprintln!("{error:#}");
            }
        });
    }
}

async fn answer(service: &Service, mut connection: TcpStream) -> Result<()> {
    let mut input = String::new();
    (&mut connection).take(MAX_INPUT + 1).read_to_string(&mut input).await.context("the input cannot be read")?;
    ensure!(input.len() as u64 <= MAX_INPUT, "the input is longer than {MAX_INPUT} bytes");
    let answer = service.generate(input).await.context("there is no answer")?;
    connection.write_all(answer.as_bytes()).await.context("the answer cannot be written")
}
