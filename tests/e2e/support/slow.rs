//! An address that leads to a server and holds back what the client sends, for as long as it is told.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

/// Leads to the server for as long as it lives.
#[derive(Debug)]
pub(crate) struct Slow {
    /// The address that leads there.
    pub(crate) address: String,
    delay: watch::Sender<Duration>,
    _accepting: JoinSet<()>,
}

impl Slow {
    /// A new address that leads to this one, at once for now.
    pub(crate) async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (delay, delayed) = watch::channel(Duration::ZERO);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(lead(client, server.clone(), delayed.clone()));
            }
        });
        Self { address, delay, _accepting: accepting }
    }

    /// Holds back each packet for so long from now on.
    pub(crate) fn hold_back(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }
}

async fn lead(client: TcpStream, to: String, delay: watch::Receiver<Duration>) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    let (mut client_says, mut client_hears) = client.into_split();
    let (mut server_says, mut server_hears) = server.into_split();
    let mut answers = JoinSet::new();
    answers.spawn(async move { copy(&mut server_says, &mut client_hears).await });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = client_says.read(&mut buffer).await {
        let now = *delay.borrow();
        sleep(now).await;
        if server_hears.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
