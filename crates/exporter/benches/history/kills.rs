//! kill -9, fifty times on each store, under 500 runs a second: what is lost, whether the file is whole, and how soon the
//! last results are served.

use std::{
    collections::HashMap,
    sync::PoisonError,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    Result,
    exporter::{Page, Place},
    store::{File, Server},
    targets::{CYCLE, Targets, now_ms, since},
};

const KILLS: usize = 50;
const TARGETS: usize = 100;
const QUERIES: usize = 5;

/// What is lost by a kill at most, in milliseconds: a flush interval, and the time that writing takes.
const MAX_LOST_MS: i64 = 1_000 + 500;
/// How long each exporter lives at least: one that wrote nothing at all has lost more than it may, even where its items
/// waited at the start for the whole second that they give to what was kept.
const SHORTEST_LIFE_MS: u64 = MAX_LOST_MS as u64 + 1_000 + 200;
/// How soon after listening the last results are there.
const MAX_SERVED: Duration = Duration::from_secs(1);

/// Where to read what is in the table.
enum Store {
    Sqlite(File),
    MySql(Server),
}

impl Store {
    async fn results(&self) -> Result<HashMap<String, i64>> {
        match self {
            Self::Sqlite(file) => file.results().await,
            Self::MySql(server) => server.results().await,
        }
    }
}

pub async fn on_sqlite() -> Result<bool> {
    let file = File::new()?;
    survive("SQLite", file.config(), Store::Sqlite(file)).await
}

pub async fn on_mysql() -> Result<bool> {
    let server = Server::start("mysql").await?;
    survive("MySQL", server.config(), Store::MySql(server)).await
}

async fn survive(name: &str, config: String, store: Store) -> Result<bool> {
    let targets = Targets::start(TARGETS, QUERIES).await?;
    let place = Place::new(&targets.config(&config))?;
    let mut born = now_ms();
    let mut exporter = place.start().await?;
    let ready = |page: &Page| {
        clocks(page).len() == targets.items()
            && page.sum("query_exporter_history_results_written_total") >= targets.items() as f64
    };
    exporter.wait("all items have run and are kept", Duration::from_secs(60), ready).await?;
    let (mut lost, mut behind, mut served) = (Vec::new(), Vec::new(), Vec::new());
    let (mut restored, mut damaged, mut untrue) = (0, 0, 0);
    for kill in 0..KILLS {
        // At another moment of the flush interval each time.
        sleep(Duration::from_millis(SHORTEST_LIFE_MS + (kill as u64 * 37) % 1_000)).await;
        let before = exporter.page().await?;
        drop(exporter);
        let killed = now_ms();
        let kept = store.results().await?;
        let life = since(born, killed);
        lost.push(missing_ms(&targets, &kept, killed, life));
        behind.push(missing_ms(&targets, &kept, killed, CYCLE));
        if lost[kill] > MAX_LOST_MS {
            println!("kill {kill}, after {life} ms, cost {} ms; the page before it:", lost[kill]);
            before.history().iter().for_each(|line| println!("  {line}"));
        }
        if let Store::Sqlite(file) = &store {
            damaged += usize::from(file.integrity().await? != "ok");
        }
        born = now_ms();
        exporter = place.start().await?;
        let begun = Instant::now();
        let all = |page: &Page| clocks(page).len() == targets.items();
        let page = exporter.wait("the last results", Duration::from_secs(20), all).await?;
        served.push(begun.elapsed());
        let (of_before, wrong) = ages(&page, killed);
        restored += of_before;
        untrue += wrong;
    }
    drop(exporter);
    lost.sort_unstable();
    behind.sort_unstable();
    served.sort_unstable();
    let (worst, slowest) = (lost[KILLS - 1], served[KILLS - 1]);
    let too_much = lost.iter().filter(|ms| **ms > MAX_LOST_MS).count();
    println!(
        "kill -9 of an exporter with {} items each second, {KILLS} times, {name}:\n  \
         lost: {} ms in the middle, {worst} ms at most, {too_much} times more than {MAX_LOST_MS} (a flush interval is 1,000)\n  \
         with what kills before had cost, of items that were not written since: {} ms at most\n  \
         served after listening: {:.0?} in the middle, {slowest:.0?} at most; {restored} results of before, {untrue} times a wrong age\n  \
         damaged files: {damaged}",
        targets.items(),
        lost[KILLS / 2],
        behind[KILLS - 1],
        served[KILLS / 2],
    );
    Ok(worst <= MAX_LOST_MS && slowest <= MAX_SERVED && damaged == 0 && untrue == 0 && restored > 0)
}

/// How long before the kill the oldest run ended that is not in the table, of those in the last `within` milliseconds
/// before it. Within the life that was ended this is what its kill cost. What an earlier kill cost stays missing beyond
/// that, until the item runs again and is written.
fn missing_ms(targets: &Targets, kept: &HashMap<String, i64>, killed: i64, within: i64) -> i64 {
    let answers = targets.answers.lock().unwrap_or_else(PoisonError::into_inner);
    let oldest = answers.iter().filter_map(|(item, times)| {
        let kept = since(*kept.get(item)?, killed);
        times.iter().map(|time| since(*time, killed)).filter(|age| *age < kept && *age <= within).max()
    });
    oldest.max().unwrap_or(0)
}

/// The values on the page, by query and target.
fn clocks(page: &Page) -> HashMap<(usize, String), i64> {
    let mut clocks = HashMap::new();
    for query in 0..QUERIES {
        for (labels, value) in page.samples(&format!("query_exporter_clock_{query}")) {
            clocks.insert((query, labels.to_owned()), value as i64);
        }
    }
    clocks
}

/// How many values were read before the kill; and of how many queries the oldest is said to be of another time than it is.
fn ages(page: &Page, killed: i64) -> (usize, usize) {
    let now = now_ms();
    let clocks = clocks(page);
    let since_kill = since(killed, now);
    let restored = clocks.values().filter(|value| since(**value, now) > since_kill).count();
    let said = page.samples("query_exporter_query_oldest_success_timestamp_seconds");
    let untrue = (0..QUERIES).filter(|query| {
        let ages = clocks.iter().filter(|((of, _), _)| of == query).map(|(_, value)| since(*value, now));
        let oldest = ages.max().unwrap_or(0);
        let label = format!("\"query_{query}\"");
        let said = said.iter().find(|(labels, _)| labels.contains(&label));
        let said = said.map(|(_, seconds)| since((seconds * 1_000.0) as i64 % CYCLE, now));
        said.is_none_or(|said| (said - oldest).abs() > 500)
    });
    (restored, untrue.count())
}
