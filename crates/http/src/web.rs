//! What the web file asks for, in force: who comes in and how, how often, and what goes with each answer.
//!
//! It is exchanged as a whole, between two requests; nobody waits for that.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use hyper::{
    Request, Response, StatusCode,
    header::{AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use rustls::ServerConfig;

use crate::{
    HttpMetrics, Page,
    auth::{Denied, Logins, PasswordHash, Users},
    rate_limit::{Bucket, RateLimit},
    routes::{HEALTHY, PLAIN, answer, with},
    state::Refused,
    tls::Tls,
};

/// What a web file says. The default is that of no file: plain HTTP for everybody.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WebSettings {
    /// TLS on the port, and nothing else.
    pub tls: Option<Tls>,
    /// Who may come in, by name; anybody where there is none.
    pub users: BTreeMap<String, PasswordHash>,
    /// What goes with each answer, unless the answer has its own.
    pub headers: Vec<ExtraHeader>,
    /// How often requests may come.
    pub rate_limit: Option<RateLimit>,
}

impl WebSettings {
    /// Whether everybody who comes in has proved who it is.
    pub fn authenticates(&self) -> bool {
        !self.users.is_empty() || self.tls.as_ref().is_some_and(Tls::authenticates)
    }
}

/// A header and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHeader {
    name: HeaderName,
    value: HeaderValue,
}

impl ExtraHeader {
    /// None if the value has characters that no header may have.
    pub fn new(name: &str, value: &str) -> Option<Self> {
        let name = HeaderName::try_from(name).ok()?;
        Some(Self { name, value: HeaderValue::try_from(value).ok()? })
    }
}

/// The settings in force.
#[derive(Debug)]
pub struct Web {
    now: ArcSwap<InForce>,
    logins: Logins,
}

#[derive(Debug)]
struct InForce {
    settings: WebSettings,
    users: Users,
    bucket: Option<Arc<Bucket>>,
}

impl InForce {
    fn new(settings: WebSettings, bucket: Option<Arc<Bucket>>) -> Self {
        let users = Users::new(settings.users.clone());
        Self { settings, users, bucket }
    }
}

impl Default for Web {
    fn default() -> Self {
        Self {
            now: ArcSwap::from_pointee(InForce::new(WebSettings::default(), None)),
            logins: Logins::default(),
        }
    }
}

impl Web {
    /// From now on these hold; says whether they are others than before. Connections that were opened under another
    /// TLS end with their next answer. The same limit of requests goes on counting.
    pub fn set(&self, settings: WebSettings) -> bool {
        let before = self.now.load();
        if before.settings == settings {
            return false;
        }
        let bucket = settings.rate_limit.map(|limit| {
            let same = before.bucket.as_ref().filter(|bucket| bucket.limit == limit);
            same.map_or_else(|| Arc::new(Bucket::new(limit)), Arc::clone)
        });
        self.now.store(Arc::new(InForce::new(settings, bucket)));
        true
    }

    /// What to begin a connection with, unless it is plain.
    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.now.load().settings.tls.as_ref().map(|tls| Arc::clone(tls.config()))
    }

    /// Lets a request in, or gives the answer that it gets. Who is on this machine may always ask for the health.
    pub(crate) async fn admit(
        &self,
        request: &Request<()>,
        is_local: bool,
        metrics: &HttpMetrics,
    ) -> Result<(), Response<Page>> {
        if is_local && request.uri().path() == HEALTHY {
            return Ok(());
        }
        let now = self.now.load_full();
        if now.bucket.as_ref().is_some_and(|bucket| !bucket.take()) {
            metrics.refuse(Refused::RateLimit);
            let refusal = answer(StatusCode::TOO_MANY_REQUESTS, PLAIN, "too many requests\n".to_owned());
            return Err(with(refusal, RETRY_AFTER, "1"));
        }
        if now.users.is_empty() {
            return Ok(());
        }
        let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        match self.logins.check(&now.users, header).await {
            Ok(()) => Ok(()),
            Err(Denied::Wrong) => {
                metrics.refuse(Refused::Login);
                let refusal = answer(StatusCode::UNAUTHORIZED, PLAIN, "unauthorized\n".to_owned());
                Err(with(refusal, WWW_AUTHENTICATE, "Basic"))
            }
            Err(Denied::Busy) => {
                metrics.refuse(Refused::LoginsBusy);
                let body = "too many logins at once; try again in 5 s\n".to_owned();
                Err(with(answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body), RETRY_AFTER, "5"))
            }
        }
    }

    /// Adds what goes with each answer.
    pub(crate) fn dress(&self, response: &mut Response<Page>) {
        for ExtraHeader { name, value } in &self.now.load().settings.headers {
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
    }
}
