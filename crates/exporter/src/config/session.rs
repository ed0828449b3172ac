//! `session = { … }`: what each session is set to when it begins.

use fleet_collector::{statement::check_set, target::SessionSettings};

use super::{
    field::{At, Setting, Table, Wrong, good, list, read, read_with, table},
    raw::RawSession,
    report::Findings,
};

/// Checks the settings of a group, a target, or the defaults.
pub(super) fn check(found: &mut Findings, session: Option<Table<RawSession>>) -> Setting<SessionSettings> {
    let node = session?;
    let at = node.at.clone();
    let help = "write session = { time_zone = \"+00:00\" }";
    let raw = table(found, "session", Some(node), help);
    Some(At { at, value: raw.map(|raw| settings(found, raw.value)) })
}

fn settings(found: &mut Findings, raw: RawSession) -> SessionSettings {
    let RawSession { time_zone, sql_mode, isolation, extra } = raw;
    let time_zone = read_with(found, "time_zone", time_zone, |text| {
        let help = "write an offset such as \"+00:00\", or a name such as \"Europe/Paris\"";
        made_of(text, "_+-:/", help)
            .and_then(|zone| if zone.is_empty() { Err(Wrong::new("is empty", help)) } else { Ok(zone) })
    });
    let sql_mode = read_with(found, "sql_mode", sql_mode, |text| {
        made_of(text, "_,", "write words with commas between them, such as \"ANSI_QUOTES,NO_ZERO_DATE\"")
    });
    let isolation = read(found, "isolation", isolation);
    let extra = list(found, "extra", extra, "write extra = [\"set max_statement_time = 5\"]");
    let mut statements = Vec::new();
    for statement in extra.map(|extra| extra.value).unwrap_or_default() {
        let Some(At { at, value }) = statement.check_in(found, "extra") else { continue };
        match check_set(&value) {
            Ok(()) => statements.push(value.trim_end().trim_end_matches(';').trim_end().to_owned()),
            Err(refusal) => {
                let at = super::statements::inside(&found.sources, &at, &value, &refusal.at);
                found.error(&at, refusal.message).help(refusal.help);
            }
        }
    }
    SessionSettings {
        time_zone: good(time_zone).map(|at| at.value),
        sql_mode: good(sql_mode).map(|at| at.value),
        isolation: good(isolation).map(|at| at.value),
        extra: statements,
    }
}

/// Only letters, digits and a few others: the text goes between quotes into a statement.
fn made_of(text: String, others: &str, help: &str) -> Result<String, Wrong> {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c)) {
        return Ok(text);
    }
    Err(Wrong::new(format!("is {text:?}, which it cannot be"), help))
}
