//! The history's store goes wrong, or the exporter does: what was kept is whole and comes back, and no run waits.

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use sqlx::{ConnectOptions as _, Row as _, sqlite::SqliteConnectOptions};
use tokio::{net::TcpListener, time::Instant};

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON, command, folder_with},
    forwarder::Forwarder,
    note,
    page::Page,
    process::Process,
    quoted,
    servers::{Server, mariadb, mysql, own_mariadb},
    slow::Slow,
    wait::{seen_if, wait_for},
};

const TARGETS: [&str; 4] = ["t1", "t2", "t3", "t4"];

/// What each item answers: the server's clock, so that a value says when it was read.
const QUERIES: &str = "[queries.clock]\nsql = \"select unix_timestamp(now(3)) as n\"\ninterval = \"1s\"\n\
     timeout = \"1s\"\nexpire_after = \"5m\"\n[queries.clock.metrics.clock]\ntype = \"gauge\"\nhelp = \"when it was read\"\n\
     value = \"n\"\n";

/// A group whose targets are all at this address.
fn group(account: &Account, address: &str) -> String {
    Account { address: address.to_owned(), ..account.clone() }.group("g", &TARGETS)
}

fn sqlite(path: &Path) -> String {
    format!("[history]\nsqlite = {}\n", quoted(path.to_str().unwrap()))
}

/// A history in the account's schema, at this address; the account may write there.
async fn on_server(server: &Server, account: &Account, address: &str) -> String {
    let Account { user, password, schema, .. } = account;
    let grant = format!("grant select, insert, update, delete, create on {schema}.* to '{user}'@'%'");
    server.admin().await.run(&grant).await;
    format!(
        "[history.mysql]\naddress = {}\nuser = {}\npassword = {}\ndatabase = {}\n",
        quoted(address),
        quoted(user),
        quoted(password),
        quoted(schema)
    )
}

fn clocks(page: &Page) -> Vec<Option<f64>> {
    TARGETS.iter().map(|target| page.value("query_exporter_clock", &[("target", target)])).collect()
}

fn is_owner(page: &Page) -> bool {
    page.count("query_exporter_history_owner", &[]) == 1
}

fn failures(page: &Page) -> f64 {
    page.series("query_exporter_history_failures_total", &[]).iter().map(|(_, value)| value).sum()
}

fn missed(page: &Page) -> u64 {
    TARGETS.iter().map(|target| page.missed(target) + page.runs(target, "failure")).sum()
}

fn is_caught_up(page: &Page) -> bool {
    is_owner(page) && page.count("query_exporter_history_pending_items", &[]) < 5
}

/// An exporter that is killed and started again on the same files.
struct Killable {
    process: Process,
    address: String,
}

impl Killable {
    /// An exporter is known by its host name and by the address that it is told to serve at.
    async fn start(config: &Path, host: &str) -> Self {
        let mut command = command();
        command.arg("--config").arg(config).args(["--bind", &format!("{host}:0")]);
        let process = Process::start(command);
        let log = process.stderr.clone();
        let address = wait_for("it listens", SOON, async || {
            let hello = log.with("fleet-query-exporter runs").into_iter().next().ok_or_else(|| log.text())?;
            let (_, address) = hello.split_once("address=").ok_or_else(|| log.text())?;
            Ok(address.split(' ').next().unwrap().to_owned())
        })
        .await;
        Self { process, address }
    }

    async fn page(&self) -> Page {
        let answer = crate::support::http::request(&self.address, "GET", "/metrics").await.unwrap();
        Page::parse(answer.body)
    }

    async fn wait_until(&self, what: &str, within: Duration, holds: impl Fn(&Page) -> bool) -> Page {
        wait_for(what, within, async || {
            let page = self.page().await;
            if holds(&page) {
                Ok(page)
            } else {
                Err(format!("{}\n{}", page.text, self.process.stderr.text()))
            }
        })
        .await
    }

