//! A proxy before the server that notes when each statement comes by, and what it says.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::Instant,
};

use crate::{
    fleet::Fleet,
    support::{
        Result,
        arrivals::{Flatness, fullest},
    },
};

const BIN: Duration = Duration::from_millis(100);
/// The protocol's number of a statement in text.
const COM_QUERY: u8 = 3;
/// What each statement of an item has before its SQL, and no other.
const MARK: &str = "/* fleet-query-exporter ";

/// Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    _runtime: Runtime,
}

/// The statements that came by.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    at: Vec<Instant>,
    texts: BTreeMap<String, u64>,
}

impl Proxy {
    pub fn start(server: u16) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Mutex::default());
        let noted = Arc::clone(&seen);
        runtime.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, server, Arc::clone(&noted)));
            }
        });
        Ok(Self { port, seen, _runtime: runtime })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Both ways until either end closes.
async fn forward(client: TcpStream, server: u16, seen: Arc<Mutex<Seen>>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        // A statement is short and written at once, so one read holds it whole; a client of this protocol then waits.
        let mut buffer = vec![0; 4096];
        loop {
            let n = from_client.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            if n > 5 && buffer[4] == COM_QUERY {
                seen.lock().unwrap_or_else(PoisonError::into_inner).note(&buffer[5..n]);
            }
            to_server.write_all(&buffer[..n]).await?;
        }
    };
    let back = async { tokio::io::copy(&mut from_server, &mut to_client).await.map(|_| ()) };
    tokio::select! {
        done = there => done,
        done = back => done,
    }
}

impl Seen {
    fn note(&mut self, statement: &[u8]) {
        let at = Instant::now();
        let statement = String::from_utf8_lossy(statement);
        if statement.contains(MARK) {
            self.at.push(at);
            *self.texts.entry(statement.into_owned()).or_default() += 1;
        }
    }

    /// Whether the exporter sends what the bare loop sends, for each item.
    pub fn same_statements(&self, fleet: &Fleet) -> Result<()> {
        let items =
            (0..fleet.targets).flat_map(|target| (0..fleet.queries).map(move |query| (target, query)));
        for (target, query) in items {
            let statement = fleet.statement(target, query);
            if !self.texts.contains_key(&statement) {
                let sent = self.texts.keys().next().map_or("nothing", String::as_str);
                return Err(format!("the sides differ: {statement:?} was not sent, but {sent:?}").into());
            }
        }
        Ok(())
    }

    /// How many there are since `from`, how evenly they came, and how many in the fullest bin wherever it begins.
    pub fn flatness(&self, from: Instant) -> (usize, Flatness, usize) {
        let since = || self.at.iter().copied().filter(move |at| *at >= from);
        (since().count(), Flatness::of(since(), from, BIN), fullest(since(), BIN))
    }
}
