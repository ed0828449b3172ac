//! `/status` and `/status.json`: the page for three in the morning. What is wrong comes first.
//!
//! A [`Fleet`] tells how everything is at this moment; `view` picks and cuts what the page shows; `html` and `json`
//! write the same of it. All of it reads memory, off the async threads.

mod html;
mod json;
mod markup;
pub mod model;
mod picture;
mod rows;
#[cfg(test)]
pub(crate) mod tests;
mod view;
mod words;

use std::{fmt, sync::Arc, time::Duration};

use hyper::{
    Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
        RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

pub use model::Fleet;
use view::{Ask, Shown};

use crate::Page;

/// Pages built at once. People ask for them, and a scrape must never wait for a person: so they have places of their
/// own.
const BUILDS: usize = 2;

/// How long one waits while others are built.
const BUILD_WAIT: Duration = Duration::from_secs(5);

/// No script, no picture from elsewhere, no frame around it; this one style, by its hash.
const POLICY: &str = "default-src 'none'; style-src 'sha256-p+w2OYq9geeUCpfrm+B1XlQeCp87WvRkORdTBpTp1L0='; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Yields the fleet as it is now. Called once for each page.
pub type Source = Arc<dyn Fn() -> Arc<dyn Fleet> + Send + Sync>;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Html,
    Json,
}

/// The pages of one exporter.
pub(crate) struct Status {
    source: Source,
    builds: Arc<Semaphore>,
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status").finish_non_exhaustive()
    }
}

impl Status {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, builds: Arc::new(Semaphore::new(BUILDS)) }
    }

    /// The page that this query string asks for.
    fn build(&self, query: &str, format: Format) -> (StatusCode, String) {
        let view = view::look(&*(self.source)(), Ask::of(query));
        let status = match view.shown {
            Shown::Missing { .. } => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        };
        let text = match format {
            Format::Html => html::page(&view),
            Format::Json => json::page(&view),
        };
        (status, text)
    }
}

/// Answers a request. Like a scrape it is built on a thread of its own, where a panic costs this answer alone.
pub(crate) async fn answer(status: &Arc<Status>, query: Option<&str>, format: Format) -> Response<Page> {
    let Ok(Ok(permit)) = timeout(BUILD_WAIT, status.builds.clone().acquire_owned()).await else {
        let busy =
            plain(StatusCode::SERVICE_UNAVAILABLE, "too many status pages at once; try again in 5 s\n");
        return with(busy, RETRY_AFTER, "5");
    };
    let (builder, query) = (Arc::clone(status), query.unwrap_or_default().to_owned());
    let built = spawn_blocking(move || {
        let built = builder.build(&query, format);
        drop(permit);
        built
    })
    .await;
    match built {
        Ok((status, text)) => page(status, text, format),
        Err(error) => {
            tracing::error!(%error, "building the status page failed");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "building the page failed\n")
        }
    }
}

fn page(status: StatusCode, text: String, format: Format) -> Response<Page> {
    let mut response = Response::new(Page::from(text));
    *response.status_mut() = status;
    let content_type = match format {
        Format::Html => "text/html; charset=utf-8",
        Format::Json => "application/json",
    };
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response = with(response, name, value);
    }
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Page> {
    let mut response = Response::new(Page::from(text.to_owned()));
    *response.status_mut() = status;
    let response = with(response, CONTENT_TYPE, "text/plain; charset=utf-8");
    with(response, CACHE_CONTROL, "no-store")
}

fn with(mut response: Response<Page>, name: HeaderName, value: &'static str) -> Response<Page> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
