//! What is counted, and how it is shown.

use bytes::Bytes;

use super::*;
use crate::{Address, FamilyText, Password, Tls, TlsMode};

fn target(labels: &[(&str, &str)]) -> Arc<TargetStats> {
    Arc::new(TargetStats::new(&configured(labels), Arc::new(GroupStats::new("prod".into()))))
}

fn configured(labels: &[(&str, &str)]) -> Target {
    Target {
        name: "db1".into(),
        group: "prod".into(),
        address: Address::Tcp { host: "db1".into(), port: 3306 },
        user: Some("exporter".into()),
        password: Password::None,
        database: None,
        tls: Tls { mode: TlsMode::Preferred, ca: None, identity: None },
        labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        max_connections: 3,
        kill: true,
        session: crate::SessionSettings::default(),
    }
}

fn text(families: &[FamilyText]) -> String {
    let lines = families.iter().flat_map(|family| &family.lines);
    lines.map(|bytes| std::str::from_utf8(bytes).unwrap()).collect()
}

#[test]
fn up_is_zero_until_the_first_answer_and_the_last_attempt_after_it() {
    let target = target(&[]);
    assert!(!target.is_up());
    assert!(target.succeeded(), "a change");
    assert!(!target.succeeded(), "no change");
    assert!(!target.failed(&Failure::answered(Reason::Syntax, "x")), "an error of one query is no change");
    assert!(target.is_up());
    assert!(target.failed(&Failure::unanswered(Reason::Refused, "x")));
    assert!(!target.is_up());
    assert!(!target.failed(&Failure::unanswered(Reason::Refused, "x")), "still down");
    assert!(!target.failed(&Failure::unanswered(Reason::Dns, "x")), "still down, and still silent");
    assert!(target.failed(&Failure::answered(Reason::Auth, "x")), "down for a reason of another kind");
    assert!(!target.failed(&Failure::answered(Reason::Auth, "x")));
}

#[test]
fn a_target_costs_at_most_sixteen_series() {
    let target = target(&[("target", "db1")]);
    target.failed(&Failure::unanswered(Reason::Refused, "x"));
    let series = text(&families(&[target], &[])).lines().count();
    assert!(series <= 16, "{series}");
}

#[test]
fn what_has_not_changed_is_the_same_memory_and_the_rest_is_as_if_written_anew() {
    let targets: Vec<_> = (0..40).map(|_| target(&[("target", "db1")])).collect();
    let groups = [Arc::new(GroupStats::new("prod".into()))];
    let mut kept = Tables::default();
    let mut write = |targets: &[_]| {
        let mut families = kept.target_families(targets);
        families.extend(kept.group_families(&groups));
        assert_eq!(text(&families), text(&super::families(targets, &groups)));
        let pieces = families.into_iter().flat_map(|family| family.lines);
        pieces.collect::<Vec<_>>()
    };
    let changed = |before: &[Bytes], now: &[Bytes]| {
        before.iter().zip(now).filter(|(before, now)| before.as_ptr() != now.as_ptr()).count()
    };
    let first = write(&targets);
    assert_eq!(changed(&first, &write(&targets)), 0);
    targets[20].succeeded();
    let second = write(&targets);
    assert_eq!(second.len(), first.len());
    assert_eq!(changed(&first, &second), 3, "up, the last success and the runs, each in one piece");
    assert_eq!(changed(&second, &write(&targets)), 0);
    write(&targets[..10]);
    write(&targets);
    let others: Vec<_> = (0..40).map(|_| target(&[("target", "db2")])).collect();
    write(&others);
}

