//! The Redis servers of a bridge.

use serde::{Deserialize, Deserializer, Serialize};

use super::listed;

/// URLs such as `redis://10.0.0.1:6379`, with `rediss://` for TLS and `redis://user@…` for a user. A
/// password has a file of its own (`redis_password_file`): settings are shown to people.
///
/// Written as a list, or as a text with commas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Servers(Vec<String>);

impl Servers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URLs.
    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }
}

impl FromIterator<String> for Servers {
    fn from_iter<T: IntoIterator<Item = String>>(servers: T) -> Self {
        Self(servers.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting =
            "servers such as redis://127.0.0.1:6379, with the password in redis_password_file";
        listed::deserialize(deserializer, expecting, server).map(Self)
    }
}

fn server(text: &str) -> Option<String> {
    let url = redis::parse_redis_url(text).filter(|url| url.password().is_none());
    url.map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Servers, String> {
        #[derive(Deserialize)]
        struct Key {
            key: Servers,
        }
        let key: Result<Key, _> = toml::from_str(&format!("key = {toml}"));
        key.map(|key| key.key).map_err(|error| error.to_string())
    }

    #[test]
    fn one_server_or_several_are_named() {
        let list = read(r#"["redis://a:1", "rediss://user@b:2/3"]"#).unwrap();
        assert_eq!(read(r#""redis://a:1, rediss://user@b:2/3""#).unwrap(), list);
        assert_eq!(list.iter().count(), 2);
        assert!(read(r#""""#).unwrap().is_empty());
        for wrong in [r#""localhost:6379""#, r#""http://a""#] {
            assert!(
                read(wrong).unwrap_err().contains("such as redis://"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for wrong in [
            "redis://user:secret@a:1",
            "redis://:secret@a:1",
            "http://u:secret@a",
        ] {
            let key: Result<Servers, _> = serde_json::from_str(&format!("\"{wrong}\""));
            let said = key.unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
            assert!(said.contains("redis_password_file"), "{said}");
        }
    }
}
