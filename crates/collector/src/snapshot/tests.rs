//! The snapshot by itself: results are put in at moments of the test's choosing, and read at others.

use expect_test::{Expect, expect};

use super::*;
use crate::{
    Metric, Query, ResultLimits, Target,
    rollup::query_families,
    testing::{self, metric, query, rows, target},
};

pub(super) const AGE: Duration = Duration::from_secs(60);

pub(super) fn at(seconds: u64) -> BootTime {
    BootTime::from_boot(Duration::from_secs(seconds))
}

/// A snapshot of these queries, each on each of these targets, and the items' places, query by query.
pub(super) fn arranged(queries: &[Query], targets: &[&str]) -> (Snapshot, Vec<Arc<Slot>>) {
    let snapshot = Snapshot::default();
    let slots = arrange(&snapshot, queries, targets);
    (snapshot, slots)
}

pub(super) fn arrange(snapshot: &Snapshot, queries: &[Query], targets: &[&str]) -> Vec<Arc<Slot>> {
    let targets: Vec<_> = targets.iter().map(|name| Arc::new(target(name))).collect();
    let queries = queries.iter().map(|query| Arc::new(query.clone()));
    let specs: Vec<_> = queries
        .flat_map(|query| targets.iter().map(move |t| spec(Arc::clone(&query), Arc::clone(t))))
        .collect();
    snapshot.arrange(&specs)
}

fn spec(query: Arc<Query>, target: Arc<Target>) -> ItemSpec {
    let limits = ResultLimits::default();
    ItemSpec { query, target, timeout: AGE, expire_after: AGE, drop_on_failure: false, limits }
}

/// A query `name` whose rows are `who|n`, for one family.
pub(super) fn simple(name: &str, family: &str) -> Query {
    query(name, vec![metric(family, "n", &["who"])])
}

/// Publishes the rows `who|n` as read at this second.
pub(super) fn publish(snapshot: &Snapshot, slot: &Arc<Slot>, second: u64, table: &[&str]) {
    let mapped = slot.plan.map(
        &slot.query,
        &slot.target,
        ResultLimits::default(),
        &rows(ResultLimits::default(), "who|n", table),
    );
    snapshot.publish(slot, mapped.unwrap(), at(second), AGE).unwrap();
}

#[expect(clippy::needless_pass_by_value, reason = "a case reads as one expression")]
#[track_caller]
fn check(snapshot: &Snapshot, second: u64, expected: Expect) {
    expected.assert_eq(&testing::text(&snapshot.read(at(second))));
}

#[track_caller]
fn check_held(snapshot: &Snapshot, series: i64, bytes: usize) {
    assert_eq!((snapshot.series(), snapshot.bytes()), (series, i64::try_from(bytes).unwrap()));
}

/// How many samples of this query were dropped as duplicates.
fn duplicates(snapshot: &Snapshot, query: &str) -> u64 {
    snapshot.layout.load().queries[query].dropped[0].load(Relaxed)
}

