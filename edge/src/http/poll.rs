//! `GET /v1/poll`: one answer, at once or as soon as there is something new.

use std::{future::poll_fn, task::Poll, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use tickwire_proto::upgrade::{EdgeQuery, Page};
use tokio::time::{sleep, timeout};

use super::{App, Refusal, entry::Asked};
use crate::hub::{Collected, Collector, Request};

/// How long a first answer waits for snapshots of what the edge does not follow yet.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked at whether they have come.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Answers `{"cursor":"…","ticks":[…],"more":false}`.
pub async fn poll(State(app): State<App>, asked: Asked) -> Response {
    let answer = match asked.admit(&app) {
        Ok(()) => answer(&app, &asked).await,
        Err(refusal) => Err(refusal),
    };
    match answer {
        Ok(collected) => {
            app.0.metrics.answered("poll", "ok");
            app.0.metrics.delivered_ticks.inc_by(collected.count);
            respond(&collected)
        }
        Err(refusal) => {
            app.0.metrics.answered("poll", refusal.code);
            refusal.into_response()
        }
    }
}

async fn answer(app: &App, asked: &Asked) -> Result<Collected, Refusal> {
    let (query, grant) = asked.read(app, Page::Poll)?;
    let Some(_place) = app.0.polls.take() else {
        return Err(Refusal::at_capacity());
    };
    let EdgeQuery {
        subscribe,
        cursor,
        wait_s,
    } = query;
    let request = Request {
        subscribe,
        cursor,
        grant,
        session: app.next_session(),
        is_poll: true,
        socket: None,
    };
    let collector = match app.0.hub.unpark(&request) {
        Some(collector) => collector,
        None => Collector::new(app.0.hub.join(&request)?),
    };
    if cursor.is_none() {
        // Whether all has come or not: it is answered now.
        let _ = timeout(BEGIN_WITHIN, complete(&collector)).await;
    } else {
        let ready = poll_fn(|context| {
            if collector.is_ready(context.waker()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        // An answer without ticks is one as well.
        let _ = timeout(Duration::from_secs(wait_s.into()), ready).await;
    }
    Ok(collector.collect())
}

async fn complete(collector: &Collector) {
    while !collector.is_complete() {
        sleep(LOOK_EVERY).await;
    }
}

fn respond(collected: &Collected) -> Response {
    let Collected {
        cursor,
        ticks,
        more,
        ..
    } = collected;
    let mut body = format!("{{\"cursor\":\"{cursor}\",\"ticks\":[").into_bytes();
    body.extend_from_slice(ticks);
    body.extend_from_slice(format!("],\"more\":{more}}}").as_bytes());
    let fields = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (fields, body).into_response()
}
