//! Groups and their targets: settings inherited, ranges made into single targets.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use fleet_collector::target::{Address, Password, Target, Tls, TlsMode};

use super::{
    access::{Access, LabelPair, PasswordText, RawAccess, TlsText, not_empty},
    address::host_and_port,
    field::{At, Entries, Node, Setting, Table, Wrong, good, read, read_with, table},
    names,
    pattern::Pattern,
    raw::{RawGroup, RawTarget, RawTargetNode, RawTargets},
    report::{Findings, Place},
    secrets::{Need, Needed},
    timing::Timing,
};

const DEFAULT_PORT: u16 = 3306;
const DEFAULT_CONNECTIONS: u16 = 3;

/// A group as far as queries are concerned.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: At<Arc<str>>,
    pub(super) timing: Timing,
}

/// One target after its ranges are expanded.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) target: Arc<Target>,
    /// The index of its group.
    pub(super) group: usize,
    pub(super) timing: Rc<Timing>,
    /// Where its labels were written; the same for each target of a range.
    pub(super) labels: Rc<Vec<At<String>>>,
}

/// Everything that the groups hold.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub(super) groups: Vec<Group>,
    pub(super) members: Vec<Member>,
    pub(super) needs: Vec<Need>,
    /// Where passwords stand in the file.
    pub(super) inline: Vec<Place>,
}

/// What holds for all groups.
#[derive(Debug)]
pub(super) struct Common<'a> {
    /// What relative paths are relative to.
    pub(super) folder: &'a Path,
    pub(super) target_label: Option<&'a str>,
    pub(super) database: Option<&'a str>,
}

/// Checks all groups.
pub(super) fn check(found: &mut Findings, groups: Entries<Table<RawGroup>>, common: &Common<'_>) -> Fleet {
    let mut checker = Checker {
        found,
        common,
        fleet: Fleet::default(),
        group_names: names::Seen::default(),
        target_names: names::Seen::default(),
        wrong_templates: BTreeSet::new(),
    };
    for (name, node) in groups.0 {
        checker.group(&name, node);
    }
    checker.fleet
}

/// Where a target listens, its ranges not yet expanded.
#[derive(Debug)]
enum AddressText {
    Tcp(At<Pattern>),
    Socket(At<Pattern>),
}

impl AddressText {
    fn pattern(&self) -> &At<Pattern> {
        let (Self::Tcp(text) | Self::Socket(text)) = self;
        text
    }
}

/// An entry of `targets`, which may stand for many targets.
struct Entry {
    name: At<String>,
    address: Option<AddressText>,
    access: Access,
    timing: Timing,
}

struct Checker<'a> {
    found: &'a mut Findings,
    common: &'a Common<'a>,
    fleet: Fleet,
    group_names: names::Seen,
    target_names: names::Seen,
    /// Templates already reported, so that a range of targets says it once.
    wrong_templates: BTreeSet<usize>,
}

