//! What a session of ours cannot do to a server, even with an account that may do everything: refused when the file is
//! read, and where that check is taken away, by the session. What neither of them stops is in docs/security.md.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use fleet_collector::{
    Address, Password, ResultLimits, Rows, Secret, SessionSettings, Target, Tls, TlsMode,
    certificates::Certificates,
    driver::{Driver, Session},
    login::Login,
    mysql::MySql,
    statement::Statement,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    note, on_both_servers, repository,
    servers::{Admin, Kind, Server},
};

on_both_servers!(
    t44_a_privileged_account_writes_nothing_but_what_the_documentation_says,
    the_grants_of_the_documentation_are_enough,
);

/// Cannot execute statement in a READ ONLY transaction.
const READ_ONLY: u16 = 1792;
/// You are not owner of thread.
const NOT_THE_OWNER: u16 = 1095;

/// What becomes of a statement in a session of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// The session refuses it.
    Stops,
    /// It runs. docs/security.md lists it under this name.
    DoesNotStop(&'static str),
}

use Guard::{DoesNotStop, Stops};

const BOTH: &[Kind] = &[Kind::MariaDb, Kind::MySql];
const MARIADB: &[Kind] = &[Kind::MariaDb];
const MYSQL: &[Kind] = &[Kind::MySql];

/// Statements, the servers that have them, and what becomes of them. In them `{s}` is a schema and an account, `{id}`
/// another session, `{file}` a file that is not there.
const STATEMENTS: &[(&str, &[Kind], Guard)] = &[
    ("insert into {s}.t values (2)", BOTH, Stops),
    ("insert into {s}.m values (2)", BOTH, Stops),
    ("replace into {s}.t values (1)", BOTH, Stops),
    ("update {s}.t set n = 2", BOTH, Stops),
    ("update {s}.t, {s}.m set t.n = 2", BOTH, Stops),
    ("delete from {s}.t", BOTH, Stops),
    ("truncate table {s}.t", BOTH, Stops),
    ("load data infile '/etc/hostname' into table {s}.t", BOTH, Stops),
    ("create table {s}.c (n int)", BOTH, Stops),
    ("create table {s}.c as select 1 as n", BOTH, Stops),
    ("create temporary table {s}.c (n int)", BOTH, Stops),
    ("alter table {s}.t add c int", BOTH, Stops),
    ("create index i on {s}.t (n)", BOTH, Stops),
    ("rename table {s}.t to {s}.u", BOTH, Stops),
    ("drop table {s}.t", BOTH, Stops),
    ("create view {s}.v as select 1 as n", BOTH, Stops),
    ("create trigger {s}.g before insert on {s}.t for each row set @a = 1", BOTH, Stops),
    ("create procedure {s}.q() select 1", BOTH, Stops),
    ("create event {s}.e on schedule every 1 hour do select 1", BOTH, Stops),
    ("create database {s}_2", BOTH, Stops),
    ("drop database {s}", BOTH, Stops),
    ("create user {s}_2", BOTH, Stops),
    ("drop user {s}", BOTH, Stops),
    ("grant select on *.* to {s}", BOTH, Stops),
    ("set password for {s} = 'other'", MYSQL, Stops),
    ("set password for {s} = password('other')", MARIADB, Stops),
    ("install soname 'nothing'", MARIADB, Stops),
    ("install component 'file://nothing'", MYSQL, Stops),
    ("optimize table {s}.t", BOTH, Stops),
    ("repair table {s}.m", BOTH, Stops),
    ("lock tables {s}.t write", BOTH, Stops),
    ("select n from {s}.t for update", BOTH, Stops),
    ("call {s}.writes()", BOTH, Stops),
    // These two begin like any that reads, and no text shows what a function does.
    ("select {s}.written()", BOTH, Stops),
    ("select nextval({s}.numbers)", MARIADB, Stops),
    // The MySQL of the tests writes no files at all (secure_file_priv).
    ("select n from {s}.t into outfile '{file}'", MARIADB, DoesNotStop("SELECT … INTO OUTFILE")),
    ("select load_file('/etc/hostname')", BOTH, DoesNotStop("SELECT LOAD_FILE(…)")),
    ("select n from {s}.t lock in share mode", BOTH, DoesNotStop("SELECT … LOCK IN SHARE MODE")),
    ("select get_lock('{s}', 0)", BOTH, DoesNotStop("SELECT GET_LOCK(…)")),
    ("lock tables {s}.t read", BOTH, DoesNotStop("LOCK TABLES … READ")),
    ("handler {s}.t open", BOTH, DoesNotStop("HANDLER … OPEN")),
    ("set global max_connections = @@global.max_connections", BOTH, DoesNotStop("SET GLOBAL")),
    ("flush tables {s}.t", BOTH, DoesNotStop("FLUSH")),
    ("analyze table {s}.t", BOTH, DoesNotStop("ANALYZE TABLE")),
    ("check table {s}.t", BOTH, DoesNotStop("CHECK TABLE")),
    ("kill {id}", BOTH, DoesNotStop("KILL")),
    ("xa start '{s}'", BOTH, DoesNotStop("XA START")),
    ("set session transaction read write", BOTH, DoesNotStop("SET SESSION TRANSACTION READ WRITE")),
    ("start transaction read write", BOTH, DoesNotStop("START TRANSACTION READ WRITE")),
];

