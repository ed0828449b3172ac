//! The first words of both sides: greeting, TLS, login.

use std::{mem, sync::Arc};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::{
    delivery::{Delivery, Then},
    error::ServerError,
    login::{NONCE, Plugin, Response},
    record::{Event, LoginSeen},
    results::ok,
    script::{Connect, Greeting, Script, Tls},
    send::Sender,
    session::{End, Session},
    stream::Stream,
    wire::MAX_INCOMING,
};

/// A TLS record: a fatal alert that says "protocol version".
const TLS_TOO_OLD: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 70];

/// The packet with a key that is none.
const NO_KEY: &[u8] = b"\x01-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";

impl Session {
    /// Greets the client and lets it log in, as far as the script has it.
    pub(crate) async fn greet(&mut self, script: &Arc<Script>, threads: u64) -> Result<(), End> {
        if script.max_connections.is_some_and(|max| threads > max) {
            return self.turn_away(&ServerError::from(1040)).await;
        }
        match &script.connect {
            // The listener keeps these out, unless the script has just changed.
            Connect::Refuse | Connect::BlackHole | Connect::Close => Err(End::Cut(Then::Close)),
            Connect::Mute => Err(End::Cut(Then::Mute)),
            Connect::Reset => Err(End::Cut(Then::Reset)),
            Connect::Error(error) => self.turn_away(error).await,
            Connect::Send(bytes, then) => {
                self.open.sleep(&self.stream, script.greeting.delivery.latency).await;
                let mut sender = self.sender(&script.greeting.delivery, 0);
                sender.bytes(bytes).await?;
                sender.finish().await?;
                Err(End::Cut(*then))
            }
            Connect::Greet | Connect::ShortGreeting => {
                let nonce = nonce(self.handle.id);
                self.send_greeting(script, &nonce).await?;
                let response = self.first_words(script).await?;
                self.log_in(script, response, nonce).await
            }
        }
    }

    /// An error in place of a greeting. What the client can is not known yet, so it has no state.
    async fn turn_away(&mut self, error: &ServerError) -> Result<(), End> {
        self.send_packet(0, |bytes| error.write(bytes, false)).await?;
        Err(End::Cut(Then::Close))
    }

    fn sender<'a>(&'a mut self, delivery: &'a Delivery, sequence: u8) -> Sender<'a> {
        Sender::new(&mut self.stream, &mut self.frames, &mut self.open, delivery, sequence)
    }

    async fn send_greeting(&mut self, script: &Script, nonce: &[u8; NONCE]) -> Result<(), End> {
        let greeting = &script.greeting;
        let (id, short) = (self.handle.id, script.connect == Connect::ShortGreeting);
        self.open.sleep(&self.stream, greeting.delivery.latency).await;
        let mut sender = self.sender(&greeting.delivery, 0);
        sender
            .packet(|bytes| {
                let capabilities = greeting.write(bytes, id, nonce);
                if short {
                    bytes.truncate(capabilities);
                }
            })
            .await?;
        sender.finish().await?;
        if short { Err(End::Cut(Then::Mute)) } else { Ok(()) }
    }

