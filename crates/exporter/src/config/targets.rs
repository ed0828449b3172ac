//! Groups and their targets: settings inherited, ranges made into single targets.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use fleet_collector::target::{Address, Target};

use super::{
    access::{Access, merged_labels, not_empty},
    account::{Account, Holes},
    address::host_and_port,
    field::{At, Entries, Node, Setting, Table, Wrong, good, read, read_with, table},
    names,
    option_files::OptionFiles,
    pattern::Pattern,
    raw::{self, RawGroup, RawOverride, RawTarget, RawTargetNode, RawTargets},
    report::{Findings, Place},
    secrets::Need,
    settings::Settings,
};

const DEFAULT_PORT: u16 = 3306;

/// Targets of a fleet. More would be a slip in a range: each has a state, and most have a connection.
const MAX_TARGETS: usize = 100_000;

/// Settings for single queries, by their names; their places are those of the names.
pub(super) type Overrides = BTreeMap<String, At<Settings>>;

/// A group as far as queries are concerned.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: At<Arc<str>>,
    pub(super) access: Arc<Access>,
    pub(super) settings: Settings,
    pub(super) overrides: Overrides,
}

/// What an entry of `targets` says, the same for each target that it stands for.
#[derive(Debug)]
pub(super) struct EntryLevel {
    pub(super) name: At<String>,
    pub(super) access: Access,
    pub(super) settings: Settings,
    pub(super) overrides: Overrides,
    pub(super) paused: Option<Place>,
    /// Where its labels were written, those of weaker levels included.
    pub(super) labels: Vec<At<String>>,
}

/// One target after its ranges are expanded.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) target: Arc<Target>,
    /// The index of its group.
    pub(super) group: usize,
    pub(super) paused: bool,
    pub(super) entry: Arc<EntryLevel>,
}

/// Everything that the groups hold.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub(super) groups: Vec<Group>,
    pub(super) members: Vec<Member>,
    pub(super) defaults: Arc<Access>,
    pub(super) needs: Vec<Need>,
    /// Where passwords stand in the file.
    pub(super) inline: Vec<Place>,
}

/// Checks all groups.
pub(super) fn check(
    found: &mut Findings,
    groups: Entries<Table<RawGroup>>,
    defaults: Access,
    target_label: Option<&str>,
) -> Fleet {
    let inline = defaults.inline_password().into_iter().collect();
    let fleet = Fleet { defaults: Arc::new(defaults), inline, ..Fleet::default() };
    let mut checker = Checker::new(found, target_label, fleet);
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
#[derive(Default)]
struct Entry {
    /// None if something in it was wrong.
    address: Option<AddressText>,
    /// Nothing says where it is, unless its defaults file does.
    no_address: bool,
    access: Access,
    settings: Settings,
    overrides: Overrides,
    paused: Setting<bool>,
}

pub(super) struct Checker<'a> {
    pub(super) found: &'a mut Findings,
    pub(super) target_label: Option<&'a str>,
    pub(super) fleet: Fleet,
    pub(super) option_files: OptionFiles,
    group_names: names::Seen,
    target_names: names::Seen,
    /// Templates already reported, so that a range of targets says it once.
    pub(super) wrong_templates: BTreeSet<usize>,
    /// Option files already reported.
    pub(super) wrong_files: BTreeSet<PathBuf>,
    /// Whether it was said that there are too many targets.
    too_many: bool,
}

