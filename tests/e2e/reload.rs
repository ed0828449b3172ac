//! The configuration changes while the exporter runs: what is wrong changes nothing, what is the same goes on untouched,
//! and whoever asks is answered.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use rustix::process::Signal;
use tokio::time::Instant;

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON, command, folder_with, run},
    http, note, on_both_servers,
    page::Page,
    servers::Server,
    servers::{Admin, own_mariadb},
    wait::{seen_if, wait_for},
};

on_both_servers!(
    t46_a_configuration_that_cannot_be_taken_changes_nothing,
    t63_a_storm_of_reloads_ends_with_the_last_file_and_harms_nobody,
    an_item_that_hangs_is_ended_when_it_is_taken_out,
    a_password_that_was_wrong_is_tried_at_once_when_the_file_has_the_right_one,
);

const SERVER: &str = "[server]\nreload = true\n";

/// A query of a row for each target, with this interval.
fn query(name: &str, sql: &str, interval: &str) -> String {
    format!(
        "[queries.{name}]\nsql = \"{sql}\"\ninterval = \"{interval}\"\ntimeout = \"{interval}\"\n\
         [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"{name}\"\nvalue = \"n\"\n"
    )
}

/// What a reload may not disturb.
#[derive(Debug, PartialEq, Eq)]
struct Undisturbed {
    sessions: BTreeSet<u64>,
    failures: u64,
    missed: u64,
}

impl Undisturbed {
    async fn of(exporter: &Exporter, account: &Account, targets: &[&str], admin: &mut Admin) -> Self {
        let page = exporter.page().await;
        let sum = |of: &dyn Fn(&str) -> u64| targets.iter().map(|target| of(target)).sum();
        Self {
            sessions: account.sessions(admin).await.into_iter().map(|session| session.id).collect(),
            failures: sum(&|target| page.runs(target, "failure")),
            missed: sum(&|target| page.missed(target)),
        }
    }
}

fn last_reload_was_good(page: &Page) -> bool {
    page.count("query_exporter_config_last_reload_successful", &[]) == 1
}

fn reloaded_at(page: &Page) -> f64 {
    page.value("query_exporter_config_last_reload_success_timestamp_seconds", &[]).unwrap()
}

async fn t46_a_configuration_that_cannot_be_taken_changes_nothing(server: &Server) {
    let mut admin = server.admin().await;
    let account = Account::new(server, "t46").await;
    let good = format!(
        "include = [\"more.toml\"]\n{SERVER}{}{}",
        account.group("g", &["a", "b"]),
        query("one", "select 1 as n", "1s")
    );
    let more = query("two", "select 2 as n", "1s");
    let exporter =
        Exporter::start_with(&good, |_, folder| fs::write(folder.join("more.toml"), &more).unwrap());
    let exporter = exporter.await;
    for target in ["a", "b"] {
        exporter.wait_for_runs(target, 4, SOON).await;
    }
    let before = Undisturbed::of(&exporter, &account, &["a", "b"], &mut admin).await;
    assert!((2..=4).contains(&before.sessions.len()) && before.failures + before.missed == 0, "{before:?}");
    let read_at = reloaded_at(&exporter.page().await);

    let (path, include) = (exporter.config(), exporter.folder().join("more.toml"));
    let write = |config: String| exporter.write_config(&config);
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    // What is done to the files, and what the answer says.
    let spoilt: [(&str, &dyn Fn()); 8] = [
        ("`colour` is not a key", &|| write(good.clone() + "colour = \"red\"\n")),
        ("unclosed inline table", &|| write(good[..good.len() / 2].to_owned())),
        ("fleet.toml:16:", &|| write(good[..good.len() - 10].to_owned())),
        ("is not UTF-8", &|| fs::write(&path, b"[server]\n# \xff\n").unwrap()),
        ("there are no queries", &|| write(format!("{SERVER}{}", account.group("g", &["a"])))),
        ("cannot read the configuration: No such file", &|| remove(&path)),
        ("more.toml: No such file", &|| remove(&include)),
        ("more.toml: Is a directory", &|| {
            remove(&include);
            fs::create_dir(&include).unwrap();
        }),
    ];
    for (expected, spoil) in spoilt {
        spoil();
        let answer = exporter.reload().await;
        assert_eq!(answer.status, 500, "{}", answer.body);
        assert!(answer.body.starts_with("the configuration was not reloaded, the one before goes on\n"));
        assert!(answer.body.contains(expected), "{expected} is not in {}", answer.body);
        let page = exporter.page().await;
        assert!(!last_reload_was_good(&page));
        assert!((reloaded_at(&page) - read_at).abs() < 30.0);

        // The same file as before is no change, and a success.
        if include.is_dir() {
            fs::remove_dir(&include).unwrap();
        }
        fs::write(&include, &more).unwrap();
        let answer = exporter.take(&good).await;
        assert_eq!(
            answer.body.lines().next(),
            Some("reloaded: items started 0, stopped 0, changed 0, untouched 4")
        );
        assert!(last_reload_was_good(&exporter.page().await));

        // By a signal, which has no answer but the log and the page.
        spoil();
        let lines = exporter.log().all().len();
        exporter.hang_up();
        exporter.wait_until("the signal has been heard", SOON, |page| !last_reload_was_good(page)).await;
        wait_for("the log says why", SOON, async || {
            let log = exporter.log().all().split_off(lines);
            let said = log.iter().any(|line| line.contains("not reloaded"))
                && log.iter().any(|line| line.contains(expected));
            seen_if(said, log)
        })
        .await;
        if include.is_dir() {
            fs::remove_dir(&include).unwrap();
        }
        fs::write(&include, &more).unwrap();
        exporter.write_config(&good);
        exporter.hang_up();
        exporter.wait_until("the good file is read", SOON, last_reload_was_good).await;
    }
    for target in ["a", "b"] {
        exporter.wait_for_runs(target, 2, SOON).await;
    }
    let after = Undisturbed::of(&exporter, &account, &["a", "b"], &mut admin).await;
    assert!(after.sessions.is_superset(&before.sessions), "a connection was lost: {before:?} {after:?}");
    assert_eq!((after.failures, after.missed), (0, 0));
    exporter.stop(&[(server, &account)]).await;
}

