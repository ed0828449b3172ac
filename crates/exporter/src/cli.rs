//! The command line: flag over environment over file.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::config::Given;

/// Runs SQL queries on a fleet of MySQL and MariaDB servers, each on its own interval, and serves the results to
/// Prometheus from memory.
#[derive(Debug, Parser)]
#[command(name = "fleet-query-exporter", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 success, 1 failure while running, 2 wrong configuration or usage.")]
pub(crate) struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "FLEET_QUERY_EXPORTER_CONFIG",
        default_value = "fleet.toml"
    )]
    pub(crate) config: PathBuf,

    /// Where to listen, in place of the file's `listen` in `[server]`
    #[arg(long, global = true, value_name = "HOST:PORT", env = "FLEET_QUERY_EXPORTER_BIND")]
    pub(crate) bind: Option<String>,

    /// A web configuration file, as Prometheus' exporters share it: TLS, logins and headers; in place of the file's
    /// `web_config` in `[server]`
    #[arg(
        long,
        visible_alias = "web.config.file",
        global = true,
        value_name = "FILE",
        env = "FLEET_QUERY_EXPORTER_WEB_CONFIG"
    )]
    pub(crate) web_config: Option<PathBuf>,

    /// Check the configuration, connect to nothing, and exit
    #[arg(long)]
    pub(crate) check: bool,

    /// The least important messages to write
    #[arg(long, value_enum, value_name = "LEVEL", env = "FLEET_QUERY_EXPORTER_LOG_LEVEL", default_value_t)]
    pub(crate) log_level: LogLevel,

    /// How to write messages to stderr
    #[arg(long, value_enum, value_name = "FORMAT", env = "FLEET_QUERY_EXPORTER_LOG_FORMAT", default_value_t)]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

impl Cli {
    /// What it says in place of the configuration.
    pub(crate) fn given(&self) -> Given<'_> {
        Given { bind: self.bind.as_deref(), web_config: self.web_config.as_deref() }
    }
}

/// What to do instead of running.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask the exporter that runs here whether it is healthy; for a container's health check
    Health,
    /// Print the JSON Schema of the configuration, for editors and checks
    Schema,
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make a running exporter read its configuration anew, or show what that would change
    Reload(ReloadArgs),
    /// Try a query once, under the limits that hold for it, and show what it would publish
    Query(QueryArgs),
}

/// Which exporter to reload, and whether.
#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Change nothing: show what would start, stop and change if the running exporter had this configuration
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Where it serves [default: where the configuration, or --bind, says]
    #[arg(long, value_name = "URL")]
    pub(crate) against: Option<String>,

    /// Whom to trust where that begins with https: the authority of its certificate, or the certificate itself
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// A certificate to show, where the exporter wants one, in PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// A file with USER:PASSWORD, where the exporter wants a login
    #[arg(long, value_name = "FILE", env = "FLEET_QUERY_EXPORTER_LOGIN")]
    pub(crate) login: Option<PathBuf>,
}

/// Which query to try, and where.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["name", "sql", "sql_file"])))]
#[command(after_help = "Exit codes: 0 success, 1 it failed on a target, 2 wrong configuration or usage.")]
pub(crate) struct QueryArgs {
    /// A query of the configuration
    #[arg(long, value_name = "QUERY")]
    pub(crate) name: Option<String>,

    /// A statement that is in no configuration yet
    #[arg(long, value_name = "SQL")]
    pub(crate) sql: Option<String>,

    /// The same from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) sql_file: Option<PathBuf>,

    /// A target, or a pattern with * and ?; as often as needed [default: all that the query runs on]
    #[arg(long = "target", value_name = "TARGET")]
    pub(crate) targets: Vec<String>,

    /// All targets of this group; as often as needed
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,

    /// How long it may take, in place of what the configuration says
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,

    /// Ask for the plan instead: EXPLAIN of the statement, which is not run itself
    #[arg(long)]
    pub(crate) explain: bool,

    /// Rows and series to show at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) rows: usize,
}

/// The same bounds as in the configuration.
fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text)
        .map_err(|_| "write a number and its unit, such as 5s, 500ms or 1m".to_owned())?;
    let bounds = Duration::from_millis(100)..=Duration::from_hours(24);
    if bounds.contains(&timeout) { Ok(timeout) } else { Err("write a time from 100ms to 24h".to_owned()) }
}

/// What to say about the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the settings that hold in the end and where each comes from; secrets are left out
    Show {
        /// Of this target, with each query that runs on it
        #[arg(long, value_name = "TARGET")]
        target: Option<String>,
        /// Of this query, on each target or on the one given
        #[arg(long, value_name = "QUERY")]
        query: Option<String>,
    },
}

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogLevel {
    /// What needs somebody's hand.
    Error,
    /// What went wrong at a target or in the file.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Each connection's end, each KILL.
    Debug,
    /// Everything.
    Trace,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line to read.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn config_show_takes_a_target_and_a_query() {
        let cli =
            Cli::try_parse_from(["x", "config", "show", "--target", "t", "--config", "f.toml"]).unwrap();
        let Some(Command::Config(ConfigCommand::Show { target, query })) = cli.command else { panic!() };
        assert_eq!((target.as_deref(), query), (Some("t"), None));
    }

    #[test]
    fn a_trial_takes_one_query_and_any_number_of_targets() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["x", "query"], args].concat());
        let cli = parse(&["--name", "q", "--target", "a", "--target", "b*", "--timeout", "1m"]).unwrap();
        let Some(Command::Query(args)) = cli.command else { panic!() };
        assert_eq!(args.targets, ["a", "b*"]);
        assert_eq!(args.timeout, Some(Duration::from_mins(1)));
        for wrong in [
            &["--target", "a"][..],
            &["--name", "q", "--sql", "select 1"],
            &["--name", "q", "--timeout", "5"],
            &["--name", "q", "--timeout", "1ms"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_web_file_goes_by_the_name_that_other_exporters_use_too() {
        for flag in ["--web-config", "--web.config.file"] {
            let cli = Cli::try_parse_from(["x", flag, "web.yml"]).unwrap();
            assert_eq!(cli.web_config, Some(PathBuf::from("web.yml")));
        }
    }

    #[test]
    fn a_subcommand_takes_the_same_config_and_bind() {
        let cli = Cli::try_parse_from(["x", "health", "--bind", "127.0.0.1:1"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Health)));
        assert_eq!(cli.bind.as_deref(), Some("127.0.0.1:1"));
    }
}
