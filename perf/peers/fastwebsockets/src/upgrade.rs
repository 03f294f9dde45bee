//! A connection from its first byte: hyper takes the request, fastwebsockets the upgrade.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use fastwebsockets::{
    WebSocketError,
    upgrade::{UpgradeFut, upgrade},
};
use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::unconstrained};

use crate::{
    feed::Feed,
    gate::{Gate, Role},
    publisher, subscriber,
};

/// Frames larger than this end a connection, bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What all connections share.
pub struct Service {
    /// Verifies tokens.
    pub gate: Gate,
    /// Where publishers and subscribers meet.
    pub feed: Feed,
    /// Of a subscriber's write buffer; 0 for none.
    pub write_buffer_bytes: usize,
}

/// Serves one connection; what follows its upgrade is a task of its own.
pub async fn serve(stream: TcpStream, service: Arc<Service>) {
    // A failing option means a socket that is gone; the handshake sees it.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| {
        let response = answer(request, &service);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    // A client that breaks off is no event.
    let _ = connection.with_upgrades().await;
}

fn answer(mut request: Request<Incoming>, service: &Arc<Service>) -> Response<Empty<Bytes>> {
    let verdict = service.gate.judge(request.uri().path(), request.headers());
    let role = match verdict {
        Ok(role) => role,
        Err(status) => return refusal(status),
    };
    let Ok((response, upgraded)) = upgrade(&mut request) else {
        return refusal(StatusCode::BAD_REQUEST);
    };
    // As its examples do: a connection has no use for tokio's cooperative budget, since it waits
    // whenever its queue is empty.
    tokio::spawn(unconstrained(run(role, upgraded, Arc::clone(service))));
    response
}

async fn run(
    role: Role,
    upgraded: UpgradeFut,
    service: Arc<Service>,
) -> Result<(), WebSocketError> {
    let mut socket = upgraded.await?;
    socket.set_max_message_size(MESSAGE_BYTES_MAX);
    // Both ends answer these themselves, between two frames of theirs.
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    match role {
        Role::Subscriber => {
            subscriber::serve(socket, &service.feed, service.write_buffer_bytes).await
        }
        Role::Publisher => publisher::serve(socket, &service.feed).await,
    }
}

fn refusal(status: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}
