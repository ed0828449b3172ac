//! Results as bytes: what was written comes back to the same page at its true age; what else comes breaks nothing.

use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};

use super::*;
use crate::{
    BootTime, Query, ResultLimits,
    fragment::identity,
    snapshot::tests::{AGE, arrange, arranged, at, publish, simple},
    testing::{self, metric, query, rows},
};

/// This second of a machine that was started at the epoch.
fn moment(second: u64) -> Moment {
    Moment { wall_ms: second * 1000, boot: at(second) }
}

/// The same second after a reboot this long before it.
fn after_reboot(second: u64, up: u64) -> Moment {
    Moment { boot: at(up), ..moment(second) }
}

fn text(snapshot: &Snapshot, now: BootTime) -> String {
    testing::text(&snapshot.read(now))
}

/// The bytes of `who|n` rows, read at second 100 and written at second 110.
fn kept(query: &Query, table: &[&str]) -> (u64, Vec<u8>) {
    let (snapshot, slots) = arranged(std::slice::from_ref(query), &["db1"]);
    publish(&snapshot, &slots[0], 100, table);
    slots[0].to_bytes(moment(110)).unwrap()
}

#[test]
fn a_result_comes_back_at_its_true_age_and_leaves_at_its_limit() {
    let query = simple("q", "f");
    let (read_ms, bytes) = kept(&query, &["a|1", "b|2.50"]);
    // Restarted, and rebooted: the machine has run for 3 s, the result is 30 s old.
    for now in [moment(130), after_reboot(130, 3)] {
        let (snapshot, slots) = arranged(std::slice::from_ref(&query), &["db1"]);
        assert_eq!(snapshot.restore(&slots[0], (read_ms, &bytes), now, AGE), Ok(Duration::from_secs(30)));
        let expected = "f{target=\"db1\",who=\"a\"} 1\nf{target=\"db1\",who=\"b\"} 2.50\n";
        assert_eq!(text(&snapshot, now.boot.plus(Duration::from_secs(29))), expected);
        assert_eq!(text(&snapshot, now.boot.plus(Duration::from_secs(30))), "");
        assert_eq!((snapshot.series(), snapshot.untried()), (2, 0));
        let last = slots[0].record.last_run().unwrap();
        let result = last.result.unwrap();
        assert_eq!((last.ended_ms, now.boot.since(result.at).as_secs(), result.series), (100_000, 30, 2));
        let families = crate::rollup::query_families(snapshot.queries());
        assert!(testing::text(&families).contains("oldest_success_timestamp_seconds{query=\"q\"} 100"));
        snapshot.sweep(now.boot.plus(AGE));
        assert_eq!((snapshot.series(), snapshot.bytes()), (0, 0));
    }
}

#[test]
fn what_was_read_in_the_future_is_new_and_no_more() {
    let query = simple("q", "f");
    let (read_ms, bytes) = kept(&query, &["a|1"]);
    let (snapshot, slots) = arranged(std::slice::from_ref(&query), &["db1"]);
    assert_eq!(snapshot.restore(&slots[0], (read_ms, &bytes), moment(40), AGE), Ok(Duration::ZERO));
    assert_eq!(slots[0].record.last_run().unwrap().ended_ms, 40_000);
    assert_eq!(text(&snapshot, at(99)).lines().count(), 1);
    assert_eq!(text(&snapshot, at(100)), "");
}

#[test]
fn a_run_wins_over_what_was_kept() {
    let query = simple("q", "f");
    let (read_ms, bytes) = kept(&query, &["a|1"]);
    let (snapshot, slots) = arranged(std::slice::from_ref(&query), &["db1"]);
    publish(&snapshot, &slots[0], 120, &["a|2"]);
    assert_eq!(snapshot.restore(&slots[0], (read_ms, &bytes), moment(121), AGE), Err(NotRestored::NotNeeded));
    assert_eq!(text(&snapshot, at(121)), "f{target=\"db1\",who=\"a\"} 2\n");
}

