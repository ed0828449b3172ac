//! What a group and a target have in common: the account, TLS, labels and the connections' settings.

use std::collections::BTreeMap;

use fleet_collector::target::{Secret, TlsMode};

use super::{
    field::{At, Entries, Field, Setting, Table, Wrong, good, read, read_with, table},
    names,
    pattern::Pattern,
    raw::{Labels, RawTls},
    report::{Findings, Place},
};

/// A label's name and value.
pub(super) type LabelPair = (At<String>, At<Pattern>);

/// The keys that a group and a target share, checked.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) user: Setting<String>,
    pub(super) password: Setting<PasswordText>,
    pub(super) tls: Setting<TlsText>,
    pub(super) max_connections: Setting<u16>,
    pub(super) labels: Vec<LabelPair>,
    pub(super) database: Setting<String>,
    pub(super) kill: Setting<bool>,
}

/// The keys that a group and a target share, as written.
#[derive(Default)]
pub(super) struct RawAccess {
    pub(super) user: Option<Field<String>>,
    pub(super) password: Option<Field<String>>,
    pub(super) password_file: Option<Field<String>>,
    pub(super) password_env: Option<Field<String>>,
    pub(super) tls: Option<Table<RawTls>>,
    pub(super) max_connections: Option<Field<usize>>,
    pub(super) labels: Option<Labels>,
    pub(super) database: Option<Field<String>>,
    pub(super) kill: Option<Field<bool>>,
}

#[derive(Debug, Clone)]
pub(super) enum PasswordText {
    Inline(Secret),
    File(Pattern),
    Env(Pattern),
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
        let RawAccess {
            user,
            password,
            password_file,
            password_env,
            tls,
            max_connections,
            labels,
            database,
            kill,
        } = raw;
        Self {
            user: read_with(found, "user", user, not_empty),
            password: password_text(found, password, password_file, password_env),
            tls: tls_text(found, tls),
            max_connections: read_with(found, "max_connections", max_connections, |n| {
                u16::try_from(n).ok().filter(|n| (1..=100).contains(n)).ok_or_else(|| {
                    Wrong::new(format!("is {n}, which is out of bounds"), "write a number from 1 to 100")
                })
            }),
            labels: label_pairs(found, labels, target_label),
            database: read_with(found, "database", database, not_empty),
            kill: read(found, "kill", kill),
        }
    }

    /// Where a password stands in the file itself.
    pub(super) fn inline_password(&self) -> Option<Place> {
        let At { at, value } = self.password.as_ref()?;
        matches!(value, Some(PasswordText::Inline(_))).then(|| at.clone())
    }

    /// A target's labels over those of its group.
    pub(super) fn labels_over(&self, shared: &Self) -> BTreeMap<String, LabelPair> {
        shared.labels.iter().chain(&self.labels).map(|pair| (pair.0.value.clone(), pair.clone())).collect()
    }
}

fn password_text(
    found: &mut Findings,
    inline: Option<Field<String>>,
    file: Option<Field<String>>,
    env: Option<Field<String>>,
) -> Setting<PasswordText> {
    let inline = read_with(found, "password", inline, |text| Ok(PasswordText::Inline(Secret::new(text))));
    let file = read_with(found, "password_file", file, |text| {
        Pattern::parse(&not_empty(text)?).map(PasswordText::File)
    });
    let env = read_with(found, "password_env", env, |text| {
        Pattern::parse(&not_empty(text)?).map(PasswordText::Env)
    });
    let mut written = [inline, file, env].into_iter().flatten();
    let first = written.next()?;
    for other in written {
        found
            .error(&other.at, "an account has one password")
            .note(&first.at, "the other is here")
            .help("keep one of password, password_file and password_env");
    }
    Some(first)
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
    let path = |text: String| Pattern::parse(&not_empty(text)?);
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
