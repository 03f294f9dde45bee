use std::{fs, path::Path};

use jsonwebtoken::{EncodingKey, Header, jwk::Jwk};
use tickwire_proto::symbol::Symbol;

use super::*;

const NOW: u64 = 1_763_776_800;
const SECRET: &[u8] = b"a secret of more than thirty-two bytes";
const RSA: &[u8] = include_bytes!("../../../tests/keys/rsa.private.pem");
const P256: &[u8] = include_bytes!("../../../tests/keys/p256.private.pem");
const ED25519: &[u8] = include_bytes!("../../../tests/keys/ed25519.private.pem");

fn key_path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/keys")
        .join(name)
}

fn claims() -> Claims {
    Claims {
        sub: "alice".to_owned(),
        exp: NOW + 60,
        ..Claims::default()
    }
}

fn hs256(config: &TokenRules) -> Verifier {
    Verifier::from_hs256_secret(SECRET, config).unwrap()
}

fn refusal(config: &TokenRules, claims: &Claims) -> TokenError {
    hs256(config)
        .verify(&sign_hs256(SECRET, claims), NOW)
        .unwrap_err()
}

fn token(header: &str, payload: &str, signature: &str) -> String {
    format!(
        "{}.{}.{signature}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    )
}

/// The three asymmetric keys: signing key, algorithm, name.
fn signers() -> [(EncodingKey, Algorithm, &'static str); 3] {
    [
        (
            EncodingKey::from_rsa_pem(RSA).unwrap(),
            Algorithm::RS256,
            "rsa",
        ),
        (
            EncodingKey::from_ec_pem(P256).unwrap(),
            Algorithm::ES256,
            "p256",
        ),
        (
            EncodingKey::from_ed_pem(ED25519).unwrap(),
            Algorithm::EdDSA,
            "ed25519",
        ),
    ]
}

fn signed(key: &EncodingKey, algorithm: Algorithm, kid: Option<&str>) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, &claims(), key).unwrap()
}

fn jwks<'a>(keys: impl IntoIterator<Item = &'a (EncodingKey, Algorithm, &'static str)>) -> String {
    let keys: Vec<Jwk> = keys
        .into_iter()
        .map(|(key, algorithm, name)| {
            let mut jwk = Jwk::from_encoding_key(key, *algorithm).unwrap();
            jwk.common.key_id = Some((*name).to_owned());
            jwk
        })
        .collect();
    serde_json::json!({ "keys": keys }).to_string()
}

fn with_jwks(directory: &Path, text: &str) -> TokenRules {
    let path = directory.join("jwks.json");
    fs::write(&path, text).unwrap();
    TokenRules {
        jwks_file: Some(path),
        ..TokenRules::default()
    }
}

#[test]
fn a_good_token_gives_its_grant() {
    let claims = Claims {
        symbols: Some(vec!["BTC-*".to_owned()]),
        max_symbols: Some(7),
        ..claims()
    };
    let grant = hs256(&TokenRules::default())
        .verify(&sign_hs256(SECRET, &claims), NOW)
        .unwrap();
    assert_eq!(
        (grant.sub.as_str(), grant.exp, grant.max_symbols),
        ("alice", NOW + 60, Some(7))
    );
    assert!(grant.symbols.allows(&Symbol::parse("BTC-USDT").unwrap()));
    assert!(!grant.symbols.allows(&Symbol::parse("AAPL").unwrap()));
}

#[test]
fn a_token_is_valid_from_nbf_and_strictly_before_exp() {
    let claims = Claims {
        nbf: Some(NOW),
        ..claims()
    };
    let (verifier, token) = (hs256(&TokenRules::default()), sign_hs256(SECRET, &claims));
    assert_eq!(
        verifier.verify(&token, NOW - 1),
        Err(TokenError::NotYetValid)
    );
    assert!(verifier.verify(&token, NOW).is_ok());
    assert!(verifier.verify(&token, NOW + 59).is_ok());
    assert_eq!(verifier.verify(&token, NOW + 60), Err(TokenError::Expired));
}

