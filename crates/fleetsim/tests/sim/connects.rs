//! What becomes of who connects.

use std::{io, time::Duration};

use fleetsim::{At, Connect, Delivery, Preset, Script, Sim, Then};
use sqlx::ConnectOptions as _;
use tokio::time::{Instant, timeout};

use crate::{
    client::{ask, assert_pending, code, connect, options, row, start},
    raw::{After, Raw},
};

/// What a client sees that says nothing.
async fn seen(script: Script) -> (Vec<u8>, After) {
    let sim = start(script).await;
    Raw::connect(&sim).await.rest().await
}

async fn refused(sim: &Sim) -> bool {
    let error = options(sim).connect().await.unwrap_err();
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn a_connection_ends_as_its_script_says() {
    let cases = [
        (Connect::Mute, &b""[..], After::Mute),
        (Connect::Close, b"", After::Closed),
        (Connect::Reset, b"", After::Reset),
        (Connect::http(), b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", After::Closed),
        (Connect::ssh(), b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", After::Mute),
        (Connect::empty_packet(), b"\0\0\0\0", After::Mute),
        (Connect::Error(1040.into()), b"\x17\0\0\0\xff\x10\x04Too many connections", After::Closed),
        (Connect::Send(vec![7; 3], Then::Reset), &[7; 3], After::Reset),
    ];
    for (connect, bytes, after) in cases {
        let (seen, end) = seen(Script::default().connect(connect.clone())).await;
        assert_eq!((&seen[..], end), (bytes, after), "{connect:?}");
    }
    let (noise, _) = seen(Script::default().connect(Connect::noise(7, 300))).await;
    assert_eq!(noise.len(), 300);
    assert_eq!(seen(Script::default().connect(Connect::noise(7, 300))).await.0, noise);
}

#[tokio::test]
async fn a_greeting_is_cut_trickled_and_short() {
    let (whole, after) = seen(Script::new(Preset::MySql57)).await;
    assert_eq!((&whole[4..16], after), (&b"\x0a5.7.44-log\0"[..], After::Mute));
    for (at, then, after) in
        [(0, Then::Close, After::Closed), (3, Then::Mute, After::Mute), (20, Then::Reset, After::Reset)]
    {
        let cut = Delivery::new().cut(At::Byte(at), then);
        let (seen, end) = seen(Script::new(Preset::MySql57).greeting_delivered(cut)).await;
        let at = usize::try_from(at).unwrap();
        assert_eq!((&seen[..], end), (&whole[..at], after));
    }
    let slow = Delivery::new().trickle(10, Duration::from_millis(5));
    let sim = start(Script::new(Preset::MySql57).greeting_delivered(slow)).await;
    let begun = Instant::now();
    let (seen, _) = Raw::connect(&sim).await.rest().await;
    assert_eq!(seen, whole);
    assert!(begun.elapsed() >= Duration::from_millis(5) * 7, "{:?}", begun.elapsed());

    // The frame is good, and what is in it ends behind the first half of the capabilities.
    let (short, _) = self::seen(Script::new(Preset::MySql57).connect(Connect::ShortGreeting)).await;
    let length = 1 + "5.7.44-log\0".len() + 4 + 9 + 2;
    assert_eq!(short.len(), 4 + length);
    assert_eq!(usize::from(short[0]), length);
    assert_eq!(short[4..], whole[4..4 + length]);
}

#[tokio::test]
async fn a_port_is_closed_black_and_open_again_and_connections_outlive_that() {
    let mut sim = start(Script::default()).await;
    let mut first = connect(&sim).await;
    sim.close_port().await.unwrap();
    assert!(refused(&sim).await);
    assert_eq!(ask(&mut first, "SELECT CONNECTION_ID()").await.unwrap(), [row(["1"])]);
    sim.open_port().await.unwrap();
    connect(&sim).await;
    for _ in 0..2 {
        sim.set(sim.script().connect(Connect::BlackHole)).await.unwrap();
        for _ in 0..3 {
            assert_pending("a connect into a black hole", options(&sim).connect()).await;
        }
        sim.set(sim.script().connect(Connect::Refuse)).await.unwrap();
        assert!(refused(&sim).await);
        sim.set(sim.script().connect(Connect::Greet)).await.unwrap();
        connect(&sim).await;
    }
    assert_eq!(ask(&mut first, "SELECT CONNECTION_ID()").await.unwrap(), [row(["1"])]);
}

#[tokio::test]
async fn beyond_its_connections_a_server_says_so() {
    let sim = start(Script::default().max_connections(2)).await;
    let first = connect(&sim).await;
    let _second = connect(&sim).await;
    assert_eq!(code(options(&sim).connect().await), 1040);
    drop(first);
    sim.wait_until("there is room", |counts| counts.threads < 2).await;
    connect(&sim).await;
}

#[tokio::test]
async fn a_dropped_server_refuses_and_lets_go() {
    let sim = start(Script::default()).await;
    let mut client = connect(&sim).await;
    let late = options(&sim);
    drop(sim);
    ask(&mut client, "SELECT 1").await.unwrap_err();
    let connecting = timeout(Duration::from_secs(5), late.connect()).await.unwrap();
    connecting.unwrap_err();
}
