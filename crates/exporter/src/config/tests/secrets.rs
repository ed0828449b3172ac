//! A planted secret is nowhere to be seen: in no report, page, schema or `Debug`, whatever its source.

use std::{fs, path::Path};

use super::super::{Loaded, load, missing_secrets, report::Problem, schema};

const CANARY: &str = "hunter2";

/// Every text that can come out of a file.
fn everything_shown(path: &Path) -> String {
    match load(path, None) {
        Err(report) => format!("{report}\n{report:?}"),
        Ok(Loaded { config, warnings }) => {
            let missing = missing_secrets(&config);
            let lines: Vec<_> = warnings.iter().chain(missing.iter()).map(Problem::one_line).collect();
            let pages = [
                config.show(None, None).unwrap(),
                config.show(Some(&config.targets[0].name), None).unwrap(),
                config.show(None, Some(&config.queries[0].name)).unwrap(),
                config.show(Some(&config.targets[0].name), Some(&config.queries[0].name)).unwrap(),
            ];
            format!(
                "{warnings}\n{missing}\n{config:?}\n{}\n{}\n{}\n{}",
                config.summary(),
                lines.join("\n"),
                pages.join("\n"),
                schema()
            )
        }
    }
}

#[track_caller]
fn check(group: &str, expected: &str) {
    let scratch = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("secret", CANARY.to_owned()),
        ("good.cnf", format!("[client]\nuser = u\npassword = {CANARY}\n")),
        ("bad.cnf", format!("password = {CANARY}\n")),
        ("bad-tls.cnf", format!("[client]\npassword = {CANARY}\nssl-mode = {CANARY}\n")),
        ("latin.cnf", "[client]\n".to_owned()),
        ("secret.toml", format!("[groups.h]\nuser = \"u\"\npassword = \"{CANARY}\"\nusr = 1\n")),
    ] {
        fs::write(scratch.path().join(name), content).unwrap();
    }
    fs::write(scratch.path().join("latin.cnf"), [b"[client]\npassword = hunter2", &[0xff_u8][..]].concat())
        .unwrap();
    let path = scratch.path().join("fleet.toml");
    let text = format!(
        "{group}\ntargets = [\"10.0.0.1\"]\n[queries.q]\nsql = \"select 1 n\"\n\
         metrics.n = {{ type = \"gauge\", help = \"h\", value = \"n\" }}\n"
    );
    fs::write(&path, text).unwrap();
    let shown = everything_shown(&path);
    assert!(!shown.contains(CANARY), "{group}\n{shown}");
    assert!(shown.contains(expected), "{group}: no {expected:?} in\n{shown}");
}

#[test]
fn no_source_of_a_password_shows_it() {
    for level in ["[defaults]", "[groups.g]"] {
        let group = if level == "[groups.g]" { "" } else { "[groups.g]" };
        let check = |lines: &str, expected: &str| {
            check(&format!("{level}\nuser = \"u\"\n{lines}\n{group}"), expected);
        };
        check("password = \"hunter2\"", "*** (in the configuration)");
        check("password_file = \"secret\"", "*** (from a file)");
        check("password_file = \"none\"", "cannot be read");
        check("password_env = \"NO_SUCH_VARIABLE\"", "NO_SUCH_VARIABLE is not set");
        check("password_command = [\"sh\", \"-c\", \"echo hunter2\"]", "*** (from a command)");
        check("password_command = [\"no-such-program\", \"--token=hunter2\"]", "no-such-program");
        check("defaults_file = { path = \"good.cnf\" }", "*** (from a defaults file)");
        check("defaults_file = { path = \"none.cnf\" }", "none.cnf cannot be read");
    }
}

#[test]
fn no_mistake_beside_a_password_shows_it() {
    let check = |lines: &str, expected: &str| check(&format!("[groups.g]\nuser = \"u\"\n{lines}"), expected);
    check("defaults_file = { path = \"bad.cnf\" }", "before the first [section]");
    check("defaults_file = { path = \"bad-tls.cnf\" }", "ssl-mode that there is not");
    check("defaults_file = { path = \"latin.cnf\" }", "not UTF-8");
    check("password_command = [\"prog\", \"hunter2\"]\nmax_connections = 0", "out of bounds");
    check("password_command = [\"prog\", \"{hunter2}\"]", "braces that mean nothing");
    check("password_command = [\"prog\", \"{hunter2\"]", "braces that mean nothing");
    check("password_command = \"prog hunter2\"", "takes an array");
    check("password_comand = [\"prog\", \"hunter2\"]", "did you mean `password_command`?");
    check("password_command = [\"prog\", \"hunter2\"", "error");
    check("defaults_file = { path = \"good.cnf\", password = \"hunter2\" }", "is not a key of");
    check("password = \"hunter2\"\npassword_command = [\"hunter2\"]", "one password");
    let include = "include = [\"secret.toml\"]\n[groups.g]\nuser = \"u\"";
    super::secrets::check(include, "`usr` is not a key");
}

#[cfg(unix)]
#[test]
fn a_check_runs_no_command() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let program = scratch.path().join("prog");
    fs::write(&program, "#!/bin/sh\ntouch ran\ntouch \"$(dirname \"$0\")/ran\"\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = scratch.path().join("fleet.toml");
    fs::write(
        &path,
        "[groups.g]\nuser = \"u\"\npassword_command = [\"./prog\"]\ntargets = [\"10.0.0.1\"]\n[queries.q]\n\
         sql = \"select 1 n\"\nmetrics.n = { type = \"gauge\", help = \"h\", value = \"n\" }\n",
    )
    .unwrap();
    let config = load(&path, None).unwrap().config;
    assert!(missing_secrets(&config).is_empty(), "the program is there");
    let _ = config.show(None, None);
    assert!(!scratch.path().join("ran").exists());
}
