//! Down targets: tried by one item, ever more slowly, at nobody's cost, and back at once.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_down_target_is_tried_by_one_item_at_a_time_and_ever_more_slowly() {
    let mut bench = Bench::new(256);
    for query in ["a", "b", "c", "d", "e"] {
        bench.item(query, "dead", 1, &[Act::Down]);
    }
    bench.run(3600 * SECOND).await;
    let tries: usize = ["a", "b", "c", "d", "e"].iter().map(|q| bench.runs(q).len()).sum();
    // 18,000 ticks; with full jitter under a cap of 30 s about one try in 15 s.
    assert!((120..500).contains(&tries), "{tries}");
    let missed: u64 = ["a", "b", "c", "d", "e"].iter().map(|q| bench.missed(q)["target_down"]).sum();
    assert!((tries as u64 + missed).abs_diff(18_000) <= 5, "every tick is a run or a missed one");
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_brings_all_items_back() {
    let mut bench = Bench::new(256);
    bench.item("a", "db", 1, &[Act::Down, Act::Down, Act::Down, QUICK]);
    bench.item("b", "db", 1, &[QUICK]);
    bench.run(600 * SECOND).await;
    for query in ["a", "b"] {
        let runs = bench.runs(query);
        let recovered: Vec<_> = runs.iter().filter(|at| **at > 120 * SECOND).collect();
        assert_eq!(recovered.len(), 480, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_tries_of_down_targets_take_no_run_from_the_healthy() {
    let mut bench = Bench::new(8);
    for n in 0..20 {
        bench.item("sick", &format!("sick{n}"), 10, &[Act::Down, Act::Hang]);
    }
    for n in 0..20 {
        bench.item("healthy", &format!("db{n}"), 10, &[QUICK]);
    }
    bench.run(600 * SECOND).await;
    assert_eq!(bench.runs("healthy").len(), 20 * 60);
    assert!(bench.missed("healthy").is_empty());
}