async fn t63_a_storm_of_reloads_ends_with_the_last_file_and_harms_nobody(server: &Server) {
    const VERSIONS: u64 = 30;
    let mut admin = server.admin().await;
    let (steady, moving) = (Account::new(server, "t63").await, Account::new(server, "t63_moving").await);
    let version = |n: u64| {
        let target = format!("v{n}");
        let queries = query("one", "select 1 as n", "1s");
        format!("{SERVER}{}{}{queries}", steady.group("s", &["steady"]), moving.group("m", &[&target]))
    };
    let exporter = Exporter::start(&version(0)).await;
    exporter.wait_for_runs("steady", 2, SOON).await;
    let before = Undisturbed::of(&exporter, &steady, &["steady"], &mut admin).await;

    // Files change, signals come in hundreds, requests come in pairs, and somebody scrapes all the while.
    let begun = Instant::now();
    let changing = async {
        for n in 1..=VERSIONS {
            exporter.write_config(&version(n));
            for _ in 0..20 {
                exporter.hang_up();
            }
            let (one, two) = tokio::join!(exporter.reload(), exporter.reload());
            assert_eq!((one.status, two.status), (200, 200), "{} {}", one.body, two.body);
            // Whoever asked after the file was written is answered with that file.
            let page = exporter.page().await;
            let targets = targets_of(&page);
            assert_eq!(targets, ["steady".to_owned(), format!("v{n}")]);
        }
    };
    let scraping = async {
        loop {
            let targets = targets_of(&exporter.page().await);
            assert!(targets.len() == 2 && targets[0] == "steady", "a page between two files: {targets:?}");
        }
    };
    tokio::select! {
        () = changing => {}
        () = scraping => {}
    }
    let took = begun.elapsed();
    // The last word is a signal's.
    exporter.write_config(&version(1000));
    exporter.hang_up();
    exporter
        .wait_until("the last file holds", SOON, |page| {
            targets_of(page) == ["steady", "v1000"] && page.is_up("v1000")
        })
        .await;
    let reloads = exporter.log().with("configuration reloaded").len();
    note!("{reloads} reloads for {} signals and {} requests, in {took:?}", 20 * VERSIONS + 1, 2 * VERSIONS);
    assert!(reloads as u64 <= 4 * VERSIONS + 1, "a storm is not a reload for each signal: {reloads}");

    let page = exporter.wait_for_runs("steady", 2, SOON).await;
    let after = Undisturbed::of(&exporter, &steady, &["steady"], &mut admin).await;
    assert_eq!(before, after, "the steady one noticed");
    assert!(page.value("query_exporter_one", &[("target", "steady")]).is_some());
    exporter.stop(&[(server, &steady), (server, &moving)]).await;
}

/// The targets that the page speaks about.
fn targets_of(page: &Page) -> Vec<String> {
    page.series("query_exporter_up", &[]).into_iter().map(|(labels, _)| labels["target"].clone()).collect()
}

