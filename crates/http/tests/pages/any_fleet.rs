//! Any fleet, any results: each page, in each format and encoding and of each cut, is read back to the samples that were
//! published, by a reader that shares no code with the crate, and, as far as it goes, by somebody else's.

use std::collections::{BTreeMap, BTreeSet};

use form_urlencoded::Serializer;
use prometheus_parse::{Scrape, Value};
use proptest::{collection::vec, prelude::*, sample::select};
use tokio::runtime::Runtime;

use super::{
    CLASSIC_TEXT, GZIP, OPEN_METRICS, OPEN_METRICS_TEXT, QUERIES, TARGETS,
    fleet::{Fleet, Table},
    reader::{Sample, sample},
    results, text,
};

const GROUPS: [&str; 2] = ["g1", "g2"];

/// What happens to a fleet, one after the other.
#[derive(Debug, Clone)]
enum Step {
    Publish { query: usize, target: usize, table: Table },
    Ask { cut: Cut, open_metrics: bool, gzip: bool },
}

/// A part of the fleet, and how it is asked for.
#[derive(Debug, Clone, Default)]
struct Cut {
    path: Path,
    targets: Vec<usize>,
    groups: Vec<usize>,
    queries: Vec<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Path {
    #[default]
    Metrics,
    /// One more group, in the path; no others can be named.
    Group(usize),
    /// No groups and no queries can be named, and a target must be.
    Probe,
}

impl Cut {
    /// The same without what cannot be said there.
    fn sayable(mut self) -> Self {
        match self.path {
            Path::Metrics => {}
            Path::Group(group) => self.groups = vec![group],
            Path::Probe => {
                (self.groups, self.queries) = (Vec::new(), Vec::new());
                if self.targets.is_empty() {
                    self.targets.push(0);
                }
            }
        }
        self
    }

    fn url(&self) -> String {
        let mut pairs = Serializer::new(String::new());
        pairs.extend_pairs(self.targets.iter().map(|n| ("target", TARGETS[*n].0)));
        pairs.extend_pairs(self.queries.iter().map(|n| ("query", QUERIES[*n].0)));
        let path = match self.path {
            Path::Metrics => {
                pairs.extend_pairs(self.groups.iter().map(|n| ("group", GROUPS[*n])));
                "/metrics".to_owned()
            }
            Path::Group(group) => format!("/metrics/{}", GROUPS[group]),
            Path::Probe => "/probe".to_owned(),
        };
        format!("{path}?{}", pairs.finish())
    }

    fn has_group_of(&self, target: usize) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|group| GROUPS[*group] == TARGETS[target].1)
    }

    fn has(&self, query: usize, target: usize) -> bool {
        (self.queries.is_empty() || self.queries.contains(&query))
            && (self.targets.is_empty() || self.targets.contains(&target))
            && self.has_group_of(target)
    }

    /// Whether it names targets, none of which is in a group that it names.
    fn is_nowhere(&self) -> bool {
        !self.targets.is_empty() && !self.targets.iter().any(|target| self.has_group_of(*target))
    }
}

fn table() -> impl Strategy<Value = Table> {
    let label = prop_oneof![
        6 => "[a-z]{0,3}".prop_map(String::into_bytes),
        2 => any::<String>().prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..12),
        1 => Just("a long one, so that a result is large ".repeat(20).into_bytes()),
    ];
    let number = prop_oneof!["-?[0-9]{1,20}", "[0-9]{1,3}\\.[0-9]{1,3}", "-?[0-9]{1,3}[eE][+-]?[0-9]{1,2}"];
    prop_oneof![
        8 => vec((label, number), 0..6),
        // Beyond the size from which a result is compressed by itself.
        1 => (0..1_000_u32, 100..400_usize).prop_map(|(n, rows)| {
            (0..rows).map(|row| (format!("row number {row} of a large table").into_bytes(), format!("{n}"))).collect()
        }),
    ]
}

fn cut() -> impl Strategy<Value = Cut> {
    let some = |most: usize| vec(0..most, 0..3);
    let group = (0..GROUPS.len()).prop_map(Path::Group);
    let path = prop_oneof![4 => Just(Path::Metrics), 2 => group, 1 => Just(Path::Probe)];
    (path, some(TARGETS.len()), some(GROUPS.len()), some(QUERIES.len()))
        .prop_map(|(path, targets, groups, queries)| Cut { path, targets, groups, queries }.sayable())
}

