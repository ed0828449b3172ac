//! One connection's life at the server: greeting, login, statements, and the thread that may outlive it.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{net::TcpStream, select};

use crate::{
    answer::{Answer, Outcome, Wait},
    builtin::BuiltIn,
    delivery::{Delivery, Then},
    error::ServerError,
    greet::Greeted,
    record::{Event, StatementEnd},
    rows::{Row, Rows},
    script::{Kill, Script},
    send::{Sender, Stop},
    server::{Handle, Server},
    statement::Statement,
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
    open: bool,
}

impl Open {
    fn new(server: &Arc<Server>) -> Self {
        server.records.open.up();
        Self { server: Arc::clone(server), open: true }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The client has left.
    pub(crate) fn close(&mut self) {
        if std::mem::take(&mut self.open) {
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
    /// The session's time limit for a statement; 0 for none.
    limit: Duration,
    /// Whether something was sent for the present statement.
    answering: bool,
}

/// Removes a session from its server's list, and its thread from the count, however it ends.
struct Thread(Arc<Server>, Arc<Handle>);

impl Drop for Thread {
    fn drop(&mut self) {
        self.0.leave(&self.1);
        if self.0.script().records {
            self.0.records.add(self.1.id, Event::Closed);
        } else {
            self.0.records.notify();
        }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(server: Arc<Server>, tcp: TcpStream) {
    let (handle, threads) = server.enter().await;
    let thread = Thread(Arc::clone(&server), Arc::clone(&handle));
    let _ = tcp.set_nodelay(true);
    let mut session = Session {
        handle,
        stream: Stream::Plain(tcp),
        incoming: Incoming::new(),
        frames: Frames::default(),
        open: Open::new(&server),
        capabilities: 0,
        limit: Duration::ZERO,
        answering: false,
        server,
    };
    let script = session.server.script();
    session.record(&script, || Event::Connected);
    let handle = Arc::clone(&session.handle);
    let end = select! {
        biased;
        end = session.live(&script, threads) => end,
        () = handle.killed() => End::Killed,
    };
    session.end(end).await;
    drop(session);
    drop(thread);
}

impl Session {
    async fn live(&mut self, script: &Arc<Script>, threads: u64) -> End {
        let admitted = match self.greet(script, threads).await {
            Ok(Greeted::Admitted) => true,
            Ok(Greeted::TurnedAway) => false,
            Err(end) => return end,
        };
        if !admitted {
            return End::Cut(Then::Close);
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
            End::Gone | End::Cut(Then::Close) => {}
            End::Killed => self.say_killed().await,
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

    /// A killed session's last word, where it is one that this server says and where there is room for it.
    async fn say_killed(&mut self) {
        if !self.handle.is_busy() || self.answering || !self.server.script().mariadb {
            return;
        }
        let _ = self.send_error(&ServerError::from(1927), 1).await;
    }

    pub(crate) fn record(&self, script: &Script, event: impl FnOnce() -> Event) {
        if script.records {
            self.server.records.add(self.handle.id, event());
        } else {
            self.server.records.notify();
        }
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

    /// Reads a command and carries it out.
    async fn command(&mut self) -> Result<(), End> {
        let (_, packet) = self.receive().await?;
        let script = self.server.script();
        let Some((&command, rest)) = packet.split_first() else { return Err(End::Gone) };
        match command {
            // COM_QUIT
            0x01 => {
                self.record(&script, || Event::Quit);
                Err(End::Gone)
            }
            // COM_INIT_DB, COM_PING, COM_RESET_CONNECTION
            0x02 | 0x0e | 0x1f => self.send_packet(1, ok).await,
            // COM_QUERY
            0x03 => {
                let text = String::from_utf8_lossy(rest);
                self.handle.set_busy(true);
                let done = self.query(&script, &text).await;
                if done.is_ok() {
                    self.handle.set_busy(false);
                }
                done
            }
            _ => self.send_error(&ServerError::from(1047), 1).await,
        }
    }

    async fn query(&mut self, script: &Script, text: &str) -> Result<(), End> {
        let statement = Statement::read(text, self.handle.id, self.limit);
        let given = script.answer(&statement);
        let built_in = given.is_none().then(|| BuiltIn::of(script, &statement, self.server.port));
        if let Some(BuiltIn::Kill { session, query_only }) = built_in {
            return self.kill(script, session, query_only).await;
        }
        self.server.records.count(&self.server.records.statements);
        self.record(script, || Event::Statement(text.into()));
        let built_in = match built_in {
            Some(BuiltIn::Answer(answer)) => answer,
            Some(BuiltIn::Set(limit)) => {
                self.limit = limit.unwrap_or(self.limit);
                Answer::ok()
            }
            Some(BuiltIn::Kill { .. }) | None => Answer::ok(),
        };
        let answer = given.as_deref().unwrap_or(&built_in);
        let ended = || Ended { server: Arc::clone(&self.server), id: self.handle.id, how: None };
        let mut ended = script.records.then(ended);
        let done = self.perform(script, answer, &statement).await;
        if let Some(ended) = &mut ended {
            ended.how = Some(*done.as_ref().unwrap_or(&StatementEnd::Lost));
        }
        self.answering = false;
        done.map(drop)
    }

    /// Waits as the answer has it, and sends it.
    async fn perform(
        &mut self,
        script: &Script,
        answer: &Answer,
        statement: &Statement<'_>,
    ) -> Result<StatementEnd, End> {
        let handle = Arc::clone(&self.handle);
        let limit = statement.limit;
        let waited = {
            let time = script.latency + answer.delivery.latency;
            let wait = async {
                match answer.wait {
                    Wait::No => self.open.sleep(&self.stream, time).await,
                    Wait::Limit if limit.is_some() => {
                        self.open.sleep(&self.stream, limit.unwrap_or_default()).await;
                    }
                    Wait::Limit | Wait::Kill => self.open.wait(&self.stream).await,
                }
            };
            select! {
                biased;
                () = wait => answer.wait == Wait::No,
                () = handle.query_killed() => {
                    self.answering = true;
                    self.send_error(&ServerError::from(1317), 1).await?;
                    return Ok(StatementEnd::Killed);
                }
            }
        };
        self.answering = true;
        if !waited {
            let code = if script.mariadb { 1969 } else { 3024 };
            self.send_error(&ServerError::from(code), 1).await?;
            return Ok(StatementEnd::Limit);
        }
        self.send(answer).await?;
        Ok(StatementEnd::Answered)
    }

    async fn send(&mut self, answer: &Answer) -> Result<(), Stop> {
        let eof_is_ok = self.capabilities & crate::preset::DEPRECATE_EOF != 0;
        let Self { stream, frames, open, .. } = self;
        let mut sender = Sender::new(stream, frames, open, &answer.delivery, 1);
        for (n, outcome) in answer.results.iter().enumerate() {
            let status = Status { more: n + 1 < answer.results.len(), eof_is_ok };
            match outcome {
                Outcome::Rows(rows) => send_rows(&mut sender, rows, status).await?,
                Outcome::Ok => sender.packet(|bytes| status.write_ok(bytes, 0x00)).await?,
                Outcome::Error(error) => sender.packet(|bytes| error.write(bytes, true)).await?,
                Outcome::Packet(payload) => {
                    sender.packet(|bytes| bytes.extend_from_slice(payload)).await?;
                }
                Outcome::Bytes(bytes) => sender.bytes(bytes).await?,
            }
        }
        sender.finish().await
    }

    async fn kill(&mut self, script: &Script, session: u64, query_only: bool) -> Result<(), End> {
        self.server.records.count(&self.server.records.kills);
        let target = self.server.session(session);
        self.record(script, || Event::Kill { session, query_only, found: target.is_some() });
        let reply = match (&script.kill, &target) {
            (Kill::Refuse(error), _) => Some(error.clone()),
            (_, None) => Some(ServerError::new(1094, format!("Unknown thread id: {session}"))),
            _ => None,
        };
        if let (None, Some(target)) = (&reply, &target)
            && script.kill != Kill::Ignore
        {
            target.kill(query_only);
            if !query_only {
                // What is killed is gone when KILL is answered, so that whoever counts connections may open the next.
                self.server.leave(target);
            }
        }
        if let Kill::Slow(time) = script.kill {
            self.open.sleep(&self.stream, time).await;
        }
        self.open.sleep(&self.stream, script.latency).await;
        match reply {
            Some(error) => self.send_error(&error, 1).await,
            None => self.send_packet(1, ok).await,
        }
    }
}

/// Records the end of a statement, however it comes: killed and cut off if nobody has said otherwise.
struct Ended {
    server: Arc<Server>,
    id: u64,
    how: Option<StatementEnd>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let how = self.how.unwrap_or(StatementEnd::Killed);
        self.server.records.add(self.id, Event::StatementEnded(how));
    }
}

/// What the end of a result says.
#[derive(Debug, Clone, Copy)]
struct Status {
    /// Another result follows.
    more: bool,
    /// It is an OK packet with the head of an EOF packet.
    eof_is_ok: bool,
}

impl Status {
    fn flags(self) -> [u8; 2] {
        // SERVER_STATUS_AUTOCOMMIT, SERVER_MORE_RESULTS_EXISTS
        let flags: u16 = 2 | if self.more { 8 } else { 0 };
        flags.to_le_bytes()
    }

    /// No rows affected, no id, no warnings.
    fn write_ok(self, bytes: &mut Vec<u8>, head: u8) {
        bytes.extend_from_slice(&[head, 0, 0]);
        bytes.extend_from_slice(&self.flags());
        bytes.extend_from_slice(&[0, 0]);
    }

    fn write_eof(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&[0xfe, 0, 0]);
        bytes.extend_from_slice(&self.flags());
    }
}

/// The payload of an OK packet.
pub(crate) fn ok(bytes: &mut Vec<u8>) {
    Status { more: false, eof_is_ok: false }.write_ok(bytes, 0x00);
}

async fn send_rows(sender: &mut Sender<'_>, rows: &Rows, status: Status) -> Result<(), Stop> {
    sender.packet(|bytes| rows.write_count(bytes)).await?;
    for column in &rows.columns {
        sender.packet(|bytes| bytes.extend_from_slice(column.definition())).await?;
    }
    if !status.eof_is_ok {
        sender.packet(|bytes| Status { more: false, ..status }.write_eof(bytes)).await?;
    }
    for row in &rows.held {
        sender.packet(|bytes| bytes.extend_from_slice(row)).await?;
    }
    if let Some((count, make)) = &rows.made {
        for n in 0..*count {
            sender.packet(|bytes| make(n, &mut Row(bytes))).await?;
        }
    }
    sender
        .packet(|bytes| if status.eof_is_ok { status.write_ok(bytes, 0xfe) } else { status.write_eof(bytes) })
        .await
}
