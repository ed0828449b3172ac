//! The server: accepts connections within a cap, speaks HTTP/1 on each, under TLS where the web file says so, and ends
//! them in order.

use std::{convert::Infallible, error::Error as _, io, pin::pin, sync::Arc, time::Duration};

use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    Page, State, respond,
    routes::{HEALTHY, PLAIN, answer, finish},
    state::Refused,
    write_progress::{Deadline, WriteProgress},
};

/// Connections at once.
pub const MAX_CONNECTIONS: usize = 256;

/// Headers of one request.
const MAX_HEADERS: usize = 32;

/// Bytes of one request's head. It bounds what is queued for sending as well, to one frame of the body beyond it.
const MAX_BUFFER: usize = 16 << 10;

/// The wait after an error that says the process or the machine is out of something. Trying on would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits that a test shortens.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    connections: usize,
    /// How long a TLS handshake may take, the wait for its first byte included.
    handshake: Duration,
    /// How long a request's head may take, and how long a connection may be silent between requests.
    head: Duration,
    /// How long a reader may take nothing while there is something to send.
    write_stall: Duration,
    /// How long an answer may take in all, once it is ready.
    response: Duration,
    /// How long responses in flight may take after the shutdown was asked for.
    finish: Duration,
}

const LIMITS: Limits = Limits {
    connections: MAX_CONNECTIONS,
    handshake: Duration::from_secs(10),
    head: Duration::from_secs(30),
    write_stall: Duration::from_secs(30),
    response: Duration::from_mins(2),
    finish: Duration::from_secs(2),
};

/// Opens the listening socket, at `HOST:PORT`.
///
/// # Errors
/// Those of resolving the name and of the socket, first of all that the port is taken.
pub async fn bind(listen: &str) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

/// Serves until `shutdown` is cancelled; then accepts nobody, lets responses in flight finish within 2 s, and
/// drops what is left. Dropping the future drops all connections at once.
pub async fn serve(listener: TcpListener, state: Arc<State>, shutdown: CancellationToken) {
    serve_within(LIMITS, listener, state, shutdown).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, state: Arc<State>, shutdown: CancellationToken) {
    let mut acceptor = Acceptor::new(listener, limits.connections);
    let graceful = GracefulShutdown::new();
    // Owns every connection's task: dropped, it ends them.
    let mut connections = JoinSet::new();
    let stopping = shutdown.clone();
    let mut shutdown = pin!(shutdown.cancelled_owned());
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            (stream, permit) = acceptor.accept() => {
                let connection =
                    connection(stream, state.clone(), limits, graceful.watcher(), stopping.clone());
                let state = state.clone();
                connections.spawn(async move {
                    if let Err(error) = connection.await {
                        ended(&state, &error);
                    }
                    drop(permit);
                });
            }
        }
    }
    drop(acceptor);
    if timeout(limits.finish, graceful.shutdown()).await.is_err() {
        tracing::warn!("responses still in flight at the end of the shutdown were dropped");
    }
}

fn ended(state: &State, error: &hyper::Error) {
    tracing::debug!(?error, "connection ended");
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
        state.metrics.refuse(Refused::SlowReader);
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a connection failed");
    }
}

/// A connection, for the requests that come on it.
#[derive(Debug, Clone)]
struct Way {
    /// The TLS that it was begun with, if it was.
    tls: Option<Arc<ServerConfig>>,
    /// Whether it is one in plain HTTP where TLS is spoken.
    lacks_tls: bool,
    /// Whether the other end is on this machine.
    is_local: bool,
}

/// Speaks with one client until either side ends it.
async fn connection(
    stream: TcpStream,
    state: Arc<State>,
    limits: Limits,
    watcher: Watcher,
    stopping: CancellationToken,
) -> hyper::Result<()> {
    // An answer is one write or many full ones: waiting to fill a packet gains nothing. Refused only by a
    // connection that is gone already.
    let _ = stream.set_nodelay(true);
    let is_local = is_local(&stream);
    let deadline = Deadline::default();
    let Some(tls) = state.web().tls() else {
        let io = WriteProgress::new(stream, limits.write_stall, deadline.clone());
        return speak(io, Way { tls: None, lacks_tls: false, is_local }, state, limits, deadline, watcher)
            .await;
    };
    let begun = begin(stream, tls.clone(), limits, deadline.clone());
    let begun = match stopping.run_until_cancelled(timeout(limits.handshake, begun)).await {
        // Nothing was asked yet, so nobody misses an answer.
        None => return Ok(()),
        Some(begun) => begun.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    };
    match begun {
        Ok(Begun::Tls(io)) => {
            let way = Way { tls: Some(tls), lacks_tls: false, is_local };
            speak(*io, way, state, limits, deadline, watcher).await
        }
        Ok(Begun::Plain(io)) => {
            state.metrics.refuse(Refused::Handshake);
            speak(io, Way { tls: None, lacks_tls: true, is_local }, state, limits, deadline, watcher).await
        }
        Err(error) => {
            tracing::debug!(%error, "TLS could not be agreed upon");
            state.metrics.refuse(Refused::Handshake);
            Ok(())
        }
    }
}

