//! What `[defaults]`, a group and a target have in common: the account, TLS, labels and the connections' settings.

use std::{collections::BTreeMap, fmt};

use fleet_collector::target::{Secret, SessionSettings, TlsMode};

use super::{
    field::{At, Entries, Field, List, Setting, Table, Wrong, good, list, read, read_with, table},
    names,
    pattern::Pattern,
    raw::{Labels, RawAccess, RawAccount, RawDefaultsFile, RawTls},
    report::{Findings, Place},
    session,
};

/// A label's name and value.
pub(super) type LabelPair = (At<String>, At<Pattern>);

/// These keys of one level, checked.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) user: Setting<String>,
    pub(super) password: Setting<PasswordText>,
    pub(super) tls: Setting<TlsText>,
    pub(super) max_connections: Setting<u16>,
    pub(super) labels: Vec<LabelPair>,
    pub(super) database: Setting<String>,
    pub(super) kill: Setting<bool>,
    pub(super) session: Setting<SessionSettings>,
}

/// Where a password comes from. Its `Debug` says the kind alone: a command's arguments may be secrets.
#[derive(Clone)]
pub(super) enum PasswordText {
    Inline(Secret),
    File(Pattern),
    Env(Pattern),
    Command(Vec<At<Pattern>>),
    DefaultsFile { path: Pattern, section: String },
}

impl PasswordText {
    /// What kind of source it is, as a person is told.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Inline(_) => "in the configuration",
            Self::File(_) => "from a file",
            Self::Env(_) => "from the environment",
            Self::Command(_) => "from a command",
            Self::DefaultsFile { .. } => "from a defaults file",
        }
    }
}

impl fmt::Debug for PasswordText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

#[derive(Debug, Clone)]
pub(super) struct TlsText {
    pub(super) mode: TlsMode,
    pub(super) ca: Option<At<Pattern>>,
    pub(super) identity: Option<(At<Pattern>, At<Pattern>)>,
}

impl Access {
    /// Checks the keys. `target_label` is taken by the target's name.
    pub(super) fn check(found: &mut Findings, raw: RawAccess, target_label: Option<&str>) -> Self {
        let RawAccess { account, max_connections, labels, kill, session } = raw;
        Self {
            max_connections: read_with(found, "max_connections", max_connections, |n| {
                u16::try_from(n).ok().filter(|n| (1..=100).contains(n)).ok_or_else(|| {
                    Wrong::new(format!("is {n}, which is out of bounds"), "write a number from 1 to 100")
                })
            }),
            labels: label_pairs(found, labels, target_label),
            kill: read(found, "kill", kill),
            session: session::check(found, session),
            ..Self::check_account(found, account)
        }
    }

    /// The same for who logs in alone.
    pub(super) fn check_account(found: &mut Findings, raw: RawAccount) -> Self {
        let RawAccount {
            user,
            password,
            password_file,
            password_env,
            password_command,
            defaults_file,
            tls,
            database,
        } = raw;
        let sources = [
            read_with(found, "password", password, |text| Ok(PasswordText::Inline(Secret::new(text)))),
            read_with(found, "password_file", password_file, |text| path(text).map(PasswordText::File)),
            read_with(found, "password_env", password_env, |text| path(text).map(PasswordText::Env)),
            command(found, password_command),
            defaults_file_text(found, defaults_file),
        ];
        Self {
            user: read_with(found, "user", user, not_empty),
            password: one_password(found, sources),
            tls: tls_text(found, tls),
            database: read_with(found, "database", database, not_empty),
            ..Self::default()
        }
    }

    /// Where a password stands in the file itself.
    pub(super) fn inline_password(&self) -> Option<Place> {
        let At { at, value } = self.password.as_ref()?;
        matches!(value, Some(PasswordText::Inline(_))).then(|| at.clone())
    }
}

/// The labels of all levels, the strongest given first.
pub(super) fn merged_labels(levels: &[&Access]) -> BTreeMap<String, LabelPair> {
    let pairs = levels.iter().rev().flat_map(|level| &level.labels);
    pairs.map(|pair| (pair.0.value.clone(), pair.clone())).collect()
}

fn one_password(found: &mut Findings, sources: [Setting<PasswordText>; 5]) -> Setting<PasswordText> {
    let mut written = sources.into_iter().flatten();
    let first = written.next()?;
    for other in written {
        found
            .error(&other.at, "an account has one password")
            .note(&first.at, "the other is here")
            .help("keep one of password, password_file, password_env, password_command and defaults_file");
    }
    Some(first)
}

fn path(text: String) -> Result<Pattern, Wrong> {
    Pattern::parse(&not_empty(text)?)
}

