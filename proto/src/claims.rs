//! Token claims and what follows from them (RFC 7519).

use serde::{Deserialize, Serialize};

use crate::{
    pattern::{Pattern, Selector},
    symbol::Symbol,
};

/// The payload of a token, as the protocol defines it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who; required.
    pub sub: String,
    /// Expiry, seconds since 1970 UTC; required.
    pub exp: u64,
    /// Not valid before, seconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Issuer; checked when configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Audience, one or several; checked when configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// Symbols and patterns that may be subscribed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<Vec<String>>,
    /// Symbols and patterns that may be published; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<String>>,
    /// Connections of this `sub` at once; the oldest gives way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Overrides the bound of symbols and patterns per connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_symbols: Option<u32>,
    /// Overrides the rate of operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops_per_s: Option<u32>,
}

/// `aud`: a text or a list of texts (RFC 7519 § 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One audience.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// What a verified token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub sub: String,
    /// Expiry, seconds since 1970 UTC.
    pub exp: u64,
    /// What may be subscribed to.
    pub symbols: Entitlement,
    /// What may be published; `None`: the token may not publish at all.
    pub publish: Option<Entitlement>,
    /// Connections of this `sub` at once.
    pub max_connections: Option<u32>,
    /// Symbols and patterns per connection.
    pub max_symbols: Option<u32>,
    /// Operations per second.
    pub ops_per_s: Option<u32>,
}

/// A set of symbols, as selectors none of which covers another.
// `None` is everything: most tokens say that, and need no memory for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement(Option<Box<[Selector]>>);

const EVERYTHING: [Selector; 1] = [Selector::Pattern(Pattern::ALL)];

/// How much of a selector an entitlement allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// All of it.
    Whole,
    /// Only these parts.
    Narrowed(Vec<Selector>),
    /// Nothing.
    Nothing,
}

impl Grant {
    /// Draws the conclusions from verified claims.
    ///
    /// Without a `symbols` claim everything may be subscribed to, or nothing where
    /// `require_entitlements` is set. Entries that are no selectors allow nothing.
    pub fn from_claims(claims: Claims, require_entitlements: bool) -> Self {
        let symbols = match claims.symbols {
            Some(texts) => Entitlement::from_texts(&texts),
            None if require_entitlements => Entitlement::default(),
            None => Entitlement::all(),
        };
        Self {
            sub: claims.sub,
            exp: claims.exp,
            symbols,
            publish: claims.publish.map(|texts| Entitlement::from_texts(&texts)),
            max_connections: claims.max_connections,
            max_symbols: claims.max_symbols,
            ops_per_s: claims.ops_per_s,
        }
    }
}

impl Default for Entitlement {
    /// Nothing.
    fn default() -> Self {
        Self(Some(Box::default()))
    }
}

impl Entitlement {
    /// Everything.
    pub const fn all() -> Self {
        Self(None)
    }

    /// The union of `selectors`.
    pub fn new(selectors: impl IntoIterator<Item = Selector>) -> Self {
        let mut kept: Vec<Selector> = Vec::new();
        for selector in selectors {
            if !kept.iter().any(|other| other.covers(&selector)) {
                kept.retain(|other| !selector.covers(other));
                kept.push(selector);
            }
        }
        if kept == EVERYTHING {
            return Self::all();
        }
        Self(Some(kept.into()))
    }

    fn selectors(&self) -> &[Selector] {
        self.0.as_deref().unwrap_or(&EVERYTHING)
    }

    fn from_texts(texts: &[String]) -> Self {
        Self::new(texts.iter().filter_map(|text| Selector::parse(text).ok()))
    }

    /// Whether it allows nothing.
    pub fn is_empty(&self) -> bool {
        self.selectors().is_empty()
    }

    /// Whether `symbol` is in the set.
    pub fn allows(&self, symbol: &Symbol) -> bool {
        self.selectors()
            .iter()
            .any(|selector| selector.matches(symbol))
    }

    /// The intersection with `selector`.
    pub fn intersect(&self, selector: &Selector) -> Allowed {
        if self.selectors().iter().any(|own| own.covers(selector)) {
            return Allowed::Whole;
        }
        let parts: Vec<Selector> = self
            .selectors()
            .iter()
            .filter(|own| selector.covers(own))
            .copied()
            .collect();
        if parts.is_empty() {
            Allowed::Nothing
        } else {
            Allowed::Narrowed(parts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entitlement(texts: &[&str]) -> Entitlement {
        Entitlement::new(texts.iter().map(|text| Selector::parse(text).unwrap()))
    }

    #[test]
    fn a_wider_pattern_is_narrowed_to_the_intersection() {
        let own = entitlement(&["AAPL", "BTC-*", "BTC-USDT"]);
        let all = Selector::parse("*").unwrap();
        let parts = ["AAPL", "BTC-*"].map(|text| Selector::parse(text).unwrap());
        assert_eq!(own.intersect(&all), Allowed::Narrowed(parts.to_vec()));
        assert_eq!(
            own.intersect(&Selector::parse("BTC-E*").unwrap()),
            Allowed::Whole
        );
        assert_eq!(
            own.intersect(&Selector::parse("MSFT").unwrap()),
            Allowed::Nothing
        );
    }

    #[test]
    fn no_claim_means_all_unless_entitlements_are_required() {
        let symbol = Symbol::parse("AAPL").unwrap();
        assert!(
            Grant::from_claims(Claims::default(), false)
                .symbols
                .allows(&symbol)
        );
        assert!(
            !Grant::from_claims(Claims::default(), true)
                .symbols
                .allows(&symbol)
        );
        assert_eq!(Grant::from_claims(Claims::default(), false).publish, None);
    }
}
