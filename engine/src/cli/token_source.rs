//! Where client commands take their token from: never from the command line, which others see.

use std::{fs, path::PathBuf};

use anyhow::Context as _;

use super::UsageError;

const VARIABLE: &str = "TICKWIRE_TOKEN";

/// Flags that name the token.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// File with the token, re-read on every connect and before the token expires
    /// [default: the environment variable `TICKWIRE_TOKEN`].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[cfg(test)]
impl TokenArgs {
    /// As `--token-file path`.
    pub fn from_file(path: &std::path::Path) -> Self {
        Self {
            token_file: Some(path.to_owned()),
        }
    }
}

/// A token that may be renewed by writing its file.
#[derive(Debug)]
pub struct TokenSource {
    file: Option<PathBuf>,
    current: String,
}

impl TokenSource {
    /// Reads the token for the first time.
    pub fn open(args: &TokenArgs) -> anyhow::Result<Self> {
        let file = args.token_file.clone();
        let current = match std::env::var(VARIABLE) {
            _ if file.is_some() => String::new(),
            Ok(token) => token.trim().to_owned(),
            Err(_) => {
                let message = format!("there is no token: set {VARIABLE}, or name a --token-file");
                return Err(UsageError(message).into());
            }
        };
        let mut source = Self { file, current };
        source.refresh()?;
        Ok(source)
    }

    /// The token as read last.
    pub fn current(&self) -> &str {
        &self.current
    }

    /// Reads the file again; whether it holds another token now.
    pub fn refresh(&mut self) -> anyhow::Result<bool> {
        let Some(path) = &self.file else {
            return Ok(false);
        };
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the token file {}", path.display()))?;
        let changed = text.trim() != self.current;
        if changed {
            text.trim().clone_into(&mut self.current);
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_read_again_and_trimmed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "one\n").unwrap();
        let mut source = TokenSource::open(&TokenArgs::from_file(file.path())).unwrap();
        assert_eq!(source.current(), "one");
        assert!(!source.refresh().unwrap());
        fs::write(file.path(), "two").unwrap();
        assert!(source.refresh().unwrap());
        assert_eq!(source.current(), "two");
    }
}
