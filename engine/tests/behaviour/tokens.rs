//! Tokens: which are taken, when they end, and how they are renewed in-band.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use tickwire_engine::{Engine, door::auth::sign_hs256};
use tickwire_proto::claims::{Audience, Claims};

use crate::{
    harness::{Client, TestEngine, eventually, now_s, trade},
    wire::{Wire, upgrade_head},
};

const BOTH: [&str; 2] = ["/v1/ws", "/v1/publish"];

/// The status and the code that an upgrade with `token` gets; 101 without a code.
fn verdict(engine: &TestEngine, token: &str) -> (u16, Option<String>) {
    let head = upgrade_head("/v1/ws", &format!("Authorization: Bearer {token}\r\n"));
    let mut wire = Wire::send_first(engine.engine.listen_addr(), head.as_bytes());
    let answer = wire.answer();
    assert!(!answer.contains(token), "a token is never echoed");
    let status = answer.split(' ').nth(1).expect("a status");
    let status = status.parse().expect("a number");
    if status == 101 {
        return (101, None);
    }
    let body = wire.body();
    assert!(!body.contains(token), "a token is never echoed");
    let body: Value = serde_json::from_str(&body).expect("a JSON body");
    (status, body["code"].as_str().map(str::to_owned))
}

fn part(value: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn bad_tokens_are_401_and_reach_nobody() {
    let engine = TestEngine::start();
    let good = engine.token();
    let (head_and_claims, signature) = good.rsplit_once('.').expect("three parts");
    let (_, claims) = head_and_claims.split_once('.').expect("three parts");
    let none = part(&json!({"alg": "none", "typ": "JWT"}));
    let named = |alg: &str| part(&json!({"alg": alg, "typ": "JWT"}));
    let critical = part(&json!({"alg": "HS256", "crit": ["exp"], "exp": 1}));
    let claims_of = |change: fn(&mut Claims)| engine.token_with(change);
    let foreign = Claims {
        sub: "alice".to_owned(),
        exp: now_s() + 60,
        ..Claims::default()
    };
    for (what, token) in [
        ("alg none", format!("{none}.{claims}.")),
        ("alg none, signed", format!("{none}.{claims}.{signature}")),
        (
            "another algorithm",
            format!("{}.{claims}.{signature}", named("HS512")),
        ),
        (
            "a public key's algorithm",
            format!("{}.{claims}.{signature}", named("RS256")),
        ),
        ("an extension", format!("{critical}.{claims}.{signature}")),
        (
            "a wrong key",
            sign_hs256(b"another secret of thirty-two bytes", &foreign),
        ),
        ("a cut signature", good[..good.len() - 2].to_owned()),
        ("expired", claims_of(|claims| claims.exp = now_s() - 1)),
        (
            "not yet valid",
            claims_of(|claims| claims.nbf = Some(now_s() + 60)),
        ),
        ("nobody", claims_of(|claims| claims.sub = String::new())),
        (
            "far beyond any date",
            claims_of(|claims| claims.exp = u64::MAX),
        ),
        (
            "huge",
            claims_of(|claims| claims.symbols = Some(vec!["x".repeat(32); 120])),
        ),
        ("garbage", "not-a-token".to_owned()),
        ("dots", "..".to_owned()),
    ] {
        let bad_token = (401, Some("bad_token".to_owned()));
        assert_eq!(verdict(&engine, &token), bad_token, "{what}");
    }
    assert_eq!(verdict(&engine, &good), (101, None));
    let refused = engine.metric("tickwire_handshakes_total", "outcome=\"bad_token\"");
    assert!(refused >= 14.0, "{refused}");
}

#[test]
fn issuer_and_audience_are_checked_where_configured() {
    let engine = TestEngine::with(|config| {
        config.jwt_issuer = Some("bank".to_owned());
        config.jwt_audience = Some("ticks".to_owned());
    });
    let status = |iss: Option<&str>, aud: Option<Audience>| {
        let token = engine.token_with(|claims| {
            claims.iss = iss.map(str::to_owned);
            claims.aud = aud;
        });
        verdict(&engine, &token).0
    };
    let one = |aud: &str| Some(Audience::One(aud.to_owned()));
    assert_eq!(status(Some("bank"), one("ticks")), 101);
    let many = Audience::Many(vec!["news".to_owned(), "ticks".to_owned()]);
    assert_eq!(status(Some("bank"), Some(many)), 101);
    assert_eq!(status(Some("bank"), one("news")), 401);
    assert_eq!(status(Some("bank"), None), 401);
    assert_eq!(status(Some("thief"), one("ticks")), 401);
    assert_eq!(status(None, one("ticks")), 401);
}

// --- expiry and renewal ---

/// Milliseconds since 1970 UTC.
fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}

