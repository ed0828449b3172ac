//! Whatever is written, the loader answers: no panic, and not for long.

use std::{fmt::Write as _, fs, path::Path, sync::LazyLock};

use proptest::prelude::*;

use super::{
    super::{address::host_and_port, parse, pattern::Pattern},
    corpus, examples, shown,
};

/// CPU time of this process, in milliseconds. Tests share it, so the bound below is a generous one.
fn cpu_ms() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// Loads and shows a text, which takes no panic and no time.
fn check(text: &str) {
    let begun = cpu_ms();
    let _ = shown(Path::new("none/f.toml"), text);
    assert!(cpu_ms() - begun < 10_000, "{text}");
}

/// The files that are there, as a start for others.
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let files = corpus().into_iter().chain(examples());
    files.map(|path| fs::read_to_string(path).unwrap()).collect()
});

/// A piece that means something somewhere.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6)
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        prop::sample::select(vec![
            "\"",
            "'''",
            "{",
            "{{",
            "}",
            "[",
            "[[",
            "]",
            "=",
            ".",
            "\n",
            "é",
            "数",
            "\\",
            "0",
            "-1",
            "1e999",
            "password",
            "\t",
            "{1..9}",
            "*",
            "?",
            "[groups.x]",
            "include = [\"*\"]",
            "queries",
            "when",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_a_fleet_or_a_report(bytes: Vec<u8>) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_change_of_a_real_file_is_a_fleet_or_a_report(
        file in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..8_usize, piece()), 1..4),
    ) {
        let mut text: Vec<char> = file.get(&TEXTS).chars().collect();
        for (at, length, piece) in changes {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.chars());
        }
        check(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_text_is_a_range_or_says_why_not(text: String, braces in "[a{}0-9.]{0,20}") {
        for text in [text, braces] {
            if let Ok(pattern) = Pattern::parse(&text) {
                let steps = pattern.counts().into_iter().min().unwrap_or(1).min(3);
                for step in 0..steps {
                    let _ = pattern.expand(step);
                }
            }
        }
    }

    #[test]
    fn any_text_is_an_address_or_says_why_not(text: String, likely in "[\\[\\]a:0-9.@/]{0,20}") {
        for text in [text, likely] {
            if let Ok((host, _)) = host_and_port(&text, Some(3306)) {
                prop_assert!(!host.is_empty());
            }
        }
    }
}

#[test]
fn deep_and_long_files_end() {
    check(&format!("a = {}", "[".repeat(100_000)));
    check(&format!("a = {}1{}", "{ b = ".repeat(10_000), "}".repeat(10_000)));
    check(&"[groups.x]\n".repeat(20_000));
    let mut text = "[groups.g]\nuser = \"u\"\n[groups.g.targets]\n".to_owned();
    for n in 0..40 {
        let _ = writeln!(text, "\"t{n}-{{1..10000}}\" = \"h{{1..10000}}\"");
    }
    let report = parse(Path::new("f.toml"), &text, None).unwrap_err().to_string();
    assert!(report.contains("the fleet has more than 100000 targets"), "{report}");
}
