//! Logins: user and password of a request against the hashes of the web file.
//!
//! A bcrypt hash is slow on purpose, so one is computed at a time and few may wait for it; who has proved a password is
//! remembered, and waits for nobody.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

/// Logins that are remembered.
const REMEMBERED: usize = 100;

/// Logins that are not remembered and wait for their hash, the one that is computed included.
const WAITING: usize = 16;

/// How long they wait.
const WAIT: Duration = Duration::from_secs(5);

/// The hash of a password, by bcrypt.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// Why a text is no such hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHash {
    /// It is something else.
    Other,
    /// It says that it takes 2 to a power of rounds that is not there: 4 to 31.
    Cost,
}

impl PasswordHash {
    /// Takes `$2a$`, `$2b$` and `$2y$`, which are the same thing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(hash: &str) -> Result<Self, NoHash> {
        let known = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
        let parts = hash.parse::<bcrypt::HashParts>().ok().filter(|_| known).ok_or(NoHash::Other)?;
        if (4..=31).contains(&parts.get_cost()) { Ok(Self(hash.to_owned())) } else { Err(NoHash::Cost) }
    }

    /// The power of two that is its number of rounds.
    pub fn cost(&self) -> u32 {
        self.0.parse::<bcrypt::HashParts>().map_or(0, |parts| parts.get_cost())
    }

    /// A hash of no password that anybody knows, as slow as this one.
    fn dummy(cost: u32) -> Self {
        Self(format!("$2b${cost:02}${}", ".".repeat(53)))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Who has the hash can try passwords at home.
        f.write_str("PasswordHash")
    }
}

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Users {
    hashes: BTreeMap<String, PasswordHash>,
    /// For everybody else, so that a stranger takes as long as a user with a wrong password.
    dummy: PasswordHash,
}

