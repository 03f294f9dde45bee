//! The verdict on an upgrade: path and token.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::{
    handshake::server::{Callback, ErrorResponse, Request, Response},
    http::{StatusCode, header::AUTHORIZATION},
};

/// What a connection is.
#[derive(Clone, Copy)]
pub enum Role {
    /// `/v1/ws`.
    Subscriber,
    /// `/v1/publish`.
    Publisher,
}

/// Verifies tokens before a socket is upgraded.
pub struct Gate {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    publish: Option<Vec<String>>,
}

struct Verdict<'a> {
    gate: &'a Gate,
    role: &'a mut Option<Role>,
}

impl Gate {
    /// Takes HS256 tokens signed with `secret`, and no others.
    pub fn new(secret: &[u8]) -> Self {
        Self {
            key: DecodingKey::from_secret(secret),
            validation: Validation::new(Algorithm::HS256),
        }
    }

    /// The handshake's callback; it leaves the connection's role in `role`.
    pub fn callback<'a>(&'a self, role: &'a mut Option<Role>) -> impl Callback + Unpin + 'a {
        Verdict { gate: self, role }
    }

    fn judge(&self, request: &Request) -> Result<Role, StatusCode> {
        let role = match request.uri().path() {
            "/v1/ws" => Role::Subscriber,
            "/v1/publish" => Role::Publisher,
            _ => return Err(StatusCode::NOT_FOUND),
        };
        let token = request
            .headers()
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

impl Callback for Verdict<'_> {
    fn on_request(self, request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        match self.gate.judge(request) {
            Ok(role) => {
                *self.role = Some(role);
                Ok(response)
            }
            Err(status) => {
                let mut refusal = ErrorResponse::new(None);
                *refusal.status_mut() = status;
                Err(refusal)
            }
        }
    }
}
