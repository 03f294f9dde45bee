//! `GET /v1/admit`: what `/v1/sse` and `/v1/poll` would answer now.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use tickwire_engine::door::admit::{Why, body};
use tickwire_proto::upgrade::Page;

use super::{App, Refusal, entry::Asked};

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
    // The allowance is looked at and given back: asking spends nothing.
    asked.admit(app)?;
    if let Some(client) = asked.client {
        app.0.per_ip.give_back(client);
    }
    let (query, grant) = asked.read(app, Page::Poll)?;
    app.0.hub.would_take(&query.subscribe, &grant)?;
    let has_room = asked
        .client
        .is_none_or(|client| app.0.users.has_room_for(client));
    if has_room && app.0.users.has_room() {
        Ok(())
    } else {
        Err(Refusal::at_capacity())
    }
}
