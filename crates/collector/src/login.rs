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

use crate::{Failure, Password, Reason, Secret, Target, defaults_file::Options};

/// The largest secret; a larger one is a mistake.
const MAX_SECRET_BYTES: usize = 64 << 10;

/// How long a program may take to print a secret.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// An account and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The account's name.
    pub user: String,
    /// Its password; empty for none.
    pub password: Secret,
}

/// Reads the target's secret now. A failure has the reason `credentials` and never quotes what was read.
pub(crate) async fn login(target: &Target, reads: &Arc<Semaphore>) -> Result<Login, Failure> {
    let (user, password) = match &target.password {
        Password::None => (None, Secret::new("")),
        Password::Inline(secret) => (None, secret.clone()),
        Password::Env(name) => (None, variable(name)?),
        Password::File(path) => (None, Secret::new(without_line_end(&read(path, reads).await?))),
        Password::Command(command) => (None, run(command).await?),
        Password::DefaultsFile { path, section } => defaults(path, section, reads).await?,
    };
    let user =
        target.user.clone().or(user).ok_or_else(|| failed("neither the file nor the target names a user"))?;
    Ok(Login { user, password })
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

/// Reads a small file, off the async threads.
async fn read(path: &Path, reads: &Arc<Semaphore>) -> Result<String, Failure> {
    // The semaphore is never closed.
    let permit = Arc::clone(reads).acquire_owned().await;
    let file = path.to_owned();
    let reading = spawn_blocking(move || {
        let mut content = Vec::new();
        let read = File::open(file)
            .and_then(|file| file.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut content));
        // A file system that hangs holds so many threads and no more, whoever still waits for it.
        drop(permit);
        read.map(|_| content)
    });
    let content = reading.await.unwrap_or_else(|_| Err(io::Error::other("reading was given up")));
    let content = content.map_err(|error| failed(format!("{}: {error}", path.display())))?;
    text(content, &path.display().to_string())
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
