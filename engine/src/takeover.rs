//! A process passes its listening sockets to the next, so that a deploy refuses nobody.
//!
//! ```text
//!  the next                       the one that serves
//!     ── connects to takeover_socket ──►
//!     ◄── both listeners, SCM_RIGHTS ───      unix(7)
//!  starts
//!     ── one byte: ready ──────────────►  accepts no more, ends handshakes, drains
//!  listens on takeover_socket itself
//! ```
//!
//! Connections wait in the sockets' queue whichever process looks at it; closing a socket that
//! another process has as well resets none of them. Where the next one ends before it is ready, or
//! takes longer than [`READY_WITHIN`], the first goes on as if nothing had happened.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::MetadataExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
};

use crate::listeners::Listeners;

/// How long a successor may take from the sockets to its word that it serves.
pub const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long whoever holds the sockets may take to pass them.
const PASSED_WITHIN: Duration = Duration::from_secs(5);
/// What comes with the sockets, so that a stranger's socket is told from ours.
const GREETING: &[u8; 8] = b"tickwire";
const READY: u8 = 1;

/// The process that served until now, and waits for this one to be ready.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// Takes the sockets over from whoever serves at `path`; `None` where nobody does.
    ///
    /// # Errors
    ///
    /// Where somebody is there and does not pass them.
    pub fn meet(path: &Path) -> io::Result<Option<(Self, Listeners)>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                    _ => Err(error),
                };
            }
        };
        stream.set_read_timeout(Some(PASSED_WITHIN))?;
        let listeners = receive(&stream)?;
        Ok(Some((Self(stream), listeners)))
    }

    /// Tells it that this process serves.
    ///
    /// # Errors
    ///
    /// Where it is gone, or has waited too long and goes on serving.
    pub fn relieve(mut self) -> io::Result<()> {
        self.0.write_all(&[READY])
    }
}

/// The sockets on offer to a successor, until this is dropped.
#[derive(Debug)]
pub struct Offer {
    path: PathBuf,
    /// Of the socket's file; a successor puts one of its own in its place.
    inode: u64,
}

impl Offer {
    /// Offers `listeners` at `path` to processes of the same user, one after another; calls `taken`
    /// once one of them serves, and offers them no more.
    ///
    /// # Errors
    ///
    /// Where the socket or its thread cannot be made.
    pub fn at(
        path: &Path,
        listeners: Listeners,
        taken: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        // Bound beside it and moved there: whoever looks finds the old socket or the new one.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let door = UnixListener::bind(&fresh)?;
        let inode = fs::metadata(&fresh)?.ino();
        fs::rename(&fresh, path)?;
        thread::Builder::new()
            .name("takeover".to_owned())
            .spawn(move || wait_for_successor(&door, &listeners, taken))?;
        Ok(Self {
            path: path.to_owned(),
            inode,
        })
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // Whoever finds it meets a socket that nobody serves, which is as good as none.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn wait_for_successor(door: &UnixListener, listeners: &Listeners, taken: impl FnOnce()) {
    for stream in door.incoming() {
        let outcome = stream.and_then(|stream| pass_on(stream, listeners));
        match outcome {
            Ok(()) => return taken(),
            Err(error) => tracing::warn!(%error, "a successor did not take over"),
        }
    }
}

fn pass_on(mut stream: UnixStream, listeners: &Listeners) -> io::Result<()> {
    if socket_peercred(&stream)?.uid != rustix::process::getuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(READY_WITHIN))?;
    send(&stream, listeners)?;
    let mut word = [0];
    stream.read_exact(&mut word)?;
    if word == [READY] {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn send(stream: &UnixStream, listeners: &Listeners) -> io::Result<()> {
    let sockets = [listeners.clients.as_fd(), listeners.admin.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(
        stream,
        &[IoSlice::new(GREETING)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<Listeners> {
    let mut greeting = [0; GREETING.len()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut greeting)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let sockets = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => sockets.collect(),
        _ => Vec::new(),
    });
    let sockets: Vec<OwnedFd> = sockets.collect();
    let whole = received.bytes == greeting.len() && !received.flags.contains(ReturnFlags::CTRUNC);
    match <[OwnedFd; 2]>::try_from(sockets) {
        Ok([clients, admin]) if whole && greeting == *GREETING => Ok(Listeners {
            clients: TcpListener::from(clients),
            admin: TcpListener::from(admin),
            shared: false,
        }),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what listens there passes no sockets of tickwire",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, sync::mpsc};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn listeners() -> Listeners {
        let any = || TcpListener::bind("127.0.0.1:0").unwrap();
        Listeners {
            clients: any(),
            admin: any(),
            shared: false,
        }
    }

    #[test]
    fn sockets_go_from_process_to_process_with_what_waits_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        let (first, address) = {
            let listeners = listeners();
            let address = listeners.clients.local_addr().unwrap();
            (listeners, address)
        };
        let (tell, told) = mpsc::channel();
        let _offer = Offer::at(&path, first, move || tell.send(()).unwrap()).unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        let (predecessor, taken) = Predecessor::meet(&path).unwrap().unwrap();
        assert!(told.try_recv().is_err(), "not before it is ready");
        predecessor.relieve().unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        let (_, peer) = taken.clients.accept().unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap());
    }

    #[test]
    fn a_successor_that_fails_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        assert!(Predecessor::meet(&path).unwrap().is_none(), "nobody there");
        let (tell, told) = mpsc::channel();
        let offer = Offer::at(&path, listeners(), move || tell.send(()).unwrap()).unwrap();
        drop(Predecessor::meet(&path).unwrap().unwrap());
        let (second, _listeners) = Predecessor::meet(&path).unwrap().unwrap();
        assert!(told.try_recv().is_err());
        second.relieve().unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        drop(offer);
        assert!(!path.exists());
    }

    #[test]
    fn a_successors_own_file_stays_when_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        let first = Offer::at(&path, listeners(), || {}).unwrap();
        let _second = Offer::at(&path, listeners(), || {}).unwrap();
        drop(first);
        assert!(Predecessor::meet(&path).unwrap().is_some());
    }

    #[test]
    fn a_stranger_at_the_path_is_told_from_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        let stranger = UnixListener::bind(&path).unwrap();
        let meeting = {
            let path = path.clone();
            thread::spawn(move || Predecessor::meet(&path).map(|met| met.is_some()))
        };
        stranger.accept().unwrap().0.write_all(b"hello").unwrap();
        let error = meeting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
