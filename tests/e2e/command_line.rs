//! The command line as its users type it: flags, variables, exit codes, messages.

use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    process::Command,
};

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON, check, command, folder_with, run},
    quoted, servers,
};

/// A fleet of one target.
fn config(target: &str) -> String {
    format!(
        "[groups.g]\nuser = \"nobody\"\ntargets = {{ db = \"{target}\" }}\n\
         [queries.q]\nsql = \"select 1 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
         [queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
    )
}

/// A target that sees whether anybody connects.
struct Witness {
    listener: TcpListener,
    address: SocketAddr,
}

impl Witness {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    fn assert_nobody_came(&self) {
        let came = self.listener.accept();
        assert!(matches!(&came, Err(error) if error.kind() == ErrorKind::WouldBlock), "{came:?}");
    }
}

fn with_args(args: &[&str]) -> Command {
    let mut command = command();
    command.args(args);
    command
}

#[tokio::test]
async fn version_and_help_are_told_on_standard_output() {
    let (code, stdout, stderr) = run(with_args(&["--version"])).await;
    let expected = concat!("fleet-query-exporter ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, expected, ""));

    let (code, stdout, stderr) = run(with_args(&["--help"])).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    for word in [
        "--config",
        "--bind",
        "--check",
        "--log-level",
        "--log-format",
        "--version",
        "health",
        "fleet.toml",
        "FLEET_QUERY_EXPORTER_CONFIG",
        "FLEET_QUERY_EXPORTER_BIND",
        "FLEET_QUERY_EXPORTER_LOG_LEVEL",
        "FLEET_QUERY_EXPORTER_LOG_FORMAT",
        "Exit codes",
    ] {
        assert!(stdout.contains(word), "no {word} in\n{stdout}");
    }
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2() {
    for args in [&["--chekc"][..], &["--log-level", "loud"], &["--log-format"], &["helth"]] {
        let (code, stdout, stderr) = run(with_args(args)).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}");
        assert!(stderr.contains(args[0]) && stderr.contains("--help"), "{stderr}");
    }
}

#[tokio::test]
async fn a_good_configuration_passes_its_check_with_a_summary_and_without_a_connection() {
    let witness = Witness::new();
    let (code, stdout, stderr) = check(&config(&witness.address.to_string())).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("fleet.toml: 1 target, 1 query, 1 item, 1.0 runs a second in all"), "{stdout}");
    witness.assert_nobody_came();
}

#[tokio::test]
async fn t43_every_mistake_of_a_configuration_is_told_with_its_place() {
    let bad = config("127.0.0.1:1").replace("1s", "fast").replace("gauge", "guage");
    let (folder, path) = folder_with(&bad);
    for check in [&["--check"][..], &[]] {
        let (code, stdout, stderr) = run({
            let mut command = with_args(check);
            command.arg("--config").arg(&path);
            command
        })
        .await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        // The line and column of each value that is wrong.
        for place in ["6:12", "7:11", "9:8"] {
            let message = format!("{}:{place}: error: ", path.display());
            assert!(stderr.contains(&message), "no {message:?} in\n{stderr}");
        }
        assert!(stderr.contains("help: ") && stderr.ends_with("3 errors\n"), "{stderr}");
    }
    drop(folder);
}

#[tokio::test]
async fn a_configuration_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere.toml");
    for args in [&["--check"][..], &[], &["health"]] {
        let mut command = with_args(args);
        command.arg("--config").arg(&missing);
        let (code, stdout, stderr) = run(command).await;
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(stderr.contains(&missing.display().to_string()), "{stderr}");
    }
    // What is read where nothing is said.
    let mut command = command();
    command.current_dir(folder.path());
    let (code, _, stderr) = run(command).await;
    assert_eq!(code, 2);
    assert!(stderr.contains("fleet.toml"), "{stderr}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_before_any_server_is_bothered() {
    let (witness, taken) = (Witness::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = taken.local_addr().map(|address| (address, taken)).unwrap();
    let (_folder, path) = folder_with(&config(&witness.address.to_string()));
    let mut command = with_args(&["--bind", &taken.0.to_string()]);
    command.arg("--config").arg(path);
    let (code, stdout, stderr) = run(command).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains(&format!("cannot listen on {}", taken.0)), "{stderr}");
    witness.assert_nobody_came();
}

#[tokio::test]
async fn health_asks_the_exporter_that_runs_here() {
    let exporter = Exporter::start(&config("127.0.0.1:1")).await;
    let address = exporter.address.clone();
    let listens_there = format!("[server]\nlisten = \"{address}\"\n{}", config("127.0.0.1:1"));
    let (_folder, path) = folder_with(&listens_there);
    let mut by_file = with_args(&["health", "--config"]);
    by_file.arg(&path);
    let mut by_variable = with_args(&["health"]);
    by_variable.env("FLEET_QUERY_EXPORTER_BIND", &address);
    for command in [with_args(&["health", "--bind", &address]), by_file, by_variable] {
        let (code, _, stderr) = run(command).await;
        assert_eq!(code, 0, "{stderr}");
    }

    exporter.stop(&[]).await;
    let (code, _, stderr) = run(with_args(&["health", "--bind", &address])).await;
    assert_eq!(code, 1);
    assert!(stderr.contains(&address), "{stderr}");
}

#[tokio::test]
async fn a_flag_beats_a_variable_beats_the_file() {
    let config = format!("[server]\nlisten = \"127.0.0.2:0\"\n{}", config("127.0.0.1:1"));
    for (variable, flag, listens) in [
        (None, None, "127.0.0.2:"),
        (Some("127.0.0.3:0"), None, "127.0.0.3:"),
        (Some("127.0.0.3:0"), Some("127.0.0.4:0"), "127.0.0.4:"),
    ] {
        let (folder, path) = folder_with(&config);
        let mut command = command();
        command.env("FLEET_QUERY_EXPORTER_CONFIG", path);
        if let Some(variable) = variable {
            command.env("FLEET_QUERY_EXPORTER_BIND", variable);
        }
        if let Some(flag) = flag {
            command.args(["--bind", flag]);
        }
        let exporter = Exporter::launch(command, folder).await;
        assert!(exporter.address.starts_with(listens), "{}", exporter.address);
        exporter.stop(&[]).await;
    }
}

#[tokio::test]
async fn the_configs_flag_beats_its_variable() {
    let (other, wrong) = folder_with("not even TOML");
    let exporter = Exporter::start_with(&config("127.0.0.1:1"), |command, _| {
        command.env("FLEET_QUERY_EXPORTER_CONFIG", &wrong);
    })
    .await;
    exporter.stop(&[]).await;
    assert_eq!(fs::read_to_string(wrong).unwrap(), "not even TOML");
    drop(other);
}

#[tokio::test]
async fn the_log_has_the_level_and_the_format_that_were_asked_for() {
    let server = servers::mariadb();
    let account = Account::new(server, "level").await;
    let config = config(&account.address).replace(
        "user = \"nobody\"",
        &format!("user = {}\npassword = {}", quoted(&account.user), quoted(&account.password)),
    );
    // That a target is up at the start is worth a DEBUG.
    for (flags, levels) in [
        (&["--log-format", "json"][..], &["INFO", "DEBUG"][..]),
        (&["--log-format", "json", "--log-level", "info"], &["INFO"]),
    ] {
        let exporter = Exporter::start_with(&config, |command, _| {
            command.args(flags);
            command.env("FLEET_QUERY_EXPORTER_LOG_FORMAT", "text");
            command.env("FLEET_QUERY_EXPORTER_LOG_LEVEL", "debug");
        })
        .await;
        exporter.wait_until("it is up", SOON, |page| page.is_up("db")).await;
        let lines = exporter.stop_and_read(&[(server, &account)]).await;
        let seen: Vec<_> = lines
            .iter()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|json| json["level"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(seen, levels, "{lines:#?}");
    }
}