#[test]
fn only_what_would_say_the_same_takes_a_result_over() {
    #[track_caller]
    fn check(query: &Query, target: &str, limits: ResultLimits, expected: Result<u64, NotRestored>) {
        let (snapshot, _) = arranged(&[], &[]);
        let target = Arc::new(testing::target(target));
        let query = Arc::new(query.clone());
        let spec = crate::ItemSpec {
            query,
            target,
            timeout: AGE,
            expire_after: AGE,
            drop_on_failure: false,
            limits,
        };
        let slots = snapshot.arrange(&[spec]);
        let (read_ms, bytes) = kept(&simple("q", "f"), &["a|1"]);
        let restored = snapshot.restore(&slots[0], (read_ms, &bytes), moment(110), AGE);
        assert_eq!(restored.map(|age| age.as_secs()), expected);
        assert_eq!(snapshot.series(), i64::from(expected.is_ok()));
    }
    let usual = ResultLimits::default();
    check(&simple("q", "f"), "db1", usual, Ok(10));
    // HELP is not what it says.
    let mut helped = metric("f", "n", &["who"]);
    let family = crate::Family { help: "other".to_owned(), ..(*helped.family).clone() };
    helped.family = Arc::new(family);
    check(&query("q", vec![helped]), "db1", usual, Ok(10));
    let other = Err(NotRestored::OfAnother);
    check(&simple("q", "f"), "db2", usual, other);
    check(&simple("q", "g"), "db1", usual, other);
    check(&query("q", vec![metric("f", "n", &["who", "where"])]), "db1", usual, other);
    check(&simple("q", "f"), "db1", ResultLimits { label_bytes: 5, ..usual }, other);
}

#[test]
fn what_is_too_old_too_large_or_of_another_format_stays_away() {
    let query = simple("q", "f");
    let (read_ms, bytes) = kept(&query, &["a|1"]);
    let restore = |snapshot: &Snapshot, bytes: &[u8], second| {
        let slots = arrange(snapshot, std::slice::from_ref(&query), &["db1"]);
        snapshot.restore(&slots[0], (read_ms, bytes), moment(second), AGE)
    };
    assert_eq!(restore(&Snapshot::default(), &bytes, 160), Err(NotRestored::TooOld));
    assert_eq!(restore(&Snapshot::new(10), &bytes, 110), Err(NotRestored::TooLarge));
    assert_eq!(restore(&Snapshot::default(), &[], 110), Err(NotRestored::Invalid));
    let mut newer = bytes;
    newer[0] += 1;
    assert_eq!(restore(&Snapshot::default(), &newer, 110), Err(NotRestored::OfAnother));
}

/// Lines that are valid, but not this item's: another family, another target, a series that is there twice.
#[test]
fn lines_that_the_item_could_not_have_written_are_not_believed() {
    let query = simple("q", "f");
    let (snapshot, slots) = arranged(std::slice::from_ref(&query), &["db1"]);
    let (read_ms, good) = kept(&query, &["a|1"]);
    let header = &good[..33];
    for lines in [
        "g{target=\"db1\",who=\"a\"} 1\n",
        "f_total{target=\"db1\"} 1\n",
        "f{target=\"db2\",who=\"a\"} 1\n",
        "f{target=\"db1\",target=\"db1\"} 1\n",
        "f 1\n",
        "f{target=\"db1\",who=\"a\"} 1\nf{target=\"db1\",who=\"a\"} 2\n",
        "f{target=\"db1\",who=\"a\"} 1e999\n",
        "f{target=\"db1\",who=\"a\"} 1",
        "# HELP f h\n",
    ] {
        let length = (lines.len() as u64).to_le_bytes();
        let bytes = [header, &length, lines.as_bytes()].concat();
        let restored = snapshot.restore(&slots[0], (read_ms, &bytes), moment(110), AGE);
        assert_eq!(restored, Err(NotRestored::Invalid), "{lines}");
    }
    assert!(
        snapshot.restore(&slots[0], (read_ms, &good), moment(110), AGE).is_ok(),
        "or the header is longer"
    );
}

#[test]
fn the_number_of_a_result_is_told_if_it_is_a_single_one() {
    let (snapshot, slots) = arranged(&[simple("q", "f")], &["db1"]);
    assert_eq!(slots[0].single_value(), None);
    for (table, expected) in
        [(&["a b|1.25"][..], Some(1.25)), (&["a|1", "b|2"], None), (&[], None), (&["} 7|-3e2"], Some(-300.0))]
    {
        publish(&snapshot, &slots[0], 0, table);
        assert_eq!(slots[0].single_value(), expected, "{table:?}");
    }
}

