//! All that knows SQL: one session with the store, and what is done to the tables.
//!
//! Statements are the same for both databases but for a few words. Each has a limit of time and a bounded size, and is
//! its own transaction.

mod connection;
mod fault;
mod layout;
mod lock;

use std::{collections::HashSet, sync::Arc, time::Duration};

use connection::{Cell, Connection, Kind, Value};
pub(crate) use fault::Fault;
use layout::Layout;
pub(crate) use lock::{Claim, Claimed};

use crate::{Reason, Settings, TableName, intervals::Part, stats::Counters};

/// How many rows a statement writes at most.
pub(crate) const MAX_BATCH: usize = 500;

/// How many rows of items are read with one statement.
const ITEMS_PAGE: usize = 5_000;

/// How many results are read with one statement.
const RESULTS_PAGE: usize = 100;

/// The moment after which a TIMESTAMP cannot be, 2038-01-19.
const MAX_TIMESTAMP: i64 = 0x7fff_ffff;

/// The names of the tables.
#[derive(Debug)]
struct Tables {
    items: String,
    results: String,
    intervals: String,
    lock: String,
}

impl Tables {
    fn named(name: &TableName) -> Self {
        let name = name.as_str();
        Self {
            items: name.to_owned(),
            results: format!("{name}_results"),
            intervals: format!("{name}_intervals"),
            lock: format!("{name}_lock"),
        }
    }
}

/// A row of the table of items, as it is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) item: String,
    /// When it last ran, in seconds since the epoch.
    pub(crate) last_run: Option<i64>,
    pub(crate) interval: Option<i64>,
    pub(crate) part: Part,
}

/// A row of the table of items, as it is written.
#[derive(Debug)]
pub(crate) struct NewRow {
    pub(crate) item: Arc<str>,
    /// When it last ran, in seconds since the epoch.
    pub(crate) last_run: i64,
    /// What the row gets where there is none yet, in seconds.
    pub(crate) interval: i64,
    pub(crate) value: Option<f64>,
}

/// A row of the table of results.
#[derive(Debug)]
pub(crate) struct ResultRow {
    pub(crate) item: Arc<str>,
    /// In milliseconds since the epoch.
    pub(crate) read_at: i64,
    pub(crate) bytes: Vec<u8>,
}

/// A session with the store.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    tables: Tables,
    layout: Layout,
    has_results: bool,
    has_intervals: bool,
    has_lock: bool,
    /// The largest statement that the server takes, in bytes.
    max_statement: usize,
    /// What the table looked like when it was last asked for changes: a number for each of its parts.
    prints: Vec<(i64, i64, i64)>,
}

impl Session {
    /// Connects, and finds or makes the tables. Of those beside the table of items it goes without what is denied.
    pub(crate) async fn open(settings: &Settings, counters: &Arc<Counters>) -> Result<Self, Fault> {
        let limit = settings.limits.statement_timeout;
        let mut connection = Connection::open(&settings.store, limit, Arc::clone(counters)).await?;
        let tables = Tables::named(&settings.table);
        let layout = layout::items(&mut connection, &tables, settings.migrate).await?;
        let has_results = settings.results
            && go_without(&tables.results, "results", layout::results(&mut connection, &tables).await)?;
        let has_intervals = go_without(
            &tables.intervals,
            "memory of configured intervals",
            layout::intervals(&mut connection, &tables).await,
        )?;
        let has_lock = go_without(&tables.lock, "lock", layout::lock(&mut connection, &tables).await)?;
        let max_statement = max_statement(&mut connection).await?;
        Ok(Self {
            connection,
            tables,
            layout,
            has_results,
            has_intervals,
            has_lock,
            max_statement,
            prints: Vec::new(),
        })
    }

    /// The longest name of an item that the table can hold, in characters.
    pub(crate) fn max_name(&self) -> usize {
        self.layout.max_name
    }

    /// Whether the table takes names for one that differ in case alone.
    pub(crate) fn folds_case(&self) -> bool {
        self.layout.folds_case
    }

    /// Whether results are kept.
    pub(crate) fn has_results(&self) -> bool {
        self.has_results
    }

    /// The most bytes that results may take in one statement.
    pub(crate) fn max_statement(&self) -> usize {
        self.max_statement
    }

