//! The server with encryption, with a certificate for `localhost`, `registry.example` and 127.0.0.1.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::server::{Fault, Origin, Request, Server, Stream};

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn finish(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        io::Write::flush(self)
    }
}

/// Returns the file with the server's certificate.
pub(crate) fn ca() -> PathBuf {
    data("server.pem")
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Starts a server: see [`Server::start`].
pub(crate) fn start(
    origin: Origin,
    faults: impl Fn(&Request, usize) -> Option<Fault> + Send + Sync + 'static,
) -> Server {
    let config = config();
    Server::with(origin, faults, move |stream| accept(&config, stream))
}

/// Begins the encryption of a connection that a server has accepted.
pub(crate) fn accept(
    config: &Arc<ServerConfig>,
    stream: TcpStream,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// Returns the server's side of encryption.
pub(crate) fn config() -> Arc<ServerConfig> {
    let read = |name| fs::read(data(name)).expect("read");
    let certificate = CertificateDer::from_pem_slice(&read("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    Arc::new(config)
}
