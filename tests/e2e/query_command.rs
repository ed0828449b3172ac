//! `query`: a statement is tried on real servers, shown, compared and explained, and nothing of it is left there.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes its texts so")]

use std::process::Command;

use expect_test::expect;
use rustix::process::Signal;

use crate::support::{
    account::Account,
    exporter::{SOON, command, folder_with, run},
    on_both_servers,
    process::{self, Process},
    servers::{self, Kind, Server},
};

on_both_servers!(
    a_target_is_shown_whole,
    wrong_sql_and_a_missing_grant_are_told_with_the_servers_number,
    a_query_that_takes_too_long_is_told_and_gone,
    an_interrupt_leaves_nothing_at_the_server,
    a_plan_is_asked_for_and_the_statement_not_run,
);

/// No output may ever hold it.
const PASSWORD: &str = "planted-hunter2";

const THINGS: &str = r#"
[queries.things]
sql = "select name, n, at from things"
interval = "10s"
timeout = "2s"
[queries.things.metrics.things]
type = "gauge"
help = "things by name"
labels = ["name"]
value = "n"
"#;

/// An account that may read a table of things, on a server where there is one more that it may not read.
async fn account(server: &Server, n_type: &str, rows: &str) -> Account {
    let account = Account::with_password(server, "trial", PASSWORD).await;
    let schema = &account.schema;
    let other = format!("{schema}_other");
    let sql = format!(
        "create table {schema}.things (name varchar(20), n {n_type}, at datetime);
         insert into {schema}.things values {rows};
         create database {other}; create table {other}.secret (n int)"
    );
    server.admin().await.run(&sql).await;
    account
}

const ROWS: &str = "('a', 1, '2024-02-29 12:00:00'), ('a', 2, null), ('b\\n', null, null), ('c', 4, null)";

/// Runs `query` with these arguments on a configuration: the exit code, standard output and standard error.
async fn query(config: &str, args: &[&str]) -> (i32, String, String) {
    let (_folder, path) = folder_with(config);
    let mut command = command();
    command.arg("query").args(args).arg("--config").arg(&path);
    let (code, stdout, stderr) = run(command).await;
    for text in [&stdout, &stderr] {
        assert!(!text.contains(PASSWORD) && !text.contains('\x1b'), "{text}");
    }
    (code, stdout, stderr)
}

/// The text without what differs from run to run: times, versions, addresses and names of accounts. What stood in
/// columns is two spaces apart.
async fn normal(text: &str, servers: &[(&Server, &Account)]) -> String {
    let mut text = text.to_owned();
    for (n, (server, account)) in servers.iter().enumerate() {
        let version = server.admin().await.rows("select @@version").await[0][0].clone().unwrap();
        let short = version.split('-').next().unwrap();
        for (what, name) in
            [(server.address(), format!("ADDRESS{n}")), (account.user.clone(), format!("ACCOUNT{n}"))]
        {
            text = text.replace(&what, &name);
        }
        text = text.replace(&version, "VERSION").replace(short, "VERSION");
    }
    text.lines().map(|line| normal_line(line) + "\n").collect()
}

fn normal_line(line: &str) -> String {
    let words: Vec<&str> = line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    let timeless = words.iter().map(|word| {
        let time = word
            .split_once(" ms")
            .and_then(|(time, _)| Some((time, time.split(' ').next_back()?.parse::<f64>().ok()?)));
        match time {
            Some((time, _)) => {
                let kept = time.rsplit_once(' ').map_or("", |(kept, _)| kept);
                format!("{kept}{}TIME", if kept.is_empty() { "" } else { " " })
            }
            None => (*word).to_owned(),
        }
    });
    timeless.collect::<Vec<_>>().join("  ")
}

