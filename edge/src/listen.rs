//! Sockets: how many there may be, and what each needs that will carry ticks.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum_server::accept::Accept;
use socket2::SockRef;
use tickwire_engine::{
    config::Networks,
    door::limits::{Peer, Place, Places},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{config::Config, metrics::Metrics};

/// Takes sockets up to `sockets_max`, and `per_ip_sockets_max` of one IP, and closes those beyond.
#[derive(Clone)]
pub struct Tuned(Arc<Inner>);

struct Inner {
    places: Places,
    per_ip: Mutex<HashMap<Peer, u32>>,
    per_ip_max: u32,
    trusted: Networks,
    notsent_lowat_bytes: u32,
    user_timeout: Duration,
}

impl Tuned {
    /// By the settings; the sockets are counted in `metrics`.
    pub fn new(config: &Config, metrics: &Metrics) -> Self {
        Self(Arc::new(Inner {
            places: Places::new(config.sockets_max, metrics.sockets.clone()),
            per_ip: Mutex::default(),
            per_ip_max: config.per_ip_sockets_max,
            trusted: config.trusted_proxies.clone(),
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
        let Some(of_ip) = OfIp::take(&self.0, &stream) else {
            return ready(Err(io::Error::other("`per_ip_sockets_max` is reached")));
        };
        let options = SockRef::from(&stream);
        // These fail only on a socket whose peer is gone, which its first use will tell.
        let _ = options.set_tcp_nodelay(true);
        let _ = options.set_tcp_notsent_lowat(self.0.notsent_lowat_bytes);
        let _ = options.set_tcp_user_timeout(Some(self.0.user_timeout));
        let socket = Socket {
            stream,
            _place: place,
            _of_ip: of_ip,
        };
        ready(Ok((socket, service)))
    }
}

/// A socket with its place.
pub struct Socket {
    stream: TcpStream,
    _place: Place,
    _of_ip: OfIp,
}

/// A place among the sockets of an IP; a trusted proxy's takes none.
struct OfIp(Arc<Inner>, Option<Peer>);

impl OfIp {
    fn take(inner: &Arc<Inner>, stream: &TcpStream) -> Option<Self> {
        // Of a socket without a peer any more its first use will tell.
        let client = stream.peer_addr().ok().map(|address| address.ip());
        let client =
            client.filter(|client| inner.per_ip_max > 0 && !inner.trusted.contains(*client));
        let peer = client.map(Peer::of);
        if let Some(peer) = peer {
            let mut per_ip = inner.lock();
            let own = per_ip.entry(peer).or_default();
            if *own == inner.per_ip_max {
                return None;
            }
            *own += 1;
        }
        Some(Self(Arc::clone(inner), peer))
    }
}

impl Drop for OfIp {
    fn drop(&mut self) {
        let Some(peer) = self.1 else { return };
        if let Entry::Occupied(mut own) = self.0.lock().entry(peer) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, u32>> {
        // No panic can happen between two steps of a change.
        self.per_ip.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
