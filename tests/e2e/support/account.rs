//! An account and a schema of one test's own on a server, so that tests run beside each other and count their sessions.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    select,
    time::{Instant, sleep},
};

use super::{
    exporter::GONE_WITHIN,
    quoted,
    servers::{Admin, Server},
    wait::{seen_if, wait_for},
};

/// An account that may see all sessions and read its own schema.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) schema: String,
    pub(crate) address: String,
}

/// A session as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) command: String,
    pub(crate) statement: String,
}

impl Session {
    /// Whether the server works for it.
    pub(crate) fn is_busy(&self) -> bool {
        self.command != "Sleep"
    }
}

/// What was seen of an account's sessions over a while.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// The most sessions at one moment.
    pub(crate) most: usize,
    /// How long the server worked without a pause for one session, at the longest.
    pub(crate) longest: Duration,
}

impl Account {
    /// An account with a password that says nothing, and a schema.
    pub(crate) async fn new(server: &Server, name: &str) -> Self {
        Self::with_password(server, name, "e2e").await
    }

    /// An account with this password, and a schema.
    pub(crate) async fn with_password(server: &Server, name: &str, password: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let user = format!("{name}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let account =
            Self { schema: user.clone(), user, password: password.to_owned(), address: server.address() };
        account.make(&mut server.admin().await).await;
        account
    }

    /// Makes it on this server.
    pub(crate) async fn make(&self, admin: &mut Admin) {
        let Self { user, password, schema, .. } = self;
        let password = password.replace('\\', "\\\\").replace('\'', "''");
        admin
            .run(&format!(
                "create user '{user}'@'%' identified by '{password}';
                 grant process on *.* to '{user}'@'%';
                 create database {schema} character set utf8mb4;
                 grant select on {schema}.* to '{user}'@'%'"
            ))
            .await;
    }

    /// A group of this name with this account, and these targets on its server.
    pub(crate) fn group(&self, group: &str, targets: &[&str]) -> String {
        let targets: Vec<_> =
            targets.iter().map(|target| format!("{target} = {}", quoted(&self.address))).collect();
        self.group_of(group, &targets.join(", "))
    }

    /// A group of this name with this account, and targets as TOML says them.
    pub(crate) fn group_of(&self, group: &str, targets: &str) -> String {
        format!(
            "[groups.{group}]\nuser = {}\npassword = {}\ndatabase = {}\ntargets = {{ {targets} }}\n",
            quoted(&self.user),
            quoted(&self.password),
            quoted(&self.schema)
        )
    }

    /// Its sessions at the server now.
    pub(crate) async fn sessions(&self, admin: &mut Admin) -> Vec<Session> {
        let sql = format!(
            "select id, command, info from information_schema.processlist where user = '{}'",
            self.user
        );
        let rows = admin.rows(&sql).await;
        rows.into_iter()
            .map(|mut row| Session {
                statement: row.pop().unwrap().unwrap_or_default(),
                command: row.pop().unwrap().unwrap_or_default(),
                id: row.pop().unwrap().unwrap().parse().unwrap(),
            })
            .collect()
    }

    /// Waits until one of its sessions is busy with a statement that holds this text.
    pub(crate) async fn busy_with(&self, admin: &mut Admin, text: &str, within: Duration) -> Session {
        wait_for(&format!("a session runs {text}"), within, async || {
            let sessions = self.sessions(admin).await;
            let found = sessions.iter().find(|s| s.is_busy() && s.statement.contains(text)).cloned();
            found.ok_or_else(|| format!("{sessions:?}"))
        })
        .await
    }

    /// Asserts that the server has no session of this account left. It takes a moment to notice a closed socket; and
    /// MariaDB, where many statements sleep at once, may try for two seconds to wake one that was killed, since all of
    /// them wait under one mutex.
    pub(crate) async fn assert_no_session_left(&self, admin: &mut Admin) {
        wait_for(&format!("no session of {} is left", self.user), GONE_WITHIN, async || {
            let sessions = self.sessions(admin).await;
            seen_if(sessions.is_empty(), sessions)
        })
        .await;
    }

    /// Whether the account is on this server.
    pub(crate) fn is_on(&self, server: &Server) -> bool {
        self.address == server.address()
    }

    /// Looks at its sessions while `work` goes on.
    pub(crate) async fn watch<T>(&self, admin: &mut Admin, work: impl Future<Output = T>) -> (T, Watched) {
        const PAUSE: Duration = Duration::from_millis(50);
        let mut watched = Watched::default();
        let mut busy: BTreeMap<u64, Instant> = BTreeMap::new();
        let look = async {
            loop {
                let sessions = self.sessions(admin).await;
                let now = Instant::now();
                watched.most = watched.most.max(sessions.len());
                busy.retain(|id, _| sessions.iter().any(|s| s.id == *id && s.is_busy()));
                for session in sessions.iter().filter(|s| s.is_busy()) {
                    let since = *busy.entry(session.id).or_insert(now);
                    watched.longest = watched.longest.max(now - since);
                }
                sleep(PAUSE).await;
            }
        };
        let done = select! {
            done = work => done,
            never = look => never,
        };
        (done, watched)
    }
}
