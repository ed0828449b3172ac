//! Any answer of a server becomes a page that others read back to the same samples.
//!
//! The samples expected are worked out from the rows by a model of its own, and the page is read by a strict reader of
//! the text format and by somebody else's parser; none of them shares code with the crate.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use fleet_collector::{
    Address, BootTime, Collector, Failure, Family, FamilyText, ItemSpec, Kind, Metric, OnNull, Password,
    Query, ResultLimits, Rows, Snapshot, Target, Tls, TlsMode, ValueSource,
    driver::{BoxFuture, Driver, QueryError, Server, Session},
    fragment::is_valid,
    login::Login,
    rows::{CellKind, Column},
    statement::Statement,
    target::SessionSettings,
};
use proptest::{collection::vec, prelude::*, sample::select};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// One sample as a reader understands it. An empty label is none.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: String,
}

/// What is asked, and what the server answers.
#[derive(Debug, Clone)]
struct Case {
    kinds: Vec<CellKind>,
    rows: Vec<Vec<Option<Vec<u8>>>>,
    metrics: Vec<Metric>,
    target_labels: Vec<(String, String)>,
    label_bytes: usize,
}

/// Bytes of any kind, often a number, often the same.
fn cell() -> impl Strategy<Value = Option<Vec<u8>>> {
    let text = |pattern| prop::string::bytes_regex(pattern).unwrap();
    prop_oneof![
        1 => Just(None),
        4 => text("[+-]?[0-9]{1,20}(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?").prop_map(Some),
        2 => text("[0-9 .eE+x_-]{0,6}").prop_map(Some),
        1 => select(vec!["ON", " no", "True", "-838:59:59.500", "00:00:00", "2024-02-29", "42\0\0", "\0"])
            .prop_map(|text| Some(text.as_bytes().to_vec())),
        2 => select(vec!["a", "b", "", "\\", "\"", "\n", "a\nb\r", "\u{0}", "}", "{x=\"y\"} 1", "é€😀", "NaN", "inf"])
            .prop_map(|text| Some(text.as_bytes().to_vec())),
        2 => vec(any::<u8>(), 0..24).prop_map(Some),
    ]
}

fn kind() -> impl Strategy<Value = CellKind> {
    let rare =
        select(vec![CellKind::Bit, CellKind::Padded, CellKind::Duration, CellKind::Temporal, CellKind::Utc]);
    prop_oneof![6 => Just(CellKind::Text), 3 => rare]
}

fn pairs(prefix: &'static str) -> impl Strategy<Value = Vec<(String, String)>> {
    vec(any::<String>(), 0..3).prop_map(move |values| {
        values.into_iter().enumerate().map(|(n, v)| (format!("{prefix}{n}"), v)).collect()
    })
}

