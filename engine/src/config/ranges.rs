//! Ranges and relations: what is wrong with settings, and how it is said.

use std::{
    fmt::{self, Display},
    ops::RangeInclusive,
};

use super::TokenRules;

const DAY_S: u64 = 24 * 60 * 60;
const DAY_MS: u64 = 1000 * DAY_S;

/// Everything that is wrong with a set of settings, at least one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invalid {
    /// Values by themselves.
    pub out_of_range: Vec<OutOfRange>,
    /// Values beside each other.
    pub conflicts: Vec<Conflict>,
}

/// A value outside the range of its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {value}, allowed is {allowed}")]
pub struct OutOfRange {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What it may be.
    pub allowed: String,
}

/// Two keys that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` and `{other}` do not go together: {why}")]
pub struct Conflict {
    /// The key to change first.
    pub key: &'static str,
    /// What it is at odds with.
    pub other: &'static str,
    /// What must hold, and why.
    pub why: &'static str,
}

impl Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.out_of_range.iter().map(ToString::to_string);
        let conflicts = self.conflicts.iter().map(ToString::to_string);
        f.write_str(&ranges.chain(conflicts).collect::<Vec<_>>().join("; "))
    }
}

impl std::error::Error for Invalid {}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub struct Check(Invalid);

impl Check {
    /// Refuses a number outside `allowed`.
    pub fn range(
        &mut self,
        key: &'static str,
        value: impl TryInto<u64> + Display + Copy,
        allowed: RangeInclusive<u64>,
    ) {
        if !value.try_into().is_ok_and(|value| allowed.contains(&value)) {
            self.refuse(key, value, format!("{}–{}", allowed.start(), allowed.end()));
        }
    }

    /// Refuses what is no power of two, or outside `allowed`.
    pub fn power_of_two(&mut self, key: &'static str, value: usize, allowed: RangeInclusive<u64>) {
        if !value.is_power_of_two() || !allowed.contains(&(value as u64)) {
            self.refuse(
                key,
                value,
                format!("a power of two, {}–{}", allowed.start(), allowed.end()),
            );
        }
    }

    /// Refuses a value; `allowed` says what it may be.
    pub fn refuse(&mut self, key: &'static str, value: impl Display, allowed: String) {
        self.0.out_of_range.push(OutOfRange {
            key,
            value: value.to_string(),
            allowed,
        });
    }

    /// Refuses two keys beside each other, unless it `holds`.
    pub fn holds(
        &mut self,
        holds: bool,
        key: &'static str,
        other: &'static str,
        why: &'static str,
    ) {
        if !holds {
            self.0.conflicts.push(Conflict { key, other, why });
        }
    }

    /// Checks a `tracing` filter.
    pub fn log_level(&mut self, level: &str) {
        if level.parse::<tracing_subscriber::EnvFilter>().is_err() {
            self.refuse(
                "log_level",
                level,
                "a level or filter such as info or tickwire_engine=debug".into(),
            );
        }
    }

    /// Checks how tokens are verified.
    pub fn token_rules(&mut self, rules: &TokenRules, jwt_reload_ms: u64) {
        for (key, text) in [
            ("jwt_issuer", &rules.issuer),
            ("jwt_audience", &rules.audience),
        ] {
            if text.as_deref() == Some("") {
                self.refuse(key, "empty", "a text, or no such key".into());
            }
        }
        self.range("jwt_reload_ms", jwt_reload_ms, 100..=DAY_MS);
        let TokenRules {
            hs256_file,
            pem_file,
            jwks_file,
            ..
        } = rules;
        for (key, other, both) in [
            (
                "jwt_pem_file",
                "jwt_hs256_file",
                pem_file.is_some() && hs256_file.is_some(),
            ),
            (
                "jwt_jwks_file",
                "jwt_hs256_file",
                jwks_file.is_some() && hs256_file.is_some(),
            ),
            (
                "jwt_jwks_file",
                "jwt_pem_file",
                jwks_file.is_some() && pem_file.is_some(),
            ),
        ] {
            self.holds(!both, key, other, "the algorithm is pinned by one key file");
        }
    }

    /// Checks how long a connection outlives its token, and how early its client is told.
    pub fn token_times(&mut self, token_grace_s: u64, token_expiring_s: u64) {
        self.range("token_grace_s", token_grace_s, 0..=DAY_S);
        self.range("token_expiring_s", token_expiring_s, 1..=DAY_S);
    }

    /// Checks the allowance of one IP.
    pub fn per_ip(&mut self, rate: u32, burst: u32, table_max: usize, connections_max: u32) {
        self.range("per_ip_rate", rate, 0..=1_000_000);
        self.range("per_ip_burst", burst, 1..=1_000_000);
        self.range("per_ip_table_max", table_max, 1..=1 << 24);
        self.range("per_ip_connections_max", connections_max, 0..=10_000_000);
    }

    /// What came of it.
    ///
    /// # Errors
    ///
    /// Everything that was refused.
    pub fn result(self) -> Result<(), Invalid> {
        if self.0.out_of_range.is_empty() && self.0.conflicts.is_empty() {
            Ok(())
        } else {
            Err(self.0)
        }
    }
}
