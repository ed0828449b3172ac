//! The exporter behind a web file: TLS and logins as curl, Prometheus and our own commands meet them, and certificates
//! that change while it runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, KeyPair};

use crate::support::{
    exporter::{Exporter, SOON, command, folder_with, run, write_private},
    page::Page,
    prometheus::Prometheus,
    repository,
    wait::{seen_if, wait_for},
};

/// A fleet of one target that is down: what is asked here is the port.
const FLEET: &str = "[groups.g]\nuser = \"nobody\"\ntargets = { db = \"127.0.0.1:1\" }\n\
    [queries.q]\nsql = \"select 1 as n\"\n[queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n";

/// The password behind the hashes of these tests.
const PASSWORD: &str = "pa:ss";

/// An authority whose certificates are for this machine.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes a new certificate and its key, and gives the certificate.
    fn write_pair(&self, folder: &Path, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        // A subject that is its issuer's is a certificate that signs itself, to OpenSSL.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        put(&folder.join(format!("{name}.crt")), &certificate);
        put(&folder.join(format!("{name}.key")), &key.serialize_pem());
        certificate
    }

    fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("ca.crt");
        put(&path, &self.0.pem());
        path
    }
}

/// Puts a file in place at once, as what rotates certificates does.
fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    write_private(&beside, text.as_bytes());
    fs::rename(&beside, path).unwrap();
}

/// A web file with TLS and the user `prometheus`, and more.
fn web_file(more: &str) -> String {
    let hash = bcrypt::hash_with_salt(PASSWORD, 4, *b"salt of the test").unwrap();
    format!(
        "tls_server_config:\n  cert_file: exporter.crt\n  key_file: exporter.key\n{more}\
         basic_auth_users:\n  prometheus: {hash}\n"
    )
}

/// An exporter behind such a file, and the authority of its certificate, which stands in its folder.
async fn exporter(server: &str, more: &str) -> (Exporter, Authority) {
    let authority = Authority::new();
    let config = format!("[server]\nweb_config = \"web.yml\"\n{server}{FLEET}");
    let exporter = Exporter::start_with(&config, |_, folder| {
        authority.write(folder);
        authority.write_pair(folder, "exporter");
        put(&folder.join("web.yml"), &web_file(more));
        put(&folder.join("login"), &format!("prometheus:{PASSWORD}\n"));
    })
    .await;
    (exporter, authority)
}

/// What curl gets: the status, 0 where there is no answer, and the body with the head before it.
fn curl(exporter: &Exporter, path: &str, options: &[&str]) -> (u16, String) {
    let url = format!("https://{}{path}", exporter.address);
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--include", "--max-time", "20", "--write-out", "\n%{http_code}"])
        .args(options);
    let output = command.arg(url).current_dir(exporter.folder()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (text, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), text.to_owned())
}

const TRUSTING: [&str; 2] = ["--cacert", "ca.crt"];
const LOGGED_IN: [&str; 4] = ["--cacert", "ca.crt", "--user", "prometheus:pa:ss"];

/// A value of the page without labels.
fn value(exporter: &Exporter, family: &str) -> Option<f64> {
    let (status, text) = curl(exporter, "/metrics", &LOGGED_IN);
    if status != 200 {
        return None;
    }
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let page = Page::parse(body.to_owned());
    page.series(family, &[]).first().map(|(_, value)| *value)
}

/// One of our own commands, in the exporter's folder.
async fn own(exporter: &Exporter, args: &[&str]) -> (i32, String, String) {
    let mut command = command();
    command.args(args).arg("--config").arg(exporter.config()).current_dir(exporter.folder());
    run(command).await
}

#[tokio::test]
async fn t57_curl_gets_in_by_certificate_and_login_and_by_nothing_less() {
    let (exporter, _) = exporter("", "").await;
    let (status, page) = curl(&exporter, "/metrics", &LOGGED_IN);
    assert!(status == 200 && page.contains("query_exporter_up{"), "{page}");
    let (status, list) = curl(&exporter, "/sd", &LOGGED_IN);
    assert!(status == 200 && list.contains("\"__scheme__\":\"https\""), "{list}");
    let (status, refusal) = curl(&exporter, "/metrics", &TRUSTING);
    assert!(status == 401 && refusal.contains("www-authenticate: Basic\r\n"), "{refusal}");
    for login in ["prometheus:pa", "prometheus:", "eve:pa:ss", ":pa:ss"] {
        let (status, _) = curl(&exporter, "/metrics", &[&TRUSTING[..], &["--user", login]].concat());
        assert_eq!(status, 401, "{login}");
    }
    assert_eq!(curl(&exporter, "/metrics", &["--user", "prometheus:pa:ss"]).0, 0, "a stranger to curl");
    assert_eq!(curl(&exporter, "/metrics", &[&LOGGED_IN[..], &["--tls-max", "1.1"]].concat()).0, 0);
    assert_eq!(curl(&exporter, "/-/ready", &TRUSTING).0, 401);
    assert_eq!(curl(&exporter, "/-/healthy", &TRUSTING).0, 200, "who is on this machine");
    let plain = exporter.get("/metrics").await;
    assert_eq!((plain.status, plain.body.as_str()), (400, "this port speaks TLS: use https\n"));
    exporter.stop(&[]).await;
}

