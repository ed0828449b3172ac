//! What a statement is answered with, whole and cut.

use std::{sync::Arc, time::Duration};

use fleetsim::{
    Answer, At, BINARY, Column, ColumnType, Delivery, Malformed, Preset, Rows, Script, ServerError, Sim,
    Then, UNSIGNED,
};
use sqlx::{Column as _, Executor as _, Row as _, TypeInfo as _};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    client::{ask, assert_pending, code, connect, row, start},
    raw::{After, Raw},
};

/// The bytes of an answer, and what became of the connection.
async fn bytes(answer: impl Into<Answer>, deprecate_eof: bool) -> (Vec<u8>, After) {
    let sim = start(Script::default().on("q", answer)).await;
    let mut raw = Raw::log_in(&sim, deprecate_eof).await;
    raw.ask("q").await;
    raw.rest().await
}

fn small() -> Answer {
    Answer::text(["name", "n"], [["a", "1"], ["b", "2"]])
}

#[tokio::test]
async fn rows_arrive_with_their_columns_types_and_nulls() {
    let columns = [
        Column::integer("n"),
        Column::with("u", ColumnType::LONG_LONG, BINARY | UNSIGNED, 63),
        Column::new("d", ColumnType::NEW_DECIMAL),
        Column::new("bits", ColumnType::BIT),
        Column::text(""),
        Column::with("raw", ColumnType::BLOB, BINARY, 63),
    ];
    let rows = Rows::new(columns).row([Some("-1"), Some("2"), Some("3.50"), Some("\x01"), None, Some("")]);
    for deprecate_eof in [true, false] {
        let sim = start(Script::default().deprecate_eof(deprecate_eof).on("q", rows.clone())).await;
        let mut client = connect(&sim).await;
        #[expect(clippy::disallowed_methods, reason = "a test's own client")]
        let seen = client.fetch_all(sqlx::raw_sql("q")).await.unwrap();
        let columns: Vec<_> =
            seen[0].columns().iter().map(|column| (column.name(), column.type_info().name())).collect();
        let types =
            [("n", "BIGINT"), ("u", "BIGINT UNSIGNED"), ("d", "DECIMAL"), ("bits", "BIT"), ("", "VARCHAR")];
        assert_eq!(columns, [&types[..], &[("raw", "BLOB")]].concat());
        let cells = ask(&mut client, "q").await.unwrap();
        let mut expected = row(["-1", "2", "3.50", "\x01", "", ""]);
        expected[4] = None;
        assert_eq!(cells, [expected]);
    }
}

#[tokio::test]
async fn the_bytes_of_a_result_are_those_of_a_server() {
    let answer = || Rows::new([Column::integer("1")]).row([Some("1")]);
    let column = b"\x17\0\0\x02\x03def\0\0\0\x011\0\x0c\x3f\0\xff\0\0\0\x08\x80\0\0\0\0";
    let head = [&b"\x01\0\0\x01\x01"[..], column].concat();
    let with_ok = [&head[..], b"\x02\0\0\x03\x011\x07\0\0\x04\xfe\0\0\x02\0\0\0"].concat();
    assert_eq!(bytes(answer(), true).await, (with_ok, After::Mute));
    let with_eof = b"\x05\0\0\x03\xfe\0\0\x02\0\x02\0\0\x04\x011\x05\0\0\x05\xfe\0\0\x02\0";
    assert_eq!(bytes(answer(), false).await.0, [&head[..], with_eof].concat());
    assert_eq!(bytes(Answer::ok(), true).await.0, b"\x07\0\0\x01\0\0\0\x02\0\0\0");
    let error = ServerError::new(1064, [0xff, b'x']);
    assert_eq!(bytes(error, true).await.0, b"\x0b\0\0\x01\xff\x28\x04#42000\xffx");
}

