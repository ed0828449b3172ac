//! Prometheus' own judgement of a page.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{not_tested, page::Page, repository};

/// Set where Prometheus cannot be had: its tests then say that they did not run.
const WITHOUT_PROMETHEUS: &str = "FLEET_TESTS_WITHOUT_PROMETHEUS";

/// A program of Debian's Prometheus; none where the environment says that there is none to be had.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let script = Command::new(repository().join("tests/servers/prometheus")).arg("path").output().unwrap();
    let folder = String::from_utf8(script.stdout).unwrap();
    let program = PathBuf::from(folder.trim_end()).join("bin").join(name);
    if program.exists() {
        return Some(program);
    }
    let why = "Prometheus is not installed for tests: run tests/servers/install";
    if env::var_os(WITHOUT_PROMETHEUS).is_some() {
        not_tested(why);
        return None;
    }
    panic!("{why}\nWhere it cannot be had, {WITHOUT_PROMETHEUS}=1 leaves its tests out.");
}

/// Asserts that `promtool check metrics` can read the page and has nothing to say about the exporter's own families.
/// How a user names families is the user's business.
pub(crate) fn assert_valid(page: &Page) {
    let Some(promtool) = program("promtool") else { return };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads all before it writes, so neither pipe can stop the other.
    child.stdin.take().unwrap().write_all(page.text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    // 3 is what it calls a page that it can read, with families that could be named better.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}\n{}", page.text);
    let own = own_families();
    let about_us: Vec<_> = said.lines().filter(|line| own.contains(family_of(line))).collect();
    assert!(about_us.is_empty(), "{about_us:#?}");
}

fn family_of(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// The closed list of the exporter's own families, from the documentation; a unit test compares that with the code.
pub(crate) fn own_families() -> BTreeSet<String> {
    let docs = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let names = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let ours = names.filter(|name| name.starts_with("query_exporter_") || name.starts_with("process_"));
    let families: BTreeSet<_> = ours.map(str::to_owned).collect();
    assert!(families.len() > 30, "{families:?}");
    families
}
