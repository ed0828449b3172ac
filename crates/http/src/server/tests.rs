//! The server over real sockets, spoken to byte by byte.

use std::{net::SocketAddr, sync::Mutex};

use bytes::Bytes;
use fleet_collector::{Family, FamilyText, Kind, Snapshot};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{HttpMetrics, Scope, Sources};

mod web;

/// For what comes at once unless something is broken.
const SOON: Duration = Duration::from_secs(20);

/// More than the kernel keeps for a reader that does not read.
const LARGE: usize = 32 << 20;

/// A state whose `/metrics` is at least this long.
fn state(size: usize) -> Arc<State> {
    state_of(&Arc::new(Mutex::new(result(size))))
}

/// A result of this size and a little more.
fn result(size: usize) -> Bytes {
    Bytes::from(format!("up 1{}\n", " ".repeat(size)))
}

/// A state whose `/metrics` has the result that is current.
fn state_of(current: &Arc<Mutex<Bytes>>) -> Arc<State> {
    let mut registry = Registry::default();
    let metrics = HttpMetrics::register(&mut registry);
    let current = Arc::clone(current);
    let family = Arc::new(Family { name: "up".into(), help: "Answers.".into(), kind: Kind::Gauge });
    let rollups = move |_: Scope<'_>| {
        vec![FamilyText { family: family.clone(), lines: vec![current.lock().unwrap().clone()] }]
    };
    let sources = Sources {
        snapshot: Arc::new(Snapshot::default()),
        rollups: Box::new(rollups),
        registry: Arc::new(registry),
        status: Arc::new(|| crate::status::tests::fleet(0)),
        reload: Box::new(|| None),
        items: Box::new(String::new),
    };
    Arc::new(State::new(sources, metrics, "1.2.3", Instant::now()))
}

/// A server of its own, in a task that ends with it.
struct Server {
    address: SocketAddr,
    state: Arc<State>,
    shutdown: CancellationToken,
    task: JoinSet<()>,
}

impl Server {
    async fn start(limits: Limits, page_size: usize) -> Self {
        Self::of(limits, state(page_size)).await
    }

    async fn of(limits: Limits, state: Arc<State>) -> Self {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(serve_within(limits, listener, state.clone(), shutdown.clone()));
        Self { address, state, shutdown, task }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    async fn ended(&mut self) {
        timeout(SOON, self.task.join_next()).await.unwrap().unwrap().unwrap();
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, request: &str) {
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// The head of the next response, without its date.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(SOON, self.0.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        head.trim_end().lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
    }

    async fn body(&mut self, length: usize) -> Vec<u8> {
        let mut body = vec![0; length];
        timeout(SOON, self.0.read_exact(&mut body)).await.unwrap().unwrap();
        body
    }

    /// What comes until the server closes; a reset counts as closing.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = timeout(SOON, self.0.read_to_end(&mut rest)).await.expect("the server closes");
        rest
    }
}

fn content_length(head: &str) -> usize {
    head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let server = Server::start(LIMITS, 0).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!(head, "HTTP/1.1 200 OK\ncontent-type: text/plain; charset=utf-8\ncontent-length: 8");
        assert_eq!(client.body(8).await, b"healthy\n");
    }
}

