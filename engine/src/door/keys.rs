//! The keys that tokens are verified with, from the files that the configuration names.
//!
//! Every key comes with the one algorithm it may verify, so a token's header can only choose among
//! pairs that the operator configured (RFC 8725 § 3.1).

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, crypto,
    jwk::{AlgorithmParameters, Jwk},
};
use serde::Deserialize;

use crate::config::TokenRules;

/// Shortest HS256 secret, bytes: as long as the hash (RFC 7518 § 3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// RSA moduli, bits: RFC 7518 § 3.3 asks for 2048; above 4096 one verification costs milliseconds.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// Most keys of a JWKS file.
const JWKS_KEYS_MAX: usize = 64;
/// Largest key file, bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why the configured keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No key at all: nobody could ever connect.
    #[error(
        "no key to verify tokens with: set jwt_hs256_file, jwt_pem_file or jwt_jwks_file (or run `tickwire demo`)"
    )]
    NoneConfigured,
    /// A file that cannot be read.
    #[error("{key} = {path}: {source}", path = path.display())]
    Unreadable {
        /// The config key.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that was read and makes no sense.
    #[error("{key} = {path}: {fault}", path = path.display())]
    Bad {
        /// The config key.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A secret that was given directly.
    #[error("{0}")]
    Secret(Fault),
}

/// What is wrong with the content of a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An HS256 secret that could be guessed.
    #[error("the secret has {bytes} bytes, at least {SECRET_BYTES_MIN} are needed")]
    SecretTooShort {
        /// Its length.
        bytes: usize,
    },
    /// Not one public key in PEM.
    #[error("not a PEM file with one `PUBLIC KEY` (an RSA, EC P-256 or Ed25519 key)")]
    NotPublicPem,
    /// An RSA key of a size that is not served.
    #[error("an RSA key of {bits} bits, {}–{} are served", RSA_BITS.start(), RSA_BITS.end())]
    RsaSize {
        /// Its size.
        bits: usize,
    },
    /// Not a JWKS document.
    #[error("not a JWKS file: {0}")]
    NotJwks(String),
    /// One bad key in a JWKS file.
    #[error("key {index} of the set: {reason}")]
    Jwk {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A JWKS file without a key for signatures.
    #[error("the set holds no RSA, P-256 or Ed25519 key for signatures")]
    NoUsableKey,
    /// A JWKS file with too many keys.
    #[error("the set holds {keys} keys, at most {JWKS_KEYS_MAX} are read")]
    TooManyKeys {
        /// How many.
        keys: usize,
    },
}

/// One key, and the one algorithm that it verifies.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// All keys in force.
#[derive(Default)]
pub(super) struct KeySet {
    /// From the secret and the PEM file: at most two, whatever the token's `kid`.
    pinned: Vec<Key>,
    /// From the JWKS file, by `kid`.
    named: Vec<(Option<String>, Key)>,
}

impl KeySet {
    /// The keys that may have signed a token with this header.
    ///
    /// A token without `kid` gets a key of the JWKS file only where that holds exactly one.
    pub(super) fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        kid: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Key> {
        let only_one = self.named.len() == 1;
        let named = self.named.iter().filter(move |(own, _)| match kid {
            Some(kid) => own.as_deref() == Some(kid),
            None => only_one,
        });
        self.pinned
            .iter()
            .chain(named.map(|(_, key)| key))
            .filter(move |key| key.algorithm == algorithm)
    }

    /// Whether any key verifies `algorithm`.
    pub(super) fn serves(&self, algorithm: Algorithm) -> bool {
        let named = self.named.iter().map(|(_, key)| key);
        self.pinned
            .iter()
            .chain(named)
            .any(|key| key.algorithm == algorithm)
    }

    /// The set of one HS256 secret.
    pub(super) fn of_secret(secret: &[u8]) -> Result<Self, Fault> {
        Ok(Self {
            pinned: vec![hs256_key(long_enough(secret)?)],
            named: Vec::new(),
        })
    }
}

/// The files that the configuration names, and what they looked like when last read.
pub(super) struct KeyFiles {
    secret: Option<PathBuf>,
    pem: Option<PathBuf>,
    jwks: Option<PathBuf>,
    seen: [Option<Fingerprint>; 3],
}

/// What changes when a file is written or replaced, `ConfigMap` symlinks included.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl KeyFiles {
    /// The files of `rules`; none has been looked at yet.
    pub(super) fn new(rules: &TokenRules) -> Self {
        Self {
            secret: rules.hs256_file.clone(),
            pem: rules.pem_file.clone(),
            jwks: rules.jwks_file.clone(),
            seen: [None; 3],
        }
    }

    /// No files: the keys never change.
    pub(super) fn none() -> Self {
        Self {
            secret: None,
            pem: None,
            jwks: None,
            seen: [None; 3],
        }
    }

    /// Whether a file looks different from the last call, and remembers the look.
    pub(super) fn changed(&mut self) -> bool {
        let now =
            [&self.secret, &self.pem, &self.jwks].map(|path| path.as_deref().and_then(fingerprint));
        std::mem::replace(&mut self.seen, now) != now
    }

    /// Reads every file.
    ///
    /// # Errors
    ///
    /// [`KeyError`] for the first file that is unreadable or bad, or where none is configured.
    pub(super) fn load(&self) -> Result<KeySet, KeyError> {
        let mut keys = KeySet::default();
        if let Some(path) = &self.secret {
            keys.pinned.push(hs256_key(&read_hs256_secret(path)?));
        }
        if let Some(path) = &self.pem {
            keys.pinned.push(read("jwt_pem_file", path, pem_key)?);
        }
        if let Some(path) = &self.jwks {
            keys.named = read("jwt_jwks_file", path, jwks_keys)?;
        }
        if keys.pinned.is_empty() && keys.named.is_empty() {
            return Err(KeyError::NoneConfigured);
        }
        Ok(keys)
    }
}

