//! What a simulated server is to do: its greeting, whom it lets in, what it answers, and where it goes wrong.

use std::{fmt, sync::Arc, time::Duration};

use tokio_rustls::rustls::ServerConfig;

use crate::{
    answer::Answer,
    delivery::{Delivery, Then},
    error::ServerError,
    login::{Account, Plugin},
    preset::{DEPRECATE_EOF, Preset, SSL},
    record::Event,
    statement::{Statement, find},
};

/// The script of one simulated server. Built by value, given to a [`Sim`](crate::Sim).
///
/// Without more than a preset it lets anybody in, takes any SET, obeys KILL and answers the questions by which a
/// client gets to know it; to any other statement it answers with error 1105, which names the statement.
#[derive(Clone)]
pub struct Script {
    pub(crate) mariadb: bool,
    pub(crate) greeting: Greeting,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) hostname: String,
    pub(crate) first_id: u64,
    pub(crate) connect: Connect,
    pub(crate) tls: Option<Tls>,
    pub(crate) login: Login,
    pub(crate) rules: Vec<Rule>,
    pub(crate) refused: Vec<(String, ServerError)>,
    pub(crate) latency: Duration,
    pub(crate) kill: Kill,
    pub(crate) max_connections: Option<u64>,
    pub(crate) records: bool,
    pub(crate) watch: Option<Watch>,
}

/// The first words of a server.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    pub(crate) plugin: Plugin,
    pub(crate) capabilities: u64,
    pub(crate) collation: u8,
    pub(crate) delivery: Delivery,
}

/// What happens to who connects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Connect {
    /// It is greeted.
    #[default]
    Greet,
    /// Nobody listens: the connection is refused.
    Refuse,
    /// Nobody answers: the connection is never made.
    BlackHole,
    /// It is made, and nothing is said.
    Mute,
    /// It is made, and closed at once.
    Close,
    /// It is made, and reset at once.
    Reset,
    /// It is greeted with these bytes, whatever they are.
    Send(Vec<u8>, Then),
    /// It is greeted with a good frame around a greeting that ends behind the first of its capabilities.
    ShortGreeting,
    /// It is greeted with an error, such as 1040 or 1129.
    Error(ServerError),
}

impl Connect {
    /// What a web server says to who does not speak HTTP.
    pub fn http() -> Self {
        Self::Send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec(), Then::Close)
    }

    /// The first words of an SSH server.
    pub fn ssh() -> Self {
        Self::Send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n".to_vec(), Then::Mute)
    }

    /// Noise: so many bytes, the same for the same seed.
    pub fn noise(seed: u64, length: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self::Send((0..length).map(|_| random.u8(..)).collect(), Then::Mute)
    }

    /// A packet without content.
    pub fn empty_packet() -> Self {
        Self::Send(vec![0, 0, 0, 0], Then::Mute)
    }
}

/// How a server speaks TLS.
#[derive(Clone)]
pub(crate) enum Tls {
    /// As it should.
    Good(Arc<ServerConfig>),
    /// It refuses each version that the client offers.
    TooOld,
}

/// Whom a server lets in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Login {
    /// None: anybody, with any password.
    pub(crate) accounts: Vec<Account>,
    pub(crate) error: Option<ServerError>,
    pub(crate) switch: Option<Plugin>,
    pub(crate) full: bool,
    pub(crate) delivery: Delivery,
}

/// What a server does with KILL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kill {
    /// It ends the session that is meant, if that is another of the same user's (1095 otherwise) and there is one (1094).
    #[default]
    Obey,
    /// It says yes and does nothing.
    Ignore,
    /// It says no: 1094 or 1095, say.
    Refuse(ServerError),
    /// It ends the session, and says so only after this time.
    Slow(Duration),
    /// It says yes at once, closes the connection, and is rid of the session only after this time.
    Linger(Duration),
}

