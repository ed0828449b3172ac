//! The pages of scripted fleets: what they say, in which order, and that they are HTML.

mod answers;
mod html5;
mod lists;
mod markup;
mod pages;
mod shape;

use fleet_collector::{
    BootTime, Failure, Reason,
    driver::{Flavour, RefusedGuard, Server},
    hour::{MINUTES, Minute},
    record::{LastRun, Outcome, ResultFacts, Took},
};
use serde_json::Value;

use super::{
    model::{Brief, Exporter, Item, ItemCounts, ItemState, Next, NextTry, Queue, State, Target},
    *,
};

/// Now, in milliseconds since the epoch.
const NOW: u64 = 1_753_413_165_250;

/// A fleet that is as it is told.
#[derive(Default)]
pub(crate) struct Scripted {
    exporter: Exporter,
    targets: Vec<(Target, Vec<Item>)>,
}

impl Fleet for Scripted {
    fn exporter(&self) -> Exporter {
        self.exporter.clone()
    }

    fn briefs(&self) -> Vec<Brief> {
        self.targets.iter().map(|(target, _)| target.brief.clone()).collect()
    }

    fn target(&self, name: &str) -> Option<Target> {
        self.targets.iter().map(|(target, _)| target).find(|target| &*target.brief.name == name).cloned()
    }

    fn items(&self, target: &str) -> Vec<Item> {
        let found = self.targets.iter().find(|(known, _)| &*known.brief.name == target);
        found.map(|(_, items)| items.clone()).unwrap_or_default()
    }
}

/// A fleet of this many targets that are down.
pub(crate) fn fleet(down: usize) -> Arc<dyn Fleet> {
    let targets =
        (0..down).map(|n| target(&format!("db{n:04}"), &format!("group{}", n % 300), State::Down, vec![]));
    Arc::new(Scripted { exporter: exporter(), targets: targets.collect() })
}

fn exporter() -> Exporter {
    Exporter {
        version: "1.2.3".to_owned(),
        now_ms: NOW,
        uptime: Duration::from_secs(3 * 3600 + 5),
        config_loaded_ms: NOW - 600_000,
        config_error: None,
        queries: 2,
        runs: Queue { in_flight: 3, waiting: 1, limit: 256 },
        tries: Queue { in_flight: 1, waiting: 0, limit: 64 },
        connects: (1, 32),
        oldest_overdue: Duration::from_millis(20),
        series: 1234,
        bytes: (123_456, 256 << 20),
        log_lines_dropped: 0,
    }
}

fn target(name: &str, group: &str, state: State, items: Vec<Item>) -> (Target, Vec<Item>) {
    let mut counts = ItemCounts::default();
    for item in &items {
        counts.add(item.state());
    }
    let is_down = state == State::Down;
    let failure = Failure::unanswered(Reason::Refused, "Connection refused (os error 111)");
    let failing = items.iter().find(|item| item.state() == ItemState::Failing);
    let brief = Brief {
        name: name.into(),
        group: group.into(),
        state,
        since_ms: matches!(state, State::Down | State::Up).then_some(NOW - 120_000),
        reason: is_down.then_some(Reason::Refused),
        items: counts,
    };
    let mut hour = [Minute::default(); MINUTES];
    hour[59] = Minute { longest: Some(Duration::from_millis(250)), failed: u8::from(is_down), ..hour[59] };
    let server = Server {
        flavour: Flavour::MariaDb,
        version: "11.8.3-MariaDB".to_owned(),
        server_id: "7".to_owned(),
        read_only: Some(true),
        refused: vec![RefusedGuard { guard: "lock_wait_timeout", error: "no".to_owned() }],
        ..Server::default()
    };
    let target = Target {
        brief,
        address: format!("{name}.example.net:3306"),
        labels: vec![("env".to_owned(), "prod".to_owned()), ("target".to_owned(), name.to_owned())],
        down: is_down.then_some((NOW - 1500, failure)),
        next_try: is_down.then_some(NextTry { failures: 5, wait: Some(Duration::from_secs(12)) }),
        connections: (u64::from(!is_down), 3),
        server: (!is_down).then(|| Arc::new(server)),
        tls: "preferred",
        missed: [0, 1, 20, 3],
        trouble: failing.and_then(|item| Some((Arc::clone(&item.query), item.last.clone()?))),
        hour,
    };
    (target, items)
}

fn item(query: &str, outcome: Option<Outcome>) -> Item {
    let failures = if matches!(outcome, Some(Outcome::Failure(_))) { 3 } else { 0 };
    let last = outcome.map(|outcome| LastRun {
        ended_ms: NOW - 4000,
        took: Took { lateness: Duration::from_micros(1500), duration: Duration::from_millis(30) },
        outcome,
        failures,
        since_ms: NOW - 4000 - u64::from(failures) * 10_000,
        result: Some(ResultFacts { rows: 2, series: 4, at: BootTime::from_boot(Duration::ZERO) }),
    });
    Item {
        query: query.into(),
        interval: Duration::from_secs(10),
        configured: None,
        timeout: Duration::from_secs(5),
        expire_after: Duration::from_secs(60),
        age: last.is_some().then_some(Duration::from_secs(4)),
        shown: last.is_some(),
        last: last.map(Arc::new),
        next: Some(Next::In(Duration::from_secs(6))),
    }
}

fn well(query: &str) -> Item {
    item(query, Some(Outcome::Success(None)))
}

fn failing(query: &str, message: &str) -> Item {
    let failure = Failure::answered(Reason::Denied, message).with_code(1142);
    item(query, Some(Outcome::Failure(Box::new(failure))))
}

/// One target of each kind.
fn mixed() -> Scripted {
    let items = vec![
        well("threads"),
        failing("orders", "SELECT command denied to user 'exporter'@'10.0.0.1' for table `shop`.`orders`"),
        Item { shown: false, next: Some(Next::Overdue(Duration::from_secs(9))), ..well("sizes") },
        item("lags", Some(Outcome::Success(Some("column lag: \"n/a\"".into())))),
        item("galera", Some(Outcome::NotForServer)),
        Item { next: Some(Next::Running), ..item("new", None) },
    ];
    Scripted {
        exporter: exporter(),
        targets: vec![
            target("db1", "prod", State::Up, vec![well("threads")]),
            target("db2", "prod", State::Up, items),
            target("db3", "prod", State::Down, vec![well("threads")]),
            target("db4", "dev", State::NeverTried, vec![item("threads", None)]),
            target("db5", "dev", State::Paused, vec![]),
            target("db6", "idle", State::NoItems, vec![]),
        ],
    }
}

fn build(fleet: Scripted, query: &str, format: Format) -> (u16, String) {
    let fleet: Arc<dyn Fleet> = Arc::new(fleet);
    let (status, text) = Status::new(Arc::new(move || Arc::clone(&fleet))).build(query, format);
    (status.as_u16(), text)
}

fn json(fleet: Scripted, query: &str) -> Value {
    serde_json::from_str(&build(fleet, query, Format::Json).1).unwrap()
}

/// The text within `main`, which is what differs between pages.
fn main_of(page: &str) -> &str {
    page.split_once("<main>\n").unwrap().1.split_once("</main>").unwrap().0
}

/// Without the pictures, which have tests of their own; its spaces all alike.
fn without_pictures(page: &str) -> String {
    let mut pieces = page.split("<svg");
    let first = pieces.next().unwrap().to_owned();
    let text = pieces.fold(first, |text, piece| text + piece.split_once("</svg>").unwrap().1);
    text.replace('\u{a0}', " ")
}
