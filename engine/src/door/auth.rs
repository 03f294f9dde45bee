//! Who is it: verification of tokens (RFC 7519, with the advice of RFC 8725).

use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto};
use serde::Deserialize;
use tickwire_proto::claims::{Audience, Claims, Grant};

use super::keys::{KeyError, KeyFiles, KeySet};
use crate::config::TokenRules;

/// Longest token, bytes; a longer one is refused unread.
pub const TOKEN_BYTES_MAX: usize = 4_096;
/// Longest `sub`, bytes: it is kept for every connection.
pub const SUB_BYTES_MAX: usize = 256;
/// Latest `exp`, the end of the year 9999: so that adding a grace can never overflow.
const EXP_MAX: u64 = 253_402_300_799;

/// Why a token is refused; always the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Above [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not three parts of base64url, or a header that is no JSON.
    #[error("not a JWT")]
    Malformed,
    /// `crit` in the header: extensions that would have to be understood (RFC 7515 § 4.1.11).
    #[error("the token asks for an extension (crit) that is not supported")]
    Critical,
    /// `none`, or an algorithm without a configured key.
    #[error("the token's algorithm is not accepted here")]
    Algorithm,
    /// No key of this name, or no name where there are several.
    #[error("no key is known for the token's kid")]
    UnknownKey,
    /// Signed by someone else, or altered.
    #[error("the token's signature does not verify")]
    Signature,
    /// `sub` or `exp` is missing, or a claim is of the wrong type or out of its range.
    #[error("the token's claims are incomplete or of the wrong type")]
    Claims,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Not from the configured issuer.
    #[error("the token is from another issuer")]
    Issuer,
    /// Not for the configured audience.
    #[error("the token is for another audience")]
    Audience,
}

impl TokenError {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Critical => "critical",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
        }
    }
}

/// Verifies tokens; shared by all threads, its keys replaceable while it works.
pub struct Verifier {
    keys: ArcSwap<KeySet>,
    files: Mutex<KeyFiles>,
    issuer: Option<String>,
    audience: Option<String>,
    require_entitlements: bool,
}

/// What of a token's header decides anything; `jku`, `jwk` and their like are never followed.
#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

impl Verifier {
    /// Reads the configured key files.
    ///
    /// # Errors
    ///
    /// [`KeyError`] where no file is configured, or one is unreadable or bad.
    pub fn new(rules: &TokenRules) -> Result<Self, KeyError> {
        let mut files = KeyFiles::new(rules);
        // Looked at before they are read: a write in between is seen as a change later.
        files.changed();
        let keys = files.load()?;
        Ok(Self::with_keys(keys, files, rules))
    }

    /// One HS256 secret instead of the configured files.
    ///
    /// # Errors
    ///
    /// [`KeyError::Secret`] below 32 bytes.
    pub fn from_hs256_secret(secret: &[u8], rules: &TokenRules) -> Result<Self, KeyError> {
        let keys = KeySet::of_secret(secret).map_err(KeyError::Secret)?;
        Ok(Self::with_keys(keys, KeyFiles::none(), rules))
    }

    fn with_keys(keys: KeySet, files: KeyFiles, rules: &TokenRules) -> Self {
        Self {
            keys: ArcSwap::from_pointee(keys),
            files: Mutex::new(files),
            issuer: rules.issuer.clone(),
            audience: rules.audience.clone(),
            require_entitlements: rules.require_entitlements,
        }
    }

    /// Reads the files again if one changed since the last look; `true` if new keys are in force.
    ///
    /// # Errors
    ///
    /// [`KeyError`] once per change that makes a file unusable; the old keys stay in force.
    pub fn reload_if_changed(&self) -> Result<bool, KeyError> {
        // A panic elsewhere cannot leave the paths half written.
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.changed() {
            return Ok(false);
        }
        self.keys.store(files.load()?.into());
        Ok(true)
    }

    /// What `token` allows, at `now_s` (seconds since 1970 UTC).
    ///
    /// A token is valid from `nbf` on and strictly before `exp`, without leeway.
    ///
    /// # Errors
    ///
    /// [`TokenError`], the first check that failed: form, key, signature, claims, in this order.
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Grant, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header: TokenHeader =
            serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        let payload = decode(payload)?;
        self.check_signature(&header, message, signature)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Claims)?;
        self.check_claims(&claims, now_s)?;
        Ok(Grant::from_claims(claims, self.require_entitlements))
    }

    fn check_signature(
        &self,
        header: &TokenHeader,
        message: &str,
        signature: &str,
    ) -> Result<(), TokenError> {
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        // `none` is no algorithm of the library, so it ends here like any unknown one.
        let algorithm: Algorithm = header.alg.parse().map_err(|_| TokenError::Algorithm)?;
        let keys = self.keys.load();
        let mut refusal = if keys.serves(algorithm) {
            TokenError::UnknownKey
        } else {
            TokenError::Algorithm
        };
        // At most two: a pinned key and one of the key set.
        for key in keys.candidates(algorithm, header.kid.as_deref()) {
            match crypto::verify(signature, message.as_bytes(), &key.decoding, key.algorithm) {
                Ok(true) => return Ok(()),
                Ok(false) | Err(_) => refusal = TokenError::Signature,
            }
        }
        Err(refusal)
    }

    fn check_claims(&self, claims: &Claims, now_s: u64) -> Result<(), TokenError> {
        if claims.sub.is_empty() || claims.sub.len() > SUB_BYTES_MAX || claims.exp > EXP_MAX {
            return Err(TokenError::Claims);
        }
        if claims.exp <= now_s {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now_s) {
            return Err(TokenError::NotYetValid);
        }
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(TokenError::Issuer);
        }
        match &self.audience {
            Some(own) if !names(claims.aud.as_ref(), own) => Err(TokenError::Audience),
            _ => Ok(()),
        }
    }
}

fn names(audience: Option<&Audience>, own: &str) -> bool {
    match audience {
        Some(Audience::One(one)) => one == own,
        Some(Audience::Many(many)) => many.iter().any(|one| one == own),
        None => false,
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)
}

/// Signs `claims` with HS256, for the demo and tests; `tickwire token` can name the key, too.
///
/// # Panics
///
/// Never: HMAC takes secrets of any length, and claims are plain JSON.
pub fn sign_hs256(secret: &[u8], claims: &Claims) -> String {
    let header = Header::new(Algorithm::HS256);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret))
        .expect("HMAC takes any secret and claims are plain JSON")
}

#[cfg(test)]
mod tests;