async fn an_item_that_hangs_is_ended_when_it_is_taken_out(server: &Server) {
    let mut admin = server.admin().await;
    let account = Account::new(server, "taken_out").await;
    // Nothing but KILL ends this early.
    let hang = query("hang", "select sleep(50) as n", "60s");
    let group = format!("{SERVER}{}", account.group("g", &["a"]));
    let good = query("one", "select 1 as n", "1s");
    let exporter = Exporter::start(&(group.clone() + &good + &hang)).await;
    account.busy_with(&mut admin, "sleep(50)", Duration::from_secs(65)).await;
    exporter.take(&(group + &good)).await;
    wait_for("nothing of it is left at the server", SOON, async || {
        let busy =
            account.sessions(&mut admin).await.into_iter().filter(|s| s.statement.contains("sleep(50)"));
        let busy: Vec<_> = busy.collect();
        seen_if(busy.is_empty(), busy)
    })
    .await;
    let page = exporter.wait_for_runs("a", 2, SOON).await;
    assert_eq!(page.count("query_exporter_group_kills_total", &[("group", "g"), ("result", "killed")]), 1);
    assert!(
        page.lines("query_exporter_query_items").iter().all(|line| !line.contains("hang")),
        "{}",
        page.text
    );
    assert!(!page.text.contains("query=\"hang\""), "{}", page.text);
    exporter.stop(&[(server, &account)]).await;
}

async fn a_password_that_was_wrong_is_tried_at_once_when_the_file_has_the_right_one(server: &Server) {
    let account = Account::new(server, "fixed").await;
    let config = |password: &str| {
        let account = Account { password: password.to_owned(), ..account.clone() };
        format!("{SERVER}{}{}", account.group("g", &["a"]), query("one", "select 1 as n", "1s"))
    };
    let exporter = Exporter::start(&config("wrong")).await;
    // So often that the back-off is near its five minutes.
    exporter
        .wait("the login is refused", SOON, |page| {
            seen_if(
                page.reason("a") == Some("auth") && page.runs("a", "failure") >= 2,
                page.runs("a", "failure"),
            )
        })
        .await;
    exporter.take(&config(&account.password)).await;
    exporter.wait_until("it is up", Duration::from_secs(10), |page| page.is_up("a")).await;
    exporter.stop(&[(server, &account)]).await;
}

