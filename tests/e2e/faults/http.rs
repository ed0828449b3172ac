//! What may happen to a scrape: T55, T59, T60. What is decided below the whole program (T50 to T54, T56) is tested in the
//! crate that serves the page.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use fleetsim::{Answer, Script, Sim};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::support::{
    exporter::{Exporter, SOON, command, folder_with, run},
    page::Page,
    promtool, reader, repository,
    wait::{seen_if, wait_for},
};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

/// What a client gets that asks once, until the server closes; nothing if nobody answers any more.
async fn bytes_of(address: &str, accept: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    // A reset counts as the end; whether all is there is to be seen.
    let _ = timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("a scrape ends");
    (!bytes.is_empty()).then_some(bytes)
}

/// Asserts that it is an answer with a whole page, and gives the samples.
fn samples(answer: &[u8], open_metrics: bool) -> Vec<reader::Sample> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the head ends");
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(length, body.len().to_string(), "the page is cut");
    reader::read(body, open_metrics).unwrap()
}

/// A configuration of this many targets at one server, with four queries each second.
fn config(sim: &Sim, targets: usize) -> String {
    let address = sim.address();
    let targets: Vec<_> = (0..targets).map(|n| format!("t{n} = \"{address}\"")).collect();
    let query = |n: usize| {
        format!(
            "[queries.q{n}]\nsql = \"select {n} as n from asked\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
             [queries.q{n}.metrics.q{n}]\ntype = \"gauge\"\nhelp = \"n\"\nlabels = [\"who\"]\nvalue = \"n\"\n"
        )
    };
    format!(
        "[server]\nreload = true\n[groups.g]\nuser = \"monitor\"\ntargets = {{ {} }}\n",
        targets.join(", ")
    ) + &(0..4).map(query).collect::<String>()
}

