//! Who a connection is from where proxies stand in front of the engine.
//!
//! A trusted proxy says whom it speaks for in front of the request, by the PROXY protocol
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, versions 1 and 2), or in the
//! request, by `X-Forwarded-For`. Of anyone else neither is believed, as anyone can write them.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ppp::{HeaderResult, PartialResult as _, v1, v2};

use super::answer::Refusal;
use crate::config::Networks;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const V1_BEGIN: &[u8] = b"PROXY ";
/// The longest line of version 1 (its § 2.1).
const V1_BYTES_MAX: usize = 107;
const V2_BEGIN: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Who a connection is from, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: limits per IP are about its address.
    Client(SocketAddr),
    /// A trusted proxy, on behalf of somebody whom it has not named, or on its own. No limit per
    /// IP holds for it.
    Proxy(SocketAddr),
}

/// What a trusted proxy says in front of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// It has begun, or what has come could be its begin.
    NeedMore,
    /// Nothing: the request begins at once.
    Absent,
    /// A header of the PROXY protocol.
    Present {
        /// Its length.
        bytes: usize,
        /// Whom the proxy speaks for; `None` where it speaks for itself, as in a health check.
        client: Option<SocketAddr>,
    },
    /// It begins like one and is none.
    Malformed,
}

impl Origin {
    /// Of whoever has `address`.
    pub fn of(address: SocketAddr, trusted: &Networks) -> Self {
        if trusted.contains(address.ip()) {
            Self::Proxy(address)
        } else {
            Self::Client(address)
        }
    }

    /// The address, whosever it is.
    pub fn address(self) -> SocketAddr {
        match self {
            Self::Client(address) | Self::Proxy(address) => address,
        }
    }

    /// Whom limits per IP are about, if anyone.
    pub fn client(self) -> Option<IpAddr> {
        match self {
            Self::Client(address) => Some(address.ip()),
            Self::Proxy(_) => None,
        }
    }

    /// Whom a trusted proxy speaks for by the fields of its request: each proxy appends whom it
    /// was called by, so that is the last address in `X-Forwarded-For` that is not trusted itself.
    ///
    /// # Errors
    ///
    /// 400 where a proxy wrote what is no address.
    pub fn forwarded(self, fields: &HeaderMap, trusted: &Networks) -> Result<Self, Refusal> {
        let mut origin = self;
        for value in fields.get_all(FORWARDED_FOR).iter().rev() {
            let text = value.to_str().map_err(|_| no_address())?;
            for entry in text.rsplit(',') {
                if let Self::Client(_) = origin {
                    return Ok(origin);
                }
                origin = Self::of(address(entry.trim()).ok_or_else(no_address)?, trusted);
            }
        }
        Ok(origin)
    }
}

impl Announcement {
    /// Looks for it at the begin of `received`.
    pub fn parse(received: &[u8]) -> Self {
        let may_be = |begin: &[u8]| {
            let bytes = received.len().min(begin.len());
            received[..bytes] == begin[..bytes]
        };
        if !may_be(V1_BEGIN) && !may_be(V2_BEGIN) {
            return Self::Absent;
        }
        // Too short to tell which of the two it is, or whether it is one.
        if received.len() < V1_BEGIN.len() {
            return Self::NeedMore;
        }
        // The parser takes a line that ends too soon for a wrong one.
        let is_line = received.starts_with(V1_BEGIN);
        if is_line && !received.contains(&b'\n') && received.len() < V1_BYTES_MAX {
            return Self::NeedMore;
        }
        let header = HeaderResult::parse(received);
        if header.is_incomplete() {
            return Self::NeedMore;
        }
        match header {
            HeaderResult::V1(Ok(header)) => Self::Present {
                bytes: header.header.len(),
                client: source_v1(header.addresses),
            },
            HeaderResult::V2(Ok(header)) => Self::Present {
                bytes: header.len(),
                client: match header.command {
                    v2::Command::Proxy => source_v2(header.addresses),
                    v2::Command::Local => None,
                },
            },
            HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Self::Malformed,
        }
    }
}

fn source_v1(addresses: v1::Addresses) -> Option<SocketAddr> {
    match addresses {
        v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Unknown => None,
    }
}

fn source_v2(addresses: v2::Addresses) -> Option<SocketAddr> {
    match addresses {
        v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}

/// An address as proxies write it: `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]`, or one of them
/// with a port.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let with_port = text.parse();
    let alone = bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, 0));
    with_port.or(alone).ok()
}

