//! From a target and a login to an open connection: addresses, certificates, and what sqlx is told.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
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
use crate::{Address, Failure, Password, Reason, Target, TlsMode, certificates::Certificates, login::Login};

/// What to connect with. Built anew for each connect, since secrets and certificates rotate, and since sqlx keeps
/// the password in plain text for as long as the options live.
pub(super) fn options(target: &Target, login: &Login) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        .username(&login.user)
        .statement_cache_capacity(0)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .ssl_mode(ssl_mode(target.tls.mode))
        // What the server could be asked to prove, and was not, must not get the password as it is.
        .enable_cleartext_plugin(is_verified(target.tls.mode))
        .disable_statement_logging();
    if !login.password.expose().is_empty() {
        options = options.password(login.password.expose());
    }
    if let Some(database) = &target.database {
        options = options.database(database);
    }
    let Certificates { ca, identity } = &login.certificates;
    if let Some(ca) = ca {
        options = options.ssl_ca_from_pem(ca.clone());
    }
    if let Some((chain, key)) = identity {
        options = options.ssl_client_cert_from_pem(chain).ssl_client_key_from_pem(key);
    }
    match &target.address {
        Address::Tcp { host, port } => options.host(host).port(*port),
        Address::Socket(path) => options.socket(path),
    }
}

/// Whether the server has to prove who it is.
fn is_verified(mode: TlsMode) -> bool {
    matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity)
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
        return connected.map_err(|error| connect_failure(&error, target));
    }
    first_of(&addresses, deadline, |address| {
        let options = options.clone().host(&address.ip().to_string());
        async move { options.connect().await.map_err(|error| connect_failure(&error, target)) }
    })
    .await
}

/// The first of the addresses to let us in. The next is tried unless the server behind one has said something.
async fn first_of<T, C: Future<Output = Result<T, Failure>>>(
    addresses: &[SocketAddr],
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> C,
) -> Result<T, Failure> {
    let mut last = Failure::unanswered(Reason::Dns, "the host name has no address");
    for (n, address) in addresses.iter().enumerate() {
        let share = share(deadline.saturating_duration_since(Instant::now()), addresses.len() - n);
        last = match timeout(share, connect(*address)).await {
            Ok(Err(failure)) if failure.answered => return Err(failure),
            Ok(Err(failure)) => failure,
            Ok(connected) => return connected,
            Err(_) => {
                let message = format!("no connection to {address} within {share:.1?}");
                Failure::unanswered(Reason::ConnectTimeout, message)
            }
        };
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use tokio::time::sleep;

    use super::*;

    /// What each address does: the log of when each was tried, and what came of it all.
    async fn tried(addresses: &[&str], mute: &[&str], let_in: &[&str]) -> String {
        let parsed: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let begun = Instant::now();
        let log = std::cell::RefCell::new(String::new());
        let connected = first_of(&parsed, begun + Duration::from_secs(6), async |address| {
            let address = address.to_string();
            write!(log.borrow_mut(), "{:.0?} {address}; ", begun.elapsed()).unwrap();
            if mute.contains(&&*address) {
                sleep(Duration::from_mins(1)).await;
            }
            if let_in.contains(&&*address) {
                return Ok(address);
            }
            Err(Failure::unanswered(Reason::Refused, "refused"))
        });
        let end = match connected.await {
            Ok(address) => format!("{address} lets us in"),
            Err(failure) => failure.to_string(),
        };
        format!("{}{end}", log.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_swallows_packets_costs_its_share_only() {
        let (a, b, c) = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1");
        let all = [a, b, c];
        assert_eq!(tried(&all, &[], &[a, b]).await, "0ns 10.0.0.1:1; 10.0.0.1:1 lets us in");
        assert_eq!(tried(&all, &[a], &[b]).await, "0ns 10.0.0.1:1; 2s 10.0.0.2:1; 10.0.0.2:1 lets us in");
        // Who refuses at once leaves its share to the others.
        assert_eq!(
            tried(&all, &[b], &[c]).await,
            "0ns 10.0.0.1:1; 0ns 10.0.0.2:1; 3s 10.0.0.3:1; 10.0.0.3:1 lets us in"
        );
        assert_eq!(
            tried(&all, &all, &[]).await,
            "0ns 10.0.0.1:1; 2s 10.0.0.2:1; 4s 10.0.0.3:1; \
             connect_timeout: no connection to 10.0.0.3:1 within 2.0s"
        );
        assert_eq!(
            tried(&all, &[a, b], &[]).await,
            "0ns 10.0.0.1:1; 2s 10.0.0.2:1; 4s 10.0.0.3:1; refused: refused"
        );
        assert_eq!(tried(&[], &[], &[]).await, "dns: the host name has no address");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_the_login_is_not_tried_at_its_other_addresses() {
        let addresses = ["10.0.0.1:1", "10.0.0.2:1"].map(|address| address.parse().unwrap());
        let count = std::cell::Cell::new(0);
        let refused = first_of::<(), _>(&addresses, Instant::now() + Duration::from_secs(1), async |_| {
            count.set(count.get() + 1);
            Err(Failure::answered(Reason::Auth, "no"))
        });
        assert_eq!((refused.await.unwrap_err().reason, count.get()), (Reason::Auth, 1));
    }
}