    async fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.ended(SOON).await;
    }
}

/// Kills an exporter over and over, and each time its targets are gone before it comes back: what it shows then is what
/// was kept.
async fn survives_kills(server: &Server, account: &Account, history: String, check: impl AsyncFn()) {
    let way = Forwarder::to(server.address()).await;
    let (_folder, path) = folder_with(&format!("{history}{}{QUERIES}", group(account, &way.address)));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for _ in 0..3 {
        way.move_to(server.address());
        let exporter = Killable::start(&path, "127.0.0.1").await;
        let written = |page: &Page| {
            is_owner(page)
                && page.count("query_exporter_history_results_written_total", &[]) >= TARGETS.len() as u64
        };
        let page = exporter.wait_until("all results are written", 5 * SOON, written).await;
        let kept_until = clocks(&page).into_iter().flatten().fold(0.0, f64::max);
        exporter.kill().await;
        check().await;
        way.move_to(nobody.clone());

        let begun = Instant::now();
        let exporter = Killable::start(&path, "127.0.0.1").await;
        let listened = begun.elapsed();
        let all = |page: &Page| clocks(page).iter().all(Option::is_some);
        let page = exporter.wait_until("the last results are there", 5 * SOON, all).await;
        note!("listening after {listened:.2?}, the last results after {:.2?}", begun.elapsed());
        let shown: Vec<f64> = clocks(&page).into_iter().flatten().collect();
        assert!(shown.iter().all(|clock| *clock <= kept_until), "{shown:?}, killed after {kept_until}");
        let oldest = shown.iter().copied().fold(f64::INFINITY, f64::min);
        let said = page.value("query_exporter_query_oldest_success_timestamp_seconds", &[("query", "clock")]);
        assert!(
            (said.unwrap() - oldest).abs() < 1.0,
            "the oldest is of {oldest}, and is said to be of {said:?}"
        );
        exporter.kill().await;
    }
}