fn answers_a_ping(client: &mut Client) {
    client.send(&json!({"op": "ping", "id": 5}));
    assert_eq!(client.next_event()["type"], "pong");
}

fn authenticate(client: &mut Client, token: &str) -> Value {
    client.send(&json!({"op": "auth", "id": 3, "token": token}));
    loop {
        let reply = client.next_event();
        if reply["id"] == 3 {
            return reply;
        }
    }
}

#[test]
fn a_token_is_announced_to_expire_and_closes_with_4401_after_its_grace() {
    let engine = TestEngine::with(|config| config.token_grace_s = 1);
    let exp = now_s() + 2;
    let token = engine.token_with(|claims| claims.exp = exp);
    for mut client in BOTH.map(|path| engine.connect(path, &token, None)) {
        let warning = client.next();
        assert_eq!(warning["type"], "token_expiring");
        let in_s = warning["in_s"].as_u64();
        assert!(in_s.is_some_and(|in_s| in_s <= 2), "{warning}");
        let (code, rest) = client.read_to_close();
        let late_ms = now_ms() as i128 - i128::from(exp + 1) * 1_000;
        assert_eq!((code, rest), (4401, vec![]));
        assert!(
            (-5..900).contains(&late_ms),
            "{late_ms} ms after exp and grace"
        );
    }
}

#[test]
fn the_announcement_comes_token_expiring_s_before_exp() {
    let engine = TestEngine::with(|config| config.token_expiring_s = 2);
    let exp = now_s() + 3;
    let token = engine.token_with(|claims| claims.exp = exp);
    for mut client in BOTH.map(|path| engine.connect(path, &token, None)) {
        assert_eq!(client.next()["type"], "token_expiring");
        let early_ms = i128::from(exp) * 1_000 - now_ms() as i128;
        assert!(
            (1_000..=2_005).contains(&early_ms),
            "{early_ms} ms before exp"
        );
    }
}

#[test]
fn a_fresh_token_of_the_same_sub_keeps_the_connection() {
    let engine = TestEngine::with(|config| config.token_grace_s = 0);
    let exp = now_s() + 2;
    let short = engine.token_with(|claims| claims.exp = exp);
    let later = now_s() + 3_600;
    let long = engine.token_with(|claims| claims.exp = later);
    let mut clients = BOTH.map(|path| engine.connect(path, &short, None));
    for client in &mut clients {
        let ack = authenticate(client, &long);
        assert_eq!(
            (&ack["type"], &ack["op"]),
            (&json!("ack"), &json!("auth")),
            "{ack}"
        );
        assert_eq!(ack["token_exp"], later);
        assert_eq!((&ack["lost"], &ack["narrowed"]), (&json!([]), &json!({})));
    }
    let past_exp = (u128::from(exp) * 1_000 + 100).saturating_sub(now_ms());
    std::thread::sleep(Duration::from_millis(past_exp as u64));
    clients.iter_mut().for_each(answers_a_ping);
}

#[test]
fn a_failed_auth_leaves_the_old_token_in_force() {
    let engine = TestEngine::with(|config| config.token_grace_s = 0);
    let exp = now_s() + 2;
    let old = engine.token_with(|claims| claims.exp = exp);
    let mut clients = BOTH.map(|path| engine.connect(path, &old, None));
    let bob = engine.token_with(|claims| claims.sub = "bob".to_owned());
    let expired = engine.token_with(|claims| claims.exp = now_s() - 1);
    for client in &mut clients {
        for token in [bob.as_str(), expired.as_str(), "garbage", ""] {
            let error = authenticate(client, token);
            assert_eq!(
                (&error["type"], &error["code"]),
                (&json!("error"), &json!("bad_token"))
            );
        }
        answers_a_ping(client);
    }
    for client in &mut clients {
        assert_eq!(
            client.read_to_close().0,
            4401,
            "the old token's time still counts"
        );
        assert!(now_ms() + 5 >= u128::from(exp) * 1_000);
    }
}