#[tokio::test]
async fn t55_a_page_is_whole_while_results_come_files_change_and_the_exporter_leaves_a_stuck_reader() {
    const RELOADS: usize = 6;
    let rows = (0..500).map(|n| [format!("row number {n} of a result"), n.to_string()]);
    let script = Script::default().on("from asked", Answer::text(["who", "n"], rows));
    let sim = Sim::start(script).await.unwrap();
    let exporter = Exporter::start(&config(&sim, 3)).await;
    exporter.wait_for_runs("t0", 4, SOON).await;

    let (leaving, pages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut scrapers = JoinSet::new();
    for open_metrics in [false, true, false, true] {
        let (address, leaving, pages) = (exporter.address.clone(), Arc::clone(&leaving), Arc::clone(&pages));
        scrapers.spawn(async move {
            let accept = if open_metrics { OPEN_METRICS } else { "*/*" };
            while let Some(answer) = bytes_of(&address, accept).await {
                let of_results =
                    samples(&answer, open_metrics).iter().filter(|(name, ..)| name.contains("_q0")).count();
                // The first target's results are there in each file, and come whole.
                assert!(of_results >= 500 && of_results.is_multiple_of(500), "{of_results}");
                pages.fetch_add(1, Relaxed);
            }
            assert!(leaving.load(Relaxed), "a scrape had no answer");
        });
    }
    for n in 0..RELOADS {
        let before = pages.load(Relaxed);
        exporter.take(&config(&sim, 3 - n % 2)).await;
        exporter.wait_for_runs("t0", 1, SOON).await;
        wait_for("each has scraped again", SOON, async || {
            let seen = pages.load(Relaxed);
            seen_if(seen >= before + 4, seen)
        })
        .await;
    }

    // More pages than the kernel keeps, asked for and not read.
    let mut stuck = TcpStream::connect(&exporter.address).await.unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    stuck.write_all(requests.as_bytes()).await.unwrap();
    assert_stuck(&stuck).await;
    leaving.store(true, Relaxed);
    let log = exporter.log().clone();
    exporter.stop(&[]).await;
    assert_eq!(log.with("responses still in flight at the end of the shutdown were dropped").len(), 1);
    while let Some(ended) = scrapers.join_next().await {
        ended.unwrap();
    }
}

/// Waits until nothing more arrives for a reader that does not read: ten looks in a row find as much. Until then a
/// response in flight could still end in the kernel's buffers.
async fn assert_stuck(reader: &TcpStream) {
    let (mut buffer, mut last, mut same) = (vec![0; 16 << 20], 0, 0);
    wait_for("the kernel keeps no more for the reader", SOON, async || {
        let arrived = timeout(SOON, reader.peek(&mut buffer)).await.unwrap().unwrap();
        same = if arrived == last { same + 1 } else { 0 };
        last = arrived;
        seen_if(same >= 10, arrived)
    })
    .await;
}

/// The families that the documentation lists per target, but for the one that is there only after a failure.
fn families_of_targets() -> Vec<String> {
    let docs = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let section = docs.split("## ").find(|section| section.starts_with("Per target")).unwrap();
    let names = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.filter(|name| *name != "query_exporter_target_failure_reason").map(str::to_owned).collect()
}

#[tokio::test]
async fn t59_of_a_fleet_that_never_answered_each_state_is_there_from_the_first_page_on() {
    const TARGETS: usize = 200;
    let config = format!(
        "[groups.g]\nuser = \"nobody\"\n[groups.g.targets]\n\"t{{1..{TARGETS}}}\" = \"127.0.1.{{1..{TARGETS}}}:1\"\n\
         [queries.q]\nsql = \"select 1 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
         [queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
    );
    let exporter = Exporter::start(&config).await;
    let families = families_of_targets();
    assert!(families.len() >= 9, "{families:?}");
    let check = |page: &Page| {
        promtool::assert_valid(page);
        for family in &families {
            let mut of_targets = BTreeMap::new();
            for (labels, _) in page.series(family, &[]) {
                *of_targets.entry(labels["target"].clone()).or_insert(0) += 1;
            }
            assert_eq!(of_targets.len(), TARGETS, "{family}");
        }
        assert!(page.series("query_exporter_up", &[]).iter().all(|(_, up)| *up < 0.5));
    };
    // Nothing is waited for: not that a target was tried, and not while they are.
    check(&exporter.page().await);
    let failed = |page: &Page| page.series("query_exporter_target_failure_reason", &[]).len() == TARGETS;
    let page = exporter.wait_until("each was tried", SOON, failed).await;
    check(&page);
    assert_eq!(page.series("query_exporter_target_failure_reason", &[("reason", "refused")]).len(), TARGETS);
    for (accept, open_metrics) in [("*/*", false), (OPEN_METRICS, true)] {
        let answer = bytes_of(&exporter.address, accept).await.unwrap();
        let n_up =
            samples(&answer, open_metrics).iter().filter(|(name, ..)| name == "query_exporter_up").count();
        assert_eq!(n_up, TARGETS);
    }
    exporter.stop(&[]).await;
}

#[tokio::test]
async fn t60_with_nothing_to_run_it_starts_only_if_the_file_says_so() {
    let (groups, query) = (
        "[groups.g]\nuser = \"nobody\"\ntargets = { db = \"127.0.1.1:1\" }\n",
        "[queries.q]\nsql = \"select 1 as n\"\n[queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n",
    );
    let elsewhere = query.replace("[queries.q.metrics", "targets = [\"nobody-*\"]\n[queries.q.metrics");
    for (config, said) in [
        ("", "there are no groups"),
        (groups, "there are no queries"),
        (&(groups.to_owned() + &elsewhere), "there is nothing to run"),
    ] {
        let (_folder, path) = folder_with(config);
        let mut exporter = command();
        exporter.arg("--config").arg(&path).args(["--bind", "127.0.0.1:0"]);
        let (code, _, stderr) = run(exporter).await;
        assert!(code == 2 && stderr.contains(said), "{code}: {stderr}");
    }

    let idle = format!("[server]\nreload = true\n{groups}enabled = false\n{query}");
    let exporter = Exporter::start(&idle).await;
    assert_eq!(exporter.log().with("nothing runs: every item is disabled or paused").len(), 1);
    assert_eq!(exporter.get("/-/ready").await.status, 200);
    let check = |page: &Page| {
        promtool::assert_valid(page);
        assert!(page.lines("query_exporter_build_info").len() == 1, "{}", page.text);
    };
    check(&exporter.page().await);
    // A part of the fleet that is not there is no empty page, either.
    for part in ["/metrics/g", "/metrics?query=q", "/probe?target=db"] {
        assert_eq!(exporter.get(part).await.status, 404, "{part}");
    }
    // Nor by a reload.
    exporter.write_config("");
    let answer = exporter.reload().await;
    assert!(answer.status == 500 && answer.body.contains("there are no groups"), "{answer:?}");
    check(&exporter.page().await);
    exporter.stop(&[]).await;
}