/// What passes the check of the configuration: it begins like what reads, and needs a look at the server to tell.
const PASS_AT_LOAD: [&str; 4] = ["{s}.written()", "nextval(", "load_file(", "get_lock("];

async fn t44_a_privileged_account_writes_nothing_but_what_the_documentation_says(server: &Server) {
    let account = Account::new(server, "mighty").await;
    let mut admin = server.admin().await;
    make(&account, server, &mut admin).await;
    let scratch = tempfile::tempdir().unwrap();
    // The server writes there, whoever it runs as.
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let before = state(&account, &mut admin).await;
    let mut stopped = 0;
    for (text, kinds, guard) in STATEMENTS {
        if !kinds.contains(&server.kind) {
            continue;
        }
        // Each has a session of its own, since some of them last as long as theirs.
        let (mut session, other) = (connect(&account, server).await, connect(&account, server).await);
        let file = scratch.path().join("out").display().to_string();
        let sql = text.replace("{s}", &account.schema).replace("{file}", &file);
        let sql = sql.replace("{id}", &other.id().to_string());
        let passes = PASS_AT_LOAD.iter().any(|begins| text.contains(begins));
        assert_eq!(Statement::check(&sql).is_ok(), passes, "{sql}, when the file is read");

        let asked = session.query(&sql.as_str().into(), &mut Rows::new(ResultLimits::default())).await;
        let code = asked.err().map(|error| error.failure.code);
        match guard {
            Stops => {
                assert_eq!(code, Some(Some(READ_ONLY)), "{sql}");
                stopped += 1;
            }
            DoesNotStop(name) => assert_eq!(code, None, "{sql}: {name}"),
        }
        session.close().await;
        assert_eq!(state(&account, &mut admin).await, before, "{sql}");
    }
    note!("{:?}: {stopped} statements stopped by the session", server.kind);
    assert!(stopped >= 30);
}

/// Gives the account all there is, and makes things for it to spoil.
async fn make(account: &Account, server: &Server, admin: &mut Admin) {
    let s = &account.schema;
    admin
        .run(&format!(
            "grant all privileges on *.* to '{s}'@'%' with grant option;
             create table {s}.t (n int primary key); insert into {s}.t values (1);
             create table {s}.m (n int) engine = myisam; insert into {s}.m values (1);
             create procedure {s}.writes() insert into {s}.t values (3);
             create function {s}.written() returns int reads sql data
                 begin insert into {s}.t values (3); return 1; end"
        ))
        .await;
    if server.kind == Kind::MariaDb {
        admin.run(&format!("create sequence {s}.numbers")).await;
    }
}

/// What there is: rows, tables with their columns, routines, schemas and accounts of this name.
async fn state(account: &Account, admin: &mut Admin) -> Vec<Vec<Option<String>>> {
    let s = &account.schema;
    let looks = [
        format!("select n from {s}.t union all select n from {s}.m"),
        format!(
            "select table_name, column_name from information_schema.columns where table_schema = '{s}' order by 1, 2"
        ),
        format!(
            "select routine_name from information_schema.routines where routine_schema = '{s}' order by 1"
        ),
        format!("select count(*) from information_schema.statistics where table_schema = '{s}'"),
        format!("select schema_name from information_schema.schemata where schema_name like '{s}%'"),
        format!("select user, host from mysql.user where user like '{s}%'"),
    ];
    let mut rows = Vec::new();
    for look in looks {
        rows.extend(admin.rows(&look).await);
    }
    rows
}

