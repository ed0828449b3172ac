//! What is refused and what passes, texts and invented ones; and where a limit goes in.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const SECONDS: Duration = Duration::from_millis(2500);

#[track_caller]
fn check(sql: &str, expected: &str) {
    let got = match Statement::check(sql) {
        Ok(_) => "ok".to_owned(),
        Err(refusal) => format!("{} [{}]", refusal.message, sql.get(refusal.at).unwrap_or("")),
    };
    assert_eq!(got, expected, "{sql}");
}

#[test]
fn statements_that_read_pass() {
    for sql in [
        "select 1",
        "SELECT 1;",
        " -- a comment\n# another\n/* and one */ select 1 ;; ",
        "(select 1) union (select 2)",
        "with a as (select 1) select * from a",
        "with recursive a as (select 1 as n union all select n + 1 from a where n < 9) select max(n) from a",
        "show global status like 'Threads%'",
        "explain select 1",
        "table t",
        "values row(1)",
        "select ';', \"; drop table x\", `;` from t",
        "select 'it''s'",
        "select substring('abc' from 2 for 1)",
        "select t.into, t.`into`, 'into' from t",
        "select /*! STRAIGHT_JOIN */ 1",
        "select 1 --1",
        "select replace(a, 'x', 'y') from t",
        "select 'größe', größe from t",
    ] {
        check(sql, "ok");
    }
}