impl Checker<'_> {
    fn group(&mut self, name: &At<String>, node: Table<RawGroup>) {
        if let Err(wrong) = names::plain(&name.value) {
            self.found.error(&name.at, format!("{:?} {}", name.value, wrong.message)).help(wrong.help);
        } else {
            self.group_names.add(self.found, "group", &name.value, &name.at);
        }
        let key = format!("groups.{}", name.value);
        let group = table(self.found, &key, Some(node), "write [groups.NAME] and its keys below");
        // A query may name the group, whatever is wrong inside.
        let index = self.fleet.groups.len();
        let shared: Arc<str> = name.value.as_str().into();
        self.fleet
            .groups
            .push(Group { name: At { at: name.at.clone(), value: shared }, timing: Timing::default() });
        let Some(At { at: table_at, value: group }) = group else { return };
        let RawGroup {
            user,
            password,
            password_file,
            password_env,
            tls,
            max_connections,
            labels,
            database,
            kill,
            interval,
            timeout,
            expire_after,
            on_failure,
            targets,
        } = group;
        let raw = RawAccess {
            user,
            password,
            password_file,
            password_env,
            tls,
            max_connections,
            labels,
            database,
            kill,
        };
        let access = Access::check(self.found, raw, self.common.target_label);
        self.fleet.inline.extend(access.inline_password());
        self.fleet.groups[index].timing =
            Timing::check(self.found, interval, timeout, expire_after, on_failure);
        let entries = self.entries(name, &table_at, targets);
        self.users(name, &table_at, &access, &entries);
        for entry in entries {
            self.entry(index, &access, entry);
        }
    }

    /// A group without a user says so once, not for each of its targets.
    fn users(&mut self, group: &At<String>, table_at: &Place, access: &Access, entries: &[Entry]) {
        if access.user.is_some() || self.found.was_meant(table_at, &["user"]) {
            return;
        }
        let Some(entry) = entries.iter().find(|entry| entry.access.user.is_none()) else { return };
        let message = format!("target `{}` has no `user`, and neither has its group", entry.name.value);
        self.found
            .error(&entry.name.at, message)
            .help(format!("write user = \"exporter\" in [groups.{}]", group.value));
    }

    fn entries(&mut self, group: &At<String>, table_at: &Place, targets: Option<RawTargets>) -> Vec<Entry> {
        let help = format!(
            "write [groups.{0}.targets] with lines such as db1 = \"10.0.0.11:3306\", or targets = [\"10.0.0.11\"]",
            group.value
        );
        let Some(targets) = targets else {
            if !self.found.was_meant(table_at, &["targets"]) {
                self.found.error(&group.at, format!("group `{}` has no targets", group.value)).help(help);
            }
            return Vec::new();
        };
        let entries: Vec<_> = match targets.value {
            Node::Table(Entries(targets)) if !targets.is_empty() => {
                targets.into_iter().map(|(name, node)| self.named(name, node)).collect()
            }
            Node::List(targets) if !targets.is_empty() => targets
                .into_iter()
                .filter_map(|name| {
                    let name = name.check_in(self.found, "targets")?;
                    let address =
                        self.address(Some(At { at: name.at.clone(), value: Some(name.value.clone()) }));
                    Some(Entry { address, ..self.bare(name) })
                })
                .collect(),
            Node::Table(_) | Node::List(_) => {
                self.found.error(&group.at, format!("group `{}` has no targets", group.value)).help(help);
                Vec::new()
            }
            Node::Text(_) | Node::Other(_) => {
                let message = format!("`targets` takes a table or an array, not {}", targets.value.kind());
                self.found.error(&targets.at, message).help(help);
                Vec::new()
            }
        };
        entries
    }

    /// A target without anything of its own.
    fn bare(&mut self, name: At<String>) -> Entry {
        let access = Access::check(self.found, RawAccess::default(), None);
        Entry { name, address: None, access, timing: Timing::default() }
    }

    fn named(&mut self, name: At<String>, node: RawTargetNode) -> Entry {
        let At { at, value } = node;
        let target = match value {
            Node::Table(target) => target,
            Node::Text(text) => {
                let address = self.address(Some(At { at, value: Some(text) }));
                return Entry { address, ..self.bare(name) };
            }
            other => {
                let message =
                    format!("target `{}` takes an address or a table, not {}", name.value, other.kind());
                self.found
                    .error(&at, message)
                    .help("write \"10.0.0.11:3306\", or { address = \"10.0.0.11:3306\" }");
                return self.bare(name);
            }
        };
        let RawTarget {
            address,
            socket,
            user,
            password,
            password_file,
            password_env,
            tls,
            max_connections,
            labels,
            database,
            kill,
            interval,
            timeout,
            expire_after,
            on_failure,
        } = target;
        let raw = RawAccess {
            user,
            password,
            password_file,
            password_env,
            tls,
            max_connections,
            labels,
            database,
            kill,
        };
        let address = read(self.found, "address", address);
        let socket = read_with(self.found, "socket", socket, |text| Pattern::parse(&not_empty(text)?));
        let address = match (address, socket) {
            (None, None) => {
                if !self.found.was_meant(&at, &["address", "socket"]) {
                    self.found
                        .error(
                            &name.at,
                            format!("target `{}` has neither `address` nor `socket`", name.value),
                        )
                        .help("write address = \"10.0.0.11:3306\" or socket = \"/run/mysqld/mysqld.sock\"");
                }
                None
            }
            (Some(address), Some(socket)) => {
                self.found
                    .error(&socket.at, format!("target `{}` has an `address` and a `socket`", name.value))
                    .note(&address.at, "the address is here")
                    .help("keep one of the two");
                None
            }
            (Some(address), None) => self.address(Some(address)),
            (None, socket) => good(socket).map(AddressText::Socket),
        };
        let access = Access::check(self.found, raw, self.common.target_label);
        self.fleet.inline.extend(access.inline_password());
        let timing = Timing::check(self.found, interval, timeout, expire_after, on_failure);
        Entry { name, address, access, timing }
    }

    fn address(&mut self, address: Setting<String>) -> Option<AddressText> {
        let At { at, value } = good(address)?;
        match Pattern::parse(&value) {
            Ok(value) => Some(AddressText::Tcp(At { at, value })),
            Err(wrong) => {
                self.found.error(&at, format!("the address {}", wrong.message)).help(wrong.help);
                None
            }
        }
    }

    /// Makes the targets of an entry.
    fn entry(&mut self, group: usize, shared: &Access, entry: Entry) {
        let Entry { name, address, access, timing } = entry;
        let pattern = match Pattern::parse(&name.value) {
            Ok(pattern) => pattern,
            Err(wrong) => return self.wrong_name(&name.at, &wrong),
        };
        let address_counts = match &address {
            Some(text) => text.pattern().value.counts(),
            None => pattern.counts(),
        };
        let Some(count) = self.count(&name, &pattern, &address_counts, address.as_ref()) else { return };
        let labels = access.labels_over(shared);
        let label_places = Rc::new(labels.iter().map(|(_, (place, _))| place.clone()).collect::<Vec<_>>());
        let timing = Rc::new(timing);
        for step in 0..count {
            let address = address.as_ref().and_then(|address| self.address_at(address, step));
            let instance = match pattern.expand(step).and_then(|name| names::target(&name).map(|()| name)) {
                Ok(instance) => instance,
                Err(wrong) => return self.wrong_name(&name.at, &wrong),
            };
            if !self.target_names.add(self.found, "target", &instance, &name.at) {
                continue;
            }
            let Some(address) = address else { continue };
            let holes = Holes::new(&instance, &self.fleet.groups[group].name.value, &pattern, step);
            if let Some(target) = self.target(instance, address, group, shared, &access, &labels, &holes) {
                self.fleet.members.push(Member {
                    target: Arc::new(target),
                    group,
                    timing: Rc::clone(&timing),
                    labels: Rc::clone(&label_places),
                });
            }
        }
    }

    /// How many targets an entry stands for.
    fn count(
        &mut self,
        name: &At<String>,
        pattern: &Pattern,
        address: &[usize],
        text: Option<&AddressText>,
    ) -> Option<usize> {
        let counts = pattern.counts();
        let at = text.map_or(&name.at, |text| &text.pattern().at);
        if counts.len() != address.len() {
            self.found
                .error(
                    at,
                    format!(
                        "the name has {} and the address {}",
                        ranges(counts.len()),
                        ranges(address.len())
                    ),
                )
                .help("ranges are zipped: the name and the address have as many of them, of equal length");
            return None;
        }
        let all = || counts.iter().chain(address);
        let count = all().next().copied().unwrap_or(1);
        if let Some(other) = all().find(|other| **other != count) {
            self.found
                .error(at, format!("the ranges are not of equal length: {count} values and {other} values"))
                .help("ranges are zipped, not crossed: the first value of each, then the second, and so on");
            return None;
        }
        Some(count)
    }

    fn address_at(&mut self, address: &AddressText, step: usize) -> Option<Address> {
        let (text, result) = match address {
            AddressText::Socket(text) => {
                (text, text.value.expand(step).map(|path| Address::Socket(self.common.folder.join(path))))
            }
            AddressText::Tcp(text) => (
                text,
                text.value.expand(step).and_then(|address| {
                    host_and_port(&address, Some(DEFAULT_PORT))
                        .map(|(host, port)| Address::Tcp { host, port })
                }),
            ),
        };
        match result {
            Ok(address) => Some(address),
            Err(wrong) => {
                if self.wrong_templates.insert(text.at.start) {
                    self.found.error(&text.at, format!("the address {}", wrong.message)).help(wrong.help);
                }
                None
            }
        }
    }

    /// In a list the name is the address, which may have said it already. The name itself is not repeated: it may
    /// be an address with a login.
    fn wrong_name(&mut self, at: &Place, wrong: &Wrong) {
        if !self.found.has_error_at(at) {
            self.found.error(at, format!("the target's name {}", wrong.message)).help(&wrong.help);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where a target's parts meet")]
    fn target(
        &mut self,
        name: String,
        address: Address,
        group: usize,
        shared: &Access,
        own: &Access,
        labels: &BTreeMap<String, LabelPair>,
        holes: &Holes,
    ) -> Option<Target> {
        let socket = matches!(address, Address::Socket(_));
        let user = own.user.as_ref().or(shared.user.as_ref()).and_then(|user| user.value.clone());
        // A group's TLS is for the network: a socket never leaves the machine.
        let tls = own.tls.as_ref().or(shared.tls.as_ref().filter(|_| !socket));
        let default_mode = if socket { TlsMode::Disabled } else { TlsMode::Preferred };
        let mut target_labels: BTreeMap<String, String> = BTreeMap::new();
        target_labels.extend(self.common.target_label.map(|label| (label.to_owned(), name.clone())));
        for (label, (_, value)) in labels {
            let value = self.fill(value, label, &holes.ranges);
            target_labels.insert(label.clone(), value.unwrap_or_default());
        }
        let password = match own.password.as_ref().or(shared.password.as_ref()) {
            None => Some(Password::None),
            Some(At { at, value }) => self.password_of(at, value.as_ref(), holes),
        };
        let tls = match tls {
            None => Some(Tls { mode: default_mode, ca: None, identity: None }),
            Some(tls) => self.tls_of(tls.value.as_ref(), holes),
        };
        let database =
            own.database.as_ref().or(shared.database.as_ref()).map(|database| database.value.clone());
        Some(Target {
            name: name.into(),
            group: Arc::clone(&self.fleet.groups[group].name.value),
            address,
            user: user?,
            password: password?,
            database: database.flatten().or_else(|| self.common.database.map(str::to_owned)),
            tls: tls?,
            labels: target_labels.into_iter().collect(),
            max_connections: own
                .max_connections
                .as_ref()
                .or(shared.max_connections.as_ref())
                .and_then(|n| n.value)
                .unwrap_or(DEFAULT_CONNECTIONS),
            kill: own.kill.as_ref().or(shared.kill.as_ref()).and_then(|kill| kill.value).unwrap_or(true),
        })
    }

    fn password_of(&mut self, at: &Place, text: Option<&PasswordText>, holes: &Holes) -> Option<Password> {
        Some(match text? {
            PasswordText::Inline(secret) => Password::Inline(secret.clone()),
            PasswordText::File(file) => {
                let file = At { at: at.clone(), value: file.clone() };
                Password::File(self.file(&file, "password_file", Needed::Password, holes)?)
            }
            PasswordText::Env(name) => {
                let name =
                    self.fill(&At { at: at.clone(), value: name.clone() }, "password_env", &holes.all)?;
                self.fleet.needs.push(Need { at: at.clone(), what: Needed::Variable(name.clone()) });
                Password::Env(name)
            }
        })
    }

    fn tls_of(&mut self, text: Option<&TlsText>, holes: &Holes) -> Option<Tls> {
        let TlsText { mode, ca, identity } = text?;
        let ca = match ca {
            Some(ca) => Some(self.file(ca, "ca", Needed::Ca, holes)?),
            None => None,
        };
        let identity = match identity {
            Some((cert, key)) => Some((
                self.file(cert, "cert", Needed::Certificate, holes)?,
                self.file(key, "key", Needed::Key, holes)?,
            )),
            None => None,
        };
        Some(Tls { mode: *mode, ca, identity })
    }

    fn file(
        &mut self,
        text: &At<Pattern>,
        key: &str,
        what: fn(PathBuf) -> Needed,
        holes: &Holes,
    ) -> Option<PathBuf> {
        let path = self.common.folder.join(self.fill(text, key, &holes.all)?);
        self.fleet.needs.push(Need { at: text.at.clone(), what: what(path.clone()) });
        Some(path)
    }

    fn fill(&mut self, text: &At<Pattern>, key: &str, holes: &BTreeMap<String, String>) -> Option<String> {
        match text.value.fill(holes) {
            Ok(filled) => Some(filled),
            Err(wrong) => {
                if self.wrong_templates.insert(text.at.start) {
                    self.found.error(&text.at, format!("`{key}` {}", wrong.message)).help(wrong.help);
                }
                None
            }
        }
    }
}

/// What the placeholders of one target stand for.
struct Holes {
    /// `{1}`, `{2}` and so on.
    ranges: BTreeMap<String, String>,
    /// Those, `{target}` and `{group}`.
    all: BTreeMap<String, String>,
}

impl Holes {
    fn new(target: &str, group: &str, pattern: &Pattern, step: usize) -> Self {
        let ranges: BTreeMap<_, _> =
            pattern.values(step).enumerate().map(|(i, value)| ((i + 1).to_string(), value)).collect();
        let names = [("target", target), ("group", group)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let all = ranges.clone().into_iter().chain(names).collect();
        Self { ranges, all }
    }
}

fn ranges(n: usize) -> String {
    match n {
        0 => "no range".to_owned(),
        1 => "one range".to_owned(),
        n => format!("{n} ranges"),
    }
}