/// Reads an HS256 secret from its file; a newline at the end is no part of it.
///
/// # Errors
///
/// [`KeyError::Unreadable`], or [`KeyError::Bad`] for less than [`SECRET_BYTES_MIN`] bytes.
pub fn read_hs256_secret(path: &Path) -> Result<Vec<u8>, KeyError> {
    read("jwt_hs256_file", path, |bytes| {
        long_enough(without_newline(bytes)).map(<[u8]>::to_vec)
    })
}

fn fingerprint(path: &Path) -> Option<Fingerprint> {
    let meta = fs::metadata(path).ok()?;
    Some(Fingerprint {
        inode: meta.ino(),
        bytes: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
    })
}

fn read<T>(
    key: &'static str,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, Fault>,
) -> Result<T, KeyError> {
    let unreadable = |source| KeyError::Unreadable {
        key,
        path: path.to_owned(),
        source,
    };
    let bytes = read_bounded(path).map_err(unreadable)?;
    parse(&bytes).map_err(|fault| KeyError::Bad {
        key,
        path: path.to_owned(),
        fault,
    })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 MiB",
        ));
    }
    Ok(bytes)
}

fn without_newline(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

fn long_enough(secret: &[u8]) -> Result<&[u8], Fault> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(Fault::SecretTooShort {
            bytes: secret.len(),
        });
    }
    Ok(secret)
}

fn hs256_key(secret: &[u8]) -> Key {
    Key {
        algorithm: Algorithm::HS256,
        decoding: DecodingKey::from_secret(secret),
    }
}

fn pem_key(pem: &[u8]) -> Result<Key, Fault> {
    // The library also takes private keys and the first bit string of a certificate; neither is
    // what the operator meant, and a private key has no business on this host.
    let text = std::str::from_utf8(pem).map_err(|_| Fault::NotPublicPem)?;
    let one_public = text.matches("-----BEGIN ").count() == 1
        && (text.contains("-----BEGIN PUBLIC KEY-----")
            || text.contains("-----BEGIN RSA PUBLIC KEY-----"));
    if !one_public {
        return Err(Fault::NotPublicPem);
    }
    if let Ok(decoding) = DecodingKey::from_rsa_pem(pem) {
        return rsa_key(&decoding);
    }
    if let Ok(decoding) = DecodingKey::from_ec_pem(pem) {
        return checked(Algorithm::ES256, decoding).ok_or(Fault::NotPublicPem);
    }
    let decoding = DecodingKey::from_ed_pem(pem).map_err(|_| Fault::NotPublicPem)?;
    checked(Algorithm::EdDSA, decoding).ok_or(Fault::NotPublicPem)
}

