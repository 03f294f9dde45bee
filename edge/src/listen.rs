//! Sockets: how many there may be, and what each needs that will carry ticks.

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum_server::accept::Accept;
use socket2::SockRef;
use tickwire_engine::door::limits::{Place, Places};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{config::Config, metrics::Metrics};

/// Takes sockets up to `sockets_max`, and closes those beyond.
#[derive(Clone)]
pub struct Tuned(Arc<Inner>);

struct Inner {
    places: Places,
    notsent_lowat_bytes: u32,
    user_timeout: Duration,
}

impl Tuned {
    /// By the settings; the sockets are counted in `metrics`.
    pub fn new(config: &Config, metrics: &Metrics) -> Self {
        Self(Arc::new(Inner {
            places: Places::new(config.sockets_max, metrics.sockets.clone()),
            notsent_lowat_bytes: config.notsent_lowat_bytes,
            // A client that reads nothing is told so after `stall_s`, and then cut off.
            user_timeout: Duration::from_secs(config.stall_s.saturating_add(5)),
        }))
    }
}

impl<S> Accept<TcpStream, S> for Tuned {
    type Stream = Socket;
    type Service = S;
    type Future = Ready<io::Result<(Socket, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Some(place) = self.0.places.take() else {
            return ready(Err(io::Error::other("`sockets_max` is reached")));
        };
        let options = SockRef::from(&stream);
        // These fail only on a socket whose peer is gone, which its first use will tell.
        let _ = options.set_tcp_nodelay(true);
        let _ = options.set_tcp_notsent_lowat(self.0.notsent_lowat_bytes);
        let _ = options.set_tcp_user_timeout(Some(self.0.user_timeout));
        let socket = Socket {
            stream,
            _place: place,
        };
        ready(Ok((socket, service)))
    }
}

/// A socket with its place.
pub struct Socket {
    stream: TcpStream,
    _place: Place,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
