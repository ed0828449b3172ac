//! The routes: which answer belongs to which request. Knows no sockets.

use std::{sync::Arc, time::Duration};

use fleet_collector::Cut;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER},
    http::uri::Authority,
};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    Page, State,
    builds::Content,
    cut::{self, Parameter, Problem},
    scrape::answer_scrape,
    sd,
    status::{self, Format},
};

pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";
/// Where the health is told.
pub(crate) const HEALTHY: &str = "/-/healthy";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// How long a request waits while others are answered, well within Prometheus' usual timeout of 10 s.
const BUILD_WAIT: Duration = Duration::from_secs(5);

/// Methods that only read.
const READ: &[Method] = &[Method::GET, Method::HEAD];

/// Every path there is, in the order in which the start page and a 404 name them.
const ROUTES: &[Route] = &[
    Route { path: "/", methods: READ, link: None, endpoint: Endpoint::Index },
    Route { path: "/metrics", methods: READ, link: Some("Metrics"), endpoint: Endpoint::Metrics },
    Route { path: "/metrics/{group}", methods: READ, link: None, endpoint: Endpoint::MetricsOfGroup },
    Route { path: "/probe", methods: READ, link: None, endpoint: Endpoint::Probe },
    Route { path: "/sd", methods: READ, link: Some("Targets for Prometheus"), endpoint: Endpoint::Discovery },
    Route { path: "/status", methods: READ, link: Some("Status"), endpoint: Endpoint::Status(Format::Html) },
    Route { path: "/status.json", methods: READ, link: None, endpoint: Endpoint::Status(Format::Json) },
    Route {
        path: "/-/metrics",
        methods: READ,
        link: Some("Metrics of the exporter"),
        endpoint: Endpoint::OwnMetrics,
    },
    Route { path: HEALTHY, methods: READ, link: Some("Health"), endpoint: Endpoint::Healthy },
    Route { path: "/-/ready", methods: READ, link: Some("Readiness"), endpoint: Endpoint::Ready },
    Route { path: "/-/reload", methods: &[Method::POST], link: None, endpoint: Endpoint::Reload },
    Route { path: "/-/config/items", methods: READ, link: None, endpoint: Endpoint::Items },
];

/// A path, and how it may be asked for.
struct Route {
    path: &'static str,
    methods: &'static [Method],
    /// What the start page calls it, if it shows it.
    link: Option<&'static str>,
    endpoint: Endpoint,
}

impl Route {
    /// Whether it is for this path, and then what stands there in place of the part in braces, if there is one.
    fn matches<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.path.split_once('{') {
            None => (self.path == path).then_some(""),
            Some((before, _)) => {
                path.strip_prefix(before).filter(|name| !name.is_empty() && !name.contains('/'))
            }
        }
    }
}

/// What answers.
#[derive(Clone, Copy)]
enum Endpoint {
    Index,
    Metrics,
    Status(Format),
    MetricsOfGroup,
    Probe,
    Discovery,
    OwnMetrics,
    Healthy,
    Ready,
    Reload,
    Items,
}

/// The answer to a request; its body, if it has one, is not read. HEAD is answered like GET, `Content-Length` included,
/// without the body.
pub async fn respond(state: &Arc<State>, request: &Request<()>) -> Response<Page> {
    let path = request.uri().path();
    let response = match ROUTES.iter().find_map(|route| Some((route, route.matches(path)?))) {
        None => not_found(),
        Some((route, _)) if !route.methods.contains(request.method()) => refuse_method(route.methods),
        Some((route, name)) => endpoint(route.endpoint, name, state, request).await.unwrap_or_else(refuse),
    };
    finish(request, response)
}

