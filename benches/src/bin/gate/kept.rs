//! The files that keep figures, and names that are picked from them.

use std::{collections::BTreeMap, fs, path::Path};

use serde::de::DeserializeOwned;
use toml_edit::{DocumentMut, Item, Table};

use crate::error::GateError;

/// Reads a TOML file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, GateError> {
    let text = fs::read_to_string(path).map_err(|source| GateError::File {
        path: path.to_owned(),
        source,
    })?;
    toml_edit::de::from_str(&text).map_err(|source| GateError::Toml {
        path: path.to_owned(),
        source,
    })
}

/// Changes a TOML file in place; its comments and its order stay.
pub fn rewrite(path: &Path, change: impl FnOnce(&mut DocumentMut)) -> Result<(), GateError> {
    let at = |source| GateError::File {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(at)?;
    let mut document: DocumentMut = text.parse().map_err(|source| GateError::Toml {
        path: path.to_owned(),
        source: toml_edit::de::Error::from(source),
    })?;
    change(&mut document);
    fs::write(path, document.to_string()).map_err(at)
}

/// Sets a value, or adds it, and keeps the comments around it.
pub fn set(table: &mut Table, key: &str, value: impl Into<toml_edit::Value>) {
    let mut value = value.into();
    // `insert` would replace the key too, and with it the comment above.
    if let Some(former) = table.get_mut(key).and_then(Item::as_value_mut) {
        *value.decor_mut() = former.decor().clone();
        *former = value;
    } else {
        table.insert(key, Item::Value(value));
    }
}

/// The entries of the given names, or all of them where none is given.
///
/// # Errors
///
/// [`GateError::Unknown`] for a name that stands nowhere: a typo must not turn the gate off.
pub fn pick<'a, T>(
    all: &'a BTreeMap<String, T>,
    names: &[String],
    kind: &'static str,
) -> Result<Vec<(&'a str, &'a T)>, GateError> {
    if names.is_empty() {
        return Ok(all.iter().map(|(name, one)| (name.as_str(), one)).collect());
    }
    let find = |name: &String| {
        all.get_key_value(name)
            .map(|(name, one)| (name.as_str(), one))
            .ok_or_else(|| GateError::Unknown {
                kind,
                name: name.clone(),
                known: all.keys().cloned().collect(),
            })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updating_a_value_leaves_the_comments() {
        let text = "# why\n[step]\n# what\nratio = 1.0 # steady\n";
        let mut document: DocumentMut = text.parse().expect("it is TOML");
        let table = document["step"].as_table_mut().expect("a table");
        set(table, "ratio", 0.25);
        set(table, "runs", 5);
        assert_eq!(
            document.to_string(),
            "# why\n[step]\n# what\nratio = 0.25 # steady\nruns = 5\n"
        );
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let all = BTreeMap::from([("skip".to_owned(), 1)]);
        assert!(pick(&all, &[], "case").is_ok_and(|all| all == [("skip", &1)]));
        let error = pick(&all, &["skipp".to_owned()], "case").expect_err("a typo");
        assert_eq!(
            error.to_string(),
            r#"no case is called "skipp"; there are skip"#
        );
    }
}
