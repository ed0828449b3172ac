//! The rules as data: a text goes in, a report or a fact comes out.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use fleet_collector::target::{Address, Password};

use super::{Config, Loaded, OnFailure, load, missing_secrets, parse, report::Problem};

mod any_bytes;
mod docs;
mod faults;
mod kept;
mod precedence;
mod schema;
mod secrets;
mod selection;
mod shows;
mod web;

/// A folder of the repository.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn toml_files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

/// What a reader sees: the report, or what a good file amounts to.
fn shown(path: &Path, text: &str) -> String {
    match parse(path, text, None) {
        Err(report) => format!("{report}\n"),
        Ok(Loaded { config, warnings }) if warnings.is_empty() => format!("{}\n", config.summary()),
        Ok(Loaded { config, warnings }) => format!("{warnings}\n{}\n", config.summary()),
    }
}

/// The bad files, and the main file of each set of files.
fn corpus() -> Vec<PathBuf> {
    let folders = fs::read_dir(folder("tests/config")).unwrap().map(|entry| entry.unwrap().path());
    let mut mains: Vec<_> = folders.map(|path| path.join("main.toml")).filter(|path| path.exists()).collect();
    mains.sort();
    [toml_files("tests/config"), mains].concat()
}

#[test]
fn each_file_of_the_corpus_says_what_is_promised() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let root = format!("{}/", folder("tests/config").display());
    let mut differences = String::new();
    let mut messages = BTreeSet::new();
    let files = corpus();
    for path in &files {
        let shown = shown(path, &fs::read_to_string(path).unwrap()).replace(&root, "");
        // A message without its values, so that two files do not count for one message with two names.
        messages.extend(shown.split(": error: ").skip(1).map(|message| {
            let line = message.lines().next().unwrap();
            line.split(['`', '"']).step_by(2).collect::<Vec<_>>().join("_")
        }));
        let expected = path.with_extension("expected");
        if update {
            fs::write(&expected, &shown).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != shown {
            write!(differences, "--- {} now says:\n{shown}", path.display()).unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}(UPDATE_EXPECT=1 accepts this)");
    assert!(files.len() >= 60 && messages.len() >= 60, "{} files, {} messages", files.len(), messages.len());
}

#[test]
fn t43_twelve_mistakes_are_twelve_messages() {
    let path = folder("tests/config/twelve-mistakes.toml");
    let report = load(&path, None).unwrap_err();
    assert_eq!(report.iter().count(), 12, "{report}");
}

/// The files that show how it is done.
fn examples() -> Vec<PathBuf> {
    [toml_files("configs"), toml_files("docs/examples")].concat()
}

/// One group, one target and one query, and whatever a test adds to them.
#[derive(Default, Clone, Copy)]
struct Fleet<'a> {
    defaults: &'a str,
    group: &'a str,
    target: &'a str,
    query: &'a str,
}

impl Fleet<'_> {
    fn text(self) -> String {
        let Fleet { defaults, group, target, query } = self;
        format!(
            "[defaults]\n{defaults}\n[groups.g]\nuser = \"u\"\n{group}\n[groups.g.targets.t]\naddress = \"h\"\n{target}\n\
             [queries.q]\nsql = \"select 1 v\"\n{query}\n\
             [queries.q.metrics.f]\ntype = \"gauge\"\nhelp = \"h\"\nvalue = \"v\"\n"
        )
    }

    #[track_caller]
    fn config(self) -> Config {
        parse(Path::new("/etc/f/fleet.toml"), &self.text(), None)
            .unwrap_or_else(|report| panic!("{report}"))
            .config
    }
}

#[track_caller]
fn check_cascade(fleet: Fleet<'_>, expected: (u64, u64, u64, OnFailure)) {
    let config = fleet.config();
    let item = &config.items[0];
    let (interval, timeout, expire_after, on_failure) = expected;
    assert_eq!(item.interval, Duration::from_secs(interval), "interval");
    assert_eq!(item.timeout, Duration::from_secs(timeout), "timeout");
    assert_eq!(item.expire_after, Duration::from_secs(expire_after), "expire_after");
    assert_eq!(item.on_failure, on_failure, "on_failure");
}

#[test]
fn the_strongest_level_that_says_something_wins() {
    let (keep, drop) = (OnFailure::Keep, OnFailure::Drop);
    let none = Fleet::default();
    check_cascade(none, (15, 5, 60, keep));
    let defaults = Fleet { defaults: "interval = \"20s\"\ntimeout = \"6s\"\non_failure = \"drop\"", ..none };
    check_cascade(defaults, (20, 6, 60, drop));
    let group = Fleet { group: "interval = \"30s\"\non_failure = \"keep\"", ..defaults };
    check_cascade(group, (30, 6, 66, keep));
    let target = Fleet { target: "interval = \"40s\"\nexpire_after = \"2m\"", ..group };
    check_cascade(target, (40, 6, 120, keep));
    let query = Fleet { query: "interval = \"50s\"\ntimeout = \"7s\"\non_failure = \"drop\"", ..target };
    check_cascade(query, (50, 7, 120, drop));
}

