//! Connections: root certificates, proxies and timeouts.

use std::env;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Proxy, ProxyProtocol};

use super::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::reference::Url;

/// Maximum length of a file with certificates, in bytes.
const MAX_CERTIFICATES: u64 = 4 << 20;
/// Variables that name a proxy. The first one that is set counts, as for ureq.
const PROXIES: [&str; 6] = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
/// Variables that list hosts without a proxy. Again the first one counts.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

impl Client {
    /// Returns what connects to hosts. The certificates are read when the first connection needs them.
    pub(super) fn agent(&self, url: &Url) -> Result<Agent> {
        let mut agents = self.shared.agents.lock().unwrap_or_else(PoisonError::into_inner);
        // The connection to the proxy may be encrypted, and the one through it not.
        let is_encrypted = url.is_secure()
            || !url.host().is_loopback()
                && Proxy::try_from_env().is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        if let Some(agent) = agents.get(&is_encrypted) {
            return Ok(agent.clone());
        }
        let roots = if is_encrypted { self.roots()? } else { Vec::new() };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let timeout = Some(self.read_timeout);
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("mistletoe-registry/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout)
            .build();
        let agent = config.new_agent();
        agents.insert(is_encrypted, agent.clone());
        Ok(agent)
    }

    /// Returns the system's root certificates, and those of the file.
    fn roots(&self) -> Result<Vec<Certificate<'static>>> {
        let mut roots = Vec::new();
        if let Some(file) = &self.ca {
            roots.extend(read(file)?);
        }
        let system = rustls_native_certs::load_native_certs();
        roots.extend(system.certs.iter().map(|der| Certificate::from_der(der).to_owned()));
        if roots.is_empty() {
            let problem = "the system has none; `--ca` and SSL_CERT_FILE name a file".to_owned();
            let kind = ErrorKind::Certificates { problem };
            return Err(match system.errors.into_iter().next() {
                Some(error) => Error::with_source("TLS", kind, error),
                None => Error::new("TLS", kind),
            });
        }
        Ok(roots)
    }
}

/// Refuses a proxy that cannot be used, unless the host needs none. ureq would connect without it.
pub(super) fn check_proxy(url: &Url) -> Result<()> {
    let is_set = |name: &&&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let Some(name) = PROXIES.iter().find(is_set) else { return Ok(()) };
    // The value may have a password in it.
    match env::var(name).ok().and_then(|value| Proxy::new(&value).ok()) {
        None if !is_exempt(url) => Err(Error::new(name, ErrorKind::Proxy)),
        _ => Ok(()),
    }
}

/// Returns whether `NO_PROXY` exempts a host, by ureq's own comparison: that of a proxy which is not connected to.
fn is_exempt(url: &Url) -> bool {
    let Some(list) = NO_PROXY.iter().find_map(|name| env::var(name).ok()) else { return false };
    let proxy = Proxy::builder(ProxyProtocol::Http).host("localhost");
    let proxy = list.split(',').fold(proxy, |proxy, entry| proxy.no_proxy(entry)).build();
    url.as_str().parse().is_ok_and(|url| proxy.is_ok_and(|proxy| proxy.is_no_proxy(&url)))
}

/// Reads the certificates of a PEM file. It has at least one.
fn read(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let failed = |problem: String| Error::new(file.display(), ErrorKind::Certificates { problem });
    let mut pem = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_CERTIFICATES + 1).read_to_end(&mut pem));
    read.map_err(|error| failed(error.to_string()))?;
    if pem.len() as u64 > MAX_CERTIFICATES {
        return Err(failed(format!("the file is longer than {} MiB", MAX_CERTIFICATES >> 20)));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| failed(crate::shown(error)))?;
    if certificates.is_empty() {
        return Err(failed("the file has no certificate in the PEM format".to_owned()));
    }
    Ok(certificates.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}
