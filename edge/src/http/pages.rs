//! The live demo page, the browser client, and the published protocol, all of them part of the
//! binary.

use std::fs;

use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderName, HeaderValue, Uri, header};

use super::{App, Refusal};
use crate::config::Config;

/// A file that is served as it is.
struct File {
    path: &'static str,
    text: &'static str,
}

/// Names files of `edge/web`, which are served at the same path.
macro_rules! web {
    ($($path:literal),* $(,)?) => {
        [$(File {
            path: concat!("/", $path),
            text: include_str!(concat!("../../web/", $path)),
        }),*]
    };
}

const WEB: [File; 47] = web![
    "demo.css",
    "tickwire.js",
    "tickwire.d.ts",
    "demo/icon.svg",
    "demo/age.js",
    "demo/axis.js",
    "demo/chart.js",
    "demo/clock.js",
    "demo/crosshair.js",
    "demo/decimal.js",
    "demo/format.js",
    "demo/frame.js",
    "demo/keys.js",
    "demo/log.js",
    "demo/main.js",
    "demo/market.js",
    "demo/outage.js",
    "demo/plot.js",
    "demo/points.js",
    "demo/ring.js",
    "demo/row.js",
    "demo/series.js",
    "demo/settings.js",
    "demo/sparkline.js",
    "demo/status.js",
    "demo/surface.js",
    "demo/text.js",
    "demo/theme.js",
    "demo/token.js",
    "demo/view.js",
    "demo/watchlist.js",
    "demo/wording.js",
    "index.html",
    "tickwire/account.js",
    "tickwire/admit.js",
    "tickwire/answer.js",
    "tickwire/backoff.js",
    "tickwire/client.js",
    "tickwire/edge_link.js",
    "tickwire/ending.js",
    "tickwire/event_stream.js",
    "tickwire/events.js",
    "tickwire/group.js",
    "tickwire/selection.js",
    "tickwire/session.js",
    "tickwire/watch.js",
    "tickwire/websocket_link.js",
];
const ASYNCAPI: File = File {
    path: "/asyncapi.yaml",
    text: include_str!("../../../proto/asyncapi.yaml"),
};

/// The routes of the files.
pub fn router() -> Router<App> {
    Router::new()
        .route("/", get(async |app| page(app, "/index.html")))
        .route("/demo.json", get(settings))
        .route("/asyncapi.yaml", get(async |app| serve(app, &ASYNCAPI)))
        .route(
            "/{file}",
            get(async |app, Path(file): Path<String>| page(app, &format!("/{file}"))),
        )
        .route(
            "/{folder}/{file}",
            get(async |app, Path((folder, file)): Path<(String, String)>| {
                page(app, &format!("/{folder}/{file}"))
            }),
        )
}

fn page(app: State<App>, path: &str) -> Response {
    match WEB.iter().find(|file| file.path == path) {
        Some(file) => serve(app, file),
        None => Refusal::not_found().into_response(),
    }
}

fn serve(State(app): State<App>, file: &File) -> Response {
    let kind = match file.path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("yaml") => "application/yaml",
        _ => "text/plain; charset=utf-8",
    };
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        // The files change together, with the binary.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, policy(&app.0.config)),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            HeaderName::from_static("referrer-policy"),
            HeaderValue::from_static("no-referrer"),
        ),
    ];
    (fields, file.text).into_response()
}

/// What the page may load and whom it may talk to (<https://www.w3.org/TR/CSP3/>): this edge, and the
/// engine by WebSocket and for `/v1/admit`.
fn policy(config: &Config) -> HeaderValue {
    let engine = config.page_engine.as_deref().and_then(engine_origins);
    let policy = format!(
        "default-src 'self'; connect-src 'self' {}; base-uri 'none'; object-src 'none'; \
         frame-ancestors 'none'",
        engine.unwrap_or_default()
    );
    HeaderValue::from_str(&policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'self'"))
}

fn engine_origins(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let http = match uri.scheme_str()? {
        "wss" => "https",
        _ => "http",
    };
    Some(format!(
        "{}://{authority} {http}://{authority}",
        uri.scheme_str()?
    ))
}

/// What the demo page begins with.
async fn settings(State(app): State<App>) -> Response {
    let config = &app.0.config;
    let token = config.page_token_file.as_deref().and_then(|path| {
        let read = fs::read_to_string(path);
        read.inspect_err(|error| tracing::warn!(%error, "`page_token_file` cannot be read"))
            .ok()
    });
    let settings = serde_json::json!({
        "engine": config.page_engine,
        "edge": "",
        "token": token.as_deref().map(str::trim),
        "symbols": config.page_symbols.0,
    });
    let fields = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (fields, Json(settings)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_lets_the_page_reach_its_engine() {
        let config = Config {
            page_engine: Some("wss://ticks.example:9001/v1/ws".to_owned()),
            ..Config::default()
        };
        let policy = policy(&config);
        let policy = policy.to_str().unwrap();
        assert!(
            policy.contains(
                "connect-src 'self' wss://ticks.example:9001 https://ticks.example:9001;"
            ),
            "{policy}"
        );
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        for part in ["", "demo", "tickwire"] {
            let Ok(entries) = fs::read_dir(folder.join(part)) else {
                continue;
            };
            for entry in entries {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
                let is_page = path.is_file() && name != "package.json";
                let is_served = WEB.iter().any(|file| file.path[1..] == *name);
                assert!(!is_page || is_served, "{name}");
            }
        }
    }
}