#[tokio::test]
async fn an_answer_is_cut_at_each_place_and_ends_as_it_is_told() {
    let (whole, _) = bytes(small(), true).await;
    let ends = [(Then::Mute, After::Mute), (Then::Close, After::Closed), (Then::Reset, After::Reset)];
    let mut cuts = JoinSet::new();
    for at in 0..=whole.len() {
        let (whole, (then, after)) = (whole.clone(), ends[at % 3]);
        cuts.spawn(async move {
            let (seen, end) = bytes(small().cut(At::Byte(at as u64), then), true).await;
            assert_eq!((&seen[..], end), (&whole[..at], after), "at {at}");
        });
    }
    // Count, two columns, two rows, the end.
    let (row, end) = (whole.len() - 27, whole.len() - 11);
    let in_packet = |packet, byte| At::In { packet, byte };
    for (at, length) in [
        (At::Packet(0), 0),
        (At::Packet(1), 5),
        (At::Packet(4), row + 8),
        (At::Packet(5), end),
        (At::Packet(6), whole.len()),
        (in_packet(0, 0), 0),
        (in_packet(1, 3), 8),
        (in_packet(3, 5), row + 5),
        (in_packet(3, 8), row + 8),
        (in_packet(5, 11), whole.len()),
    ] {
        let whole = whole.clone();
        cuts.spawn(async move {
            let (seen, end) = bytes(small().cut(at, Then::Close), true).await;
            assert_eq!((&seen[..], end), (&whole[..length], After::Closed), "{at:?}");
        });
    }
    while let Some(cut) = cuts.join_next().await {
        cut.unwrap();
    }
}

#[tokio::test]
async fn an_answer_is_late_slow_and_paused() {
    const PAUSE: Duration = Duration::from_millis(30);
    let (whole, _) = bytes(small(), true).await;
    let paused = Delivery::new().pause(At::Byte(7), PAUSE).pause(At::Packet(3), PAUSE);
    let cases = [
        (small().after(PAUSE * 2), PAUSE * 2),
        (small().trickle(5, PAUSE / 6), PAUSE * 3),
        (small().delivered(paused), PAUSE * 2),
    ];
    for (answer, least) in cases {
        let sim = start(Script::default().on("q", answer).latency(PAUSE)).await;
        let mut raw = Raw::log_in(&sim, true).await;
        let begun = Instant::now();
        raw.ask("q").await;
        assert_eq!(raw.rest().await.0, whole);
        assert!(begun.elapsed() >= least + PAUSE, "{:?}", begun.elapsed());
    }
    let paused = small().delivered(Delivery::new().pause(At::Byte(7), PAUSE));
    let sim = start(Script::default().on("q", paused)).await;
    let mut raw = Raw::log_in(&sim, true).await;
    raw.ask("q").await;
    assert_eq!(raw.some().await, whole[..7]);
    assert_eq!(raw.some().await, whole[7..]);
}

#[tokio::test]
async fn several_results_follow_each_other() {
    let answer = small().and(Answer::integer("n", 7)).and(Answer::ok());
    for deprecate_eof in [true, false] {
        let script = Script::default().deprecate_eof(deprecate_eof).on("q", answer.clone());
        let sim = start(script).await;
        let mut client = connect(&sim).await;
        let rows = [row(["a", "1"]), row(["b", "2"]), row(["7"])];
        assert_eq!(ask(&mut client, "q").await.unwrap(), rows);
        assert_eq!(ask(&mut client, "SELECT 5").await.unwrap(), [row(["5"])]);
    }
}

#[tokio::test]
async fn a_cell_beyond_sixteen_megabytes_and_many_rows_arrive_whole() {
    const LONG: usize = (17 << 20) + 3;
    let columns = || [Column::integer("n"), Column::text("t")];
    let long = Rows::new(columns()).made(1, |_, row| {
        row.cell(b"1").filled(LONG, b'x');
    });
    let many = Rows::new(columns()).made(100_000, |n, row| {
        row.cell(n.to_string().as_bytes()).null();
    });
    let sim = start(Script::default().on("long", long).on("many", many)).await;
    let mut client = connect(&sim).await;
    let seen = ask(&mut client, "select long").await.unwrap();
    assert_eq!(seen[0][1].as_ref().map(String::len), Some(LONG));
    let seen = ask(&mut client, "select many").await.unwrap();
    assert_eq!((seen.len(), seen[99_999][0].as_deref(), &seen[7][1]), (100_000, Some("99999"), &None));
}

#[tokio::test]
async fn an_error_has_its_number_its_state_and_any_text() {
    let long = ServerError::new(1146, vec![b'x'; 64 << 10]).with_state(*b"XYZ01");
    let sim = start(Script::default().on("denied", Answer::error(1142)).on("long", long)).await;
    let mut client = connect(&sim).await;
    assert_eq!(code(ask(&mut client, "denied").await), 1142);
    let error = ask(&mut client, "long").await.unwrap_err();
    let error = error.as_database_error().unwrap();
    assert_eq!((error.code().as_deref(), error.message().len()), (Some("XYZ01"), 64 << 10));
    assert_eq!(ask(&mut client, "SELECT 1").await.unwrap(), [row(["1"])]);
}

