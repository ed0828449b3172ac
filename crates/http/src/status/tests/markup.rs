//! The pages are HTML, and what others say in them is text.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use super::{html5, *};

/// Every text that comes from a server or a file, as somebody would write it who means harm.
fn hostile() -> Scripted {
    let evil = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&lt;\u{202e}";
    let mut fleet = mixed();
    fleet.exporter.version = evil.to_owned();
    fleet.exporter.config_error = Some(evil.to_owned());
    for (target, items) in &mut fleet.targets {
        let name = format!("{}{evil}", target.brief.name);
        target.brief.name = name.as_str().into();
        target.brief.group = evil.into();
        target.address = evil.to_owned();
        target.labels = vec![("l".to_owned(), evil.to_owned())];
        if let Some((_, failure)) = &mut target.down {
            failure.message = evil.to_owned();
        }
        let server = Server { version: evil.into(), server_id: evil.into(), ..Server::default() };
        target.server = Some(Arc::new(server));
        *items = vec![failing(evil, evil), item(evil, Some(Outcome::Success(Some(evil.into()))))];
        target.trouble = Some((evil.into(), items[0].last.clone().unwrap()));
    }
    fleet
}

fn pages_of(fleet: fn() -> Scripted) -> Vec<String> {
    let names: Vec<_> = fleet().targets.iter().map(|(target, _)| target.brief.clone()).collect();
    let mut queries = vec![String::new(), "target=nobody%3Cb%3E".to_owned(), "target=d".to_owned()];
    queries.extend(names.iter().map(|brief| rows::link("target", &brief.name).split_off("status?".len())));
    queries.extend(names.iter().map(|brief| rows::link("group", &brief.group).split_off("status?".len())));
    queries.iter().map(|query| build(fleet(), query, Format::Html).1).collect()
}

#[test]
fn the_pages_are_valid_html() {
    for fleet in [mixed, hostile, Scripted::default] {
        for page in pages_of(fleet) {
            let errors = html5::parse(&page).errors;
            assert!(errors.is_empty(), "{errors:?}\n{page}");
        }
    }
}

#[test]
fn no_text_of_others_becomes_markup() {
    let known: Vec<_> = pages_of(mixed).iter().flat_map(|page| html5::parse(page).names).collect();
    for page in pages_of(hostile) {
        let seen = html5::parse(&page);
        let new: Vec<_> = seen.names.iter().filter(|name| !known.contains(name)).collect();
        assert!(new.is_empty(), "{new:?}\n{page}");
        for link in &seen.links {
            assert!(
                link == "metrics"
                    || link == "status"
                    || link.starts_with("status?")
                    || link.starts_with("status#"),
                "{link}"
            );
        }
    }
}

#[test]
fn the_policy_allows_this_style_and_no_other() {
    let hash = BASE64_STANDARD.encode(Sha256::digest(html::STYLE));
    assert!(POLICY.contains(&format!("style-src 'sha256-{hash}';")), "the style's hash is sha256-{hash}");
    let page = build(mixed(), "", Format::Html).1;
    assert!(page.contains(&format!("<style>{}</style>", html::STYLE)));
    assert!(!page.contains(" style=\""), "the policy forbids styles in attributes");
}
