//! What to do about a failure: the server's own words come first, and then what a DBA would try next.

use std::time::Duration;

use fleet_collector::{
    Failure, Reason,
    rollup::KillResult,
    target::{Address, Password, Target, TlsMode},
};

use super::trials::Tried;

/// The failure of the only target.
pub(super) fn of_one(tried: &Tried, failure: &Failure) -> String {
    let item = format!("{}@{}", tried.query.name, tried.candidate.target.name);
    told(&item, failure.reason.as_str(), &failure.message, &help(tried, failure))
}

/// A failure as it is told: whose, why, and what to do.
pub(super) fn told(whose: &str, reason: &str, message: &str, help: &str) -> String {
    let error = format!("error: {whose}: {reason}: {message}\n");
    if help.is_empty() { error } else { format!("{error}help: {help}\n") }
}

/// What to do about it.
pub(super) fn help(tried: &Tried, failure: &Failure) -> String {
    let Tried { candidate, trial, .. } = tried;
    let case = Case {
        target: &candidate.target,
        timeout: candidate.timeout,
        connected: trial.server.is_some(),
        kill: trial.kill,
        left_behind: trial.left_behind,
        failure,
    };
    case.help()
}

/// A failure and its circumstances.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    target: &'a Target,
    timeout: Duration,
    /// Whether the server had let us in.
    connected: bool,
    kill: Option<KillResult>,
    left_behind: bool,
    failure: &'a Failure,
}

