//! The shape of the workspace: which crate may know which, and that nothing is listed and idle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::support::repository;

fn packages() -> BTreeMap<String, Package> {
    let mut command = MetadataCommand::new();
    command.manifest_path(repository().join("Cargo.toml")).no_deps();
    let packages = command.exec().unwrap().packages;
    packages.into_iter().map(|package| (package.name.to_string(), package)).collect()
}

/// What a package depends on, the dependencies of its tests left out.
fn dependencies(package: &Package) -> BTreeSet<&str> {
    let real =
        package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
    real.map(|dependency| dependency.name.as_str()).collect()
}

#[test]
fn the_crates_know_each_other_only_along_the_datas_way() {
    let packages = packages();
    let allowed: BTreeMap<&str, (&[&str], &[&str])> = [
        // A crate, which of ours it knows, and what it must not know.
        (
            "fleet-scheduler",
            (&[][..], &["sqlx", "hyper", "prometheus-client", "serde", "toml", "tracing"][..]),
        ),
        ("fleet-collector", (&[], &["hyper", "toml", "serde", "prometheus-client", "humantime-serde"])),
        ("fleet-history", (&[], &["hyper", "toml", "serde", "prometheus-client", "humantime-serde"])),
        ("fleet-http", (&["fleet-collector"], &["sqlx", "toml", "serde"])),
        (
            "fleet-query-exporter",
            (
                &["fleet-collector", "fleet-history", "fleet-http", "fleet-scheduler"],
                &["sqlx", "hyper", "hyper-util"],
            ),
        ),
        // Stands for servers, so it knows none of ours and no client.
        ("fleetsim", (&[], &["sqlx", "hyper", "toml", "serde"])),
    ]
    .into();
    assert_eq!(
        packages.keys().map(String::as_str).collect::<Vec<_>>(),
        allowed.keys().copied().collect::<Vec<_>>()
    );
    for (name, package) in &packages {
        let (knows, not) = allowed[name.as_str()];
        let dependencies = dependencies(package);
        let ours: Vec<_> = dependencies.iter().copied().filter(|name| packages.contains_key(*name)).collect();
        assert_eq!(ours, knows, "{name}");
        let wrong: Vec<_> = not.iter().filter(|banned| dependencies.contains(*banned)).collect();
        assert!(wrong.is_empty(), "{name} must not know {wrong:?}");
    }
}

#[test]
fn only_the_tests_of_those_that_ask_servers_know_the_simulator() {
    let packages = packages();
    let knows_it = |package: &Package| package.dependencies.iter().any(|other| other.name == "fleetsim");
    let those: Vec<_> =
        packages.iter().filter(|(_, package)| knows_it(package)).map(|(name, _)| name).collect();
    assert_eq!(those, ["fleet-collector", "fleet-query-exporter"]);
}

#[test]
fn each_of_the_nine_packages_serves_some_crate() {
    let packages = packages();
    for name in [
        "tokio",
        "sqlx",
        "prometheus-client",
        "hyper",
        "serde",
        "toml",
        "tracing",
        "tokio-util",
        "humantime-serde",
    ] {
        let used = packages.values().any(|package| {
            dependencies(package).contains(name)
                && sources(package).iter().any(|source| imports(source, &name.replace('-', "_")))
        });
        assert!(used, "{name} is imported by no crate that depends on it");
    }
}

#[test]
fn each_dependency_of_the_workspace_is_used_by_a_crate() {
    let manifest: toml::Table = fs::read_to_string(repository().join("Cargo.toml")).unwrap().parse().unwrap();
    let listed = manifest["workspace"]["dependencies"].as_table().unwrap();
    let packages = packages();
    let used: BTreeSet<_> =
        packages.values().flat_map(|package| &package.dependencies).map(|d| &d.name).collect();
    let idle: Vec<_> = listed.keys().filter(|name| !used.contains(name)).collect();
    assert!(idle.is_empty(), "{idle:?}");
}

/// The text of each source file of the package.
fn sources(package: &Package) -> Vec<String> {
    fn collect(folder: &Path, into: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut sources = Vec::new();
    collect(&package.manifest_path.with_file_name("src").into_std_path_buf(), &mut sources);
    sources
}

/// Whether a line that is not a comment names something of this crate.
fn imports(source: &str, name: &str) -> bool {
    let path = format!("{name}::");
    source.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&path))
}