#[tokio::test]
async fn t56_requests_sent_together_are_answered_in_order() {
    let server = Server::start(LIMITS, 0).await;
    let mut client = server.connect().await;
    client
        .send(
            "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n\
             GET /-/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        )
        .await;
    let text = String::from_utf8(client.rest().await).unwrap();
    let (first, second) = (text.find("healthy\n").unwrap(), text.find("ready\n").unwrap());
    assert!(first < second, "{text}");
}

#[tokio::test]
async fn t56_who_sends_requests_and_reads_no_answer_is_closed() {
    let limits = Limits { write_stall: Duration::from_millis(100), ..LIMITS };
    let server = Server::start(limits, 100_000).await;
    let (_reader, mut writer) = server.connect().await.0.into_split();
    let requests = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    // No more is read than answers go out, so that this ends; if each request were taken, it would not.
    let sent = timeout(SOON, async { while writer.write_all(requests.as_bytes()).await.is_ok() {} }).await;
    sent.expect("the server closes");
    let mut other = server.connect().await;
    other.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(other.head().await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn t56_head_is_get_without_the_body() {
    let server = Server::start(LIMITS, 100_000).await;
    let mut client = server.connect().await;
    // A HEAD is not observed and a GET shows in the next page only, as does what a first page leaves for the next: so both
    // pages behind that are of the same length.
    client.send("HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.head().await;
    client.send("HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = client.head().await;
    client.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.head().await, head);
    let body = client.body(content_length(&head)).await;
    assert!(body.starts_with(b"# HELP "));
}

#[tokio::test]
async fn t56_garbage_is_refused() {
    let server = Server::start(LIMITS, 0).await;
    let mut client = server.connect().await;
    client.send("\x16\x03\x01 garbage\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 400 Bad Request"));
    client.rest().await;
}

#[tokio::test]
async fn t56_a_head_beyond_the_limits_is_refused() {
    let server = Server::start(LIMITS, 0).await;
    for headers in ["x: y\r\n".repeat(MAX_HEADERS + 1), format!("x: {}\r\n", "y".repeat(MAX_BUFFER))] {
        let mut client = server.connect().await;
        client.send(&format!("GET / HTTP/1.1\r\n{headers}\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 431 "));
    }
}

#[tokio::test]
async fn t56_a_connection_ends_after_a_request_that_announced_a_body() {
    let server = Server::start(LIMITS, 0).await;
    for announced in
        ["content-length: 1000000", "transfer-encoding: chunked", "expect: 100-continue\r\ncontent-length: 5"]
    {
        let mut client = server.connect().await;
        client.send(&format!("GET /-/healthy HTTP/1.1\r\nhost: x\r\n{announced}\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\n") && head.contains("connection: close"), "{head}");
        assert_eq!(client.rest().await, b"healthy\n");
    }
}

#[tokio::test]
async fn t51_a_reader_that_stops_loses_its_connection_and_the_page_it_held_is_freed() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let mut client = Client(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
    let (stream, _) = listener.accept().await.unwrap();
    // A page of which nothing is kept for the next one, which would hold it as well.
    client.send("GET /-/metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;

    let graceful = GracefulShutdown::new();
    let limits = Limits { write_stall: Duration::from_millis(500), ..LIMITS };
    let current = Arc::new(Mutex::new(result(LARGE)));
    let state = state_of(&current);
    let connection = connection(stream, state.clone(), limits, graceful.watcher(), CancellationToken::new());
    let mut served = Box::pin(connection);
    let head = tokio::select! {
        biased;
        head = client.head() => head,
        ended = &mut served => panic!("{ended:?}"),
    };
    // A newer result takes its place; the reader alone holds the old one, and cannot hold it back.
    let old = std::mem::replace(&mut *current.lock().unwrap(), result(0));
    assert!(!old.is_unique(), "it is being sent");
    let error = timeout(SOON, served).await.unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("the reader took nothing"), "{error:?}");
    assert!(old.is_unique(), "nobody but this test holds it");
    assert_eq!(state.scrapes.available_permits(), 64, "its place is free");
    assert!(client.rest().await.len() < content_length(&head));

    ended(&state, &error);
    assert_eq!(state.metrics.refused(Refused::SlowReader), 1);
}

#[tokio::test]
async fn t55_a_shutdown_waits_for_a_response_in_flight_and_refuses_new_connections() {
    let mut server = Server::start(LIMITS, LARGE).await;
    let mut idle = server.connect().await;
    idle.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    idle.head().await;
    let mut client = server.connect().await;
    client.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = client.head().await;

    server.shutdown.cancel();
    assert_eq!(idle.rest().await, b"healthy\n");
    assert_eq!(client.rest().await.len(), content_length(&head));
    server.ended().await;
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn t55_a_shutdown_drops_a_reader_that_is_stuck_and_ends_in_time() {
    let limits = Limits { finish: Duration::from_millis(100), ..LIMITS };
    let mut server = Server::start(limits, LARGE).await;
    let mut client = server.connect().await;
    client.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = client.head().await;

    server.shutdown.cancel();
    server.ended().await;
    assert!(client.rest().await.len() < content_length(&head));
}

#[tokio::test]
async fn a_connection_beyond_the_cap_is_served_when_another_ends() {
    let server = Server::start(Limits { connections: 1, ..LIMITS }, 0).await;
    let mut first = server.connect().await;
    first.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    first.head().await;

    let mut second = server.connect().await;
    second.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    drop(first);
    assert!(second.head().await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn t50_a_head_that_crawls_a_silent_connection_and_one_at_rest_are_closed_at_the_limit() {
    let server = Server::start(Limits { head: Duration::from_millis(200), ..LIMITS }, 0).await;
    let mut silent = server.connect().await;
    let mut at_rest = server.connect().await;
    at_rest.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    at_rest.head().await;
    assert_eq!(at_rest.body(8).await, b"healthy\n");

    // A byte of the head now and then does not start the time again.
    let (mut reader, mut writer) = server.connect().await.0.into_split();
    let crawl = async {
        for byte in b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut rest = Vec::new();
    let closed = async { reader.read_to_end(&mut rest).await };
    timeout(SOON, async {
        tokio::select! { () = crawl => {}, _ = closed => {} }
    })
    .await
    .expect("it is closed");

    for client in [&mut silent, &mut at_rest] {
        let rest = client.rest().await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn t52_a_thousand_connections_and_as_many_scrapes_as_fit_leave_health_answering() {
    let server = Server::start(LIMITS, 0).await;
    let mut health = server.connect().await;
    health.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    health.head().await;
    assert_eq!(health.body(8).await, b"healthy\n");
    // The kernel takes them; beyond the cap nobody serves them.
    let mut crowd = JoinSet::new();
    for _ in 0..1000 {
        crowd.spawn(TcpStream::connect(server.address));
    }
    let mut connected = Vec::new();
    let mut join = async || {
        while let Some(stream) = crowd.join_next().await {
            connected.extend(stream.unwrap());
            if connected.len() >= MAX_CONNECTIONS {
                break;
            }
        }
    };
    timeout(SOON, join()).await.unwrap();
    health.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(health.head().await.starts_with("HTTP/1.1 200 OK"));
    // Who waits in the queue is served once the crowd is gone.
    drop((crowd, connected));
    let mut late = server.connect().await;
    late.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(late.head().await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn t52_scrapes_that_nobody_reads_are_refused_before_they_fill_the_memory() {
    let current = Arc::new(Mutex::new(result(LARGE)));
    let server = Server::of(LIMITS, state_of(&current)).await;
    let mut unread = Vec::new();
    let refused = loop {
        // Pages share what has not changed: each of these is another.
        *current.lock().unwrap() = result(LARGE);
        let mut scraper = server.connect().await;
        scraper.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let answer = scraper.head().await;
        if !answer.starts_with("HTTP/1.1 200 OK") {
            break answer;
        }
        unread.push(scraper);
    };
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 5"), "{refused}");
    // Four of the largest and 64 MiB, each page another; the last one was begun below that.
    assert!((6..=7).contains(&unread.len()), "{}", unread.len());
    let mut client = server.connect().await;
    client.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn t53_eight_kilobytes_of_accept_are_read_and_answered() {
    let server = Server::start(LIMITS, 0).await;
    for accept in ["*/*;q=0.1,".repeat(820), "x".repeat(8 << 10), "\u{20ac}".repeat(2700)] {
        let mut client = server.connect().await;
        client.send(&format!("GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n")).await;
        let head = client.head().await;
        let classic = head.contains("content-type: text/plain; version=0.0.4; charset=utf-8");
        assert!(head.starts_with("HTTP/1.1 200 OK") && classic, "{head}");
    }
}

#[tokio::test]
async fn t56_an_address_beyond_the_limits_is_refused() {
    let server = Server::start(LIMITS, 0).await;
    for length in [MAX_BUFFER, 1 << 20] {
        let mut client = server.connect().await;
        let request = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(length));
        // It may be refused, and closed, before all of it is sent.
        let _ = client.0.write_all(request.as_bytes()).await;
        let head = client.rest().await;
        let head = String::from_utf8_lossy(&head);
        let refused = ["HTTP/1.1 414 ", "HTTP/1.1 431 "].iter().any(|start| head.starts_with(start));
        // What was sent and not read may reset the connection before the answer is read.
        assert!(refused || head.is_empty(), "{head}");
    }
}
