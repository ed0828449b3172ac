//! T1 to T8: there is no session to be had.

use std::{fs, process::Command, time::Duration};

use fleetsim::{Connect, Delivery, Event, Plugin, Then};
use futures_util::future::join_all;

use super::{N, SICK, Scene, Setting, healthy};
use crate::support::{exporter::SOON, page::Page, repository};

#[tokio::test]
async fn t01_a_refused_port_is_told_at_once_and_found_again() {
    let mut scene = Scene::start(healthy().connect(Connect::Refuse)).await;
    let page = scene.is_down("refused").await;
    assert_eq!(Scene::failures(&page, "connect_timeout"), 0, "a refusal is no timeout");
    assert_eq!(page.series("query_exporter_asks", &[]).len(), 0);
    assert!(scene.logged("target is down").contains("refused"));

    scene.play(healthy()).await;
    let page = scene.succeeds().await;
    assert_eq!(page.value("query_exporter_asks", &[]), Some(N as f64));
    scene.end().await;
}

#[tokio::test]
async fn t02_a_black_hole_costs_one_attempt_at_a_time() {
    let mut scene = Scene::start(healthy().connect(Connect::BlackHole)).await;
    let page = scene.is_down("connect_timeout").await;
    let (threads, files) = (process(&page.text, "process_threads"), process(&page.text, "process_open_fds"));
    let page = scene.fails("connect_timeout", 3).await;
    assert!(page.of(SICK, "query_exporter_connections") <= 1, "one attempt at a time");
    // Beside the target's own socket, the connections of those who look at the page come and go.
    assert!(process(&page.text, "process_threads") <= threads + 2);
    assert!(process(&page.text, "process_open_fds") <= files + 4);

    scene.play(healthy()).await;
    scene.succeeds().await;
    scene.end().await;
}

/// A figure of the process itself.
fn process(page: &str, family: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{family} "))).unwrap();
    line.parse().unwrap()
}

#[tokio::test]
async fn t03_a_port_that_says_nothing_is_left_at_the_timeout() {
    let mut scene = Scene::start(healthy().connect(Connect::Mute)).await;
    scene.is_down("connect_timeout").await;
    scene.sim.wait_for("the socket is closed", |record| record.event == Event::Closed).await;

    scene.play(healthy()).await;
    scene.succeeds().await;
    scene.end().await;
}

#[tokio::test]
async fn t04_a_greeting_that_trickles_has_one_limit_for_all_of_it() {
    let trickle = Delivery::new().trickle(1, Duration::from_millis(100));
    let scene = Scene::start(healthy().greeting_delivered(trickle)).await;
    scene.is_down("connect_timeout").await;
    scene.end().await;
}

#[tokio::test]
async fn t05_something_else_that_listens_is_no_server() {
    // Each in turn on one port: the last word is what its kind of silence allows.
    let cases = [
        ("an empty packet", Connect::empty_packet(), ["protocol", "protocol"]),
        ("a greeting cut short", Connect::ShortGreeting, ["protocol", "protocol"]),
        ("a web server that hangs up", Connect::http(), ["protocol", "lost"]),
        ("an SSH server that waits", Connect::ssh(), ["protocol", "connect_timeout"]),
        ("noise", Connect::noise(7, 300), ["protocol", "connect_timeout"]),
        ("a greeting of another protocol", greeting_of_protocol_9(), ["protocol", "protocol"]),
    ];
    let mut scene = Scene::start(healthy()).await;
    scene.succeeds().await;
    for (what, connect, reasons) in cases {
        scene.play(healthy().connect(connect)).await;
        scene.sim.restart().await;
        let told = |page: &Page| {
            page.reason(SICK).is_some_and(|reason| reasons.contains(&reason)) && !page.is_up(SICK)
        };
        scene.exporter.wait_until(what, SOON * 2, told).await;
        scene.play(healthy()).await;
        let page = scene.succeeds().await;
        assert!(process(&page.text, "process_resident_memory_bytes") < 100 << 20, "{what}");
    }
    scene.end().await;
}

/// What servers of the last century began with.
fn greeting_of_protocol_9() -> Connect {
    let text = b"\x093.20.0\0\x01\0\0\0abcdefgh\0";
    let mut bytes = vec![u8::try_from(text.len()).unwrap(), 0, 0, 0];
    bytes.extend_from_slice(text);
    Connect::Send(bytes, Then::Mute)
}

#[tokio::test]
async fn t06_a_name_that_nobody_knows_is_told() {
    let scene = Setting::new(healthy()).address("no-such-host.invalid:{port}").start().await;
    let page = scene.is_down("dns").await;
    assert_eq!(Scene::failures(&page, "connect_timeout"), 0);
    assert!(scene.logged("target is down").contains("no-such-host.invalid"));
    scene.end().await;
}