/// Takes an RSA key apart once, so that no verification has to parse DER, and checks its size.
fn rsa_key(decoding: &DecodingKey) -> Result<Key, Fault> {
    let jwk = Jwk::from_decoding_key(decoding, None).map_err(|_| Fault::NotPublicPem)?;
    let AlgorithmParameters::RSA(parameters) = jwk.algorithm else {
        return Err(Fault::NotPublicPem);
    };
    rsa_components(&parameters.n, &parameters.e)?.ok_or(Fault::NotPublicPem)
}

/// `None` where the texts are no base64url.
fn rsa_components(modulus: &str, exponent: &str) -> Result<Option<Key>, Fault> {
    use jsonwebtoken::DecodingKeyKind::RsaModulusExponent;
    let Ok(decoding) = DecodingKey::from_rsa_components(modulus, exponent) else {
        return Ok(None);
    };
    let RsaModulusExponent { n, .. } = decoding.kind() else {
        return Ok(None);
    };
    let bits = bits(n);
    if !RSA_BITS.contains(&bits) {
        return Err(Fault::RsaSize { bits });
    }
    Ok(Some(Key {
        algorithm: Algorithm::RS256,
        decoding,
    }))
}

fn bits(big_endian: &[u8]) -> usize {
    let zeros = big_endian.iter().take_while(|&&byte| byte == 0).count();
    let significant = &big_endian[zeros..];
    significant.first().map_or(0, |first| {
        significant.len() * 8 - first.leading_zeros() as usize
    })
}

/// The key if it is a point of the algorithm's curve.
fn checked(algorithm: Algorithm, decoding: DecodingKey) -> Option<Key> {
    // The library slices an Ed25519 key to 32 bytes without looking, and would panic.
    let bytes = decoding.try_get_as_bytes().ok()?.len();
    let fits = match algorithm {
        Algorithm::EdDSA => bytes == 32,
        _ => bytes == 65,
    };
    // A verification builds the key first and fails with an error, not `false`, if it is none.
    (fits && crypto::verify("", b"", &decoding, algorithm).is_ok()).then_some(Key {
        algorithm,
        decoding,
    })
}

/// A JWK Set (RFC 7517 § 5), as far as public keys for signatures go.
#[derive(Deserialize)]
struct Jwks {
    keys: Vec<JwkText>,
}