#[tokio::test]
async fn curl_shows_a_certificate_where_one_is_wanted() {
    let clients = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    let (exporter, authority) = exporter("reload = true\n", clients).await;
    authority.write_pair(exporter.folder(), "client");
    Authority::new().write_pair(exporter.folder(), "stranger");
    let showing = |name: &str| {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        let options = [&LOGGED_IN[..], &["--cert", &certificate, "--key", &key]].concat();
        curl(&exporter, "/metrics", &options).0
    };
    assert_eq!(showing("client"), 200);
    assert_eq!(showing("stranger"), 0);
    assert_eq!(curl(&exporter, "/metrics", &LOGGED_IN).0, 0);
    let (code, _, stderr) = own(&exporter, &["health", "--bind", &exporter.address]).await;
    assert_eq!(code, 0, "{stderr}");

    let reload = ["reload", "--bind", &exporter.address, "--login", "login"];
    for (shown, expected, message) in [
        (&["--cert", "client.crt", "--key", "client.key"][..], 0, ""),
        (&["--cert", "stranger.crt", "--key", "stranger.key"], 1, "127.0.0.1"),
        (&[], 1, "127.0.0.1"),
        (
            &["--cert", "client.crt", "--key", "stranger.key"],
            2,
            "cannot show client.crt: certificate and key",
        ),
        (&["--cert", "client.crt", "--key", "client.crt"], 2, "cannot show client.crt: the key"),
        (&["--cert", "client.crt"], 2, "--key"),
    ] {
        let (code, _, stderr) = own(&exporter, &[&reload[..], shown].concat()).await;
        assert!(code == expected && stderr.contains(message), "{shown:?}: {code}: {stderr}");
    }
    exporter.stop(&[]).await;
}

#[tokio::test]
async fn prometheus_scrapes_with_tls_and_a_login_as_the_documentation_shows_it() {
    let (exporter, _) = exporter("", "").await;
    put(&exporter.folder().join("password"), PASSWORD);
    let text = fs::read_to_string(repository().join("docs/examples/prometheus-tls.yml")).unwrap();
    let in_folder = |name: &str| exporter.folder().join(name).display().to_string();
    let config = text
        .replace("exporter:9104", &exporter.address)
        .replace("exporter-ca.crt", &in_folder("ca.crt"))
        .replace("exporter-password", &in_folder("password"));
    let config = format!("global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n{config}");
    if let Some(prometheus) = Prometheus::start_on(&config).await {
        wait_for("Prometheus scrapes", SOON, async || {
            let value = prometheus.value("query_exporter_up{target=\"db\"} and on () up == 1").await;
            seen_if(value == Some(0.0), value).map(|_| ())
        })
        .await;
    }
    exporter.stop(&[]).await;
}

#[tokio::test]
async fn our_own_commands_get_in_and_a_port_with_a_login_may_take_reloads_from_afar() {
    let (exporter, _) = exporter("reload = true\n", "").await;
    let (bind, url) = (["--bind", &exporter.address], format!("https://{}", exporter.address));
    let health = own(&exporter, &[&["health"], &bind[..]].concat()).await;
    assert_eq!(health.0, 0, "{}", health.2);

    let login = ["--login", "login"];
    for args in [
        [&["reload"], &bind[..], &login].concat(),
        [&["reload", "--dry-run"], &bind[..], &login].concat(),
        [&["reload", "--against", &url, "--ca", "ca.crt"], &login[..]].concat(),
        [&["reload", "--against", &url, "--ca", "exporter.crt"], &login[..]].concat(),
    ] {
        let (code, stdout, stderr) = own(&exporter, &args).await;
        assert_eq!(code, 0, "{args:?}: {stderr}");
        assert!(stdout.contains("1 go on untouched") || stdout.contains("untouched 1"), "{stdout}");
    }
    Authority::new().write_pair(exporter.folder(), "stranger");
    for (args, code, message) in [
        ([&["reload"], &bind[..]].concat(), 1, "it answered 401: unauthorized"),
        ([&["reload", "--against", &url], &login[..]].concat(), 2, "say whom to trust"),
        (
            [&["reload", "--against", &url, "--ca", "stranger.crt"], &login[..]].concat(),
            1,
            "invalid peer certificate",
        ),
        ([&["reload", "--against", &url, "--ca", "nowhere"], &login[..]].concat(), 2, "cannot read nowhere"),
    ] {
        let (seen, _, stderr) = own(&exporter, &args).await;
        assert!(seen == code && stderr.contains(message), "{args:?}: {seen}: {stderr}");
    }
    // Where a request over HTTP needs a login, anybody may reach the port.
    let (code, _, stderr) = own(&exporter, &["--check", "--bind", "0.0.0.0:0"]).await;
    assert_eq!(code, 0, "{stderr}");
    exporter.stop(&[]).await;
}

