//! One connection's life at the server: greeting, login, statements, and the thread that may outlive it.

use std::{io, sync::Arc};

use bytes::BytesMut;
use tokio::{net::TcpStream, select, time::sleep};

use crate::{
    delivery::{Delivery, Then},
    error::ServerError,
    record::Event,
    script::{Kill, Script},
    send::{Sender, Stop},
    server::{Handle, Server},
    statement::Settings,
    stream::Stream,
    wire::{Frames, Incoming},
};

/// Why a session ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The client has left, or cannot be understood.
    Gone,
    /// The script ends it.
    Cut(Then),
    /// It was killed.
    Killed,
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cut(then) => Self::Cut(then),
            Stop::Lost => Self::Gone,
        }
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Counts a connection as open until its client has left.
#[derive(Debug)]
pub(crate) struct Open {
    server: Arc<Server>,
    pub(crate) handle: Arc<Handle>,
    client_is_there: bool,
}

impl Open {
    fn new(server: &Arc<Server>, handle: &Arc<Handle>) -> Self {
        Self { server: Arc::clone(server), handle: Arc::clone(handle), client_is_there: true }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.client_is_there
    }

    /// The client has left.
    pub(crate) fn close(&mut self) {
        if std::mem::take(&mut self.client_is_there) {
            self.server.records.open.down();
            self.server.records.notify();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close();
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) server: Arc<Server>,
    pub(crate) handle: Arc<Handle>,
    pub(crate) stream: Stream,
    pub(crate) incoming: Incoming,
    pub(crate) frames: Frames,
    pub(crate) open: Open,
    /// What both sides can.
    pub(crate) capabilities: u64,
    pub(crate) settings: Settings,
}

/// Removes a session from its server's list, and its thread from the count, however it ends.
#[derive(Debug)]
struct Thread(Arc<Server>, Arc<Handle>);

impl Drop for Thread {
    fn drop(&mut self) {
        self.0.leave(&self.1);
        self.0.note(&self.0.script(), self.1.id, || Event::Closed);
    }
}

/// One connection from its first moment on.
#[derive(Debug)]
pub(crate) struct Arrival {
    thread: Thread,
    open: Open,
    tcp: Arc<TcpStream>,
    /// How many threads there are with it.
    threads: u64,
}

impl Arrival {
    /// Counts a connection that was just accepted.
    pub(crate) fn new(server: &Arc<Server>, tcp: TcpStream) -> Self {
        let tcp = Arc::new(tcp);
        let (handle, threads) = server.enter(&tcp);
        let open = Open::new(server, &handle);
        let thread = Thread(Arc::clone(server), handle);
        // Without it answers may be late, not wrong.
        let _ = tcp.set_nodelay(true);
        Self { thread, open, tcp, threads }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(arrival: Arrival) {
    let Arrival { thread, open, tcp, threads } = arrival;
    let (server, handle) = (Arc::clone(&thread.0), Arc::clone(&thread.1));
    let script = server.script();
    let mut session = Session {
        handle,
        stream: Stream::new(tcp),
        incoming: Incoming::new(),
        frames: Frames::default(),
        open,
        capabilities: 0,
        settings: Settings { mariadb: script.mariadb, ..Settings::default() },
        server,
    };
    session.record(&script, || Event::Connected);
    let handle = Arc::clone(&session.handle);
    let end = select! {
        biased;
        end = session.live(&script, threads) => end,
        () = handle.killed() => End::Killed,
    };
    let lingers = match (&end, &session.server.script().kill) {
        (End::Killed, Kill::Linger(time)) => Some(*time),
        _ => None,
    };
    session.end(end).await;
    drop(session);
    if let Some(time) = lingers {
        thread.1.set_busy(true);
        thread.1.set_waiting(true);
        sleep(time).await;
    }
    drop(thread);
}

impl Session {
    async fn live(&mut self, script: &Arc<Script>, threads: u64) -> End {
        if let Err(end) = self.greet(script, threads).await {
            return end;
        }
        loop {
            if let Err(end) = self.command().await {
                return end;
            }
        }
    }

    /// Closes the connection in the way its end has it.
    async fn end(&mut self, end: End) {
        match end {
            // Whoever is killed hears nothing more.
            End::Gone | End::Killed | End::Cut(Then::Close) => {}
            End::Cut(Then::Reset) => self.stream.reset_when_closed(),
            End::Cut(Then::Mute) => {
                let handle = Arc::clone(&self.handle);
                select! {
                    () = self.stream.closed() => {}
                    () = handle.killed() => {}
                }
            }
        }
    }

    pub(crate) fn record(&self, script: &Script, event: impl FnOnce() -> Event) {
        self.server.note(script, self.handle.id, event);
    }

    /// One packet of an error, without any delay.
    pub(crate) async fn send_error(&mut self, error: &ServerError, sequence: u8) -> Result<(), End> {
        self.send_packet(sequence, |bytes| error.write(bytes, true)).await
    }

    /// One packet without any delay.
    pub(crate) async fn send_packet(
        &mut self,
        sequence: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), End> {
        let delivery = Delivery::default();
        let mut sender = Sender::new(&mut self.stream, &mut self.frames, &mut self.open, &delivery, sequence);
        sender.packet(write).await?;
        Ok(sender.finish().await?)
    }

    /// The next packet of the client.
    pub(crate) async fn receive(&mut self) -> Result<(u8, BytesMut), End> {
        self.incoming.packet(&mut self.stream).await?.ok_or(End::Gone)
    }
}
