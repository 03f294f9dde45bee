//! `GET /v1/sse`: Server-Sent Events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::Frame;
use prometheus::IntCounter;
use tickwire_engine::door::ConnectionSlot;
use tickwire_proto::upgrade::{EdgeQuery, Page};
use tokio::time::{Sleep, sleep_until};

use super::{App, Refusal, entry::Asked};
use crate::hub::{
    Client, Request,
    outbox::{Enough, Taken},
};

/// Answers with a stream that lasts as long as the client, its token and the edge do.
pub async fn stream(State(app): State<App>, asked: Asked) -> Response {
    match asked.admit(&app).and_then(|()| open(&app, &asked)) {
        Ok(stream) => {
            app.0.metrics.answered("sse", "ok");
            let fields = [
                (
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("text/event-stream"),
                ),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                // nginx would gather the stream.
                (
                    header::HeaderName::from_static("x-accel-buffering"),
                    HeaderValue::from_static("no"),
                ),
            ];
            (fields, Body::new(stream)).into_response()
        }
        Err(refusal) => {
            app.0.metrics.answered("sse", refusal.code);
            refusal.into_response()
        }
    }
}

fn open(app: &App, asked: &Asked) -> Result<Stream, Refusal> {
    let (query, grant) = asked.read(app, Page::Sse)?;
    let EdgeQuery {
        subscribe, cursor, ..
    } = query;
    let users = &app.0.users;
    if !asked.has_room(app) {
        return Err(Refusal::too_many_connections());
    }
    let session = app.next_session();
    let (sub, most) = (grant.sub.clone(), grant.max_connections);
    let slot = users.enter(&sub, session, asked.client);
    let slot = slot.ok_or_else(Refusal::at_capacity)?;
    let client = app.0.hub.join(&Request {
        subscribe,
        cursor,
        grant,
        session,
        is_poll: false,
        socket: asked.socket.clone(),
    })?;
    let excess = most.map_or_else(Vec::new, |most| users.strike_excess(&sub, most));
    for session in excess {
        app.0.hub.replace(session);
    }
    let config = &app.0.config;
    let retry_ms = rand::random_range(config.retry_ms..=2 * config.retry_ms);
    let heartbeat = Duration::from_millis(config.heartbeat_ms);
    Ok(Stream {
        client,
        _slot: slot,
        delivered: app.0.metrics.delivered_ticks.clone(),
        first: Some(format!("retry: {retry_ms}\n\n").into_bytes()),
        bytes_max: config.send_bytes_max,
        heartbeat,
        written: Instant::now(),
        alarm: Box::pin(sleep_until((Instant::now() + heartbeat).into())),
    })
}

/// One client's stream: what its outbox has, and a comment when that is nothing for a while.
struct Stream {
    client: Client,
    _slot: ConnectionSlot,
    delivered: IntCounter,
    first: Option<Vec<u8>>,
    bytes_max: usize,
    heartbeat: Duration,
    written: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Stream {
    /// What there is to write now; `None` where nothing is, and the alarm says until when.
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut text = self.first.take().unwrap_or_default();
        loop {
            let now = Instant::now();
            let bytes_max = self.bytes_max;
            let taken = self
                .client
                .outbox()
                .take(now, Some(context.waker()), |item| {
                    item.write_sse(&mut text);
                    if text.len() < bytes_max {
                        Enough::No
                    } else {
                        Enough::Yes
                    }
                });
            if let Taken::Some(ticks) = taken {
                self.delivered.inc_by(ticks);
            }
            if !text.is_empty() {
                self.written = now;
                return Poll::Ready(Some(text.into()));
            }
            match taken {
                Taken::Some(_) => {}
                Taken::Behind => self.client.fetch(),
                Taken::End => return Poll::Ready(None),
                Taken::Nothing(due) => {
                    let silent = self.written + self.heartbeat;
                    if now >= silent {
                        self.written = now;
                        return Poll::Ready(Some(Bytes::from_static(b":\n\n")));
                    }
                    let wake = due.map_or(silent, |due| due.min(silent));
                    // Set anew only where it rings too late, or has rung: most wakes are ticks.
                    let is_late = self.alarm.deadline() > wake.into();
                    if is_late || self.alarm.is_elapsed() {
                        self.alarm.as_mut().reset(wake.into());
                    }
                    if self.alarm.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.next(context)
            .map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}