fn step() -> impl Strategy<Value = Step> {
    let ask = |(cut, open_metrics, gzip)| Step::Ask { cut, open_metrics, gzip };
    prop_oneof![
        (0..QUERIES.len(), 0..TARGETS.len(), table()).prop_map(|(query, target, table)| Step::Publish {
            query,
            target,
            table
        }),
        (cut(), any::<bool>(), any::<bool>()).prop_map(ask),
        // The whole page, again and again, so that it is put together of what was there and what is new.
        (Just(Cut::default()), any::<bool>(), select(vec![true, true, false])).prop_map(ask),
    ]
}

/// What was published last, by query and target.
#[derive(Default)]
struct Model(BTreeMap<(usize, usize), Table>);

impl Model {
    /// The samples of a cut. Of equal series the first is there, by query, then target, then row.
    fn samples(&self, cut: &Cut) -> Vec<Sample> {
        let mut seen = BTreeSet::new();
        let mut samples = Vec::new();
        for ((query, target), table) in self.0.iter().filter(|((query, target), _)| cut.has(*query, *target))
        {
            for ((family, _), (who, n)) in
                QUERIES[*query].1.iter().flat_map(|family| table.iter().map(move |row| (family, row)))
            {
                let who = String::from_utf8_lossy(who).into_owned();
                let target = TARGETS[*target].0.to_owned();
                let labels = BTreeMap::from([("target".to_owned(), target), ("who".to_owned(), who)]);
                if seen.insert((*family, labels.clone())) {
                    samples.push(((*family).to_owned(), labels, n.clone()));
                }
            }
        }
        samples.sort();
        samples
    }
}

/// Somebody else's parser on those lines of a page that it reads faithfully: it splits the labels at each `,`, `=` and `}`,
/// trims quotes off the values and undoes no escape. It takes values for doubles.
fn parsed(text: &[u8]) -> (Vec<Sample>, Vec<Sample>) {
    let is_plain = |(_, labels, _): &Sample| {
        !labels.values().any(|value| value.contains([',', '=', '}', '"', '\\', '\n', ' ']))
    };
    let mut lines = Vec::new();
    let mut expected = Vec::new();
    for line in str::from_utf8(text).unwrap().split_terminator('\n').filter(|line| !line.starts_with('#')) {
        let (name, labels, value) = sample(line).unwrap();
        let number = value.parse::<f64>().unwrap().to_string();
        let sample = (name, labels, number);
        if is_plain(&sample) {
            lines.push(Ok(line.to_owned()));
            expected.push(sample);
        }
    }
    let scrape = Scrape::parse(lines.into_iter()).unwrap();
    let read = scrape.samples.into_iter().map(|sample| {
        let Value::Untyped(value) = sample.value else { panic!("it has no type: {:?}", sample.value) };
        let labels = sample.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        (sample.metric, labels, value.to_string())
    });
    (read.collect(), expected)
}

async fn play(steps: Vec<Step>) {
    let fleet = Fleet::new(&QUERIES, &TARGETS);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Publish { query, target, table } => {
                fleet.publish(QUERIES[query].0, TARGETS[target].0, table.clone()).await;
                model.0.insert((query, target), table);
            }
            Step::Ask { cut, open_metrics, gzip } => {
                let headers = [open_metrics.then_some(OPEN_METRICS), gzip.then_some(GZIP)];
                let headers: Vec<_> = headers.into_iter().flatten().collect();
                let answer = fleet.get(&cut.url(), &headers).await;
                if cut.is_nowhere() {
                    assert_eq!(answer.status, 404, "{cut:?}");
                    continue;
                }
                let content_type = if open_metrics { OPEN_METRICS_TEXT } else { CLASSIC_TEXT };
                let text = text(&answer, content_type, gzip);
                assert_eq!(results(&text, open_metrics), model.samples(&cut), "{cut:?}");
                if !open_metrics {
                    let (read, expected) = parsed(&text);
                    assert_eq!(read, expected, "{cut:?}");
                }
            }
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_page_is_read_back_to_what_was_published(steps in vec(step(), 1..40)) {
        runtime().block_on(play(steps));
    }
}