#[test]
fn whatever_changes_is_shown() {
    let (target, group) = (target(&[("target", "db1")]), Arc::new(GroupStats::new("prod".into())));
    let (mut kept, mut shown) = (Tables::default(), String::new());
    let mut check = |what: &str| {
        let now = text(&kept.target_families(&[Arc::clone(&target)]));
        assert_eq!(now, text(&families(&[Arc::clone(&target)], &[])), "{what}");
        assert_ne!(now, shown, "{what}");
        shown = now;
    };
    check("nothing yet");
    target.succeeded_at(1_700_000_000_500);
    check("a success before the start");
    target.connect_begun();
    check("a connect");
    target.connection_opened();
    check("a connection");
    target.introduced(&Arc::new(Server { version: "8.4".into(), ..Server::default() }));
    check("a server");
    target.answered();
    check("an answer");
    target.succeeded();
    check("a success");
    target.failed(&Failure::answered(Reason::Syntax, "x"));
    check("a failure");
    target.answered();
    check("an answer after it");
    target.missed(1, 1);
    check("a missed tick");
    target.killed(KillResult::Gone);
    check("a KILL");
    target.connection_closed();
    check("a connection less");
    target.relabel(&configured(&[("target", "db2")]), group);
    check("other labels");
}

#[test]
fn whatever_groups_count_is_shown() {
    let groups: Vec<_> = (0..9).map(|nth| Arc::new(GroupStats::new(format!("g{nth}").into()))).collect();
    let target = TargetStats::new(&configured(&[]), Arc::clone(&groups[5]));
    let (mut kept, mut shown) = (Tables::default(), String::new());
    let mut check = |groups: &[_]| {
        let now = text(&kept.group_families(groups));
        assert_eq!(now, text(&families(&[], groups)));
        assert_ne!(now, shown);
        shown = now;
    };
    check(&groups);
    target.failed(&Failure::answered(Reason::Syntax, "x"));
    check(&groups);
    target.killed(KillResult::Killed);
    check(&groups);
    check(&groups[1..]);
    check(&groups[..2]);
}

#[test]
fn everything_exists_from_the_start_and_own_labels_win() {
    let target = target(&[("env", "prod \"x\""), ("reason", "mine"), ("target", "db1"), ("tls", "mine")]);
    let text = text(&families(&[target], &[Arc::new(GroupStats::new("prod".into()))]));
    for line in [
        r#"query_exporter_up{env="prod \"x\"",target="db1",tls="mine"} 0"#,
        r#"query_exporter_target_info{env="prod \"x\"",target="db1",flavour="",version="",server_id="",role="",tls="preferred",guards_refused=""} 1"#,
        r#"query_exporter_ticks_missed_total{env="prod \"x\"",target="db1",tls="mine",reason="no_permit"} 0"#,
        r#"query_exporter_failures_total{group="prod",reason="too_large"} 0"#,
        r#"query_exporter_group_kills_total{group="prod",result="other_server"} 0"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_server_of_the_last_connect_is_shown_and_a_change_of_what_it_refuses_is_told() {
    let target = target(&[("target", "db1"), ("role", "replica")]);
    let server = |read_only, guards: &[&'static str]| {
        let refused =
            guards.iter().map(|guard| crate::driver::RefusedGuard { guard, error: "no".to_owned() });
        Arc::new(Server {
            version: "8.0.36".to_owned(),
            server_id: "7".to_owned(),
            read_only,
            refused: refused.collect(),
            ..Server::default()
        })
    };
    for (read_only, guards, changed, expected) in [
        (Some(false), &[][..], false, r#"role="writable",tls="preferred",guards_refused="""#),
        (
            Some(true),
            &["read_only", "wait_timeout"],
            true,
            r#"role="read_only",tls="preferred",guards_refused="read_only wait_timeout""#,
        ),
        (
            None,
            &["read_only", "wait_timeout"],
            false,
            r#"role="",tls="preferred",guards_refused="read_only wait_timeout""#,
        ),
        (None, &["read_only"], true, r#"role="",tls="preferred",guards_refused="read_only""#),
        (None, &[], true, r#"role="",tls="preferred",guards_refused="""#),
    ] {
        assert_eq!(target.introduced(&server(read_only, guards)), changed, "{expected}");
        let line = format!(
            r#"query_exporter_target_info{{target="db1",flavour="mysql",version="8.0.36",server_id="7",{expected}}} 1"#
        );
        let text = text(&families(&[Arc::clone(&target)], &[]));
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn without_any_label_there_are_no_braces() {
    assert!(text(&families(&[target(&[])], &[])).starts_with("query_exporter_up 0\n"));
}