#[test]
fn a_failed_item_is_retried_where_its_interval_is_long_or_the_file_says_so() {
    #[track_caller]
    fn check(query: &str, expected: Option<u64>) {
        let config = Fleet { query, ..Fleet::default() }.config();
        assert_eq!(config.items[0].retry_after, expected.map(Duration::from_secs), "{query}");
    }
    check("interval = \"60s\"", None);
    check("interval = \"64s\"", Some(16));
    check("interval = \"1h\"", Some(30));
    check("interval = \"1h\"\nretry_after = \"5m\"", Some(300));
    check("interval = \"1h\"\nretry_after = \"1h\"", None);
    check("interval = \"20s\"\nretry_after = \"6s\"", Some(6));
}

#[test]
fn nearer_settings_replace_and_labels_merge() {
    let config = Fleet {
        group: "password_file = \"s/{group}/{target}\"\nlabels = { env = \"prod\", role = \"a\" }\nmax_connections = 5",
        target: "user = \"other\"\nlabels = { role = \"b\" }\nkill = false",
        defaults: "database = \"d\"",
        ..Fleet::default()
    }
    .config();
    let target = &config.targets[0];
    assert_eq!(target.user.as_deref(), Some("other"));
    assert_eq!(target.password, Password::File("/etc/f/s/g/t".into()));
    assert_eq!(target.database.as_deref(), Some("d"));
    assert_eq!((target.max_connections, target.kill), (5, false));
    let labels: Vec<_> = target.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels.join(" "), "env=prod role=b target=t");
}

#[test]
fn ranges_make_targets_with_their_own_labels_and_secrets() {
    let text = Fleet {
        group: "password_env = \"PW_{1}\"\nlabels = { shard = \"{1}\" }",
        target: "[groups.g.targets.\"s-{08..10}\"]\naddress = \"[fd00::{1..3}]:3308\"",
        ..Fleet::default()
    }
    .text()
    .replace("[groups.g.targets.t]\naddress = \"h\"\n", "");
    let config = parse(Path::new("f.toml"), &text, None).unwrap_or_else(|report| panic!("{report}")).config;
    let shown: Vec<_> =
        config.targets.iter().map(|t| format!("{} {} {:?}", t.name, t.address, t.labels)).collect();
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[1], "s-09 [fd00::2]:3308 [(\"shard\", \"09\"), (\"target\", \"s-09\")]");
    assert_eq!(config.targets[2].password, Password::Env("PW_10".into()));
}

#[test]
fn a_list_of_targets_is_named_by_its_addresses() {
    let text = Fleet { group: "targets = [\"10.0.0.{11..12}\", \"[fd00::12]:3307\"]", ..Fleet::default() }
        .text()
        .replace("[groups.g.targets.t]\naddress = \"h\"\n", "");
    let config = parse(Path::new("f.toml"), &text, None).unwrap_or_else(|report| panic!("{report}")).config;
    let shown: Vec<_> = config.targets.iter().map(|t| format!("{} {}", t.name, t.address)).collect();
    assert_eq!(
        shown.join(", "),
        "10.0.0.11 10.0.0.11:3306, 10.0.0.12 10.0.0.12:3306, [fd00::12]:3307 [fd00::12]:3307"
    );
    assert_eq!(config.targets[2].address, Address::Tcp { host: "fd00::12".into(), port: 3307 });
}

#[test]
fn an_option_file_gives_what_the_target_does_not_say() {
    let scratch = tempfile::tempdir().unwrap();
    let file = "[client]\nhost = db1\nport = 3307\nssl-ca = ca.pem\nuser = u\npassword = hunter2\n";
    fs::write(scratch.path().join("my.cnf"), file).unwrap();
    let show = |file: &str, group: &str, target: &str| {
        let text =
            Fleet { group: &format!("defaults_file = {{ path = \"{file}\" }}\n{group}"), ..Fleet::default() }
                .text()
                .replace("user = \"u\"\n", "")
                .replace("address = \"h\"\n", target);
        let config = parse(&scratch.path().join("f.toml"), &text, None)
            .unwrap_or_else(|report| panic!("{report}"))
            .config;
        let target = &config.targets[0];
        let ca = target
            .tls
            .ca
            .as_ref()
            .and_then(|ca| ca.strip_prefix(scratch.path()).ok())
            .map(|ca| ca.display().to_string());
        format!(
            "{} {} {:?} {}",
            target.address,
            target.tls.mode.as_str(),
            target.user,
            ca.unwrap_or_default()
        )
    };
    assert_eq!(show("my.cnf", "", ""), "db1:3307 verify_ca None ca.pem");
    assert_eq!(show("my.cnf", "user = \"x\"", "address = \"h\""), "h:3306 verify_ca Some(\"x\") ca.pem");
    let tls = "tls = { mode = \"required\" }";
    assert_eq!(show("my.cnf", tls, ""), "db1:3307 required None ");
    assert_eq!(show("my.cnf", "", "socket = \"/s\""), "/s disabled None ");
    // While the file cannot be read, the password goes to nobody who cannot prove who it is.
    assert_eq!(show("none.cnf", "", "address = \"h\""), "h:3306 verify_identity None ");
}

