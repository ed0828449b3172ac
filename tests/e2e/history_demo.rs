//! The demo of the history: twenty slow items run beside each other, and an UPDATE changes how often one of them does.

use std::{fs, path::Path, process::Command, time::Duration};

use tokio::time::Instant;

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    note,
    page::Page,
    repository,
    servers::{Admin, mariadb},
    wait::{seen_if, wait_for},
};

/// How long after the UPDATE the interval holds, at the latest.
const TAKES_EFFECT: Duration = Duration::from_secs(5);

const QUICK: &str = "demo-07";

fn targets() -> Vec<String> {
    (1..=20).map(|n| format!("demo-{n:02}")).collect()
}

fn runs(page: &Page) -> Vec<u64> {
    targets().iter().map(|target| page.runs(target, "success")).collect()
}

fn overrides(page: &Page) -> u64 {
    page.count("query_exporter_history_interval_overrides", &[])
}

/// How often the quick one has run, and the busiest of the others, from one page to the next.
fn since(before: &Page, now: &Page) -> (u64, u64) {
    let more: Vec<_> = runs(now).iter().zip(runs(before)).map(|(now, before)| now - before).collect();
    let quick = targets().iter().position(|target| target == QUICK).unwrap();
    let others = more.iter().enumerate().filter(|(n, _)| *n != quick).map(|(_, more)| *more);
    (more[quick], others.max().unwrap())
}

#[tokio::test]
async fn twenty_slow_items_run_beside_each_other_and_a_row_says_how_often() {
    let server = mariadb();
    let mut admin = server.admin().await;
    let account = Account::new(server, "history_demo").await;
    let Account { user, password, schema, .. } = &account;
    admin.run(&format!("grant select, insert, update, delete, create on {schema}.* to '{user}'@'%'")).await;
    let config = fs::read_to_string(repository().join("configs/history-demo.toml")).unwrap();
    let config = config
        .replace("127.0.0.1:3306", &server.address())
        .replace("user = \"exporter\"", &format!("user = \"{user}\""))
        .replace("database = \"monitoring\"", &format!("database = \"{schema}\""));
    let password = |command: &mut Command, _: &Path| {
        command.env("EXPORTER_PASSWORD", password);
    };
    let exporter = Exporter::start_with(&config, password).await;

    // Each has run once, so nobody waits for a connection any more.
    let all = |page: &Page| runs(page).iter().all(|runs| *runs > 0);
    let first = exporter.wait_until("each item has run", 2 * SOON, all).await;
    let begun = Instant::now();
    // A loop over the items would need 30 s for these on average.
    let twenty_more = |page: &Page| runs(page).iter().sum::<u64>() >= runs(&first).iter().sum::<u64>() + 20;
    let second = exporter.wait_until("each item has run again", Duration::from_secs(20), twenty_more).await;
    note!("20 runs of up to 3 s each took {:.1?}", begun.elapsed());
    assert!(targets().iter().all(|target| second.missed(target) == 0));

    let table = format!("{schema}.history");
    let rows = format!(
        "select count(*) from {table} where item like 'load@demo-%' and result between 100 and 110 \
         and execution_interval = 10 and last_execution_time > now() - interval 30 second"
    );
    wait_for("the table has all items", SOON, async || {
        let rows = admin.rows(&rows).await;
        seen_if(rows == [[Some("20".to_owned())]], rows)
    })
    .await;

    // Every three seconds.
    let set = async |admin: &mut Admin, seconds: u32, expected: u64| {
        let item = format!("load@{QUICK}");
        admin.run(&format!("update {table} set execution_interval = {seconds} where item = '{item}'")).await;
        let begun = Instant::now();
        let page = exporter
            .wait_until("it takes effect", 10 * TAKES_EFFECT, |page| overrides(page) == expected)
            .await;
        note!("an interval of {seconds} took effect within {:.1?}", begun.elapsed());
        page
    };
    let before = set(&mut admin, 3, 1).await;
    let mut now = before;
    let before = exporter.page().await;
    for _ in 0..5 {
        let goal = now.runs(QUICK, "success") + 1;
        let more = |page: &Page| page.runs(QUICK, "success") >= goal;
        now = exporter.wait_until("the item runs again", Duration::from_secs(30), more).await;
    }
    let (quick, others) = since(&before, &now);
    assert!(quick >= 5 && others <= quick / 2, "it ran {quick} times, another {others} times");

    // As before.
    let before = set(&mut admin, 0, 0).await;
    let other = "demo-08";
    let goal = before.runs(other, "success") + 2;
    let more = |page: &Page| page.runs(other, "success") >= goal;
    let now = exporter.wait_until("another item has run twice", 4 * SOON, more).await;
    let (quick, others) = since(&before, &now);
    assert!(quick <= 3 && others <= 3, "it ran {quick} times, another {others} times");
    let row =
        admin.rows(&format!("select execution_interval from {table} where item = 'load@{QUICK}'")).await;
    assert_eq!(row, [[Some("10".to_owned())]]);
    exporter.stop(&[(server, &account)]).await;
}