    /// The client's response, behind TLS where it asks for that.
    async fn first_words(&mut self, script: &Script) -> Result<(Response, u8, bool), End> {
        let Some(tls) = &script.tls else {
            let (sequence, packet) = self.receive().await?;
            let response = Response::read(&packet).filter(|response| !response.wants_tls);
            return Ok((response.ok_or(End::Gone)?, sequence, false));
        };
        // Not a byte more than the packet: what follows it may be TLS already.
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, sequence] = header;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if length > MAX_INCOMING {
            return Err(End::Gone);
        }
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet).await?;
        let response = Response::read(&packet).ok_or(End::Gone)?;
        if !response.wants_tls {
            return Ok((response, sequence, false));
        }
        self.encrypt(tls).await?;
        let (sequence, packet) = self.receive().await?;
        Ok((Response::read(&packet).ok_or(End::Gone)?, sequence, true))
    }

    async fn encrypt(&mut self, tls: &Tls) -> Result<(), End> {
        let config = match tls {
            Tls::Good(config) => Arc::clone(config),
            Tls::TooOld => {
                // The ClientHello, or some of it.
                let _ = self.stream.read(&mut [0; 512]).await?;
                self.stream.write_all(&TLS_TOO_OLD).await?;
                return Err(End::Cut(Then::Close));
            }
        };
        let Stream::Plain(tcp) = mem::replace(&mut self.stream, Stream::Broken) else {
            return Err(End::Gone);
        };
        let encrypted = TlsAcceptor::from(config).accept(tcp).await?;
        self.stream = Stream::Tls(Box::new(encrypted));
        Ok(())
    }

    async fn log_in(
        &mut self,
        script: &Script,
        (response, sequence, tls): (Response, u8, bool),
        nonce: [u8; NONCE],
    ) -> Result<(), End> {
        self.capabilities = u64::from(response.capabilities) & script.greeting.capabilities;
        self.open.sleep(&self.stream, script.login.delivery.latency).await;
        let mut login = LoginSeen {
            user: response.user,
            database: response.database,
            tls,
            capabilities: response.capabilities,
            ..LoginSeen::default()
        };
        let account = script.login.accounts.iter().find(|account| account.user == login.user);
        let plugin = response.plugin.as_deref().map_or(Plugin::Native, Plugin::named);
        let proof = Proof { bytes: response.proof, plugin, nonce, sequence };
        let wanted = script.login.switch.as_ref().or_else(|| account.map(|account| &account.plugin));
        let proof = self.switched(proof, wanted).await?;
        let proof = if script.login.full { self.whole_password(proof, tls).await? } else { proof };
        proof.plugin.name().clone_into(&mut login.plugin);
        login.password = proof.password();

        self.handle.set_user(&login.user);
        self.settings.database = login.database.as_deref().map(Into::into);
        let known = script.login.accounts.is_empty()
            || account
                .is_some_and(|account| proof.plugin.proves(&proof.bytes, &account.password, &proof.nonce));
        let denied = || denied(&login.user, &proof.bytes);
        let error = script.login.error.clone().or_else(|| (!known).then(denied));
        login.refused = error.as_ref().map(|error| error.code);
        self.server.records.count(&self.server.records.logins);
        self.record(script, || Event::Login(login));
        self.answer_login(script, &proof, error.as_ref()).await
    }

    /// Lets the client in, or tells it why not.
    async fn answer_login(
        &mut self,
        script: &Script,
        proof: &Proof,
        error: Option<&ServerError>,
    ) -> Result<(), End> {
        let mut sender = self.sender(&script.login.delivery, proof.sequence.wrapping_add(1));
        let Some(error) = error else {
            if proof.plugin == Plugin::CachingSha2 && !proof.bytes.is_empty() {
                // Fast authentication succeeded.
                sender.packet(|bytes| bytes.extend_from_slice(&[0x01, 0x03])).await?;
            }
            sender.packet(ok).await?;
            return Ok(sender.finish().await?);
        };
        sender.packet(|bytes| error.write(bytes, true)).await?;
        sender.finish().await?;
        self.server.records.count(&self.server.records.refused);
        Err(End::Cut(Then::Close))
    }

    /// Asks for a proof by the plugin that is wanted, where the client has used another.
    async fn switched(&mut self, mut proof: Proof, wanted: Option<&Plugin>) -> Result<Proof, End> {
        let Some(wanted) = wanted.filter(|wanted| **wanted != proof.plugin) else { return Ok(proof) };
        // Another challenge than that of the greeting.
        proof.nonce.rotate_left(1);
        let next = proof.sequence.wrapping_add(1);
        self.send_packet(next, |bytes| switch(bytes, wanted, &proof.nonce)).await?;
        let (sequence, packet) = self.receive().await?;
        Ok(Proof { bytes: packet.to_vec(), plugin: wanted.clone(), sequence, ..proof })
    }

    /// Asks for the password itself where it is proved by `caching_sha2_password`: it comes plain under TLS; otherwise the
    /// client wants a key to encrypt it with, which no simulated server has.
    async fn whole_password(&mut self, proof: Proof, tls: bool) -> Result<Proof, End> {
        if proof.plugin != Plugin::CachingSha2 || proof.bytes.is_empty() {
            return Ok(proof);
        }
        let next = proof.sequence.wrapping_add(1);
        self.send_packet(next, |bytes| bytes.extend_from_slice(&[0x01, 0x04])).await?;
        let (mut sequence, mut packet) = self.receive().await?;
        if !tls && packet[..] == [0x02] {
            self.send_packet(sequence.wrapping_add(1), |bytes| bytes.extend_from_slice(NO_KEY)).await?;
            (sequence, packet) = self.receive().await?;
        }
        Ok(Proof { bytes: packet.to_vec(), plugin: Plugin::Clear, sequence, ..proof })
    }
}

/// What a client has sent to prove its password.
struct Proof {
    bytes: Vec<u8>,
    /// The plugin by which it does.
    plugin: Plugin,
    /// What it was challenged with.
    nonce: [u8; NONCE],
    /// The number of the packet.
    sequence: u8,
}

impl Proof {
    /// The password, where the proof is the password itself.
    fn password(&self) -> Option<String> {
        let password = self.bytes.strip_suffix(b"\0").unwrap_or(&self.bytes);
        (self.plugin == Plugin::Clear).then(|| String::from_utf8_lossy(password).into_owned())
    }
}

impl Greeting {
    /// The payload. Gives the length up to and with the first half of the capabilities.
    fn write(&self, bytes: &mut Vec<u8>, id: u64, nonce: &[u8; NONCE]) -> usize {
        let (first, rest) = nonce.split_at(8);
        let capabilities = self.capabilities.to_le_bytes();
        bytes.push(10);
        bytes.extend_from_slice(self.version.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&id.to_le_bytes()[..4]);
        bytes.extend_from_slice(first);
        bytes.push(0);
        bytes.extend_from_slice(&capabilities[..2]);
        let end = bytes.len();
        bytes.push(self.collation);
        bytes.extend_from_slice(&2_u16.to_le_bytes());
        bytes.extend_from_slice(&capabilities[2..4]);
        // The length of the challenge with its NUL.
        bytes.push(21);
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&capabilities[4..]);
        bytes.extend_from_slice(rest);
        bytes.push(0);
        bytes.extend_from_slice(self.plugin.name().as_bytes());
        bytes.push(0);
        end
    }
}

/// The payload of a request to prove the password in another way.
fn switch(bytes: &mut Vec<u8>, plugin: &Plugin, nonce: &[u8; NONCE]) {
    bytes.push(0xfe);
    bytes.extend_from_slice(plugin.name().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(nonce);
    bytes.push(0);
}

fn denied(user: &str, proof: &[u8]) -> ServerError {
    let using = if proof.is_empty() { "NO" } else { "YES" };
    let message = format!("Access denied for user '{user}'@'localhost' (using password: {using})");
    ServerError::new(1045, message)
}

/// A challenge of printable bytes that differs from session to session.
fn nonce(id: u64) -> [u8; NONCE] {
    let mut random = fastrand::Rng::with_seed(id);
    std::array::from_fn(|_| random.u8(b'!'..=b'~'))
}