#[derive(Deserialize)]
struct JwkText {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

fn jwks_keys(json: &[u8]) -> Result<Vec<(Option<String>, Key)>, Fault> {
    let set: Jwks =
        serde_json::from_slice(json).map_err(|error| Fault::NotJwks(error.to_string()))?;
    if set.keys.len() > JWKS_KEYS_MAX {
        return Err(Fault::TooManyKeys {
            keys: set.keys.len(),
        });
    }
    let mut keys = Vec::new();
    let mut kids = HashSet::new();
    for (index, jwk) in set.keys.iter().enumerate() {
        let Some(key) = jwk_key(index, jwk)? else {
            continue;
        };
        if !kids.insert(jwk.kid.clone()) {
            return Err(Fault::Jwk {
                index,
                reason: "its kid is that of another key",
            });
        }
        keys.push((jwk.kid.clone(), key));
    }
    if keys.is_empty() {
        Err(Fault::NoUsableKey)
    } else {
        Ok(keys)
    }
}

/// `None` for a key that is none of our business: for encryption, or of a kind that is not served
/// (RFC 7517 § 5 asks to ignore those).
fn jwk_key(index: usize, jwk: &JwkText) -> Result<Option<Key>, Fault> {
    let bad = |reason| Fault::Jwk { index, reason };
    if jwk.kty == "oct" {
        return Err(bad(
            "a secret (kty oct) does not belong into a key set; use jwt_hs256_file",
        ));
    }
    if jwk.d.is_some() {
        return Err(bad("a private key does not belong into a key set"));
    }
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Ok(None);
    }
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => match (&jwk.n, &jwk.e) {
            (Some(n), Some(e)) => rsa_components(n, e)?,
            _ => None,
        },
        ("EC", Some("P-256")) => match (&jwk.x, &jwk.y) {
            (Some(x), Some(y)) => DecodingKey::from_ec_components(x, y)
                .ok()
                .and_then(|decoding| checked(Algorithm::ES256, decoding)),
            _ => None,
        },
        ("OKP", Some("Ed25519")) => jwk
            .x
            .as_deref()
            .and_then(|x| DecodingKey::from_ed_components(x).ok())
            .and_then(|decoding| checked(Algorithm::EdDSA, decoding)),
        _ => return Ok(None),
    };
    let key = key.ok_or(bad("its numbers are missing or are no key"))?;
    match &jwk.alg {
        Some(alg) if *alg != format!("{:?}", key.algorithm) => Err(bad(
            "its alg is not the one of its kty (RS256, ES256, EdDSA)",
        )),
        _ => Ok(Some(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &[u8] = include_bytes!("../../tests/keys/rsa.public.pem");
    const P256: &[u8] = include_bytes!("../../tests/keys/p256.public.pem");
    const ED25519: &[u8] = include_bytes!("../../tests/keys/ed25519.public.pem");

    fn fault<T>(result: Result<T, Fault>) -> Fault {
        result.err().expect("it should have been refused")
    }

    #[test]
    fn the_kind_of_a_pem_key_fixes_its_algorithm() {
        assert_eq!(pem_key(RSA).unwrap().algorithm, Algorithm::RS256);
        assert_eq!(pem_key(P256).unwrap().algorithm, Algorithm::ES256);
        assert_eq!(pem_key(ED25519).unwrap().algorithm, Algorithm::EdDSA);
    }

    #[test]
    fn pem_files_that_are_no_served_public_key_are_refused() {
        let private: &[u8] = include_bytes!("../../tests/keys/rsa.private.pem");
        let p384: &[u8] = include_bytes!("../../tests/keys/p384.public.pem");
        for pem in [
            private,
            p384,
            b"",
            b"secret",
            b"\xff\xfe",
            &[RSA, P256].concat(),
        ] {
            assert_eq!(fault(pem_key(pem)), Fault::NotPublicPem);
        }
        let small: &[u8] = include_bytes!("../../tests/keys/rsa1024.public.pem");
        assert_eq!(fault(pem_key(small)), Fault::RsaSize { bits: 1024 });
    }

    #[test]
    fn a_short_secret_is_refused_and_its_newline_does_not_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |bytes: &[u8]| {
            fs::write(file.path(), bytes).unwrap();
            read_hs256_secret(file.path()).map_err(|error| error.to_string())
        };
        let secret = [b'x'; SECRET_BYTES_MIN];
        for newline in ["", "\n", "\r\n"] {
            let with_newline = [&secret[..], newline.as_bytes()].concat();
            assert_eq!(read(&with_newline).unwrap(), secret);
        }
        let error = read(&[&secret[1..], b"\n"].concat()).unwrap_err();
        assert!(error.contains("has 31 bytes, at least 32"), "{error}");
        assert_eq!(without_newline(b"abc\n\n"), b"abc\n");
    }

    #[test]
    fn secrets_private_keys_and_disagreeing_algorithms_spoil_a_key_set() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037 appendix A.2
        let ed = |extra: &str| {
            format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"{extra}}}]}}"#)
        };
        assert_eq!(jwks_keys(ed("").as_bytes()).unwrap().len(), 1);
        assert_eq!(
            jwks_keys(ed(r#","alg":"EdDSA","use":"sig""#).as_bytes())
                .unwrap()
                .len(),
            1
        );
        for extra in [r#","alg":"HS256""#, r#","alg":"none""#, r#","d":"AAAA""#] {
            assert!(
                matches!(
                    fault(jwks_keys(ed(extra).as_bytes())),
                    Fault::Jwk { index: 0, .. }
                ),
                "{extra}"
            );
        }
        let oct = br#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#;
        assert!(matches!(fault(jwks_keys(oct)), Fault::Jwk { index: 0, .. }));
        let short = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#;
        assert!(matches!(
            fault(jwks_keys(short)),
            Fault::Jwk { index: 0, .. }
        ));
        assert!(matches!(fault(jwks_keys(b"{}")), Fault::NotJwks(_)));
    }

    #[test]
    fn keys_that_are_none_of_our_business_are_skipped() {
        let set = br#"{"keys":[{"kty":"EC","crv":"P-521","x":"AA","y":"AA"},{"kty":"RSA","use":"enc"},{"kty":"AKP"}]}"#;
        assert_eq!(fault(jwks_keys(set)), Fault::NoUsableKey);
    }

    #[test]
    fn two_keys_of_one_name_are_refused() {
        let key = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let set = format!(r#"{{"keys":[{key},{key}]}}"#);
        assert!(matches!(
            fault(jwks_keys(set.as_bytes())),
            Fault::Jwk { index: 1, .. }
        ));
    }
}
