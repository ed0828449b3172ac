//! Rounds: the sides take turns, and what is compared are the medians of what each did in its turns.

use std::time::{Duration, Instant};

use crate::{
    Result,
    client::{Client, Encoding},
    support::process::Threads,
};

/// Turns of each side.
pub const ROUNDS: usize = 7;

/// Who answers scrapes.
#[derive(Debug)]
pub struct Side {
    pub name: &'static str,
    pid: u32,
    client: Client,
    turns: Vec<Turn>,
    /// CPU time a second while it is not scraped.
    idle: f64,
}

/// What a side did in one turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// CPU time of one scrape.
    cpu: Duration,
    /// The median time of a scrape.
    time: Duration,
}

impl Side {
    pub fn new(name: &'static str, pid: u32, port: u16, encoding: Encoding) -> Result<Self> {
        Ok(Self { name, pid, client: Client::connect(port, encoding)?, turns: Vec::new(), idle: 0.0 })
    }

    /// CPU time of one scrape, without what the process does besides; the median.
    pub fn cpu(&self) -> Duration {
        median(self.turns.iter().map(|turn| turn.cpu).collect())
    }

    /// The median of the medians.
    pub fn time(&self) -> Duration {
        median(self.turns.iter().map(|turn| turn.time).collect())
    }

    fn take_turn(&mut self, scrapes: usize) -> Result<()> {
        let (began, before) = (Instant::now(), Threads::of(self.pid)?);
        let mut times = Vec::with_capacity(scrapes);
        for _ in 0..scrapes {
            let answer = self.client.scrape()?;
            if answer.status != 200 {
                return Err(format!("{} answers {}", self.name, answer.status).into());
            }
            times.push(answer.time);
        }
        let used = Threads::of(self.pid)?.since(&before);
        let besides = Duration::from_secs_f64(self.idle * began.elapsed().as_secs_f64());
        let cpu = used.saturating_sub(besides) / u32::try_from(scrapes)?;
        self.turns.push(Turn { cpu, time: median(times) });
        Ok(())
    }
}

/// Has each side take its turns, with so many scrapes each; `publisher` is what works besides being scraped.
pub fn alternate(sides: &mut [Side], scrapes: usize, publisher: u32) -> Result<()> {
    let (began, before) = (Instant::now(), Threads::of(publisher)?);
    std::thread::sleep(Duration::from_secs(5));
    let idle = Threads::of(publisher)?.since(&before).as_secs_f64() / began.elapsed().as_secs_f64();
    for side in sides.iter_mut() {
        side.idle = if side.pid == publisher { idle } else { 0.0 };
        // One to warm up.
        side.client.scrape()?;
    }
    for _ in 0..ROUNDS {
        for side in sides.iter_mut() {
            side.take_turn(scrapes)?;
        }
    }
    println!("  besides scrapes the exporter uses {:.1} % of one CPU", idle * 100.0);
    for side in sides.iter() {
        let (cpu, time) = (ms(side.cpu()), ms(side.time()));
        let turns = |of: fn(&Turn) -> Duration| {
            let (low, high) = (side.turns.iter().map(of).min(), side.turns.iter().map(of).max());
            format!("{:.3} to {:.3}", ms(low.unwrap_or_default()), ms(high.unwrap_or_default()))
        };
        println!(
            "  {:<22} {cpu:>6.3} ms CPU ({}), {time:>6.3} ms until the last byte ({})",
            side.name,
            turns(|turn| turn.cpu),
            turns(|turn| turn.time),
        );
    }
    Ok(())
}

pub fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How many times the one is the other.
pub fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}
