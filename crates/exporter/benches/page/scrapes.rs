//! What one scrape costs, beside the floors.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use flate2::{Compression, write::DeflateEncoder};

use crate::{
    Result, bar,
    client::{Client, Encoding},
    fleet::{Fleet, Servers},
    floors::{Nginx, Writev},
    ready,
    rounds::{Side, alternate, ms, ratio},
    support::exporter::Exporter,
    support::process::Threads,
};

/// What a plain page may cost, in times of the floors.
#[derive(Debug, Clone, Copy)]
pub struct Bars {
    cpu: f64,
    time: f64,
    time_sendfile: f64,
    /// Scrapes of a turn.
    scrapes: usize,
}

pub const USUAL_BARS: Bars = Bars { cpu: 2.0, time: 1.5, time_sendfile: 2.5, scrapes: 100 };
/// Bars of the time 1.3 times higher, none for CPU.
pub const LARGE_BARS: Bars = Bars { cpu: f64::INFINITY, time: 1.95, time_sendfile: 3.25, scrapes: 10 };

/// The exporter and who serves its page.
struct Scene {
    exporter: Exporter,
    _servers: Servers,
    page: Vec<u8>,
    nginx: Nginx,
    writev: Writev,
}

fn scene(fleet: &Fleet, what: &str) -> Result<Scene> {
    let servers = Servers::start(fleet.rows)?;
    let exporter = ready(fleet, &servers)?;
    let page = Client::connect(exporter.port(), Encoding::Identity)?.page()?;
    let gzipped = gzip_6(&page)?;
    let (nginx, writev) = (Nginx::start(&page, &gzipped)?, Writev::start(&page)?);
    println!(
        "\n{what}: {}, {:.0} results a second; {} series, {:.1} MB, by gzip -6 {:.2} MB; nginx {}",
        fleet.describe(),
        fleet.results_per_second(),
        fleet.series(),
        page.len() as f64 / 1e6,
        gzipped.len() as f64 / 1e6,
        nginx.version,
    );
    Ok(Scene { exporter, _servers: servers, page, nginx, writev })
}

/// A page as it is.
pub fn plain(fleet: &Fleet, bars: Bars) -> Result<bool> {
    let Scene { exporter, nginx, writev, _servers, .. } = &scene(fleet, "Plain")?;
    let plain = Encoding::Identity;
    let mut sides = [
        Side::new("exporter", exporter.pid(), exporter.port(), plain)?,
        Side::new("nginx, sendfile on", nginx.pid(), nginx.sendfile, plain)?,
        Side::new("nginx, sendfile off", nginx.pid(), nginx.no_sendfile, plain)?,
        Side::new("bare writev loop", writev.pid(), writev.port, plain)?,
    ];
    alternate(&mut sides, bars.scrapes, exporter.pid())?;
    let [ours, sendfile, no_sendfile, writev] = &sides;
    let cpu = no_sendfile.cpu();
    println!("  CPU is {:.2} times nginx with sendfile", ratio(ours.cpu(), sendfile.cpu()));
    let slower = no_sendfile.time().max(writev.time());
    Ok(bar("CPU / nginx without sendfile", ratio(ours.cpu(), cpu), bars.cpu)
        & bar(
            "time / the slower of nginx without sendfile and writev",
            ratio(ours.time(), slower),
            bars.time,
        )
        & bar("time / nginx with sendfile", ratio(ours.time(), sendfile.time()), bars.time_sendfile))
}

/// A compressed page.
pub fn gzip(fleet: &Fleet) -> Result<bool> {
    let Scene { exporter, page, nginx, _servers, .. } = &scene(fleet, "gzip")?;
    let gzip = Encoding::Gzip;
    // What the kernel takes for the exporter's bytes, whoever sends them.
    let bare = Writev::start(&Client::connect(exporter.port(), gzip)?.page()?)?;
    let mut sides = [
        Side::new("exporter", exporter.pid(), exporter.port(), gzip)?,
        Side::new("nginx, gzip_static", nginx.pid(), nginx.gzip_static, gzip)?,
        Side::new("bare writev loop", bare.pid(), bare.port, gzip)?,
    ];
    // One after the other, all that was published in between is compressed anew: what a scrape costs depends on how
    // long ago the last one was.
    alternate(&mut sides, 1000, exporter.pid())?;
    let [ours, theirs, bare] = &sides;
    println!("  CPU is {:.2} times that of a bare writev loop", ratio(ours.cpu(), bare.cpu()));
    let ours_length = Client::connect(exporter.port(), gzip)?.page()?.len() as f64;
    let theirs_length = Client::connect(nginx.gzip_static, gzip)?.page()?.len() as f64;
    let whole = deflate_whole(page)?;
    println!("  the whole page at level 1: {whole:.1} ms CPU");
    Ok(bar("CPU / nginx, gzip_static", ratio(ours.cpu(), theirs.cpu()), 4.0)
        & bar("CPU / the whole page at level 1", ms(ours.cpu()) / whole, 0.1)
        & bar("bytes / gzip -6", ours_length / theirs_length, 1.6))
}

/// Milliseconds of CPU that it takes to compress the page whole at level 1.
fn deflate_whole(page: &[u8]) -> Result<f64> {
    const TIMES: u32 = 10;
    let before = Threads::of(std::process::id())?;
    for _ in 0..TIMES {
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(page.len() / 4), Compression::new(1));
        encoder.write_all(page)?;
        if encoder.finish()?.is_empty() {
            return Err("nothing came of it".into());
        }
    }
    Ok(ms(Threads::of(std::process::id())?.since(&before)) / f64::from(TIMES))
}

/// The page as the gzip program makes it.
fn gzip_6(page: &[u8]) -> Result<Vec<u8>> {
    let mut gzip =
        Command::new("gzip").args(["-6", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut stdin, stdout) = (gzip.stdin.take().ok_or("no pipe")?, gzip.stdout.take());
    let page = page.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&page));
    let mut gzipped = Vec::new();
    stdout.ok_or("no pipe")?.read_to_end(&mut gzipped)?;
    writing.join().map_err(|_| "the writer panicked")??;
    if !gzip.wait()?.success() {
        return Err("gzip failed".into());
    }
    Ok(gzipped)
}