/// Whether the other end is on this machine: who comes from the address that it goes to is, too.
fn is_local(stream: &TcpStream) -> bool {
    let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    peer.ip().to_canonical().is_loopback() || peer.ip() == own.ip()
}

/// How a client began where TLS is spoken.
enum Begun {
    Tls(Box<TlsStream<WriteProgress<TcpStream>>>),
    Plain(WriteProgress<TcpStream>),
}

/// The first byte of a client that speaks TLS: its record is a handshake.
const HANDSHAKE: u8 = 22;

/// Shakes hands. A client that speaks plain HTTP is let through, to be told so.
async fn begin(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    limits: Limits,
    deadline: Deadline,
) -> io::Result<Begun> {
    let mut first = [0];
    let has_begun = stream.peek(&mut first).await? > 0;
    // Below TLS, so that a reader is known by the bytes it takes and not by those that TLS keeps for it.
    let io = WriteProgress::new(stream, limits.write_stall, deadline);
    if has_begun && first != [HANDSHAKE] {
        return Ok(Begun::Plain(io));
    }
    Ok(Begun::Tls(Box::new(TlsAcceptor::from(tls).accept(io).await?)))
}

/// Speaks HTTP/1 until either side ends it.
async fn speak(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    way: Way,
    state: Arc<State>,
    limits: Limits,
    deadline: Deadline,
    watcher: Watcher,
) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let (state, deadline, way) = (state.clone(), deadline.clone(), way.clone());
        async move {
            let response = handle(&state, request, &way).await;
            deadline.set(Instant::now() + limits.response);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        // Without a timer hyper leaves its timeouts out, silently.
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(io), service);
    watcher.watch(connection).await
}

/// No route reads a body. One that was announced is never asked for (so `Expect: 100-continue` gets its final
/// answer at once), and the connection ends after the answer instead of reading past it.
async fn handle(state: &Arc<State>, request: Request<Incoming>, way: &Way) -> Response<Page> {
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, ());
    let mut response = if way.lacks_tls && !(way.is_local && request.uri().path() == HEALTHY) {
        finish(&request, want_tls())
    } else {
        match state.web().admit(&request, way.is_local, &state.metrics).await {
            Ok(()) => respond(state, &request).await,
            Err(refusal) => finish(&request, refusal),
        }
    };
    state.web().dress(&mut response);
    if !body.is_end_stream() || way.lacks_tls || !is_current(state, way) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn want_tls() -> Response<Page> {
    let body = "this port speaks TLS: use https\n".to_owned();
    answer(StatusCode::BAD_REQUEST, PLAIN, body)
}

/// Whether a connection that is opened now would come about in the same way. One that outlived its certificate, or the
/// authorities that let it in, ends.
fn is_current(state: &State, way: &Way) -> bool {
    match (state.web().tls(), &way.tls) {
        (None, None) => true,
        (Some(now), Some(then)) => Arc::ptr_eq(&now, then),
        _ => false,
    }
}

/// Accepts connections, each with its permit under the cap.
struct Acceptor {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    connections: usize,
    /// Whether the log knows that the cap is reached.
    full: bool,
    /// The error that the log knows, until a connection is accepted.
    last_error: Option<i32>,
}

impl Acceptor {
    fn new(listener: TcpListener, connections: usize) -> Self {
        let permits = Arc::new(Semaphore::new(connections));
        Self { listener, permits, connections, full: false, last_error: None }
    }

    /// The next connection. Dropped while it waits, it loses none.
    async fn accept(&mut self) -> (TcpStream, OwnedSemaphorePermit) {
        // Taken first: a connection that may not be served yet stays with the kernel and costs us nothing.
        let permit = self.permit().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, _peer)) => {
                    self.last_error = None;
                    return (stream, permit);
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn permit(&mut self) -> OwnedSemaphorePermit {
        let free = self.permits.available_permits();
        if free == 0 && !self.full {
            self.full = true;
            tracing::warn!(connections = self.connections, "all connections are in use, further ones wait");
        } else if free > self.connections / 2 {
            // Not as soon as one is free: at the cap that would be a line for each connection.
            self.full = false;
        }
        self.permits.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn pause(&mut self, error: &io::Error) {
        // A peer that gave up before it was accepted is its own affair, and there may be more behind it.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return;
        }
        if self.last_error == error.raw_os_error() {
            tracing::debug!(%error, "still cannot accept connections");
        } else {
            self.last_error = error.raw_os_error();
            tracing::error!(%error, "cannot accept connections, trying again");
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
