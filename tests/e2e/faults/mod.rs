//! The faults of docs/faults.md, each a test named by its number: a simulated server that plays it, a healthy one
//! beside it, and what the page says of both.

mod configured;
mod connecting;
mod data;
mod http;
mod process;
mod running;
mod schedule;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use fleetsim::{Answer, Script, Sim};

use crate::support::{
    bystander::Bystander,
    exporter::{Exporter, SOON},
    page::Page,
    quoted,
};

/// The sick target, and its group.
const SICK: &str = "sick";

/// What its query asks for, and what a server in good health answers.
const ASKED: &str = "from asked";
const N: i64 = 42;

/// A server in good health that knows the answer.
fn healthy() -> Script {
    Script::default().on(ASKED, Answer::integer("n", N))
}

/// A sick target in an exporter, with a bystander.
struct Scene {
    sim: Sim,
    exporter: Exporter,
    bystander: Bystander,
    max_connections: u64,
}

/// What a scene is made of.
struct Setting {
    script: Script,
    /// More lines of the group's table.
    group: String,
    address: Option<String>,
    queries: String,
    max_connections: u64,
    /// What stands before the groups.
    top: String,
    variables: Vec<(&'static str, PathBuf)>,
}

impl Setting {
    fn new(script: Script) -> Self {
        Self {
            script,
            group: String::new(),
            address: None,
            queries: query("asks", &format!("select n {ASKED}"), "timeout = \"500ms\""),
            max_connections: 3,
            top: String::new(),
            variables: Vec::new(),
        }
    }

    /// One more line in the group.
    fn group(mut self, line: &str) -> Self {
        writeln!(self.group, "{line}").unwrap();
        self
    }

    /// At another address than its own; `{port}` is its port.
    fn address(self, address: &str) -> Self {
        Self { address: Some(address.to_owned()), ..self }
    }

    /// With these queries instead of the one.
    fn queries(self, queries: impl Into<String>) -> Self {
        Self { queries: queries.into(), ..self }
    }

    /// With a table of the whole file.
    fn top(self, table: &str) -> Self {
        Self { top: self.top + table, ..self }
    }

    /// With a variable in its environment.
    fn variable(mut self, name: &'static str, value: &Path) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn max_connections(self, max_connections: u64) -> Self {
        let line = format!("max_connections = {max_connections}");
        Self { max_connections, ..self.group(&line) }
    }

    async fn start(self) -> Scene {
        let Self { script, group, address, queries, max_connections, top, variables } = self;
        let sim = Sim::start(script).await.unwrap();
        let bystander = Bystander::start().await;
        let address =
            address.unwrap_or("127.0.0.1:{port}".to_owned()).replace("{port}", &sim.port().to_string());
        let user = if group.contains("user = ") { "" } else { "user = \"monitor\"\n" };
        let config = format!(
            "{top}[groups.{SICK}]\n{user}{group}targets = {{ {SICK} = {} }}\n{queries}{}",
            quoted(&address),
            bystander.config()
        );
        let exporter = Exporter::start_with(&config, |command, _| {
            command.envs(variables);
        })
        .await;
        Scene { sim, exporter, bystander, max_connections }
    }
}

/// A query of the sick group, run each second, with a gauge of its own name from the column `n`.
fn query(name: &str, sql: &str, more: &str) -> String {
    format!(
        "[queries.{name}]\ngroups = [\"{SICK}\"]\nsql = {}\ninterval = \"1s\"\n{more}\n\
         [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n",
        quoted(sql)
    )
}

impl Scene {
    /// A scene with the usual query.
    async fn start(script: Script) -> Self {
        Setting::new(script).start().await
    }

    /// From now on the server plays this.
    async fn play(&mut self, script: Script) {
        self.sim.set(script).await.unwrap();
    }

    /// Failures for a reason so far.
    fn failures(page: &Page, reason: &str) -> u64 {
        page.count("query_exporter_failures_total", &[("group", SICK), ("reason", reason)])
    }

    /// Waits until runs have failed for this reason `times` times more, and asserts that the target says so.
    async fn fails(&self, reason: &str, times: u64) -> Page {
        let goal = Self::failures(&self.exporter.page().await, reason) + times;
        let failed = |page: &Page| Self::failures(page, reason) >= goal && page.reason(SICK) == Some(reason);
        self.exporter.wait_until(&format!("{times} failures: {reason}"), SOON * 2, failed).await
    }

    /// The same, and asserts that it is down by it.
    async fn is_down(&self, reason: &str) -> Page {
        let page = self.fails(reason, 1).await;
        assert!(!page.is_up(SICK), "{}", self.exporter.log().text());
        page
    }

    /// The same, and asserts that it is up all the same.
    async fn fails_but_is_up(&self, reason: &str) -> Page {
        let page = self.fails(reason, 1).await;
        assert!(page.is_up(SICK), "{}", self.exporter.log().text());
        page
    }

    /// Waits until it succeeds.
    async fn succeeds(&self) -> Page {
        let goal = self.exporter.page().await.runs(SICK, "success") + 1;
        let succeeded = |page: &Page| page.runs(SICK, "success") >= goal && page.is_up(SICK);
        self.exporter.wait_until("it succeeds", SOON * 3, succeeded).await
    }

    /// The line of the log that holds this text.
    fn logged(&self, text: &str) -> String {
        let lines = self.exporter.log().with(text);
        lines.into_iter().next().unwrap_or_else(|| panic!("no {text}:\n{}", self.exporter.log().text()))
    }

    /// Asserts that nobody else noticed and that the server never had too many connections; takes all down.
    async fn end(self) {
        self.bystander.assert_untroubled(&self.exporter).await;
        let counts = self.sim.counts();
        assert!(counts.most_threads <= self.max_connections, "{counts:?}");
        assert!(counts.most_open <= self.max_connections, "{counts:?}");
        self.exporter.stop(&[]).await;
    }
}
