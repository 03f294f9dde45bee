//! An edge as a whole: its tasks, and how it begins and ends.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum_server::{
    Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use prometheus::Registry;
use tickwire_engine::{
    clock,
    door::{KeyError, Verifier},
    system::raise_open_files,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    admin::{self, Pages},
    config::Config,
    http::App,
    hub::Hub,
    listen::Tuned,
    metrics::Metrics,
    upstream,
};

/// How often everything that changes slowly is looked after.
const HOUSE_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the engine is within reach for the first time.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Open files beside clients' sockets.
const OWN_FILES: u64 = 64;
/// How long sockets may take to close once every stream has ended.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Why an edge cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The keys for tokens.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// An address.
    #[error("cannot listen on `{key}` = {address}: {source}")]
    Listen {
        /// The config key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate or its key.
    #[error("`tls_cert_file` and `tls_key_file`: {0}")]
    Tls(io::Error),
    /// The system denies something else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A running edge. Its tasks end with it.
pub struct Edge {
    config: Arc<Config>,
    app: App,
    hub: Arc<Hub>,
    draining: Arc<AtomicBool>,
    handle: Handle<SocketAddr>,
    listen: SocketAddr,
    admin: SocketAddr,
    tasks: JoinSet<io::Result<()>>,
}

impl Edge {
    /// Starts an edge within a tokio runtime. It listens for clients, and this returns, once an
    /// engine has let it in.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let verifier = Arc::new(Verifier::new(&config.token_rules())?);
        let tls = tls(&config).await?;
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).map_err(io::Error::other)?;
        let hub = Hub::new(Arc::clone(&config), metrics.clone());
        let draining = Arc::new(AtomicBool::new(false));
        let (listener, admin) = bind("admin", config.admin)?;
        let pages = Pages {
            registry,
            hub: Arc::clone(&hub),
            draining: Arc::clone(&draining),
        };
        let app = App::new(
            Arc::clone(&config),
            Arc::clone(&hub),
            metrics.clone(),
            Arc::clone(&verifier),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(admin::serve(listener, pages));
        tasks.spawn(follow(Arc::clone(&config), Arc::clone(&hub)));
        tasks.spawn(keep_house(
            Arc::clone(&config),
            Arc::clone(&hub),
            app.clone(),
            verifier,
        ));
        while !hub.is_connected() {
            sleep(LOOK_EVERY).await;
        }
        let files = raise_open_files().unwrap_or(u64::MAX);
        let wanted = config.sockets_max as u64 + OWN_FILES;
        if files < wanted {
            tracing::warn!(
                "{files} open files are less than `sockets_max` needs: raise the hard limit to \
                 {wanted} (ulimit -Hn, LimitNOFILE= of a systemd unit) or lower `sockets_max`"
            );
        }
        let (listener, listen) = bind("listen", config.listen)?;
        let handle = Handle::new();
        let served = serve(listener, tls, &config, &metrics, &app, handle.clone())?;
        tasks.spawn(served);
        Ok(Self {
            config,
            app,
            hub,
            draining,
            handle,
            listen,
            admin,
            tasks,
        })
    }

    /// Where clients connect to.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Where the admin pages are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Waits for a task to end by itself, which none does but by an error.
    pub async fn failed(&mut self) -> io::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => io::Error::other(error),
            Some(Ok(Ok(()))) | None => io::Error::other("a task ended by itself"),
        }
    }

    /// Sends clients away, each with a time to come back, and waits until they have gone or `drain_s`
    /// is over. Returns whether all had gone.
    pub async fn drain(mut self) -> bool {
        // Relaxed: the flag stands for itself.
        self.draining.store(true, Ordering::Relaxed);
        self.app.drain();
        let within = Duration::from_secs(self.config.drain_s);
        self.hub.drain(within);
        let deadline = Instant::now() + within;
        while self.hub.clients() > 0 && Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
        }
        let complete = self.hub.clients() == 0;
        self.handle.graceful_shutdown(Some(CLOSE_WITHIN));
        while self.handle.connection_count() > 0 && Instant::now() < deadline + CLOSE_WITHIN {
            sleep(LOOK_EVERY).await;
        }
        self.tasks.shutdown().await;
        complete
    }
}

fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| StartError::Listen {
        key,
        address,
        source,
    })
}

async fn tls(config: &Config) -> Result<Option<RustlsConfig>, StartError> {
    let (Some(cert), Some(key)) = (&config.tls_cert_file, &config.tls_key_file) else {
        return Ok(None);
    };
    // Fails only where another has been chosen for the process, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = RustlsConfig::from_pem_file(cert, key).await;
    read.map(Some).map_err(StartError::Tls)
}

/// The server, ready to be run.
fn serve(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    config: &Config,
    metrics: &Metrics,
    app: &App,
    handle: Handle<SocketAddr>,
) -> io::Result<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>> {
    let head_timeout = Duration::from_millis(config.head_timeout_ms);
    let mut server = axum_server::from_tcp(listener)?
        .handle(handle)
        .first_request_timeout(head_timeout);
    let builder = server.http_builder();
    builder
        .http1()
        .header_read_timeout(head_timeout)
        .max_buf_size(config.head_bytes_max);
    builder
        .http2()
        .max_concurrent_streams(config.http2_streams_max)
        .max_header_list_size(config.head_bytes_max as u32)
        .keep_alive_interval(Duration::from_secs(config.stall_s))
        .keep_alive_timeout(head_timeout);
    let service = app
        .router()
        .into_make_service_with_connect_info::<SocketAddr>();
    let tuned = Tuned::new(config, metrics);
    Ok(match tls {
        Some(tls) => {
            let acceptor = RustlsAcceptor::new(tls)
                .handshake_timeout(head_timeout)
                .acceptor(tuned);
            Box::pin(server.acceptor(acceptor).serve(service))
        }
        None => Box::pin(server.acceptor(tuned).serve(service)),
    })
}

async fn follow(config: Arc<Config>, hub: Arc<Hub>) -> io::Result<()> {
    upstream::follow(config, hub).await;
    Ok(())
}

async fn keep_house(
    config: Arc<Config>,
    hub: Arc<Hub>,
    app: App,
    verifier: Arc<Verifier>,
) -> io::Result<()> {
    let mut house = interval(HOUSE_EVERY);
    let mut keys = interval(Duration::from_millis(config.jwt_reload_ms));
    for beat in [&mut house, &mut keys] {
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            _ = house.tick() => {
                hub.keep_house(Instant::now(), clock::wall_s());
                app.age();
            }
            _ = keys.tick() => match verifier.reload_if_changed() {
                Ok(false) => {}
                Ok(true) => tracing::info!("token keys reloaded"),
                Err(error) => {
                    tracing::warn!(%error, "token keys not reloaded, the old ones stay in force");
                }
            },
        }
    }
}
