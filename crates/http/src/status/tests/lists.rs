//! What is asked for, what comes first, and where a list ends.

use super::{
    view::{Ask, MAX_GROUPS, MAX_ITEMS, MAX_SICK, MAX_TARGETS},
    *,
};

#[test]
fn of_equally_sick_targets_the_newest_comes_first_and_down_before_failing() {
    let mut targets: Vec<_> = (0..5).map(|n| target(&format!("down{n}"), "g", State::Down, vec![])).collect();
    for ((target, _), minutes) in targets.iter_mut().zip([30, 1, 500, 2, 60]) {
        target.brief.since_ms = Some(NOW - minutes * 60_000);
    }
    targets.insert(0, target("a-failing", "g", State::Up, vec![failing("q", "no")]));
    targets.insert(0, target("a-stale", "g", State::Up, vec![Item { shown: false, ..well("q") }]));
    targets.insert(0, target("a-well", "g", State::Up, vec![well("q")]));
    let names = |page: &Value, list: &str| -> Vec<String> {
        page[list].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect()
    };
    let sick = ["down1", "down3", "down0", "down4", "down2", "a-failing", "a-stale"];
    let fleet = || Scripted { exporter: exporter(), targets: targets.clone() };
    assert_eq!(names(&json(fleet(), ""), "sick"), sick);
    let all: Vec<_> = sick.into_iter().chain(["a-well"]).collect();
    assert_eq!(names(&json(fleet(), "group=g"), "targets"), all);
}

#[test]
fn every_list_has_an_end_and_says_what_is_beyond() {
    #[track_caller]
    fn check(targets: usize, items: usize, query: &str, list: &str, shown: usize, beyond: &str) {
        let fleet = || {
            let items: Vec<_> = (0..items).map(|n| failing(&format!("q{n:05}"), &"x".repeat(300))).collect();
            let one =
                |n| target(&format!("db{n:05}"), &format!("group{}", n % 300), State::Down, items.clone());
            Scripted { exporter: exporter(), targets: (0..targets).map(one).collect() }
        };
        let page = json(fleet(), query);
        assert_eq!(page[list].as_array().unwrap().len(), shown, "{query}");
        let (_, html) = build(fleet(), query, Format::Html);
        assert_eq!(html.matches("<tr>").count(), html.matches("</tr>").count());
        assert!(html.contains(beyond), "{query}: no {beyond:?}");
        assert!(html.len() < 600_000, "{query}: {} bytes", html.len());
    }
    check(1000, 1, "", "sick", MAX_SICK, "and 950 targets more");
    check(1000, 1, "", "groups", MAX_GROUPS, "and 100 groups more");
    check(90_000, 0, "group=group7", "targets", MAX_TARGETS, "and 100 targets more");
    check(1, 1000, "target=db00000", "items", MAX_ITEMS, "and 500 items more");
    check(1000, 0, "target=db0", "near", 20, "and 980 names more");
}

#[test]
fn the_query_string_names_what_is_wanted() {
    #[track_caller]
    fn check(query: &str, expected: &Ask) {
        assert_eq!(Ask::of(query), *expected, "{query}");
    }
    check("", &Ask::Overview);
    check("target=", &Ask::Overview);
    check("x=1&y", &Ask::Overview);
    check("group=g", &Ask::Group("g".into()));
    check("group=g&target=db1", &Ask::Target("db1".into()));
    check("target=db1&target=db2", &Ask::Target("db1".into()));
    check("target=a%20b%26c+d%C3%BC", &Ask::Target("a b&c dü".into()));
    check("target=%ff%zz", &Ask::Target("\u{fffd}%zz".into()));
}