impl<'a> Checker<'a> {
    /// One that adds to this fleet.
    pub(super) fn new(found: &'a mut Findings, target_label: Option<&'a str>, fleet: Fleet) -> Self {
        Self {
            found,
            target_label,
            fleet,
            option_files: OptionFiles::default(),
            group_names: names::Seen::default(),
            target_names: names::Seen::default(),
            wrong_templates: BTreeSet::new(),
            wrong_files: BTreeSet::new(),
            too_many: false,
        }
    }
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
        self.fleet.groups.push(Group {
            name: At { at: name.at.clone(), value: shared },
            access: Arc::default(),
            settings: Settings::default(),
            overrides: Overrides::new(),
        });
        let Some(At { at: table_at, value: group }) = group else { return };
        let RawGroup { access, settings, enabled, paused, targets, queries } = group;
        let access = Arc::new(Access::check(self.found, access, self.target_label));
        self.fleet.inline.extend(access.inline_password());
        let overrides = self.overrides(queries);
        let paused = read(self.found, "paused", paused);
        self.fleet.groups[index].access = Arc::clone(&access);
        self.fleet.groups[index].settings = Settings::check(self.found, settings, enabled);
        self.fleet.groups[index].overrides = overrides;
        let entries = self.entries(name, &table_at, targets);
        self.users(name, &table_at, &access, &entries);
        for (name, entry) in entries {
            self.entry(index, &access, paused.as_ref(), name, entry);
        }
    }

    fn overrides(&mut self, overrides: Option<raw::Overrides>) -> Overrides {
        let help = "write [groups.NAME.queries.QUERY], or queries = { QUERY = { interval = \"60s\" } }";
        let mut checked = Overrides::new();
        for (name, node) in table(self.found, "queries", overrides, help).map_or(Vec::new(), |o| o.value.0) {
            let Some(At { value, .. }) = table(self.found, &name.value, Some(node), help) else { continue };
            let RawOverride { settings, enabled } = value;
            let settings = Settings::check(self.found, settings, enabled);
            checked.insert(name.value, At { at: name.at, value: settings });
        }
        checked
    }

    /// A group without a user says so once, not for each of its targets.
    fn users(
        &mut self,
        group: &At<String>,
        table_at: &Place,
        access: &Access,
        entries: &[(At<String>, Entry)],
    ) {
        if self.found.was_meant(table_at, &["user"]) {
            return;
        }
        let defaults = Arc::clone(&self.fleet.defaults);
        let lacks = |entry: &Entry| Account::of([&entry.access, access, &defaults]).is_none();
        let Some((name, _)) = entries.iter().find(|(_, entry)| lacks(entry)) else { return };
        let message = format!("target `{}` has no `user`, and neither has its group", name.value);
        self.found
            .error(&name.at, message)
            .help(format!("write user = \"exporter\" in [groups.{}]", group.value));
    }

    fn entries(
        &mut self,
        group: &At<String>,
        table_at: &Place,
        targets: Option<RawTargets>,
    ) -> Vec<(At<String>, Entry)> {
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
        match targets.value {
            Node::Table(Entries(targets)) if !targets.is_empty() => {
                let named = targets.into_iter().map(|(name, node)| {
                    let entry = self.named(&name, node)?;
                    Some((name, entry))
                });
                named.flatten().collect()
            }
            Node::List(targets) if !targets.is_empty() => targets
                .into_iter()
                .filter_map(|name| {
                    let name = name.check_in(self.found, "targets")?;
                    let address =
                        self.address(Some(At { at: name.at.clone(), value: Some(name.value.clone()) }));
                    Some((name, Entry { address, ..Entry::default() }))
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
        }
    }

    /// None if it is no target of this name: `db1.example.net = …` was reported as what it is.
    fn named(&mut self, name: &At<String>, node: RawTargetNode) -> Option<Entry> {
        let At { at, value } = node;
        let target = match value {
            Node::Table(_) if self.found.was_meant(&at, &["the name"]) => return None,
            Node::Table(target) => target,
            Node::Text(text) => {
                let address = self.address(Some(At { at, value: Some(text) }));
                return Some(Entry { address, ..Entry::default() });
            }
            other => {
                let message =
                    format!("target `{}` takes an address or a table, not {}", name.value, other.kind());
                self.found
                    .error(&at, message)
                    .help("write \"10.0.0.11:3306\", or { address = \"10.0.0.11:3306\" }");
                return Some(Entry::default());
            }
        };
        let RawTarget { access, settings, address, socket, enabled, paused, queries } = target;
        let address = read(self.found, "address", address);
        let socket = read_with(self.found, "socket", socket, |text| Pattern::parse(&not_empty(text)?));
        let mut no_address = false;
        let address = match (address, socket) {
            (None, None) => {
                no_address = !self.found.was_meant(&at, &["address", "socket"]);
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
        let access = Access::check(self.found, access, self.target_label);
        self.fleet.inline.extend(access.inline_password());
        let settings = Settings::check(self.found, settings, enabled);
        let overrides = self.overrides(queries);
        let paused = read(self.found, "paused", paused);
        Some(Entry { address, no_address, access, settings, overrides, paused })
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
    fn entry(
        &mut self,
        group: usize,
        shared: &Access,
        group_paused: Option<&At<Option<bool>>>,
        name: At<String>,
        entry: Entry,
    ) {
        let Entry { address, no_address, access, settings, overrides, paused } = entry;
        let pattern = match Pattern::parse(&name.value) {
            Ok(pattern) => pattern,
            Err(wrong) => return self.wrong_name(&name.at, &wrong),
        };
        let address_counts = match &address {
            Some(text) => text.pattern().value.counts(),
            None => pattern.counts(),
        };
        let Some(count) = self.count(&name, &pattern, &address_counts, address.as_ref()) else { return };
        let defaults = Arc::clone(&self.fleet.defaults);
        let labels = merged_labels(&[&access, shared, &defaults]);
        let paused = paused.as_ref().or(group_paused).filter(|paused| paused.value == Some(true));
        let entry = Arc::new(EntryLevel {
            name,
            access,
            settings,
            overrides,
            paused: paused.map(|paused| paused.at.clone()),
            labels: labels.values().map(|(place, _)| place.clone()).collect(),
        });
        let name = &entry.name;
        if self.fleet.members.len() + count > MAX_TARGETS {
            if !std::mem::replace(&mut self.too_many, true) {
                self.found
                    .error(&name.at, format!("the fleet has more than {MAX_TARGETS} targets"))
                    .help("share them among several exporters");
            }
            return;
        }
        for step in 0..count {
            let written = address.as_ref().and_then(|address| self.address_at(address, step));
            let instance = match pattern.expand(step).and_then(|name| names::target(&name).map(|()| name)) {
                Ok(instance) => instance,
                Err(wrong) => return self.wrong_name(&name.at, &wrong),
            };
            if !self.target_names.add(self.found, "target", &instance, &name.at) {
                continue;
            }
            let holes = Holes::new(&instance, &self.fleet.groups[group].name.value, &pattern, step);
            let levels = [&entry.access, shared, &defaults];
            let n_needs = self.fleet.needs.len();
            let of = Arc::clone(&self.fleet.groups[group].name.value);
            let target = self.target(instance, written, no_address, &of, levels, &labels, &holes, &name.at);
            if entry.paused.is_some() {
                // Nobody connects, so nothing is needed.
                self.fleet.needs.truncate(n_needs);
            }
            if let Some(target) = target {
                self.fleet.members.push(Member {
                    target: Arc::new(target),
                    group,
                    paused: entry.paused.is_some(),
                    entry: Arc::clone(&entry),
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
                let path = text.value.expand(step);
                (text, path.map(|path| Address::Socket(self.found.sources.path(&text.at, &path))))
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
}

fn ranges(n: usize) -> String {
    match n {
        0 => "no range".to_owned(),
        1 => "one range".to_owned(),
        n => format!("{n} ranges"),
    }
}
