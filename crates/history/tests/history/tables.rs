//! Tables that are found, and what is made beside them.

use fleet_history::{Reason, Settings, State};

use crate::{
    place::{Place, Running, at, failures, is_owner, items, on_all_stores, on_server, settings},
    support::servers::{Server, mariadb, mysql},
};

on_all_stores!(
    a_found_table_is_used_as_it_is,
    a_table_without_a_key_or_a_column_is_refused,
    an_interval_of_null_is_the_configurations,
    a_name_that_does_not_fit_is_counted,
);

/// The table of those who have run a scheduler over one before.
const FOUND: &str = "CREATE TABLE history (item VARCHAR(255) PRIMARY KEY, last_execution_time TIMESTAMP NOT NULL, \
                     execution_interval INT NOT NULL, result FLOAT)";

async fn a_found_table_is_used_as_it_is(mut place: Place) {
    place.run(FOUND).await;
    let time = place.moment(1_700_000_000);
    place
        .run(&format!("INSERT INTO history VALUES ('a@t', {time}, 7, 1.5), ('b@t', {time}, 10, NULL)"))
        .await;
    let create = if place.is_sqlite() {
        "SELECT sql FROM sqlite_master WHERE name = 'history'"
    } else {
        "SHOW CREATE TABLE history"
    };
    let before = place.rows(create).await;
    let (running, loaded) = Running::loaded(place.settings(), items(&[("a@t", 10), ("b@t", 10)])).await;
    assert_eq!(loaded.items["a@t"].last_run, Some(at(1_700_000_000)));
    // Nobody knows what the configuration said when this was written: the row wins.
    running.overrides(&[("a@t", 7)]).await;
    running.ran("b@t", at(1_700_000_005), Some(2.5));
    let seconds = place.seconds();
    let rows = format!("SELECT item, {seconds}, execution_interval, result FROM history ORDER BY item");
    place.shows(&rows, &[&["a@t", "1700000000", "7", "1.5"], &["b@t", "1700000005", "10", "2.5"]]).await;
    // A change of the interval alone leaves the time as it is.
    running.history.set_items(items(&[("a@t", 10), ("b@t", 20)]));
    place.shows(&rows, &[&["a@t", "1700000000", "7", "1.5"], &["b@t", "1700000005", "20", "2.5"]]).await;
    running.close().await;
    assert_eq!(place.rows(create).await, before);
}

async fn a_table_without_a_key_or_a_column_is_refused(mut place: Place) {
    place
        .run("CREATE TABLE history (item VARCHAR(255), last_execution_time TIMESTAMP NOT NULL, result FLOAT)")
        .await;
    let running = Running::start(place.settings(), items(&[("a@t", 10)]));
    let says = |text: &'static str| move |stats: &fleet_history::Stats| matches!(&stats.state, State::Failing { reason: Reason::Layout, message } if message.contains(text));
    running.tells("the column is missing", says("has no column execution_interval")).await;
    place.run("ALTER TABLE history ADD COLUMN execution_interval INT").await;
    running.tells("the key is missing", says("ADD PRIMARY KEY (item)")).await;
    place.run("CREATE UNIQUE INDEX both_ways ON history (item, execution_interval)").await;
    place.run("CREATE UNIQUE INDEX one_row_each ON history (item)").await;
    running.tells("it is used", is_owner).await;
}

async fn an_interval_of_null_is_the_configurations(mut place: Place) {
    place
        .run(
            "CREATE TABLE history (item VARCHAR(255) PRIMARY KEY, last_execution_time TIMESTAMP NOT NULL, \
             execution_interval INT NULL, result FLOAT)",
        )
        .await;
    let (running, _) = Running::loaded(place.settings(), items(&[("a@t", 10)])).await;
    running.ran("a@t", at(1_700_000_000), None);
    place.shows("SELECT execution_interval FROM history", &[&["10"]]).await;
    place.run("UPDATE history SET execution_interval = 3").await;
    running.overrides(&[("a@t", 3)]).await;
    place.run("UPDATE history SET execution_interval = NULL").await;
    running.overrides(&[]).await;
    place.shows("SELECT execution_interval FROM history", &[&["10"]]).await;
}

async fn a_name_that_does_not_fit_is_counted(mut place: Place) {
    let long = "q".repeat(256);
    let longest = "q".repeat(255);
    let (running, _) = Running::loaded(place.settings(), items(&[(&long, 10), (&longest, 10)])).await;
    running.ran(&long, at(1_700_000_000), None);
    running.ran(&longest, at(1_700_000_000), None);
    place.shows("SELECT item FROM history", &[&[&longest]]).await;
    let stats = running.tells("nothing is pending", |stats| stats.pending_items == 0).await;
    assert_eq!((stats.dropped_items, stats.items_written), (1, 1));
}

/// The same test on both servers.
macro_rules! on_both_servers {
    ($($name:ident: $check:ident),* $(,)?) => {
        $(mod $name {
            #[tokio::test]
            async fn on_mariadb() {
                super::$check(super::mariadb()).await;
            }
            #[tokio::test]
            async fn on_mysql() {
                if let Some(server) = super::mysql() {
                    super::$check(server).await;
                }
            }
        })*
    };
}

