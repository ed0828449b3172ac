//! The pages as a person reads them.

use expect_test::{Expect, expect};

use super::*;

/// The part of a page that differs from others, without its pictures, which have tests of their own.
#[track_caller]
fn check(query: &str, expected: &Expect) {
    let (status, page) = build(mixed(), query, Format::Html);
    assert_eq!(status, 200);
    expected.assert_eq(&without_pictures(main_of(&page)));
}

#[test]
fn the_first_page_has_the_sick_then_the_groups_then_the_exporter() {
    check(
        "",
        &expect![[r#"
            <p class="verdict bad">1 of 6 targets is down: 1 refused</p>
            <p class="warn">1 target is up and has failing or stale items</p>
            <p class="soft">9 items, 1 failing, 1 stale, 2 not run yet, 1 not for their servers; 1 target never tried; 1 target paused; 1 target without items</p>
            <h2>What is wrong</h2>
            <table>
            <thead><tr><th>Target</th><th>State</th><th>Why</th><th>Next try</th><th>Items</th><th>Last hour</th></tr></thead>
            <tbody>
            <tr><td><a href="status?target=db3"><bdi>db3</bdi></a> <span class="soft">in <a href="status?group=prod"><bdi>prod</bdi></a></span> <span class="soft line"><bdi>db3.example.net:3306</bdi></span></td><td><span class="state bad">down</span> for <time datetime="2025-07-25T03:10:45Z" title="2025-07-25T03:10:45Z">2 min</time></td><td><span class="state">refused</span> <bdi class="error">Connection refused (os error 111)</bdi></td><td data-name="next try">in 12 s <span class="soft">(5 failures so far)</span></td><td data-name="items">1</td><td><div class="pictures"><figure><figcaption>run time ≤ 250 ms</figcaption></figure><figure><figcaption>late ≤ 0 s</figcaption></figure></div></td></tr>
            <tr><td><a href="status?target=db2"><bdi>db2</bdi></a> <span class="soft">in <a href="status?group=prod"><bdi>prod</bdi></a></span> <span class="soft line"><bdi>db2.example.net:3306</bdi></span></td><td><span class="state warn">up, ailing</span> for <time datetime="2025-07-25T03:10:45Z" title="2025-07-25T03:10:45Z">2 min</time></td><td><p><bdi>orders</bdi> has failed for <time datetime="2025-07-25T03:12:11Z" title="2025-07-25T03:12:11Z">34 s</time>:</p> <span class="state">denied</span> <bdi class="error">SELECT command denied to user &#39;exporter&#39;@&#39;10.0.0.1&#39; for table `shop`.`orders` (error 1142)</bdi></td><td data-name="next try"></td><td data-name="items"><span class="warn">1 failing</span>, <span class="warn">1 stale</span>, <span>1 not run yet</span> of 6</td><td><div class="pictures"><figure><figcaption>run time ≤ 250 ms</figcaption></figure><figure><figcaption>late ≤ 0 s</figcaption></figure></div></td></tr>
            </tbody>
            </table>
            <h2 id="groups">Groups</h2>
            <table>
            <thead><tr><th>Group</th><th class="number">down</th><th class="number">ailing</th><th class="number">up</th><th class="number">never tried</th><th class="number">paused</th><th class="number">items</th><th class="number">failing</th><th class="number">stale</th></tr></thead>
            <tbody>
            <tr><td><a href="status?group=prod"><bdi>prod</bdi></a></td><td class="number" data-name="down"><span class="bad">1</span></td><td class="number" data-name="ailing"><span class="warn">1</span></td><td class="number" data-name="up">2</td><td class="number" data-name="never tried">0</td><td class="number" data-name="paused">0</td><td class="number" data-name="items">8</td><td class="number" data-name="failing"><span class="warn">1</span></td><td class="number" data-name="stale"><span class="warn">1</span></td></tr>
            <tr><td><a href="status?group=dev"><bdi>dev</bdi></a></td><td class="number" data-name="down">0</td><td class="number" data-name="ailing">0</td><td class="number" data-name="up">0</td><td class="number" data-name="never tried">1</td><td class="number" data-name="paused">1</td><td class="number" data-name="items">1</td><td class="number" data-name="failing">0</td><td class="number" data-name="stale">0</td></tr>
            <tr><td><a href="status?group=idle"><bdi>idle</bdi></a></td><td class="number" data-name="down">0</td><td class="number" data-name="ailing">0</td><td class="number" data-name="up">0</td><td class="number" data-name="never tried">0</td><td class="number" data-name="paused">0</td><td class="number" data-name="items">0</td><td class="number" data-name="failing">0</td><td class="number" data-name="stale">0</td></tr>
            </tbody>
            </table>
            <h2>Paused</h2>
            <p><a href="status?target=db5"><bdi>db5</bdi></a></p>
            <h2 id="exporter">The exporter</h2>
            <dl>
            <dt>version</dt><dd>1.2.3</dd>
            <dt>up for</dt><dd>3 h</dd>
            <dt>configuration</dt><dd>read 10 min ago, at 2025-07-25T03:02:45Z</dd>
            <dt>fleet</dt><dd>6 targets, 2 queries, 9 items</dd>
            <dt>runs</dt><dd>3 going, 1 waiting, 256 at most</dd>
            <dt>tries of down targets</dt><dd>1 going, 0 waiting, 64 at most</dd>
            <dt>connects</dt><dd>1 going, 32 at most</dd>
            <dt>oldest overdue tick</dt><dd>20 ms</dd>
            <dt>page</dt><dd>1234 series, 120 KiB of 256 MiB</dd>
            <dt>log lines dropped</dt><dd>0</dd>
            </dl>
        "#]],
    );
}

#[test]
fn a_group_shows_all_its_targets() {
    check(
        "group=dev",
        &expect![[r#"
            <h2>Group <bdi>dev</bdi></h2>
            <p class="verdict">No target has been tried yet</p>
            <p class="soft">1 item, 1 not run yet; 1 target never tried; 1 target paused</p>
            <table>
            <thead><tr><th>Target</th><th>State</th><th>Why</th><th>Next try</th><th>Items</th><th>Last hour</th></tr></thead>
            <tbody>
            <tr><td><a href="status?target=db4"><bdi>db4</bdi></a> <span class="soft">in <a href="status?group=dev"><bdi>dev</bdi></a></span> <span class="soft line"><bdi>db4.example.net:3306</bdi></span></td><td><span class="state soft">never tried</span></td><td></td><td data-name="next try"></td><td data-name="items"><span>1 not run yet</span> of 1</td><td><div class="pictures"><figure><figcaption>run time ≤ 250 ms</figcaption></figure><figure><figcaption>late ≤ 0 s</figcaption></figure></div></td></tr>
            <tr><td><a href="status?target=db5"><bdi>db5</bdi></a> <span class="soft">in <a href="status?group=dev"><bdi>dev</bdi></a></span> <span class="soft line"><bdi>db5.example.net:3306</bdi></span></td><td><span class="state soft">paused</span></td><td></td><td data-name="next try"></td><td data-name="items">0</td><td><div class="pictures"><figure><figcaption>run time ≤ 250 ms</figcaption></figure><figure><figcaption>late ≤ 0 s</figcaption></figure></div></td></tr>
            </tbody>
            </table>
        "#]],
    );
}

#[test]
fn a_target_shows_its_items_the_worst_first() {
    check(
        "target=db2",
        &expect![[r#"
            <h2>Target <bdi>db2</bdi></h2>
            <p class="verdict"><span class="state warn">up, ailing</span> for <time datetime="2025-07-25T03:10:45Z" title="2025-07-25T03:10:45Z">2 min</time></p>
            <dl>
            <dt>group</dt><dd><a href="status?group=prod"><bdi>prod</bdi></a></dd>
            <dt>address</dt><dd><bdi>db2.example.net:3306</bdi></dd>
            <dt>server</dt><dd>mariadb <bdi>11.8.3-MariaDB</bdi> read_only, server id <bdi>7</bdi></dd>
            <dt>guards refused</dt><dd class="warn">lock_wait_timeout</dd>
            <dt>connections</dt><dd>1 open, 3 allowed</dd>
            <dt>TLS</dt><dd>preferred</dd>
            <dt>ticks missed</dt><dd>0 as the last run was still going, 1 without a permit, 20 while it was down, 3 given up as the item changed</dd>
            <dt>labels</dt><dd><bdi>env=prod</bdi>, <bdi>target=db2</bdi></dd>
            </dl>
            <div class="large"><div class="pictures"><figure><figcaption>run time ≤ 250 ms</figcaption></figure><figure><figcaption>late ≤ 0 s</figcaption></figure></div></div>
            <h2>Items</h2>
            <table>
            <thead><tr><th>Query</th><th>State</th><th>Last run</th><th>Next run</th><th class="number">Rows</th><th class="number">Series</th><th>Age of the result</th><th>Trouble</th></tr></thead>
            <tbody>
            <tr><td><bdi>orders</bdi> <span class="soft">every 10 s, at most 5 s</span></td><td><span class="state bad">failing</span></td><td data-name="last run"><time datetime="2025-07-25T03:12:41Z" title="2025-07-25T03:12:41Z">4 s</time> ago, took 30 ms, late 1.5 ms</td><td data-name="next run">in 6 s</td><td class="number" data-name="rows">2</td><td class="number" data-name="series">4</td><td data-name="age">4 s of 60 s</td><td><span class="state">denied</span> <bdi class="error">SELECT command denied to user &#39;exporter&#39;@&#39;10.0.0.1&#39; for table `shop`.`orders` (error 1142)</bdi> <span class="soft">3 failed runs in <time datetime="2025-07-25T03:12:11Z" title="2025-07-25T03:12:11Z">34 s</time></span></td></tr>
            <tr><td><bdi>sizes</bdi> <span class="soft">every 10 s, at most 5 s</span></td><td><span class="state warn">stale</span></td><td data-name="last run"><time datetime="2025-07-25T03:12:41Z" title="2025-07-25T03:12:41Z">4 s</time> ago, took 30 ms, late 1.5 ms</td><td data-name="next run"><span class="warn">has waited 9 s for a permit</span></td><td class="number" data-name="rows"></td><td class="number" data-name="series"></td><td data-name="age"></td><td></td></tr>
            <tr><td><bdi>new</bdi> <span class="soft">every 10 s, at most 5 s</span></td><td><span class="state soft">not run yet</span></td><td data-name="last run"></td><td data-name="next run">running</td><td class="number" data-name="rows"></td><td class="number" data-name="series"></td><td data-name="age"></td><td></td></tr>
            <tr><td><bdi>lags</bdi> <span class="soft">every 10 s, at most 5 s</span></td><td><span class="state good">well</span></td><td data-name="last run"><time datetime="2025-07-25T03:12:41Z" title="2025-07-25T03:12:41Z">4 s</time> ago, took 30 ms, late 1.5 ms</td><td data-name="next run">in 6 s</td><td class="number" data-name="rows">2</td><td class="number" data-name="series">4</td><td data-name="age">4 s of 60 s</td><td><span class="warn">some values left out:</span> <bdi class="error">column lag: &quot;n/a&quot;</bdi></td></tr>
            <tr><td><bdi>threads</bdi> <span class="soft">every 10 s, at most 5 s</span></td><td><span class="state good">well</span></td><td data-name="last run"><time datetime="2025-07-25T03:12:41Z" title="2025-07-25T03:12:41Z">4 s</time> ago, took 30 ms, late 1.5 ms</td><td data-name="next run">in 6 s</td><td class="number" data-name="rows">2</td><td class="number" data-name="series">4</td><td data-name="age">4 s of 60 s</td><td></td></tr>
            <tr><td><bdi>galera</bdi> <span class="soft">every 10 s, at most 5 s</span></td><td><span class="state soft">not for this server</span></td><td data-name="last run"><time datetime="2025-07-25T03:12:41Z" title="2025-07-25T03:12:41Z">4 s</time> ago, took 30 ms, late 1.5 ms</td><td data-name="next run">in 6 s</td><td class="number" data-name="rows">2</td><td class="number" data-name="series">4</td><td data-name="age">4 s of 60 s</td><td></td></tr>
            </tbody>
            </table>
        "#]],
    );
}

#[test]
fn a_target_that_is_down_says_why_and_when_it_is_tried() {
    check(
        "target=db3",
        &expect![[r#"
            <h2>Target <bdi>db3</bdi></h2>
            <p class="verdict"><span class="state bad">down</span> for <time datetime="2025-07-25T03:10:45Z" title="2025-07-25T03:10:45Z">2 min</time></p>
            <dl>
            <dt>why</dt><dd><span class="state">refused</span> <bdi class="error">Connection refused (os error 111)</bdi> <span class="soft"><time datetime="2025-07-25T03:12:43Z" title="2025-07-25T03:12:43Z">1.5 s</time> ago</span></dd>
            <dt>next try</dt><dd>in 12 s <span class="soft">(5 failures so far)</span></dd>
            <dt>group</dt><dd><a href="status?group=prod"><bdi>prod</bdi></a></dd>
            <dt>address</dt><dd><bdi>db3.example.net:3306</bdi></dd>
            <dt>connections</dt><dd>0 open, 3 allowed</dd>
            <dt>TLS</dt><dd>preferred</dd>
            <dt>ticks missed</dt><dd>0 as the last run was still going, 1 without a permit, 20 while it was down, 3 given up as the item changed</dd>
            <dt>labels</dt><dd><bdi>env=prod</bdi>, <bdi>target=db3</bdi></dd>
            </dl>
            <div class="large"><div class="pictures"><figure><figcaption>run time ≤ 250 ms</figcaption></figure><figure><figcaption>late ≤ 0 s</figcaption></figure></div></div>
            <h2>Items</h2>
            <table>
            <thead><tr><th>Query</th><th>State</th><th>Last run</th><th>Next run</th><th class="number">Rows</th><th class="number">Series</th><th>Age of the result</th><th>Trouble</th></tr></thead>
            <tbody>
            <tr><td><bdi>threads</bdi> <span class="soft">every 10 s, at most 5 s</span></td><td><span class="state good">well</span></td><td data-name="last run"><time datetime="2025-07-25T03:12:41Z" title="2025-07-25T03:12:41Z">4 s</time> ago, took 30 ms, late 1.5 ms</td><td data-name="next run">in 6 s</td><td class="number" data-name="rows">2</td><td class="number" data-name="series">4</td><td data-name="age">4 s of 60 s</td><td></td></tr>
            </tbody>
            </table>
        "#]],
    );
}

#[test]
fn the_verdict_is_one_sentence_and_the_tab_says_it_too() {
    #[track_caller]
    fn check(fleet: Scripted, title: &str, expected: &Expect) {
        let (_, page) = build(fleet, "", Format::Html);
        assert!(page.contains(&format!("<title>{title}</title>")), "{page}");
        let verdict: Vec<_> = main_of(&page).lines().take_while(|line| line.starts_with("<p")).collect();
        expected.assert_eq(&verdict.join("\n").replace('\u{a0}', " "));
    }
    let of = |targets: Vec<(Target, Vec<Item>)>| Scripted { exporter: exporter(), targets };
    let up = |name: &str| target(name, "g", State::Up, vec![well("q")]);
    let down = |name: &str| target(name, "g", State::Down, vec![well("q")]);
    check(
        of(vec![]),
        "fleet-query-exporter",
        &expect![[r#"
        <p class="verdict">No target has been tried yet</p>
        <p class="soft">0 items</p>"#]],
    );
    check(
        of(vec![target("a", "g", State::NeverTried, vec![item("q", None)])]),
        "fleet-query-exporter",
        &expect![[r#"
            <p class="verdict">No target has been tried yet</p>
            <p class="soft">1 item, 1 not run yet; 1 target never tried</p>"#]],
    );
    check(
        of(vec![up("a"), up("b")]),
        "fleet-query-exporter",
        &expect![[r#"
        <p class="verdict good">All is well: 2 targets up</p>
        <p class="soft">2 items</p>"#]],
    );
    check(
        of(vec![up("a"), down("b")]),
        "1 down · fleet-query-exporter",
        &expect![[r#"
        <p class="verdict bad">1 of 2 targets is down: 1 refused</p>
        <p class="soft">2 items</p>"#]],
    );
    let ailing = target("c", "g", State::Up, vec![failing("q", "no")]);
    check(
        of(vec![up("a"), ailing]),
        "1 ailing · fleet-query-exporter",
        &expect![[r#"
        <p class="verdict warn">1 target is up and has failing or stale items</p>
        <p class="soft">2 items, 1 failing</p>"#]],
    );
    let mut behind = of(vec![up("a")]);
    behind.exporter.oldest_overdue = Duration::from_secs(12);
    behind.exporter.config_error = Some("line 3: <no> such key".to_owned());
    behind.exporter.bytes = (250 << 20, 256 << 20);
    check(
        behind,
        "fleet-query-exporter",
        &expect![[r#"
            <p class="alarm">The exporter is behind: a tick has waited 12 s for its permit.</p>
            <p class="alarm">The configuration that was read last is not in force: <bdi class="error">line 3: &lt;no&gt; such key</bdi></p>
            <p class="alarm">The page of metrics is almost full: 250 MiB of 256 MiB.</p>
            <p class="verdict">1 target up</p>
            <p class="soft">1 item</p>"#]],
    );
}

#[test]
fn an_unknown_name_is_not_found_and_offers_those_that_hold_it() {
    #[track_caller]
    fn check(query: &str, expected: &Expect) {
        let (status, page) = build(mixed(), query, Format::Html);
        assert_eq!(status, 404);
        expected.assert_eq(main_of(&page));
        let page = build(mixed(), query, Format::Json);
        assert_eq!(page.0, 404);
        assert!(page.1.contains("\"error\":\"there is no "), "{}", page.1);
    }
    check(
        "target=DB",
        &expect![[r#"
        <p class="verdict">There is no target called <bdi>DB</bdi></p>
        <p>These names hold it:</p>
        <ul>
        <li><a href="status?target=db1"><bdi>db1</bdi></a></li>
        <li><a href="status?target=db2"><bdi>db2</bdi></a></li>
        <li><a href="status?target=db3"><bdi>db3</bdi></a></li>
        <li><a href="status?target=db4"><bdi>db4</bdi></a></li>
        <li><a href="status?target=db5"><bdi>db5</bdi></a></li>
        <li><a href="status?target=db6"><bdi>db6</bdi></a></li>
        </ul>
    "#]],
    );
    check(
        "group=%3Cb%3E",
        &expect![[r#"
        <p class="verdict">There is no group called <bdi>&lt;b&gt;</bdi></p>
        <p>Nor does a name hold these letters. <a href="status">All groups</a></p>
    "#]],
    );
}