/// A query with a family of one metric and one of two, some without labels.
fn three_metrics() -> Query {
    query("q", vec![metric("f", "n", &["who"]), metric("g", "n", &[]), metric("f", "m", &["what", "who"])])
}

proptest! {
    #[test]
    fn any_result_comes_back_as_it_was(table in vec((".{0,20}", "[ab\"\\\\\n{} ]{0,5}", any::<i64>(), any::<u8>()), 0..20)) {
        let query = three_metrics();
        let table: Vec<_> =
            table.iter().map(|(who, what, n, m)| format!("{}|{what}|{n}|{m}", who.replace('|', " "))).collect();
        let table: Vec<_> = table.iter().map(String::as_str).collect();
        let limits = ResultLimits::default();
        let (before, slots) = arranged(std::slice::from_ref(&query), &["db1"]);
        let mapped = slots[0].map(&rows(limits, "who|what|n|m", &table)).unwrap();
        before.publish(&slots[0], mapped, at(100), AGE).unwrap();
        let kept = slots[0].to_bytes(moment(110)).unwrap();
        prop_assert_eq!(kept.0, 100_000);

        let (after, slots) = arranged(std::slice::from_ref(&query), &["db1"]);
        prop_assert_eq!(after.restore(&slots[0], (kept.0, &kept.1), moment(120), AGE), Ok(Duration::from_secs(20)));
        prop_assert_eq!(text(&after, at(120)), text(&before, at(120)));
        prop_assert_eq!((after.series(), after.bytes()), (before.series(), before.bytes()));
        prop_assert_eq!(slots[0].to_bytes(moment(130)).unwrap(), kept, "written again it is the same");
    }

    #[test]
    fn whatever_comes_back_the_page_is_valid(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        more in vec(any::<u8>(), 0..4),
    ) {
        let query = three_metrics();
        let limits = ResultLimits::default();
        let (snapshot, slots) = arranged(std::slice::from_ref(&query), &["db1"]);
        let table = rows(limits, "who|what|n|m", &["a|b|1|2", "c\"|d|3|4"]);
        let mapped = slots[0].map(&table).unwrap();
        snapshot.publish(&slots[0], mapped, at(100), AGE).unwrap();
        let (_, mut bytes) = slots[0].to_bytes(moment(110)).unwrap();
        slots[0].clear();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(more);
        check_harmless(&snapshot, &slots[0], &bytes)?;
    }

    #[test]
    fn bytes_of_any_kind_are_borne(bytes in vec(any::<u8>(), 0..200), framed: bool) {
        let query = three_metrics();
        let (snapshot, slots) = arranged(std::slice::from_ref(&query), &["db1"]);
        let mut all = Vec::new();
        if framed {
            all.push(FORMAT);
            let fingerprint = slots[0].fingerprint();
            let header = Header { fingerprint, rows: 1, lateness_us: 0, duration_us: 0 };
            header.write(&mut all);
        }
        all.extend(bytes);
        check_harmless(&snapshot, &slots[0], &all)?;
    }
}

/// The bytes may be taken or not: what is on the page then is valid, without a series twice, and of this item.
fn check_harmless(snapshot: &Snapshot, slot: &Slot, bytes: &[u8]) -> Result<(), TestCaseError> {
    let restored = snapshot.restore(slot, (100_000, bytes), moment(110), AGE);
    let text = text(snapshot, at(110));
    prop_assert!(restored.is_ok() || text.is_empty());
    prop_assert!(is_valid(text.as_bytes()), "{}", text);
    let series: Vec<_> = lines(text.as_bytes()).map(|(_, series)| identity(series)).collect();
    let distinct: std::collections::HashSet<_> = series.iter().collect();
    prop_assert_eq!(distinct.len(), series.len());
    let own = ["f{target=\"db1\"", "g{target=\"db1\""];
    let is_own = |line: &str| own.iter().any(|own| line.starts_with(own));
    prop_assert!(text.lines().all(is_own), "{}", text);
    Ok(())
}