/// A resolver that answers only when a file is gone, in the place of the C library's.
#[tokio::test]
async fn t06_a_mute_resolver_is_a_timeout_and_holds_few_threads() {
    const CONNECTS: u64 = 4;
    let folder = tempfile::tempdir().unwrap();
    let (library, mute) = (folder.path().join("resolver.so"), folder.path().join("mute"));
    let source = repository().join("tests/e2e/faults/mute_resolver.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(compiled.unwrap().success(), "what links Rust compiles C");
    fs::write(&mute, "").unwrap();
    let scene = Setting::new(healthy())
        .address("mute.test:{port}")
        .top(&format!("[limits]\nmax_connects = {CONNECTS}\n"))
        .variable("LD_PRELOAD", &library)
        .variable("MUTE_WHILE", &mute)
        .start()
        .await;
    let before = process(&scene.is_down("connect_timeout").await.text, "process_threads");
    // Each try leaves a thread behind that nobody can stop, and that keeps its turn to connect. Half of the turns are
    // for targets that are down; the third try waits for one.
    let full = |page: &Page| {
        Scene::failures(page, "connect_timeout") >= CONNECTS / 2
            && process(&page.text, "query_exporter_tries_in_flight") == 1
    };
    let page = scene.exporter.wait_until("the next try waits", SOON, full).await;
    assert_eq!(process(&page.text, "query_exporter_connects_in_flight"), CONNECTS / 2);
    assert_eq!(Scene::failures(&page, "dns"), 0);
    assert!(process(&page.text, "process_threads") <= before + CONNECTS);

    fs::remove_file(&mute).unwrap();
    let page = scene.succeeds().await;
    assert_eq!(page.value("query_exporter_asks", &[]), Some(N as f64));
    scene.end().await;
}

#[tokio::test]
async fn t07_a_login_that_is_refused_is_tried_ever_more_slowly_and_its_secret_read_once_a_try() {
    let cases = [
        (1045, "auth"),
        (3118, "auth"),
        (4151, "auth"),
        (1862, "auth"),
        (1129, "blocked"),
        (1130, "blocked"),
    ];
    join_all(cases.map(|(code, reason)| refused_login(code, reason))).await;
}

async fn refused_login(code: u16, reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (program, tries) = (folder.path().join("secret"), folder.path().join("tries"));
    fs::write(&program, format!("echo try >> {}; echo planted-word", tries.display())).unwrap();
    let command = format!("password_command = [\"/bin/sh\", \"{}\"]", program.display());
    let scene = Setting::new(healthy().login_error(code)).group(&command).start().await;
    scene.is_down(reason).await;
    let page = scene.fails(reason, 1).await;
    assert!(page.of(SICK, "query_exporter_connects_total") <= 10);
    assert!(scene.logged("target is down").contains(&format!("error {code}")));
    // Between the reading and the login another may be counted.
    let (read, logins) = (lines(&tries), scene.sim.counts().logins);
    assert!(read.abs_diff(logins) <= 1, "{read} readings, {logins} logins");
    assert!(!scene.exporter.log().text().contains("planted-word"));
    scene.end().await;
}

fn lines(file: &std::path::Path) -> u64 {
    fs::read_to_string(file).unwrap().lines().count() as u64
}

#[tokio::test]
async fn t08_a_full_server_is_not_asked_twice_in_a_run_and_keeps_what_it_has_given() {
    // It gives us one connection, and refuses the second: with a greeting that is an error, or at the login.
    for script in [healthy().max_connections(1), healthy().login_error(1203)] {
        let limited = script.clone();
        let mut scene = Scene::start(healthy()).await;
        scene.succeeds().await;
        scene.play(limited).await;
        // Its only idle connection goes on, whatever new ones are told.
        let connects = scene.sim.counts().connects;
        scene.succeeds().await;
        assert_eq!(scene.sim.counts().connects, connects);

        scene.sim.restart().await;
        scene.play(script.connect(Connect::Error(1040.into()))).await;
        let page = scene.is_down("too_many_connections").await;
        let tried = page.runs(SICK, "failure");
        assert!(scene.sim.counts().connects <= connects + tried + 1, "no second attempt within a run");
        scene.end().await;
    }
}

#[tokio::test]
async fn a_password_in_full_goes_to_nobody_who_has_not_shown_who_it_is() {
    let scene = Setting::new(healthy().switch_to(Plugin::Clear))
        .group("password = \"planted-word\"")
        .group("tls = { mode = \"disabled\" }")
        .start()
        .await;
    scene
        .exporter
        .wait_until("it is refused", SOON, |page| !page.is_up(SICK) && page.reason(SICK).is_some())
        .await;
    let login =
        |record: &fleetsim::Record| matches!(&record.event, Event::Login(login) if login.password.is_some());
    assert!(!scene.sim.records().iter().any(login));
    scene.end().await;
}
