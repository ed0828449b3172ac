//! The port of one simulated server: open, closed, or a black hole; and the owner of its connections' tasks.

use std::{
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    select,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::sleep,
};

use crate::{
    server::Server,
    session::{Arrival, serve},
};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What is asked of a listener; each is answered when it is done.
#[derive(Debug)]
pub(crate) enum Order {
    /// The port becomes this.
    Port(Port, oneshot::Sender<io::Result<()>>),
    /// All connections end at once, and sessions are numbered from the first again.
    Restart(oneshot::Sender<()>),
}

/// What a port does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// It takes connections.
    Open,
    /// It refuses them.
    Closed,
    /// It does not answer.
    BlackHole,
}

/// The socket behind a port. There is always one, so that nobody else gets the port.
#[derive(Debug)]
pub(crate) enum Door {
    Open(TcpListener),
    Closed {
        _bound: TcpSocket,
    },
    /// A full queue: the kernel drops whatever else arrives.
    BlackHole {
        _full: TcpListener,
        _filler: TcpStream,
    },
}

impl Door {
    /// A port of its own on the loopback, open.
    pub(crate) fn open_any() -> io::Result<(Self, u16)> {
        let listener = bound(0)?.listen(BACKLOG)?;
        let port = listener.local_addr()?.port();
        Ok((Self::Open(listener), port))
    }

    fn is(&self, port: Port) -> bool {
        matches!(
            (self, port),
            (Self::Open(_), Port::Open)
                | (Self::Closed { .. }, Port::Closed)
                | (Self::BlackHole { .. }, Port::BlackHole)
        )
    }

    async fn turn(&mut self, number: u16, port: Port) -> io::Result<()> {
        if self.is(port) {
            return Ok(());
        }
        // Bound while the old socket still holds the port, and listening only when that is gone: two that listen
        // would share what arrives.
        let socket = bound(number)?;
        *self = Self::Closed { _bound: bound(number)? };
        *self = match port {
            Port::Closed => return Ok(()),
            Port::Open => Self::Open(socket.listen(BACKLOG)?),
            Port::BlackHole => {
                let full = socket.listen(0)?;
                let filler = TcpStream::connect(full.local_addr()?).await?;
                Self::BlackHole { _full: full, _filler: filler }
            }
        };
        Ok(())
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Self::Open(listener) => Ok(listener.accept().await?.0),
            Self::Closed { .. } | Self::BlackHole { .. } => pending().await,
        }
    }
}

/// A socket with this port, which further ones of ours may have too.
fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

/// Serves one port until it is dropped, and with it all of its connections.
pub(crate) async fn listen(mut door: Door, server: Arc<Server>, mut orders: mpsc::Receiver<Order>) {
    let mut sessions = JoinSet::new();
    loop {
        select! {
            biased;
            order = orders.recv() => match order {
                None => return,
                Some(Order::Port(port, done)) => {
                    // Whoever asked may have gone.
                    let _ = done.send(door.turn(server.port, port).await);
                }
                Some(Order::Restart(done)) => {
                    sessions.shutdown().await;
                    server.restart();
                    let _ = done.send(());
                }
            },
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    server.set_panicked();
                }
            }
            accepted = door.accept() => match accepted {
                Ok(tcp) => {
                    sessions.spawn(serve(Arrival::new(&server, tcp)));
                }
                // Out of file descriptors, most likely: others must end first.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
        }
    }
}
