//! The pages for clients.
//!
//! ```text
//!  request ─► entry: limits per IP, query, token, entitlement ─► hub.join ─► sse: a stream
//!                  │ 400, 401, 403, 429, 503                              └► poll: one answer
//!                  ▼
//!               refusal: {"code", "message"}, Retry-After
//! ```

mod admit;
mod entry;
mod pages;
mod poll;
mod refusal;
mod session;
mod sse;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, header},
    routing::{get, post},
};
use tickwire_engine::{
    config::Networks,
    door::{
        Verifier,
        limits::{PerIp, Places},
        users::Users,
    },
};
use tower_http::cors::{AllowOrigin, CorsLayer};

use self::refusal::Refusal;
use crate::{config::Config, hub::Hub, metrics::Metrics};

/// What all requests share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    config: Arc<Config>,
    hub: Arc<Hub>,
    metrics: Metrics,
    verifier: Arc<Verifier>,
    per_ip: PerIp,
    /// The same allowance once more, for what is asked of `/v1/admit`.
    questions: PerIp,
    users: Arc<Users>,
    polls: Places,
    last_session: AtomicU64,
    draining: AtomicBool,
}

impl App {
    /// The pages over `hub`, for clients whose tokens `verifier` knows.
    pub fn new(
        config: Arc<Config>,
        hub: Arc<Hub>,
        metrics: Metrics,
        verifier: Arc<Verifier>,
    ) -> Self {
        let streams = Places::new(config.streams_max, metrics.streams.clone());
        let allowance = || {
            PerIp::new(
                config.per_ip_rate,
                config.per_ip_burst,
                config.per_ip_table_max,
            )
        };
        Self(Arc::new(Shared {
            per_ip: allowance(),
            questions: allowance(),
            users: Arc::new(Users::new(streams, config.per_ip_connections_max)),
            polls: Places::new(config.polls_max, metrics.polls.clone()),
            // Without the top bit, so that counting never wraps.
            last_session: AtomicU64::new(rand::random::<u64>() >> 1),
            draining: AtomicBool::new(false),
            config,
            hub,
            metrics,
            verifier,
        }))
    }

    /// From now on new requests for ticks are answered 503.
    pub fn drain(&self) {
        // Relaxed: the flag stands for itself.
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Forgets IPs whose allowance is whole again.
    pub fn age(&self) {
        self.0.per_ip.age();
        self.0.questions.age();
        let remembered = self.0.per_ip.remembered();
        self.0.metrics.per_ip_table.set(remembered as i64);
    }

    /// The routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/sse", get(sse::stream))
            .route("/v1/poll", get(poll::poll))
            .route("/v1/session", post(session::open))
            .route("/v1/admit", get(admit::admit))
            .method_not_allowed_fallback(async || Refusal::method_not_allowed())
            .layer(cors(&self.0.config))
            .merge(pages::router())
            .fallback(async || Refusal::not_found())
            .with_state(self.clone())
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    fn trusted(&self) -> &Networks {
        &self.0.config.trusted_proxies
    }

    fn next_session(&self) -> u64 {
        self.0.last_session.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What pages of other origins may do (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
fn cors(config: &Config) -> CorsLayer {
    let origins = config.allowed_origins.0.iter();
    let origins = origins.filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([header::RETRY_AFTER])
        .allow_credentials(true)
        .max_age(std::time::Duration::from_secs(600))
}