#[test]
fn conditions_choose_the_targets_of_a_query() {
    let config = load(&folder("docs/examples/conditions.toml"), None).unwrap().config;
    let items: Vec<_> =
        config.items.iter().map(|item| format!("{}@{}", item.query.name, item.target.name)).collect();
    assert_eq!(
        items.join(" "),
        "sessions@orders-1 sessions@orders-2 sessions@stock-1 sessions@10.1.0.11 purged_gtids@orders-2 \
         open_orders@orders-1 open_orders@orders-2"
    );
}

#[test]
fn paths_in_an_included_file_start_from_its_folder() {
    let config = load(&folder("tests/config/include-good/main.toml"), None).unwrap().config;
    let statement = config.queries[0].statement.as_ref().unwrap();
    assert_eq!(statement.sql(), "select 1 as n");
    let intervals: Vec<_> = config.items.iter().map(|item| item.interval.as_secs()).collect();
    assert_eq!(intervals, [15, 15, 15, 60, 60]);
}

/// No way of showing what came out of a text may hold the password.
#[track_caller]
fn check_masked(text: &str) {
    assert!(text.contains("hunter2"), "the test has no password");
    let shown = match parse(Path::new("f.toml"), text, None) {
        Err(report) => format!("{report} {report:?}"),
        Ok(loaded) => format!("{} {loaded:?}", loaded.warnings),
    };
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_password_is_never_shown() {
    let with = |group| Fleet { group, ..Fleet::default() }.text();
    for group in [
        "password = \"hunter2\"",
        "password = \"hunter2\" # and\nuser = 3",
        "password = [\"hunter2\"]",
        "password = { value = \"hunter2\" }",
        "password.value = \"hunter2\"",
        "pasword = \"hunter2\"",
        "passwd = \"hunter2\"",
        "PASSWORD = \"hunter2\"",
        "\"password\" = \"hunter2\"\npassword_file = \"f\"",
        "password = '''\nhunter2\nhunter2'''\nmax_connections = 0",
        // Not TOML.
        "password = hunter2",
        "password = \"hunter2",
        "password = \"a\"hunter2\"",
        "password: hunter2",
        "password hunter2",
        "password = '''\nhunter2\nx = \n",
        "password = \"\"\"\n\"\"\"hunter2\n",
        "x = { a = 1, password = hunter2 }",
        // A login in an address.
        "targets = [\"root:hunter2@db1:3306\"]",
        "targets.a = \"mysql://root:hunter2@db1\"",
        "targets.b = { address = \"root:hunter2@tcp(db1:3306)/\" }",
        "targets.b = { address = root:hunter2@tcp(db1:3306)/ }",
    ] {
        check_masked(&with(group));
    }
    check_masked("[server]\npassword = \"hunter2\"\n");
    check_masked("password = \"hunter2\"\n");
    check_masked("[groups.g.targets]\na = { password = \"hunter2\", adress = \"x\" }\n");
}

#[test]
fn a_mask_hides_the_length_and_keeps_the_caret() {
    let text = "[groups.g.targets]\na = { password = \"hunter2\", adress = \"x\" }\n";
    let report = parse(Path::new("f.toml"), text, None).unwrap_err().to_string();
    assert!(
        report.contains("    a = { password = ***, adress = \"x\" }\n                          ^^^^^^\n"),
        "{report}"
    );
}

#[test]
fn carets_stand_under_wide_characters_and_tabs() {
    let report = parse(Path::new("f.toml"), "[server]\n\t\"数\" = 1\n", None).unwrap_err().to_string();
    assert!(
        report.starts_with(
            "f.toml:2:2: error: `数` is not a key of [server]\n        \"数\" = 1\n        ^^^^\n"
        ),
        "{report}"
    );
}

#[test]
fn a_file_that_cannot_be_read_says_so_in_one_message() {
    let scratch = tempfile::tempdir().unwrap();
    let check = |path: &Path, expected: &str| {
        let report = load(path, None).unwrap_err();
        assert_eq!(report.iter().count(), 1);
        let shown = report.to_string();
        assert!(shown.contains(expected) && shown.contains("help: "), "{shown}");
    };
    check(&scratch.path().join("none.toml"), "cannot read the configuration: No such file");
    check(scratch.path(), "cannot read the configuration: Is a directory");
    let latin = scratch.path().join("latin.toml");
    fs::write(&latin, b"a = 1\nb = \"\xe9\"\n").unwrap();
    check(&latin, "line 2 is not UTF-8");
}

#[test]
fn what_is_missing_outside_the_file_is_named_once_for_each_setting() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("fleet.toml");
    let text = Fleet {
        group: "password_file = \"secret-{target}\"\ntls = { mode = \"verify_ca\", ca = \"ca.pem\" }",
        target: "[groups.g.targets]\n\"s{1..3}\" = \"h{1..3}\"",
        ..Fleet::default()
    }
    .text()
    .replace("[groups.g.targets.t]\naddress = \"h\"\n", "");
    fs::write(&path, &text).unwrap();
    fs::write(scratch.path().join("secret-s1"), "x").unwrap();
    let missing = missing_secrets(&load(&path, None).unwrap().config);
    let messages: Vec<_> = missing.iter().map(Problem::one_line).collect();
    assert_eq!(messages.len(), 2, "{missing}");
    assert!(messages[0].contains("secret-s2 cannot be read"), "{missing}");
    assert!(messages[0].contains("(and 1 more of this setting)"), "{missing}");
    assert!(messages[1].contains("the CA file "), "{missing}");

    fs::write(scratch.path().join("ca.pem"), "no certificate\n").unwrap();
    let missing = missing_secrets(&load(&path, None).unwrap().config).to_string();
    assert!(missing.contains("ca.pem holds no certificate"), "{missing}");
}