impl Users {
    pub(crate) fn new(hashes: BTreeMap<String, PasswordHash>) -> Self {
        let cost = hashes.values().map(PasswordHash::cost).max().unwrap_or(10);
        Self { hashes, dummy: PasswordHash::dummy(cost) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// What a request without a good login gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// There is none, or it is wrong.
    Wrong,
    /// Too many others are being checked.
    Busy,
}

/// The logins of a server.
#[derive(Debug, Clone)]
pub(crate) struct Logins {
    known: Arc<Mutex<VecDeque<Key>>>,
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            places: Arc::new(Semaphore::new(WAITING)),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Logins {
    /// Looks at the `Authorization` header of a request.
    pub(crate) async fn check(&self, users: &Users, header: Option<&[u8]>) -> Result<(), Denied> {
        let Some(Login { user, password }) = header.and_then(Login::read) else { return Err(Denied::Wrong) };
        let hash = str::from_utf8(&user).ok().and_then(|user| users.hashes.get(user));
        let is_user = hash.is_some();
        let hash = hash.unwrap_or(&users.dummy).clone();
        let key = Key::of(&[&user, hash.0.as_bytes(), &password]);
        if is_user && self.knows(&key) {
            return Ok(());
        }
        let until = Instant::now() + WAIT;
        let place = self.places.clone().try_acquire_owned().map_err(|_| Denied::Busy)?;
        let turn = timeout_at(until, self.turn.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(Denied::Busy)?;
        if is_user && self.knows(&key) {
            // Somebody with the same login was before us in the queue.
            return Ok(());
        }
        let logins = self.clone();
        // Goes on though nobody waits for it any more: the next try finds it done.
        let checked = spawn_blocking(move || {
            let is_right = bcrypt::verify(&password, &hash.0).unwrap_or(false) && is_user;
            if is_right {
                logins.remember(key);
            }
            drop((turn, place));
            is_right
        });
        match timeout_at(until, checked).await {
            Ok(Ok(true)) => Ok(()),
            Ok(_) => Err(Denied::Wrong),
            Err(_) => Err(Denied::Busy),
        }
    }

    fn knows(&self, key: &Key) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Only who has the right password gets here, so nobody else can crowd out those who are remembered.
    fn remember(&self, key: Key) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&key) {
            known.push_back(key);
        }
        if known.len() > REMEMBERED {
            known.pop_front();
        }
    }
}

/// What stands for a user with a hash and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key([u8; 32]);

impl Key {
    /// Each part with its length before it, so that no two lists of parts are the same bytes.
    fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

/// What a header says.
#[derive(PartialEq, Eq)]
struct Login {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Login {
    /// `Basic` and, in Base64, user and password with the first colon between them: a password may have more.
    fn read(header: &[u8]) -> Option<Self> {
        let (scheme, encoded) = header.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let decoded = STANDARD.decode(encoded).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(Self { user: decoded[..colon].to_vec(), password: decoded[colon + 1..].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::task::JoinSet;

    use super::*;

    fn users(all: &[(&str, &str)]) -> Users {
        let hash = |password: &str| {
            let hash = bcrypt::hash_with_salt(password, 4, *b"salt of the test").unwrap();
            PasswordHash::new(&hash.to_string()).unwrap()
        };
        Users::new(all.iter().map(|(user, password)| ((*user).to_owned(), hash(password))).collect())
    }

    fn header(user: &str, password: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))).into_bytes()
    }

    #[tokio::test]
    async fn t57_a_login_is_a_user_and_the_right_password() {
        let (logins, users) = (Logins::default(), users(&[("ann", "pa:ss"), ("bob", ""), ("", "nameless")]));
        let long = "x".repeat(80);
        for (user, password, expected) in [
            ("ann", "pa:ss", Ok(())),
            ("ann", "pa", Err(Denied::Wrong)),
            ("ann", "", Err(Denied::Wrong)),
            ("Ann", "pa:ss", Err(Denied::Wrong)),
            ("bob", "", Ok(())),
            ("bob", "pa:ss", Err(Denied::Wrong)),
            ("eve", "pa:ss", Err(Denied::Wrong)),
            ("eve", "", Err(Denied::Wrong)),
            ("", "nameless", Ok(())),
            ("ann", &long, Err(Denied::Wrong)),
        ] {
            // Again, as what is remembered must not tell another story.
            for _ in 0..2 {
                let seen = logins.check(&users, Some(&header(user, password))).await;
                assert_eq!(seen, expected, "{user} {password}");
            }
        }
        for odd in
            [&b""[..], b"Basic", b"Basic ", b"Basic !!", b"Basic YW5u", b"Bearer YW5uOnBhOnNz", b"\xff"]
        {
            assert_eq!(logins.check(&users, Some(odd)).await, Err(Denied::Wrong));
        }
        assert_eq!(logins.check(&users, None).await, Err(Denied::Wrong));
        assert_eq!(logins.check(&users, Some(b"bAsIc YW5uOnBhOnNz")).await, Ok(()));
    }

    #[tokio::test]
    async fn t57_a_new_hash_ends_what_was_remembered_of_the_old_one() {
        let logins = Logins::default();
        let old = users(&[("ann", "old")]);
        assert_eq!(logins.check(&old, Some(&header("ann", "old"))).await, Ok(()));
        let new = users(&[("ann", "new")]);
        assert_eq!(logins.check(&new, Some(&header("ann", "old"))).await, Err(Denied::Wrong));
        let gone = users(&[("bob", "old")]);
        assert_eq!(logins.check(&gone, Some(&header("ann", "old"))).await, Err(Denied::Wrong));
    }

    #[test]
    fn t57_strangers_and_users_are_checked_with_equal_effort() {
        let users = users(&[("ann", "a")]);
        assert_eq!(users.dummy.cost(), 4);
        assert!(PasswordHash::new(&users.dummy.0).is_ok());
        assert!(!bcrypt::verify("a", &users.dummy.0).unwrap());
    }

    #[tokio::test]
    async fn t57_who_is_known_waits_for_nobody_and_who_is_not_waits_in_a_short_queue() {
        let (logins, users) = (Logins::default(), users(&[("ann", "right")]));
        assert_eq!(logins.check(&users, Some(&header("ann", "right"))).await, Ok(()));
        // A hash that is being computed.
        let turn = logins.turn.clone().acquire_owned().await.unwrap();
        let mut tries = JoinSet::new();
        for n in 0..100 {
            let (logins, users) = (logins.clone(), users.clone());
            tries.spawn(
                async move { logins.check(&users, Some(&header("ann", &format!("wrong {n}")))).await },
            );
        }
        while logins.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(logins.check(&users, Some(&header("ann", "right"))).await, Ok(()));
        assert_eq!(logins.check(&users, Some(&header("ann", "wrong"))).await, Err(Denied::Busy));
        drop(turn);
        let outcomes = tries.join_all().await;
        let wrong = outcomes.iter().filter(|outcome| **outcome == Err(Denied::Wrong)).count();
        assert!(wrong >= WAITING, "{wrong} were checked");
        assert_eq!(logins.check(&users, Some(&header("ann", "right"))).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn t57_nobody_waits_longer_than_the_limit() {
        let (logins, users) = (Logins::default(), users(&[("ann", "right")]));
        let _turn = logins.turn.clone().acquire_owned().await.unwrap();
        let start = Instant::now();
        assert_eq!(logins.check(&users, Some(&header("ann", "right"))).await, Err(Denied::Busy));
        assert_eq!(start.elapsed(), WAIT);
        assert_eq!(logins.places.available_permits(), WAITING);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let logins = Logins::default();
        for n in 0..=REMEMBERED {
            logins.remember(Key::of(&[&n.to_le_bytes()]));
        }
        assert!(!logins.knows(&Key::of(&[&0_usize.to_le_bytes()])));
        assert!(logins.knows(&Key::of(&[&REMEMBERED.to_le_bytes()])));
        assert_eq!(logins.known.lock().unwrap().len(), REMEMBERED);
    }

    #[test]
    fn hashes_of_bcrypt_are_taken() {
        let body = "10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
        for version in ["2a", "2b", "2y"] {
            assert_eq!(PasswordHash::new(&format!("${version}${body}")).unwrap().cost(), 10);
        }
        for other in ["", "plain", "$2y$10$short", "$1$salt$hash", &format!("$2x${body}"), &"é".repeat(30)] {
            assert_eq!(PasswordHash::new(other), Err(NoHash::Other), "{other}");
        }
        for cost in ["03", "32", "99"] {
            let hash = format!("$2y${cost}{}", &body[2..]);
            assert_eq!(PasswordHash::new(&hash), Err(NoHash::Cost), "{hash}");
        }
    }

    proptest! {
        /// Whatever is moved from one part to the next is another key: `a` with `bc` is not `ab` with `c`.
        #[test]
        fn t57_no_two_logins_share_a_key(
            one in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 3),
            other in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 3),
            cut in any::<proptest::sample::Index>(),
        ) {
            let key = |parts: &[Vec<u8>]| Key::of(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(key(&one) == key(&other), one == other);
            let joined = [one[0].as_slice(), &one[1]].concat();
            let at = cut.index(joined.len() + 1);
            let moved = [joined[..at].to_vec(), joined[at..].to_vec(), one[2].clone()];
            prop_assert_eq!(key(&one) == key(&moved), moved[..] == one[..]);
        }
    }
}
