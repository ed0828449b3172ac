//! Logging in: what the client's first words say, and whether they prove its password.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::wire::{take, take_integer, take_until_nul};

/// The length of what a server challenges a client with.
pub(crate) const NONCE: usize = 20;

/// How a password is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plugin {
    /// `mysql_native_password`
    Native,
    /// `caching_sha2_password`
    CachingSha2,
    /// `mysql_clear_password`: the client sends the password as it is.
    Clear,
    /// Any other name, which no client need know.
    Other(String),
}

impl Plugin {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "mysql_native_password" => Self::Native,
            "caching_sha2_password" => Self::CachingSha2,
            "mysql_clear_password" => Self::Clear,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Its name in the protocol.
    pub fn name(&self) -> &str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::Clear => "mysql_clear_password",
            Self::Other(name) => name,
        }
    }

    /// Whether the response proves that its sender knows the password.
    pub(crate) fn proves(&self, response: &[u8], password: &str, nonce: &[u8; NONCE]) -> bool {
        match self {
            Self::Clear => response.strip_suffix(b"\0").unwrap_or(response) == password.as_bytes(),
            _ if password.is_empty() => response.is_empty(),
            Self::Native => response == native(password, nonce),
            Self::CachingSha2 => response == caching_sha2(password, nonce),
            Self::Other(_) => false,
        }
    }
}

/// Who may log in.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) plugin: Plugin,
}

fn native(password: &str, nonce: &[u8; NONCE]) -> [u8; 20] {
    let once: [u8; 20] = Sha1::digest(password).into();
    let twice = Sha1::digest(once);
    let mask = Sha1::new().chain_update(nonce).chain_update(twice).finalize();
    let mut response = once;
    response.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    response
}

fn caching_sha2(password: &str, nonce: &[u8; NONCE]) -> [u8; 32] {
    let once: [u8; 32] = Sha256::digest(password).into();
    let twice = Sha256::digest(once);
    let mask = Sha256::new().chain_update(twice).chain_update(nonce).finalize();
    let mut response = once;
    response.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    response
}

/// The first words of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Response {
    pub(crate) capabilities: u32,
    /// Whether it asks for TLS, in a packet that says no more than that.
    pub(crate) wants_tls: bool,
    pub(crate) user: String,
    pub(crate) proof: Vec<u8>,
    pub(crate) database: Option<String>,
    pub(crate) plugin: Option<String>,
}

const CONNECT_WITH_DB: u32 = 1 << 3;
const SSL: u32 = 1 << 11;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
const PLUGIN_AUTH_LENENC: u32 = 1 << 21;

impl Response {
    /// Reads a handshake response of the 4.1 protocol; none if it is not whole.
    pub(crate) fn read(mut bytes: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let rest = &mut bytes;
        let capabilities = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
        // The longest packet, the collation, and filler or MariaDB's capabilities.
        take(rest, 28)?;
        let mut response = Self { capabilities, ..Self::default() };
        if rest.is_empty() {
            response.wants_tls = capabilities & SSL != 0;
            return response.wants_tls.then_some(response);
        }
        response.user = text(take_until_nul(rest));
        let length = if capabilities & PLUGIN_AUTH_LENENC != 0 {
            usize::try_from(take_integer(rest)?).ok()?
        } else if capabilities & SECURE_CONNECTION != 0 {
            usize::from(*take(rest, 1)?.first()?)
        } else {
            rest.iter().position(|b| *b == 0).unwrap_or(rest.len())
        };
        response.proof = take(rest, length)?.to_vec();
        if capabilities & (PLUGIN_AUTH_LENENC | SECURE_CONNECTION) == 0 {
            take(rest, 1)?;
        }
        if capabilities & CONNECT_WITH_DB != 0 {
            response.database = Some(text(take_until_nul(rest))).filter(|name| !name.is_empty());
        }
        if capabilities & PLUGIN_AUTH != 0 {
            response.plugin = Some(text(take_until_nul(rest)));
        }
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: [u8; NONCE] = *b"01234567890123456789";

    #[test]
    fn a_password_is_proved_and_a_wrong_one_is_not() {
        for plugin in [Plugin::Native, Plugin::CachingSha2] {
            let proof: Vec<u8> = match plugin {
                Plugin::Native => native("secret", &CHALLENGE).into(),
                _ => caching_sha2("secret", &CHALLENGE).into(),
            };
            assert!(plugin.proves(&proof, "secret", &CHALLENGE));
            assert!(!plugin.proves(&proof, "other", &CHALLENGE));
            assert!(!plugin.proves(&proof, "secret", b"x1234567890123456789"));
            assert!(!plugin.proves(&[], "secret", &CHALLENGE));
            assert!(plugin.proves(&[], "", &CHALLENGE));
            assert!(!plugin.proves(&proof, "", &CHALLENGE));
        }
        assert!(Plugin::Clear.proves(b"secret\0", "secret", &CHALLENGE));
        assert!(!Plugin::Clear.proves(b"secre\0", "secret", &CHALLENGE));
    }

    #[test]
    fn a_response_that_is_not_whole_is_none() {
        let mut bytes = (CONNECT_WITH_DB | SECURE_CONNECTION | PLUGIN_AUTH).to_le_bytes().to_vec();
        bytes.resize(32, 0);
        bytes.extend_from_slice(b"me\0\x03abcshop\0mysql_native_password\0");
        let whole = Response::read(&bytes).unwrap();
        assert_eq!((whole.user.as_str(), &whole.proof[..]), ("me", &b"abc"[..]));
        assert_eq!(whole.database.as_deref(), Some("shop"));
        assert_eq!(whole.plugin.as_deref(), Some("mysql_native_password"));
        for length in [0, 3, 31, 32, 35, 37] {
            assert_eq!(Response::read(&bytes[..length]), None, "{length}");
        }
    }
}
