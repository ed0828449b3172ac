//! The healthy target beside a sick one: nothing that happens over there may be noticed here.

use fleetsim::{Answer, Script, Sim};

use super::{
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
        let log = || exporter.log().text();
        assert!(page.is_up(NAME), "{}", log());
        assert_eq!((page.runs(NAME, "failure"), page.missed(NAME)), (0, 0), "{}", log());
        for n in 0..3 {
            assert_eq!(page.value(&format!("query_exporter_{NAME}_{n}"), &[]), Some(7.0));
        }
        assert_eq!(late(&page), 0, "no item of anybody is late by a second:\n{}", log());
        assert!(self.sim.counts().most_threads <= 3);
        page
    }
}

/// Items that woke more than a second after their tick.
fn late(page: &Page) -> u64 {
    let value = |line: &str| {
        let found = page.text.lines().find_map(|text| text.strip_prefix(line));
        found.unwrap_or_else(|| panic!("{line}")).trim().parse::<u64>().unwrap()
    };
    let family = "query_exporter_schedule_lateness_seconds";
    value(&format!("{family}_count")) - value(&format!("{family}_bucket{{le=\"1.0\"}}"))
}
