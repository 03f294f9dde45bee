//! Tokens for the generator's own connections.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

/// No run lasts this long.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Signs HS256 tokens.
pub struct Signer {
    key: EncodingKey,
    exp: u64,
    secret: PathBuf,
}

impl Signer {
    /// Reads the secret as servers do: without a trailing newline.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let secret = std::fs::read(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let exp = SystemTime::now() + LIFETIME;
        Ok(Self {
            key: EncodingKey::from_secret(secret.trim_ascii_end()),
            secret: path.to_owned(),
            exp: exp.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        })
    }

    /// The file that it read.
    pub fn secret(&self) -> &Path {
        &self.secret
    }

    /// A token of user `sub` that may subscribe to everything.
    pub fn subscriber(&self, sub: &str) -> String {
        self.sign(&serde_json::json!({"sub": sub, "exp": self.exp, "symbols": ["*"]}))
    }

    /// A token that may publish everything.
    pub fn publisher(&self) -> String {
        self.sign(&serde_json::json!({"sub": "perf-publisher", "exp": self.exp, "publish": ["*"]}))
    }

    /// A token by which an edge follows everything for its clients.
    pub fn edge(&self) -> String {
        self.sign(&serde_json::json!({
            "sub": "perf-edge", "exp": self.exp, "symbols": ["*"],
            "max_symbols": 16_384, "ops_per_s": 1_000,
        }))
    }

    fn sign(&self, claims: &serde_json::Value) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &self.key)
            .expect("HS256 signs any JSON object with any secret")
    }
}
