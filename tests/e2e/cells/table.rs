//! The cells that are read through the whole way to the page: types, and values of each as SQL writes them.

use crate::support::servers::Kind;

/// Values of one column, or expressions of one kind.
#[derive(Debug)]
pub(crate) struct Cells {
    /// The column's type; for expressions what they are.
    pub(crate) title: &'static str,
    /// What is inserted into a column of this type, or the expressions themselves.
    pub(crate) values: Vec<&'static str>,
    pub(crate) expressions: bool,
    /// Whether the session's time zone is `+00:00`, or whatever the server has.
    pub(crate) utc: bool,
    on: Option<Kind>,
}

/// A column of this type with values, which `|` separates.
fn column(title: &'static str, values: &'static str) -> Cells {
    Cells { title, values: values.split(" | ").collect(), expressions: false, utc: true, on: None }
}

fn expressions(title: &'static str, values: &'static str) -> Cells {
    Cells { expressions: true, ..column(title, values) }
}

impl Cells {
    fn only(self, kind: Kind) -> Self {
        Self { on: Some(kind), ..self }
    }

    fn in_the_servers_zone(self) -> Self {
        Self { utc: false, ..self }
    }
}

/// What there is on a server of this kind.
pub(crate) fn table(kind: Kind) -> Vec<Cells> {
    let all = [numbers(), times(), texts(), bytes(), others()];
    all.into_iter().flatten().filter(|cells| cells.on.is_none_or(|on| on == kind)).collect()
}

fn numbers() -> Vec<Cells> {
    vec![
        column("tinyint", "-128 | 127 | null"),
        column("boolean", "true | false"),
        column("smallint unsigned", "65535"),
        column("mediumint", "-8388608"),
        column("int", "-2147483648 | 0"),
        column("int(6) zerofill", "42"),
        column("bigint", "-9223372036854775808"),
        column("bigint unsigned", "18446744073709551615"),
        column("decimal(65, 30)", "12345678901234567890.1234567890 | -0.5 | 0 | null"),
        column("decimal(65, 0)", "12345678901234567890123456789012345678901234567890123456789012345"),
        column("float", "16777217 | 1.1 | -3.40282e38 | 1e-38"),
        column("double", "0.1 | 1.7976931348623157e308 | -2.5e-10 | 1e15 | -0e0"),
        column("bit(1)", "b'1' | b'0' | null"),
        column("bit(16)", "256 | b'0011000100110010'"),
        column("bit(64)", "18446744073709551615"),
        column("year", "2024 | 0"),
        expressions(
            "numbers that are worked out",
            "count(*) | sum(1) | avg(2) | 7 / 3 | 1 = 1 | null | 16777217e0 | -1 | 1e100 | b'101' + 0 | \
             unix_timestamp('2024-02-29 12:34:56.5')",
        ),
    ]
}

fn times() -> Vec<Cells> {
    const DATES: &str =
        "'2024-02-29' | '1970-01-01' | '1969-12-31' | '9999-12-31' | '0000-00-00' | '2024-00-00' | null";
    const MOMENTS: &str = "'2024-02-29 12:34:56.789012' | '1969-12-31 23:59:59.5' | '1969-12-31 23:59:58' | '0000-00-00 00:00:00' | null";
    vec![
        column("time", "'12:34:56' | '00:00:00' | '838:59:59' | '-838:59:59' | '25:00:00' | null"),
        column("time(3)", "'-12:00:00.250' | '-00:00:00.001' | '00:00:00.5'"),
        column("time(3)", "'-838:59:59.500'").only(Kind::MariaDb),
        column("time(6)", "'100:00:00.000001'"),
        column("time", "'12:34:56'").in_the_servers_zone(),
        expressions("lengths that are worked out", "timediff('01:00:00', '02:30:00.5') | sec_to_time(90061)"),
        column("date", DATES),
        column("datetime", "'2024-02-29 12:34:56' | '0000-00-00 00:00:00'"),
        column("datetime(6)", MOMENTS),
        column("timestamp(3) null", "'2024-02-29 12:34:56.789' | 0 | null"),
        column("date", "'2024-02-29' | null").in_the_servers_zone(),
        column("datetime", "'2024-02-29 12:34:56' | '0000-00-00 00:00:00'").in_the_servers_zone(),
        column("timestamp null", "'2024-02-29 12:34:56'").in_the_servers_zone(),
        expressions("dates that are worked out", "cast('2024-02-29' as date) | from_unixtime(1.5)"),
    ]
}

fn texts() -> Vec<Cells> {
    const NUMBERS: &str = "'42' | ' 42 ' | '4 2' | '-0' | '+5' | '.5' | '5.' | '-.5e3' | '1e3' | '1e999' | '0x10' | '1_000' | \
        '1,000' | '1.2.3' | 'nan' | 'NaN' | 'inf' | '-Infinity' | '12345678901234567890.1234567890' | ''";
    const WORDS: &str = "'ON' | 'off' | 'Yes' | 'NO' | ' true ' | 'False' | 'ONE' | 'on off' | 'y' | 'null'";
    const OTHERS: &str =
        r#"'zürich' | '😀' | '"' | '\\' | 'a\nb' | '\r' | '\t' | 'a\0b' | '{x="y"} 1' | '½' | null"#;
    vec![
        column("varchar(100)", NUMBERS),
        column("varchar(10)", WORDS),
        column("varchar(100) character set utf8mb4", OTHERS),
        column("varchar(10) character set latin1", "'zürich'"),
        column("char(10)", "'42' | 'ab  ' | ''"),
        column("char(10) character set utf8mb4 collate utf8mb4_bin", "'42' | 'off'"),
        column("tinytext", "'42' | 'x'"),
        column("longtext", "'42' | 'x'"),
        column("enum('on', 'x', '7')", "'on' | 'x' | '7' | null"),
        column("set('on', 'x', '7')", "'on' | 'on,x' | '' | '7'"),
        expressions("texts that are worked out", "'on' | concat(4, 2) | date_format('2024-02-29', '%Y')"),
    ]
}

fn bytes() -> Vec<Cells> {
    vec![
        column("binary(5)", "'42' | 'on' | 'ab' | '' | x'00ff' | null"),
        column("varbinary(5)", "'42' | x'343200' | x'ff'"),
        column("blob", "'42' | x'fffe' | ''"),
        column("longblob", "'-1.5'"),
        column("geometry", "point(1, 2)"),
        expressions("bytes that are worked out", "x'3432' | unhex('C3BC') | unhex('C3')"),
    ]
}

fn others() -> Vec<Cells> {
    vec![
        column("json", r#"'42' | '-1.5' | '1e3' | '"42"' | 'true' | 'null' | '[1]' | '{"a": 1}' | null"#),
        expressions(
            "out of a JSON",
            r#"json_extract('{"a": 1.50}', '$.a') | json_extract('{"a": "x"}', '$.a')"#,
        ),
        column("uuid", "'123e4567-e89b-12d3-a456-426655440000'").only(Kind::MariaDb),
        column("inet6", "'2001:db8::ff00:42:8329' | '::1'").only(Kind::MariaDb),
        column("inet4", "'192.0.2.1'").only(Kind::MariaDb),
        column("vector(2)", "to_vector('[1,2]')").only(Kind::MySql),
        expressions("a vector as text", "vector_to_string(to_vector('[1,2]'))").only(Kind::MySql),
    ]
}