#[test]
fn the_algorithm_none_and_those_without_a_key_are_refused() {
    let verifier = hs256(&TokenRules::default());
    let payload = serde_json::to_string(&claims()).unwrap();
    for alg in ["none", "None", "HS384", "RS256", "ES256", "XX", ""] {
        let token = token(&format!(r#"{{"alg":"{alg}"}}"#), &payload, "");
        assert_eq!(
            verifier.verify(&token, NOW),
            Err(TokenError::Algorithm),
            "{alg}"
        );
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    // The classic confusion: HS256 over the text of the RSA public key.
    let pem = key_path("rsa.public.pem");
    let forged = sign_hs256(&fs::read(&pem).unwrap(), &claims());
    let verifier = Verifier::new(&TokenRules {
        pem_file: Some(pem),
        ..TokenRules::default()
    })
    .unwrap();
    assert_eq!(verifier.verify(&forged, NOW), Err(TokenError::Algorithm));
}

#[test]
fn a_wrong_key_and_an_altered_token_are_refused() {
    let verifier = hs256(&TokenRules::default());
    let forged = sign_hs256(b"another secret of thirty-two bytes or more", &claims());
    assert_eq!(verifier.verify(&forged, NOW), Err(TokenError::Signature));
    let good = sign_hs256(SECRET, &claims());
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let payload = serde_json::to_string(&Claims {
        sub: "root".to_owned(),
        ..claims()
    })
    .unwrap();
    let altered = format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(payload));
    assert_eq!(verifier.verify(&altered, NOW), Err(TokenError::Signature));
    assert_eq!(
        verifier.verify(&good[..good.len() - 1], NOW),
        Err(TokenError::Signature)
    );
}

#[test]
fn garbage_is_malformed_and_what_is_huge_is_not_even_read() {
    let verifier = hs256(&TokenRules::default());
    let good = sign_hs256(SECRET, &claims());
    let five = format!("{good}.x.y");
    for garbage in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "{}",
        "é.é.é",
        five.as_str(),
    ] {
        assert_eq!(
            verifier.verify(garbage, NOW),
            Err(TokenError::Malformed),
            "{garbage}"
        );
    }
    assert_eq!(
        verifier.verify(&"a".repeat(TOKEN_BYTES_MAX + 1), NOW),
        Err(TokenError::TooLong)
    );
    let critical = token(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "{}", "");
    assert_eq!(verifier.verify(&critical, NOW), Err(TokenError::Critical));
}

#[test]
fn claims_must_be_there_and_in_range() {
    let config = TokenRules::default();
    for sub in [String::new(), "x".repeat(SUB_BYTES_MAX + 1)] {
        assert_eq!(
            refusal(&config, &Claims { sub, ..claims() }),
            TokenError::Claims
        );
    }
    assert_eq!(
        refusal(
            &config,
            &Claims {
                exp: u64::MAX,
                ..claims()
            }
        ),
        TokenError::Claims
    );
    let key = EncodingKey::from_secret(SECRET);
    for json in [
        r#"{"sub":"a"}"#,
        r#"{"exp":9999999999}"#,
        r#"{"sub":1,"exp":9999999999}"#,
        r#"{"sub":"a","exp":"9"}"#,
    ] {
        let payload: serde_json::Value = serde_json::from_str(json).unwrap();
        let token = jsonwebtoken::encode(&Header::default(), &payload, &key).unwrap();
        assert_eq!(
            hs256(&config).verify(&token, NOW),
            Err(TokenError::Claims),
            "{json}"
        );
    }
}

#[test]
fn issuer_and_audience_are_checked_where_configured() {
    let config = TokenRules {
        issuer: Some("https://id.example".to_owned()),
        audience: Some("tickwire".to_owned()),
        ..TokenRules::default()
    };
    let good = Claims {
        iss: Some("https://id.example".to_owned()),
        aud: Some(Audience::Many(vec![
            "other".to_owned(),
            "tickwire".to_owned(),
        ])),
        ..claims()
    };
    assert!(
        hs256(&config)
            .verify(&sign_hs256(SECRET, &good), NOW)
            .is_ok()
    );
    for iss in [None, Some("https://evil.example".to_owned())] {
        assert_eq!(
            refusal(
                &config,
                &Claims {
                    iss,
                    ..good.clone()
                }
            ),
            TokenError::Issuer
        );
    }
    for aud in [
        None,
        Some(Audience::One("other".to_owned())),
        Some(Audience::Many(Vec::new())),
    ] {
        assert_eq!(
            refusal(
                &config,
                &Claims {
                    aud,
                    ..good.clone()
                }
            ),
            TokenError::Audience
        );
    }
}

#[test]
fn a_pem_key_verifies_its_own_algorithm_only() {
    for (key, algorithm, name) in &signers() {
        let path = key_path(&format!("{name}.public.pem"));
        let verifier = Verifier::new(&TokenRules {
            pem_file: Some(path),
            ..TokenRules::default()
        })
        .unwrap();
        for (other, other_algorithm, _) in &signers() {
            let expected = if algorithm == other_algorithm {
                Ok(())
            } else {
                Err(TokenError::Algorithm)
            };
            let verdict = verifier.verify(&signed(other, *other_algorithm, None), NOW);
            assert_eq!(verdict.map(|_| ()), expected, "{name}");
        }
        // A kid means nothing to a single key.
        assert!(
            verifier
                .verify(&signed(key, *algorithm, Some("any")), NOW)
                .is_ok()
        );
        // RSA signs with PSS too; the key is pinned to RS256.
        if *algorithm == Algorithm::RS256 {
            let pss = signed(key, Algorithm::PS256, None);
            assert_eq!(verifier.verify(&pss, NOW), Err(TokenError::Algorithm));
        }
    }
}

#[test]
fn a_key_set_is_searched_by_kid() {
    let directory = tempfile::tempdir().unwrap();
    let signers = signers();
    let verifier = Verifier::new(&with_jwks(directory.path(), &jwks(&signers))).unwrap();
    for (key, algorithm, name) in &signers {
        assert!(
            verifier
                .verify(&signed(key, *algorithm, Some(name)), NOW)
                .is_ok(),
            "{name}"
        );
        for kid in [None, Some("unknown")] {
            let verdict = verifier.verify(&signed(key, *algorithm, kid), NOW);
            assert_eq!(verdict, Err(TokenError::UnknownKey), "{name}");
        }
    }
    let (key, algorithm, _) = &signers[0];
    let misnamed = signed(key, *algorithm, Some("p256"));
    assert_eq!(verifier.verify(&misnamed, NOW), Err(TokenError::UnknownKey));
}

#[test]
fn a_key_set_of_one_key_needs_no_kid() {
    let directory = tempfile::tempdir().unwrap();
    let signers = signers();
    let verifier = Verifier::new(&with_jwks(directory.path(), &jwks(&signers[1..2]))).unwrap();
    let (key, algorithm, _) = &signers[1];
    assert!(verifier.verify(&signed(key, *algorithm, None), NOW).is_ok());
}

#[test]
fn several_sources_stand_beside_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let secret_file = directory.path().join("secret");
    fs::write(&secret_file, [SECRET, b"\n"].concat()).unwrap();
    let signers = signers();
    let config = TokenRules {
        hs256_file: Some(secret_file),
        pem_file: Some(key_path("rsa.public.pem")),
        ..with_jwks(directory.path(), &jwks(&signers[1..]))
    };
    let verifier = Verifier::new(&config).unwrap();
    assert!(verifier.verify(&sign_hs256(SECRET, &claims()), NOW).is_ok());
    for (key, algorithm, name) in &signers {
        assert!(
            verifier
                .verify(&signed(key, *algorithm, Some(name)), NOW)
                .is_ok(),
            "{name}"
        );
    }
}

