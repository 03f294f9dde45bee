use std::{collections::BTreeMap, io::Write as _};

use super::*;
use crate::config::Config;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let file = file(text);
    Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    }
    .load()
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = variables
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Sources {
        environment,
        ..Sources::default()
    }
    .load()
}

fn setting(key: &str, value: &str) -> Setting {
    Setting {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn without_sources_the_defaults_hold() {
    assert_eq!(
        Sources::default().load::<Config>().unwrap(),
        Config::default()
    );
}

#[test]
fn flags_win_over_environment_over_file() {
    let file = file("floors = 1\nstall_s = 11\ndrain_s = 21\n");
    let environment = [("TICKWIRE_FLOORS", "2"), ("TICKWIRE_STALL_S", "12")];
    let config: Config = Sources {
        file: Some(file.path().to_owned()),
        environment: environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        flags: vec![setting("floors", "7"), setting("floors", "3")],
    }
    .load()
    .unwrap();
    assert_eq!((config.floors, config.stall_s, config.drain_s), (3, 12, 21));
}

#[test]
fn an_unknown_key_is_named_with_the_key_meant() {
    let error = from_file("florrs = 2\n").unwrap_err().to_string();
    assert!(
        error.contains("there is no key `florrs`; did you mean `floors`?"),
        "{error}"
    );
    let error = from_file("[door]\nper_ip_rate = 2\n")
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("there is no key `door`"), "{error}");
}

#[test]
fn an_unknown_variable_is_an_error_and_others_are_ignored() {
    let error = from_environment(&[("TICKWIRE_TAPE_SLOT", "1")])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "environment variable TICKWIRE_TAPE_SLOT: there is no key `tape_slot`; did you mean `tape_slots`?",
    );
    let config =
        from_environment(&[("TICKWIRE_TOKEN", "ey"), ("PATH", "/bin"), ("FLOORS", "9")]).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_origin() {
    let error = from_environment(&[("TICKWIRE_FLOORS", "many")])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("environment variable TICKWIRE_FLOORS: `floors` is string \"many\""),
        "{error}"
    );
    let error = from_file("idle = \"doze\"\n").unwrap_err().to_string();
    assert!(
        error.contains("`idle` is \"doze\", expected one of park, spin, hybrid"),
        "{error}"
    );
    assert!(
        matches!(from_file("floors = -1\n"), Err(ConfigError::BadValue { key, .. }) if key == "floors")
    );
}

#[test]
fn a_text_that_looks_like_a_number_stays_a_text() {
    let config = from_environment(&[
        ("TICKWIRE_JWT_ISSUER", "42"),
        ("TICKWIRE_REQUIRE_ENTITLEMENTS", "true"),
    ]);
    let config = config.unwrap();
    assert_eq!(config.jwt_issuer.as_deref(), Some("42"));
    assert!(config.require_entitlements);
}

#[test]
fn a_broken_or_missing_file_is_an_error() {
    assert!(matches!(
        from_file("floors = \n"),
        Err(ConfigError::Syntax { .. })
    ));
    let missing = Sources {
        file: Some("/nonexistent/tickwire.toml".into()),
        ..Sources::default()
    };
    assert!(matches!(
        missing.load::<Config>(),
        Err(ConfigError::Read { .. })
    ));
}

#[test]
fn ranges_are_checked_whatever_the_source() {
    assert!(matches!(
        from_file("floors = 65\n"),
        Err(ConfigError::Invalid(_))
    ));
}

#[test]
fn every_number_has_an_upper_bound() {
    for (key, default) in defaults::<Config>() {
        if matches!(default, Value::Num(..)) {
            // Past 32 bits the type of some keys refuses first.
            for far in ["4294967295", "9007199254740991"] {
                let load = Sources {
                    flags: vec![setting(&key, far)],
                    ..Sources::default()
                }
                .load::<Config>();
                let named = load.expect_err(&key).to_string();
                assert!(named.contains(&format!("`{key}` is ")), "{named}");
            }
        }
    }
}

#[test]
fn the_printed_config_loads_as_the_same_config() {
    let config = Config {
        floors: 3,
        jwt_issuer: Some("me".into()),
        ..Config::default()
    };
    assert_eq!(from_file(&to_toml(&config).unwrap()).unwrap(), config);
}

const SAMPLE: &str = include_str!("../../../tickwire.sample.toml");

/// The sample's keys with their values as written, `# key = value` where a key has no default.
fn sample() -> BTreeMap<String, String> {
    SAMPLE
        .lines()
        .filter_map(|line| line.trim_start_matches("# ").split_once(" = "))
        .filter(|(key, _)| {
            key.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        })
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn the_sample_file_names_every_key_and_no_other() {
    assert_eq!(sample().into_keys().collect::<Vec<_>>(), keys::<Config>());
}

#[test]
fn the_sample_file_is_the_defaults() {
    assert_eq!(from_file(SAMPLE).unwrap(), Config::default());
    for line in to_toml(&Config::default()).unwrap().lines() {
        let key = line.split(' ').next().unwrap();
        assert!(
            SAMPLE
                .lines()
                .any(|own| own.starts_with(&format!("{key} = "))),
            "{key} is commented out"
        );
    }
}

#[test]
fn the_sample_file_documents_keys_as_the_code_does() {
    let code = include_str!("../mod.rs");
    let mut doc = Vec::new();
    for line in code
        .lines()
        .skip_while(|line| !line.starts_with("pub struct Config"))
        .take_while(|line| *line != "}")
    {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("/// ") {
            doc.push(format!("# {text}"));
        } else if line.starts_with("pub ") && line.contains(':') {
            let block = doc.join("\n");
            assert!(SAMPLE.contains(&block), "{line}: {block}");
            doc.clear();
        }
    }
}
