//! The server: the service on a listener, until it is told to stop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::admin;
use crate::body::Body;
use crate::config::{Config, Listener};
use crate::connection::{self, Open};
use crate::service::Service;

/// Maximum number of connections of administrators.
const ADMINISTRATORS: usize = 64;
/// How long to wait after a connection could not be accepted: there may be too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// Interval at which idle instances are looked for. tokio ends blocking threads that are idle for 10 seconds: this keeps
/// one of them, but not two that take turns.
const PRUNE: Duration = Duration::from_secs(8);

/// A [`Service`] on a listener, and a second listener for health, metrics and a status page.
pub struct Server {
    service: Service,
    listener: TcpListener,
    address: SocketAddr,
    settings: Arc<Listener>,
    admin: Option<(TcpListener, SocketAddr)>,
}

impl Server {
    /// Listens on the addresses of a configuration. Connections wait until the server runs.
    ///
    /// # Errors
    ///
    /// The errors of listening, with the address, and of starting a thread.
    pub async fn bind(config: &Config, service: Service) -> io::Result<Self> {
        // tokio panics if the system does not give it a first blocking thread. `prune` keeps that thread.
        let _ = thread::Builder::new().spawn(|| ())?.join();
        let (listener, address) = listen(config.listener.address).await?;
        let admin = match config.admin {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        Ok(Self { service, listener, address, settings: Arc::new(config.listener.clone()), admin })
    }

    /// Returns the address that the server listens on, with the port that it has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of the administration's listener.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// Returns the service.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Serves until `stop` is ready. Then it stops listening, lets requests end within the grace time, and cancels the
    /// others.
    ///
    /// Dropping the future ends all connections at once, and cancels their guests.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { service, listener, settings, admin, .. } = self;
        let is_ready = Arc::new(AtomicBool::new(true));
        let mut administration = JoinSet::new();
        if let Some((listener, _)) = admin {
            administration.spawn(administrate(listener, service.clone(), is_ready.clone()));
        }
        administration.spawn(prune(service.clone()));
        let (stopping, _) = watch::channel(());
        let mut connections = JoinSet::new();
        let serving = async {
            let builder = Arc::new(connection::builder(&settings));
            let permits = Arc::new(Semaphore::new(settings.max_connections));
            loop {
                // Nobody closes the semaphore.
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let (stream, address) = accept(&listener).await;
                let open = Open::new(service.numbers());
                let (service, refused) = (service.clone(), service.clone());
                let respond = move |request: Request<Incoming>| service.respond(request.map(Body::new), Some(address));
                let connection =
                    connection::serve(builder.clone(), stream, settings.clone(), stopping.subscribe(), respond);
                connections.spawn(async move {
                    if let Err(failure) = connection.await {
                        refused.refused(address, &failure);
                    }
                    drop((open, permit));
                });
                // Forget those that have ended.
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = serving => {}
            () = stop => {}
        }
        is_ready.store(false, Ordering::Relaxed);
        drop(listener);
        // Whatever is left then is cancelled by dropping it.
        stopping.send_replace(());
        let _ = timeout(settings.grace, stopping.closed()).await;
        connections.shutdown().await;
        administration.shutdown().await;
    }
}

/// Closes idle instances until it is dropped.
///
/// This keeps one of tokio's blocking threads, on which names of upstreams are looked up where the system gives no more.
async fn prune(service: Service) {
    loop {
        let service = service.clone();
        // Freeing memory can take long. It fails only while the runtime shuts down.
        let _ = spawn_blocking(move || service.prune(Instant::now())).await;
        sleep(PRUNE).await;
    }
}

/// Serves administrators until it is dropped.
async fn administrate(listener: TcpListener, service: Service, is_ready: Arc<AtomicBool>) {
    let settings = Arc::new(Listener::default());
    let builder = Arc::new(connection::builder(&settings));
    let permits = Arc::new(Semaphore::new(ADMINISTRATORS));
    // It ends with the server.
    let (stopping, _) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, _) = accept(&listener).await;
        let (service, is_ready) = (service.clone(), is_ready.clone());
        let respond = move |request: Request<Incoming>| {
            std::future::ready(admin::respond(&service, is_ready.load(Ordering::Relaxed), &request))
        };
        let connection = connection::serve(builder.clone(), stream, settings.clone(), stopping.subscribe(), respond);
        connections.spawn(async move {
            // Nothing that an administrator sends is recorded.
            let _ = connection.await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let bind = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bind.await.map_err(|error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}