async fn a_target_is_shown_whole(server: &Server) {
    let account = account(server, "decimal(10,2)", ROWS).await;
    let config = account.group("g", &["db"]) + THINGS;
    let (code, stdout, stderr) = query(&config, &["--name", "things"]).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let flavour = if server.kind == Kind::MariaDb { "mariadb" } else { "mysql" };
    let expected = expect![[r#"
        things@db: FLAVOUR VERSION at ADDRESS0

        On the page
        # HELP query_exporter_things things by name
        # TYPE query_exporter_things gauge
        query_exporter_things{target="db",name="a"} 1.00
        query_exporter_things{target="db",name="c"} 4.00

        Columns
        name  type  used as
        name  VARCHAR  label of query_exporter_things
        n  DECIMAL  value of query_exporter_things
        at  DATETIME  nothing

        Rows
        name  n  at
        a  1.00  2024-02-29 12:00:00
        a  2.00  NULL
        b\n  NULL  NULL
        c  4.00  NULL

        In numbers
        rows  4 (max_rows 10000)
        series  2 (max_series 10000)
        left out  1 sample, duplicate: rows with the same labels as one before; the first is kept
        NULL  1 in n: no sample (on_null = "skip") of query_exporter_things
        connect  TIME  resolving the name, TLS, login and the session's settings
        answer  TIME  from sending the statement to the end of its answer, seen from here; the limit is 2s
    "#]];
    let shown = normal(&stdout, &[(server, &account)]).await;
    expected.assert_eq(&shown.replacen(flavour, "FLAVOUR", 1));
    account.assert_no_session_left(&mut server.admin().await).await;
}

#[tokio::test]
async fn a_mixed_fleet_gets_a_line_each_and_its_differences() {
    let mariadb = servers::mariadb();
    let Some(mysql) = servers::mysql() else { return };
    let on_mariadb = account(mariadb, "decimal(10,2)", ROWS).await;
    let on_mysql = account(mysql, "bigint", "('a', 1, null)").await;
    let both = [(mariadb, &on_mariadb), (mysql, &on_mysql)];
    let dead = "[groups.c]\nuser = \"nobody\"\ntargets = { dead = \"127.0.0.1:1\" }\n";
    let config = on_mariadb.group("a", &["maria", "twin"]) + &on_mysql.group("b", &["my"]) + dead + THINGS;

    let (code, stdout, stderr) = query(&config, &["--name", "things"]).await;
    assert_eq!(code, 1);
    expect![[r#"
        things on 4 targets: 1 failed

        target  server  outcome  rows  series  connect  answer
        maria  mariadb VERSION  ok  4  2  TIME  TIME
        twin  mariadb VERSION  ok  4  2  TIME  TIME
        my  mysql VERSION  ok  1  1  TIME  TIME
        dead  -  refused  -  -  TIME  -

        Differences
        columns
        name (varchar), n (decimal), at (datetime): maria, twin
        n (bigint) instead of n (decimal): my
        rows
        4: maria, twin
        1: my

        Notes
        1 sample, duplicate: rows with the same labels as one before; the first is kept: maria, twin
    "#]]
    .assert_eq(&normal(&stdout, &both).await);
    expect![[r#"
        error: dead: refused: Connection refused (os error 111)
        help: nothing listens on 127.0.0.1:1: does the server run, and is the port right?
    "#]]
    .assert_eq(&stderr);

    let (code, stdout, stderr) =
        query(&config, &["--name", "things", "--target", "t*", "--group", "b"]).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("things on 2 targets: 0 failed\n"), "{stdout}");
    for (server, account) in both {
        account.assert_no_session_left(&mut server.admin().await).await;
    }
}

async fn wrong_sql_and_a_missing_grant_are_told_with_the_servers_number(server: &Server) {
    let account = account(server, "int", ROWS).await;
    let config = account.group("g", &["db"]) + THINGS;
    let told = async |sql: &str| {
        let (code, _, stderr) = query(&config, &["--sql", sql]).await;
        assert_eq!(code, 1, "{stderr}");
        stderr
    };
    let check = |stderr: &str, parts: &[&str]| {
        for part in parts {
            assert!(stderr.contains(part), "no {part:?} in\n{stderr}");
        }
        assert_eq!(stderr.lines().count(), 2, "{stderr}");
    };
    check(
        &told("select frm things").await,
        &["error: query@db: server_error: ", "(error 1054)\nhelp: there is no such column"],
    );
    check(&told("select n from (").await, &["error: query@db: syntax: ", "(error 1064)\nhelp: "]);
    check(
        &told("select n from nowhere").await,
        &["error: query@db: server_error: ", "(error 1146)\nhelp: there is no such table"],
    );
    let secret = format!("{}_other.secret", account.schema);
    let denied = told(&format!("select n from {secret}")).await;
    check(&denied, &["error: query@db: denied: ", "(error 1142)\nhelp: GRANT SELECT ON "]);

    // What is advised helps.
    let grant = denied.split_once("help: ").unwrap().1.split(';').next().unwrap();
    let grant = grant.replace("SCHEMA.", &format!("{}_other.", account.schema)).replace("HOST", "%");
    server.admin().await.run(&grant).await;
    let (code, stdout, stderr) = query(&config, &["--sql", &format!("select n from {secret}")]).await;
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
}

#[tokio::test]
async fn what_keeps_us_from_a_session_is_told() {
    let mariadb = servers::mariadb();
    let account = account(mariadb, "int", ROWS).await;
    let dead = account.group_of("dead", "gone = \"127.0.0.1:1\"");
    let locked = account.group("locked", &["locked"]).replace(PASSWORD, "wrong");
    let tls = account.group("tls", &["plain"]) + "tls = { mode = \"verify_identity\" }\n";
    let schema = account
        .group("schema", &["nowhere"])
        .replace(&format!("database = \"{}\"", account.schema), "database = \"nope\"");
    let config = dead + &locked + &tls + &schema + THINGS;
    let told = async |target: &str| {
        let (code, stdout, stderr) = query(&config, &["--name", "things", "--target", target]).await;
        assert_eq!(code, 1, "{stderr}");
        assert!(stdout.starts_with(&format!("things@{target}: no session at 127.0.0.1:")), "{stdout}");
        normal(&stderr, &[(mariadb, &account)]).await
    };
    expect![[r#"
        error: things@gone: refused: Connection refused (os error 111)
        help: nothing listens on 127.0.0.1:1: does the server run, and is the port right?
    "#]]
    .assert_eq(&told("gone").await);
    expect![[r#"
        error: things@locked: auth: Access denied for user 'ACCOUNT0'@'localhost' (using password: YES) (error 1045)
        help: check the password of ACCOUNT0 (it stands in the configuration), and that the account exists for the host that the server names
    "#]].assert_eq(&told("locked").await);
    expect![[r#"
        error: things@nowhere: auth: Access denied for user 'ACCOUNT0'@'%' to database 'nope' (error 1044)
        help: GRANT SELECT ON `nope`.* TO 'ACCOUNT0'@'%'
    "#]]
    .assert_eq(&told("nowhere").await);
    let tls = told("plain").await;
    assert!(tls.starts_with("error: things@plain: tls: "), "{tls}");
    assert!(tls.contains("\nhelp: the server's certificate must be signed by an authority in ca"), "{tls}");
}

/// Computes for hours.
const ENDLESS: &str = "select /*+ SET_VAR(cte_max_recursion_depth = 4294967295) */ n from (with recursive r (n) as \
     (select 1 union all select n + 1 from r where n < 4000000000) select count(*) as n from r) t";

/// Computes for days, and asks all the time whether it is to end. All who sleep on a MariaDB wait under one mutex, under
/// which its limit or its KILL may come a second late.
const BUSY: &str = "select benchmark(1000000000000, md5('a')) as n";

async fn a_query_that_takes_too_long_is_told_and_gone(server: &Server) {
    let account = account(server, "int", ROWS).await;
    let config = account.group("g", &["db"]) + THINGS;
    let by_the_server = "the server itself ended it at its limit, and nothing of it runs any more";
    let cases = match server.kind {
        Kind::MariaDb => vec![(BUSY, by_the_server)],
        // It limits SELECT alone; all else needs a KILL.
        Kind::MySql => vec![
            (ENDLESS, by_the_server),
            (
                "show tables where sleep(60) = 0",
                "its session was killed (KILL), and nothing of it runs any more",
            ),
        ],
    };
    for (sql, ended) in cases {
        let (code, _, stderr) = query(&config, &["--sql", sql, "--timeout", "1s"]).await;
        assert_eq!(code, 1);
        assert!(stderr.starts_with("error: query@db: timeout: "), "{stderr}");
        assert!(stderr.contains(&format!("help: it did not end within 1s; {ended}; ask")), "{stderr}");
        account.assert_no_session_left(&mut server.admin().await).await;
    }
}

async fn an_interrupt_leaves_nothing_at_the_server(server: &Server) {
    let account = account(server, "int", ROWS).await;
    let (_folder, path) = folder_with(&(account.group("g", &["db", "twin"]) + THINGS));
    let (sql, part) = match server.kind {
        Kind::MariaDb => (BUSY, "benchmark("),
        Kind::MySql => ("select sleep(100) as n", "sleep(100)"),
    };
    let mut command = command();
    command.args(["query", "--target", "*", "--timeout", "1m", "--sql", sql, "--config"]).arg(&path);
    let mut process = Process::start(command);
    let mut admin = server.admin().await;
    account.busy_with(&mut admin, part, SOON).await;
    process.signal(Signal::INT);
    let status = process.ended(SOON).await;
    assert_eq!((status.code(), process.stdout.text().as_str()), (Some(1), ""));
    let said = "fleet-query-exporter: interrupted: what was running has ended at the servers too\n";
    assert_eq!(process.stderr.text(), said);
    account.assert_no_session_left(&mut admin).await;
}

async fn a_plan_is_asked_for_and_the_statement_not_run(server: &Server) {
    let account = account(server, "int", ROWS).await;
    let config = account.group("g", &["db"]) + THINGS;
    let (code, stdout, stderr) = query(&config, &["--name", "things", "--explain"]).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let plan = stdout.split_once("\nPlan\n").unwrap().1;
    let heads: Vec<_> = plan.lines().next().unwrap().split_whitespace().take(3).collect();
    assert_eq!(heads, ["id", "select_type", "table"], "{stdout}");
    assert!(plan.lines().nth(1).unwrap().contains("things"), "{stdout}");
    assert!(!stdout.contains("On the page") && !stdout.contains("Columns"), "{stdout}");

    // It would not come back.
    let (code, stdout, _) = query(&config, &["--sql", "select sleep(100) from things", "--explain"]).await;
    assert_eq!(code, 0, "{stdout}");
}

#[tokio::test]
async fn wrong_usage_is_told_before_anybody_connects() {
    let config = format!(
        "[groups.g]\nuser = \"u\"\ntargets = {{ one = \"127.0.0.1:1\", two = \"127.0.0.1:1\" }}\n{THINGS}"
    );
    for (args, said) in [
        (&["--name", "thing"][..], "there is no query `thing`; did you mean `things`?"),
        (&["--name", "things", "--target", "on"], "there is no target `on`; did you mean `one`?"),
        (&["--sql", "select 1"], "say where: --target NAME or --group NAME"),
        (
            &["--sql", "select 1 into @a", "--target", "one"],
            "--sql:1:10: error: INTO writes a file or a variable",
        ),
        (&["--sql-file", "/nowhere.sql", "--target", "one"], "cannot read /nowhere.sql: "),
        (&["--sql", "show tables", "--explain", "--target", "one"], "there is no plan of SHOW"),
        (&["--target", "one"], "--name <QUERY>"),
    ] {
        let (code, stdout, stderr) = query(&config, args).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(said), "no {said:?} in\n{stderr}");
    }
}

/// Runs `query` on a terminal, and gives all that it showed there.
async fn on_terminal(path: &std::path::Path, args: &str, variable: Option<(&str, &str)>) -> String {
    let program = env!("CARGO_BIN_EXE_fleet-query-exporter");
    let mut command: Command = process::command("script");
    command.env_remove("NO_COLOR").env("TERM", "xterm").envs(variable);
    command.args([
        "-qec",
        &format!("stty cols 60; {program} query {args} --config {}", path.display()),
        "/dev/null",
    ]);
    let (_, shown, _) = run(command).await;
    shown
}

#[tokio::test]
async fn a_terminal_gets_colours_its_own_width_and_progress() {
    let server = servers::mariadb();
    let account = account(server, "int", ROWS).await;
    let (_folder, path) = folder_with(&(account.group("g", &["db", "twin"]) + THINGS));
    let shown = on_terminal(&path, "--name things", None).await;
    assert!(shown.contains("\x1b[1mthings on 2 targets: 0 failed\x1b[0m"), "{shown:?}");
    assert!(shown.contains("…\x1b[0m"), "it is wider than the terminal: {shown:?}");
    let plain = on_terminal(&path, "--name things", Some(("NO_COLOR", "1"))).await;
    assert!(plain.contains("things on 2 targets") && !plain.contains("\x1b["), "{plain:?}");
    let slow = on_terminal(&path, "--sql 'select sleep(2) as n' --target '*'", None).await;
    assert!(slow.contains("\r\x1b[K1 s, 0 of 2 targets; the time limit is 5s"), "{slow:?}");
}