    /// Reads all items' rows.
    pub(crate) async fn read_items(&mut self, mut each: impl FnMut(Row)) -> Result<(), Fault> {
        // The prints first: what changes while the rows are read differs from them, and is read again.
        self.prints = self.take_prints().await?;
        let (time, part) = (self.as_seconds("last_execution_time"), self.part());
        let sql = format!(
            "SELECT item, {time}, execution_interval, {part} FROM {} WHERE item > ? ORDER BY item LIMIT {ITEMS_PAGE}",
            self.tables.items
        );
        let mut last = String::new();
        loop {
            let mut count = 0;
            let after = last.clone();
            let kinds = [Kind::Text, Kind::Int, Kind::Int, Kind::Int];
            self.connection
                .fetch(&sql, &[Value::Text(&after)], &kinds, |row| {
                    let row = item_row(row);
                    count += 1;
                    last.clone_from(&row.item);
                    each(row);
                })
                .await?;
            if count < ITEMS_PAGE {
                return Ok(());
            }
        }
    }

    /// Reads the rows of those parts of the table in which an interval or a name may have changed since they were
    /// last read, ours or somebody's. Returns the parts; none, and no row, if nothing has.
    pub(crate) async fn read_changes(&mut self, mut each: impl FnMut(Row)) -> Result<Parts, Fault> {
        let prints = self.take_prints().await?;
        if prints == self.prints {
            return Ok(Parts::Some(HashSet::new()));
        }
        if self.connection.is_sqlite() {
            self.read_items(each).await?;
            return Ok(Parts::All);
        }
        let (old, new): (HashSet<_>, HashSet<_>) =
            (self.prints.iter().copied().collect(), prints.iter().copied().collect());
        let changed: HashSet<Part> =
            old.symmetric_difference(&new).map(|(part, ..)| part_number(Some(*part))).collect();
        let list: Vec<_> = changed.iter().map(ToString::to_string).collect();
        let part = self.part();
        let sql = format!(
            "SELECT item, NULL, execution_interval, {part} FROM {} WHERE {part} IN ({})",
            self.tables.items,
            list.join(", ")
        );
        let kinds = [Kind::Text, Kind::Int, Kind::Int, Kind::Int];
        self.connection.fetch(&sql, &[], &kinds, |row| each(item_row(row))).await?;
        self.prints = prints;
        Ok(Parts::Some(changed))
    }

    /// What the table looks like now. A server is asked for a sum over each of 256 parts of it; who reads those that
    /// have changed reads a few rows. SQLite knows itself whether anybody else has written.
    async fn take_prints(&mut self) -> Result<Vec<(i64, i64, i64)>, Fault> {
        let mut prints = Vec::new();
        if self.connection.is_sqlite() {
            let mut version = None;
            self.connection
                .fetch("PRAGMA data_version", &[], &[Kind::Int], |row| {
                    version = row.into_iter().next().and_then(Cell::int);
                })
                .await?;
            prints.push((0, version.unwrap_or(0), 0));
            return Ok(prints);
        }
        // Sums, since changes of the same kind would cancel each other out in an XOR of CRCs.
        let sql = format!(
            "SELECT {} AS part, COUNT(*), \
             CAST(SUM(CRC32(CONCAT_WS('=', item, execution_interval))) AS SIGNED) FROM {} GROUP BY part",
            self.part(),
            self.tables.items
        );
        let kinds = [Kind::Int, Kind::Int, Kind::Int];
        self.connection
            .fetch(&sql, &[], &kinds, |row| {
                let mut numbers = row.into_iter().map(|cell| cell.int().unwrap_or(0));
                let mut next = || numbers.next().unwrap_or(0);
                prints.push((next(), next(), next()));
            })
            .await?;
        prints.sort_unstable();
        Ok(prints)
    }