async fn endpoint(
    endpoint: Endpoint,
    name: &str,
    state: &Arc<State>,
    request: &Request<()>,
) -> Result<Response<Page>, Problem> {
    let narrow = |cut, allowed| narrow(state, request, cut, allowed);
    let content = match endpoint {
        Endpoint::Index => return Ok(answer(StatusCode::OK, HTML, index(&state.version))),
        Endpoint::Healthy => return Ok(answer(StatusCode::OK, PLAIN, "healthy\n".to_owned())),
        Endpoint::Ready => return Ok(ready(state)),
        Endpoint::Status(format) => {
            return Ok(status::answer(&state.status, request.uri().query(), format).await);
        }
        Endpoint::Reload => return Ok(reload(state).await),
        Endpoint::Items => return Ok(items(state).await),
        Endpoint::Discovery => return discovery(state, request),
        Endpoint::Metrics => narrow(Cut::default(), Parameter::ALL)?,
        Endpoint::MetricsOfGroup => {
            let of_group = Cut { groups: [name.to_owned()].into(), ..Cut::default() };
            narrow(of_group, &[Parameter::Target, Parameter::Query])?
        }
        Endpoint::Probe => narrow(Cut::default(), &[Parameter::Target]).and_then(of_a_target)?,
        Endpoint::OwnMetrics => {
            narrow(Cut::default(), &[])?;
            return Ok(answer_scrape(state, request, Content::Own).await);
        }
    };
    let content = if content.is_whole() { Content::Whole } else { Content::Cut(content) };
    Ok(answer_scrape(state, request, content).await)
}

/// The cut that a request asks for; all of it is there.
fn narrow(state: &State, request: &Request<()>, cut: Cut, allowed: &[Parameter]) -> Result<Cut, Problem> {
    let cut = cut::narrow(cut, request.uri().query().unwrap_or_default(), allowed)?;
    if !cut.is_whole() {
        cut::check(&cut, state.reading().names())?;
    }
    Ok(cut)
}

fn of_a_target(cut: Cut) -> Result<Cut, Problem> {
    if cut.targets.is_empty() {
        let message = "say which target: /probe?target=NAME".to_owned();
        return Err(Problem { status: StatusCode::BAD_REQUEST, message });
    }
    Ok(cut)
}

fn discovery(state: &State, request: &Request<()>) -> Result<Response<Page>, Problem> {
    let cut = narrow(state, request, Cut::default(), &[Parameter::Target, Parameter::Group])?;
    // In HTTP/1.1 each request says whom it means; in a request in absolute form its address does.
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let Some(host) = request.uri().authority().map(Authority::as_str).or(host) else {
        let message = "the request has no Host header, so the targets have no address".to_owned();
        return Err(Problem { status: StatusCode::BAD_REQUEST, message });
    };
    let json = sd::json(state.reading().names(), &cut, host, state.scheme());
    Ok(answer(StatusCode::OK, JSON, json))
}

fn refuse(Problem { status, message }: Problem) -> Response<Page> {
    answer(status, PLAIN, message + "\n")
}

fn not_found() -> Response<Page> {
    let paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
    let (last, others) = paths.split_last().expect("the table is not empty");
    let body = format!("not found; there are {} and {last}\n", others.join(", "));
    answer(StatusCode::NOT_FOUND, PLAIN, body)
}

fn refuse_method(methods: &[Method]) -> Response<Page> {
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, format!("use {}\n", names.join(" or ")));
    let allowed = HeaderValue::try_from(names.join(", ")).expect("names of methods are plain ASCII");
    refusal.headers_mut().insert(ALLOW, allowed);
    refusal
}

fn ready(state: &State) -> Response<Page> {
    let Some(wait) = state.not_ready_for() else {
        return answer(StatusCode::OK, PLAIN, "ready\n".to_owned());
    };
    let seconds = wait.as_secs_f64().ceil();
    let body = format!("waiting until each item was tried once, for {seconds} s at most\n");
    answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body)
}

/// Waits for the reload, which is bounded where it is done. 500 for a configuration that was not taken, as Prometheus'
/// own servers answer.
async fn reload(state: &State) -> Response<Page> {
    let Some(reloading) = state.reload() else {
        let body = "reloading over HTTP is off: set reload = true in [server], or send SIGHUP\n";
        return answer(StatusCode::FORBIDDEN, PLAIN, body.to_owned());
    };
    let (status, text) = match reloading.await {
        Ok(done) => (StatusCode::OK, done),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why),
    };
    answer(status, PLAIN, format!("{}\n", text.trim_end()))
}

/// Built on a thread of its own, one at a time.
async fn items(state: &Arc<State>) -> Response<Page> {
    let Ok(Ok(permit)) = timeout(BUILD_WAIT, state.items_turn.clone().acquire_owned()).await else {
        let body = "too many requests at once; try again in 5 s\n";
        return with(answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body.to_owned()), RETRY_AFTER, "5");
    };
    let teller = state.clone();
    let told = spawn_blocking(move || {
        let items = teller.items();
        drop(permit);
        items
    });
    match told.await {
        Ok(items) => answer(StatusCode::OK, JSON, items),
        Err(error) => {
            tracing::error!(%error, "telling the items failed");
            answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "telling the items failed\n".to_owned())
        }
    }
}

