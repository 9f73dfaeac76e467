//! Listeners on TCP and on unix sockets.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio_util::either::Either;

use crate::config::Address;
use crate::redirect::Redirected;

/// Connections that may wait to be accepted, as the standard library has it for TCP.
const BACKLOG: u32 = 1024;

/// A listener.
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a socket's file, which goes with it.
    Unix(UnixListener, SocketFile),
}

/// A connection.
pub type Stream = Either<TcpStream, UnixStream>;

/// A connection that can be given up.
pub trait GiveUp {
    /// Whatever was not taken yet is not offered any longer: the kernel keeps nothing of it.
    fn give_up(&self);
}

impl GiveUp for Stream {
    fn give_up(&self) {
        if let Either::Left(stream) = self {
            let _ = stream.set_zero_linger();
        }
    }
}

/// A socket's file, removed when dropped, where it is still the same.
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Listener {
    /// Begins to listen. `mode` is that of a unix socket's file. The file of a socket that nobody listens on any more is
    /// replaced.
    ///
    /// # Errors
    /// The address is taken, or not ours to take.
    pub async fn bind(address: &Address, mode: u32) -> io::Result<(Self, Address)> {
        match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let bound = listener.local_addr()?;
                Ok((Self::Tcp(listener), Address::Tcp(bound)))
            }
            Address::Unix(path) => {
                let (listener, file) = unix(path, mode)?;
                Ok((Self::Unix(listener, file), address.clone()))
            }
        }
    }

    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// The client left already, or descriptors are short; the listener stays.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Tokens leave one by one: do not wait to fill a packet.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(stream), Some(peer)))
            }
            Self::Unix(listener, _) => Ok((Either::Right(listener.accept().await?.0), None)),
        }
    }
}

/// The data listener, and the one for redirected connections where there is one.
pub struct Listeners {
    /// Asked by its own address.
    pub data: Listener,
    /// Asked by the addresses of others.
    pub redirected: Option<TcpListener>,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Its client.
    pub peer: Option<SocketAddr>,
    /// Where it was going, where it came in by the listener for redirected ones.
    pub redirected: Option<Redirected>,
}

impl Listeners {
    /// The next connection of either, and where it comes from.
    ///
    /// # Errors
    /// The client left already, or descriptors are short; the listeners stay.
    pub async fn accept(&self) -> io::Result<(Stream, Origin)> {
        let redirected = async {
            match &self.redirected {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.data.accept() => {
                let (stream, peer) = accepted?;
                Ok((stream, Origin { peer, redirected: None }))
            }
            accepted = redirected => {
                let (stream, peer) = accepted?;
                let _ = stream.set_nodelay(true);
                let redirected = Some(Redirected::of(&stream));
                Ok((Either::Left(stream), Origin { peer: Some(peer), redirected }))
            }
        }
    }
}

fn unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = UnixSocket::new_stream()?;
    if let Err(error) = socket.bind(path) {
        if error.kind() != ErrorKind::AddrInUse {
            return Err(error);
        }
        remove_stale(path)?;
        socket.bind(path)?;
    }
    let file = SocketFile { path: path.to_owned(), inode: fs::symlink_metadata(path)?.ino() };
    // Before it listens: nobody connects whom the mode keeps out.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((socket.listen(BACKLOG)?, file))
}

/// Removes a socket's file that a process left behind; never another file, never one that is listened on.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is in its place"));
    }
    match Probe::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(target: "plimsoll", %error, path = %self.path.display(), "the socket's file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bind(path: &Path) -> io::Result<Listener> {
        Ok(Listener::bind(&Address::Unix(path.to_owned()), 0o600).await?.0)
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data.sock");
        let listener = bind(&path).await.expect("it listens");
        assert_eq!(fs::metadata(&path).expect("its file").permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path).await.err().expect("taken").kind(), ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_process_left_behind_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data.sock");
        // The standard library's listener leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("it listens"));
        assert!(path.exists());
        let listener = bind(&path).await.expect("replaced");
        // Somebody else put another in its place meanwhile: that one stays.
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "text").expect("written");
        drop(listener);
        assert_eq!(bind(&path).await.err().expect("no socket").kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).expect("it stays"), "text");
    }
}
