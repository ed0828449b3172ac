//! An address that leads to one server and then to another, as one that is moved at a failover does.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    select,
    sync::watch,
    task::JoinSet,
};

/// Leads to a server for as long as it lives.
#[derive(Debug)]
pub(crate) struct Forwarder {
    /// The address that leads there.
    pub(crate) address: String,
    to: watch::Sender<String>,
    _accepting: JoinSet<()>,
}

impl Forwarder {
    /// A new address that leads to this one.
    pub(crate) async fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (to, server) = watch::channel(address);
        let address = listener.local_addr().unwrap().to_string();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(lead(client, server.clone()));
            }
        });
        Self { address, to, _accepting: accepting }
    }

    /// Leads elsewhere from now on, and cuts the connections that lead to the old place.
    pub(crate) fn move_to(&self, address: String) {
        self.to.send_replace(address);
    }
}

/// Carries bytes until either side ends or the address leads elsewhere.
async fn lead(mut client: TcpStream, mut server: watch::Receiver<String>) {
    let address = server.borrow_and_update().clone();
    let Ok(mut connection) = TcpStream::connect(address).await else { return };
    select! {
        _ = copy_bidirectional(&mut client, &mut connection) => {}
        _ = server.changed() => {}
    }
}
