//! A scrape: admitted, negotiated, built, observed.

use std::sync::Arc;

use hyper::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName, RETRY_AFTER, VARY},
};
use tokio::time::Instant;

use crate::{
    Page, State,
    builds::{self, Content, NoPage, Wanted},
    negotiate::{self, Encoding},
    routes::{PLAIN, answer, with},
    state::Refused,
};

/// The page with this content, in the form that the client prefers. HEAD is not a scrape and is not observed.
pub(crate) async fn answer_scrape(
    state: &Arc<State>,
    request: &Request<()>,
    content: Content,
) -> Response<Page> {
    let start = Instant::now();
    let Ok(scrape) = Arc::clone(&state.scrapes).try_acquire_owned() else {
        return busy(state, Refused::Scrapes);
    };
    let format = negotiate::format(values(request, &ACCEPT));
    let encoding = negotiate::encoding(values(request, &ACCEPT_ENCODING));
    let built = match builds::page(state, Wanted { format, encoding, content }).await {
        Ok(built) => built,
        Err(NoPage::Busy) => return busy(state, Refused::Busy),
        Err(NoPage::Full) => return busy(state, Refused::Memory),
        Err(NoPage::Failed) => {
            tracing::error!("building the page failed");
            let body = "building the page failed\n".to_owned();
            return answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, body);
        }
    };
    if request.method() == Method::GET {
        state.metrics.scrape_duration.observe(start.elapsed().as_secs_f64());
        state.metrics.scrape_bytes.inc_by(built.length());
    }
    let page = Page::of_scrape(built, scrape);
    let response = with(answer(StatusCode::OK, format.content_type(), page), VARY, "Accept, Accept-Encoding");
    match encoding {
        Encoding::Identity => response,
        Encoding::Gzip => with(response, CONTENT_ENCODING, "gzip"),
    }
}

fn busy(state: &State, reason: Refused) -> Response<Page> {
    state.metrics.refuse(reason);
    let body = "too many scrapes at once; try again in 5 s\n".to_owned();
    with(answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body), RETRY_AFTER, "5")
}

/// The values of a header that are text, in their order.
fn values<'a>(request: &'a Request<()>, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}