/// Chooses an answer.
pub(crate) type Choose = Arc<dyn Fn(&Statement<'_>) -> Option<Answer> + Send + Sync>;

/// Is told what happens, with the number of the session.
pub(crate) type Watch = Arc<dyn Fn(u64, &Event) + Send + Sync>;

/// Which statements get which answer.
#[derive(Clone)]
pub(crate) enum Rule {
    Contains(Box<str>, Arc<Answer>),
    Chooses(Choose),
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = self.tls.is_some();
        f.debug_struct("Script")
            .field("version", &self.greeting.version)
            .field("connect", &self.connect)
            .field("tls", &tls)
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new(Preset::MariaDb1011)
    }
}

impl Script {
    /// A server with good manners.
    pub fn new(preset: Preset) -> Self {
        let manners = preset.manners();
        let unknown = |name| ServerError::new(1193, format!("Unknown system variable '{name}'"));
        Self {
            mariadb: manners.mariadb,
            greeting: Greeting {
                version: manners.greeting.to_owned(),
                plugin: Plugin::named(manners.plugin),
                capabilities: manners.capabilities,
                collation: manners.collation,
                delivery: Delivery::default(),
            },
            variables: manners.variables(),
            hostname: "simulated".to_owned(),
            first_id: 1,
            connect: Connect::default(),
            tls: None,
            login: Login::default(),
            rules: Vec::new(),
            refused: manners.lacks.iter().map(|name| ((*name).to_owned(), unknown(name))).collect(),
            latency: Duration::ZERO,
            kill: Kill::default(),
            max_connections: None,
            records: true,
            watch: None,
        }
    }

    // What it says of itself.

