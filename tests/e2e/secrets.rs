//! A password with every awkward character: it logs in, and shows up nowhere.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};

use crate::support::{
    account::Account,
    bystander::Bystander,
    exporter::{Exporter, SOON, check, write_private},
    on_both_servers, quoted,
    servers::Server,
};

on_both_servers!(t45_a_password_of_awkward_characters_logs_in_and_is_nowhere_to_be_seen);

/// The word in its middle stays the same in a URL, in JSON, in TOML, in SQL and in Rust's Debug output.
const PASSWORD: &str = "a'b\"c`d#e@f%g:h\\i/j;k Zx9Canary7 ü€ß%41&?=$(x)*{}[]<>,.~!|^+-_end";
const CANARY: &str = "Zx9Canary7";

/// One query each second, on whatever targets there are.
const QUERY: &str = "[queries.q]\nsql = \"select 1 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
    [queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n";

/// The same, on each group but the bystander's.
const OF_THESE: &str = "[queries.q]\ngroups = [\"inline\", \"file\", \"env\", \"command\", \"fails\", \"defaults\", \"refused\", \"dead\", \"unknown\"]";

/// Asserts that the text has the password in no form.
#[track_caller]
fn assert_clean(what: &str, text: &str) {
    for needle in needles() {
        assert!(!text.contains(&needle), "{what} has {needle:?}:\n{text}");
    }
}

/// The password and its middle, as they are and encoded: as base64 the middle has three faces, by its place.
fn needles() -> Vec<String> {
    let mut needles = vec![CANARY.to_owned(), PASSWORD.to_owned(), quoted(PASSWORD), format!("{PASSWORD:?}")];
    let json = serde_json::to_string(PASSWORD).unwrap();
    needles.push(json.trim_matches('"').to_owned());
    let percent: String = PASSWORD
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    needles.push(percent.to_lowercase());
    needles.push(percent);
    for engine in [BASE64_STANDARD, BASE64_URL_SAFE] {
        needles.push(engine.encode(PASSWORD).trim_end_matches('=').to_owned());
        for before in 0..3 {
            // Whole groups of three bytes within the word have whole groups of four characters.
            let skip = (3 - before) % 3;
            let whole = (CANARY.len() - skip) / 3 * 3;
            needles.push(engine.encode(&CANARY.as_bytes()[skip..skip + whole]));
        }
    }
    needles
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let needles = needles();
    for before in 0..3 {
        let hidden = BASE64_STANDARD.encode(format!("{}{PASSWORD}", "x".repeat(before)));
        assert!(needles.iter().any(|needle| hidden.contains(needle)), "{hidden}");
    }
}

async fn t45_a_password_of_awkward_characters_logs_in_and_is_nowhere_to_be_seen(server: &Server) {
    let account = Account::with_password(server, "secret", PASSWORD).await;
    let (user, address) = (quoted(&account.user), quoted(&account.address));
    let inline = account.group("inline", &["inline"]);
    let file = format!(
        "[groups.file]\nuser = {user}\npassword_file = \"secrets/{{target}}\"\ntargets = {{ file = {address} }}\n"
    );
    let env = format!(
        "[groups.env]\nuser = {user}\npassword_env = \"E2E_PASSWORD\"\ntargets = {{ env = {address} }}\n"
    );
    // In a word of a command `{` begins a name.
    let word = quoted(&PASSWORD.replace('{', "{{"));
    let command = format!(
        "[groups.command]\nuser = {user}\npassword_command = [\"printf\", \"%s\\n\", {word}]\n\
         targets = {{ command = {address} }}\n\
         [groups.fails]\nuser = {user}\npassword_command = [\"false\", {word}]\ntargets = {{ fails = {address} }}\n"
    );
    let defaults = format!(
        "[groups.defaults]\ndefaults_file = {{ path = \"my.cnf\", section = \"client\" }}\n\
         targets = {{ defaults = {address} }}\n"
    );
    // One that the server refuses, and ones that are not there, so that errors are logged with the password at hand.
    let refused = Account { user: "nobody_of_that_name".to_owned(), ..account.clone() };
    let ill = refused.group("refused", &["refused"])
        + &account.group_of("dead", "dead = \"127.0.0.1:1\"")
        + &account.group_of("unknown", "unknown = \"no-such-host.invalid:3306\"");
    let beside = Bystander::start().await;
    let mut config = inline + &file + &env + &command + &defaults + &ill + &beside.config();
    config += &QUERY.replace("[queries.q]", OF_THESE);

    for format in ["text", "json"] {
        let exporter = Exporter::start_with(&config, |command, folder| {
            command.args(["--log-level", "trace", "--log-format", format]).env("E2E_PASSWORD", PASSWORD);
            std::fs::create_dir(folder.join("secrets")).unwrap();
            let cnf = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"");
            let cnf = format!("[client]\nuser = {}\npassword = \"{cnf}\"\n", account.user);
            write_private(&folder.join("my.cnf"), cnf.as_bytes());
            write_private(&folder.join("secrets/file"), format!("{PASSWORD}\n").as_bytes());
        })
        .await;
        let page = exporter
            .wait_until("all that can are up", SOON, |page| {
                ["inline", "file", "env", "command", "defaults"].iter().all(|target| page.is_up(target))
                    && ["refused", "dead", "unknown", "fails"]
                        .iter()
                        .all(|target| page.runs(target, "failure") > 1)
            })
            .await;
        assert_eq!(page.reason("refused"), Some("auth"));
        assert_clean("the page", &page.text);
        for path in [
            "/",
            "/-/ready",
            "/-/healthy",
            "/nothing",
            "/status",
            "/status.json",
            "/status?target=refused",
            "/status.json?target=fails",
            "/status.json?group=inline",
        ] {
            let answer = exporter.get(path).await;
            assert_clean(path, &format!("{answer:?}"));
            assert_clean(path, &answer.body);
        }
        beside.assert_untroubled(&exporter).await;
        let log = exporter.log().clone();
        exporter.stop(&[(server, &account)]).await;
        let log = log.text();
        assert!(log.contains("DEBUG") && log.contains("target is down"), "{log}");
        assert_clean("the log", &log);
    }
}

