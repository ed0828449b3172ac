//! Several files as one: what `include` names is read, checked for syntax, and laid into the main file's tree.
//!
//! A place tells which file it is in, so everything after this sees one tree. Other files may add groups, queries, and
//! targets to a group; any other key stands once.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    field::nearest,
    glob,
    report::{Findings, Place},
};

/// Bytes of one file that is read. More would be a mistake in a path, such as a device.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What stands in the main file alone.
const MAIN_ONLY: [&str; 4] = ["server", "defaults", "limits", "history"];

/// A key with its place.
type Key<'i> = Spanned<Cow<'i, str>>;

/// A file that `include` names.
pub(super) struct Included {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Reads the files that the main file includes: each once, in the order of the list, those of one pattern sorted.
pub(super) fn included(found: &mut Findings, main: &Path, tree: &DeTable<'_>) -> Vec<Included> {
    let mut files: Vec<Included> = Vec::new();
    let entries = tree.get("include").and_then(|include| include.get_ref().as_array());
    for entry in entries.into_iter().flatten() {
        // What is no string is reported with the other types.
        let (at, Some(text)) = (entry.span(), entry.get_ref().as_str()) else { continue };
        let paths = paths(found, main, text, &at);
        for path in paths {
            if files.iter().any(|file| file.path == path) {
                continue;
            }
            match read_text(&path) {
                Ok(text) => files.push(Included { path, text }),
                Err(error) => {
                    found
                        .error(&at, format!("cannot read {}: {error}", path.display()))
                        .help("paths are relative to this file; a pattern such as \"conf.d/*.toml\" may match nothing");
                }
            }
        }
    }
    files
}

/// The text of a file, or why it cannot be had.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8"))
    })
}

/// The files of one entry. The main file includes not itself, even where a pattern would.
fn paths(found: &mut Findings, main: &Path, text: &str, at: &Place) -> Vec<PathBuf> {
    let path = found.sources.path(at, text);
    let is_main = |path: &Path| same(path, main);
    if !glob::is_pattern(text) {
        if is_main(&path) {
            found.error(at, "the file includes itself").help("leave it away: a file is always read once");
            return Vec::new();
        }
        return vec![path];
    }
    match glob::files(&path) {
        Ok(paths) => {
            let paths: Vec<_> = paths.into_iter().filter(|path| !is_main(path)).collect();
            if paths.is_empty() {
                found
                    .warn(at, format!("{text:?} matches no file"))
                    .help("that is right for a folder that is still empty; paths are relative to this file");
            }
            paths
        }
        Err(error) => {
            found
                .error(at, format!("cannot look for {text:?}: {error}"))
                .help("let the exporter's user read the folder");
            Vec::new()
        }
    }
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Lays another file's tree into that of the main file.
pub(super) fn merge<'i>(found: &mut Findings, main: &mut DeTable<'i>, other: DeTable<'i>) {
    let main_name = found.sources.name(&(0..0)).to_owned();
    for (key, value) in other {
        let name = key.get_ref().as_ref();
        if MAIN_ONLY.contains(&name) {
            found
                .error(&key.span(), format!("[{name}] stands in the main file only"))
                .help(format!("move it to {main_name}; other files add targets, groups and queries"));
        } else if name == "include" {
            found
                .error(&key.span(), "an included file includes no others")
                .help(format!("name them in the include of {main_name}"));
        } else if !matches!(name, "groups" | "queries") {
            let meant = nearest(name, ["groups", "queries"].into_iter());
            let help = meant.map_or_else(
                || "an included file holds [groups.NAME] and [queries.NAME]".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            );
            found.error(&key.span(), format!("`{name}` is not a key of an included file")).help(help);
        } else {
            let level = if name == "groups" { Level::Groups } else { Level::Queries };
            lay(found, main, key, value, level);
        }
    }
}

/// Which tables are joined: those of all groups, of one group, of its targets. Everything else stands once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Groups,
    Group,
    Targets,
    Queries,
    Single,
}

fn lay<'i>(
    found: &mut Findings,
    main: &mut DeTable<'i>,
    key: Key<'i>,
    value: Spanned<DeValue<'i>>,
    level: Level,
) {
    let name = key.get_ref().as_ref();
    let Some((there_key, _)) = main.get_key_value(name) else {
        main.insert(key, value);
        return;
    };
    let there_at = there_key.span();
    let Some(there) = main.get_mut(name) else { return };
    match (level, there.get_mut(), value.into_inner()) {
        (Level::Single, ..) => {
            found
                .error(&key.span(), format!("`{name}` is there twice"))
                .note(&there_at, "the first is here")
                .help("other files add targets, groups and queries; any other key stands once");
        }
        (_, DeValue::Table(there), DeValue::Table(more)) => {
            for (key, value) in more {
                let next = match (level, key.get_ref().as_ref()) {
                    (Level::Groups, _) => Level::Group,
                    (Level::Group, "targets" | "queries") => Level::Targets,
                    _ => Level::Single,
                };
                lay(found, there, key, value, next);
            }
        }
        (Level::Targets, DeValue::Array(there), DeValue::Array(more)) => {
            for value in more {
                there.push(value);
            }
        }
        (Level::Targets, ..) => {
            found
                .error(&key.span(), format!("`{name}` is a table in one file and an array in another"))
                .note(&there_at, "the first is here")
                .help("write both in one way: name = \"address\" lines, or a list of addresses");
        }
        // Not a table: the first is reported for it, or this one is.
        _ => {
            found
                .error(&key.span(), format!("`{name}` takes a table in each file"))
                .note(&there_at, "the other is here");
        }
    }
}
