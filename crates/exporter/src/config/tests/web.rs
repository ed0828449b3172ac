//! The web files of the corpus, as they are read: what is good, and what is said of the others.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use tempfile::TempDir;

use super::{
    super::web::{Port, read_web},
    folder,
};

/// A folder with the files that the corpus names.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let params = |name: &str| CertificateParams::new(vec![name.to_owned()]).unwrap();
    let mut of_authority = params("authority");
    of_authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(of_authority, KeyPair::generate().unwrap()).unwrap();
    let (server, chain) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificate = params("exporter.example.net").self_signed(&server).unwrap();
    let signed = params("exporter.example.net").signed_by(&chain, &ca).unwrap();
    let armour = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", server.serialize_pem()),
        ("both.pem", certificate.pem() + &server.serialize_pem()),
        ("chain.crt", signed.pem() + &ca.pem()),
        ("chain.key", chain.serialize_pem()),
        ("exporter.crt", certificate.pem()),
        ("exporter.key", server.serialize_pem()),
        ("other.key", KeyPair::generate().unwrap().serialize_pem()),
        ("ca.crt", ca.pem()),
        ("empty.pem", String::new()),
        ("noise.pem", armour("CERTIFICATE")),
        ("encrypted.key", armour("ENCRYPTED PRIVATE KEY")),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Puts a file of the corpus among the certificates; a line `<<NAME>>` becomes what that file holds.
fn lay(path: &Path, folder: &Path) -> PathBuf {
    let mut text = String::new();
    for line in fs::read_to_string(path).unwrap().split_inclusive('\n') {
        match line.trim().strip_prefix("<<").and_then(|name| name.strip_suffix(">>")) {
            None => text += line,
            Some(name) => {
                let indent = &line[..line.len() - line.trim_start().len()];
                for line in fs::read_to_string(folder.join(name)).unwrap().lines() {
                    writeln!(text, "{indent}{line}").unwrap();
                }
            }
        }
    }
    let laid = folder.join(path.file_name().unwrap());
    fs::write(&laid, text).unwrap();
    laid
}

/// What a reader sees.
fn shown(path: &Path) -> (bool, String) {
    let (is_good, report) = match read_web(path, Port::default()) {
        Ok((_, warnings)) => (true, warnings),
        Err(report) => (false, report),
    };
    let root = format!("{}/", path.parent().unwrap().display());
    (is_good, if report.is_empty() { String::new() } else { format!("{report}\n").replace(&root, "") })
}

fn corpus(which: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder("tests/web").join(which)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "yml")).collect();
    files.sort();
    files
}

#[test]
fn t58_each_web_file_has_its_verdict() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let certificates = certificates();
    let (mut differences, mut messages, mut n) = (String::new(), BTreeSet::new(), 0);
    for (which, is_good) in [("good", true), ("bad", false)] {
        for path in corpus(which) {
            n += 1;
            let (good, shown) = shown(&lay(&path, certificates.path()));
            if good != is_good {
                write!(differences, "--- {} is not {which}:\n{shown}", path.display()).unwrap();
            }
            messages
                .extend(shown.split(": error: ").skip(1).map(|rest| rest.lines().next().unwrap().to_owned()));
            let expected = path.with_extension("expected");
            if update && shown.is_empty() {
                let _ = fs::remove_file(&expected);
            } else if update {
                fs::write(&expected, &shown).unwrap();
            } else if fs::read_to_string(&expected).unwrap_or_default() != shown {
                write!(differences, "--- {} now says:\n{shown}", path.display()).unwrap();
            }
        }
    }
    assert!(differences.is_empty(), "{differences}(UPDATE_EXPECT=1 accepts this)");
    assert!(n >= 120 && messages.len() >= 80, "{n} files, {} messages", messages.len());
}

#[test]
fn the_documentations_web_file_is_good_and_stands_there() {
    let certificates = certificates();
    let path = folder("docs/examples/web/web.yml");
    assert_eq!(shown(&lay(&path, certificates.path())), (true, String::new()));
    let page = fs::read_to_string(folder("docs/security.md")).unwrap();
    let blocks: Vec<_> =
        page.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(blocks, [fs::read_to_string(path).unwrap()]);
}

#[test]
fn no_report_shows_a_key_or_a_hash() {
    let certificates = certificates();
    let key = fs::read_to_string(certificates.path().join("server.key")).unwrap();
    let secrets: Vec<_> = key.lines().filter(|line| !line.contains("-----")).collect();
    for path in corpus("bad") {
        let (_, shown) = shown(&lay(&path, certificates.path()));
        for secret in secrets.iter().copied().chain(["c2VjcmV0", "ann: secret", "$2y$", "PRIVATE KEY"]) {
            assert!(!shown.contains(secret), "{}: {shown}", path.display());
        }
    }
}

#[test]
fn a_file_that_opens_the_reload_to_everybody_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.yml");
    fs::write(&path, "rate_limit: { interval: 1s, burst: 1 }\n").unwrap();
    for (is_local, reloads, is_good) in
        [(true, true, true), (false, false, true), (true, false, true), (false, true, false)]
    {
        assert_eq!(read_web(&path, Port { is_local, reloads }).is_ok(), is_good);
    }
    let hash = "$2y$10$abcdefghijklmnopqrstuuLpXbJSDEKykLRcAtVMbeMZ8tT0vhVN6";
    fs::write(&path, format!("basic_auth_users: {{ ann: {hash} }}\n")).unwrap();
    let (settings, warnings) = read_web(&path, Port { is_local: false, reloads: true }).unwrap();
    assert!(settings.authenticates());
    assert!(warnings.to_string().contains("in clear text"), "{warnings}");
    assert!(read_web(&path, Port { is_local: true, reloads: true }).unwrap().1.is_empty());
}

proptest! {
    /// Whatever the text is, it is read or reported, and a report can be shown.
    #[test]
    fn any_text_is_read_or_reported(text in "[a-z_:{}\\[\\]\"'|>&*!#?,% \t\n-]{0,60}|\\PC{0,40}") {
        let mut found = super::super::report::Findings::default();
        super::super::web::check(&mut found, Path::new("web.yml"), &text, Port::default());
        let _ = found.into_report().to_string();
    }

    /// The same of texts that are nearly right.
    #[test]
    fn any_cut_of_a_file_is_read_or_reported(which in 0_usize..200, cut in any::<proptest::sample::Index>(), more in "[ \t\n:'\"{}\\[\\]&*ü-]{0,3}") {
        let files = [corpus("good"), corpus("bad")].concat();
        let mut text = fs::read_to_string(&files[which % files.len()]).unwrap();
        let mut at = cut.index(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, &more);
        let mut found = super::super::report::Findings::default();
        super::super::web::check(&mut found, Path::new("web.yml"), &text, Port::default());
        let _ = found.into_report().to_string();
    }
}
