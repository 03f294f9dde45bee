//! The admin listener: metrics, liveness, readiness.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use prometheus::{Encoder as _, Registry, TextEncoder};

use crate::hub::Hub;

/// What the pages are made from.
#[derive(Clone)]
pub struct Pages {
    /// The metrics.
    pub registry: Registry,
    /// Whether an engine is within reach.
    pub hub: Arc<Hub>,
    /// Whether the edge is about to end.
    pub draining: Arc<AtomicBool>,
}

/// Serves the pages for ever.
///
/// # Errors
///
/// Where the listener cannot be used.
pub async fn serve(listener: TcpListener, pages: Pages) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(pages);
    axum::serve(listener, router).await
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&pages.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    // Relaxed: the flag stands for itself.
    if pages.draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if pages.hub.is_connected() {
        (StatusCode::OK, "ready\n")
    } else {
        // Clients are served all the same, from the history and with `stale`.
        (StatusCode::SERVICE_UNAVAILABLE, "no engine within reach\n")
    }
}
