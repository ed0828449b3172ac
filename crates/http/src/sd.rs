//! `/sd`: the fleet as targets for Prometheus' HTTP service discovery, one for each database.

use std::fmt::Write as _;

use fleet_collector::{Cut, snapshot::Names};

/// The JSON that `http_sd_configs` reads: for each database of the cut this exporter's own address, with the page of that
/// database and its name as the instance. Nothing needs to be relabelled.
///
/// `address` is where this exporter is, as the one who asks calls it; `scheme` how.
pub(crate) fn json(names: &Names, cut: &Cut, address: &str, scheme: &str) -> String {
    let mut json = String::from("[");
    for (target, group) in names.targets.iter().filter(|(target, group)| cut.has_target(target, group)) {
        let comma = if json.len() > 1 { "," } else { "" };
        let (address, target, group) = (quoted(address), quoted(target), quoted(group));
        let _ = write!(
            json,
            "{comma}\n{{\"targets\":[{address}],\"labels\":{{\"__scheme__\":\"{scheme}\",\
             \"__metrics_path__\":\"/probe\",\"__param_target\":{target},\"instance\":{target},\
             \"__meta_fleet_target\":{target},\"__meta_fleet_group\":{group}}}}}"
        );
    }
    json + "\n]\n"
}

/// A string as JSON writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        for (target, group) in [("db1", "prod"), ("db2", "test")] {
            names.targets.insert(target.into(), group.into());
        }
        names
    }

    #[test]
    fn each_database_is_a_target_of_its_own() {
        expect![[r#"
            [
            {"targets":["exporter:9104"],"labels":{"__scheme__":"http","__metrics_path__":"/probe","__param_target":"db1","instance":"db1","__meta_fleet_target":"db1","__meta_fleet_group":"prod"}},
            {"targets":["exporter:9104"],"labels":{"__scheme__":"http","__metrics_path__":"/probe","__param_target":"db2","instance":"db2","__meta_fleet_target":"db2","__meta_fleet_group":"test"}}
            ]
        "#]]
        .assert_eq(&json(&names(), &Cut::default(), "exporter:9104", "http"));
    }

    #[test]
    fn a_cut_narrows_it() {
        let cut = Cut { groups: ["test".to_owned()].into(), ..Cut::default() };
        let json = json(&names(), &cut, "exporter:9104", "https");
        assert!(json.contains("\"db2\"") && !json.contains("\"db1\""), "{json}");
        assert_eq!(super::json(&Names::default(), &Cut::default(), "", "http"), "[\n]\n");
    }

    #[test]
    fn what_a_client_says_stays_within_its_string() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
    }
}