#[tokio::test]
async fn t48_a_certificate_of_the_port_is_renewed_and_a_broken_pair_keeps_the_old_one() {
    const SUCCESSFUL: &str = "query_exporter_web_config_last_reload_successful";
    let (exporter, authority) = exporter("", "").await;
    let folder = exporter.folder().to_owned();
    let shown = || {
        let address = &exporter.address;
        let text =
            format!("openssl s_client -connect {address} -showcerts </dev/null 2>/dev/null | openssl x509");
        String::from_utf8(Command::new("bash").args(["-c", &text]).output().unwrap().stdout).unwrap()
    };
    let first = fs::read_to_string(folder.join("exporter.crt")).unwrap().replace('\r', "");
    assert_eq!(shown(), first);
    assert_eq!(value(&exporter, SUCCESSFUL), Some(1.0));

    // A certificate without its key is half of a renewal, or a mistake.
    let other = tempfile::tempdir().unwrap();
    let second = authority.write_pair(other.path(), "exporter").replace('\r', "");
    put(&folder.join("exporter.crt"), &second);
    wait_for("the metric tells it", SOON * 3, async || {
        let value = value(&exporter, SUCCESSFUL);
        seen_if(value == Some(0.0), value).map(|_| ())
    })
    .await;
    assert_eq!(shown(), first, "the old one goes on");
    assert_eq!(exporter.log().with("holds the key of another certificate").len(), 1);

    put(&folder.join("exporter.key"), &fs::read_to_string(other.path().join("exporter.key")).unwrap());
    wait_for("the new one is shown", SOON * 3, async || seen_if(shown() == second, shown()).map(|_| ()))
        .await;
    assert_eq!(value(&exporter, SUCCESSFUL), Some(1.0));

    // A login that is taken away holds at once with a reload, which refuses a web file with a mistake.
    put(&folder.join("web.yml"), &web_file("").replace("cert_file", "cert_fil"));
    exporter.hang_up();
    wait_for("the mistake is told", SOON, async || {
        let value = value(&exporter, SUCCESSFUL);
        seen_if(value == Some(0.0), value).map(|_| ())
    })
    .await;
    put(&folder.join("web.yml"), &web_file("").replace("prometheus:", "other:"));
    exporter.hang_up();
    wait_for("the user is gone", SOON, async || {
        let (status, _) = curl(&exporter, "/metrics", &LOGGED_IN);
        seen_if(status == 401, status).map(|_| ())
    })
    .await;
    // And TLS itself.
    put(&folder.join("web.yml"), "");
    exporter.hang_up();
    exporter_answers_plainly(&exporter).await;
    exporter.stop(&[]).await;
}

async fn exporter_answers_plainly(exporter: &Exporter) {
    wait_for("plain HTTP is spoken", SOON, async || {
        let answer = exporter.get("/metrics").await;
        seen_if(answer.status == 200, answer.status).map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn t58_mistakes_of_both_files_are_told_together() {
    let (folder, path) =
        folder_with(&format!("[server]\nlisten = \"nowhere\"\nweb_config = \"web.yml\"\n{FLEET}"));
    put(&folder.path().join("web.yml"), "tls_server_config:\n  cert_file: none.crt\nbasic_auth_user: {}\n");
    let check = async |more: &[&str]| {
        let mut command = command();
        command.args(["--check", "--config"]).arg(&path).args(more);
        run(command).await
    };
    let (code, _, stderr) = check(&[]).await;
    assert_eq!(code, 2);
    let web = folder.path().join("web.yml");
    for message in [
        format!("{}:2:10: error: ", path.display()),
        format!("{}:1:1: error: TLS needs a key", web.display()),
        format!("{}:2:14: error: cannot read the `cert_file`", web.display()),
        format!("{}:3:1: error: `basic_auth_user` is not a key", web.display()),
    ] {
        assert!(stderr.contains(&message), "no {message:?} in\n{stderr}");
    }
    assert!(stderr.ends_with("4 errors\n"), "{stderr}");
    // The command line names another.
    let good = folder.path().join("good.yml");
    put(&good, "rate_limit: { interval: 1s, burst: 10 }\n");
    for flag in ["--web-config", "--web.config.file"] {
        let (_, _, stderr) = check(&[flag, good.to_str().unwrap()]).await;
        assert!(stderr.ends_with("1 error\n"), "{stderr}");
        let (_, _, stderr) = check(&[flag, "nowhere.yml"]).await;
        assert!(stderr.contains("cannot read the web configuration nowhere.yml"), "{stderr}");
    }
}
