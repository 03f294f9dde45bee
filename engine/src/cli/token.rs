//! `tickwire token`: claims, signed with HS256.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tickwire_engine::door::read_hs256_secret;
use tickwire_proto::{
    claims::{Audience, Claims},
    pattern::Selector,
};

use super::{UsageError, say};

/// Flags of `tickwire token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the HS256 secret (trailing newline ignored), at least 32 bytes.
    #[arg(long, value_name = "FILE")]
    jwt_hs256_file: PathBuf,
    /// Who: the claim `sub`.
    #[arg(long)]
    sub: String,
    /// How long the token is valid, such as `1h` or `30days`.
    #[arg(long, value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Symbols and patterns that may be subscribed to, with commas [default: no such claim].
    #[arg(long, value_delimiter = ',', value_parser = Selector::parse)]
    symbols: Option<Vec<Selector>>,
    /// Symbols and patterns that may be published, with commas [default: none].
    #[arg(long, value_delimiter = ',', value_parser = Selector::parse)]
    publish: Option<Vec<Selector>>,
    /// The claim `aud`.
    #[arg(long)]
    aud: Option<String>,
    /// The claim `iss`.
    #[arg(long)]
    iss: Option<String>,
    /// Connections of this `sub` at once.
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
    /// Symbols and patterns per connection.
    #[arg(long, value_name = "N")]
    max_symbols: Option<u32>,
    /// Operations per second.
    #[arg(long, value_name = "N")]
    ops_per_s: Option<u32>,
    /// Names the key in the header.
    #[arg(long)]
    kid: Option<String>,
}

/// Prints the token.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let secret = read_hs256_secret(&args.jwt_hs256_file)?;
    if args.ttl < Duration::from_secs(1) {
        return Err(UsageError("--ttl must be at least 1s".to_owned()).into());
    }
    say(sign(&claims(args), &secret, args.kid.clone())?)
}

fn claims(args: &Args) -> Claims {
    let texts = |selectors: &Vec<Selector>| selectors.iter().map(ToString::to_string).collect();
    Claims {
        sub: args.sub.clone(),
        exp: now_s().saturating_add(args.ttl.as_secs()),
        nbf: None,
        iss: args.iss.clone(),
        aud: args.aud.clone().map(Audience::One),
        symbols: args.symbols.as_ref().map(texts),
        publish: args.publish.as_ref().map(texts),
        max_connections: args.max_connections,
        max_symbols: args.max_symbols,
        ops_per_s: args.ops_per_s,
    }
}

/// Signs with HS256.
fn sign(claims: &Claims, secret: &[u8], kid: Option<String>) -> anyhow::Result<String> {
    let header = Header {
        kid,
        ..Header::new(Algorithm::HS256)
    };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret))
        .context("cannot sign the token")
}

/// Seconds since 1970 UTC.
pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(rest: &str) -> Args {
        let line = format!("token --jwt-hs256-file f --sub me --ttl 1h {rest}");
        Line::try_parse_from(line.split_whitespace()).unwrap().args
    }

    #[test]
    fn a_token_verifies_with_its_secret_and_carries_the_claims() {
        let args = args("--symbols A,BTC-* --publish * --aud here --max-symbols 9 --kid k1");
        let token = sign(&claims(&args), SECRET, args.kid.clone()).unwrap();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&["here"]);
        let decoded =
            jsonwebtoken::decode::<Claims>(&token, &DecodingKey::from_secret(SECRET), &validation)
                .unwrap();
        assert_eq!(decoded.header.kid.as_deref(), Some("k1"));
        assert_eq!(decoded.claims.sub, "me");
        assert_eq!(decoded.claims.symbols.unwrap(), ["A", "BTC-*"]);
        assert_eq!(decoded.claims.publish.unwrap(), ["*"]);
        assert_eq!(decoded.claims.max_symbols, Some(9));
        assert!((3_590..=3_610).contains(&(decoded.claims.exp - now_s())));
        let wrong = DecodingKey::from_secret(b"another secret");
        assert!(jsonwebtoken::decode::<Claims>(&token, &wrong, &validation).is_err());
    }

    #[test]
    fn claims_not_asked_for_are_absent() {
        let text = serde_json::to_string(&claims(&args(""))).unwrap();
        assert!(
            text.starts_with(r#"{"sub":"me","exp":"#) && !text.contains("symbols"),
            "{text}"
        );
    }
}
