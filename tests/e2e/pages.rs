//! The pages over a real socket, beside a target that never answers.

use std::{net::TcpListener, time::Duration};

use crate::support::{
    exporter::{Exporter, SOON},
    http::Answer,
    wait::wait_for,
};

/// Somebody who lets us connect and says nothing: the kernel takes the connection, nobody accepts it.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = format!(
        "[groups.g]\nuser = \"nobody\"\ntargets = {{ silent = \"{address}\" }}\n\
         [queries.q]\nsql = \"select 1 as n\"\ninterval = \"3s\"\ntimeout = \"3s\"\n\
         [queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
    );
    (listener, config)
}

fn is_plain(answer: &Answer) -> bool {
    answer.header("content-type") == Some("text/plain; charset=utf-8")
}

#[tokio::test]
async fn it_is_healthy_at_once_and_ready_when_each_item_was_tried() {
    let (_listener, config) = silent();
    let exporter = Exporter::start(&config).await;

    // The first try ends with the connect's time limit, three seconds later.
    let ready = exporter.get("/-/ready").await;
    assert_eq!((ready.status, is_plain(&ready)), (503, true), "{ready:?}");
    let healthy = exporter.get("/-/healthy").await;
    assert_eq!((healthy.status, is_plain(&healthy)), (200, true), "{healthy:?}");
    let page = exporter.page().await;
    assert_eq!(page.runs("silent", "failure"), 0, "it was not tried before");
    wait_for("it is ready", SOON, async || {
        let answer = exporter.get("/-/ready").await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let page = exporter.page().await;
    assert!(page.runs("silent", "failure") >= 1);
    assert_eq!(page.reason("silent"), Some("connect_timeout"));
    assert!(!page.is_up("silent"));

    exporter.stop(&[]).await;
}

#[tokio::test]
async fn each_path_and_method_has_its_answer() {
    let (_listener, config) = silent();
    let exporter = Exporter::start(&config).await;

    let metrics = exporter.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.took < Duration::from_secs(1), "{:?}", metrics.took);
    let index = exporter.get("/").await;
    assert_eq!(index.status, 200);
    assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(index.body.contains("href=\"metrics\"") && index.body.contains(env!("CARGO_PKG_VERSION")));

    for path in ["/metrics", "/", "/-/healthy"] {
        let answer = exporter.request("HEAD", path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "HEAD {path}");
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert!(length > 0, "HEAD {path} says how long GET would be");
    }
    for path in ["/nothing", "/metrics/", "/-/", "//metrics"] {
        let answer = exporter.get(path).await;
        assert_eq!((answer.status, is_plain(&answer)), (404, true), "GET {path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = exporter.request(method, "/metrics").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }

    exporter.stop(&[]).await;
}
