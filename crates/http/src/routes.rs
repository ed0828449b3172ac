//! The routes: which answer belongs to which request. Knows no sockets.

use std::{sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use crate::{
    Page, State, negotiate,
    status::{self, Format},
};

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// How long a scrape waits while other pages are built, well within Prometheus' usual timeout of 10 s. Each
/// connection waits with one scrape at most, so the cap on connections bounds the queue.
const BUILD_WAIT: Duration = Duration::from_secs(5);

/// Methods that only read.
const READ: &[Method] = &[Method::GET, Method::HEAD];

/// Every path there is, in the order in which the start page and a 404 name them.
const ROUTES: &[Route] = &[
    Route { path: "/", methods: READ, link: None, endpoint: Endpoint::Index },
    Route { path: "/metrics", methods: READ, link: Some("Metrics"), endpoint: Endpoint::Metrics },
    Route { path: "/status", methods: READ, link: Some("Status"), endpoint: Endpoint::Status(Format::Html) },
    Route { path: "/status.json", methods: READ, link: None, endpoint: Endpoint::Status(Format::Json) },
    Route { path: "/-/healthy", methods: READ, link: Some("Health"), endpoint: Endpoint::Healthy },
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

/// What answers.
#[derive(Clone, Copy)]
enum Endpoint {
    Index,
    Metrics,
    Status(Format),
    Healthy,
    Ready,
    Reload,
    Items,
}

/// The answer to a request; its body, if it has one, is not read.
///
/// Only the status pages have a use for a query string. HEAD is answered like GET, `Content-Length` included, without the body.
pub async fn respond(state: &Arc<State>, request: &Request<()>) -> Response<Page> {
    let response = match ROUTES.iter().find(|route| route.path == request.uri().path()) {
        None => not_found(),
        Some(route) if !route.methods.contains(request.method()) => refuse_method(route.methods),
        Some(route) => endpoint(route.endpoint, state, request).await,
    };
    finish(request, response)
}

async fn endpoint(endpoint: Endpoint, state: &Arc<State>, request: &Request<()>) -> Response<Page> {
    match endpoint {
        Endpoint::Index => answer(StatusCode::OK, HTML, index(&state.version)),
        Endpoint::Metrics => metrics(state, request).await,
        Endpoint::Status(format) => status::answer(&state.status, request.uri().query(), format).await,
        Endpoint::Healthy => answer(StatusCode::OK, PLAIN, "healthy\n".to_owned()),
        Endpoint::Ready => ready(state),
        Endpoint::Reload => reload(state).await,
        Endpoint::Items => items(state).await,
    }
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

/// Builds the page on a thread of its own: some milliseconds of copying for a large fleet would keep an async
/// thread from its timers and from other connections. Always, so that there is one way to test; handing over
/// costs some ten microseconds. And a panic in there costs one answer, not the connection.
///
/// HEAD is not a scrape and is not observed.
async fn metrics(state: &Arc<State>, request: &Request<()>) -> Response<Page> {
    let format = negotiate::format(values(request, &ACCEPT));
    let start = Instant::now();
    let Ok(Ok(permit)) = timeout(BUILD_WAIT, state.builds.clone().acquire_owned()).await else {
        let body = "too many scrapes at once; try again in 5 s\n";
        return with(answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body.to_owned()), RETRY_AFTER, "5");
    };
    let builder = state.clone();
    let built = spawn_blocking(move || {
        let page = builder.build(format);
        // Given back here, not by the caller, who is gone if the scraper hangs up; the work goes on all the same.
        drop(permit);
        page
    })
    .await;
    let page = match built {
        Ok(chunks) => Page::new(chunks),
        Err(error) => {
            tracing::error!(%error, "building the page failed");
            return answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "building the page failed\n".to_owned());
        }
    };
    if request.method() == Method::GET {
        state.metrics.scrape_duration.observe(start.elapsed().as_secs_f64());
        state.metrics.scrape_bytes.inc_by(page.remaining());
    }
    with(answer(StatusCode::OK, format.content_type(), page), VARY, "Accept, Accept-Encoding")
}

/// The values of a header that are text, in their order.
fn values<'a>(request: &'a Request<()>, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok())
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

/// Built like a page of metrics: on a thread of its own, few at once.
async fn items(state: &Arc<State>) -> Response<Page> {
    let Ok(Ok(permit)) = timeout(BUILD_WAIT, state.builds.clone().acquire_owned()).await else {
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

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Page>) -> Response<Page> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, content_type)
}

fn with(mut response: Response<Page>, name: HeaderName, value: &'static str) -> Response<Page> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// Says the length of the body, and takes the body away if it was not asked for.
fn finish(request: &Request<()>, mut response: Response<Page>) -> Response<Page> {
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
        task::{Context, Poll, Waker},
    };

    use expect_test::expect;
    use fleet_collector::{Family, FamilyText, Kind, Snapshot};
    use http_body::Body as _;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::{HttpMetrics, Sources};

    fn state() -> Arc<State> {
        state_with(Box::new(|| None))
    }

    fn state_with(reload: crate::Reload) -> Arc<State> {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let family = Arc::new(Family { name: "up".into(), help: "Answers.".into(), kind: Kind::Gauge });
        let rollups = move || vec![FamilyText { family: family.clone(), lines: vec!["up 1\n".into()] }];
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
            bytes.extend(frame.into_data().unwrap());
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
    async fn each_request_has_its_answer() {
        const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
        const NOT_FOUND: &str = "not found; there are /, /metrics, /status, /status.json, /-/healthy, /-/ready, /-/reload and /-/config/items\n";
        check("GET", "/", 200, HTML, "<!DOCTYPE html>").await;
        check("GET", "/metrics", 200, METRICS, "# HELP query_exporter_scrape_duration_seconds ").await;
        check("GET", "/metrics?name[]=up", 200, METRICS, "# HELP ").await;
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
            <li><a href="status">Status</a></li>
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
    async fn a_scrape_that_finds_no_free_builder_is_refused_and_health_answers_at_once() {
        let state = state();
        let all = state.builds.clone().acquire_many_owned(8).await.unwrap();

        let start = Instant::now();
        assert_eq!(ask(&state, "GET", "/-/healthy").await.status(), StatusCode::OK);
        assert_eq!(ask(&state, "GET", "/-/ready").await.status(), StatusCode::OK);
        assert_eq!(start.elapsed(), Duration::ZERO);

        let refused = ask(&state, "GET", "/metrics").await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "5");
        assert_eq!(start.elapsed().as_secs(), BUILD_WAIT.as_secs());

        drop(all);
        assert_eq!(ask(&state, "GET", "/metrics").await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_panic_while_a_page_is_built_costs_one_answer() {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let sources = Sources {
            snapshot: Arc::new(Snapshot::default()),
            rollups: Box::new(|| panic!("planted")),
            registry: Arc::new(registry),
            status: Arc::new(|| crate::status::tests::fleet(0)),
            reload: Box::new(|| None),
            items: Box::new(String::new),
        };
        let state = Arc::new(State::new(sources, metrics, "", Instant::now()));
        for _ in 0..9 {
            assert_eq!(ask(&state, "GET", "/metrics").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}
