//! The healthy target beside a sick one: nothing that happens over there may be noticed here.

use fleetsim::{Answer, Script, Sim};

use super::{
    account::Account,
    exporter::{Exporter, SOON},
    page::Page,
};

/// A simulated server in good health, in a group of its own, with queries of its own.
#[derive(Debug)]
pub(crate) struct Bystander {
    sim: Sim,
}

/// Its target, group and families.
const NAME: &str = "bystander";

/// How often its queries run.
const INTERVAL: &str = "1s";

impl Bystander {
    pub(crate) async fn start() -> Self {
        Self { sim: Sim::start(Script::default().on("well", Answer::integer("n", 7))).await.unwrap() }
    }

    /// Its part of the configuration. Other queries must name their groups.
    pub(crate) fn config(&self) -> String {
        let address = self.sim.address();
        let group = format!("[groups.{NAME}]\nuser = \"monitor\"\ntargets = {{ {NAME} = \"{address}\" }}\n");
        let query = |n: u8| {
            format!(
                "[queries.{NAME}_{n}]\ngroups = [\"{NAME}\"]\nsql = \"select {n} as n from well\"\n\
                 interval = \"{INTERVAL}\"\ntimeout = \"{INTERVAL}\"\n\
                 [queries.{NAME}_{n}.metrics.{NAME}_{n}]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
            )
        };
        group + &(0..3).map(query).collect::<String>()
    }

    /// Asserts that it went on through all of it, and still does: no failure, no missed tick, no item late by a second.
    pub(crate) async fn assert_untroubled(&self, exporter: &Exporter) -> Page {
        let page = exporter.wait_for_runs(NAME, 3, SOON).await;
        assert_untroubled(&page, NAME);
        for n in 0..3 {
            assert_eq!(page.value(&format!("query_exporter_{NAME}_{n}"), &[]), Some(7.0));
        }
        assert!(self.sim.counts().most_threads <= 3);
        page
    }
}

/// A group with one well target, `well`, on the given account's server, and a query of its own each second. Only the
/// fault's own target may share its server.
pub(crate) fn bystander(account: &Account) -> String {
    account.group("bystanders", &["well"])
        + "[queries.beside]\ngroups = [\"bystanders\"]\nsql = \"select 1 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
           [queries.beside.metrics.beside]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
}

/// Asserts that this target had runs, each of them well, missed no tick, and that no item of the fleet woke as much as a
/// second late since the exporter started.
#[track_caller]
pub(crate) fn assert_untroubled(page: &Page, target: &str) {
    assert!(page.is_up(target), "{target} is down:\n{}", page.text);
    assert!(page.runs(target, "success") > 0, "{target} had no run:\n{}", page.text);
    assert_eq!(
        (page.runs(target, "failure"), page.missed(target)),
        (0, 0),
        "runs of {target} that failed, and ticks it missed:\n{}",
        page.text
    );
    let lateness = |rest: &str| {
        let start = format!("query_exporter_schedule_lateness_seconds_{rest} ");
        let line = page.text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {start}in\n{}", page.text)).to_owned()
    };
    assert_eq!(
        lateness("bucket{le=\"1.0\"}"),
        lateness("count"),
        "an item woke a second late:\n{}",
        page.text
    );
}
