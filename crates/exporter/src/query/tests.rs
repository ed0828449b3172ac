//! Golden pages of trials that are given as data, and the documentation that shows them.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes its texts so")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use clap::Parser as _;
use expect_test::{Expect, expect};
use fleet_collector::{
    Failure, Reason, Rows,
    driver::{Flavour, Server},
    mapping::DROPPED,
    rollup::KillResult,
    rows::{CellKind, Column},
    snapshot::FamilyText,
    trial::{Mapping, Trial},
};

use super::{Attempt, View, advice, compare, show, terminal::Look, trials::Tried};
use crate::{
    cli::{Cli, Command},
    config::{self, Config},
};

const FLEET: &str = r#"
[groups.prod]
user = "exporter"
database = "shop"

[groups.prod.targets]
orders-1 = "10.0.0.1"
orders-2 = "10.0.0.2"
stock = "10.0.0.3:3307"

[queries.sessions]
sql = "select user, count(*) as sessions, max(time) as longest, db from information_schema.processlist group by user, db"
timeout = "2s"
metrics.sessions = { type = "gauge", help = "sessions by user", labels = ["user"], value = "sessions" }
metrics.session_longest_seconds = { type = "gauge", help = "the longest session's age", labels = ["user"], value = "longest" }

[queries.of_mysql]
timeout = "2s"
metrics.n = { type = "gauge", help = "n", value = "n" }
[[queries.of_mysql.variants]]
when = { flavour = "mysql", version = ">=8" }
sql = "select 1 as n"
"#;

const LOOK: Look = Look { colours: false, width: 120, rows: 20 };

fn fleet() -> Config {
    config::parse(Path::new("fleet.toml"), FLEET, None).unwrap_or_else(|report| panic!("{report}")).config
}

/// What a command line asks for.
fn attempt(args: &str) -> Result<Attempt, String> {
    let cli = Cli::parse_from(["x", "query"].into_iter().chain(args.split(' ').map(|arg| match arg {
        "SQL" => "select user, n from t",
        arg => arg,
    })));
    let Some(Command::Query(args)) = cli.command else { panic!() };
    Attempt::new(&fleet(), &args).map_err(|wrong| wrong.to_string())
}

fn server(flavour: Flavour, version: &str) -> Arc<Server> {
    Arc::new(Server { flavour, version: version.to_owned(), ..Server::default() })
}

fn mariadb() -> Arc<Server> {
    server(Flavour::MariaDb, "10.11.6-MariaDB-log")
}

