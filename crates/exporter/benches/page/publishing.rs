//! What publishing costs where pages are read, and what it makes of their time.

use std::time::{Duration, Instant};

use crate::{
    Result, bar,
    client::{Client, Encoding},
    fleet::{Fleet, Servers},
    publish::{self, Publisher},
    ready,
    rounds::{ROUNDS, median, ms, ratio},
    support::exporter::Exporter,
    support::process::Cpu,
};

/// The interval of a scraper.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(15);

/// CPU of the whole exporter, with one scrape in each interval: with compression beside without.
pub fn beside_scrapes(fleet: &Fleet) -> Result<bool> {
    println!("\nPublishing: {}, {:.0} results a second", fleet.describe(), fleet.results_per_second());
    let servers = Servers::start(fleet.rows)?;
    let exporter = ready(fleet, &servers)?;
    let (mut plain, mut gzip) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(interval(&exporter, Encoding::Identity)?);
        gzip.push(interval(&exporter, Encoding::Gzip)?);
    }
    let (plain, gzip) = (median(plain), median(gzip));
    println!(
        "  CPU in {SCRAPE_INTERVAL:?}: {:.0} ms with a plain scrape, {:.0} ms with a compressed one",
        ms(plain),
        ms(gzip)
    );
    Ok(bar("with a compressed scrape / with a plain one", ratio(gzip, plain), 1.15))
}

fn interval(exporter: &Exporter, encoding: Encoding) -> Result<Duration> {
    let (began, before) = (Instant::now(), Cpu::of(exporter.pid())?);
    Client::connect(exporter.port(), encoding)?.page()?;
    std::thread::sleep(SCRAPE_INTERVAL.saturating_sub(began.elapsed()));
    Ok(Cpu::of(exporter.pid())?.since(before).total())
}

/// Scrapes while nothing is published and while one thread publishes as fast as it can, in turns.
pub fn full_rate() -> Result<bool> {
    const SCRAPES: usize = 2000;
    let items = publish::TARGETS * publish::QUERIES;
    println!("\nFull rate: {items} items with one series each");
    let mut publisher = Publisher::start()?;
    let mut client = Client::connect(publisher.port, Encoding::Identity)?;
    let mut passed = true;
    for (what, rate) in [("2,000 results a second", Some(2000)), ("as fast as one thread can", None)] {
        let (mut quiet, mut beside) = (Vec::new(), Vec::new());
        let (mut p50s, mut p99s, mut count, mut busy) = (Vec::new(), Vec::new(), 0, Duration::ZERO);
        for _ in 0..ROUNDS {
            quiet.push(scrapes(&mut client, SCRAPES / ROUNDS)?);
            publisher.published()?;
            publisher.publish(rate)?;
            let began = Instant::now();
            beside.push(scrapes(&mut client, SCRAPES / ROUNDS + 1)?);
            publisher.publish(Some(0))?;
            busy += began.elapsed();
            let told = publisher.published()?;
            p50s.push(told.p50);
            p99s.push(told.p99);
            count += told.count;
        }
        let (quiet, beside, p50, p99) = (median(quiet), median(beside), median(p50s), median(p99s));
        println!(
            "  {what}: {:.0} results a second; a scrape takes {:.2} ms, without them {:.2} ms; publishing {:.1} us, at p99 {:.1} us",
            count as f64 / busy.as_secs_f64(),
            ms(beside),
            ms(quiet),
            ms(p50) * 1e3,
            ms(p99) * 1e3
        );
        passed &= bar("scrape beside publishing / quiet", ratio(beside, quiet), 1.3)
            & bar("publishing, p99 in ms", ms(p99), 1.0);
    }
    Ok(passed)
}

/// The median time of so many.
fn scrapes(client: &mut Client, count: usize) -> Result<Duration> {
    let times = (0..count).map(|_| client.scrape().map(|answer| answer.time));
    Ok(median(times.collect::<Result<_>>()?))
}