fn metric(columns: usize) -> impl Strategy<Value = Metric> {
    let value = prop_oneof![
        8 => (0..columns).prop_map(|n| ValueSource::Column(format!("c{n}"))),
        1 => select(vec!["1", "-0.5"]).prop_map(|text| ValueSource::Static(text.to_owned())),
    ];
    let on_null = prop_oneof![
        8 => Just(OnNull::Skip),
        2 => Just(OnNull::Zero),
        2 => Just(OnNull::NaN),
        1 => Just(OnNull::Error)
    ];
    let labels = Just((0..columns).collect::<Vec<_>>()).prop_shuffle();
    (0..3_usize, labels, 0..=columns, pairs("s"), value, on_null).prop_map(
        |(family, mut labels, n_labels, static_labels, value, on_null)| {
            labels.truncate(n_labels);
            let family = Family {
                name: ["up_total", "f", "g:h"][family].to_owned(),
                help: "h".to_owned(),
                kind: Kind::Gauge,
            };
            let labels = labels.into_iter().map(|n| format!("c{n}")).collect();
            Metric { family: Arc::new(family), labels, static_labels, value, on_null }
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    (1..6_usize).prop_flat_map(|columns| {
        let rows = vec(vec(cell(), columns), 0..10);
        (vec(kind(), columns), rows, vec(metric(columns), 1..5), pairs("t"), 0..40_usize).prop_map(
            |(kinds, rows, metrics, target_labels, label_bytes)| Case {
                kinds,
                rows,
                metrics,
                target_labels,
                label_bytes,
            },
        )
    })
}

// === The model ===

impl Case {
    /// The samples that the page should have, family by family; none at all where the run is to fail.
    fn samples(&self) -> Vec<Sample> {
        let mut families: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
        for metric in &self.metrics {
            let Some(samples) = self.samples_of(metric) else { return Vec::new() };
            families.entry(&metric.family.name).or_default().extend(samples);
        }
        let mut seen = HashSet::new();
        let first = |sample: &Sample| seen.insert((sample.name.clone(), sample.labels.clone()));
        families.into_values().flatten().filter(first).collect()
    }

    fn samples_of(&self, metric: &Metric) -> Option<Vec<Sample>> {
        let mut samples = Vec::new();
        let mut others = 0;
        for row in &self.rows {
            let value = match &metric.value {
                ValueSource::Static(text) => Some(text.clone()),
                ValueSource::Column(name) => {
                    let column = place(name);
                    match (&row[column], metric.on_null) {
                        (None, OnNull::Skip) => None,
                        (None, OnNull::Zero) => Some("0".to_owned()),
                        (None, OnNull::NaN) => Some("NaN".to_owned()),
                        (None, OnNull::Error) => return None,
                        (Some(cell), _) => {
                            let number = number(self.kinds[column], cell);
                            others += usize::from(number.is_none());
                            number
                        }
                    }
                }
            };
            if let Some(value) = value {
                samples.push(Sample {
                    name: metric.family.name.clone(),
                    labels: self.labels(metric, row),
                    value,
                });
            }
        }
        (!samples.is_empty() || others == 0).then_some(samples)
    }

    fn labels(&self, metric: &Metric, row: &[Option<Vec<u8>>]) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<_, _> =
            self.target_labels.iter().chain(&metric.static_labels).cloned().collect();
        for name in &metric.labels {
            let column = place(name);
            let text =
                row[column].as_deref().map(|cell| self.label(self.kinds[column], cell)).unwrap_or_default();
            labels.insert(name.clone(), text);
        }
        labels.retain(|_, value| !value.is_empty());
        labels
    }

    fn label(&self, kind: CellKind, cell: &[u8]) -> String {
        match kind {
            CellKind::Bit => number(CellKind::Bit, cell).unwrap_or_default(),
            CellKind::Padded => self.cut(String::from_utf8_lossy(cell).trim_end_matches('\0')),
            CellKind::Text | CellKind::Duration | CellKind::Temporal | CellKind::Utc => {
                self.cut(&String::from_utf8_lossy(cell))
            }
        }
    }

    /// As many whole characters as fit.
    fn cut(&self, text: &str) -> String {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        text[..ends.take_while(|end| *end <= self.label_bytes).last().unwrap_or(0)].to_owned()
    }
}

fn place(column: &str) -> usize {
    column[1..].parse().unwrap()
}

/// The number of a cell, with the digits it came with.
fn number(kind: CellKind, cell: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(cell).ok();
    match kind {
        CellKind::Bit => {
            let mut bytes = [0; 8];
            bytes[8_usize.checked_sub(cell.len())?..].copy_from_slice(cell);
            Some(u64::from_be_bytes(bytes).to_string())
        }
        CellKind::Text => decimal(text?),
        CellKind::Padded => decimal(text?.trim_end_matches('\0')),
        // The few that `cell` makes.
        CellKind::Duration => match text? {
            "-838:59:59.500" => Some("-3020399.500".to_owned()),
            "00:00:00" => Some("0".to_owned()),
            _ => None,
        },
        CellKind::Utc => (text? == "2024-02-29").then(|| "1709164800".to_owned()),
        CellKind::Temporal => None,
    }
}

fn decimal(text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']);
    match text.to_lowercase().as_str() {
        "on" | "yes" | "true" => return Some("1".to_owned()),
        "off" | "no" | "false" => return Some("0".to_owned()),
        _ => {}
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite())?;
    // A point has digits on both sides.
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    let whole = if digits.starts_with('.') { "0" } else { "" };
    let (mantissa, exponent) = digits.split_at(digits.find(['e', 'E']).unwrap_or(digits.len()));
    Some(format!("{sign}{whole}{}{exponent}", mantissa.strip_suffix('.').unwrap_or(mantissa)))
}

// === The crate ===

/// A server that answers everything with the same rows.
#[derive(Debug, Clone)]
struct Answer(Arc<Case>);

impl Driver for Answer {
    fn connect<'a>(
        &'a self,
        _: &'a Target,
        _: &'a Login,
        _: OwnedSemaphorePermit,
        _: Instant,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, Failure>> {
        let session = AnswerSession { case: Arc::clone(&self.0), server: Arc::default() };
        Box::pin(async { Ok(Box::new(session) as Box<dyn Session>) })
    }
}

#[derive(Debug)]
struct AnswerSession {
    case: Arc<Case>,
    server: Arc<Server>,
}

impl Session for AnswerSession {
    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn id(&self) -> u64 {
        1
    }

    fn query<'a>(&'a mut self, _: &'a Arc<str>, rows: &'a mut Rows) -> BoxFuture<'a, Result<(), QueryError>> {
        Box::pin(async {
            let names = self.case.kinds.iter().enumerate();
            rows.set_columns(
                names
                    .map(|(n, kind)| Column { name: format!("c{n}"), kind: *kind, type_name: "CHAR" })
                    .collect(),
            );
            for row in &self.case.rows {
                rows.push(row.iter().map(Option::as_deref)).unwrap();
            }
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Runs an item on a server that answers with the case's rows, and reads the snapshot.
fn families(case: &Case) -> Vec<FamilyText> {
    let query = Query {
        name: "q".into(),
        statement: Some(Statement::check("select 1").unwrap()),
        variants: Vec::new(),
        metrics: case.metrics.clone(),
    };
    let target = Target {
        name: "db1".into(),
        group: "g".into(),
        address: Address::Tcp { host: "db1".into(), port: 3306 },
        user: Some(String::new()),
        session: SessionSettings::default(),
        password: Password::None,
        database: None,
        tls: Tls { mode: TlsMode::Disabled, ca: None, identity: None },
        labels: case.target_labels.clone(),
        max_connections: 1,
        kill: false,
    };
    let snapshot = Arc::new(Snapshot::default());
    let collector = Collector::new(Arc::new(Answer(Arc::new(case.clone()))), 1, Arc::clone(&snapshot));
    let arranged = collector.arrange(vec![ItemSpec {
        query: Arc::new(query),
        target: Arc::new(target),
        timeout: Duration::from_secs(5),
        expire_after: Duration::from_secs(60),
        drop_on_failure: false,
        limits: ResultLimits { label_bytes: case.label_bytes, ..ResultLimits::default() },
    }]);
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let start_by = Instant::now() + Duration::from_secs(5);
    runtime.block_on(arranged.items[0].run(permit, start_by)).unwrap();
    snapshot.read(BootTime::now())
}

/// The families as they go on a page, each under its header.
fn page(families: &[FamilyText]) -> Vec<u8> {
    let mut page = Vec::new();
    for FamilyText { family, lines } in families {
        page.extend(format!("# HELP {0} h\n# TYPE {0} gauge\n", family.name).bytes());
        page.extend(lines.iter().flatten());
    }
    page
}

// === The strict reader ===

/// Reads a page of the text format 0.0.4, and refuses what Prometheus refuses.
///
/// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>, and Prometheus' own lexer for what costs it a
/// page. Timestamps are refused too, since no page of ours has any.
fn read(page: &[u8]) -> Result<Vec<Sample>, String> {
    let page = std::str::from_utf8(page).map_err(|error| error.to_string())?;
    let mut input = page.chars().peekable();
    let mut samples = Vec::new();
    let mut headers = HashSet::new();
    while let Some(first) = input.peek() {
        if *first == '#' {
            let line: String = input.by_ref().take_while(|c| *c != '\n').collect();
            let mut words = line.splitn(4, ' ');
            let (Some("#"), Some("HELP" | "TYPE"), Some(_), Some(_)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(format!("not a header: {line}"));
            };
            let (header, _) = line.rsplit_once(' ').unwrap();
            if !headers.insert(header.to_owned()) {
                return Err(format!("twice: {header}"));
            }
        } else {
            samples.push(read_sample(&mut input)?);
        }
    }
    Ok(samples)
}

type Input<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn read_sample(input: &mut Input<'_>) -> Result<Sample, String> {
    let name = read_name(input, true)?;
    let mut labels = BTreeMap::new();
    if input.next_if_eq(&'{').is_some() {
        loop {
            let label = read_name(input, false)?;
            expect(input, '=')?;
            let value = read_quoted(input)?;
            if labels.insert(label.clone(), value).is_some() {
                return Err(format!("the label {label} is there twice"));
            }
            match input.next() {
                Some(',') => {}
                Some('}') => break,
                other => return Err(format!("{other:?} behind a label")),
            }
        }
    }
    labels.retain(|_, value| !value.is_empty());
    expect(input, ' ')?;
    let mut value = String::new();
    loop {
        match input.next() {
            Some('\n') => break,
            Some(c) => value.push(c),
            None => return Err("the last line does not end".to_owned()),
        }
    }
    let is_number = value.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    match value.parse::<f64>() {
        Ok(number) if is_number && number.is_finite() => {}
        _ if value == "NaN" => {}
        _ => return Err(format!("{value:?} is no number")),
    }
    Ok(Sample { name, labels, value })
}

fn read_name(input: &mut Input<'_>, colon: bool) -> Result<String, String> {
    let mut name = String::new();
    while let Some(c) = input.next_if(|c| c.is_ascii_alphanumeric() || *c == '_' || (colon && *c == ':')) {
        name.push(c);
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{name:?} is no name"));
    }
    Ok(name)
}

fn read_quoted(input: &mut Input<'_>) -> Result<String, String> {
    expect(input, '"')?;
    let mut text = String::new();
    loop {
        match input.next() {
            Some('"') => return Ok(text),
            Some('\\') => match input.next() {
                Some('n') => text.push('\n'),
                Some(c @ ('\\' | '"')) => text.push(c),
                other => return Err(format!("no such escape: {other:?}")),
            },
            Some('\n') | None => return Err("a label value does not end".to_owned()),
            Some(c) => text.push(c),
        }
    }
}

fn expect(input: &mut Input<'_>, expected: char) -> Result<(), String> {
    match input.next() {
        Some(c) if c == expected => Ok(()),
        other => Err(format!("{other:?} where {expected:?} should be")),
    }
}

// === Somebody else's parser ===

/// Whether prometheus-parse reads this sample faithfully. It takes a name for letters, digits and underscores only, splits
/// the labels at each `,` and `=`, ends them at the first `}`, trims quotes off the values and undoes no escape.
fn is_plain(sample: &Sample) -> bool {
    !sample.name.contains(':')
        && !sample.labels.values().any(|value| value.contains([',', '=', '}', '"', '\\', '\n']))
}

/// The samples of these lines as prometheus-parse reads them. It takes values for doubles, so digits do not survive.
fn parse(lines: &str) -> Vec<Sample> {
    let scrape =
        prometheus_parse::Scrape::parse(lines.split_terminator('\n').map(|line| Ok(line.to_owned())))
            .unwrap();
    let sample = |sample: prometheus_parse::Sample| {
        let (prometheus_parse::Value::Gauge(value) | prometheus_parse::Value::Untyped(value)) = sample.value
        else {
            panic!("neither a gauge nor untyped: {:?}", sample.value);
        };
        let mut labels: BTreeMap<_, _> = sample.labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        labels.retain(|_, value| !value.is_empty());
        Sample { name: sample.metric, labels, value: value.to_string() }
    };
    scrape.samples.into_iter().map(sample).collect()
}

// === The properties ===

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn a_strict_reader_finds_the_samples_that_the_rows_stand_for(case in case()) {
        let families = families(&case);
        for piece in families.iter().flat_map(|family| &family.lines) {
            prop_assert!(is_valid(piece), "{}", String::from_utf8_lossy(piece));
        }
        let page = page(&families);
        let read = read(&page).map_err(|error| TestCaseError::fail(format!("{error}\n{}", String::from_utf8_lossy(&page))))?;
        prop_assert_eq!(read, case.samples());
    }

    #[test]
    fn somebody_elses_parser_finds_them_too(case in case()) {
        let families = families(&case);
        let lines: Vec<_> = families.iter().flat_map(|family| &family.lines).flatten().copied().collect();
        let lines = String::from_utf8(lines).unwrap();
        let samples = case.samples();
        prop_assert_eq!(lines.split_terminator('\n').count(), samples.len());
        let mut plain = String::new();
        let mut expected = Vec::new();
        for (line, sample) in lines.split_terminator('\n').zip(samples).filter(|(_, sample)| is_plain(sample)) {
            writeln!(plain, "{line}").unwrap();
            let value = sample.value.parse::<f64>().unwrap().to_string();
            expected.push(Sample { value, ..sample });
        }
        prop_assert_eq!(parse(&plain), expected);
    }

    #[test]
    fn what_a_strict_reader_refuses_does_not_pass_the_check(
        case in case(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let families = families(&case);
        for piece in families.iter().flat_map(|family| &family.lines) {
            let mut broken = piece.to_vec();
            for (at, byte) in &flips {
                let at = at.index(broken.len());
                broken[at] = *byte;
            }
            // A comment is a line of a page, but none of a fragment.
            if read(&broken).is_err() || broken.starts_with(b"#") || broken.windows(2).any(|w| w == b"\n#") {
                prop_assert!(!is_valid(&broken), "{}", String::from_utf8_lossy(&broken));
            }
        }
    }
}

#[test]
fn the_strict_reader_is_strict() {
    for refused in [
        "a 1",
        "a\n",
        "1a 1\n",
        "a{} 1\n",
        "a{b=\"c\",} 1\n",
        "a{b=\"c\",b=\"d\"} 1\n",
        "a{b=\"\\x\"} 1\n",
        "a{b=\"c\nd\"} 1\n",
        "a 1e999\n",
        "a 0x10\n",
        "a inf\n",
        "a 1 1700000000\n",
        "# TYPE a gauge\n# TYPE a gauge\n",
        "# a comment\n",
        "a 1\n\n",
    ] {
        assert!(read(refused.as_bytes()).is_err(), "{refused:?}");
    }
    assert!(read(b"a{b=\"\xff\"} 1\n").is_err());
}
