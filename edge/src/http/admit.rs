//! `GET /v1/admit`: what `/v1/sse` and `/v1/poll` would answer now.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use tickwire_engine::door::admit::{Why, body};
use tickwire_proto::upgrade::Page;

use super::{
    App, Refusal,
    entry::{Asked, verify},
};

/// Answers 200 whatever the verdict is.
pub async fn admit(State(app): State<App>, asked: Asked) -> Response {
    let refusal = verdict(&app, &asked).err();
    app.0.metrics.answered("admit", "ok");
    let why = refusal.as_ref().map(|refusal| Why {
        status: refusal.status.as_u16(),
        code: refusal.code,
        message: &refusal.message,
        retry_after_ms: refusal.retry_after_s.map(|seconds| seconds * 1_000),
    });
    let fields = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (fields, body(why)).into_response()
}

fn verdict(app: &App, asked: &Asked) -> Result<(), Refusal> {
    // Questions have an allowance of their own. That of requests is looked at and given back, unless
    // too much is asked.
    asked.spend(&app.0.questions)?;
    asked.admit(app)?;
    if let Some(client) = asked.client {
        app.0.per_ip.give_back(client);
    }
    // Without a query it is about the token alone, as on the engine.
    let query = asked.uri.query().unwrap_or_default();
    let query = (!query.is_empty()).then(|| asked.query(Page::Poll));
    let query = query.transpose()?;
    let token = asked.bearer()?.ok_or_else(Refusal::no_token)?;
    let grant = verify(app, token)?;
    let subscribe = query.as_ref().map(|query| &query.subscribe);
    app.0.hub.would_take(subscribe, &grant)?;
    if !asked.has_room(app) {
        Err(Refusal::too_many_connections())
    } else if app.0.users.has_room() && app.0.polls.any_left() {
        Ok(())
    } else {
        Err(Refusal::at_capacity())
    }
}
