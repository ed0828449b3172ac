//! From a target and a login to an open connection: addresses, certificates, and what sqlx is told.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::errors::{connect_failure, server_error};
use crate::{Address, Failure, Password, Reason, Target, TlsMode, login::Login};

/// What to connect with. Built anew for each connect, since secrets and certificates rotate, and since sqlx keeps
/// the password in plain text for as long as the options live.
pub(super) async fn options(target: &Target, login: &Login) -> Result<MySqlConnectOptions, Failure> {
    let mut options = MySqlConnectOptions::new()
        .username(&login.user)
        .statement_cache_capacity(0)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .ssl_mode(ssl_mode(target.tls.mode))
        .disable_statement_logging();
    if !login.password.expose().is_empty() {
        options = options.password(login.password.expose());
    }
    if let Some(database) = &target.database {
        options = options.database(database);
    }
    if let Some(ca) = &target.tls.ca {
        options = options.ssl_ca_from_pem(read(ca).await?);
    }
    if let Some((cert, key)) = &target.tls.identity {
        options =
            options.ssl_client_cert_from_pem(read(cert).await?).ssl_client_key_from_pem(read(key).await?);
    }
    Ok(match &target.address {
        Address::Tcp { host, port } => options.host(host).port(*port),
        Address::Socket(path) => options.socket(path),
    })
}

fn ssl_mode(mode: TlsMode) -> MySqlSslMode {
    match mode {
        TlsMode::Disabled => MySqlSslMode::Disabled,
        TlsMode::Preferred => MySqlSslMode::Preferred,
        TlsMode::Required => MySqlSslMode::Required,
        TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
        TlsMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
    }
}

/// Reads a certificate or key file, off the async threads.
async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = path.to_owned();
    let content = spawn_blocking(move || std::fs::read(file)).await;
    let content = content.unwrap_or_else(|_| Err(io::Error::other("reading was given up")));
    content.map_err(|error| Failure::unanswered(Reason::Credentials, format!("{}: {error}", path.display())))
}

/// Connects to each of the host's addresses in turn, until one answers. Each gets its share of what is left until
/// `deadline`, so that an address that swallows packets costs no more than that.
pub(super) async fn open(
    target: &Target,
    options: MySqlConnectOptions,
    permit: OwnedSemaphorePermit,
    deadline: Instant,
) -> Result<MySqlConnection, Failure> {
    let permit = Arc::new(permit);
    let addresses = match &target.address {
        Address::Tcp { host, port } if target.address.ip().is_none() => resolve(host, *port, &permit).await?,
        _ => Vec::new(),
    };
    // sqlx compares the certificate with the host it was given, so under verify_identity the name stays, and sqlx
    // resolves it once more, where the answer is fresh in every resolver's cache. It tries the addresses in turn too,
    // without shares: there an address that swallows packets costs the whole connect.
    if addresses.is_empty() || target.tls.mode == TlsMode::VerifyIdentity {
        let connected = match options.connect().await {
            Err(error) if wants_whole_password(target, &error) => {
                options.ssl_mode(MySqlSslMode::Preferred).connect().await
            }
            other => other,
        };
        return connected.map_err(|error| connect_failure(&error));
    }
    let mut last = Failure::unanswered(Reason::Dns, "the host name has no address");
    for (n, address) in addresses.iter().enumerate() {
        let share = share(deadline.saturating_duration_since(Instant::now()), addresses.len() - n);
        let connecting = options.clone().host(&address.ip().to_string());
        last = match timeout(share, connecting.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => connect_failure(&error),
            Err(_) => {
                let message = format!("no connection to {address} within {share:.1?}");
                Failure::unanswered(Reason::ConnectTimeout, message)
            }
        };
        if last.answered {
            break;
        }
    }
    Err(last)
}

/// What the next of so many addresses gets of the time that is left.
fn share(left: Duration, addresses: usize) -> Duration {
    left / u32::try_from(addresses).unwrap_or(u32::MAX).max(1)
}

/// Whether TLS may help although a socket needs none. MySQL asks for the whole password when it has not seen it for
/// a while (`caching_sha2_password`), and on a socket it takes it in plain text; sqlx gives it under TLS only, and what
/// it sends instead is refused as a wrong password. Once accepted, it is in the server's cache.
fn wants_whole_password(target: &Target, error: &sqlx::Error) -> bool {
    matches!(target.address, Address::Socket(_))
        && target.tls.mode == TlsMode::Disabled
        && target.password != Password::None
        && server_error(error).is_some_and(|(code, _)| code == 1045)
}

/// The host's addresses. The resolver's thread holds the permit until it ends, whoever still waits for it.
async fn resolve(
    host: &str,
    port: u16,
    permit: &Arc<OwnedSemaphorePermit>,
) -> Result<Vec<SocketAddr>, Failure> {
    let (name, permit) = (host.to_owned(), Arc::clone(permit));
    let resolving = spawn_blocking(move || {
        let addresses = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(permit);
        addresses
    });
    let addresses = resolving.await.unwrap_or_else(|_| Err(io::Error::other("resolving was given up")));
    addresses.map_err(|error| Failure::unanswered(Reason::Dns, format!("{host}: {error}")))
}
