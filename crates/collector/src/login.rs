//! Who logs in, read anew for each connect, so that a rotated secret needs neither a reload nor a restart.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{io::AsyncReadExt, process::Command, sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::{
    Failure, Password, Reason, Secret, Target, TlsMode,
    certificates::{Certificates, MAX_PEM_BYTES, check_authorities, check_chain, check_key, check_pair},
    defaults_file::Options,
};

/// The largest secret; a larger one is a mistake.
const MAX_SECRET_BYTES: usize = 64 << 10;

/// How long a program may take to print a secret.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// An account and its password, and what TLS needs of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The account's name.
    pub user: String,
    /// Its password; empty for none.
    pub password: Secret,
    /// The certificates of this connect.
    pub certificates: Certificates,
}

/// Reads the target's secret now. A failure has the reason `credentials` and never quotes what was read.
pub(crate) async fn login(target: &Target, reads: &Arc<Semaphore>) -> Result<Login, Failure> {
    let (user, password) = match &target.password {
        Password::None => (None, Secret::new("")),
        Password::Inline(secret) => (None, secret.clone()),
        Password::Env(name) => (None, variable(name)?),
        Password::File(path) => (None, file(path, reads).await?),
        Password::Command(command) => (None, run(command).await?),
        Password::DefaultsFile { path, section } => defaults(path, section, reads).await?,
    };
    let user =
        target.user.clone().or(user).ok_or_else(|| failed("neither the file nor the target names a user"))?;
    Ok(Login { user, password, certificates: certificates(target, reads).await? })
}

/// Reads the target's PEM files, where they are of any use.
async fn certificates(target: &Target, reads: &Arc<Semaphore>) -> Result<Certificates, Failure> {
    let unfit = |path: &Path, unfit| failed(format!("{} {unfit}", path.display()));
    let mut found = Certificates::default();
    if target.tls.mode == TlsMode::Disabled {
        return Ok(found);
    }
    if let Some(path) = &target.tls.ca {
        let pem = read_pem(path, reads).await?;
        check_authorities(&pem).map_err(|error| unfit(path, error))?;
        found.ca = Some(pem);
    }
    if let Some((chain_path, key_path)) = &target.tls.identity {
        let chain = read_pem(chain_path, reads).await?;
        check_chain(&chain).map_err(|error| unfit(chain_path, error))?;
        let key = read_pem(key_path, reads).await?;
        let fits = check_key(&key).and_then(|()| check_pair(&chain, &key));
        fits.map_err(|error| unfit(key_path, error))?;
        found.identity = Some((chain, key));
    }
    Ok(found)
}

fn failed(message: impl AsRef<str>) -> Failure {
    Failure::unanswered(Reason::Credentials, message)
}

fn variable(name: &str) -> Result<Secret, Failure> {
    std::env::var(name).map(Secret::new).map_err(|error| match error {
        std::env::VarError::NotPresent => failed(format!("the environment variable {name} is not set")),
        // Not the error's own text, which quotes the value.
        std::env::VarError::NotUnicode(_) => failed(format!("the environment variable {name} is not UTF-8")),
    })
}

/// Reads a file that holds nothing but a password. Somebody is about to write an empty one: with no password at all,
/// each try would count against the account.
async fn file(path: &Path, reads: &Arc<Semaphore>) -> Result<Secret, Failure> {
    let content = read(path, reads).await?;
    let password = without_line_end(&content);
    if password.is_empty() {
        let message =
            format!("{}: is empty; an account without a password needs no password_file", path.display());
        return Err(failed(message));
    }
    Ok(Secret::new(password))
}

/// Reads a secret.
async fn read(path: &Path, reads: &Arc<Semaphore>) -> Result<String, Failure> {
    text(read_bytes(path, reads, MAX_SECRET_BYTES).await?, &path.display().to_string())
}

/// Reads a file, off the async threads: one byte more than so many at most, which tells that it is larger.
async fn read_bytes(path: &Path, reads: &Arc<Semaphore>, most: usize) -> Result<Vec<u8>, Failure> {
    // The semaphore is never closed.
    let permit = Arc::clone(reads).acquire_owned().await;
    let file = path.to_owned();
    let reading = spawn_blocking(move || {
        let mut content = Vec::new();
        let read = File::open(file).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut content));
        // A file system that hangs holds so many threads and no more, whoever still waits for it.
        drop(permit);
        read.map(|_| content)
    });
    let content = reading.await.unwrap_or_else(|_| Err(io::Error::other("reading was given up")));
    content.map_err(|error| failed(format!("{}: {error}", path.display())))
}

/// Reads a PEM file.
async fn read_pem(path: &Path, reads: &Arc<Semaphore>) -> Result<Vec<u8>, Failure> {
    let pem = read_bytes(path, reads, MAX_PEM_BYTES).await?;
    if pem.len() > MAX_PEM_BYTES {
        return Err(failed(format!("{}: larger than a file of certificates can be", path.display())));
    }
    Ok(pem)
}

fn text(content: Vec<u8>, from: &str) -> Result<String, Failure> {
    if content.len() > MAX_SECRET_BYTES {
        return Err(failed(format!("{from}: larger than a secret can be")));
    }
    String::from_utf8(content).map_err(|_| failed(format!("{from}: not UTF-8 text")))
}

