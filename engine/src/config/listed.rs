//! Settings that are lists: written as a list, or as a text with commas, which the environment and
//! flags need.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, SeqAccess, Unexpected, Visitor},
};

/// Reads a list of whatever `entry` makes of a text.
///
/// # Errors
///
/// With `expecting`, where an entry is none or the setting is neither list nor text.
pub fn deserialize<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expecting: &'static str,
    entry: fn(&str) -> Option<T>,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(ListOrText { expecting, entry })
}

struct ListOrText<T> {
    expecting: &'static str,
    entry: fn(&str) -> Option<T>,
}

impl<T> ListOrText<T> {
    fn entry<E: de::Error>(&self, text: &str) -> Result<T, E> {
        (self.entry)(text).ok_or_else(|| {
            // Before an @ there may be a secret.
            let shown = text.rsplit('@').next().unwrap_or_default();
            E::invalid_value(Unexpected::Str(shown), &self.expecting)
        })
    }
}

impl<'de, T> Visitor<'de> for ListOrText<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        let entries = text.split(',').map(str::trim);
        entries
            .filter(|entry| !entry.is_empty())
            .map(|entry| self.entry(entry))
            .collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element::<String>()? {
            list.push(self.entry(&entry)?);
        }
        Ok(list)
    }
}