#[tokio::test]
async fn the_first_rule_that_fits_answers_and_the_script_changes_at_once() {
    let script = Script::new(Preset::MySql97)
        .on("one", Answer::integer("n", 1))
        .on_any(|statement| (statement.tag() == "q@t").then(|| Answer::integer("n", 2)))
        .on("one more", Answer::integer("n", 3))
        .on("SELECT 4", Answer::integer("n", 40));
    let mut sim = start(script.clone()).await;
    let mut client = connect(&sim).await;
    for (sql, n) in [("one more", "1"), ("/* q@t */ two", "2"), ("SELECT 4", "40"), ("SELECT 5", "5")] {
        assert_eq!(ask(&mut client, sql).await.unwrap(), [row([n])], "{sql}");
    }
    sim.set(script.first(|_| Some(Answer::integer("n", 9)))).await.unwrap();
    assert_eq!(ask(&mut client, "one more").await.unwrap(), [row(["9"])]);
}

#[tokio::test]
async fn a_dialects_own_words_are_errors_to_the_other() {
    let script = |preset| Script::new(preset).on("hang", Answer::hang()).on("zzz", Answer::ok());
    let sim = start(script(Preset::MySql84)).await;
    let mut client = connect(&sim).await;
    assert_eq!(code(ask(&mut client, "SET STATEMENT max_statement_time=1 FOR zzz").await), 1064);
    assert_eq!(code(ask(&mut client, "select /*+ MAX_EXECUTION_TIME(20) */ hang").await), 3024);
    ask(&mut client, "SET SESSION max_execution_time = 20").await.unwrap();
    assert_eq!(code(ask(&mut client, "show hang").await), 3024);

    let sql = "SET STATEMENT max_statement_time=0.02 FOR hang";
    let mut sim = start(script(Preset::MariaDb118)).await;
    let mut client = connect(&sim).await;
    assert_eq!(code(ask(&mut client, sql).await), 1969);
    sim.set(script(Preset::MySql84)).await.unwrap();
    assert_eq!(code(ask(&mut client, sql).await), 1969, "a session keeps its dialect");
    assert_eq!(code(ask(&mut connect(&sim).await, sql).await), 1064);
    assert_pending("a hint is a comment", ask(&mut client, "select /*+ MAX_EXECUTION_TIME(20) */ hang"))
        .await;
}

#[tokio::test]
async fn a_set_is_refused_where_the_script_says_so() {
    let script = Script::default()
        .refuse_set("LOCK_WAIT", 1193)
        .refuse_set("autocommit", ServerError::new(1064, "ProxySQL says no"));
    let sim = start(script).await;
    let mut client = connect(&sim).await;
    assert_eq!(code(ask(&mut client, "set session wait_timeout = 1, lock_wait_timeout = 2").await), 1193);
    assert_eq!(code(ask(&mut client, "SET autocommit=1").await), 1064);
    ask(&mut client, "SET SESSION wait_timeout = 1").await.unwrap();
}

/// What a client makes of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Made {
    Rows,
    Error,
    Panic,
    Wait,
}

async fn made_of(malformed: Malformed) -> Made {
    let sim: Arc<Sim> = start(Script::default().on("q", malformed)).await.into();
    let (mut asking, server) = (JoinSet::new(), Arc::clone(&sim));
    asking.spawn(async move { ask(&mut connect(&server).await, "q").await });
    let answer = timeout(Duration::from_secs(1), asking.join_next()).await;
    assert_eq!(sim.statements(), ["q"], "{malformed:?}");
    match answer {
        Ok(Some(Ok(Ok(_)))) => Made::Rows,
        Ok(Some(Ok(Err(_)))) => Made::Error,
        Ok(_) => Made::Panic,
        Err(_) => Made::Wait,
    }
}

#[tokio::test]
async fn what_no_server_should_send_is_sent() {
    for malformed in Malformed::ALL {
        let made = match malformed {
            // A column count of a trillion makes this client abort the whole process: its bytes are looked at alone.
            Malformed::Columns(count) => {
                let sent = [&[0xfe][..], &count.to_le_bytes()].concat();
                assert_eq!(bytes(malformed, true).await.0[4..13], sent);
                continue;
            }
            Malformed::ShortError | Malformed::GarbageColumn | Malformed::ShortRow => Made::Panic,
            Malformed::ShortOk | Malformed::Empty | Malformed::UnknownType | Malformed::LongRow => {
                Made::Error
            }
            // It takes the request for the head of a result of 251 columns.
            Malformed::LocalInfile => Made::Wait,
        };
        assert_eq!(made_of(malformed).await, made, "{malformed:?}");
    }
}