/// 500 targets on one server, each with four queries, and 100 reloads of which each takes one target out, brings it in or
/// changes it.
#[tokio::test]
async fn t47_a_reload_touches_one_target_of_500() {
    const TARGETS: usize = 500;
    const RELOADS: usize = 100;
    let server = own_mariadb();
    let mut admin = server.admin().await;
    admin.run("set global max_connections = 2500; set global thread_cache_size = 600").await;
    let (fleet, one) = (Account::new(&server, "t47").await, Account::new(&server, "t47_one").await);
    let names: Vec<_> = (1..TARGETS).map(|n| format!("t{n:03}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let queries: String = ["qa", "qb", "qc", "qd"].map(|name| query(name, "select 1 as n", "5s")).concat();
    let with = |one: &str| format!("{SERVER}{}{one}{queries}", fleet.group("fleet", &names));
    let states = [
        with(&one.group("one", &["changing"])),
        with(&(one.group("one", &["changing"]) + "labels = { role = \"replica\" }\n")),
        with(&(one.group("one", &["changing"]) + "max_connections = 2\n")),
        with(""),
    ];
    let exporter = Exporter::start(&states[0]).await;
    let samples = |page: &Page| {
        let families = ["qa", "qb", "qc", "qd"].map(|name| format!("query_exporter_{name}"));
        let targets = families.iter().flat_map(|family| page.series(family, &[]));
        targets.filter(|(labels, _)| labels["target"] != "changing").count()
    };
    exporter
        .wait("each item has a sample", SOON * 3, |page| {
            seen_if(samples(page) == 4 * (TARGETS - 1), samples(page))
        })
        .await;
    // Two of a target's items may be due together and open its second lane later on; nothing closes one.
    let before = Undisturbed::of(&exporter, &fleet, &names, &mut admin).await;
    assert_eq!((before.failures, before.missed), (0, 0));

    let mut footprints = Vec::new();
    let (mut slowest, begun) = (Duration::ZERO, Instant::now());
    let cpu = |page: &Page| page.value("process_cpu_seconds_total", &[]).unwrap();
    let cpu_before = cpu(&exporter.page().await);
    for n in 1..=RELOADS {
        let answer = exporter.take(&states[n % states.len()]).await;
        let touched = if n % 4 < 2 { "stopped" } else { "changed" };
        assert!(answer.body.contains("untouched 1996"), "{touched}: {}", answer.body);
        slowest = slowest.max(answer.took);
        let page = exporter.page().await;
        assert_eq!(samples(&page), 4 * (TARGETS - 1), "a sample was lost");
        if n % states.len() == 3 {
            assert!(!page.text.contains("changing"), "what is gone has left the page at once");
        }
        footprints.push(Footprint::of(&page));
    }
    let (took, cpu) = (begun.elapsed(), cpu(&exporter.page().await) - cpu_before);
    note!(
        "{RELOADS} reloads of 2,000 items in {took:?}, the slowest {slowest:?}, {cpu:.2} s of CPU with all that ran"
    );

    let page = exporter.wait_for_runs("changing", 4, SOON).await;
    let after = Undisturbed::of(&exporter, &fleet, &names, &mut admin).await;
    assert!(after.sessions.is_superset(&before.sessions), "a connection of an untouched target was closed");
    let connects: u64 = names.iter().map(|name| page.of(name, "query_exporter_connects_total")).sum();
    let connections: u64 = names.iter().map(|name| page.of(name, "query_exporter_connections")).sum();
    assert_eq!(connects, connections, "each connection that was ever opened is open");
    assert_eq!((after.failures, after.missed), (0, 0), "an untouched item missed a tick");
    assert!(one.sessions(&mut admin).await.len() <= 3);

    let (early, late) = (&footprints[RELOADS / 5], footprints.last().unwrap());
    note!("after {} reloads {early:?}, after {RELOADS} {late:?}", RELOADS / 5);
    assert!(late.files <= early.files + 500 && late.threads <= early.threads + 8, "{early:?} {late:?}");
    assert!(late.resident <= early.resident + (24 << 20), "{early:?} {late:?}");
    exporter.stop(&[(&server, &fleet), (&server, &one)]).await;
}

/// What the process takes of the system.
#[derive(Debug)]
struct Footprint {
    files: u64,
    threads: u64,
    resident: u64,
}

impl Footprint {
    fn of(page: &Page) -> Self {
        let value = |name: &str| page.count(name, &[]);
        Self {
            files: value("process_open_fds"),
            threads: value("process_threads"),
            resident: value("process_resident_memory_bytes"),
        }
    }
}

#[tokio::test]
async fn without_the_key_a_request_is_refused_and_the_signal_works() {
    let config = |query_name: &str| {
        "[groups.g]\nuser = \"u\"\ntargets = { a = \"127.0.0.1:1\" }\n".to_owned()
            + &query(query_name, "select 1 as n", "1s")
    };
    let exporter = Exporter::start(&config("one")).await;
    let answer = exporter.reload().await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("reload = true"), "{}", answer.body);
    let answer = exporter.get("/-/reload").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    // The key itself can be changed while it runs.
    let items = |page: &Page, name: &str| page.series("query_exporter_query_items", &[("query", name)]).len();
    exporter.write_config(&(SERVER.to_owned() + &config("two")));
    exporter.hang_up();
    exporter
        .wait_until("the other query is there", SOON, |page| {
            items(page, "two") == 1 && items(page, "one") == 0
        })
        .await;
    assert_eq!(exporter.reload().await.status, 200);
    assert_eq!(exporter.take(&config("two")).await.status, 200);
    assert_eq!(exporter.reload().await.status, 403);
    exporter.stop(&[]).await;
}

#[tokio::test]
async fn a_dry_run_shows_what_a_file_would_change_and_changes_nothing() {
    let config = |targets: &str, interval: &str| {
        format!(
            "[server]\nlisten = \"127.0.0.1:9104\"\nreload = true\n[groups.g]\nuser = \"u\"\npassword = \"hunter2\"\ntargets = {{ {targets} }}\n{}{}",
            query("one", "select 1 as n", interval),
            query("two", "select 2 as n", "1s")
        )
    };
    let (old, new) = (
        config("a = \"127.0.0.1:1\", b = \"127.0.0.1:2\"", "1s"),
        config("b = \"127.0.0.1:2\", c = \"127.0.0.1:3\"", "2s"),
    );
    let exporter = Exporter::start(&old).await;
    let run = async |path: &Path, arguments: &[&str]| {
        let mut command = command();
        command.arg("reload").arg("--config").arg(path).args(arguments);
        run(command).await
    };
    let (_folder, path) = folder_with(&new);
    let url = format!("http://{}", exporter.address);
    let told = exporter.get("/-/config/items").await;
    assert_eq!((told.status, told.header("content-type")), (200, Some("application/json")));
    assert!(!told.body.contains("hunter2"), "{}", told.body);

    let (code, shown, error) = run(&path, &["--dry-run", "--against", &url]).await;
    assert_eq!((code, error.as_str()), (0, ""));
    let expected = "start   one on 1 target: c\nstart   two on 1 target: c\nstop    one on 1 target: a\n\
                    stop    two on 1 target: a\nchange  one on 1 target: b: interval 1s -> 2s, timeout 1s -> 2s";
    assert!(shown.starts_with(expected), "{shown}");
    assert!(shown.contains("items: 2 would start, 2 stop, 1 change, 1 go on untouched"), "{shown}");
    assert_eq!(targets_of(&exporter.page().await), ["a", "b"]);

    // Without --dry-run the running exporter reads its own file, whichever that is.
    exporter.write_config(&new);
    let (code, said, error) = run(&path, &["--against", &url]).await;
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(said, "reloaded: items started 2, stopped 2, changed 1, untouched 1\n");
    let (code, shown, _) = run(&path, &["--dry-run", "--bind", &exporter.address]).await;
    assert_eq!((code, shown.as_str()), (0, "items: 0 would start, 0 stop, 0 change, 4 go on untouched\n"));

    exporter.write_config("nothing = true");
    let (code, _, error) = run(&path, &["--against", &url]).await;
    assert_eq!(code, 1);
    assert!(error.contains("it answered 500") && error.contains("`nothing` is not a key"), "{error}");
    let (code, ..) = run(&exporter.config(), &["--dry-run", "--against", &url]).await;
    assert_eq!(code, 2, "the file is wrong");
    let (code, _, error) = run(&path, &["--dry-run", "--against", "https://127.0.0.1:1"]).await;
    assert_eq!(code, 2, "{error}");
    let (code, _, error) = run(&path, &["--dry-run", "--against", "http://127.0.0.1:1"]).await;
    assert_eq!(code, 1, "{error}");
    exporter.stop(&[]).await;
}

/// A FIFO in place of the file is a file system that hangs.
#[tokio::test]
async fn a_file_system_that_hangs_holds_up_neither_a_scrape_nor_the_end() {
    let config = format!(
        "{SERVER}[groups.g]\nuser = \"u\"\ntargets = {{ a = \"127.0.0.1:1\" }}\n{}",
        query("one", "select 1 as n", "1s")
    );
    let exporter = Exporter::start(&config).await;
    fs::remove_file(exporter.config()).unwrap();
    let made = std::process::Command::new("mkfifo").arg(exporter.config()).status().unwrap();
    assert!(made.success());
    let address = exporter.address.clone();
    let asked = async { http::request(&address, "POST", "/-/reload").await };
    let scraped = async {
        let goal = exporter.page().await.missed("a") + 3;
        exporter.wait_until("ticks come and go", SOON, |page| page.missed("a") >= goal).await;
        exporter.stop_by(Signal::TERM, &[]).await
    };
    let (answer, took) = tokio::join!(asked, scraped);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (500, "the exporter is stopping\n"));
    assert!(took < Duration::from_secs(5));
}

