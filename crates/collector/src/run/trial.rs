//! One item tried once, apart from every schedule and page: what the server gave, and what would be published.
//!
//! The way to the server is that of any run: the same session, the same statement, the same limits. Nothing is kept.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{Item, ItemSpec};
use crate::{
    Collector, Failure, FamilyText, Reason, Rows,
    driver::Server,
    mapping::{DROPPED, Mapped},
    rollup::KillResult,
};

/// How long to wait until what a run left behind is gone: a KILL is given up after two seconds.
const AFTERMATH: Duration = Duration::from_millis(2500);

/// How long a trial waits for its turn to connect, behind others that may each take their timeout.
const QUEUE: Duration = Duration::from_mins(1);

/// What a trial gave.
#[derive(Debug)]
pub struct Trial {
    /// Whom we met; None if no session came about.
    pub server: Option<Arc<Server>>,
    /// From the host's name to the session's settings, or to the failure to get there.
    pub connect: Duration,
    /// From sending the statement to the end of its answer, as it is seen from here. None: nothing was asked.
    pub answer: Option<Duration>,
    /// The answer. None if there is none, or if it was not whole.
    pub rows: Option<Rows>,
    /// What would be published.
    pub mapping: Option<Mapping>,
    /// Why the run failed, if it did. Without a failure and without rows the query is not for this server.
    pub failure: Option<Failure>,
    /// What became of the KILL, if the query had to be stopped by one.
    pub kill: Option<KillResult>,
    /// Whether the query may still run at the server, as far as we were told.
    pub left_behind: bool,
}