    /// The version in its greeting and in `@@version`: any text.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.greeting.version);
        self.variable("version", version)
    }

    /// A system variable: what a question for `@@name` is answered with. The port is the true one by itself.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its `@@hostname`.
    #[must_use]
    pub fn hostname(self, hostname: &str) -> Self {
        Self { hostname: hostname.to_owned(), ..self }
    }

    /// The number of its first session, and of the first after a restart.
    #[must_use]
    pub fn first_connection_id(self, first_id: u64) -> Self {
        Self { first_id, ..self }
    }

    /// Whether results end with an OK packet (as with each newer server and client) or with EOF packets.
    #[must_use]
    pub fn deprecate_eof(self, deprecate: bool) -> Self {
        self.capability(DEPRECATE_EOF, deprecate)
    }

    /// Whether its greeting has this capability.
    #[must_use]
    pub fn capability(mut self, capability: u64, on: bool) -> Self {
        let capabilities = &mut self.greeting.capabilities;
        *capabilities = if on { *capabilities | capability } else { *capabilities & !capability };
        self
    }

    /// The plugin that its greeting names.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.greeting.plugin = plugin;
        self
    }

    /// The collation in its greeting.
    #[must_use]
    pub fn collation(mut self, collation: u8) -> Self {
        self.greeting.collation = collation;
        self
    }

    // Who gets in.

    /// What happens to who connects.
    #[must_use]
    pub fn connect(self, connect: Connect) -> Self {
        Self { connect, ..self }
    }

    /// How the greeting is delivered.
    #[must_use]
    pub fn greeting_delivered(mut self, delivery: Delivery) -> Self {
        self.greeting.delivery = delivery;
        self
    }

    /// It offers TLS.
    #[must_use]
    pub fn tls(self, config: Arc<ServerConfig>) -> Self {
        Self { tls: Some(Tls::Good(config)), ..self }.capability(SSL, true)
    }

    /// It offers TLS of versions that no client speaks any more.
    #[must_use]
    pub fn tls_too_old(self) -> Self {
        Self { tls: Some(Tls::TooOld), ..self }.capability(SSL, true)
    }

    /// From now on only those get in whose account is listed; the password is checked as the greeting's plugin does it.
    #[must_use]
    pub fn account(self, user: &str, password: &str) -> Self {
        let plugin = self.greeting.plugin.clone();
        self.account_with(user, password, plugin)
    }

    /// The same for an account with a plugin of its own, to which the login is switched.
    #[must_use]
    pub fn account_with(mut self, user: &str, password: &str, plugin: Plugin) -> Self {
        self.login.accounts.push(Account { user: user.to_owned(), password: password.to_owned(), plugin });
        self
    }

    /// Each login fails with this error: 1045, 3118, 1862, 1203 ...
    #[must_use]
    pub fn login_error(mut self, error: impl Into<ServerError>) -> Self {
        self.login.error = Some(error.into());
        self
    }

    /// Each login is switched to this plugin, `mysql_clear_password` for one.
    #[must_use]
    pub fn switch_to(mut self, plugin: Plugin) -> Self {
        self.login.switch = Some(plugin);
        self
    }

    /// `caching_sha2_password` asks for the whole password, as it does when it has not seen it for a while.
    #[must_use]
    pub fn full_authentication(mut self) -> Self {
        self.login.full = true;
        self
    }

    /// How the answer to a login is delivered.
    #[must_use]
    pub fn login_delivered(mut self, delivery: Delivery) -> Self {
        self.login.delivery = delivery;
        self
    }

    /// Beyond so many connections, those that are just being made included, it greets with error 1040.
    #[must_use]
    pub fn max_connections(self, max: u64) -> Self {
        Self { max_connections: Some(max), ..self }
    }

    // What it answers.

    /// Statements that contain this text are answered with this. The first rule that fits decides, those built in
    /// come last.
    #[must_use]
    pub fn on(mut self, text: &str, answer: impl Into<Answer>) -> Self {
        self.rules.push(Rule::Contains(text.into(), Arc::new(answer.into())));
        self
    }

    /// Statements for which this gives an answer get it.
    #[must_use]
    pub fn on_any(
        mut self,
        choose: impl Fn(&Statement<'_>) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.rules.push(Rule::Chooses(Arc::new(choose)));
        self
    }

    /// The same before all other rules.
    #[must_use]
    pub fn first(
        mut self,
        choose: impl Fn(&Statement<'_>) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.rules.insert(0, Rule::Chooses(Arc::new(choose)));
        self
    }

    /// A SET that contains this text, without regard to case, is refused: with 1193 or 1064, say.
    #[must_use]
    pub fn refuse_set(mut self, text: &str, error: impl Into<ServerError>) -> Self {
        self.refused.push((text.to_owned(), error.into()));
        self
    }

    /// How long it takes for each statement, beside what the answer takes by itself.
    #[must_use]
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// What it does with KILL.
    #[must_use]
    pub fn kill(self, kill: Kill) -> Self {
        Self { kill, ..self }
    }

    /// Whether it keeps records. Without them it still counts.
    #[must_use]
    pub fn records(self, records: bool) -> Self {
        Self { records, ..self }
    }

    /// Whatever happens is told to this too, with the number of the session, at once and whether it is kept or not: for
    /// who counts over a whole fleet.
    #[must_use]
    pub fn watch(self, watch: impl Fn(u64, &Event) + Send + Sync + 'static) -> Self {
        Self { watch: Some(Arc::new(watch)), ..self }
    }

    /// The answer of the first rule that fits.
    pub(crate) fn answer(&self, statement: &Statement<'_>) -> Option<Arc<Answer>> {
        self.rules.iter().find_map(|rule| match rule {
            Rule::Contains(text, answer) => statement.text.contains(&**text).then(|| Arc::clone(answer)),
            Rule::Chooses(choose) => choose(statement).map(Arc::new),
        })
    }

    /// Why a SET is refused, if it is.
    pub(crate) fn refusal(&self, set: &str) -> Option<&ServerError> {
        self.refused.iter().find(|(text, _)| find(set, text).is_some()).map(|(_, error)| error)
    }
}
