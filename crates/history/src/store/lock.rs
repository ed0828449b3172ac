//! One owner: a row that names it, which it renews by the store's own clock for as long as it lives.

use super::{
    Fault, Session,
    connection::{Cell, Kind, Value},
};

/// Who asks for the table.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// What it calls itself, the same after each restart.
    pub(crate) owner: String,
    /// This process, unlike any other.
    pub(crate) session: String,
    /// How long an owner may be silent, in seconds.
    pub(crate) stale_after: i64,
    /// Whether this process has owned the table before. If not, it takes the place of one that calls itself the same:
    /// that was this exporter before its restart. If it has, then the other is alive.
    pub(crate) has_owned: bool,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claimed {
    Ours,
    Theirs { owner: String },
}

/// The lock as it was seen.
#[derive(Debug)]
struct Seen {
    owner: String,
    session: String,
    heartbeat: i64,
    now: i64,
}

impl Session {
    /// Takes the table if it is free, or renews the claim. Where there is no lock it is ours.
    pub(crate) async fn claim(&mut self, claim: &Claim) -> Result<Claimed, Fault> {
        if !self.has_lock {
            return Ok(Claimed::Ours);
        }
        let (lock, now) = (self.tables.lock.clone(), self.now());
        let Claim { owner, session, stale_after, has_owned } = claim;
        let renew = format!("UPDATE {lock} SET heartbeat = {now} WHERE id = 1 AND session = ?");
        if self.connection.execute(&renew, &[Value::Text(session)]).await? > 0 {
            return Ok(Claimed::Ours);
        }
        match self.look().await? {
            None => {
                let ignore = if self.connection.is_sqlite() { "OR IGNORE" } else { "IGNORE" };
                let insert = format!(
                    "INSERT {ignore} INTO {lock} (id, owner, session, heartbeat) VALUES (1, ?, ?, {now})"
                );
                self.connection.execute(&insert, &[Value::Text(owner), Value::Text(session)]).await?;
            }
            Some(seen) => {
                // A heartbeat from the future is as silent: the clock was set back.
                let silent = (seen.now - seen.heartbeat).abs() > *stale_after;
                let restarted = !has_owned && seen.owner == *owner;
                if silent || restarted {
                    let take = format!(
                        "UPDATE {lock} SET owner = ?, session = ?, heartbeat = {now} \
                         WHERE id = 1 AND session = ? AND heartbeat = ?"
                    );
                    let values = [
                        Value::Text(owner),
                        Value::Text(session),
                        Value::Text(&seen.session),
                        Value::Int(Some(seen.heartbeat)),
                    ];
                    self.connection.execute(&take, &values).await?;
                }
            }
        }
        // Another may have been quicker.
        Ok(match self.look().await? {
            Some(seen) if seen.session == *session => Claimed::Ours,
            Some(seen) => Claimed::Theirs { owner: seen.owner },
            None => Claimed::Theirs { owner: String::new() },
        })
    }

    /// Leaves the table to whoever wants it.
    pub(crate) async fn release(&mut self, claim: &Claim) -> Result<(), Fault> {
        if self.has_lock {
            let sql = format!("UPDATE {} SET heartbeat = 0 WHERE id = 1 AND session = ?", self.tables.lock);
            self.connection.execute(&sql, &[Value::Text(&claim.session)]).await?;
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<Option<Seen>, Fault> {
        let sql = format!(
            "SELECT owner, session, heartbeat, {} FROM {} WHERE id = 1",
            self.now(),
            self.tables.lock
        );
        let mut seen = None;
        let kinds = [Kind::Text, Kind::Text, Kind::Int, Kind::Int];
        self.connection
            .fetch(&sql, &[], &kinds, |row| {
                let mut row = row.into_iter();
                let mut next = || row.next().unwrap_or(Cell::Int(None));
                seen = Some(Seen {
                    owner: next().text(),
                    session: next().text(),
                    heartbeat: next().int().unwrap_or(0),
                    now: next().int().unwrap_or(0),
                });
            })
            .await?;
        Ok(seen)
    }

    /// The store's clock, in seconds.
    fn now(&self) -> &'static str {
        if self.connection.is_sqlite() { "unixepoch()" } else { "UNIX_TIMESTAMP()" }
    }
}