impl Case<'_> {
    fn help(&self) -> String {
        let address = &self.target.address;
        let limit = humantime::format_duration(self.timeout);
        match self.failure.reason {
            Reason::Dns => "check the host name of the target's address, and the resolver of this machine".to_owned(),
            Reason::Refused => match address {
                Address::Tcp { .. } => format!("nothing listens on {address}: does the server run, and is the port right?"),
                Address::Socket(_) => format!("nothing listens on {address}: does the server run, and is that its socket?"),
            },
            Reason::Unreachable => format!("there is no way to {address} from this machine: look at routes and firewalls"),
            Reason::ConnectTimeout => format!(
                "{address} did not let us in within {limit}: a firewall that drops packets, or a server that hangs"
            ),
            Reason::Tls => self.tls(),
            Reason::Auth => self.login(),
            Reason::Credentials => "the secret or certificate could not be read on this machine, by this user".to_owned(),
            Reason::TooManyConnections => {
                "the server or the account has no connection left; a running exporter has up to max_connections of them"
                    .to_owned()
            }
            Reason::Blocked if self.failure.code == Some(1129) => {
                "the server has blocked this host after failed connects: there, run FLUSH HOSTS (MySQL 8 and later: \
                 TRUNCATE TABLE performance_schema.host_cache)"
                    .to_owned()
            }
            Reason::Blocked => "the server knows no account for this host: create one for the host that it names".to_owned(),
            Reason::Timeout => self.timeout(),
            Reason::Killed => "somebody or something at the server ended the query or its session; try again".to_owned(),
            Reason::Lost if self.connected => "the server or something on the way ended the connection in the middle of the query".to_owned(),
            Reason::Lost => "the server or something on the way ended the connection before the login was done".to_owned(),
            Reason::Protocol => format!("is {address} a MySQL or MariaDB server? X Protocol, for one, is another port"),
            Reason::ServerError => self.server_error(),
            Reason::Syntax => "the server names the text from which on it did not understand the statement".to_owned(),
            Reason::Denied => self.grant(),
            Reason::Mapping => "compare the metrics of the query with the columns and rows that came".to_owned(),
            // The message says it, and a panic is our own.
            Reason::TooLarge | Reason::Panic => String::new(),
        }
    }

    fn tls(&self) -> String {
        let mode = self.target.tls.mode;
        match mode {
            TlsMode::Disabled => {
                "the server wants an encrypted connection: set tls = { mode = \"verify_identity\", ca = \"…\" }".to_owned()
            }
            TlsMode::Preferred | TlsMode::Required => {
                format!("encryption was asked for (mode \"{}\") and not agreed upon: look at the server's ssl settings", mode.as_str())
            }
            TlsMode::VerifyCa | TlsMode::VerifyIdentity => format!(
                "the server's certificate must be signed by an authority in ca{} (mode \"{}\")",
                if mode == TlsMode::VerifyIdentity { " and name the host of the target's address" } else { "" },
                mode.as_str()
            ),
        }
    }

    fn login(&self) -> String {
        let user = self.target.user.as_deref().unwrap_or("the user of the defaults file");
        let source = match &self.target.password {
            Password::None => "it has none in the configuration",
            Password::Inline(_) => "it stands in the configuration",
            Password::File(_) => "it comes from a file",
            Password::Env(_) => "it comes from the environment",
            Password::Command(_) => "it comes from a command",
            Password::DefaultsFile { .. } => "it comes from the defaults file",
        };
        match self.failure.code {
            Some(1049) => "there is no such schema: change `database`, or leave it away".to_owned(),
            Some(1044) => self.grant(),
            _ => format!(
                "check the password of {user} ({source}), and that the account exists for the host that the server names"
            ),
        }
    }

    fn timeout(&self) -> String {
        let limit = humantime::format_duration(self.timeout);
        let then = "ask for its plan with --explain, or give it more with --timeout";
        if self.failure.code == Some(1205) {
            return "it waited for a lock, as behind an ALTER TABLE: SHOW FULL PROCESSLIST tells who waits and who is at work"
                .to_owned();
        }
        let stopped = match (self.kill, self.left_behind) {
            // MySQL answers some interrupted statements as if nothing had happened.
            (None, false) => "the server itself ended it at its limit, and nothing of it runs any more".to_owned(),
            (None, true) => "its connection was closed and no KILL sent: it may run there still; see SHOW FULL PROCESSLIST".to_owned(),
            (Some(KillResult::Gone), false) => "its session had gone when it was to be killed: nothing of it runs any more".to_owned(),
            (Some(_), false) => "its session was killed (KILL), and nothing of it runs any more".to_owned(),
            (Some(kill), true) => format!(
                "its session was to be killed (KILL: {}) and is not known to be gone: it may run there still; see SHOW FULL PROCESSLIST",
                kill.as_str()
            ),
        };
        format!("it did not end within {limit}; {stopped}; {then}")
    }

    fn server_error(&self) -> String {
        match self.failure.code {
            Some(1046) => {
                "no schema is selected: write SCHEMA.TABLE, or set `database` for the target or its group"
            }
            Some(1146 | 1049) => {
                "there is no such table or schema on this server; a variant may ask it something else"
            }
            Some(1054) => "there is no such column on this server; a variant may ask it something else",
            Some(1193) => "there is no such variable on this server; a variant may ask it something else",
            Some(1792) => "sessions are READ ONLY, and this statement writes",
            _ => "the number is the server's own: its manual lists it",
        }
        .to_owned()
    }

    /// What the server says is missing, as the statement that gives it. It names the host that we come from, which need
    /// not be that of the account.
    fn grant(&self) -> String {
        const HOST: &str = "HOST is that of the account, as SELECT CURRENT_USER() says";
        let message = &self.failure.message;
        if let (Some(account), Some(schema)) =
            (between(message, "user ", " to database"), between(message, "to database '", "'"))
        {
            return format!("GRANT SELECT ON `{schema}`.* TO {account}");
        }
        let user = between(message, "user '", "'@").or(self.target.user.as_deref()).unwrap_or("USER");
        let to = format!("TO '{user}'@'HOST'");
        if let Some(privileges) = between(message, "(at least one of) the ", " privilege") {
            return format!("GRANT {privileges} ON *.* {to}; {HOST}");
        }
        if let Some(routine) = between(message, "for routine '", "'") {
            return format!("GRANT EXECUTE ON PROCEDURE {routine} {to}; {HOST}");
        }
        let table =
            between(message, "for table ", " (error").or_else(|| between(message, "in table ", " (error"));
        if let (Some((command, _)), Some(table)) = (message.split_once(" command denied"), table) {
            return if table.contains('.') {
                format!("GRANT {command} ON {table} {to}; {HOST}")
            } else {
                let table = table.trim_matches('\'');
                format!("GRANT {command} ON SCHEMA.{table} {to}; SCHEMA is that of the table, {HOST}")
            };
        }
        match self.failure.code {
            Some(1345) => "EXPLAIN of a view needs SHOW VIEW on it, and SELECT on what it is made of",
            _ => "give the account the privilege that the server names, and no more",
        }
        .to_owned()
    }
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(behind).map(|(found, _)| found)
}