/// Editors and `echo` end a file with a line end, which is no part of the password.
fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// Runs a program without a shell and takes what it prints. Its arguments may be secrets themselves, so messages name
/// the program alone; what it writes to stderr is not read.
async fn run(command: &[String]) -> Result<Secret, Failure> {
    let Some((program, arguments)) = command.split_first() else { return Err(failed("there is no command")) };
    let mut running = Command::new(program);
    running
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let printing = async {
        let mut child = running.spawn()?;
        let mut printed = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut printed).await?;
        }
        Ok((child.wait().await?, printed))
    };
    let printed = timeout(COMMAND_TIMEOUT, printing).await;
    let printed =
        printed.map_err(|_| failed(format!("{program}: did not end within {COMMAND_TIMEOUT:?}")))?;
    let (status, printed) = printed.map_err(|error: io::Error| failed(format!("{program}: {error}")))?;
    // What printed too much has been cut off, and then ends badly.
    if printed.len() <= MAX_SECRET_BYTES && !status.success() {
        return Err(failed(format!("{program}: ended with {status}")));
    }
    Ok(Secret::new(without_line_end(&text(printed, program)?)))
}

/// Reads the user and the password from an option file.
async fn defaults(
    path: &Path,
    section: &str,
    reads: &Arc<Semaphore>,
) -> Result<(Option<String>, Secret), Failure> {
    let from = path.display();
    let options = Options::read(&read(path, reads).await?, section)
        .map_err(|error| failed(format!("{from}: {error}")))?;
    let options = options.ok_or_else(|| failed(format!("{from}: there is no section [{section}]")))?;
    Ok((options.get("user").map(str::to_owned), Secret::new(options.get("password").unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::target;

    const CANARY: &str = "ca'na\"ry#@%:é";

    async fn check(password: Password, user: Option<&str>) -> Result<(String, String), Failure> {
        let target = Target { password, user: user.map(str::to_owned), ..target("t") };
        login(&target, &Arc::new(Semaphore::new(1)))
            .await
            .map(|login| (login.user, login.password.expose().to_owned()))
    }

    fn command(argv: &[&str]) -> Password {
        Password::Command(argv.iter().map(|word| (*word).to_owned()).collect())
    }

    #[tokio::test]
    async fn a_command_is_run_without_a_shell_and_loses_one_line_end() {
        let printed = check(command(&["printf", "%s\n\n", CANARY]), Some("u")).await.unwrap();
        assert_eq!(printed, ("u".to_owned(), format!("{CANARY}\n")));
        assert_eq!(check(command(&["echo", "$HOME;`id`"]), Some("u")).await.unwrap().1, "$HOME;`id`");
    }

    #[tokio::test]
    async fn a_command_that_fails_says_so_without_its_arguments() {
        for (argv, expected) in [
            (&["false", CANARY][..], "credentials: false: ended with exit status: 1"),
            (
                &["no-such-program", CANARY],
                "credentials: no-such-program: No such file or directory (os error 2)",
            ),
            (&["head", "-c", "70000", "/dev/zero"], "credentials: head: larger than a secret can be"),
            (&["printf", "\\377"], "credentials: printf: not UTF-8 text"),
        ] {
            assert_eq!(check(command(argv), Some("u")).await.unwrap_err().to_string(), expected);
        }
    }

    #[tokio::test]
    async fn a_file_that_hangs_holds_its_place_among_the_readers_until_it_is_read() {
        let file = std::env::temp_dir().join(format!("fleet-login-fifo-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        let tls = crate::Tls { mode: TlsMode::VerifyCa, ca: Some(file.clone()), identity: None };
        let target = Target { tls, ..target("t") };
        let reads = Arc::new(Semaphore::new(1));
        {
            let mut hangs = std::pin::pin!(login(&target, &reads));
            assert!(futures_util::poll!(&mut hangs).is_pending());
        }
        // Nobody waits for it any more, and its thread is still there.
        assert_eq!(reads.available_permits(), 0);
        std::fs::write(&file, "no certificate").unwrap();
        drop(reads.acquire().await.unwrap());
        std::fs::remove_file(&file).unwrap();
    }

    #[tokio::test]
    async fn a_file_of_certificates_that_holds_none_is_no_credential() {
        let file = std::env::temp_dir().join(format!("fleet-login-{}.pem", std::process::id()));
        let with = |mode| Target {
            tls: crate::Tls { mode, ca: Some(file.clone()), identity: Some((file.clone(), file.clone())) },
            ..target("t")
        };
        let reads = Arc::new(Semaphore::new(1));
        let cases = ["no certificate".to_owned(), "x".repeat(2 << 20)];
        for (content, expected) in
            cases.iter().zip(["holds no certificate", "larger than a file of certificates can be"])
        {
            std::fs::write(&file, content).unwrap();
            let failure = login(&with(TlsMode::VerifyCa), &reads).await.unwrap_err();
            assert_eq!(failure.reason, Reason::Credentials);
            assert!(failure.message.ends_with(expected), "{failure}");
            // Where TLS is off nobody looks at it.
            assert_eq!(
                login(&with(TlsMode::Disabled), &reads).await.unwrap().certificates,
                Certificates::default()
            );
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[tokio::test]
    async fn an_option_file_names_the_user_unless_the_target_does() {
        let file = std::env::temp_dir().join(format!("fleet-login-{}.cnf", std::process::id()));
        std::fs::write(&file, "[client]\nuser = cnf\npassword = \"p # x\"\n[empty]\n").unwrap();
        let from = |section: &str| Password::DefaultsFile { path: file.clone(), section: section.to_owned() };
        let own = check(from("client"), None).await;
        let named = check(from("client"), Some("named")).await;
        let empty = check(from("empty"), None).await;
        let missing = check(from("other"), None).await;
        std::fs::remove_file(&file).unwrap();
        assert_eq!(own.unwrap(), ("cnf".to_owned(), "p # x".to_owned()));
        assert_eq!(named.unwrap().0, "named");
        assert_eq!(empty.unwrap_err().message, "neither the file nor the target names a user");
        assert!(missing.unwrap_err().message.ends_with("there is no section [other]"));
    }
}
