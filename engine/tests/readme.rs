//! The documents say what the code does: every setting with its default, and the example of an
//! embedded engine.

use std::collections::BTreeMap;

use tickwire_engine::config::{Config, keys, to_toml};

const ROOT: &str = include_str!("../../README.md");
const OWN: &str = include_str!("../README.md");
const LIB: &str = include_str!("../src/lib.rs");

/// The keys of the table of settings with their defaults.
fn told() -> Vec<(String, String)> {
    ROOT.lines()
        .skip_while(|line| *line != "## Configuration")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let key = cells.next()?.strip_suffix('`')?;
            Some((key.to_owned(), cells.next()?.to_owned()))
        })
        .collect()
}

#[test]
fn the_table_of_settings_names_every_key_once_and_no_other() {
    let mut told: Vec<_> = told().into_iter().map(|(key, _)| key).collect();
    told.sort_unstable();
    assert_eq!(told, keys::<Config>());
}

#[test]
fn the_table_of_settings_tells_the_defaults() {
    let defaults: toml::Table = to_toml(&Config::default()).unwrap().parse().unwrap();
    let told: BTreeMap<_, _> = told().into_iter().collect();
    for key in keys::<Config>() {
        let default = match defaults.get(&key) {
            None => String::new(),
            Some(toml::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        assert_eq!(told[&key], default, "{key}");
    }
}

/// The Rust block of a markdown text.
fn example<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let block: Vec<_> = lines
        .skip_while(|line| *line != "```rust")
        .skip(1)
        .take_while(|line| *line != "```")
        .collect();
    assert!(!block.is_empty(), "no block of Rust");
    block
}

#[test]
fn the_example_in_the_readme_is_the_one_that_compiles() {
    let docs = LIB.lines().filter_map(|line| line.strip_prefix("//!"));
    let docs = docs.map(|line| line.strip_prefix(' ').unwrap_or(line));
    assert_eq!(example(OWN.lines()), example(docs));
}
