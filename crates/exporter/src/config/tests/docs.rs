//! The documentation's examples are files, and every one of them loads.

use std::fs;

use super::{
    super::{load, schema},
    examples, folder, toml_files,
};

#[test]
fn each_example_loads_without_a_warning() {
    for path in examples() {
        let loaded = load(&path, None).unwrap_or_else(|report| panic!("{report}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert!(!loaded.config.items.is_empty(), "{}", path.display());
    }
}

/// The whole lines of each block of TOML stand, next to each other, in one of the example files.
#[test]
fn each_block_of_toml_in_the_documentation_is_part_of_an_example() {
    let files = [examples(), toml_files("docs/examples/conf.d")].concat();
    let examples: Vec<_> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
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

/// The same for what Prometheus is told; each of these files is run in a test of the whole program.
#[test]
fn each_block_of_yaml_in_the_documentation_is_a_file_of_the_examples() {
    let files = fs::read_dir(folder("docs/examples")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "yml"));
    let mut files: Vec<_> = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    files.sort();
    let page = fs::read_to_string(folder("docs/prometheus.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    let mut blocks: Vec<_> = blocks.collect();
    blocks.sort();
    assert_eq!(blocks, files);
}

/// Each key stands in code style in the page that explains the keys, and is used in an example.
#[test]
fn each_key_is_explained_and_shown() {
    let page = fs::read_to_string(folder("docs/configuration.md")).unwrap();
    let files = [examples(), toml_files("docs/examples/conf.d")].concat();
    let examples: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let words: Vec<_> = examples.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let schema = schema();
    for (table, definition) in schema["$defs"].as_object().unwrap() {
        for key in definition["properties"].as_object().unwrap().keys() {
            let is_table = table == "file" && key != "include";
            let explained =
                page.contains(&format!("`{key}`")) || (is_table && page.contains(&format!("[{key}")));
            assert!(explained, "docs/configuration.md does not explain `{key}` of {table}");
            assert!(words.contains(&key.as_str()), "no example has `{key}` of {table}");
        }
    }
}
