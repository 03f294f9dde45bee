//! Who asks, and whether it may.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum_server::ConnectionShutdown;
use http::{HeaderMap, Uri, header, request::Parts};
use tickwire_engine::{
    clock,
    door::{
        answer,
        limits::{PerIp, retry_after_s},
        origin::Origin,
    },
};
use tickwire_proto::{
    claims::Grant,
    upgrade::{self, EdgeQuery, Page},
};

use super::{App, Refusal, session};

/// A request, before anything of it is judged.
pub struct Asked {
    /// The client, as far as is known: limits per IP are about it.
    pub client: Option<IpAddr>,
    /// Whether a trusted proxy speaks for it.
    pub is_through_proxy: bool,
    /// Closes the socket that it came by.
    pub socket: Option<ConnectionShutdown>,
    /// Its header fields.
    pub fields: HeaderMap,
    /// Its target.
    pub uri: Uri,
}

impl FromRequestParts<App> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let ConnectInfo(peer): ConnectInfo<SocketAddr> =
            ConnectInfo::from_request_parts(parts, app)
                .await
                .map_err(|_| Refusal::at_capacity())?;
        let origin = Origin::of(peer, app.trusted());
        let is_through_proxy = origin.client().is_none();
        let origin = origin.forwarded(&parts.headers, app.trusted())?;
        Ok(Self {
            client: origin.client(),
            is_through_proxy,
            socket: parts.extensions.get().cloned(),
            fields: parts.headers.clone(),
            uri: parts.uri.clone(),
        })
    }
}

impl Asked {
    /// Takes the request from the allowance of its IP.
    ///
    /// # Errors
    ///
    /// 429, or 503 while draining.
    pub fn admit(&self, app: &App) -> Result<(), Refusal> {
        if app.is_draining() {
            return Err(Refusal::draining());
        }
        self.spend(&app.0.per_ip)
    }

    /// Takes one from an allowance of the client's IP.
    ///
    /// # Errors
    ///
    /// 429.
    pub fn spend(&self, allowance: &PerIp) -> Result<(), Refusal> {
        let checked = self.client.map_or(Ok(()), |client| allowance.check(client));
        checked.map_err(|wait| {
            answer::Refusal::RateLimited {
                retry_after_s: retry_after_s(wait),
            }
            .into()
        })
    }

    /// Whether the client's IP may have one more stream.
    pub fn has_room(&self, app: &App) -> bool {
        self.client
            .is_none_or(|client| app.0.users.has_room_for(client))
    }

    /// What is asked of a page, and what the token of `Authorization` allows, else that of the cookie.
    ///
    /// # Errors
    ///
    /// 400, 401 or 403.
    pub fn read(&self, app: &App, page: Page) -> Result<(EdgeQuery, Grant), Refusal> {
        let query = self.query(page)?;
        let token = match self.bearer()? {
            Some(token) => Some(token),
            None => session::cookie(self, app)?,
        };
        let grant = verify(app, token.ok_or_else(Refusal::no_token)?)?;
        Ok((query, grant))
    }

    /// What is asked of a page.
    ///
    /// # Errors
    ///
    /// 400.
    pub fn query(&self, page: Page) -> Result<EdgeQuery, Refusal> {
        let mut query = EdgeQuery::parse(self.uri.query().unwrap_or_default(), page)?;
        if let Some(last) = self.text("last-event-id")?.filter(|last| !last.is_empty()) {
            query.cursor = Some(upgrade::edge_cursor(last)?);
        }
        Ok(query)
    }

    /// The bearer token of `Authorization`.
    ///
    /// # Errors
    ///
    /// 400 where it is no plain text.
    pub fn bearer(&self) -> Result<Option<&str>, Refusal> {
        let authorization = self.text(header::AUTHORIZATION.as_str())?;
        Ok(authorization.and_then(upgrade::bearer))
    }

    /// The text of a field that may be given once.
    ///
    /// # Errors
    ///
    /// 400 where it is given twice, or is no plain text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.fields.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(answer::Refusal::bad_request(format!("{name} is given twice")).into());
        }
        let text = value.to_str();
        text.map(Some)
            .map_err(|_| answer::Refusal::bad_request(format!("{name} is no plain ASCII")).into())
    }
}

/// What a token allows now.
///
/// # Errors
///
/// 401.
pub fn verify(app: &App, token: &str) -> Result<Grant, Refusal> {
    let verified = app.0.verifier.verify(token, clock::wall_s());
    verified.map_err(|error| answer::Refusal::BadToken(error).into())
}
