//! Secrets and certificates outside the configuration: which are needed, and which cannot be read now.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use fleet_collector::certificates::{self, Unfit};

use super::{
    Config,
    report::{Findings, Place, Report},
};

/// Something outside the file that a target needs, and the setting that asks for it.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub(super) at: Place,
    pub(super) what: Needed,
}

/// What is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Needed {
    Password(PathBuf),
    Ca(PathBuf),
    Certificate(PathBuf),
    Key(PathBuf),
    /// A certificate and the key that has to be its own.
    Pair(PathBuf, PathBuf),
    Variable(String),
    DefaultsFile(PathBuf),
    /// The program of a command, which is looked for and never run.
    Program(String),
    /// A file that may be made where it is not, but not its folder.
    HistoryFolder(PathBuf),
}

impl Needed {
    fn problem(&self) -> Option<(String, &'static str)> {
        let (what, path, help) = match self {
            Self::Variable(name) => {
                return std::env::var(name).err().map(|_| {
                    (
                        format!("the variable {name} is not set, or is not UTF-8"),
                        "set it in the environment of the exporter",
                    )
                });
            }
            Self::Program(name) => {
                return (!is_there(name)).then(|| {
                    (
                        format!("the program {name} of `password_command` cannot be found"),
                        "install it, or write its whole path",
                    )
                });
            }
            Self::DefaultsFile(path) => {
                ("defaults", path, "it is an option file such as my.cnf, readable by the exporter's user")
            }
            Self::Password(path) => {
                ("password", path, "it holds the password alone, readable by the exporter's user")
            }
            Self::Ca(path) => return pem_problem("CA", path, certificates::check_authorities),
            Self::HistoryFolder(path) => return folder_problem(path),
            Self::Certificate(path) => return pem_problem("certificate", path, certificates::check_chain),
            Self::Key(path) => return pem_problem("key", path, certificates::check_key),
            Self::Pair(chain, key) => {
                // What is wrong with the certificate by itself is another need's.
                let chain = read_pem(chain).ok().filter(|chain| certificates::check_chain(chain).is_ok())?;
                return pem_problem("key", key, |key| {
                    certificates::check_key(key).map_or(Ok(()), |()| certificates::check_pair(&chain, key))
                });
            }
        };
        match readable(path) {
            Err(error) => Some((format!("the {what} file {} cannot be read: {error}", path.display()), help)),
            Ok(0) => Some((format!("the {what} file {} is empty", path.display()), help)),
            Ok(_) => None,
        }
    }
}

/// What is wrong with the place of a file that may be made there.
fn folder_problem(path: &Path) -> Option<(String, &'static str)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        return Some((format!("{} is a folder", path.display()), "name a file in it, such as history.db"));
    }
    (!folder.is_dir()).then(|| {
        let message = format!("there is no folder {} for the history", folder.display());
        (message, "make it, writable by the exporter's user: beside the file SQLite keeps two more")
    })
}

/// What is wrong with a file of certificates or keys.
fn pem_problem(
    what: &str,
    path: &Path,
    check: impl FnOnce(&[u8]) -> Result<(), Unfit>,
) -> Option<(String, &'static str)> {
    let path_shown = path.display();
    match read_pem(path) {
        Err(error) => Some((
            format!("the {what} file {path_shown} cannot be read: {error}"),
            "it is a PEM file, readable by the exporter's user",
        )),
        Ok(pem) => {
            let unfit = check(&pem).err()?;
            let help = match what {
                "key" => "a PEM file of a key has lines -----BEGIN PRIVATE KEY-----, and is the key of cert",
                _ => "a PEM file of certificates has lines -----BEGIN CERTIFICATE-----",
            };
            Some((format!("the {what} file {path_shown} {unfit}"), help))
        }
    }
}

fn read_pem(path: &Path) -> io::Result<Vec<u8>> {
    readable(path)?;
    let mut pem = Vec::new();
    File::open(path)?.take(certificates::MAX_PEM_BYTES as u64 + 1).read_to_end(&mut pem)?;
    if pem.len() > certificates::MAX_PEM_BYTES {
        return Err(io::Error::other("it is larger than a file of certificates can be"));
    }
    Ok(pem)
}

/// Opens the file without reading it: a secret is read when it is used. Gives its length, 1 where it is not a file with
/// a length, such as a pipe.
fn readable(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    Ok(if metadata.is_file() { metadata.len() } else { 1 })
}

/// Whether a program is a file, by its path or in one of the folders of PATH.
fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Secret, CA and certificate files and variables that cannot be read now. `--check` fails with them, a start says so
/// and carries on. One problem for each setting, however many targets it serves.
pub(crate) fn missing_secrets(config: &Config) -> Report {
    let mut found = Findings::new(config.sources.clone());
    let needs: BTreeSet<(usize, &Needed)> =
        config.needs.iter().map(|need| (need.at.start, &need.what)).collect();
    let mut missing: Vec<(usize, String, &str, usize)> = Vec::new();
    for (at, needed) in needs {
        let Some((message, help)) = needed.problem() else { continue };
        match missing.last_mut() {
            Some((last, .., more)) if *last == at => *more += 1,
            _ => missing.push((at, message, help, 0)),
        }
    }
    for (start, message, help, more) in missing {
        let Some(need) = config.needs.iter().find(|need| need.at.start == start) else { continue };
        let others = if more > 0 { format!(" (and {more} more of this setting)") } else { String::new() };
        found.error(&need.at, message + &others).help(help);
    }
    found.into_report()
}

/// What only the file system can tell: a password that others may read.
pub(super) fn check_files(config: &Config, found: &mut Findings) {
    check_password_files(config, found);
    let mut files = BTreeSet::new();
    for at in &config.inline {
        let path = Path::new(found.sources.name(at));
        if !files.insert(path.to_owned()) {
            continue;
        }
        if let Some(mode) = mode_if_readable_by_others(path) {
            let name = path.file_name().map_or_else(OsString::new, OsString::from);
            found
                .warn(at, format!("others may read this password: the file's mode is {mode:04o}"))
                .help(format!("run chmod 600 {}, or use password_file", name.display()));
        }
    }
}

/// One warning for each setting, however many files it names.
fn check_password_files(config: &Config, found: &mut Findings) {
    let mut settings = BTreeSet::new();
    let files = config.needs.iter().filter_map(|need| match &need.what {
        Needed::Password(path) => Some((&need.at, path)),
        _ => None,
    });
    for (at, path) in files {
        if let Some(mode) = mode_if_readable_by_others(path)
            && settings.insert(at.start)
        {
            let path = path.display();
            found
                .warn(at, format!("others may read the password in {path}: the file's mode is {mode:04o}"))
                .help(format!("run chmod 600 {path}"));
        }
    }
}

#[cfg(unix)]
fn mode_if_readable_by_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & 0o004 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn mode_if_readable_by_others(_: &Path) -> Option<u32> {
    None
}
