//! Patterns of `*` and `?`, for the names of targets and of files.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

/// Whether a text is a pattern at all.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a name fits a pattern: `*` is any characters, `?` is one. It looks back at the last `*` only, so its time
/// is at most the product of the lengths.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last `*`, one character of the name further each time.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                retry = Some((p, n));
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut retry {
                Some((star, from)) => {
                    *from += 1;
                    (p, n) = (*star, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The files whose paths fit a pattern, sorted. A `*` does not match the dot of a hidden file.
pub(super) fn files(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.components() {
        let text = component.as_os_str().to_string_lossy();
        if !matches!(component, Component::Normal(_)) || !is_pattern(&text) {
            for path in &mut paths {
                path.push(component);
            }
            continue;
        }
        let mut next = Vec::new();
        for folder in paths {
            for name in names_in(&folder)? {
                if fits(&text, &name) && (text.starts_with('.') || !name.starts_with('.')) {
                    next.push(folder.join(name));
                }
            }
        }
        paths = next;
    }
    paths.retain(|path| path.is_file());
    paths.sort();
    Ok(paths)
}

/// The names in a folder; none if there is no such folder.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match fs::read_dir(here) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_any_characters_and_a_question_mark_is_one() {
        for (pattern, fitting, others) in [
            ("orders-*", &["orders-1", "orders-"][..], &["orders", "xorders-1"][..]),
            ("*", &["", "a"], &[]),
            ("db?", &["db1"], &["db", "db12"]),
            ("*-?b*", &["a-b-bb", "-xb"], &["a-b"]),
            ("plain", &["plain"], &["Plain", "plains"]),
            ("größe-?", &["größe-ß"], &[]),
        ] {
            assert!(fitting.iter().all(|name| fits(pattern, name)), "{pattern}");
            assert!(!others.iter().any(|name| fits(pattern, name)), "{pattern}");
        }
    }

    #[test]
    fn files_are_found_in_order_and_hidden_ones_are_not() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["b/2.toml", "a/1.toml", "a/.x.toml", "a/y.txt", "a/z.toml/inside.toml"] {
            let path = scratch.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = files(&scratch.path().join("*/*.toml")).unwrap();
        let found: Vec<_> = found.iter().map(|path| path.strip_prefix(scratch.path()).unwrap()).collect();
        assert_eq!(found, [Path::new("a/1.toml"), Path::new("b/2.toml")]);
        assert!(files(&scratch.path().join("none/*.toml")).unwrap().is_empty());
    }

    #[test]
    fn many_stars_take_no_time() {
        let begun = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        assert!(!fits(&"*a".repeat(500), &("a".repeat(499) + &"b".repeat(5000))));
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        assert!(now.tv_sec - begun.tv_sec < i64::try_from(Duration::from_secs(5).as_secs()).unwrap());
    }

    proptest! {
        #[test]
        fn any_text_fits_itself_and_a_star(text: String, other: String) {
            prop_assert!(fits(&text.replace(['*', '?'], "?"), &text));
            prop_assert!(fits("*", &text));
            let _ = fits(&text, &other);
        }
    }
}
