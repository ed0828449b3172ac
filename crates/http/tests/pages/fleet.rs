//! A fleet whose servers answer what a test says, and the pages about it.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BufMut as _;
use fleet_collector::{
    Address, Collector, Failure, Family, FamilyText, Item, ItemSpec, Kind, Metric, OnNull, Password, Query,
    ResultLimits, Rows, Snapshot, Target, Tls, TlsMode, ValueSource,
    driver::{BoxFuture, Driver, QueryError, Server, Session},
    login::Login,
    rows::{CellKind, Column},
    statement::Statement,
    target::SessionSettings,
};
use fleet_http::{HttpMetrics, Page, Scope, Sources, State, respond, status};
use http_body::Body as _;
use hyper::{HeaderMap, Request, Response};
use prometheus_client::registry::Registry;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Rows of a label, in any bytes, and a number.
pub(crate) type Table = Vec<(Vec<u8>, String)>;

/// A query, with the families that it feeds.
pub(crate) type Feeds = (&'static str, &'static [(&'static str, Kind)]);

/// What the next query is answered with.
#[derive(Debug, Clone, Default)]
struct Next(Arc<Mutex<Table>>);

impl Driver for Next {
    fn connect<'a>(
        &'a self,
        _: &'a Target,
        _: &'a Login,
        _: OwnedSemaphorePermit,
        _: Instant,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, Failure>> {
        let session = Answering { next: self.clone(), server: Arc::default() };
        Box::pin(async { Ok(Box::new(session) as Box<dyn Session>) })
    }
}

#[derive(Debug)]
struct Answering {
    next: Next,
    server: Arc<Server>,
}

impl Session for Answering {
    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn id(&self) -> u64 {
        1
    }

    fn query<'a>(&'a mut self, _: &'a Arc<str>, rows: &'a mut Rows) -> BoxFuture<'a, Result<(), QueryError>> {
        Box::pin(async {
            let column =
                |name: &str| Column { name: name.to_owned(), kind: CellKind::Text, type_name: "CHAR" };
            rows.set_columns(vec![column("who"), column("n")]);
            for (who, n) in &*self.next.0.lock().unwrap() {
                rows.push([Some(who.as_slice()), Some(n.as_bytes())].into_iter()).unwrap();
            }
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A fleet and the state that its pages are made of.
pub(crate) struct Fleet {
    state: Arc<State>,
    pub(crate) snapshot: Arc<Snapshot>,
    items: Vec<Arc<Item>>,
    next: Next,
    /// Families of the exporter's own beside those that it has.
    pub(crate) more: Arc<Mutex<Vec<FamilyText>>>,
}

impl Fleet {
    /// Each query on each target, with its group.
    pub(crate) fn new(queries: &[Feeds], targets: &[(&str, &str)]) -> Self {
        let next = Next::default();
        let snapshot = Arc::new(Snapshot::default());
        let collector = Arc::new(Collector::new(Arc::new(next.clone()), 1, Arc::clone(&snapshot)));
        let targets: Vec<_> = targets.iter().map(|(name, group)| Arc::new(target(name, group))).collect();
        let queries = queries.iter().map(|(name, families)| Arc::new(query(name, families)));
        let items = queries.flat_map(|query| targets.iter().map(move |target| item(&query, target)));
        let items = collector.arrange(items.collect()).items;

        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let more = Arc::<Mutex<Vec<FamilyText>>>::default();
        let also = Arc::clone(&more);
        let rollups = move |scope: Scope<'_>| match scope {
            Scope::Whole => {
                let mut families = collector.own_families();
                families.extend(also.lock().unwrap().iter().cloned());
                families
            }
            Scope::Cut(cut) => collector.families_of(cut),
            Scope::Own => collector.families_of_all(),
        };
        let sources = Sources {
            snapshot: Arc::clone(&snapshot),
            rollups: Box::new(rollups),
            registry: Arc::new(registry),
            status: Arc::new(|| -> Arc<dyn status::Fleet> { unreachable!("no test here asks for it") }),
            reload: Box::new(|| None),
            items: Box::new(String::new),
        };
        let state = Arc::new(State::new(sources, metrics, "1.2.3", Instant::now()));
        Self { state, snapshot, items, next, more }
    }

    /// Runs an item whose server answers with these rows.
    pub(crate) async fn publish(&self, query: &str, target: &str, table: Table) {
        *self.next.0.lock().unwrap() = table;
        let name = format!("{query}@{target}");
        let item = self.items.iter().find(|item| item.id().to_string() == name).unwrap();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let start_by = Instant::now() + Duration::from_secs(5);
        item.run(permit, start_by).await.unwrap().outcome.unwrap();
    }

    /// The answer to GET with these headers.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let (head, body) = self.response(path, headers).await.into_parts();
        Answer { status: head.status.as_u16(), headers: head.headers, body: bytes(body) }
    }

    /// The same before any of it is read.
    pub(crate) async fn response(&self, path: &str, headers: &[(&str, &str)]) -> Response<Page> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        respond(&self.state, &request.body(()).unwrap()).await
    }
}

/// An answer as a client gets it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// All that is left of a body.
pub(crate) fn bytes(mut page: Page) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut page).poll_frame(&mut context) {
        bytes.put(frame.into_data().unwrap());
    }
    bytes
}

fn query(name: &str, families: &[(&str, Kind)]) -> Query {
    let metrics = families.iter().map(|(family, kind)| metric(family, *kind)).collect();
    let statement = Some(Statement::check("select who, n from t").unwrap());
    Query { name: name.into(), statement, variants: Vec::new(), metrics }
}

fn metric(family: &str, kind: Kind) -> Metric {
    let help = format!("\"{family}\" \\ of\nsome");
    Metric {
        family: Arc::new(Family { name: family.to_owned(), help, kind }),
        labels: vec!["who".to_owned()],
        static_labels: Vec::new(),
        value: ValueSource::Column("n".to_owned()),
        on_null: OnNull::Skip,
    }
}

fn target(name: &str, group: &str) -> Target {
    Target {
        name: name.into(),
        group: group.into(),
        address: Address::Tcp { host: name.into(), port: 3306 },
        user: Some(String::new()),
        session: SessionSettings::default(),
        password: Password::None,
        database: None,
        tls: Tls { mode: TlsMode::Disabled, ca: None, identity: None },
        labels: BTreeMap::from([("target".to_owned(), name.to_owned())]).into_iter().collect(),
        max_connections: 1,
        kill: false,
    }
}

fn item(query: &Arc<Query>, target: &Arc<Target>) -> ItemSpec {
    ItemSpec {
        query: Arc::clone(query),
        target: Arc::clone(target),
        timeout: Duration::from_secs(5),
        expire_after: Duration::from_secs(600),
        drop_on_failure: false,
        limits: ResultLimits::default(),
    }
}