#[test]
fn a_fresh_token_changes_what_may_be_published() {
    let engine = TestEngine::start();
    let claim =
        |symbol: &str| engine.token_with(|claims| claims.publish = Some(vec![symbol.to_owned()]));
    let mut publisher = engine.connect("/v1/publish", &claim("AAPL"), None);
    let both = json!([trade("AAPL", "1"), trade("MSFT", "1")]);
    publisher.send(&both);
    let refused = |publisher: &mut Client| {
        let error = publisher.next_of("error");
        assert_eq!(error["code"], "not_entitled");
        error["symbol"].clone()
    };
    assert_eq!(refused(&mut publisher), "MSFT");
    authenticate(&mut publisher, &claim("MSFT"));
    publisher.send(&both);
    assert_eq!(refused(&mut publisher), "AAPL");
    let none = engine.token_with(|claims| claims.publish = None);
    authenticate(&mut publisher, &none);
    publisher.send(&both);
    refused(&mut publisher);
    refused(&mut publisher);
    assert_eq!(publisher.flush()["accepted"], 2);
}

// --- key files ---

fn key_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/keys")
        .join(name)
}

fn signer(name: &str) -> EncodingKey {
    let pem = fs::read(key_file(&format!("{name}.private.pem"))).expect("a key file");
    match name {
        "ed25519" => EncodingKey::from_ed_pem(&pem),
        _ => EncodingKey::from_ec_pem(&pem),
    }
    .expect("a key")
}

fn signed(name: &str, algorithm: Algorithm) -> String {
    let claims = Claims {
        sub: "alice".to_owned(),
        exp: now_s() + 3_600,
        ..Claims::default()
    };
    let mut header = Header::new(algorithm);
    header.kid = Some(name.to_owned());
    jsonwebtoken::encode(&header, &claims, &signer(name)).expect("a token")
}

fn jwks(name: &str, algorithm: Algorithm) -> String {
    let mut jwk = Jwk::from_encoding_key(&signer(name), algorithm).expect("a key");
    jwk.common.key_id = Some(name.to_owned());
    json!({ "keys": [jwk] }).to_string()
}

/// Replaces a file as operators do: another one takes its name.
fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, content).expect("a file");
    fs::rename(&fresh, path).expect("a file");
}

#[test]
fn key_files_are_read_again_when_they_change_and_open_connections_stay() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pem, set) = (
        directory.path().join("key.pem"),
        directory.path().join("jwks.json"),
    );
    let public = |name: &str| fs::read(key_file(&format!("{name}.public.pem"))).expect("a file");
    fs::write(&pem, public("ed25519")).expect("a file");
    fs::write(&set, jwks("ed25519", Algorithm::EdDSA)).expect("a file");
    let mut config = TestEngine::settings();
    config.jwt_reload_ms = 100;
    config.jwt_pem_file = Some(pem.clone());
    config.jwt_jwks_file = Some(set.clone());
    let engine = TestEngine {
        engine: Engine::start(config).expect("the engine starts"),
    };
    let old = signed("ed25519", Algorithm::EdDSA);
    let new = signed("p256", Algorithm::ES256);
    let mut client = engine.connect("/v1/ws", &old, None);
    assert_eq!(verdict(&engine, &new).0, 401);

    replace(&set, jwks("p256", Algorithm::ES256));
    eventually("the new set is in force", || {
        verdict(&engine, &new).0 == 101
    });
    assert_eq!(
        verdict(&engine, &old).0,
        101,
        "the PEM file still has the old key"
    );

    replace(&pem, b"no key at all");
    // The broken file is noticed within a few looks, and must not take the good keys away.
    let until = Instant::now() + Duration::from_millis(400);
    while Instant::now() < until {
        assert_eq!(verdict(&engine, &old).0, 101);
        assert_eq!(verdict(&engine, &new).0, 101);
        std::thread::sleep(Duration::from_millis(20));
    }

    replace(&pem, public("p256"));
    eventually("the old key is gone", || verdict(&engine, &old).0 == 401);
    answers_a_ping(&mut client);
    assert_eq!(authenticate(&mut client, &old)["code"], "bad_token");
    assert_eq!(authenticate(&mut client, &new)["op"], "auth");
}