#[test]
fn a_changed_file_is_read_again_and_a_bad_one_keeps_the_old_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let write = |bytes: &[u8]| {
        // Replaced, as every tool that rotates secrets does: a new inode even within one tick of
        // the file system's clock.
        let fresh = directory.path().join("fresh");
        fs::write(&fresh, bytes).unwrap();
        fs::rename(&fresh, &path).unwrap();
    };
    let newer = b"a newer secret of thirty-two bytes or more";
    let (old_token, new_token) = (sign_hs256(SECRET, &claims()), sign_hs256(newer, &claims()));
    write(SECRET);
    let verifier = Verifier::new(&TokenRules {
        hs256_file: Some(path.clone()),
        ..TokenRules::default()
    })
    .unwrap();
    assert!(!verifier.reload_if_changed().unwrap());

    write(newer);
    assert!(verifier.reload_if_changed().unwrap());
    assert_eq!(verifier.verify(&old_token, NOW), Err(TokenError::Signature));
    assert!(verifier.verify(&new_token, NOW).is_ok());

    write(b"short");
    assert!(matches!(
        verifier.reload_if_changed(),
        Err(KeyError::Bad {
            key: "jwt_hs256_file",
            ..
        })
    ));
    assert!(
        !verifier.reload_if_changed().unwrap(),
        "a change is reported once"
    );
    assert!(verifier.verify(&new_token, NOW).is_ok());

    fs::remove_file(&path).unwrap();
    assert!(matches!(
        verifier.reload_if_changed(),
        Err(KeyError::Unreadable { .. })
    ));
    assert!(verifier.verify(&new_token, NOW).is_ok());
}

#[test]
fn without_any_key_the_error_names_the_three_settings() {
    let error = Verifier::new(&TokenRules::default())
        .err()
        .unwrap()
        .to_string();
    for key in ["jwt_hs256_file", "jwt_pem_file", "jwt_jwks_file"] {
        assert!(error.contains(key), "{error}");
    }
    let config = TokenRules {
        pem_file: Some("/nonexistent.pem".into()),
        ..TokenRules::default()
    };
    let error = Verifier::new(&config).err().unwrap().to_string();
    assert!(error.contains("jwt_pem_file = /nonexistent.pem"), "{error}");
}