/// A configuration with the password in it, and mistakes beside it or about it.
fn mistaken() -> Vec<String> {
    let password = quoted(PASSWORD);
    let group = |body: &str| format!("[groups.g]\n{body}\n{QUERY}");
    vec![
        group(&format!("user = 3\npassword = {password}\ntargets = {{ db = \"h\" }}")),
        group(&format!("user = \"u\"\npasword = {password}\ntargets = {{ db = \"h\" }}")),
        group(&format!("user = \"u\"\nPassword = {password}\ntargets = {{ db = \"h\" }}")),
        group(&format!("user = \"u\"\npassword = [{password}]\ntargets = {{ db = \"h\" }}")),
        group(&format!("user = \"u\"\npassword = {{ value = {password} }}\ntargets = {{ db = \"h\" }}")),
        group(&format!(
            "user = \"u\"\npassword = {password}\npassword_env = \"X\"\ntargets = {{ db = \"h\" }}"
        )),
        group(&format!(
            "user = \"u\"\npassword = {password}\npassword = {password}\ntargets = {{ db = \"h\" }}"
        )),
        group(&format!("user = \"u\" password = {password}\ntargets = {{ db = \"h\" }}")),
        group(&format!(
            "user = \"u\"\npassword = {}\ntargets = {{ db = \"h\" }}",
            password.trim_end_matches(['"', '\''])
        )),
        group(&format!("user = \"u\"\npassword = {PASSWORD}\ntargets = {{ db = \"h\" }}")),
        group(&format!("user = \"u\"\npassword = '{PASSWORD}'\ntargets = {{ db = \"h\" }}")),
        group(&format!(
            "user = \"u\"\npassword = \"\"\"\n{PASSWORD}\n\"\"\" oops\ntargets = {{ db = \"h\" }}"
        )),
        group(&format!(
            "user = \"u\"\ntargets = {{ db = {{ address = \"h\", prot = 1, password = {password}, user = 2 }} }}"
        )),
        group(&format!(
            "user = \"u\"\ntargets = {{ db = {} }}",
            quoted(&format!("u:{PASSWORD}@tcp(h:3306)/"))
        )),
        group(&format!(
            "user = \"u\"\ntargets = {{ db = {{ address = {} }} }}",
            quoted(&format!("mysql://u:{PASSWORD}@h:3306/db"))
        )),
        format!("groups.g.user = 3\ngroups.g.password = {password}\n{QUERY}"),
        format!("[server]\npassword = {password}\n{}", group("user = \"u\"\ntargets = { db = \"h\" }")),
        format!("password = {password}\n{}", group("user = \"u\"\ntargets = { db = \"h\" }")),
        group(&format!(
            "user = \"u\"\npassword = {password}\ntargets = {{ db = \"h\" }}\n[queries.p]\nsql = 1"
        )),
    ]
}

#[tokio::test]
async fn a_password_beside_a_mistake_is_not_shown_with_it() {
    for config in mistaken() {
        let (code, stdout, stderr) = check(&config).await;
        assert_eq!(code, 2, "{config}\n{stderr}");
        assert!(stderr.contains("error: "), "{stderr}");
        assert_clean("the report", &format!("{stdout}{stderr}"));
    }
}

#[tokio::test]
async fn a_password_is_in_no_warning_of_a_good_check() {
    let config = format!(
        "[groups.g]\nuser = \"u\"\npassword = {}\ntargets = {{ db = \"h\" }}\n{QUERY}",
        quoted(PASSWORD)
    );
    let (code, stdout, stderr) = check(&config).await;
    assert_eq!(code, 0, "{stderr}");
    assert_clean("the summary", &format!("{stdout}{stderr}"));
}
