//! One token verification, as the door does it, beside the library's own `decode`.

use std::{hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use tickwire_benches::short;
use tickwire_engine::{config::TokenRules, door::Verifier};
use tickwire_proto::claims::Claims;

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";
const P256_PRIVATE: &[u8] = include_bytes!("../../engine/tests/keys/p256.private.pem");
const P256_PUBLIC: &[u8] = include_bytes!("../../engine/tests/keys/p256.public.pem");
const RSA_PRIVATE: &[u8] = include_bytes!("../../engine/tests/keys/rsa.private.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../../engine/tests/keys/rsa.public.pem");
const ED25519_PRIVATE: &[u8] = include_bytes!("../../engine/tests/keys/ed25519.private.pem");
const ED25519_PUBLIC: &[u8] = include_bytes!("../../engine/tests/keys/ed25519.public.pem");

/// An `exp` in the year 2100: `decode` reads the system's clock.
const EXP_S: u64 = 4_102_444_800;
const NOW_S: u64 = 1_763_776_800;

/// One algorithm: how it is called, who signs, who verifies on either side.
struct Case {
    name: &'static str,
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    verifier: Verifier,
}

fn from_pem(file: &str) -> Verifier {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../engine/tests/keys")
        .join(file);
    let config = TokenRules {
        pem_file: Some(path),
        ..TokenRules::default()
    };
    Verifier::new(&config).expect("the key is in the repository")
}

fn cases() -> [Case; 4] {
    let readable = "the key is in the repository";
    [
        Case {
            name: "hs256",
            algorithm: Algorithm::HS256,
            signing: EncodingKey::from_secret(SECRET),
            verifying: DecodingKey::from_secret(SECRET),
            verifier: Verifier::from_hs256_secret(SECRET, &TokenRules::default())
                .expect("it is long enough"),
        },
        Case {
            name: "es256",
            algorithm: Algorithm::ES256,
            signing: EncodingKey::from_ec_pem(P256_PRIVATE).expect(readable),
            verifying: DecodingKey::from_ec_pem(P256_PUBLIC).expect(readable),
            verifier: from_pem("p256.public.pem"),
        },
        Case {
            name: "eddsa",
            algorithm: Algorithm::EdDSA,
            signing: EncodingKey::from_ed_pem(ED25519_PRIVATE).expect(readable),
            verifying: DecodingKey::from_ed_pem(ED25519_PUBLIC).expect(readable),
            verifier: from_pem("ed25519.public.pem"),
        },
        Case {
            name: "rs256",
            algorithm: Algorithm::RS256,
            signing: EncodingKey::from_rsa_pem(RSA_PRIVATE).expect(readable),
            verifying: DecodingKey::from_rsa_pem(RSA_PUBLIC).expect(readable),
            verifier: from_pem("rsa.public.pem"),
        },
    ]
}

fn verification(criterion: &mut Criterion) {
    let claims = Claims {
        sub: "alice".to_owned(),
        exp: EXP_S,
        symbols: Some(vec!["AAPL".to_owned(), "BTC-*".to_owned()]),
        ..Claims::default()
    };
    let mut group = criterion.benchmark_group("jwt");
    group.throughput(Throughput::Elements(1));
    for case in cases() {
        let token = encode(&Header::new(case.algorithm), &claims, &case.signing)
            .expect("the key fits the algorithm");
        group.bench_function(format!("{}/tickwire", case.name), |bencher| {
            bencher.iter(|| {
                case.verifier
                    .verify(black_box(&token), NOW_S)
                    .expect("it is valid")
            });
        });
        let validation = Validation::new(case.algorithm);
        group.bench_function(format!("{}/jsonwebtoken", case.name), |bencher| {
            bencher.iter(|| {
                decode::<Claims>(black_box(&token), &case.verifying, &validation)
                    .expect("it is valid")
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = short();
    targets = verification
}
criterion_main!(benches);
