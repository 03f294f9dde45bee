//! `POST /v1/session`: a bearer token becomes a cookie, for the browser's own `EventSource`, which
//! can send no header fields.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, Uri, header};
use tickwire_engine::clock;

use super::{
    App, Refusal,
    entry::{Asked, verify},
};

/// The cookie's name.
const NAME: &str = "tickwire_session";

/// Answers 204 with the cookie.
pub async fn open(State(app): State<App>, asked: Asked) -> Response {
    let answer = asked.admit(&app).and_then(|()| grant_cookie(&app, &asked));
    match answer {
        Ok(cookie) => {
            app.0.metrics.answered("session", "ok");
            let fields = [
                (header::SET_COOKIE, cookie),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (StatusCode::NO_CONTENT, fields).into_response()
        }
        Err(refusal) => {
            app.0.metrics.answered("session", refusal.code);
            refusal.into_response()
        }
    }
}

fn grant_cookie(app: &App, asked: &Asked) -> Result<HeaderValue, Refusal> {
    let token = asked.bearer()?.ok_or_else(Refusal::no_token)?;
    let grant = verify(app, token)?;
    let max_age_s = grant.exp.saturating_sub(clock::wall_s());
    // A browser keeps a Secure cookie of plain HTTP from nobody but the server that set it.
    let secure = if is_secure(app, asked) {
        "; Secure"
    } else {
        ""
    };
    let cookie =
        format!("{NAME}={token}; HttpOnly; SameSite=Strict; Path=/v1; Max-Age={max_age_s}{secure}");
    // A token that verified is plain ASCII without a semicolon.
    HeaderValue::from_str(&cookie).map_err(|_| Refusal::no_token())
}

/// Whether the client speaks HTTPS, with this edge or with a trusted proxy in front of it.
fn is_secure(app: &App, asked: &Asked) -> bool {
    let forwarded = asked.text("x-forwarded-proto").ok().flatten();
    app.0.config.tls_cert_file.is_some() || forwarded == Some("https") && asked.is_through_proxy
}

/// The token of the cookie, if it came from a page that may use it.
///
/// # Errors
///
/// 403 where a page of another origin has sent it.
pub fn cookie<'a>(asked: &'a Asked, app: &App) -> Result<Option<&'a str>, Refusal> {
    let Some(token) = find(asked) else {
        return Ok(None);
    };
    if is_own(asked, app)? {
        Ok(Some(token))
    } else {
        Err(Refusal::foreign_origin())
    }
}

fn find(asked: &Asked) -> Option<&str> {
    let fields = asked.fields.get_all(header::COOKIE).iter();
    let pairs = fields
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == NAME)
        .map(|(_, token)| token)
}

/// Whether a request comes from a page of this edge or of an allowed origin.
///
/// A browser names the origin of every request to another one, and leaves it out of a GET to its
/// own; `Sec-Fetch-Site` tells the two apart where it is sent.
fn is_own(asked: &Asked, app: &App) -> Result<bool, Refusal> {
    let Some(origin) = asked.text(header::ORIGIN.as_str())? else {
        let site = asked.text("sec-fetch-site")?;
        return Ok(matches!(site, None | Some("same-origin" | "none")));
    };
    if app
        .0
        .config
        .allowed_origins
        .0
        .iter()
        .any(|own| own == origin)
    {
        return Ok(true);
    }
    let host = asked.text(header::HOST.as_str())?;
    let own = host.or(asked.uri.authority().map(http::uri::Authority::as_str));
    let theirs = origin.parse::<Uri>().ok();
    let theirs = theirs.as_ref().and_then(Uri::authority);
    Ok(own.is_some() && theirs.map(http::uri::Authority::as_str) == own)
}
