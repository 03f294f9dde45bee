//! Lists of networks, as `trusted_proxies` is one.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use super::listed;

/// IP networks such as `10.0.0.0/8` or `2001:db8::/32`; an address alone is a network of one.
///
/// Written as a list, or as a text with commas, which the environment and flags need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `address` lies in one of them; `::ffff:a.b.c.d` counts as `a.b.c.d`.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<T: IntoIterator<Item = IpNet>>(networks: T) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "networks such as 10.0.0.0/8 or 192.0.2.1";
        listed::deserialize(deserializer, expecting, network).map(Self)
    }
}

fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Networks, String> {
        #[derive(Deserialize)]
        struct Key {
            key: Networks,
        }
        let key: Result<Key, _> = toml::from_str(&format!("key = {toml}"));
        key.map(|key| key.key).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_and_a_text_say_the_same() {
        let list = read(r#"["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]"#).unwrap();
        let text = read(r#""10.0.0.0/8, 192.0.2.1,2001:db8::/32""#).unwrap();
        assert_eq!(list, text);
        assert_eq!(read(r#""""#).unwrap(), Networks::default());
        let written = toml::Value::try_from(&list).unwrap().to_string();
        assert_eq!(read(&written).unwrap(), list);
    }

    #[test]
    fn an_address_is_inside_or_outside() {
        let networks = read(r#""10.0.0.0/8, 192.0.2.1, 2001:db8::/32""#).unwrap();
        for inside in [
            "10.255.0.1",
            "192.0.2.1",
            "2001:db8:1::1",
            "::ffff:10.1.1.1",
        ] {
            assert!(networks.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.2", "2001:db9::1"] {
            assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_named() {
        for wrong in [r#""10.0.0.0/33""#, r#"["localhost"]"#, "7"] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("such as 10.0.0.0/8"), "{error}");
        }
    }
}
