//! The command line: flag over environment over file.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
    fn a_subcommand_takes_the_same_config_and_bind() {
        let cli = Cli::try_parse_from(["x", "health", "--bind", "127.0.0.1:1"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Health)));
        assert_eq!(cli.bind.as_deref(), Some("127.0.0.1:1"));
    }
}