/// The start page. Its links are relative, so that they hold behind a proxy that adds a path.
fn index(version: &str) -> String {
    let version = version.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let links = ROUTES.iter().filter_map(|route| Some((route.path.trim_start_matches('/'), route.link?)));
    let links = links.fold(String::new(), |links, (path, name)| {
        links + &format!("<li><a href=\"{path}\">{name}</a></li>\n")
    });
    format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head><meta charset=\"utf-8\"><title>fleet-query-exporter</title></head>\n\
         <body>\n\
         <h1>fleet-query-exporter</h1>\n\
         <p>Version {version}</p>\n\
         <ul>\n\
         {links}\
         </ul>\n\
         </body>\n\
         </html>\n"
    )
}

pub(crate) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Page>,
) -> Response<Page> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, content_type)
}

pub(crate) fn with(mut response: Response<Page>, name: HeaderName, value: &'static str) -> Response<Page> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// Says the length of the body, and takes the body away if it was not asked for.
pub(crate) fn finish(request: &Request<()>, mut response: Response<Page>) -> Response<Page> {
    let length = response.body().remaining();
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    if request.method() == Method::HEAD {
        *response.body_mut() = Page::default();
    }
    response
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::Mutex,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use bytes::BufMut as _;
    use expect_test::expect;
    use fleet_collector::{Family, FamilyText, Kind, Snapshot};
    use http_body::Body as _;
    use hyper::header::{ACCEPT, VARY};
    use prometheus_client::registry::Registry;
    use tokio::time::Instant;

    use super::*;
    use crate::{HttpMetrics, Scope, Sources, negotiate::Encoding};

    fn state() -> Arc<State> {
        state_with(Box::new(|| None))
    }

    fn state_with(reload: crate::Reload) -> Arc<State> {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let family = Arc::new(Family { name: "up".into(), help: "Answers.".into(), kind: Kind::Gauge });
        let rollups =
            move |_: Scope<'_>| vec![FamilyText { family: family.clone(), lines: vec!["up 1\n".into()] }];
        let sources = Sources {
            snapshot: Arc::new(Snapshot::default()),
            rollups: Box::new(rollups),
            registry: Arc::new(registry),
            status: Arc::new(|| crate::status::tests::fleet(0)),
            reload,
            items: Box::new(|| "{}".to_owned()),
        };
        Arc::new(State::new(sources, metrics, "1.2.3 <&>", Instant::now()))
    }

    async fn ask(state: &Arc<State>, method: &str, path: &str) -> Response<Page> {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        respond(state, &request).await
    }

    fn body(page: &mut Page) -> String {
        let mut bytes = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *page).poll_frame(&mut context) {
            bytes.put(frame.into_data().unwrap());
        }
        String::from_utf8(bytes).unwrap()
    }

    /// HEAD is asked too wherever GET is, and has to have the same headers.
    async fn check(method: &str, path: &str, status: u16, content_type: &str, body_start: &str) {
        let mut response = ask(&state(), method, path).await;
        let body = body(response.body_mut());
        let headers = response.headers();
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(headers[CONTENT_TYPE], content_type, "{method} {path}");
        assert_eq!(headers[CONTENT_LENGTH], body.len().to_string(), "{method} {path}");
        let allowed = if path == "/-/reload" { "POST" } else { "GET, HEAD" };
        assert_eq!(headers.get(ALLOW).is_some_and(|allow| allow == allowed), status == 405);
        assert!(body.starts_with(body_start), "{method} {path}: {body}");
        if method == "GET" {
            let mut head = ask(&state(), "HEAD", path).await;
            assert_eq!((head.status(), head.headers()), (response.status(), headers), "HEAD {path}");
            assert_eq!(self::body(head.body_mut()), "");
        }
    }

    #[tokio::test]
    async fn t56_each_request_has_its_answer() {
        const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
        const NOT_FOUND: &str = "not found; there are /, /metrics, /metrics/{group}, /probe, /sd, /status, /status.json, /-/metrics, /-/healthy, /-/ready, /-/reload and /-/config/items\n";
        check("GET", "/", 200, HTML, "<!DOCTYPE html>").await;
        check("GET", "/metrics", 200, METRICS, "# HELP query_exporter_scrape_duration_seconds ").await;
        check("GET", "/metrics?", 200, METRICS, "# HELP ").await;
        check(
            "GET",
            "/metrics?name[]=up",
            400,
            PLAIN,
            "there is no parameter `name[]` here; there are: target, group, query\n",
        )
        .await;
        check("GET", "/metrics?target=db1", 404, PLAIN, "there is no target `db1`\n").await;
        check("GET", "/metrics/prod", 404, PLAIN, "there is no group `prod`\n").await;
        check("GET", "/metrics/prod/", 404, PLAIN, NOT_FOUND).await;
        check("GET", "//metrics", 404, PLAIN, NOT_FOUND).await;
        check("GET", "/probe?target=db1", 404, PLAIN, "there is no target `db1`\n").await;
        check("GET", "/probe", 400, PLAIN, "say which target: /probe?target=NAME\n").await;
        check(
            "GET",
            "/probe?target=a&module=b",
            400,
            PLAIN,
            "there is no parameter `module` here; there are: target\n",
        )
        .await;
        check("GET", "/-/metrics", 200, METRICS, "# HELP query_exporter_scrape_duration_seconds ").await;
        check("GET", "http://exporter:9104/sd", 200, JSON, "[\n]\n").await;
        check("GET", "/sd", 400, PLAIN, "the request has no Host header").await;
        check("GET", "http://exporter:9104/metrics", 200, METRICS, "# HELP ").await;
        check("GET", "/status", 200, HTML, "<!DOCTYPE html>").await;
        check("GET", "/status?target=x", 404, HTML, "<!DOCTYPE html>").await;
        check("GET", "/status.json?x", 200, "application/json", "{\"at\":").await;
        check("POST", "/status", 405, PLAIN, "use GET or HEAD\n").await;
        check("GET", "/-/healthy", 200, PLAIN, "healthy\n").await;
        check("GET", "/-/ready", 200, PLAIN, "ready\n").await;
        check("GET", "/metrics/", 404, PLAIN, NOT_FOUND).await;
        check("GET", "/-", 404, PLAIN, NOT_FOUND).await;
        check("POST", "/nothing", 404, PLAIN, NOT_FOUND).await;
        check("POST", "/metrics", 405, PLAIN, "use GET or HEAD\n").await;
        check("DELETE", "/", 405, PLAIN, "use GET or HEAD\n").await;
        check("OPTIONS", "/-/ready", 405, PLAIN, "use GET or HEAD\n").await;
        check("GET", "/-/config/items", 200, JSON, "{}").await;
        check("GET", "/-/reload", 405, PLAIN, "use POST\n").await;
        check("PUT", "/-/reload", 405, PLAIN, "use POST\n").await;
        check("POST", "/-/reload", 403, PLAIN, "reloading over HTTP is off: set reload = true").await;
    }

    #[tokio::test]
    async fn a_reload_is_answered_with_what_became_of_it() {
        for (result, status, text) in
            [(Ok("done".to_owned()), 200, "done\n"), (Err("a\nb\n".to_owned()), 500, "a\nb\n")]
        {
            let state = state_with(Box::new(move || Some(Box::pin(std::future::ready(result.clone())))));
            let mut response = ask(&state, "POST", "/-/reload").await;
            assert_eq!(response.status(), status);
            assert_eq!(body(response.body_mut()), text);
        }
    }

    #[tokio::test]
    async fn the_page_comes_in_the_format_that_the_client_prefers() {
        let state = state();
        let check = async |accept: &str, content_type: &str, end: &str| {
            let request = Request::builder().uri("/metrics").header(ACCEPT, accept).body(()).unwrap();
            let mut response = respond(&state, &request).await;
            assert_eq!(response.headers()[CONTENT_TYPE], content_type, "{accept}");
            assert_eq!(response.headers()[VARY], "Accept, Accept-Encoding", "{accept}");
            let body = body(response.body_mut());
            assert!(body.ends_with(end), "{accept}: {body}");
        };
        let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        check("application/openmetrics-text;version=1.0.0", open_metrics, "\nup 1\n# EOF\n").await;
        check("*/*", "text/plain; version=0.0.4; charset=utf-8", "\nup 1\n").await;
    }

    #[tokio::test]
    async fn the_start_page_is_html_with_the_version_escaped() {
        let html = body(ask(&state(), "GET", "/").await.body_mut());
        expect![[r#"
            <!DOCTYPE html>
            <html lang="en">
            <head><meta charset="utf-8"><title>fleet-query-exporter</title></head>
            <body>
            <h1>fleet-query-exporter</h1>
            <p>Version 1.2.3 &lt;&amp;&gt;</p>
            <ul>
            <li><a href="metrics">Metrics</a></li>
            <li><a href="sd">Targets for Prometheus</a></li>
            <li><a href="status">Status</a></li>
            <li><a href="-/metrics">Metrics of the exporter</a></li>
            <li><a href="-/healthy">Health</a></li>
            <li><a href="-/ready">Readiness</a></li>
            </ul>
            </body>
            </html>
        "#]]
        .assert_eq(&html);
    }

    #[tokio::test]
    async fn a_scrape_is_observed_in_the_next_one_and_a_head_is_not() {
        let state = state();
        let observed = async |method| {
            let page = body(ask(&state, method, "/metrics").await.body_mut());
            let observed = page
                .lines()
                .filter(|line| {
                    line.starts_with("query_exporter_scrape_duration_seconds_count")
                        || line.starts_with("query_exporter_scrape_bytes_total")
                })
                .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
                .collect::<Vec<u64>>();
            (observed, page.len() as u64)
        };
        let (first, size) = observed("GET").await;
        assert_eq!(first, [0, 0]);
        observed("HEAD").await;
        let (second, _) = observed("GET").await;
        assert_eq!(second, [1, size]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_whose_page_is_not_built_in_time_is_refused_and_health_answers_at_once() {
        let state = state();
        let turn = state.builds.turn(Encoding::Identity).clone().acquire_owned().await.unwrap();

        let start = Instant::now();
        assert_eq!(ask(&state, "GET", "/-/healthy").await.status(), StatusCode::OK);
        assert_eq!(ask(&state, "GET", "/-/ready").await.status(), StatusCode::OK);
        assert_eq!(start.elapsed(), Duration::ZERO);

        let refused = ask(&state, "GET", "/metrics").await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "5");
        assert_eq!(start.elapsed().as_secs(), 5);

        drop(turn);
        let page = body(ask(&state, "GET", "/metrics").await.body_mut());
        assert!(page.contains("query_exporter_http_refused_total{reason=\"busy\"} 1\n"), "{page}");
    }

    #[tokio::test]
    async fn t52_as_many_scrapes_as_are_allowed_at_once_are_answered_and_no_more() {
        let state = state();
        let mut answers = Vec::new();
        for _ in 0..64 {
            let answer = ask(&state, "GET", "/metrics").await;
            assert_eq!(answer.status(), StatusCode::OK);
            answers.push(answer);
        }
        let refused = ask(&state, "GET", "/metrics").await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "5");
        assert_eq!(ask(&state, "GET", "/-/healthy").await.status(), StatusCode::OK);

        answers.pop();
        let page = body(ask(&state, "GET", "/metrics").await.body_mut());
        assert!(page.contains("query_exporter_http_refused_total{reason=\"scrapes\"} 1\n"), "{page}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_while_a_page_is_built_costs_one_answer() {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let sources = Sources {
            snapshot: Arc::new(Snapshot::default()),
            rollups: Box::new(move |_| {
                let count = {
                    let mut calls = seen.lock().unwrap();
                    calls.push(std::thread::current().id());
                    calls.len()
                };
                assert!(count.is_multiple_of(2), "planted");
                Vec::new()
            }),
            registry: Arc::new(registry),
            status: Arc::new(|| crate::status::tests::fleet(0)),
            reload: Box::new(|| None),
            items: Box::new(String::new),
        };
        let state = Arc::new(State::new(sources, metrics, "", Instant::now()));
        // The first two pages are made on a thread of their own, the next, since those took no time, on the spot; another
        // kind again on a thread.
        for _ in 0..3 {
            assert_eq!(ask(&state, "GET", "/metrics").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(ask(&state, "GET", "/metrics").await.status(), StatusCode::OK);
        }
        assert_eq!(ask(&state, "GET", "/-/metrics").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let here = std::thread::current().id();
        let on_the_spot: Vec<_> = calls.lock().unwrap().iter().map(|thread| *thread == here).collect();
        assert_eq!(on_the_spot, [false, false, true, true, true, true, false]);
    }
}
