//! T38 on simulated servers: a query that is slower than its interval.

use fleetsim::{Answer, Event, Record, Script};
use tokio::time::Instant;

use super::{ASKED, N, SICK, Setting, healthy, query};
use crate::support::{exporter::SOON, page::Page};

fn missed(page: &Page, reason: &str) -> u64 {
    page.count("query_exporter_ticks_missed_total", &[("target", SICK), ("reason", reason)])
}

/// When the query came, and when it had ended there.
fn runs(records: &[Record]) -> Vec<(Instant, Option<Instant>)> {
    let mut runs = Vec::new();
    for record in records {
        let of_it = |sql: &str| sql.contains(ASKED);
        match &record.event {
            Event::Statement(sql) if of_it(sql) => runs.push((record.connection, record.at, None)),
            Event::StatementEnded(_) => {
                let its = runs.iter_mut().rev().find(|(connection, ..)| *connection == record.connection);
                if let Some((_, _, end)) = its {
                    end.get_or_insert(record.at);
                }
            }
            _ => {}
        }
    }
    runs.into_iter().map(|(_, began, ended)| (began, ended)).collect()
}

#[tokio::test]
async fn t38_a_query_slower_than_its_interval_skips_ticks_never_overlaps_and_is_not_caught_up() {
    // Nobody ends it but us, a tenth after its timeout, which is the interval.
    let script = Script::default().on(ASKED, Answer::hang_beyond_limits());
    let queries = query("asks", &format!("select n {ASKED}"), "timeout = \"1s\"");
    let mut scene = Setting::new(script).queries(queries).start().await;
    let skipped = |page: &Page| missed(page, "running") >= 5;
    let page = scene.exporter.wait_until("ticks were skipped", SOON, skipped).await;
    assert!(page.is_up(SICK));
    assert_eq!((missed(&page, "no_permit"), missed(&page, "target_down")), (0, 0));

    scene.play(healthy()).await;
    let quick = Instant::now();
    for _ in 0..3 {
        let page = scene.succeeds().await;
        assert_eq!(page.value("query_exporter_asks", &[]), Some(N as f64));
    }
    let runs = runs(&scene.sim.records());
    let overlap = runs.windows(2).find(|pair| pair[0].1.is_none_or(|ended| ended > pair[1].0));
    assert!(overlap.is_none(), "one began before the other had ended: {overlap:?}");
    // What was skipped stays so: from then on there is one run for each tick.
    let ticks = quick.elapsed().as_secs() + 1;
    let began = runs.iter().filter(|(began, _)| *began > quick).count() as u64;
    assert!(began <= ticks + 1, "{began} runs at {ticks} ticks");
    scene.end().await;
}