fn no_address() -> Refusal {
    Refusal::bad_request("X-Forwarded-For holds what is no address")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> Networks {
        ["10.0.0.0/8", "2001:db8:ffff::/48"]
            .map(|network| network.parse().unwrap())
            .into_iter()
            .collect()
    }

    fn at(text: &str) -> SocketAddr {
        address(text).unwrap()
    }

    /// Who a request with these `X-Forwarded-For` fields, brought by 10.0.0.1, is from.
    fn forwarded(values: &[&str]) -> Result<Origin, Refusal> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        Origin::of(at("10.0.0.1"), &trusted()).forwarded(&fields, &trusted())
    }

    #[test]
    fn the_last_address_that_is_not_trusted_is_the_client() {
        let client = Origin::Client(at("192.0.2.1"));
        assert_eq!(forwarded(&["192.0.2.1"]), Ok(client));
        // What the client itself claimed stands in front.
        assert_eq!(
            forwarded(&["198.51.100.7, 192.0.2.1, 10.9.9.9"]),
            Ok(client)
        );
        assert_eq!(
            forwarded(&["not an address", "192.0.2.1", "10.9.9.9"]),
            Ok(client)
        );
        let v6 = Origin::Client(at("[2001:db8::1]:443"));
        assert_eq!(forwarded(&["[2001:db8::1]:443,2001:db8:ffff::2"]), Ok(v6));
    }

    #[test]
    fn a_proxy_that_names_nobody_speaks_for_itself() {
        assert_eq!(forwarded(&[]), Ok(Origin::Proxy(at("10.0.0.1"))));
        let chain = forwarded(&["10.0.0.3, 10.0.0.2"]);
        assert_eq!(chain, Ok(Origin::Proxy(at("10.0.0.3"))));
        assert_eq!(chain.unwrap().client(), None);
    }

    #[test]
    fn what_a_proxy_wrote_must_be_an_address() {
        for wrong in ["unknown", "", "192.0.2.1 10.0.0.2"] {
            let status = forwarded(&[wrong]).unwrap_err().status();
            assert_eq!(status, (400, "Bad Request"), "{wrong}");
        }
    }

    #[test]
    fn of_a_client_nothing_is_believed() {
        let mut fields = HeaderMap::new();
        fields.insert(FORWARDED_FOR, HeaderValue::from_static("198.51.100.7"));
        let client = Origin::of(at("192.0.2.1"), &trusted());
        assert_eq!(client.forwarded(&fields, &trusted()), Ok(client));
    }

    const V2_TCP4: [u8; 28] =
        *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x10\x92\x01\xbb";

    #[test]
    fn both_versions_of_the_proxy_protocol_name_the_client() {
        let v1 = "PROXY TCP4 192.0.2.1 10.0.0.1 4242 443\r\n";
        for (bytes, header) in [(v1.as_bytes(), v1.len()), (&V2_TCP4[..], V2_TCP4.len())] {
            let present = Announcement::Present {
                bytes: header,
                client: Some(at("192.0.2.1:4242")),
            };
            let with_request = [bytes, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(Announcement::parse(&with_request), present);
            for cut in 1..header {
                let part = Announcement::parse(&bytes[..cut]);
                assert_eq!(part, Announcement::NeedMore, "{cut} bytes");
            }
        }
        let v6 = "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n";
        let client = Some(at("[2001:db8::1]:1"));
        let bytes = v6.len();
        let present = Announcement::Present { bytes, client };
        assert_eq!(Announcement::parse(v6.as_bytes()), present);
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        let mut local = V2_TCP4;
        local[12] = 0x20;
        let own = |bytes| Announcement::Present {
            bytes,
            client: None,
        };
        assert_eq!(Announcement::parse(&local), own(local.len()));
        assert_eq!(Announcement::parse(b"PROXY UNKNOWN\r\n"), own(15));
    }

    #[test]
    fn a_request_announces_nothing_and_nonsense_is_told() {
        for request in ["GET / HTTP/1.1\r\n", "POST", "PROXIMA"] {
            let parsed = Announcement::parse(request.as_bytes());
            assert_eq!(parsed, Announcement::Absent, "{request}");
        }
        let endless = format!("PROXY {}", "x".repeat(200));
        for nonsense in ["PROXY TCP4 a b c d\r\n", &endless] {
            let parsed = Announcement::parse(nonsense.as_bytes());
            assert_eq!(parsed, Announcement::Malformed, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(
            begin in prop_oneof![Just(Vec::new()), Just(V1_BEGIN.to_vec()), Just(V2_BEGIN.to_vec())],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [begin, rest].concat();
            if let Announcement::Present { bytes: used, .. } = Announcement::parse(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}
