//! The documentation's examples are files, and every one of them loads.

use std::fs;

use super::{super::load, examples, folder};

#[test]
fn each_example_loads_without_a_warning() {
    for path in examples() {
        let loaded = load(&path).unwrap_or_else(|report| panic!("{report}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert!(!loaded.config.items.is_empty(), "{}", path.display());
    }
}

/// The whole lines of each ```toml block stand, next to each other, in one of the example files.
#[test]
fn each_block_of_toml_in_the_documentation_is_part_of_an_example() {
    let examples: Vec<_> = examples().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let docs = fs::read_dir(folder("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.push(folder("README.md"));
    let mut blocks = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let block = format!("\n{}", block.split("```").next().unwrap());
            let found = examples.iter().any(|example| format!("\n{example}").contains(&block));
            assert!(found, "{}: in no file of docs/examples or configs:{block}", page.display());
            blocks += 1;
        }
    }
    assert!(blocks >= 10, "{blocks} blocks");
}
