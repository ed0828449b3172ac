//! What publishing costs where pages are read, and what it makes of their time.

use std::time::{Duration, Instant};

use crate::{
    Result, bar,
    client::{Client, Encoding},
    fleet::{Fleet, Servers},
    publish::{self, Pace, Publisher},
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

/// Scrapes while nothing is published and while one thread publishes, at a pace and as fast as it can, in turns; and
/// while it publishes what is not on the page, which says how much of it is the CPU that it takes.
pub fn full_rate() -> Result<bool> {
    const SCRAPES: usize = 2000;
    let items = publish::TARGETS * publish::QUERIES;
    println!("\nFull rate: {items} items with one series each");
    let mut publisher = Publisher::start()?;
    let mut client = Client::connect(publisher.port, Encoding::Identity)?;
    let mut all = [Pace::Rest, Pace::PerSecond(2000), Pace::Elsewhere, Pace::Unbounded].map(Beside::new);
    for _ in 0..ROUNDS {
        for beside in &mut all {
            beside.take_turn(&mut publisher, &mut client, SCRAPES / ROUNDS + 1)?;
        }
    }
    let [quiet, paced, apart, unbounded] = all;
    let times = [&quiet, &paced, &apart, &unbounded].map(|beside| median(beside.scrapes.clone()));
    let [at_rest, at_a_pace, beside_another, at_full_rate] = times;
    println!(
        "  a scrape takes {:.2} ms; while as much is published on another page {:.2} ms, {:.2} times as long",
        ms(at_rest),
        ms(beside_another),
        ratio(beside_another, at_rest)
    );
    let mut passed = true;
    for (what, beside, time) in
        [("2,000 results a second", paced, at_a_pace), ("as fast as one thread can", unbounded, at_full_rate)]
    {
        let per_second = beside.count as f64 / beside.busy.as_secs_f64();
        let (p50, p99) = (median(beside.p50s), median(beside.p99s));
        println!(
            "  {what}: {per_second:.0} results a second; a scrape takes {:.2} ms, {:.2} times that beside the other page's; publishing {:.1} us, at p99 {:.1} us",
            ms(time),
            ratio(time, beside_another),
            ms(p50) * 1e3,
            ms(p99) * 1e3
        );
        passed &= bar("scrape beside publishing / quiet", ratio(time, at_rest), 1.3)
            & bar("publishing, p99 in ms", ms(p99), 1.0);
    }
    Ok(passed)
}

/// What was seen while the publisher went at a pace.
struct Beside {
    pace: Pace,
    /// The median of each turn.
    scrapes: Vec<Duration>,
    p50s: Vec<Duration>,
    p99s: Vec<Duration>,
    /// Results, and how long it took to publish them.
    count: usize,
    busy: Duration,
}

impl Beside {
    fn new(pace: Pace) -> Self {
        let none = Vec::new;
        Self { pace, scrapes: none(), p50s: none(), p99s: none(), count: 0, busy: Duration::ZERO }
    }

    fn take_turn(&mut self, publisher: &mut Publisher, client: &mut Client, count: usize) -> Result<()> {
        publisher.published()?;
        publisher.publish(self.pace)?;
        let began = Instant::now();
        self.scrapes.push(scrapes(client, count)?);
        publisher.publish(Pace::Rest)?;
        self.busy += began.elapsed();
        let told = publisher.published()?;
        self.p50s.push(told.p50);
        self.p99s.push(told.p99);
        self.count += told.count;
        Ok(())
    }
}

/// The median time of so many.
fn scrapes(client: &mut Client, count: usize) -> Result<Duration> {
    let times = (0..count).map(|_| client.scrape().map(|answer| answer.time));
    Ok(median(times.collect::<Result<_>>()?))
}