    /// Writes when items last ran and what came of it. The interval of a row that is there stays as it is.
    pub(crate) async fn write_items(&mut self, rows: &[NewRow]) -> Result<(), Fault> {
        let time = if self.connection.is_sqlite() { "datetime(?, 'unixepoch')" } else { "FROM_UNIXTIME(?)" };
        let sql = format!(
            "INSERT INTO {} (item, last_execution_time, execution_interval, result) VALUES {} {}",
            self.tables.items,
            rows_of(&format!("(?, {time}, ?, ?)"), rows.len()),
            self.on_conflict(&["last_execution_time", "result"])
        );
        let mut values = Vec::with_capacity(rows.len() * 4);
        for NewRow { item, last_run, interval, value } in rows {
            values.extend([
                Value::Text(item),
                Value::Int(Some((*last_run).clamp(1, MAX_TIMESTAMP))),
                Value::Int(Some(*interval)),
                Value::Float(value.filter(|value| fits_float(*value))),
            ]);
        }
        self.connection.execute(&sql, &values).await.map(drop)
    }

    /// Lets these items' rows say `to` where they still say `from`.
    pub(crate) async fn change_intervals(
        &mut self,
        from: Option<i64>,
        to: i64,
        items: &[Arc<str>],
    ) -> Result<(), Fault> {
        let same = if self.connection.is_sqlite() { "IS" } else { "<=>" };
        // A column that follows each update is told to stay.
        let sql = format!(
            "UPDATE {} SET execution_interval = ?, last_execution_time = last_execution_time \
             WHERE execution_interval {same} ? AND item IN ({})",
            self.tables.items,
            rows_of("?", items.len())
        );
        let mut values = vec![Value::Int(Some(to)), Value::Int(from)];
        values.extend(items.iter().map(|item| Value::Text(item)));
        self.connection.execute(&sql, &values).await.map(drop)
    }

    /// Reads what the configuration said when it was last remembered.
    pub(crate) async fn read_remembered(&mut self) -> Result<Vec<(Arc<str>, i64)>, Fault> {
        let mut remembered = Vec::new();
        if self.has_intervals {
            let sql = format!("SELECT item, execution_interval FROM {}", self.tables.intervals);
            self.connection
                .fetch(&sql, &[], &[Kind::Text, Kind::Int], |row| {
                    let mut row = row.into_iter();
                    let item = row.next().map(Cell::text).unwrap_or_default();
                    if let Some(seconds) = row.next().and_then(Cell::int) {
                        remembered.push((item.into(), seconds));
                    }
                })
                .await?;
        }
        Ok(remembered)
    }

    /// Remembers what the configuration says.
    pub(crate) async fn write_remembered(&mut self, intervals: &[(Arc<str>, i64)]) -> Result<(), Fault> {
        if !self.has_intervals {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO {} (item, execution_interval) VALUES {} {}",
            self.tables.intervals,
            rows_of("(?, ?)", intervals.len()),
            self.on_conflict(&["execution_interval"])
        );
        let pairs = intervals.iter().flat_map(|(item, secs)| [Value::Text(item), Value::Int(Some(*secs))]);
        let values: Vec<_> = pairs.collect();
        self.connection.execute(&sql, &values).await.map(drop)
    }

    /// Reads the kept results, for as long as `each` wants more.
    pub(crate) async fn read_results(
        &mut self,
        mut each: impl FnMut(ResultRow) -> bool,
    ) -> Result<(), Fault> {
        let sql = format!(
            "SELECT item, read_at, result FROM {} WHERE item > ? ORDER BY item LIMIT {RESULTS_PAGE}",
            self.tables.results
        );
        let mut last: Arc<str> = "".into();
        let mut more = self.has_results;
        while more {
            let mut count = 0;
            let after = Arc::clone(&last);
            self.connection
                .fetch(&sql, &[Value::Text(&after)], &[Kind::Text, Kind::Int, Kind::Bytes], |row| {
                    let mut row = row.into_iter();
                    let mut next = || row.next().unwrap_or(Cell::Int(None));
                    last = next().text().into();
                    count += 1;
                    let (read_at, bytes) = (next().int().unwrap_or(0), next().bytes());
                    more = more && each(ResultRow { item: Arc::clone(&last), read_at, bytes });
                })
                .await?;
            more = more && count == RESULTS_PAGE;
        }
        Ok(())
    }

