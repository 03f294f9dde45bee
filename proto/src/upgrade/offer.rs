//! `Sec-WebSocket-Protocol` and `Authorization`: what a client offers and who it says it is.

use std::fmt;

use super::{Subprotocol, UpgradeError};

const BEARER_PREFIX: &str = "tickwire.bearer.";

/// What `Sec-WebSocket-Protocol` says (RFC 6455 § 11.3.4, `proto/README.md` "Authentication").
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// The first known entry, or the default where there was no header.
    pub subprotocol: Subprotocol,
    /// A header was sent, so the answer must name the pick.
    pub named: bool,
    /// The JWT of a `tickwire.bearer.<jwt>` entry; browsers cannot send `Authorization`.
    pub bearer: Option<String>,
}

impl Offer {
    /// Reads the values of every `Sec-WebSocket-Protocol` header, each a list with commas.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`] for an offer without a known `tickwire.v1.*`, and for a second or an empty
    /// `tickwire.bearer.`.
    pub fn parse<'a>(
        header_values: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, UpgradeError> {
        let mut offer = Self::default();
        let mut picked = None;
        for value in header_values {
            offer.named = true;
            for entry in value.split(',').map(str::trim) {
                match entry.strip_prefix(BEARER_PREFIX) {
                    Some(jwt) => offer.take_bearer(jwt)?,
                    None => picked = picked.or_else(|| Subprotocol::from_wire(entry)),
                }
            }
        }
        if offer.named {
            offer.subprotocol = picked.ok_or_else(|| {
                UpgradeError::bad_request(
                    "Sec-WebSocket-Protocol must offer tickwire.v1.json or tickwire.v1.sbe",
                )
            })?;
        }
        Ok(offer)
    }

    fn take_bearer(&mut self, jwt: &str) -> Result<(), UpgradeError> {
        if jwt.is_empty() {
            return Err(UpgradeError::bad_request(
                "tickwire.bearer. must be followed by a token",
            ));
        }
        if self.bearer.replace(jwt.to_owned()).is_some() {
            return Err(UpgradeError::bad_request(
                "Sec-WebSocket-Protocol holds two tickwire.bearer entries",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token in a log is a token in someone else's hands.
        f.debug_struct("Offer")
            .field("subprotocol", &self.subprotocol)
            .field("named", &self.named)
            .field("bearer", &self.bearer.as_ref().map(|_| "…"))
            .finish()
    }
}

/// The token of an `Authorization` header with the `Bearer` scheme (RFC 6750 § 2.1; the scheme's
/// case does not matter, RFC 9110 § 11.1). `None` for any other scheme or an empty token.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_means_json_and_no_answer() {
        let offer = Offer::parse([]).unwrap();
        assert_eq!(
            offer,
            Offer {
                subprotocol: Subprotocol::Json,
                named: false,
                bearer: None
            }
        );
    }

    #[test]
    fn the_first_known_subprotocol_wins_across_headers() {
        let offer =
            Offer::parse(["soap, tickwire.v2.json", "tickwire.v1.sbe,tickwire.v1.json"]).unwrap();
        assert_eq!(
            offer,
            Offer {
                subprotocol: Subprotocol::Sbe,
                named: true,
                bearer: None
            }
        );
    }

    #[test]
    fn the_bearer_is_taken_and_hidden() {
        let offer = Offer::parse(["tickwire.v1.json, tickwire.bearer.a.b-c_d.e"]).unwrap();
        assert_eq!(offer.bearer.as_deref(), Some("a.b-c_d.e"));
        assert!(!format!("{offer:?}").contains("a.b-c_d.e"));
    }

    #[test]
    fn an_offer_without_a_known_subprotocol_is_refused() {
        for value in [
            "",
            "soap",
            "tickwire.bearer.secret",
            "TICKWIRE.V1.JSON",
            "tickwire.v1.jsonx",
        ] {
            let error = Offer::parse([value]).unwrap_err();
            assert!(!error.message.contains("secret"), "{error}");
        }
    }

    #[test]
    fn two_bearers_and_an_empty_one_are_refused() {
        for value in [
            "tickwire.bearer.secret,tickwire.bearer.secret",
            "tickwire.bearer.",
        ] {
            let error = Offer::parse(["tickwire.v1.json", value]).unwrap_err();
            assert!(!error.message.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_bearer_scheme_ignores_case() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bEARER   abc "), Some("abc"));
        for other in ["Basic abc", "Bearer", "Bearer ", "Bearerabc", ""] {
            assert_eq!(bearer(other), None, "{other}");
        }
    }
}