/// What an answer would be on the page.
#[derive(Debug)]
pub struct Mapping {
    /// Each family of the query with its lines, if it has any.
    pub families: Vec<FamilyText>,
    /// How many lines there are in all.
    pub series: usize,
    /// How many samples were left out, for each of the reasons of [`DROPPED`].
    pub dropped: [(&'static str, u64); DROPPED.len()],
    /// Label values cut at the limit.
    pub cut: u64,
    /// A value that was no number, if any was left out for it.
    pub not_a_number: Option<String>,
}

impl Collector {
    /// Tries one item on a connection of its own, and ends when nothing of it is left at the server, or when that could
    /// not be had within seconds. Dropped before that, it leaves a KILL to [`Collector::shutdown`].
    pub async fn try_once(&self, spec: ItemSpec) -> Trial {
        // A fleet of one beside the others, with its own snapshot; what holds for all of them holds for it too.
        let alone = self.beside();
        let lanes = spec.target.lanes();
        let arranged = alone.arrange(vec![spec]);
        let item = &arranged.items[0];
        let permits = Arc::new(Semaphore::new(usize::from(lanes)));
        let mut trial = item.trial(&permits).await;
        item.lanes.close_all();
        // A query that was left behind keeps its permit until it is gone.
        let gone = timeout(AFTERMATH, permits.acquire_many(u32::from(lanes))).await;
        trial.left_behind = gone.is_err();
        trial.kill = arranged.groups[0].any_kill();
        trial
    }
}

impl Item {
    async fn trial(&self, permits: &Arc<Semaphore>) -> Trial {
        let mut permit = Arc::clone(permits).try_acquire_owned().ok();
        let admission = self.lanes.admission(Instant::now() + QUEUE).await;
        let (begun, answers) = (Instant::now(), self.lanes.answers());
        let connected = if let Ok(admission) = admission {
            self.lanes.connect(admission, begun + self.rules.timeout).await
        } else {
            let message =
                "this host opens too many connections already: raise max_connects, or try fewer targets";
            Err(Failure::unanswered(Reason::ConnectTimeout, message))
        };
        let mut trial = Trial {
            server: None,
            connect: begun.elapsed(),
            answer: None,
            rows: None,
            mapping: None,
            failure: None,
            kill: None,
            left_behind: false,
        };
        let lane = match connected {
            Ok(lane) => lane,
            Err(failure) => return Trial { failure: Some(failure), ..trial },
        };
        trial.server = Some(Arc::clone(lane.session.server()));
        let asked = Instant::now();
        let answer = self.ask_on(lane, begun, answers, &mut permit).await;
        trial.answer = (!matches!(answer, Ok(None))).then(|| asked.elapsed());
        match answer {
            Ok(rows) => trial.rows = rows,
            Err(error) => trial.failure = Some(error.failure),
        }
        if let Some(rows) = &trial.rows {
            match self.slot.map(rows) {
                Ok(mapped) => trial.mapping = Some(self.shown(mapped)),
                Err(failure) => trial.failure = Some(failure),
            }
        }
        trial
    }

    fn shown(&self, mapped: Mapped) -> Mapping {
        let families = self.slot.plan.family_metrics().zip(mapped.fragments).map(|(metric, lines)| {
            let family = Arc::clone(&self.query.metrics[metric].family);
            FamilyText { family, lines: if lines.is_empty() { Vec::new() } else { vec![lines] } }
        });
        let mut dropped = DROPPED.map(|reason| (reason, 0));
        dropped.iter_mut().zip(mapped.dropped).for_each(|((_, n), count)| *n = count);
        Mapping {
            families: families.collect(),
            series: mapped.series,
            dropped,
            cut: mapped.cut,
            not_a_number: mapped.example,
        }
    }
}

impl Trial {
    /// Whether the query has no statement for this server, so that nothing was asked.
    pub fn is_not_for_this_server(&self) -> bool {
        self.failure.is_none() && self.answer.is_none()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes its texts so")]

    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        Query, ResultLimits,
        driver::Flavour,
        run::fake::{Act, Connect, Fake, Then, refused, server_error, session},
        statement::Statement,
        testing::{self, metric, query, target},
        version::When,
    };

    fn spec(query: Query) -> ItemSpec {
        ItemSpec {
            query: Arc::new(query),
            target: Arc::new(target("db1")),
            timeout: Duration::from_secs(5),
            expire_after: Duration::from_secs(60),
            drop_on_failure: false,
            limits: ResultLimits::default(),
        }
    }

    /// Tries a query on a server that does this: what it saw, and what came of it.
    #[expect(clippy::needless_pass_by_value, reason = "a case reads as one expression")]
    #[track_caller]
    fn check(query: Query, script: Connect, expected: Expect) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.unwrap();
        let seen = runtime.block_on(async {
            let fake = Fake::new(vec![script]);
            let collector = Collector::new(Arc::new(fake.clone()), 32, Arc::default());
            let trial = collector.try_once(spec(query)).await;
            // The goodbye is a task of its own.
            assert!(collector.shutdown(Duration::from_secs(9)).await);
            let server = trial.server.as_ref().map(|server| server.flavour.as_str());
            let rows = trial.rows.as_ref().map(Rows::len);
            let mapping = trial.mapping.as_ref();
            fake.note(&format!(
                "=> {server:?}, connect {:?}, answer {:?}, rows {rows:?}, series {:?}, failure {:?}, kill {:?}",
                trial.connect,
                trial.answer,
                mapping.map(|mapping| mapping.series),
                trial.failure.as_ref().map(ToString::to_string),
                trial.kill,
            ));
            assert!(collector.snapshot().read(crate::BootTime::now()).is_empty(), "nothing is published");
            fake.log() + &mapping.map_or_else(String::new, |mapping| testing::text(&mapping.families))
        });
        expected.assert_eq(&seen);
    }

    #[test]
    fn a_trial_shows_what_would_be_published_and_says_goodbye() {
        check(
            query("q", vec![metric("f", "n", &[])]),
            session([]),
            expect![[r#"
                0.000 connect 1
                0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
                0.000 1 says goodbye
                0.000 => Some("mariadb"), connect 0ns, answer Some(0ns), rows Some(1), series Some(1), failure None, kill None
                f{target="db1"} 1
            "#]],
        );
    }

    #[test]
    fn rows_that_do_not_fit_are_there_to_be_looked_at() {
        check(
            query("q", vec![metric("f", "m", &[])]),
            session([]),
            expect![[r#"
                0.000 connect 1
                0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
                0.000 1 says goodbye
                0.000 => Some("mariadb"), connect 0ns, answer Some(0ns), rows Some(1), series None, failure Some("mapping: there is no column m; the answer has n"), kill None
            "#]],
        );
    }

    #[test]
    fn a_query_that_does_not_end_is_gone_when_the_trial_ends() {
        let silent = Act::after(Duration::from_secs(600), Then::Silence);
        check(
            query("q", vec![metric("f", "n", &[])]),
            session([silent]),
            expect![[r#"
                0.000 connect 1
                0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
                5.500 1 is dropped
                5.500 connect 2
                5.500 2: KILL 1
                5.510 2: KILL 1
                5.510 2 says goodbye
                5.510 => Some("mariadb"), connect 0ns, answer Some(5.5s), rows None, series None, failure Some("timeout: no answer within 5.5s"), kill Some(Killed)
            "#]],
        );
    }

    #[test]
    fn an_error_of_the_server_and_a_refused_connect_are_told() {
        let denied = Act::now(server_error(Reason::Denied, 1142));
        check(
            query("q", Vec::new()),
            session([denied]),
            expect![[r#"
                0.000 connect 1
                0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
                0.000 1 says goodbye
                0.000 => Some("mariadb"), connect 0ns, answer Some(0ns), rows None, series None, failure Some("denied: as the script says (error 1142)"), kill None
            "#]],
        );
        let nobody = refused(Failure::unanswered(Reason::Refused, "nobody listens"));
        check(
            query("q", Vec::new()),
            nobody,
            expect![[r#"
            0.000 connect 1
            0.000 => None, connect 0ns, answer None, rows None, series None, failure Some("refused: nobody listens"), kill None
        "#]],
        );
    }

    #[test]
    fn a_server_that_no_variant_is_for_is_asked_nothing() {
        let when = When { flavour: Some(Flavour::MySql), version: None };
        let statement = Statement::check("select 1").unwrap();
        let variants = vec![crate::Variant { when, statement }];
        let query = Query { statement: None, variants, ..query("q", Vec::new()) };
        check(
            query,
            session([]),
            expect![[r#"
            0.000 connect 1
            0.000 1 says goodbye
            0.000 => Some("mariadb"), connect 0ns, answer None, rows None, series None, failure None, kill None
        "#]],
        );
    }
}
