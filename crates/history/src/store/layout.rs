//! The tables: ours are made, one that is found is used if it can be, and altered only if that is allowed.

use super::{
    Connection, Fault, Reason, Tables,
    connection::{Cell, Kind, Value},
};

/// The longest name of an item, in characters.
const MAX_NAME: i64 = 255;

/// The columns that the table must have; others may be there, if they need no value.
const COLUMNS: [&str; 4] = ["item", "last_execution_time", "execution_interval", "result"];

/// What is known of the table of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The longest name that fits into it, in characters.
    pub(super) max_name: usize,
    /// Whether names that differ in case alone are one.
    pub(super) folds_case: bool,
}

/// A column of a table that was found.
struct Column {
    name: String,
    /// Its length in characters; zero where it has none.
    length: i64,
    collation: String,
    nullable: bool,
    /// Whether each update sets it to the time of the update.
    on_update: bool,
}

/// Finds or makes the table of items.
pub(super) async fn items(
    connection: &mut Connection,
    tables: &Tables,
    migrate: bool,
) -> Result<Layout, Fault> {
    if columns(connection, &tables.items).await?.is_empty() {
        connection.execute(&make_items(connection.is_sqlite(), &tables.items), &[]).await?;
    }
    let mut found = columns(connection, &tables.items).await?;
    check(connection, &tables.items, &found).await?;
    if migrate && !connection.is_sqlite() && differs(&found) {
        let alter = format!(
            "ALTER TABLE {} MODIFY item VARCHAR({MAX_NAME}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
             MODIFY last_execution_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP",
            tables.items
        );
        connection.execute(&alter, &[]).await?;
        tracing::info!(table = tables.items, "history table altered to the layout of the documentation");
        found = columns(connection, &tables.items).await?;
    }
    let Some(item) = column(&found, "item") else { return Err(lacks(&tables.items, "item")) };
    // The comparison of SQLite's columns is exact unless somebody asked for another.
    let exact = ["", "BINARY"].contains(&&*item.collation)
        || item.collation.ends_with("_bin")
        || item.collation.ends_with("_cs");
    let length = if item.length == 0 { MAX_NAME } else { item.length.min(MAX_NAME) };
    Ok(Layout { max_name: usize::try_from(length).unwrap_or(0), folds_case: !exact })
}

fn make_items(sqlite: bool, table: &str) -> String {
    let (item, end) = if sqlite {
        // Rows lie in the order of their names, so a batch touches few pages.
        ("VARCHAR(255) NOT NULL PRIMARY KEY", "WITHOUT ROWID")
    } else {
        ("VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY", "")
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (item {item}, \
         last_execution_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, execution_interval INT NOT NULL, \
         result FLOAT) {end}"
    )
}

/// Makes the table of results, unless it is there.
pub(super) async fn results(connection: &mut Connection, tables: &Tables) -> Result<(), Fault> {
    let (name, blob) = types(connection);
    let columns = format!("item {name} PRIMARY KEY, read_at BIGINT NOT NULL, result {blob} NOT NULL");
    make(connection, &tables.results, &columns).await
}

/// Makes the table that remembers what the configuration said, unless it is there.
pub(super) async fn intervals(connection: &mut Connection, tables: &Tables) -> Result<(), Fault> {
    let (name, _) = types(connection);
    let columns = format!("item {name} PRIMARY KEY, execution_interval INT NOT NULL");
    make(connection, &tables.intervals, &columns).await
}

/// Makes the table of the lock, unless it is there.
pub(super) async fn lock(connection: &mut Connection, tables: &Tables) -> Result<(), Fault> {
    let (name, _) = types(connection);
    let columns =
        format!("id INT NOT NULL PRIMARY KEY, owner {name}, session {name}, heartbeat BIGINT NOT NULL");
    make(connection, &tables.lock, &columns).await
}

/// The types of names and of results.
fn types(connection: &Connection) -> (&'static str, &'static str) {
    if connection.is_sqlite() {
        ("TEXT NOT NULL", "BLOB")
    } else {
        ("VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL", "LONGBLOB")
    }
}

/// Makes a table unless it is there. It is looked for first, since to make it takes a privilege even where it exists.
async fn make(connection: &mut Connection, table: &str, definition: &str) -> Result<(), Fault> {
    if columns(connection, table).await?.is_empty() {
        connection.execute(&format!("CREATE TABLE IF NOT EXISTS {table} ({definition})"), &[]).await?;
    }
    Ok(())
}

async fn columns(connection: &mut Connection, table: &str) -> Result<Vec<Column>, Fault> {
    let sql = if connection.is_sqlite() {
        "SELECT name, 0, '', \"notnull\" = 0 AND pk = 0, 0 FROM pragma_table_info(?)"
    } else {
        "SELECT LOWER(column_name), CAST(COALESCE(character_maximum_length, 0) AS SIGNED), \
         COALESCE(collation_name, ''), is_nullable = 'YES', LOWER(extra) LIKE '%on update%' \
         FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?"
    };
    let mut columns = Vec::new();
    let kinds = [Kind::Text, Kind::Int, Kind::Text, Kind::Int, Kind::Int];
    connection
        .fetch(sql, &[Value::Text(table)], &kinds, |row| {
            let mut row = row.into_iter();
            let mut next = || row.next().unwrap_or(Cell::Int(None));
            columns.push(Column {
                name: next().text(),
                length: next().int().unwrap_or(0),
                collation: next().text(),
                nullable: next().int() == Some(1),
                on_update: next().int() == Some(1),
            });
        })
        .await?;
    Ok(columns)
}

fn column<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
    columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
}

fn lacks(table: &str, name: &str) -> Fault {
    Fault::new(Reason::Layout, format!("the table {table} has no column {name}"))
}

/// Whether what was found can be used: all columns, and one row for each item.
async fn check(connection: &mut Connection, table: &str, found: &[Column]) -> Result<(), Fault> {
    if let Some(missing) = COLUMNS.iter().find(|name| column(found, name).is_none()) {
        return Err(lacks(table, missing));
    }
    let sql = if connection.is_sqlite() {
        "SELECT count(*) FROM pragma_index_list(?) AS list WHERE list.\"unique\" AND NOT list.partial \
         AND (SELECT group_concat(lower(name)) FROM pragma_index_info(list.name)) = 'item'"
    } else {
        "SELECT COUNT(*) FROM (SELECT index_name FROM information_schema.statistics \
         WHERE table_schema = DATABASE() AND table_name = ? AND non_unique = 0 \
         GROUP BY index_name HAVING COUNT(*) = 1 AND LOWER(MAX(column_name)) = 'item' \
         AND MAX(sub_part) IS NULL) AS unique_keys"
    };
    let mut keys = 0;
    connection
        .fetch(sql, &[Value::Text(table)], &[Kind::Int], |row| {
            keys = row.into_iter().next().and_then(Cell::int).unwrap_or(0);
        })
        .await?;
    if keys == 0 {
        let message = format!(
            "the column item of the table {table} is no key: ALTER TABLE {table} ADD PRIMARY KEY (item)"
        );
        return Err(Fault::new(Reason::Layout, message));
    }
    Ok(())
}

/// Whether a table of a MySQL server differs from ours where that matters.
fn differs(found: &[Column]) -> bool {
    let item = column(found, "item")
        .is_some_and(|item| item.collation != "utf8mb4_bin" || item.length != MAX_NAME || item.nullable);
    let time = column(found, "last_execution_time").is_some_and(|time| time.on_update || time.nullable);
    item || time
}