    /// Writes results in place of older ones of these items.
    pub(crate) async fn write_results(&mut self, rows: &[ResultRow]) -> Result<(), Fault> {
        let sql = format!(
            "INSERT INTO {} (item, read_at, result) VALUES {} {}",
            self.tables.results,
            rows_of("(?, ?, ?)", rows.len()),
            self.on_conflict(&["read_at", "result"])
        );
        let mut values = Vec::with_capacity(rows.len() * 3);
        for ResultRow { item, read_at, bytes } in rows {
            values.extend([Value::Text(item), Value::Int(Some(*read_at)), Value::Bytes(bytes)]);
        }
        self.connection.execute(&sql, &values).await.map(drop)
    }

    /// Forgets these items' results.
    pub(crate) async fn delete_results(&mut self, items: &[Arc<str>]) -> Result<(), Fault> {
        let sql =
            format!("DELETE FROM {} WHERE item IN ({})", self.tables.results, rows_of("?", items.len()));
        let values: Vec<_> = items.iter().map(|item| Value::Text(item)).collect();
        self.connection.execute(&sql, &values).await.map(drop)
    }

    /// Takes leave.
    pub(crate) async fn close(self) {
        self.connection.close().await;
    }

    /// The part of the table in which a row lies.
    fn part(&self) -> &'static str {
        if self.connection.is_sqlite() { "0" } else { "CRC32(item) & 255" }
    }

    fn as_seconds(&self, column: &str) -> String {
        if self.connection.is_sqlite() {
            format!("CAST(strftime('%s', {column}) AS INTEGER)")
        } else {
            format!("CAST(UNIX_TIMESTAMP({column}) AS SIGNED)")
        }
    }

    /// The end of an INSERT that lets a row that is there take over these columns.
    fn on_conflict(&self, columns: &[&str]) -> String {
        let sqlite = self.connection.is_sqlite();
        let take_over = |column: &&str| {
            if sqlite {
                format!("{column} = excluded.{column}")
            } else {
                format!("{column} = VALUES({column})")
            }
        };
        let assignments: Vec<_> = columns.iter().map(take_over).collect();
        let start = if sqlite { "ON CONFLICT (item) DO UPDATE SET" } else { "ON DUPLICATE KEY UPDATE" };
        format!("{start} {}", assignments.join(", "))
    }
}

/// Parts of the table.
#[derive(Debug)]
pub(crate) enum Parts {
    All,
    Some(HashSet<Part>),
}

/// Whether a part of the whole is there. It may be denied, and the rest goes without it; any other fault is one.
fn go_without(table: &str, what: &str, made: Result<(), Fault>) -> Result<bool, Fault> {
    match made {
        Ok(()) => Ok(true),
        Err(Fault { reason: Reason::Denied, message }) => {
            tracing::warn!(table, reason = message, "history goes without its {what}");
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

/// How much a statement may carry: a quarter of what the server says that it takes, since others need room in it too.
async fn max_statement(connection: &mut Connection) -> Result<usize, Fault> {
    const MOST: usize = 4 << 20;
    if connection.is_sqlite() {
        return Ok(MOST);
    }
    let mut packet = None;
    let sql = "SELECT CAST(@@max_allowed_packet AS SIGNED)";
    connection
        .fetch(sql, &[], &[Kind::Int], |row| packet = row.into_iter().next().and_then(Cell::int))
        .await?;
    let packet = packet.and_then(|packet| usize::try_from(packet).ok()).unwrap_or(1 << 20);
    Ok((packet / 4).min(MOST))
}

fn item_row(row: Vec<Cell>) -> Row {
    let mut row = row.into_iter();
    let mut next = || row.next().unwrap_or(Cell::Int(None));
    Row {
        item: next().text(),
        last_run: next().int(),
        interval: next().int(),
        part: part_number(next().int()),
    }
}

/// Parts are numbered by a byte.
fn part_number(number: Option<i64>) -> Part {
    number.and_then(|number| Part::try_from(number).ok()).unwrap_or_default()
}

/// So many groups of placeholders.
fn rows_of(group: &str, count: usize) -> String {
    vec![group; count].join(", ")
}

/// Whether a FLOAT can hold the value. Where it cannot, NULL says that nothing is known.
fn fits_float(value: f64) -> bool {
    value.abs() <= f64::from(f32::MAX)
}

/// Seconds and milliseconds since the epoch of what is written; zero before it.
pub(crate) fn since_epoch(time: std::time::SystemTime) -> Duration {
    time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default()
}