#[test]
fn a_second_statement_is_refused_wherever_it_hides() {
    check("select 1; select 2", "a second statement [select]");
    check("select 1; drop table x", "a second statement [drop]");
    check("select 1 /*! ; drop table x */", "a second statement [drop]");
    check("select 1 /*M!100100 ; drop table x */", "a second statement [drop]");
    check("select 1 --\n; drop table x", "a second statement [drop]");
    // One string or two statements: it depends on NO_BACKSLASH_ESCAPES.
    check(r"select '\'; drop table x; -- '", "a second statement [drop]");
    check(r#"select "\"; drop table x; -- ""#, "a second statement [drop]");
}

#[test]
fn only_words_that_read_may_come_first() {
    let refused = "the statement does not start with a word that only reads";
    for sql in ["insert into t values (1)", "set @a = 1", "kill 1", "lock tables t read", "handler t open"] {
        let first = sql.split(' ').next().unwrap();
        check(sql, &format!("{refused} [{first}]"));
    }
    check("/*!50000 delete */ from t", &format!("{refused} [delete]"));
    check("", "there is no statement []");
    check("-- only a comment", "there is no statement [-]");
    check("with a as (select 1) delete from t", "the statement behind WITH writes [delete]");
    check("with a as (select 1) update t set b = 1", "the statement behind WITH writes [update]");
}

#[test]
fn a_procedure_is_called_only_where_that_is_allowed() {
    check("call p()", "CALL runs a procedure, which may write [call]");
    assert!(Statement::check_with("call p()", Calls::Allowed).is_ok());
    for sql in ["call p(); drop table x", "drop table x", "call p() into @a"] {
        assert!(Statement::check_with(sql, Calls::Allowed).is_err(), "{sql}");
    }
}

#[test]
fn a_plan_is_asked_for_of_what_has_one() {
    for (sql, has_plan) in [
        ("select 1", true),
        ("/* a */ (select 1);", true),
        ("with a as (select 1) select * from a", true),
        ("table t", true),
        ("show tables", false),
        ("explain select 1", false),
    ] {
        let explained = Statement::check(sql).unwrap().explained();
        let expected = format!("EXPLAIN FORMAT=TRADITIONAL {}", sql.trim_end_matches(';'));
        assert_eq!(explained.as_ref().map(Statement::sql), has_plan.then_some(&*expected), "{sql}");
    }
}

#[test]
fn a_setting_is_one_set_of_the_session() {
    for sql in ["set max_statement_time = 5", "SET SESSION sort_buffer_size=1", "set a = default;"] {
        assert_eq!(check_set(sql), Ok(()), "{sql}");
    }
    for sql in [
        "",
        "select 1",
        "set a = 1; drop table x",
        "set global a = 1",
        "set @@global.a = 1",
        "set a = 1, persist b = 2",
        "set password = 'x'",
        "set default role r to u",
        "set statement a = 1 for delete from t",
        "set a = '",
        "/*!50000 delete */ from t",
    ] {
        assert!(check_set(sql).is_err(), "{sql}");
    }
}

#[test]
fn clauses_that_write_or_lock_are_refused() {
    check("select 1 into outfile '/tmp/x'", "INTO writes a file or a variable [into]");
    check("select 1 INTO @a", "INTO writes a file or a variable [INTO]");
    check("select 1 /*!into*/ /*! outfile */ '/x'", "INTO writes a file or a variable [into]");
    check("select * from t for update", "the query locks the rows it reads [for]");
    check("select * from t FOR  /* x */ SHARE", "the query locks the rows it reads [FOR]");
    check("select * from t lock in share mode", "the query locks the rows it reads [lock]");
    check("select @a := 1", "an assignment to a variable [:]");
}

#[test]
fn a_number_ends_where_it_cannot_go_on_and_what_follows_is_a_word() {
    for sql in [
        "select 1into outfile '/x'",
        "select 1e5into outfile '/x'",
        "select 1.into outfile '/x'",
        "select 1.5into outfile '/x'",
        "select .5into outfile '/x'",
        "select 1e+5into outfile '/x'",
    ] {
        check(sql, "INTO writes a file or a variable [into]");
    }
    for sql in ["select 1.5e10, 0x1f, t.2fa, `t`.into from t", "select 1e5from t", "select 1 from 2fa_tokens"]
    {
        check(sql, "ok");
    }
}

#[test]
fn an_executable_comment_must_pass_where_it_is_run_and_where_it_is_skipped() {
    // Run by one server, so it begins with DELETE; skipped by another, so with SELECT.
    let refused = "the statement does not start with a word that only reads";
    check("/*!50000 delete */ select 1", &format!("{refused} [delete]"));
    check("/*!50000 select */ 1", &format!("{refused} [1]"));
    // Skipped, the comment ends within what is a string where it is run.
    check("select 1 /*!99999 ' */ into outfile '/x' -- ' */", "INTO writes a file or a variable [into]");
    check("select 1 /*M! ' */ ; drop table x -- ' */", "a second statement [drop]");
    check("select 1 /*!99999 -- */ ; drop table x\n */", "a second statement [drop]");
    // Servers disagree on where a comment within a comment ends.
    let nested = "a comment within an executable comment [/*]";
    check("select 1 /*! /*! ; drop table x */ -- */", nested);
    check("select 1 /*!99999 /* */ ' */ into outfile '/x' -- ' */", nested);
    check("select /*! /*+ NO_ICP(t) */ */ 1", nested);
}

#[test]
fn a_comment_begins_with_two_dashes_and_any_control_character() {
    check("select 1 --\u{7f}'\n into outfile '/x' -- '", "INTO writes a file or a variable [into]");
    check("select 1 --\u{1}'\n into outfile '/x' -- '", "INTO writes a file or a variable [into]");
    // One minus and another one.
    check("select 1 --2", "ok");
}

#[test]
fn what_follows_the_semicolon_is_cut_off_with_it() {
    #[track_caller]
    fn check_cut(sql: &str, expected: &str) {
        assert_eq!(Statement::check(sql).unwrap().sql(), expected);
    }
    check_cut("select 1 ; ; -- the end", "select 1");
    check_cut("select ';' /* ; */ ;", "select ';' /* ; */");
    check_cut("  select 1 -- no semicolon;\n", "  select 1 -- no semicolon;");
}

/// Pieces of SQL that change how what follows is read.
fn tricky() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "select ",
        "1",
        "1e5",
        ".",
        "/*",
        "*/",
        "/*!",
        "/*!99999 ",
        "/*M!100 ",
        "/*+ ",
        "--",
        "-- ",
        "#",
        "\n",
        "'",
        "\"",
        "`",
        "\\",
        ";",
        "into ",
        "for ",
        "update ",
        "with ",
        "a",
        " ",
        "(",
        ")",
        ":=",
        "é",
        "\u{7f}",
        "\0",
    ]);
    vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn any_text_is_accepted_whole_or_refused_at_a_place_within_it(
        sql in prop_oneof![any::<String>(), tricky(), tricky().prop_map(|tail| format!("select 1 {tail}"))],
    ) {
        match Statement::check(&sql) {
            Err(refusal) => prop_assert!(refusal.at.start <= refusal.at.end && refusal.at.start <= sql.len()),
            Ok(statement) => {
                prop_assert!(sql.starts_with(statement.sql()));
                prop_assert_eq!(&Statement::check(statement.sql()), &Ok(statement.clone()));
                for flavour in [Flavour::MariaDb, Flavour::MySql] {
                    let limited = statement.limited(flavour, "q@t */ drop", SECONDS).sql;
                    // Without the hint, as one of its own or within the author's.
                    let plain = [" /*+ MAX_EXECUTION_TIME(2500) */", " MAX_EXECUTION_TIME(2500)"]
                        .map(|hint| limited.replacen(hint, "", 1));
                    prop_assert!(plain.iter().any(|text| text.ends_with(statement.sql())), "{limited}");
                    prop_assert!(flavour == Flavour::MariaDb || Statement::check(&limited).is_ok(), "{limited}");
                }
            }
        }
    }

    #[test]
    fn nothing_hides_a_second_statement_behind_an_accepted_one(sql in tricky()) {
        // Where `sql` is one whole statement to every server, what follows a semicolon is another.
        let sql = format!("select 1 {sql}");
        if Statement::check(&format!("{sql}\n")).is_ok() && Statement::check(&sql).is_ok_and(|s| s.sql().len() == sql.trim_end().len()) {
            prop_assert!(Statement::check(&format!("{sql}\n; drop table x")).is_err(), "{sql}");
        }
    }
}

