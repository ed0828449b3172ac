//! What one target gets out of three levels: who logs in and with what, TLS, labels and the connections' settings.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use fleet_collector::target::{Address, Password, Target, Tls, TlsMode};

use super::{
    access::{Access, LabelPair, PasswordText, TlsText, refuse_braces},
    field::{At, Setting},
    option_files::{self, Section},
    pattern::Pattern,
    report::Place,
    secrets::{Need, Needed},
    targets::Checker,
};

const DEFAULT_CONNECTIONS: u16 = 3;

impl Checker<'_> {
    #[expect(clippy::too_many_arguments, reason = "the one place where a target's parts meet")]
    pub(super) fn target(
        &mut self,
        name: String,
        address: Option<Address>,
        no_address: bool,
        group: &Arc<str>,
        levels: [&Access; 3],
        labels: &BTreeMap<String, LabelPair>,
        holes: &Holes,
        at: &Place,
    ) -> Option<Target> {
        let mut target_labels: BTreeMap<String, String> = BTreeMap::new();
        target_labels.extend(self.target_label.map(|label| (label.to_owned(), name.clone())));
        for (label, (_, value)) in labels {
            let value = self.fill(value, label, &holes.ranges);
            target_labels.insert(label.clone(), value.unwrap_or_default());
        }
        let account = Account::of(levels);
        let (password, section) = match account.as_ref().and_then(|account| account.password) {
            None => (Some(Password::None), None),
            Some((_, At { at, value })) => self.password_of(at, value.as_ref(), holes),
        };
        let address = match (&section, address) {
            (Some(section), None) if no_address => self.address_in(section, at),
            (_, address) => address,
        };
        if no_address && address.is_none() {
            if !self.found.has_error_at(at) && password.is_some() {
                self.found
                    .error(at, format!("target `{name}` has neither `address` nor `socket`"))
                    .help("write address = \"10.0.0.11:3306\" or socket = \"/run/mysqld/mysqld.sock\"");
            }
            return None;
        }
        let address = address?;
        let socket = matches!(address, Address::Socket(_));
        let default_mode = if socket { TlsMode::Disabled } else { TlsMode::Preferred };
        // TLS of a group is for the network: a socket never leaves the machine.
        let tls_levels = if socket { &levels[..1] } else { &levels[..] };
        let tls_at = tls_levels.iter().position(|level| level.tls.is_some());
        let file_level = account.as_ref().and_then(|account| account.password).map(|(level, _)| level);
        let tls = match (&section, tls_at) {
            (Some(section), tls) if !socket && tls.is_none_or(|tls| Some(tls) > file_level) => {
                let written = tls.and_then(|n| levels[n].tls.as_ref());
                self.tls_in(section, written.map(|tls| &tls.value), default_mode, holes)
            }
            (_, Some(n)) => self.tls_of(levels[n].tls.as_ref().and_then(|tls| tls.value.as_ref()), holes),
            (_, None) => Some(Tls { mode: default_mode, ca: None, identity: None }),
        };
        let user = match account?.user {
            Some(user) => Some(user.value.clone()?),
            None => None,
        };
        Some(Target {
            name: name.into(),
            group: Arc::clone(group),
            address,
            user,
            password: password?,
            database: nearest(levels, |level| &level.database).and_then(|at| at.value.clone()),
            tls: tls?,
            labels: target_labels.into_iter().collect(),
            max_connections: nearest(levels, |level| &level.max_connections)
                .and_then(|n| n.value)
                .unwrap_or(DEFAULT_CONNECTIONS),
            kill: nearest(levels, |level| &level.kill).and_then(|kill| kill.value).unwrap_or(true),
            session: nearest(levels, |level| &level.session)
                .and_then(|session| session.value.clone())
                .unwrap_or_default(),
        })
    }

    /// The password, and the option file's section if it comes from one.
    fn password_of(
        &mut self,
        at: &Place,
        text: Option<&PasswordText>,
        holes: &Holes,
    ) -> (Option<Password>, Option<Opened>) {
        let Some(text) = text else { return (None, None) };
        let password = match text {
            PasswordText::Inline(secret) => Some(Password::Inline(secret.clone())),
            PasswordText::File(file) => {
                let file = At { at: at.clone(), value: file.clone() };
                self.file(&file, "password_file", Needed::Password, holes).map(Password::File)
            }
            PasswordText::Env(name) => {
                let name = self.fill(&At { at: at.clone(), value: name.clone() }, "password_env", &holes.all);
                name.map(|name| {
                    self.fleet.needs.push(Need { at: at.clone(), what: Needed::Variable(name.clone()) });
                    Password::Env(name)
                })
            }
            PasswordText::Command(words) => self.command(at, words, holes),
            PasswordText::DefaultsFile { path, section } => {
                let file = At { at: at.clone(), value: path.clone() };
                let Some(path) = self.file(&file, "defaults_file", Needed::DefaultsFile, holes) else {
                    return (None, None);
                };
                match self.option_files.section(&path, section) {
                    Ok(read) => {
                        let password =
                            Password::DefaultsFile { path: path.clone(), section: section.clone() };
                        return (Some(password), Some(Opened { at: at.clone(), path, section: read }));
                    }
                    Err(wrong) => {
                        if self.wrong_templates.insert(at.start) {
                            self.found
                                .error(at, format!("`defaults_file` {}", wrong.message))
                                .help(wrong.help);
                        }
                        None
                    }
                }
            }
        };
        (password, None)
    }

    /// A program that is a path is one of the file that names it, like every other path.
    fn command(&mut self, at: &Place, words: &[At<Pattern>], holes: &Holes) -> Option<Password> {
        let mut filled = Vec::with_capacity(words.len());
        for word in words {
            let Ok(word_filled) = word.value.fill(&holes.all) else {
                if self.wrong_templates.insert(word.at.start) {
                    refuse_braces(self.found, &word.at);
                }
                return None;
            };
            filled.push(word_filled);
        }
        let program = filled.first_mut()?;
        if program.contains('/') {
            *program = self.found.sources.path(at, program).display().to_string();
        }
        self.fleet.needs.push(Need { at: at.clone(), what: Needed::Program(program.clone()) });
        Some(Password::Command(filled))
    }

    /// Where an option file says that the server is.
    fn address_in(&mut self, file: &Opened, at: &Place) -> Option<Address> {
        let Opened { path, section, .. } = file;
        let (message, help) = match section {
            Section::Unreadable(error) => (
                format!("the target has no address, and {} cannot be read: {error}", path.display()),
                "write address = \"10.0.0.11:3306\", or make the defaults file readable".to_owned(),
            ),
            Section::Read(options) => match option_files::address(options, path.parent().unwrap_or(path)) {
                Some(Ok(address)) => return Some(address),
                Some(Err(wrong)) => (format!("{} {}", path.display(), wrong.message), wrong.help),
                None => (
                    format!("the target has no address, and {} no host or socket", path.display()),
                    "write address = \"10.0.0.11:3306\", or host in the defaults file".to_owned(),
                ),
            },
        };
        self.found.error(at, message).help(help);
        None
    }

    /// What an option file asks of TLS; where it says nothing, what a weaker level does.
    fn tls_in(
        &mut self,
        file: &Opened,
        written: Option<&Option<TlsText>>,
        default_mode: TlsMode,
        holes: &Holes,
    ) -> Option<Tls> {
        let Opened { at: file_at, path, section } = file;
        let asked = match section {
            // What it would ask for is not known, so the password goes to nobody who cannot prove who it is.
            Section::Unreadable(_) => {
                let written = match written {
                    Some(written) => self.tls_of(written.as_ref(), holes)?,
                    None => Tls { mode: default_mode, ca: None, identity: None },
                };
                return Some(Tls { mode: TlsMode::VerifyIdentity, ..written });
            }
            Section::Read(options) => option_files::tls(options, path.parent().unwrap_or(path)),
        };
        match (asked, written) {
            (Some(Ok(tls)), _) => {
                self.need_certificates(file_at, &tls);
                Some(tls)
            }
            (Some(Err(wrong)), _) => {
                // One message for each file, wherever it is used first.
                if self.wrong_files.insert(path.clone()) {
                    self.found
                        .error(file_at, format!("{} {}", path.display(), wrong.message))
                        .help(wrong.help);
                }
                None
            }
            (None, Some(written)) => self.tls_of(written.as_ref(), holes),
            (None, None) => Some(Tls { mode: default_mode, ca: None, identity: None }),
        }
    }

    /// The files of certificates that an option file names.
    fn need_certificates(&mut self, at: &Place, tls: &Tls) {
        let identity = tls.identity.as_ref().map(|(cert, key)| {
            let pair = Needed::Pair(cert.clone(), key.clone());
            [Needed::Certificate(cert.clone()), Needed::Key(key.clone()), pair]
        });
        let needed = tls.ca.iter().cloned().map(Needed::Ca).chain(identity.into_iter().flatten());
        self.fleet.needs.extend(needed.map(|what| Need { at: at.clone(), what }));
    }

    fn tls_of(&mut self, text: Option<&TlsText>, holes: &Holes) -> Option<Tls> {
        let TlsText { mode, ca, identity } = text?;
        let ca = match ca {
            Some(ca) => Some(self.file(ca, "ca", Needed::Ca, holes)?),
            None => None,
        };
        let identity = match identity {
            Some((cert, key)) => {
                let at = key.at.clone();
                let cert = self.file(cert, "cert", Needed::Certificate, holes)?;
                let key = self.file(key, "key", Needed::Key, holes)?;
                self.fleet.needs.push(Need { at, what: Needed::Pair(cert.clone(), key.clone()) });
                Some((cert, key))
            }
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
        let filled = self.fill(text, key, &holes.all)?;
        let path = self.found.sources.path(&text.at, &filled);
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

/// An option file, where the configuration names it, and what was read from it.
struct Opened {
    at: Place,
    path: PathBuf,
    section: Section,
}

/// The nearest level that says something.
fn nearest<'a, T>(
    levels: [&'a Access; 3],
    pick: impl Fn(&'a Access) -> &'a Setting<T>,
) -> Option<&'a At<Option<T>>> {
    levels.into_iter().find_map(|level| pick(level).as_ref())
}

/// Who logs in.
pub(super) struct Account<'a> {
    /// None: the option file says it.
    pub(super) user: Option<&'a At<Option<String>>>,
    /// The level it was written at, 0 for the nearest, and what was written.
    pub(super) password: Option<(usize, &'a At<Option<PasswordText>>)>,
}

impl<'a> Account<'a> {
    /// The nearest user and password. An option file may name the user too, so one written farther away than the file
    /// does not count. None: there is no user.
    pub(super) fn of(levels: [&'a Access; 3]) -> Option<Self> {
        let password = levels.iter().enumerate().find_map(|(n, level)| Some((n, level.password.as_ref()?)));
        let file = password.filter(|(_, at)| matches!(at.value, Some(PasswordText::DefaultsFile { .. })));
        let users = file.map_or(levels.len(), |(level, _)| level + 1);
        let user = levels.iter().take(users).find_map(|level| level.user.as_ref());
        // One that is wrong may have been meant to be a file, and was reported.
        let wrong = password.is_some_and(|(_, at)| at.value.is_none());
        (user.is_some() || file.is_some() || wrong).then_some(Self { user, password })
    }
}

/// What the placeholders of one target stand for.
pub(super) struct Holes {
    /// `{1}`, `{2}` and so on.
    ranges: BTreeMap<String, String>,
    /// Those, `{target}` and `{group}`.
    all: BTreeMap<String, String>,
}

impl Holes {
    /// Of something that is no target: there is nothing to stand for.
    pub(super) fn none() -> Self {
        Self { ranges: BTreeMap::new(), all: BTreeMap::new() }
    }

    pub(super) fn new(target: &str, group: &str, pattern: &Pattern, step: usize) -> Self {
        let ranges: BTreeMap<_, _> =
            pattern.values(step).enumerate().map(|(i, value)| ((i + 1).to_string(), value)).collect();
        let names = [("target", target), ("group", group)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let all = ranges.clone().into_iter().chain(names).collect();
        Self { ranges, all }
    }
}
