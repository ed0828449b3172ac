//! What a sick fleet writes to the log.

use super::*;

/// T65.
#[tokio::test(start_paused = true)]
async fn t65_an_hour_with_500_targets_down_is_few_lines() {
    let queries = [("q", 15 * SECOND, 5 * SECOND), ("r", 60 * SECOND, 5 * SECOND)];
    let plan = Plan { targets: 500, queries: &queries, retry_after: None, kept: None };
    let health = |n: usize| [Health::Refusing, Health::Mute, Health::LockedOut, Health::Crowded][n % 4];
    // Those that refuse a login do so from the start, the others are well first.
    let fleet = Fleet::start(&plan, |n| if n % 4 < 2 { Health::Well } else { health(n) }).await;
    fleet.run(60 * SECOND).await;
    for n in (0..500).filter(|n| n % 4 < 2) {
        fleet.servers.set(&name(n), health(n));
    }
    fleet.run(3540 * SECOND).await;
    let lines = fleet.lines.all();
    let summaries = lines.iter().filter(|line| line.contains(" targets are down: ")).count();
    assert_eq!(summaries, 6, "one each ten minutes");
    let of_one = |n: usize| lines.iter().filter(|line| line.contains(&format!("=\"t{n}\""))).count();
    assert!((0..500).all(|n| of_one(n) <= 2));
    assert!(lines.len() <= 300, "{} lines:\n{}", lines.len(), lines.join("\n"));
    for n in 0..500 {
        fleet.servers.set(&name(n), Health::Well);
    }
    fleet.run(600 * SECOND).await;
    assert!((0..500).all(|n| fleet.is_up(n)));
    let over = fleet.lines.all();
    fleet.run(3600 * SECOND).await;
    assert_eq!(fleet.lines.all(), over, "nobody is down, nothing is told");
}
