//! `config show`: what holds in the end and where each setting comes from, without any secret.

use std::fmt::{self, Write as _};

use fleet_collector::target::Address;

use super::{
    Config, History,
    access::{Access, PasswordText},
    account::Account,
    field::{At, Setting, Word, nearest},
    items::Parts,
    queries::CheckedQuery,
    report::{Place, Sources},
    targets::Member,
};

/// What is not there, and what was probably meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown(pub(super) String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unknown {}

/// One line: a key, its value, and where that comes from.
type Line<'a> = (&'a str, String, Origin<'a>);

/// Where a value comes from.
#[derive(Clone, Copy)]
enum Origin<'a> {
    At(&'a Place),
    BuiltIn,
    /// It follows from others.
    Follows,
}

impl<'a> From<Option<&'a Place>> for Origin<'a> {
    fn from(at: Option<&'a Place>) -> Self {
        at.map_or(Self::BuiltIn, Self::At)
    }
}

impl Config {
    /// The settings of one target, of one query, of one on the other, or what there is to ask for.
    pub(crate) fn show(&self, target: Option<&str>, query: Option<&str>) -> Result<String, Unknown> {
        let Parts { fleet, queries, .. } = &self.parts;
        let member = target.map(|name| {
            let names = fleet.members.iter().map(|member| (&*member.target.name, member));
            find("target", name, names)
        });
        let query = query.map(|name| {
            let names = queries.iter().map(|query| (query.name.value.as_str(), query));
            find("query", name, names)
        });
        let (member, query) = (member.transpose()?, query.transpose()?);
        let mut page = Page { sources: &self.sources, text: String::new() };
        match (member, query) {
            (None, None) => self.overview(&mut page),
            (Some(member), None) => {
                self.target(&mut page, member);
                for query in queries.iter().filter(|query| reaches(&self.parts, query, member)) {
                    self.item(&mut page, query, member);
                }
            }
            (None, Some(query)) => {
                self.query(&mut page, query);
                for member in self.parts.reach(query) {
                    self.item(&mut page, query, member);
                }
            }
            (Some(member), Some(query)) => {
                if !reaches(&self.parts, query, member) {
                    let (query, target) = (&query.name.value, &member.target.name);
                    return Err(Unknown(format!("query `{query}` does not reach target `{target}`")));
                }
                self.item(&mut page, query, member);
            }
        }
        Ok(page.text)
    }

    fn overview(&self, page: &mut Page<'_>) {
        page.title("the whole fleet", None);
        page.lines(vec![
            ("listen", self.listen.clone(), Origin::Follows),
            ("web_config", self.web.to_string(), Origin::Follows),
            ("max_runs", self.max_runs.to_string(), Origin::Follows),
            ("max_connects", self.max_connects.to_string(), Origin::Follows),
            ("max_page_bytes", self.max_page_bytes.to_string(), Origin::Follows),
            (
                "history",
                self.history.as_ref().map_or_else(|| "none".to_owned(), History::place),
                Origin::Follows,
            ),
            ("in all", self.summary(), Origin::Follows),
        ]);
        page.title("targets", None);
        for member in &self.parts.fleet.members {
            page.lines(vec![(
                &member.target.name,
                member.target.address.to_string(),
                Origin::At(&member.entry.name.at),
            )]);
        }
        page.title("queries", None);
        for query in &self.parts.queries {
            let n = self.parts.reach(query).count();
            let targets = format!("{n} {}", if n == 1 { "target" } else { "targets" });
            page.lines(vec![(&query.name.value, targets, Origin::At(&query.name.at))]);
        }
    }