#[tokio::test]
async fn a_killed_exporter_comes_back_with_its_results_from_sqlite() {
    let server = mariadb();
    let account = Account::new(server, "kills").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.db");
    let check = async || {
        let options = SqliteConnectOptions::new().filename(&file);
        let mut connection = options.connect().await.unwrap();
        let row = sqlx::query("pragma integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(row.get::<String, _>(0), "ok");
    };
    survives_kills(server, &account, sqlite(&file), check).await;
}

async fn comes_back_from_server(store: &Server) {
    let server = mariadb();
    let account = Account::new(server, "kills").await;
    let keeper = Account::new(store, "keeper").await;
    let history = on_server(store, &keeper, &store.address()).await;
    survives_kills(server, &account, history, async || {}).await;
}

#[tokio::test]
async fn a_killed_exporter_comes_back_with_its_results_from_mariadb() {
    comes_back_from_server(mariadb()).await;
}

#[tokio::test]
async fn a_killed_exporter_comes_back_with_its_results_from_mysql() {
    if let Some(store) = mysql() {
        comes_back_from_server(store).await;
    }
}

#[tokio::test]
async fn a_store_that_takes_five_seconds_a_statement_delays_no_run_and_catches_up() {
    let server = mariadb();
    let account = Account::new(server, "slow_store").await;
    let slow = Slow::before(server.address()).await;
    let history = on_server(server, &account, &slow.address).await;
    let exporter =
        Exporter::start(&format!("{history}{}{QUERIES}", group(&account, &server.address()))).await;
    let all = |page: &Page| is_owner(page) && clocks(page).iter().all(Option::is_some);
    exporter.wait_until("all is well", SOON, all).await;
    let begun = exporter.page().await;
    // To prepare a statement and to execute it are two packets.
    slow.hold_back(Duration::from_millis(2500));
    let waits = |page: &Page| {
        page.value("query_exporter_history_oldest_pending_seconds", &[]).is_some_and(|oldest| oldest > 4.0)
    };
    let page = exporter.wait_until("the history waits", 5 * SOON, waits).await;
    assert_eq!(missed(&page), missed(&begun));
    // Slow as it is, it gets what there is.
    let written = |page: &Page| page.count("query_exporter_history_items_written_total", &[]);
    let before = written(&page);
    exporter.wait_until("it is written to all the same", 5 * SOON, |page| written(page) > before).await;
    slow.hold_back(Duration::ZERO);
    exporter.wait_until("it catches up", 5 * SOON, |page| is_caught_up(page) && !waits(page)).await;
    exporter.stop(&[]).await;
}

#[tokio::test]
async fn a_store_that_stands_still_delays_no_run_and_catches_up() {
    let server = mariadb();
    let account = Account::new(server, "still_store").await;
    let store = own_mariadb();
    let keeper = Account::new(&store, "keeper").await;
    let history = on_server(&store, &keeper, &store.address()).await;
    let exporter =
        Exporter::start(&format!("{history}{}{QUERIES}", group(&account, &server.address()))).await;
    let all = |page: &Page| is_owner(page) && clocks(page).iter().all(Option::is_some);
    exporter.wait_until("all is well", SOON, all).await;
    let begun = exporter.page().await;
    store.signal(Signal::STOP);
    let page = exporter.wait_until("it is counted", 5 * SOON, |page| failures(page) > failures(&begun)).await;
    assert_eq!(missed(&page), missed(&begun));
    assert_eq!(page.count("query_exporter_history_up", &[]), 0);
    let before = page.count("query_exporter_history_items_written_total", &[]);
    store.signal(Signal::CONT);
    let written = |page: &Page| page.count("query_exporter_history_items_written_total", &[]) > before;
    exporter.wait_until("it catches up", 5 * SOON, |page| is_caught_up(page) && written(page)).await;
    exporter.stop(&[]).await;
}

/// Two exporters on one table; the first is killed.
async fn takes_over(history: &str, account: &Account, server: &Server) {
    let config = format!("{history}{}{QUERIES}", group(account, &server.address()));
    let (_folder, path) = folder_with(&config);
    let first = Killable::start(&path, "127.0.0.1").await;
    first.wait_until("the first has the table", SOON, is_owner).await;
    let second = Killable::start(&path, "127.0.0.2").await;
    wait_for("the second says so", SOON, async || {
        let lines = second.process.stderr.with("history belongs to another exporter");
        seen_if(lines.len() == 1, lines)
    })
    .await;
    // It serves, and harms nothing.
    let all = |page: &Page| clocks(page).iter().all(Option::is_some);
    let page = second.wait_until("the second serves", SOON, all).await;
    assert!(!is_owner(&page) && page.count("query_exporter_history_items_written_total", &[]) == 0);
    let page = first.page().await;
    let before = page.count("query_exporter_history_items_written_total", &[]);
    let more = |page: &Page| page.count("query_exporter_history_items_written_total", &[]) > before + 8;
    let page = first.wait_until("the first goes on", SOON, more).await;
    assert!(is_owner(&page) && failures(&page) < 1.0);
    first.kill().await;
    let begun = Instant::now();
    second.wait_until("the second takes over", 10 * SOON, |page| is_caught_up(page) && more(page)).await;
    note!("the second took over after {:.1?}", begun.elapsed());
    second.kill().await;
}

#[tokio::test]
async fn a_second_exporter_on_a_file_takes_over_when_the_first_is_gone() {
    let server = mariadb();
    let account = Account::new(server, "two_on_a_file").await;
    let folder = tempfile::tempdir().unwrap();
    takes_over(&sqlite(&folder.path().join("history.db")), &account, server).await;
}

#[tokio::test]
async fn a_second_exporter_on_a_servers_table_takes_over_when_the_first_is_gone() {
    let server = mariadb();
    let account = Account::new(server, "two_on_a_table").await;
    let history = on_server(server, &account, &server.address()).await;
    takes_over(&history, &account, server).await;
}