/// An answer: columns as `name TYPE`, cells with `|` between them.
fn rows(columns: &[(&str, &'static str)], table: &[&str]) -> Rows {
    let mut rows = Rows::new(fleet_collector::ResultLimits::default());
    rows.mark_answered();
    if !table.is_empty() {
        let column = |(name, type_name): &(&str, &'static str)| Column {
            name: (*name).to_owned(),
            kind: CellKind::Text,
            type_name,
        };
        rows.set_columns(columns.iter().map(column).collect());
    }
    for row in table {
        rows.push(row.split('|').map(|cell| (cell != "NULL").then_some(cell.as_bytes()))).unwrap();
    }
    rows
}

const SESSIONS: [(&str, &str); 4] =
    [("user", "VARCHAR"), ("sessions", "BIGINT"), ("longest", "INT"), ("db", "VARCHAR")];

/// A trial in which a server answered with these rows.
fn answered(server: &Arc<Server>, rows: Rows) -> Trial {
    Trial {
        server: Some(Arc::clone(server)),
        connect: Duration::from_micros(6120),
        answer: Some(Duration::from_micros(840)),
        rows: Some(rows),
        mapping: None,
        failure: None,
        kill: None,
        left_behind: false,
    }
}

/// The same where these lines would be published, and so many samples left out.
fn published(trial: Trial, attempt: &Attempt, lines: &[&'static str], dropped: [u64; 3]) -> Trial {
    let families = attempt.query.metrics.iter().zip(lines).map(|(metric, lines)| FamilyText {
        family: Arc::clone(&metric.family),
        lines: vec![lines.as_bytes().into()],
    });
    let mut counted = DROPPED.map(|reason| (reason, 0));
    counted.iter_mut().zip(dropped).for_each(|((_, n), dropped)| *n = dropped);
    let mapping = Mapping {
        families: families.collect(),
        series: lines.iter().map(|lines| lines.lines().count()).sum(),
        dropped: counted,
        cut: 0,
        not_a_number: (dropped[1] > 0)
            .then(|| "column longest holds \"never\", which is not a number".to_owned()),
    };
    Trial { mapping: Some(mapping), ..trial }
}

fn failed(server: Option<Arc<Server>>, failure: Failure) -> Trial {
    let answer = server.is_some().then_some(Duration::from_millis(2004));
    Trial {
        server,
        connect: Duration::from_micros(310),
        answer,
        rows: None,
        mapping: None,
        failure: Some(failure),
        kill: None,
        left_behind: false,
    }
}

/// The trials of an attempt, which are these.
fn tried(attempt: Attempt, trials: Vec<Trial>) -> (View, Vec<Tried>) {
    let Attempt { query, view, candidates, .. } = attempt;
    assert_eq!(candidates.len(), trials.len());
    let tried = candidates.into_iter().zip(trials);
    (view, tried.map(|(candidate, trial)| Tried { query: Arc::clone(&query), candidate, trial }).collect())
}

fn one(attempt: Attempt, trial: Trial) -> String {
    let (view, tried) = tried(attempt, vec![trial]);
    let error = tried[0].trial.failure.as_ref().map(|failure| advice::of_one(&tried[0], failure));
    show::page(&tried[0], view, LOOK) + &error.unwrap_or_default()
}

fn many(attempt: Attempt, trials: Vec<Trial>) -> String {
    let name = Arc::clone(&attempt.query.name);
    let (view, tried) = tried(attempt, trials);
    let lines: Vec<_> = tried.iter().map(|tried| compare::Line::new(tried, view, LOOK.rows)).collect();
    let failures = compare::failures(&lines);
    compare::page(&name, &lines, view, LOOK) + if failures.is_empty() { "" } else { "\n" } + &failures
}

/// Compares with the golden text, which the documentation shows too.
#[track_caller]
fn check_documented(command: &str, text: &str, expected: &Expect) {
    expected.assert_eq(text);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/query.md");
    let page = fs::read_to_string(page).unwrap();
    let block = format!("```\n$ fleet-query-exporter query {command}\n{text}```\n");
    assert!(page.contains(&block), "docs/query.md does not show this:\n{block}");
}

#[test]
fn a_target_that_answers_is_shown_whole() {
    let command = "--name sessions --target orders-1";
    let attempt = attempt(command).unwrap();
    let table = ["app|12|5|shop", "app|1|NULL|NULL", "root|1|0|mysql"];
    let trial = answered(&mariadb(), rows(&SESSIONS, &table));
    let lines = [
        "query_exporter_sessions{target=\"orders-1\",user=\"app\"} 12\nquery_exporter_sessions{target=\"orders-1\",user=\"root\"} 1\n",
        "query_exporter_session_longest_seconds{target=\"orders-1\",user=\"app\"} 5\nquery_exporter_session_longest_seconds{target=\"orders-1\",user=\"root\"} 0\n",
    ];
    let trial = published(trial, &attempt, &lines, [1, 0, 0]);
    check_documented(
        command,
        &one(attempt, trial),
        &expect![[r#"
        sessions@orders-1: mariadb 10.11.6-MariaDB-log at 10.0.0.1:3306

        On the page
          # HELP query_exporter_sessions sessions by user
          # TYPE query_exporter_sessions gauge
          query_exporter_sessions{target="orders-1",user="app"} 12
          query_exporter_sessions{target="orders-1",user="root"} 1
          # HELP query_exporter_session_longest_seconds the longest session's age
          # TYPE query_exporter_session_longest_seconds gauge
          query_exporter_session_longest_seconds{target="orders-1",user="app"} 5
          query_exporter_session_longest_seconds{target="orders-1",user="root"} 0

        Columns
          name      type     used as
          user      VARCHAR  label of query_exporter_sessions, query_exporter_session_longest_seconds
          sessions  BIGINT   value of query_exporter_sessions
          longest   INT      value of query_exporter_session_longest_seconds
          db        VARCHAR  nothing

        Rows
          user  sessions  longest  db
          app         12        5  shop
          app          1     NULL  NULL
          root         1        0  mysql

        In numbers
          rows      3 (max_rows 10000)
          series    4 (max_series 10000)
          left out  1 sample, duplicate: rows with the same labels as one before; the first is kept
          NULL      1 in longest: no sample (on_null = "skip") of query_exporter_session_longest_seconds
          connect   6.1 ms  resolving the name, TLS, login and the session's settings
          answer    0.8 ms  from sending the statement to the end of its answer, seen from here; the limit is 2s
    "#]],
    );
}

#[test]
fn many_targets_get_a_line_each_and_what_differs_is_said() {
    let command = "--name sessions";
    let attempt = attempt(command).unwrap();
    let line = |target: &'static str| [target];
    let mysql = [("USER", "VARCHAR"), ("sessions", "BIGINT"), ("longest", "BIGINT"), ("DB", "VARCHAR")];
    let trials = vec![
        published(
            answered(&mariadb(), rows(&SESSIONS, &["app|12|5|shop"])),
            &attempt,
            &line("query_exporter_sessions{target=\"orders-1\",user=\"app\"} 12\n"),
            [0, 1, 0],
        ),
        published(
            answered(&server(Flavour::MySql, "9.7.0"), rows(&mysql, &["app|1|5|shop", "root|1|5|shop"])),
            &attempt,
            &line(
                "query_exporter_sessions{target=\"orders-2\",user=\"app\"} 1\nquery_exporter_sessions{target=\"orders-2\",user=\"root\"} 1\n",
            ),
            [0, 0, 0],
        ),
        failed(None, Failure::unanswered(Reason::Refused, "Connection refused (os error 111)")),
    ];
    check_documented(
        command,
        &many(attempt, trials),
        &expect![[r#"
            sessions on 3 targets: 1 failed

              target    server           outcome  rows  series  connect  answer
              orders-1  mariadb 10.11.6  ok          1       1   6.1 ms  0.8 ms
              orders-2  mysql 9.7.0      ok          2       2   6.1 ms  0.8 ms
              stock     -                refused     -       -   0.3 ms       -

            Differences
              columns
                user (varchar), sessions (bigint), longest (int), db (varchar): orders-1
                longest (bigint) instead of longest (int): orders-2
              rows
                1: orders-1
                2: orders-2

            Notes
              1 sample, not_a_number: column longest holds "never", which is not a number: orders-1

            error: stock: refused: Connection refused (os error 111)
            help: nothing listens on 10.0.0.3:3307: does the server run, and is the port right?
        "#]],
    );
}

#[test]
fn a_statement_without_a_name_gets_the_beginning_of_a_configuration() {
    let attempt = attempt("--sql SQL --target orders-1").unwrap();
    let columns =
        [("user", "VARCHAR"), ("Queries", "BIGINT UNSIGNED"), ("count(*)", "BIGINT"), ("since", "DATETIME")];
    let page = one(attempt, answered(&mariadb(), rows(&columns, &["app|12|3|2024-01-01 00:00:00"])));
    expect![[r#"
        query@orders-1: mariadb 10.11.6-MariaDB-log at 10.0.0.1:3306

        Columns
          name      type
          user      VARCHAR
          Queries   BIGINT UNSIGNED
          count(*)  BIGINT
          since     DATETIME

        Rows
          user  Queries  count(*)  since
          app        12         3  2024-01-01 00:00:00

        In numbers
          rows      1 (max_rows 10000)
          connect   6.1 ms  resolving the name, TLS, login and the session's settings
          answer    0.8 ms  from sending the statement to the end of its answer, seen from here; the limit is 5s

        To begin with, for the configuration
          [queries.NAME]
          sql = "select user, n from t"
          interval = "1m"
          timeout = "5s"
          # to use count(*), give it a name with AS

          [queries.NAME.metrics.queries]
          type = "gauge"
          help = "Queries of NAME"
          labels = ["user"]
          value = "Queries"
    "#]].assert_eq(&page);

    // It is a configuration once it has a name and a group.
    let (_, skeleton) = page.split_once("for the configuration\n").unwrap();
    let whole = format!("[groups.g]\nuser = \"u\"\ntargets = {{ t = \"h\" }}\n{skeleton}");
    let loaded =
        config::parse(Path::new("new.toml"), &whole, None).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.config.queries[0].metrics[0].labels, ["user"]);
}

#[test]
fn a_plan_is_shown_as_a_table_and_equal_plans_once() {
    let plan = [("id", "BIGINT"), ("select_type", "VARCHAR"), ("rows", "BIGINT")];
    let of = |rows_read: &str| answered(&mariadb(), rows(&plan, &[&format!("1|SIMPLE|{rows_read}")]));
    let attempt = attempt("--name sessions --explain").unwrap();
    let sql = attempt.query.statement.as_ref().unwrap().sql().to_owned();
    assert!(sql.starts_with("EXPLAIN FORMAT=TRADITIONAL select user"), "{sql}");
    expect![[r#"
        sessions on 3 targets: 0 failed

          target    server           outcome  rows  connect  answer
          orders-1  mariadb 10.11.6  ok          1   6.1 ms  0.8 ms
          orders-2  mariadb 10.11.6  ok          1   6.1 ms  0.8 ms
          stock     mariadb 10.11.6  ok          1   6.1 ms  0.8 ms

        Plan on orders-1, stock
          id  select_type  rows
           1  SIMPLE          5

        Plan on orders-2
          id  select_type  rows
           1  SIMPLE          7
    "#]]
    .assert_eq(&many(attempt, vec![of("5"), of("7"), of("5")]));
    let error = self::attempt("--sql show --target stock --explain");
    assert_eq!(
        error.unwrap_err(),
        "there is no plan of SHOW, DESCRIBE, EXPLAIN and CALL: leave --explain away"
    );
}

#[test]
fn an_empty_answer_and_a_server_that_nothing_is_for_are_said() {
    let empty = answered(&mariadb(), rows(&SESSIONS, &[]));
    let attempt = |args| self::attempt(args).unwrap();
    let sessions = "--name sessions --target stock";
    let empty = published(empty, &attempt(sessions), &[], [0, 0, 0]);
    let nothing = Trial { answer: None, rows: None, ..answered(&mariadb(), rows(&[], &[])) };
    let text = one(attempt(sessions), empty)
        + "---\n"
        + &one(attempt("--name of_mysql --target stock"), nothing)
        + "---\n"
        + &one(
            attempt("--name of_mysql --target stock"),
            answered(&server(Flavour::MySql, "9.7.0"), rows(&[("m", "BIGINT")], &["1"])),
        );
    expect![[r#"
        sessions@stock: mariadb 10.11.6-MariaDB-log at 10.0.0.3:3307

        On the page
          nothing

        Rows
          none, and an empty answer does not show its columns

        In numbers
          rows      0 (max_rows 10000)
          series    0 (max_series 10000)
          connect   6.1 ms  resolving the name, TLS, login and the session's settings
          answer    0.8 ms  from sending the statement to the end of its answer, seen from here; the limit is 2s
        ---
        of_mysql@stock: mariadb 10.11.6-MariaDB-log at 10.0.0.3:3307
        the query has no statement for this server: nothing was asked
        ---
        of_mysql@stock: mysql 9.7.0 at 10.0.0.3:3307
        asked as variant 1 of 1, for mysql >=8

        Columns
          name  type    used as
          m     BIGINT  nothing

        Rows
          m
          1

        In numbers
          rows      1 (max_rows 10000)
          connect   6.1 ms  resolving the name, TLS, login and the session's settings
          answer    0.8 ms  from sending the statement to the end of its answer, seen from here; the limit is 2s
    "#]].assert_eq(&text);
}

/// What is to be done about a failure.
#[track_caller]
fn check_help(failure: &Failure, kill: Option<KillResult>, left_behind: bool, expected: &str) {
    let attempt = attempt("--name sessions --target orders-1").unwrap();
    let trial = Trial { kill, left_behind, ..failed(Some(mariadb()), failure.clone()) };
    let (_, tried) = tried(attempt, vec![trial]);
    assert_eq!(advice::help(&tried[0], failure), expected);
}

#[test]
fn what_is_denied_comes_with_the_grant_that_gives_it() {
    for (code, message, grant) in [
        (
            1142,
            "SELECT command denied to user 'u'@'10.0.0.%' for table `shop`.`secret` (error 1142)",
            "GRANT SELECT ON `shop`.`secret` TO 'u'@'HOST'; HOST is that of the account, as SELECT CURRENT_USER() says",
        ),
        (
            1142,
            "SELECT command denied to user 'u'@'h' for table 'secret' (error 1142)",
            "GRANT SELECT ON SCHEMA.secret TO 'u'@'HOST'; SCHEMA is that of the table, HOST is that of the account, \
             as SELECT CURRENT_USER() says",
        ),
        (
            1143,
            "SELECT command denied to user 'u'@'h' for column 'c' in table 'secret' (error 1143)",
            "GRANT SELECT ON SCHEMA.secret TO 'u'@'HOST'; SCHEMA is that of the table, HOST is that of the account, \
             as SELECT CURRENT_USER() says",
        ),
        (
            1227,
            "Access denied; you need (at least one of) the PROCESS privilege(s) for this operation (error 1227)",
            "GRANT PROCESS ON *.* TO 'exporter'@'HOST'; HOST is that of the account, as SELECT CURRENT_USER() says",
        ),
        (
            1044,
            "Access denied for user 'u'@'h' to database 'd' (error 1044)",
            "GRANT SELECT ON `d`.* TO 'u'@'h'",
        ),
        (
            1370,
            "execute command denied to user 'u'@'h' for routine 'd.f' (error 1370)",
            "GRANT EXECUTE ON PROCEDURE d.f TO 'u'@'HOST'; HOST is that of the account, as SELECT CURRENT_USER() says",
        ),
        (9999, "no", "give the account the privilege that the server names, and no more"),
    ] {
        check_help(&Failure::answered(Reason::Denied, message).with_code(code), None, false, grant);
    }
}

#[test]
fn a_timeout_says_who_ended_the_query_and_whether_anything_is_left() {
    let check = |kill, left_behind, ended: &str| {
        let expected = format!(
            "it did not end within 2s; {ended}; ask for its plan with --explain, or give it more with --timeout"
        );
        check_help(&Failure::unanswered(Reason::Timeout, ""), kill, left_behind, &expected);
    };
    let still = "it may run there still; see SHOW FULL PROCESSLIST";
    let nothing = "nothing of it runs any more";
    check(None, false, &format!("the server itself ended it at its limit, and {nothing}"));
    check(None, true, &format!("its connection was closed and no KILL sent: {still}"));
    check(Some(KillResult::Killed), false, &format!("its session was killed (KILL), and {nothing}"));
    check(
        Some(KillResult::Gone),
        false,
        &format!("its session had gone when it was to be killed: {nothing}"),
    );
    let lingers =
        |word| format!("its session was to be killed (KILL: {word}) and is not known to be gone: {still}");
    check(Some(KillResult::Killed), true, &lingers("killed"));
    check(Some(KillResult::Refused), true, &lingers("refused"));
    let locked = Failure::answered(Reason::Timeout, "").with_code(1205);
    let behind = "it waited for a lock, as behind an ALTER TABLE: SHOW FULL PROCESSLIST tells who waits and who is at work";
    check_help(&locked, None, false, behind);
}

#[test]
fn every_other_reason_has_its_advice() {
    let text: String = Reason::ALL
        .into_iter()
        .map(|reason| {
            let failure = Failure::unanswered(reason, "…");
            let attempt = attempt("--name sessions --target orders-1").unwrap();
            let (_, tried) = tried(attempt, vec![failed(None, failure.clone())]);
            format!("{reason}: {}", advice::help(&tried[0], &failure)).trim_end().to_owned() + "\n"
        })
        .collect();
    expect![[r#"
        dns: check the host name of the target's address, and the resolver of this machine
        refused: nothing listens on 10.0.0.1:3306: does the server run, and is the port right?
        unreachable: there is no way to 10.0.0.1:3306 from this machine: look at routes and firewalls
        connect_timeout: 10.0.0.1:3306 did not let us in within 2s: a firewall that drops packets, or a server that hangs
        tls: encryption was asked for (mode "preferred") and not agreed upon: look at the server's ssl settings
        auth: check the password of exporter (it has none in the configuration), and that the account exists for the host that the server names
        credentials: the secret or certificate could not be read on this machine, by this user
        too_many_connections: the server or the account has no connection left; a running exporter has up to max_connections of them
        blocked: the server knows no account for this host: create one for the host that it names
        timeout: it did not end within 2s; the server itself ended it at its limit, and nothing of it runs any more; ask for its plan with --explain, or give it more with --timeout
        killed: somebody or something at the server ended the query or its session; try again
        lost: the server or something on the way ended the connection before the login was done
        protocol: is 10.0.0.1:3306 a MySQL or MariaDB server? X Protocol, for one, is another port
        server_error: the number is the server's own: its manual lists it
        syntax: the server names the text from which on it did not understand the statement
        denied: give the account the privilege that the server names, and no more
        mapping: compare the metrics of the query with the columns and rows that came
        too_large:
        panic:
    "#]].assert_eq(&text);
}