#[test]
fn the_documentation_lists_what_the_session_does_not_stop() {
    let listed: BTreeMap<_, _> = rows_of("## What READ ONLY does not stop")
        .into_iter()
        .map(|row| (row[0].trim_matches('`').to_owned(), row[2] == "no"))
        .collect();
    let tested: BTreeMap<_, _> = STATEMENTS
        .iter()
        .filter_map(|(text, _, guard)| match guard {
            Stops => None,
            DoesNotStop(name) => {
                Some(((*name).to_owned(), PASS_AT_LOAD.iter().any(|begins| text.contains(begins))))
            }
        })
        .collect();
    assert_eq!(listed, tested);
}

/// The rows of the table under a heading of docs/security.md.
fn rows_of(heading: &str) -> Vec<Vec<String>> {
    let page = documentation();
    let section = page.split_once(heading).unwrap().1.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn documentation() -> String {
    fs::read_to_string(repository().join("docs/security.md")).unwrap()
}

/// The account of the documentation can log in and sees all sessions, its guards are set, and its queries are killed.
async fn the_grants_of_the_documentation_are_enough(server: &Server) {
    let page = documentation();
    let heading = if server.kind == Kind::MariaDb { "On MariaDB" } else { "On MySQL" };
    let block = page.split_once(heading).unwrap().1;
    let grants = block.split_once("```sql\n").unwrap().1.split_once("```").unwrap().0;
    let mut account = Account::new(server, "granted").await;
    let other = Account::new(server, "other").await;
    let mut admin = server.admin().await;
    account.user = format!("{}_doc", account.schema);
    "change me".clone_into(&mut account.password);
    admin.run(&grants.replace("'exporter'", &format!("'{}'", account.user))).await;
    let bystander = connect(&other, server).await;

    let sql =
        format!("select count(*) as n from information_schema.processlist where id = {}", bystander.id());
    let query = |name: &str, sql: &str| {
        format!(
            "[queries.{name}]\nsql = \"{sql}\"\ninterval = \"2s\"\ntimeout = \"1s\"\n\
             [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
        )
    };
    let group = account.group("g", &["db"]).replace(&format!("database = \"{}\"\n", account.schema), "");
    let exporter = Exporter::start(&(group + &query("sees", &sql))).await;
    let page = exporter.wait_for_runs("db", 1, SOON).await;
    assert_eq!(page.value("query_exporter_sees", &[]), Some(1.0));
    assert_eq!(page.value("query_exporter_target_info", &[("guards_refused", "")]), Some(1.0));
    // Its own sessions it may end.
    let (mut session, own) = (connect(&account, server).await, connect(&account, server).await);
    let mut kill = async |id: u64| {
        session.query(&format!("kill {id}").into(), &mut Rows::new(ResultLimits::default())).await
    };
    assert_eq!(kill(own.id()).await.err(), None);
    assert_eq!(kill(bystander.id()).await.unwrap_err().failure.code, Some(NOT_THE_OWNER));
    drop((session, own));
    exporter.stop(&[(server, &account)]).await;
}

async fn connect(account: &Account, server: &Server) -> Box<dyn Session> {
    let target = Target {
        name: "db".into(),
        group: "g".into(),
        address: Address::Tcp { host: "127.0.0.1".to_owned(), port: server.port },
        user: None,
        password: Password::None,
        database: None,
        tls: Tls { mode: TlsMode::Preferred, ca: None, identity: None },
        labels: Vec::new(),
        max_connections: 3,
        kill: true,
        session: SessionSettings::default(),
    };
    let login = Login {
        user: account.user.clone(),
        password: Secret::new(account.password.clone()),
        certificates: Certificates::default(),
    };
    let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    MySql.connect(&target, &login, permit, Instant::now() + Duration::from_secs(10)).await.unwrap()
}
