//! From defaults, file, environment and flags to one checked set of settings.

use std::{
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use figment::{
    Figment, Profile, Provider,
    error::Kind,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Value},
};

use serde::{Serialize, de::DeserializeOwned};

use super::ranges::Invalid;

/// A set of flat settings, whose defaults are complete.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// What a key's environment variable begins with.
    const ENV_PREFIX: &'static str;
    /// Variables with the prefix that are no keys; `*` at the end stands for any rest.
    const ENV_IGNORED: &'static [&'static str];

    /// Checks ranges and relations.
    ///
    /// # Errors
    ///
    /// [`Invalid`] with all that is wrong, not just the first.
    fn validate(&self) -> Result<(), Invalid>;
}

/// How alike two names must be for one to be offered in place of the other, 0…1.
const SIMILARITY_MIN: f64 = 0.85;

/// Where settings come from, the weakest first: defaults, `file`, `environment`, `flags`.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file with flat keys.
    pub file: Option<PathBuf>,
    /// Environment variables; those without the [prefix](Settings::ENV_PREFIX) are ignored.
    pub environment: Vec<(String, String)>,
    /// Keys set on the command line; among equals the last wins.
    pub flags: Vec<Setting>,
}

/// One key with the text of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// One of the keys.
    pub key: String,
    /// Its value as a text; what it must look like depends on the key.
    pub value: String,
}

impl Setting {
    /// `key` set to `value`.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// `KEY=VALUE`, as it stands on a command line.
impl FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        Ok(Self::new(key.trim(), value.trim()))
    }
}

/// This process's variables. One that is not UTF-8 is none of ours, or no value of ours.
pub fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's message, with line and column.
        message: String,
    },
    /// There is no such key.
    #[error("{origin}: there is no key `{key}`{}", Meant(meant.as_deref()))]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// File, variable or flag.
        origin: String,
        /// The key that was probably meant.
        meant: Option<String>,
    },
    /// A value of the wrong type.
    #[error("{origin}: `{key}` {message}")]
    BadValue {
        /// The key.
        key: String,
        /// File, variable or flag.
        origin: String,
        /// What was found and what is expected.
        message: String,
    },
    /// Values out of their ranges, or at odds with each other.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Sources {
    /// Reads all sources and checks the result.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`]. Unknown keys of the file and unknown variables with the prefix are
    /// errors: a misspelt limit that is silently ignored is found when it is needed.
    pub fn load<S: Settings>(&self) -> Result<S, ConfigError> {
        let defaults = defaults::<S>();
        let mut layers = Figment::from(Serialized::defaults(S::default()));
        let mut origins: Vec<(String, String)> = Vec::new();
        let mut lay = |origin: &str, layer: Dict, figment: Figment| {
            for key in layer.keys() {
                known(&defaults, key, origin)?;
                origins.push((key.clone(), origin.to_owned()));
            }
            Ok::<_, ConfigError>(figment.merge(Serialized::from(layer, Profile::Default)))
        };
        if let Some(path) = &self.file {
            layers = lay(&path.display().to_string(), read_file(path)?, layers)?;
        }
        for (variable, text) in &self.environment {
            let Some(key) = variable.strip_prefix(S::ENV_PREFIX) else {
                continue;
            };
            if !is_ignored::<S>(variable) {
                let key = key.to_lowercase();
                let value = typed(&defaults, &key, text);
                layers = lay(
                    &format!("environment variable {variable}"),
                    Dict::from([(key, value)]),
                    layers,
                )?;
            }
        }
        for Setting { key, value } in &self.flags {
            let value = typed(&defaults, key, value);
            layers = lay("command line", Dict::from([(key.clone(), value)]), layers)?;
        }
        let settings: S = layers
            .extract()
            .map_err(|error| bad_value(&error, &origins))?;
        settings.validate()?;
        Ok(settings)
    }
}

/// Every key, in the order of the alphabet.
pub fn keys<S: Settings>() -> Vec<String> {
    defaults::<S>().into_keys().collect()
}

/// The settings as TOML, in the order of their struct; keys without a value are left out.
///
/// # Errors
///
/// For a path that is not UTF-8, which no source but code can bring in.
pub fn to_toml<S: Settings>(settings: &S) -> Result<String, toml::ser::Error> {
    toml::to_string(settings)
}

fn is_ignored<S: Settings>(variable: &str) -> bool {
    S::ENV_IGNORED
        .iter()
        .any(|ignored| match ignored.strip_suffix('*') {
            Some(begin) => variable.starts_with(begin),
            None => *ignored == variable,
        })
}

fn defaults<S: Settings>() -> Dict {
    Serialized::defaults(S::default())
        .data()
        .ok()
        .and_then(|mut profiles| profiles.remove(&Profile::Default))
        .expect("the defaults are a struct of plain types")
}

fn read_file(path: &Path) -> Result<Dict, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let profiles = Toml::string(&text)
        .data()
        .map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
    Ok(profiles.into_values().next().unwrap_or_default())
}

fn known(defaults: &Dict, key: &str, origin: &str) -> Result<(), ConfigError> {
    if defaults.contains_key(key) {
        return Ok(());
    }
    let meant = defaults
        .keys()
        .map(|own| (strsim::jaro_winkler(own, key), own))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, own)| own.clone());
    Err(ConfigError::UnknownKey {
        key: key.to_owned(),
        origin: origin.to_owned(),
        meant,
    })
}

/// The value of a text, by the type of the key's default: only where that is a number or a
/// boolean is the text read as one, so that an issuer called `42` stays a text.
fn typed(defaults: &Dict, key: &str, text: &str) -> Value {
    match defaults.get(key) {
        Some(Value::Num(..) | Value::Bool(..)) => {
            text.parse().unwrap_or_else(|never| match never {})
        }
        _ => Value::from(text),
    }
}

fn bad_value(error: &figment::Error, origins: &[(String, String)]) -> ConfigError {
    let key = error.path.last().cloned().unwrap_or_default();
    let origin = origins.iter().rev().find(|(own, _)| *own == key);
    let message = match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("is {found}, expected {expected}")
        }
        Kind::UnknownVariant(found, expected) => {
            format!("is {found:?}, expected one of {}", expected.join(", "))
        }
        other => format!("cannot be read: {other}"),
    };
    ConfigError::BadValue {
        origin: origin.map_or_else(|| "defaults".to_owned(), |(_, origin)| origin.clone()),
        key,
        message,
    }
}

/// The end of a sentence: the key that was probably meant.
struct Meant<'a>(Option<&'a str>);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(f, "; did you mean `{key}`?"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
