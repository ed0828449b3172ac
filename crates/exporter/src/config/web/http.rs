//! Who may ask, how often, and what each answer says in its headers, as a web file has it.

use std::{collections::BTreeMap, time::Duration};

use fleet_http::{ExtraHeader, NoHash, PasswordHash, RateLimit};

use super::super::{field::nearest, yaml::Yaml};
use super::tables::{Entry, File};

/// A hash that is more costly than this holds up the first scrape after a start for seconds.
const COSTLY: u32 = 14;

/// What may be added to an answer, and the only values that some of it takes.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

impl File<'_> {
    pub(super) fn http(&mut self, section: Entry<'_>) -> Vec<ExtraHeader> {
        let table = self.table(section.value, "http_server_config", &["http2", "headers"]);
        // HTTP/1.1 is what everybody speaks who speaks HTTP/2, so either value is right.
        self.flag(table.get("http2"));
        let Some(entry) = table.get("headers") else { return Vec::new() };
        let mut headers = Vec::new();
        for (name, key, value) in self.entries(entry.value, "headers") {
            let Some((known, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
                let names = HEADERS.map(|(name, _)| name);
                let help = nearest(&name, names.into_iter()).map_or_else(
                    || format!("the headers are {}", names.join(", ")),
                    |meant| format!("did you mean `{meant}`?"),
                );
                self.found.error(&key.at, format!("`{name}` cannot be added to answers")).help(help);
                continue;
            };
            let text = self.text(Some(Entry { name: known, key, value })).map_or("", |(text, _)| text);
            if !values.is_empty() && !values.contains(&text) {
                let message = format!("`{name}` takes {}", values.join(" or "));
                self.found.error(&value.at, message).help(format!("write {name}: {}", values[0]));
            } else if !text.is_empty() {
                let header = ExtraHeader::new(known, text);
                if header.is_none() {
                    self.found
                        .error(&value.at, format!("`{name}` has a character that no header may have"))
                        .help("write it on one line, in ASCII");
                }
                headers.extend(header);
            }
        }
        headers
    }

    pub(super) fn users(&mut self, section: Entry<'_>) -> BTreeMap<String, PasswordHash> {
        let mut users = BTreeMap::new();
        for (name, key, value) in self.entries(section.value, "basic_auth_users") {
            let hash = match &value.value {
                Yaml::Text(hash) => PasswordHash::new(hash),
                _ => Err(NoHash::Other),
            };
            let hash = match hash {
                Ok(hash) => hash,
                Err(wrong) => {
                    let what = match wrong {
                        NoHash::Other => "is no hash of bcrypt",
                        NoHash::Cost => "is a hash of bcrypt with a cost that is not from 4 to 31",
                    };
                    self.found
                        .error(&value.at, format!("what stands for the password of {name:?} {what}"))
                        .help("`htpasswd -nBC 10 NAME` asks for the password and prints name:hash");
                    continue;
                }
            };
            if name.contains(':') {
                self.found
                    .warn(&key.at, format!("nobody can log in as {name:?}"))
                    .help("a name ends at its first colon: choose one without");
            }
            if hash.cost() > COSTLY {
                let message = format!("the cost of {name:?} is {}: a login takes seconds", hash.cost());
                self.found.warn(&value.at, message).help("10 to 12 is usual");
            }
            users.insert(name, hash);
        }
        users
    }

    pub(super) fn rate_limit(&mut self, section: Entry<'_>) -> Option<RateLimit> {
        let table = self.table(section.value, "rate_limit", &["interval", "burst"]);
        let interval = self.text(table.get("interval")).map(|(text, at)| (duration(text), at));
        let burst = self.text(table.get("burst")).map(|(text, at)| (text.parse::<u32>(), at));
        if let Some((Err(_), at)) = &burst {
            self.found.error(at, "`burst` is a number of requests").help("write burst: 10");
        }
        let interval = match interval {
            None => {
                if let Some(entry) = table.first() {
                    self.found
                        .warn(&entry.key.at, "there is no limit without `interval`")
                        .help("write interval: 100ms for ten requests a second");
                }
                return None;
            }
            Some((None, at)) => {
                self.found
                    .error(at, "`interval` is the time between two requests")
                    .help("write a number and its unit, such as 100ms, 1s or 1m30s; 0 for no limit");
                return None;
            }
            Some((Some(interval), _)) => interval,
        };
        if interval.is_zero() {
            return None;
        }
        match burst {
            Some((Ok(burst), _)) if burst > 0 => Some(RateLimit { interval, burst }),
            Some((Err(_), _)) => None,
            None if self.found.was_meant(&section.value.at, &["burst"]) => None,
            burst => {
                let at = burst.map_or(&section.key.at, |(_, at)| at);
                self.found
                    .error(at, "a `burst` of 0 lets no request through")
                    .help("write burst: 10, or interval: 0 for no limit");
                None
            }
        }
    }
}

/// A time as the shared format has it: `0`, or numbers with their units and no spaces needed.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" { Some(Duration::ZERO) } else { humantime::parse_duration(text).ok() }
}