#[test]
fn a_result_replaces_the_one_before_it_whole() {
    let (snapshot, slots) = arranged(&[simple("q", "f")], &["db1"]);
    publish(&snapshot, &slots[0], 0, &["a|1", "b|2"]);
    publish(&snapshot, &slots[0], 10, &["b|3"]);
    check(
        &snapshot,
        10,
        expect![[r#"
            f{target="db1",who="b"} 3
        "#]],
    );
    publish(&snapshot, &slots[0], 20, &[]);
    check(&snapshot, 20, expect![""]);
}

#[test]
fn nothing_is_read_at_its_age_limit_or_later_swept_or_not() {
    let (snapshot, slots) = arranged(&[simple("q", "f")], &["db1"]);
    publish(&snapshot, &slots[0], 100, &["a|1"]);
    check(
        &snapshot,
        159,
        expect![[r#"
            f{target="db1",who="a"} 1
        "#]],
    );
    check(&snapshot, 160, expect![""]);
}

#[test]
fn a_sweep_frees_what_is_too_old_and_nothing_else() {
    let (snapshot, slots) = arranged(&[simple("q", "f")], &["db1", "db2"]);
    let line = r#"f{target="db1",who="a"} 1"#.len() + 1;
    publish(&snapshot, &slots[0], 0, &["a|1"]);
    publish(&snapshot, &slots[1], 30, &["a|1"]);
    snapshot.sweep(at(59));
    check_held(&snapshot, 2, 2 * line);
    snapshot.sweep(at(60));
    check_held(&snapshot, 1, line);
    check(
        &snapshot,
        60,
        expect![[r#"
            f{target="db2",who="a"} 1
        "#]],
    );
    // A run has published anew before the sweep comes by: it stays.
    publish(&snapshot, &slots[1], 89, &["a|2"]);
    snapshot.sweep(at(90));
    check_held(&snapshot, 1, line);
    snapshot.sweep(at(149));
    check_held(&snapshot, 0, 0);
}

#[test]
fn the_totals_follow_every_change_and_end_at_nothing() {
    let (snapshot, slots) = arranged(&[simple("q", "f"), simple("r", "g")], &["db1"]);
    publish(&snapshot, &slots[0], 0, &["a|1", "b|2"]);
    publish(&snapshot, &slots[1], 0, &["a|1"]);
    check_held(&snapshot, 3, 3 * (r#"f{target="db1",who="a"} 1"#.len() + 1));
    publish(&snapshot, &slots[0], 1, &[]);
    assert_eq!(snapshot.series(), 1);
    slots[1].clear();
    slots[1].clear();
    check_held(&snapshot, 0, 0);
    // A run that was under way when its item went away publishes into nothing.
    publish(&snapshot, &slots[0], 2, &["a|1"]);
    arrange(&snapshot, &[], &[]);
    publish(&snapshot, &slots[0], 3, &["a|1"]);
    check(&snapshot, 3, expect![""]);
    drop(slots);
    check_held(&snapshot, 0, 0);
}

#[test]
fn families_stand_in_the_order_of_their_names_and_their_samples_by_query_and_target() {
    let (snapshot, slots) = arranged(&[simple("q2", "a"), simple("q1", "b"), simple("q0", "b")], &["y", "x"]);
    for slot in &slots {
        publish(&snapshot, slot, 0, &[&format!("{}|1", slot.id)]);
    }
    check(
        &snapshot,
        0,
        expect![[r#"
            a{target="x",who="q2@x"} 1
            a{target="y",who="q2@y"} 1
            b{target="x",who="q0@x"} 1
            b{target="y",who="q0@y"} 1
            b{target="x",who="q1@x"} 1
            b{target="y",who="q1@y"} 1
        "#]],
    );
    let families: Vec<_> = snapshot.read(at(0)).iter().map(|f| f.family.help.clone()).collect();
    assert_eq!(families, ["help of a", "help of b"], "one header each, however many queries feed it");
}

#[test]
fn of_equal_series_in_a_shared_family_that_of_the_first_query_is_shown_and_the_rest_counted() {
    let (snapshot, slots) = arranged(&[simple("q1", "f"), simple("q2", "f"), simple("q3", "f")], &["db1"]);
    publish(&snapshot, &slots[0], 0, &["a|1", "b|1"]);
    publish(&snapshot, &slots[1], 0, &["b|2", "c|2"]);
    publish(&snapshot, &slots[2], 0, &["b|3", "c|3", "d|3"]);
    check(
        &snapshot,
        0,
        expect![[r#"
            f{target="db1",who="a"} 1
            f{target="db1",who="b"} 1
            f{target="db1",who="c"} 2
            f{target="db1",who="d"} 3
        "#]],
    );
    let counted = || ["q1", "q2", "q3"].map(|query| duplicates(&snapshot, query));
    assert_eq!(counted(), [0, 1, 2]);
    // The same again hides nothing that was shown.
    publish(&snapshot, &slots[0], 1, &["a|1", "b|1"]);
    assert_eq!(counted(), [0, 1, 2]);
    // One more that was shown up to now; b and c have been counted.
    publish(&snapshot, &slots[0], 2, &["b|1", "c|1", "d|1"]);
    assert_eq!(counted(), [0, 2, 3]);
    // Another run of the last query counts its samples again.
    publish(&snapshot, &slots[2], 3, &["a|3", "d|3"]);
    assert_eq!(counted(), [0, 2, 4]);
}

#[test]
fn an_expired_result_hides_nothing() {
    let (snapshot, slots) = arranged(&[simple("q1", "f"), simple("q2", "f")], &["db1"]);
    publish(&snapshot, &slots[0], 0, &["a|1"]);
    publish(&snapshot, &slots[1], 60, &["a|2"]);
    check(
        &snapshot,
        60,
        expect![[r#"
            f{target="db1",who="a"} 2
        "#]],
    );
    assert_eq!(duplicates(&snapshot, "q2"), 0);
    publish(&snapshot, &slots[0], 61, &["a|1"]);
    assert_eq!((duplicates(&snapshot, "q1"), duplicates(&snapshot, "q2")), (0, 1));
}

#[test]
fn in_a_shared_family_labels_in_another_order_make_the_same_series() {
    let by = |name: &str, labels: &[&str]| query(name, vec![metric("f", "n", labels)]);
    let (snapshot, slots) = arranged(&[by("q1", &["who", "n"]), by("q2", &["n", "who"])], &["db1", "db2"]);
    publish(&snapshot, &slots[0], 0, &["a|1"]);
    publish(&snapshot, &slots[2], 0, &["a|1"]);
    publish(&snapshot, &slots[3], 0, &["a|1"]);
    check(
        &snapshot,
        0,
        expect![[r#"
            f{target="db1",who="a",n="1"} 1
            f{target="db2",n="1",who="a"} 1
        "#]],
    );
    assert_eq!((duplicates(&snapshot, "q1"), duplicates(&snapshot, "q2")), (0, 1));
}

#[test]
fn an_unchanged_item_keeps_its_place_and_result_and_what_changed_or_went_is_gone_at_once() {
    let (snapshot, before) = arranged(&[simple("kept", "f"), simple("changed", "g")], &["db1", "db2"]);
    for slot in &before {
        publish(&snapshot, slot, 0, &["a|1"]);
    }
    let changed = query("changed", vec![Metric { labels: Vec::new(), ..metric("g", "n", &[]) }]);
    let after = arrange(&snapshot, &[simple("kept", "f"), changed], &["db1", "db3"]);
    check(
        &snapshot,
        0,
        expect![[r#"
            f{target="db1",who="a"} 1
        "#]],
    );
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert_eq!((snapshot.series(), snapshot.untried()), (1, 3));
}

#[test]
fn a_result_does_not_outlive_the_address_it_was_read_from() {
    let (snapshot, slots) = arranged(&[simple("q", "f")], &["db1"]);
    publish(&snapshot, &slots[0], 0, &["a|1"]);
    let mut moved = target("db1");
    let on = |moved: &Target| spec(Arc::new(simple("q", "f")), Arc::new(moved.clone()));
    moved.password = crate::Password::Env("ROTATED".into());
    let same = snapshot.arrange(&[on(&moved)]);
    assert!(Arc::ptr_eq(&same[0], &slots[0]), "the password is not what a result is about");
    moved.address = crate::Address::Tcp { host: "other".into(), port: 3306 };
    snapshot.arrange(&[on(&moved)]);
    check(&snapshot, 0, expect![""]);
}

#[test]
fn an_item_is_tried_once_it_succeeded_or_failed() {
    let (snapshot, slots) = arranged(&[simple("q", "f")], &["db1", "db2"]);
    assert_eq!((snapshot.all_tried(), snapshot.untried()), (false, 2));
    publish(&snapshot, &slots[0], 0, &[]);
    assert_eq!((snapshot.all_tried(), snapshot.untried()), (false, 1));
    slots[1].mark_tried();
    assert_eq!((snapshot.all_tried(), snapshot.untried()), (true, 0));
}

#[test]
fn the_families_about_queries_tell_items_age_and_what_was_dropped() {
    let (snapshot, slots) = arranged(&[simple("hosts", "f"), simple("users", "g")], &["db1", "db2"]);
    publish(&snapshot, &slots[0], 0, &["a|1", "a|2", "b|x"]);
    publish(&snapshot, &slots[1], 0, &["a|1"]);
    publish(&snapshot, &slots[2], 0, &["a|1"]);
    let mapped = Mapped { cut: 3, fragments: vec![Bytes::new()].into(), ..Mapped::default() };
    snapshot.publish(&slots[2], mapped, at(0), AGE).unwrap();
    // The wall clock is not the test's to set.
    slots[0].last_success_ms.store(1_700_000_000_500, Relaxed);
    slots[1].last_success_ms.store(1_700_000_060_000, Relaxed);
    expect![[r#"
        query_exporter_query_items{query="hosts"} 2
        query_exporter_query_items{query="users"} 2
        query_exporter_query_items_stale{query="hosts"} 0
        query_exporter_query_items_stale{query="users"} 1
        query_exporter_query_oldest_success_timestamp_seconds{query="hosts"} 1700000000.500
        query_exporter_query_oldest_success_timestamp_seconds{query="users"} 0
        query_exporter_series_dropped_total{query="hosts",reason="duplicate"} 1
        query_exporter_series_dropped_total{query="hosts",reason="not_a_number"} 1
        query_exporter_series_dropped_total{query="hosts",reason="invalid"} 0
        query_exporter_series_dropped_total{query="users",reason="duplicate"} 0
        query_exporter_series_dropped_total{query="users",reason="not_a_number"} 0
        query_exporter_series_dropped_total{query="users",reason="invalid"} 0
        query_exporter_labels_cut_total{query="hosts"} 0
        query_exporter_labels_cut_total{query="users"} 3
    "#]]
    .assert_eq(&testing::text(&query_families(snapshot.queries())));
}

#[test]
fn how_items_do_is_told_anew_after_each_change() {
    let (snapshot, slots) = arranged(&[simple("hosts", "f"), simple("users", "g")], &["db1", "db2"]);
    // Of each query its items, and those without a result.
    let check = |hosts: (u64, u64), users: (u64, u64)| {
        let lines = testing::text(&query_families(snapshot.queries()));
        let number = |name: &str, query: &str| {
            let start = format!("query_exporter_query_{name}{{query=\"{query}\"}} ");
            lines.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse::<u64>().unwrap()
        };
        let seen = ["hosts", "users"].map(|query| (number("items", query), number("items_stale", query)));
        assert_eq!(seen, [hosts, users]);
    };
    check((2, 2), (2, 2));
    publish(&snapshot, &slots[0], 0, &["a|1"]);
    check((2, 1), (2, 2));
    publish(&snapshot, &slots[3], 5, &["a|1"]);
    check((2, 1), (2, 1));
    slots[2].leave();
    check((2, 1), (1, 0));
    snapshot.sweep(at(60));
    check((2, 2), (1, 0));
    slots[3].clear();
    check((2, 2), (1, 1));
}

#[test]
fn who_would_make_the_page_too_large_is_refused_and_nobody_else_loses_anything() {
    let snapshot = Snapshot::new(100);
    let slots = arrange(&snapshot, &[simple("a", "f")], &["t1", "t2"]);
    let mapped = |slot: &Arc<Slot>, table: &[&str]| {
        let limits = ResultLimits::default();
        slot.plan.map(&slot.query, &slot.target, limits, &rows(limits, "who|n", table)).unwrap()
    };
    let publish = |slot, table: &[&str]| snapshot.publish(slot, mapped(slot, table), at(0), AGE);
    publish(&slots[0], &["ada|1", "bob|2"]).unwrap();
    let failure = publish(&slots[1], &["ada|1", "bob|2"]).unwrap_err();
    assert_eq!((failure.reason, failure.is_down()), (Reason::TooLarge, false));
    assert!(failure.message.contains("max_page_bytes"), "{failure}");
    publish(&slots[1], &["ada|1"]).unwrap();
    publish(&slots[0], &["bob|3"]).unwrap();
    check(
        &snapshot,
        1,
        expect![[r#"
        f{target="t1",who="bob"} 3
        f{target="t2",who="ada"} 1
    "#]],
    );
}

/// The stamps of all parts, and the moments until which they say the same.
fn parts(snapshot: &Snapshot, second: u64) -> (u64, Vec<(u64, Option<BootTime>)>) {
    let reading = snapshot.reading(at(second));
    let part = |part| {
        let stamp = reading.stamp(part);
        (stamp, reading.walk_part(part, |_, _| ()))
    };
    (reading.layout(), (0..reading.parts()).map(part).collect())
}

#[test]
fn a_part_tells_each_change_of_what_it_shows_and_the_parts_are_the_whole() {
    let targets: Vec<_> = (0..20).map(|n| format!("db{n:02}")).collect();
    let targets: Vec<_> = targets.iter().map(String::as_str).collect();
    let queries = [simple("q1", "f1"), simple("q2", "f2"), simple("q3", "f2")];
    let (snapshot, slots) = arranged(&queries, &targets);
    for (nth, slot) in slots.iter().enumerate() {
        publish(&snapshot, slot, nth as u64, &["a|1", "b|2"]);
    }
    let (layout, first) = parts(&snapshot, 59);
    assert_eq!(first.len(), 4, "three blocks of one query, and a family that has to be read whole");
    // The first of each is the oldest; those of 0 are still there.
    let until: Vec<_> = first.iter().map(|(_, until)| *until).collect();
    assert_eq!(until, [Some(at(60)), Some(at(68)), Some(at(76)), Some(at(80))]);

    let changed = |before: &[(u64, Option<BootTime>)], second| -> Vec<usize> {
        let (_, now) = parts(&snapshot, second);
        (0..before.len()).filter(|part| before[*part].0 != now[*part].0).collect()
    };
    assert_eq!(changed(&first, 59), [0_usize; 0]);
    publish(&snapshot, &slots[9], 59, &["a|1"]);
    assert_eq!(changed(&first, 59), [1]);
    publish(&snapshot, &slots[45], 59, &["a|1"]);
    assert_eq!(changed(&first, 59), [1, 3]);
    slots[0].clear();
    assert_eq!(changed(&first, 59), [0, 1, 3]);
    let (_, second) = parts(&snapshot, 59);
    snapshot.sweep(at(61));
    assert_eq!(changed(&second, 61), [0], "the second of the first block");

    let reading = snapshot.reading(at(70));
    let mut text = Vec::new();
    for part in 0..reading.parts() {
        reading.walk_part(part, |_, piece| text.extend_from_slice(piece.text));
    }
    assert_eq!(String::from_utf8(text).unwrap(), testing::text(&snapshot.read(at(70))));

    arrange(&snapshot, &queries, &targets[1..]);
    assert_ne!(parts(&snapshot, 70).0, layout);
}
