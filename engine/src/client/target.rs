//! Where to connect.

use std::fmt;

use http::Uri;

use super::ConnectError;

const PORT_DEFAULT: u16 = 80;

/// A checked `ws://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Uri);

impl Target {
    /// Reads a URL such as `ws://127.0.0.1:9001/v1/ws?symbols=AAPL`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::TlsNotBuiltIn`] for `wss://`, [`ConnectError::BadUrl`] for anything else
    /// that is not a `ws://` URL with a host.
    pub fn parse(url: &str) -> Result<Self, ConnectError> {
        let bad = |why: String| ConnectError::BadUrl {
            url: url.to_owned(),
            why,
        };
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| bad(error.to_string()))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") => {
                return Err(ConnectError::TlsNotBuiltIn {
                    url: url.to_owned(),
                });
            }
            Some(other) => return Err(bad(format!("the scheme is `{other}`, expected `ws`"))),
            None => return Err(bad("there is no scheme, expected `ws://…`".to_owned())),
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("there is no host".to_owned()));
        }
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(bad("tokens travel in a header, never in the URL".to_owned()));
        }
        Ok(Self(uri))
    }

    /// The same target, with `path` where the URL has none but `/`; unchanged where `path` is none.
    #[must_use]
    pub fn or_path(self, path: &'static str) -> Self {
        if self.0.path() != "/" {
            return self;
        }
        let path_and_query = match self.0.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = path_and_query.parse().ok();
        Uri::from_parts(parts).map_or(self, Self)
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    /// The `Host` header: host, and port where one is given.
    pub(super) fn authority(&self) -> &str {
        self.0.authority().map_or("", http::uri::Authority::as_str)
    }

    /// Host without an IPv6 address's brackets, and port.
    pub(super) fn host_and_port(&self) -> (&str, u16) {
        let host = self.0.host().unwrap_or_default();
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        (bare, self.0.port_u16().unwrap_or(PORT_DEFAULT))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_gets_the_default_one() {
        let text = |url: &str| Target::parse(url).unwrap().or_path("/v1/ws").to_string();
        assert_eq!(text("ws://localhost:9001"), "ws://localhost:9001/v1/ws");
        assert_eq!(
            text("ws://localhost/?symbols=A"),
            "ws://localhost/v1/ws?symbols=A"
        );
        assert_eq!(text("ws://localhost/other"), "ws://localhost/other");
    }

    #[test]
    fn an_ipv6_host_loses_its_brackets() {
        assert_eq!(
            Target::parse("ws://[::1]:9001/").unwrap().host_and_port(),
            ("::1", 9001)
        );
        assert_eq!(
            Target::parse("ws://example.com").unwrap().host_and_port(),
            ("example.com", 80)
        );
    }

    #[test]
    fn tls_is_refused_by_name() {
        let error = Target::parse("wss://example.com/v1/ws")
            .unwrap_err()
            .to_string();
        assert!(error.contains("TLS is not built in yet"), "{error}");
    }

    #[test]
    fn other_urls_are_refused_with_the_reason() {
        for url in [
            "http://a/",
            "localhost:9001",
            "ws://",
            "/v1/ws",
            "ws://me:secret@a/",
            "",
        ] {
            assert!(
                matches!(Target::parse(url), Err(ConnectError::BadUrl { .. })),
                "{url}"
            );
        }
    }
}