on_both_servers!(
    a_table_that_does_not_tell_case_apart_knows_the_item: folded_names,
    a_found_table_is_altered_where_that_is_allowed: migrated,
    a_time_is_the_same_in_each_time_zone: time_zones,
    what_is_denied_is_done_without: denied,
);

async fn folded_names(server: &Server) {
    let mut place = Place::server(server).await;
    place.run(FOUND).await;
    place.run("INSERT INTO history VALUES ('Threads@DB-1', FROM_UNIXTIME(1700000000), 7, NULL)").await;
    let (running, loaded) = Running::loaded(place.settings(), items(&[("threads@db-1", 10)])).await;
    assert_eq!(loaded.items["threads@db-1"].last_run, Some(at(1_700_000_000)));
    running.overrides(&[("threads@db-1", 7)]).await;
    running.ran("threads@db-1", at(1_700_000_005), None);
    let rows = "SELECT item, UNIX_TIMESTAMP(last_execution_time), execution_interval FROM history";
    place.shows(rows, &[&["Threads@DB-1", "1700000005", "7"]]).await;
    assert_eq!(running.history.stats().unknown_rows, 0);
}

async fn migrated(server: &Server) {
    let mut place = Place::server(server).await;
    place
        .run(
            "CREATE TABLE history (item VARCHAR(100) CHARACTER SET latin1 PRIMARY KEY, \
             last_execution_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, \
             execution_interval INT NOT NULL, result FLOAT, note TEXT)",
        )
        .await;
    place.run("INSERT INTO history VALUES ('a@t', FROM_UNIXTIME(1700000000), 7, 1.5, 'kept')").await;
    let columns = "SELECT column_type, COALESCE(collation_name, ''), extra LIKE '%on update%' \
                   FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'history' \
                   AND column_name IN ('item', 'last_execution_time') ORDER BY column_name";
    // Used, but left as it is.
    let (running, _) = Running::loaded(place.settings(), items(&[("a@t", 10)])).await;
    running.ran("a@t", at(1_700_000_005), Some(2.5));
    let row =
        "SELECT item, UNIX_TIMESTAMP(last_execution_time), execution_interval, result, note FROM history";
    place.shows(row, &[&["a@t", "1700000005", "7", "2.5", "kept"]]).await;
    running.close().await;
    let before: &[&str] = &["varchar(100)", "latin1_swedish_ci", "0"];
    place.shows(columns, &[before, &["timestamp", "", "1"]]).await;

    let migrate = Settings { migrate: true, ..place.settings() };
    let (running, loaded) = Running::loaded(migrate, items(&[("a@t", 10)])).await;
    assert_eq!(loaded.items["a@t"].last_run, Some(at(1_700_000_005)));
    running.close().await;
    place.shows(columns, &[&["varchar(255)", "utf8mb4_bin", "0"], &["timestamp", "", "0"]]).await;
    place.shows(row, &[&["a@t", "1700000005", "7", "2.5", "kept"]]).await;
}

async fn time_zones(server: &Server) {
    let mut place = Place::server(server).await;
    let (running, _) = Running::loaded(place.settings(), items(&[("a@t", 10)])).await;
    // 2024-03-31 01:30 UTC, an hour that summer time leaves out in Berlin.
    running.ran("a@t", at(1_711_848_600), None);
    for (zone, shown) in [("+00:00", "2024-03-31 01:30:00"), ("-07:00", "2024-03-30 18:30:00")] {
        place.run(&format!("SET time_zone = '{zone}'")).await;
        place.shows("SELECT last_execution_time FROM history", &[&[shown]]).await;
    }
    // What somebody writes in their zone is the moment that they meant.
    place.run("UPDATE history SET last_execution_time = '2024-03-30 18:30:07'").await;
    running.close().await;
    let (_running, loaded) = Running::loaded(place.settings(), items(&[("a@t", 10)])).await;
    assert_eq!(loaded.items["a@t"].last_run, Some(at(1_711_848_607)));
}

async fn denied(server: &Server) {
    let mut place = Place::server(server).await;
    let schema = place.rows("SELECT DATABASE()").await[0][0].clone().unwrap();
    place.run(&format!("CREATE USER 'no_{schema}'@'%'")).await;
    let store = on_server(server.port, &schema, &format!("no_{schema}"));
    let running = Running::start(settings(store), items(&[("a@t", 10)]));
    running.tells("it may not come in", |stats| failures(stats, Reason::Denied) > 0).await;
    // Enough for the table of items, and for nothing else.
    place.run(FOUND).await;
    place.run(&format!("GRANT SELECT, INSERT, UPDATE ON {schema}.history TO 'no_{schema}'@'%'")).await;
    running.tells("it is used", is_owner).await;
    running.ran_with("a@t", at(1_700_000_000), b"not kept");
    place.shows("SELECT execution_interval FROM history", &[&["10"]]).await;
    place.run("UPDATE history SET execution_interval = 3").await;
    running.overrides(&[("a@t", 3)]).await;
    running.history.set_items(items(&[("a@t", 20)]));
    running.overrides(&[("a@t", 3)]).await;
    place.shows("SHOW TABLES", &[&["history"]]).await;
    running.close().await;
    place.run(&format!("DROP USER 'no_{schema}'@'%'")).await;
}