#[test]
fn a_client_certificate_and_its_key_are_looked_at_before_they_are_used() {
    let made = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let ((certificate, key), (other, _)) = (made("a"), made("b"));
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("fleet.toml");
    fs::write(scratch.path().join("my.cnf"), "[client]\nssl-cert=cert.pem\nssl-key=key.pem\n").unwrap();
    for group in [
        "tls = { mode = \"required\", cert = \"cert.pem\", key = \"key.pem\" }",
        "defaults_file = { path = \"my.cnf\" }",
    ] {
        fs::write(&path, Fleet { group, ..Fleet::default() }.text()).unwrap();
        for (certificate, key, expected) in [
            (&certificate, &key, ""),
            (&other, &key, "key.pem holds the key of another certificate"),
            (&key, &key, "cert.pem holds no certificate"),
            (&certificate, &certificate, "key.pem holds no private key"),
        ] {
            fs::write(scratch.path().join("cert.pem"), certificate).unwrap();
            fs::write(scratch.path().join("key.pem"), key).unwrap();
            let missing = missing_secrets(&load(&path, None).unwrap().config);
            assert_eq!(missing.iter().count(), usize::from(!expected.is_empty()), "{missing}");
            assert!(missing.to_string().contains(expected), "{expected} is not in {missing}");
            assert!(!missing.to_string().contains("BEGIN PRIVATE KEY-----\nM"), "{missing}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_password_in_a_file_that_others_may_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("fleet.toml");
    fs::write(&path, Fleet { group: "password = \"hunter2\"", ..Fleet::default() }.text()).unwrap();
    for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load(&path, None).unwrap();
        assert_eq!(loaded.warnings.iter().count(), warnings, "{mode:o}");
        assert!(!loaded.warnings.to_string().contains("hunter2"));
    }
}

#[test]
fn a_summary_adds_up() {
    let config = Fleet { query: "interval = \"10s\"", ..Fleet::default() }.config();
    assert_eq!(
        config.summary(),
        "1 target, 1 query, 1 item, 0.1 runs a second in all, 0.1 at the busiest target, at most 3 connections, \
         at most 10000 series"
    );
    assert_eq!((config.max_runs, config.max_connects), (256, 32));
    assert_eq!(config.listen, "0.0.0.0:9104");
}

#[test]
fn a_range_and_fifty_queries_make_half_a_million_items() {
    let mut text = "[groups.g]\nuser = \"u\"\nlabels = { shard = \"{1}\" }\n\
                    targets = { \"s{1..10000}\" = \"h{1..10000}\" }\n"
        .to_owned();
    for n in 0..50 {
        writeln!(text, "[queries.q{n}]\nsql = \"select 1 v\"").unwrap();
        writeln!(text, "metrics.f{n} = {{ type = \"gauge\", help = \"h\", value = \"v\" }}").unwrap();
    }
    let config = parse(Path::new("f.toml"), &text, None).unwrap_or_else(|report| panic!("{report}")).config;
    assert_eq!((config.targets.len(), config.items.len()), (10_000, 500_000));
    assert_eq!((config.max_runs, config.max_connects), (20_000, 625));
}