fn command(found: &mut Findings, command: Option<List<Field<String>>>) -> Setting<PasswordText> {
    let node = command?;
    let at = node.at.clone();
    let help = "write the program and its arguments, each in quotes: password_command = [\"prog\", \"arg\"]";
    let words = list(found, "password_command", Some(node), help);
    if words.as_ref().is_some_and(|words| words.value.is_empty()) {
        found.error(&at, "`password_command` is empty").help(help);
        return Some(At { at, value: None });
    }
    let words: Option<Vec<_>> = words.and_then(|words| {
        let checked: Vec<_> = words
            .value
            .into_iter()
            .map(|word| {
                let At { at, value } = word.check_in(found, "password_command")?;
                if let Ok(value) = Pattern::parse(&value) {
                    return Some(At { at, value });
                }
                refuse_braces(found, &at);
                None
            })
            .collect();
        checked.into_iter().collect()
    });
    Some(At { at, value: words.map(PasswordText::Command) })
}

/// The word may be a secret, so it is not repeated.
pub(super) fn refuse_braces(found: &mut Findings, word: &Place) {
    found
        .error(word, "a word of `password_command` has braces that mean nothing")
        .help("{target} and {group} are names; write {{ for a brace");
}

fn defaults_file_text(found: &mut Findings, file: Option<Table<RawDefaultsFile>>) -> Setting<PasswordText> {
    let node = file?;
    let at = node.at.clone();
    let help = "write defaults_file = { path = \"my.cnf\", section = \"client\" }";
    let value = table(found, "defaults_file", Some(node), help).and_then(|file| {
        let At { at, value: RawDefaultsFile { path: file, section } } = file;
        let file = read_with(found, "path", file, path);
        if file.is_none() && !found.was_meant(&at, &["path"]) {
            found.error(&at, "`defaults_file` has no `path`").help(help);
        }
        let section = read_with(found, "section", section, not_empty);
        let section = match section {
            None => "client".to_owned(),
            section => good(section)?.value,
        };
        Some(PasswordText::DefaultsFile { path: good(file)?.value, section })
    });
    Some(At { at, value })
}

fn tls_text(found: &mut Findings, tls: Option<Table<RawTls>>) -> Setting<TlsText> {
    let node = tls?;
    let node_at = node.at.clone();
    let checked =
        table(found, "tls", Some(node), "write tls = { mode = \"verify_identity\", ca = \"ca.pem\" }");
    let value = checked.and_then(|tls| tls_table(found, tls));
    Some(At { at: node_at, value })
}

fn tls_table(found: &mut Findings, tls: At<RawTls>) -> Option<TlsText> {
    let At { at, value: RawTls { mode, ca, cert, key } } = tls;
    let ca = read_with(found, "ca", ca, path);
    let cert = read_with(found, "cert", cert, path);
    let key = read_with(found, "key", key, path);
    let mode = read(found, "mode", mode);
    if mode.is_none() && !found.was_meant(&at, &["mode"]) {
        found
            .error(&at, "`tls` has no `mode`")
            .help("write mode = \"verify_identity\", or disabled, preferred, required, verify_ca");
    }
    for (one, other, missing) in [(&cert, &key, "key"), (&key, &cert, "cert")] {
        if let (Some(one), None) = (one, other)
            && !found.was_meant(&at, &["cert", "key"])
        {
            found
                .error(&one.at, format!("a client certificate needs its `{missing}` too"))
                .help("write cert = \"client.pem\", key = \"client.key\", both PEM files");
        }
    }
    let mode = good(mode)?.value;
    if let Some(ca) = &ca
        && !matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity)
    {
        found
            .warn(&ca.at, format!("nobody is asked for a certificate with mode \"{}\"", mode.as_str()))
            .help("write mode = \"verify_ca\" or \"verify_identity\", or leave ca away");
    }
    Some(TlsText { mode, ca: good(ca), identity: good(cert).zip(good(key)) })
}

fn label_pairs(found: &mut Findings, labels: Option<Labels>, target_label: Option<&str>) -> Vec<LabelPair> {
    let help = "labels of a group or target are pairs: labels = { env = \"prod\" }; \
                a list of columns belongs in a metric";
    let Some(At { value: Entries(labels), .. }) = table(found, "labels", labels, help) else {
        return Vec::new();
    };
    let mut checked = Vec::new();
    for (name, value) in labels {
        let value = read_with(found, &name.value, Some(value), |text| Pattern::parse(&text));
        if let Err(wrong) = names::label(&name.value) {
            found.error(&name.at, format!("`{}` {}", name.value, wrong.message)).help(wrong.help);
        } else if Some(name.value.as_str()) == target_label {
            found
                .error(&name.at, format!("`{}` is the label of the target's own name", name.value))
                .help("rename this label, or set another target_label in [defaults]");
        } else if let Some(value) = good(value) {
            checked.push((name, value));
        }
    }
    checked
}

/// A text that cannot be left empty.
pub(super) fn not_empty(text: String) -> Result<String, Wrong> {
    if text.is_empty() { Err(Wrong::new("is empty", "write it, or leave the key away")) } else { Ok(text) }
}