#[test]
fn what_does_not_end_is_refused() {
    check("select 'a", "a quote that does not end [']");
    check("select `a", "a quote that does not end [`]");
    check("select 1 /* a", "a comment that does not end [/*]");
    check("select 1 /*! a", "an executable comment that does not end []");
    check("select 1\0", "a NUL character in the SQL [\0]");
}

#[track_caller]
fn check_limited(sql: &str, flavour: Flavour, expected: &str) {
    let limited = Statement::check(sql).unwrap().limited(flavour, "q@t", SECONDS);
    let session = limited.session_limit_ms.map(|ms| format!(" [session {ms}]")).unwrap_or_default();
    assert_eq!(limited.sql + &session, expected);
}

#[test]
fn the_limit_travels_with_the_statement() {
    use Flavour::{MariaDb, MySql};
    check_limited(
        "select 1;",
        MariaDb,
        "SET STATEMENT max_statement_time=2.500 FOR /* fleet-query-exporter q@t */ select 1",
    );
    check_limited(
        "select 1",
        MySql,
        "/* fleet-query-exporter q@t */ select /*+ MAX_EXECUTION_TIME(2500) */ 1",
    );
    check_limited(
        "select\n  /*+ NO_ICP(t) */ 1 from t",
        MySql,
        "/* fleet-query-exporter q@t */ select\n  /*+ MAX_EXECUTION_TIME(2500) NO_ICP(t) */ 1 from t",
    );
    check_limited(
        "with a as (select 1) select * from a",
        MySql,
        "/* fleet-query-exporter q@t */ with a as (select 1) select * from a [session 2500]",
    );
    check_limited(
        "(select 1) union (select 2)",
        MySql,
        "/* fleet-query-exporter q@t */ (select 1) union (select 2) [session 2500]",
    );
    // Behind a comment, too.
    check_limited(
        "/* first */ select 1",
        MySql,
        "/* fleet-query-exporter q@t */ /* first */ select /*+ MAX_EXECUTION_TIME(2500) */ 1",
    );
}
