//! One simulated server, as a test holds it.

use std::{io, sync::Arc, thread};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    listener::{Door, Order, Port, listen},
    record::{Counts, Event, Record, WAIT},
    script::{Connect, Script},
    server::Server,
};

/// A server on a port of its own on 127.0.0.1. Dropping it ends it and all of its connections.
///
/// It lives in the runtime in which it was started, and is not for a paused clock: it has sockets.
#[derive(Debug)]
pub struct Sim {
    server: Arc<Server>,
    orders: mpsc::Sender<Order>,
    closed: bool,
    /// The listener, which owns the connections.
    _task: JoinSet<()>,
}

impl Sim {
    /// Starts a server that does what the script says.
    ///
    /// # Errors
    /// Of the operating system, if there is no port or no socket to be had.
    pub async fn start(script: Script) -> io::Result<Self> {
        let (door, port) = Door::open_any()?;
        let server = Arc::new(Server::new(script.clone(), port));
        let (orders, receiver) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(listen(door, Arc::clone(&server), receiver));
        let mut sim = Self { server, orders, closed: false, _task: task };
        sim.set(script).await?;
        Ok(sim)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Its address: `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// The script as it is now.
    pub fn script(&self) -> Script {
        (*self.server.script()).clone()
    }

    /// From now on it does what this script says: who connects, and each new statement.
    ///
    /// # Errors
    /// Of the operating system, if the port cannot be opened again.
    pub async fn set(&mut self, script: Script) -> io::Result<()> {
        self.server.set_script(Arc::new(script));
        self.turn().await
    }

    /// Closes the port: who connects is refused. Connections stay.
    ///
    /// # Errors
    /// Of the operating system.
    pub async fn close_port(&mut self) -> io::Result<()> {
        self.closed = true;
        self.turn().await
    }

    /// Opens the port again.
    ///
    /// # Errors
    /// Of the operating system.
    pub async fn open_port(&mut self) -> io::Result<()> {
        self.closed = false;
        self.turn().await
    }

    /// The server is restarted: all connections and threads end at once, and sessions are numbered anew.
    pub async fn restart(&mut self) {
        let (done, answer) = oneshot::channel();
        // A listener that is gone has no connections.
        let _ = self.orders.send(Order::Restart(done)).await;
        let _ = answer.await;
    }

    async fn turn(&self) -> io::Result<()> {
        let port = match self.server.script().connect {
            _ if self.closed => Port::Closed,
            Connect::Refuse => Port::Closed,
            Connect::BlackHole => Port::BlackHole,
            _ => Port::Open,
        };
        let (done, answer) = oneshot::channel();
        // A listener that is gone does not answer.
        let _ = self.orders.send(Order::Port(port, done)).await;
        answer.await.unwrap_or_else(|_| Err(io::Error::other("the simulated server has ended")))
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        self.server.records.counts()
    }

    /// What it has seen, oldest first, as far as it is kept: the last [`MAX_RECORDS`](crate::MAX_RECORDS).
    pub fn records(&self) -> Vec<Record> {
        self.server.records.all()
    }

    /// The texts of the statements that it has seen, oldest first, as far as they are kept.
    pub fn statements(&self) -> Vec<String> {
        let texts = self.records().into_iter().filter_map(|record| match record.event {
            Event::Statement(text) => Some(text.into()),
            _ => None,
        });
        texts.collect()
    }

    /// Forgets its records; counts stay.
    pub fn forget(&self) {
        self.server.records.forget();
    }

    /// Waits for a record, one already there included, and gives the first.
    ///
    /// # Panics
    /// After [`WAIT`], with the last records.
    pub async fn wait_for(&self, what: &str, is_it: impl Fn(&Record) -> bool) -> Record {
        let found = self.server.records.wait_for(is_it).await;
        found.unwrap_or_else(|| self.give_up(what))
    }

    /// Waits until the counts are as asked, and gives them.
    ///
    /// # Panics
    /// After [`WAIT`], with the last records.
    pub async fn wait_until(&self, what: &str, are_they: impl Fn(&Counts) -> bool) -> Counts {
        let found = self.server.records.wait(|| Some(self.counts()).filter(|counts| are_they(counts))).await;
        found.unwrap_or_else(|| self.give_up(what))
    }

    fn give_up(&self, what: &str) -> ! {
        let records = self.records();
        let last = &records[records.len().saturating_sub(20)..];
        panic!(
            "waited {WAIT:?} at {} for this: {what}\n{:#?}\nlast: {last:#?}",
            self.address(),
            self.counts()
        )
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // A script's closure that panics is a test that fails.
        assert!(
            !self.server.has_panicked() || thread::panicking(),
            "a session of the simulated server panicked"
        );
    }
}
