//! The two sockets that an engine listens on: bound here, or brought by whoever started the process.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use listenfd::ListenFd;

use crate::{config::Config, engine::StartError};

/// A burst of reconnects waits in the kernel's queue; `net.core.somaxconn` caps this.
pub const QUEUE_MAX: u64 = 4_096;

/// Where an engine is reached.
#[derive(Debug)]
pub struct Listeners {
    /// For `/v1/ws` and `/v1/publish`.
    pub clients: TcpListener,
    /// For `/metrics`, `/healthz` and `/readyz`.
    pub admin: TcpListener,
    /// Whether another process listens on `clients` as well, or will: then nobody need be refused
    /// when this engine ends.
    pub shared: bool,
}

impl Listeners {
    /// Binds `listen` and `admin`.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`] where an address cannot be had.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            clients: bind("listen", config.listen)?,
            admin: bind("admin", config.admin)?,
            shared: false,
        })
    }

    /// Takes the sockets that systemd passes (`LISTEN_FDS`, `sd_listen_fds(3)`): the first in place of
    /// `listen`, the second, if there is one, in place of `admin`. Without them as
    /// [`Listeners::bind`].
    ///
    /// # Errors
    ///
    /// Where what was passed is no listening TCP socket, or an address cannot be had.
    pub fn from_environment(config: &Config) -> Result<Self, StartError> {
        let mut passed = ListenFd::from_env();
        let mut take = |place| passed.take_tcp_listener(place).map_err(StartError::Passed);
        let (clients, admin) = (take(0)?, take(1)?);
        let shared = clients.is_some();
        Ok(Self {
            clients: clients.map_or_else(|| bind("listen", config.listen), Ok)?,
            admin: admin.map_or_else(|| bind("admin", config.admin), Ok)?,
            shared,
        })
    }

    /// The same sockets once more.
    ///
    /// # Errors
    ///
    /// Where no descriptors are left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            clients: self.clients.try_clone()?,
            admin: self.admin.try_clone()?,
            shared: self.shared,
        })
    }
}

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || -> io::Result<TcpListener> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(QUEUE_MAX as i32)?;
        Ok(socket.into())
    };
    bind().map_err(|source| StartError::Listen {
        key,
        address,
        source,
    })
}