#[tokio::test]
async fn what_needs_a_restart_is_said_and_the_rest_is_taken() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = |port: u16, runs: u32| {
        format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\nreload = true\n[limits]\nmax_runs = {runs}\nmax_connects = {runs}\n\
             [groups.g]\nuser = \"u\"\ntargets = {{ a = \"127.0.0.1:1\" }}\n{}",
            query("one", "select 1 as n", "1s")
        )
    };
    let (folder, path) = folder_with(&config(port, 10));
    let mut command = command();
    command.arg("--config").arg(path);
    let exporter = Exporter::launch(command, folder).await;
    let answer = exporter.take(&config(port + 1, 20)).await;
    let expected = format!("`listen` needs a restart: the exporter serves at 127.0.0.1:{port} until then");
    assert!(answer.body.contains(&expected), "{}", answer.body);
    let page = exporter.page().await;
    let limit = |what: &str| page.count(&format!("query_exporter_{what}_limit"), &[]);
    assert_eq!((limit("runs"), limit("connects")), (20, 20));
    let answer = exporter.take(&config(port, 5000)).await;
    assert!(answer.body.contains("`max_connects` above 1024 needs a restart"), "{}", answer.body);
    let page = exporter.page().await;
    let limit = |what: &str| page.count(&format!("query_exporter_{what}_limit"), &[]);
    assert_eq!((limit("runs"), limit("connects")), (5000, 1024));
    exporter.stop(&[]).await;
}
