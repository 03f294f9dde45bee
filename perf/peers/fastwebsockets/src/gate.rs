//! The verdict on an upgrade: path and token.

use hyper::{HeaderMap, StatusCode, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

/// What a connection is.
#[derive(Clone, Copy)]
pub enum Role {
    /// `/v1/ws`.
    Subscriber,
    /// `/v1/publish`.
    Publisher,
}

/// Verifies tokens before a connection is upgraded.
pub struct Gate {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    publish: Option<Vec<String>>,
}

impl Gate {
    /// Takes HS256 tokens signed with `secret`, and no others.
    pub fn new(secret: &[u8]) -> Self {
        Self {
            key: DecodingKey::from_secret(secret),
            validation: Validation::new(Algorithm::HS256),
        }
    }

    /// What the connection may be, or the status that refuses it.
    pub fn judge(&self, path: &str, headers: &HeaderMap) -> Result<Role, StatusCode> {
        let role = match path {
            "/v1/ws" => Role::Subscriber,
            "/v1/publish" => Role::Publisher,
            _ => return Err(StatusCode::NOT_FOUND),
        };
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .ok_or(StatusCode::UNAUTHORIZED)?;
        let claims = decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|_| StatusCode::UNAUTHORIZED)?
            .claims;
        match role {
            Role::Publisher if claims.publish.is_none() => Err(StatusCode::FORBIDDEN),
            _ => Ok(role),
        }
    }
}
