//! The memory of a large fleet that is published and scraped for minutes.

use std::{
    env,
    time::{Duration, Instant},
};

use crate::{
    Result, SMALLEST, bar,
    client::{Client, Encoding},
    fleet::{Fleet, Servers},
    ready,
    support::process,
};

const SCRAPE_INTERVAL: Duration = Duration::from_secs(15);

/// How long, unless `BENCH_MINUTES` says otherwise.
const MINUTES: u64 = 10;

/// One exporter is scraped with compression and one without, at the same time: memory does not mind.
pub fn memory(fleet: &Fleet) -> Result<bool> {
    let minutes = env::var("BENCH_MINUTES").map_or(Ok(MINUTES), |text| text.parse())?;
    println!(
        "\nMemory: {}, {:.0} results a second, one scraper every {SCRAPE_INTERVAL:?}, {minutes} minutes",
        fleet.describe(),
        fleet.results_per_second()
    );
    let idle = {
        let servers = Servers::start(SMALLEST.rows)?;
        let exporter = ready(&SMALLEST, &servers)?;
        process::peak(exporter.pid())?
    };
    let servers = Servers::start(fleet.rows)?;
    let sides = [(Encoding::Identity, ready(fleet, &servers)?), (Encoding::Gzip, ready(fleet, &servers)?)];
    let page = Client::connect(sides[0].1.port(), Encoding::Identity)?.page()?.len();
    let until = Instant::now() + Duration::from_secs(minutes * 60);
    while Instant::now() < until {
        let began = Instant::now();
        for (encoding, exporter) in &sides {
            Client::connect(exporter.port(), *encoding)?.page()?;
        }
        std::thread::sleep(SCRAPE_INTERVAL.saturating_sub(began.elapsed()));
    }
    let mut passed = true;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    for (encoding, exporter) in &sides {
        let (peak, now) = (process::peak(exporter.pid())?, process::resident(exporter.pid())?);
        let held = exporter.own()?.sum("query_exporter_compressed_bytes", "");
        println!(
            "  {encoding:?}: the page {:.1} MB; peak {:.1} MB, now {:.1} MB, idle {:.1} MB; compressed text {:.1} MB",
            page as f64 / 1e6,
            mb(peak),
            mb(now),
            mb(idle),
            held / 1e6
        );
        passed &= bar("peak less idle / the plain page", peak.saturating_sub(idle) as f64 / page as f64, 2.5);
    }
    Ok(passed)
}