    fn target(&self, page: &mut Page<'_>, member: &Member) {
        let target = &member.target;
        let fleet = &self.parts.fleet;
        let group = &fleet.groups[member.group];
        let levels: [&Access; 3] = [&member.entry.access, &group.access, &fleet.defaults];
        let account = Account::of(levels);
        let user = account.as_ref().and_then(|account| account.user);
        let password = account.as_ref().and_then(|account| account.password).map(|(_, password)| password);
        let tls_from = match account.as_ref().and_then(|account| account.password) {
            // It may say what TLS asks for, or say nothing.
            Some((_, At { value: Some(PasswordText::DefaultsFile { .. }), .. })) => Origin::Follows,
            // TLS of a group is not for sockets.
            _ if matches!(target.address, Address::Socket(_)) => {
                nearest_place(&levels[..1], |l| &l.tls).into()
            }
            _ => nearest_place(&levels, |l| &l.tls).into(),
        };
        let mut lines: Vec<Line<'_>> = vec![
            ("group", target.group.to_string(), Origin::At(&group.name.at)),
            ("address", target.address.to_string(), Origin::At(&member.entry.name.at)),
            (
                "user",
                target.user.clone().unwrap_or_else(|| "from the defaults file".to_owned()),
                place(user).into(),
            ),
            ("password", password_source(password), place(password).into()),
            (
                "database",
                target.database.clone().unwrap_or_else(|| "none".to_owned()),
                nearest_place(&levels, |l| &l.database).into(),
            ),
            ("tls", target.tls.mode.word().to_owned(), tls_from),
            (
                "max_connections",
                target.max_connections.to_string(),
                nearest_place(&levels, |l| &l.max_connections).into(),
            ),
            ("kill", target.kill.to_string(), nearest_place(&levels, |l| &l.kill).into()),
        ];
        let session = &target.session;
        let session_at = nearest_place(&levels, |l| &l.session).into();
        let isolation = session.isolation.map(|isolation| isolation.word().to_owned());
        for (key, value) in [
            ("time_zone", session.time_zone.clone()),
            ("sql_mode", session.sql_mode.clone()),
            ("isolation", isolation),
        ] {
            lines.extend(value.map(|value| (key, value, session_at)));
        }
        lines.extend(session.extra.iter().map(|statement| ("session extra", statement.clone(), session_at)));
        let entry = &member.entry;
        for (label, value) in &target.labels {
            let at = entry.labels.iter().find(|at| at.value == *label).map(|at| &at.at);
            lines.push(("label", format!("{label} = {value:?}"), at.map_or(Origin::Follows, Origin::At)));
        }
        lines.push(("paused", member.paused.to_string(), entry.paused.as_ref().into()));
        page.title(&format!("target {}", target.name), Some(&entry.name.at));
        page.lines(lines);
    }

    fn query(&self, page: &mut Page<'_>, query: &CheckedQuery) {
        page.title(&format!("query {}", query.name.value), Some(&query.name.at));
        let groups: Vec<_> =
            query.groups.iter().map(|group| self.parts.fleet.groups[*group].name.value.to_string()).collect();
        let mut lines = vec![("groups", groups.join(", "), Origin::Follows)];
        for (label, value) in &query.where_labels {
            lines.push(("where", format!("{} = {:?}", label.value, value.value), Origin::At(&label.at)));
        }
        lines.extend(query.targets.iter().map(|at| ("targets", at.value.clone(), Origin::At(&at.at))));
        if let Some(query) = &query.query {
            lines.push(("variants", query.variants.len().to_string(), Origin::Follows));
            lines.extend(
                query.metrics.iter().map(|metric| ("family", metric.family.name.clone(), Origin::Follows)),
            );
        }
        page.lines(lines);
    }

    fn item(&self, page: &mut Page<'_>, query: &CheckedQuery, member: &Member) {
        let paused = if member.paused { " (its target is paused)" } else { "" };
        page.title(&format!("item {}@{}{paused}", query.name.value, member.target.name), None);
        let layers = self.parts.layers(query, member).explain();
        page.lines(layers.into_iter().map(|(key, value, at)| (key, value, at.into())).collect());
    }
}

pub(super) fn reaches(parts: &Parts, query: &CheckedQuery, member: &Member) -> bool {
    parts.reach(query).any(|other| std::ptr::eq(other, member))
}

pub(super) fn find<'a, T>(
    what: &str,
    name: &str,
    all: impl Iterator<Item = (&'a str, T)> + Clone,
) -> Result<T, Unknown> {
    if let Some((_, found)) = all.clone().find(|(other, _)| *other == name) {
        return Ok(found);
    }
    let help = if let Some(near) = nearest(name, all.clone().map(|(name, _)| name)) {
        format!("did you mean `{near}`?")
    } else {
        let some: Vec<_> = all.map(|(name, _)| name).take(10).collect();
        format!("there are {}", some.join(", "))
    };
    Err(Unknown(format!("there is no {what} `{name}`; {help}")))
}

fn place<T>(setting: Option<&At<Option<T>>>) -> Option<&Place> {
    setting.map(|setting| &setting.at)
}

fn nearest_place<'a, T: 'a>(
    levels: &[&'a Access],
    pick: impl Fn(&'a Access) -> &'a Setting<T>,
) -> Option<&'a Place> {
    levels.iter().find_map(|level| place(pick(level).as_ref()))
}

/// What kind of source it is: neither a secret nor where it lies is shown.
fn password_source(password: Option<&At<Option<PasswordText>>>) -> String {
    let source = password.and_then(|at| at.value.as_ref());
    source.map_or_else(|| "none".to_owned(), |source| format!("*** ({})", source.kind()))
}

struct Page<'a> {
    sources: &'a Sources,
    text: String,
}

impl Page<'_> {
    fn title(&mut self, title: &str, at: Option<&Place>) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let at = at.map(|at| format!("  {}", self.sources.line(at))).unwrap_or_default();
        let _ = writeln!(self.text, "{title}{at}");
    }

    fn lines(&mut self, lines: Vec<Line<'_>>) {
        for (key, value, at) in lines {
            let at = match at {
                Origin::At(at) => self.sources.line(at),
                Origin::BuiltIn => "built in".to_owned(),
                Origin::Follows => String::new(),
            };
            let line = format!("  {key:<18}{value:<30}  {at}");
            let _ = writeln!(self.text, "{}", line.trim_end());
        }
    }
}
