//! Many scrapers at once.

use std::{
    sync::{Arc, Barrier},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    Result, bar,
    client::{Answer, Client, Encoding},
    fleet::{Fleet, Servers},
    ready,
    support::process,
};

/// Scrapes of each.
const SCRAPES: usize = 10;
/// As many are too many, and some are told so.
const TOO_MANY: usize = 200;
const MANY: usize = 50;

/// What the pages of a herd may hold beside four times the largest page, as crates/http/src/builds.rs states it, and what
/// sockets and threads take beside pages.
const FREELY: u64 = (64 << 20) + (32 << 20);

pub fn herd(fleet: &Fleet) -> Result<bool> {
    println!("\nMany scrapers: {}, {:.0} results a second", fleet.describe(), fleet.results_per_second());
    let servers = Servers::start(fleet.rows)?;
    let exporter = ready(fleet, &servers)?;
    let page = Client::connect(exporter.port(), Encoding::Identity)?.page()?.len() as u64;
    let mut passed = true;
    for (scrapers, encoding) in [
        (MANY, Encoding::Identity),
        (MANY, Encoding::Gzip),
        (TOO_MANY, Encoding::Identity),
        (TOO_MANY, Encoding::Gzip),
    ] {
        let before = process::resident(exporter.pid())?;
        let herd = set_off(scrapers, exporter.port(), encoding)?;
        let health = slowest_health(exporter.port(), &herd)?;
        let mut answers = Vec::new();
        for scraper in herd {
            answers.extend(scraper.join().map_err(|_| "a scraper panicked")??);
        }
        let with = |status| answers.iter().filter(|answer: &&Answer| answer.status == status).count();
        let (served, refused) = (with(200), with(503));
        let slowest = answers.iter().map(|answer| answer.time).max().unwrap_or_default();
        let peak = process::peak(exporter.pid())?.saturating_sub(before);
        println!(
            "  {scrapers} at once, {encoding:?}: {served} pages, {refused} times 503, the slowest in {slowest:.0?}; health within {health:.1?}; \
             {:.1} MB above {:.1} MB",
            peak as f64 / 1e6,
            before as f64 / 1e6
        );
        let others = answers.len() - served - refused;
        passed &= bar("answers that are neither", others as f64, 0.0);
        if scrapers == MANY {
            passed &= bar("pages refused", refused as f64, 0.0);
        }
        passed &= bar("slowest answer of /-/healthy in seconds", health.as_secs_f64(), 1.0);
        passed &= bar("memory / what is stated", peak as f64 / (4 * page + FREELY) as f64, 1.0);
    }
    Ok(passed)
}

type Scraper = JoinHandle<std::result::Result<Vec<Answer>, String>>;

/// So many scrapers, which begin together.
fn set_off(scrapers: usize, port: u16, encoding: Encoding) -> Result<Vec<Scraper>> {
    let begin = Arc::new(Barrier::new(scrapers));
    let scraper = |_| -> Result<Scraper> {
        let mut client = Client::connect(port, encoding)?;
        let begin = Arc::clone(&begin);
        Ok(std::thread::spawn(move || {
            begin.wait();
            (0..SCRAPES).map(|_| client.scrape().map_err(|error| error.to_string())).collect()
        }))
    };
    (0..scrapers).map(scraper).collect()
}

/// Asks for the health until all are done.
fn slowest_health(port: u16, herd: &[Scraper]) -> Result<Duration> {
    let mut health = Client::connect_to(port, "/-/healthy", Encoding::Identity)?;
    let mut slowest = Duration::ZERO;
    loop {
        let began = Instant::now();
        if health.scrape()?.status != 200 {
            return Err("the exporter is not healthy".into());
        }
        slowest = slowest.max(began.elapsed());
        if herd.iter().all(JoinHandle::is_finished) {
            return Ok(slowest);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
