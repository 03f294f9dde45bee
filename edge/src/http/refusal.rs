//! Every answer to a request that is not served, with the codes of the engine's door.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use tickwire_engine::door::{answer, limits::retry_after_s};
use tickwire_proto::upgrade::UpgradeError;

use crate::hub::Refused;

/// Why a request is not served.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body's `code`.
    pub code: &'static str,
    /// The body's `message`.
    pub message: String,
    /// When to come back.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    /// 401: no token.
    pub fn no_token() -> Self {
        Self {
            message: "a token is needed: Authorization: Bearer, or the cookie of /v1/session"
                .to_owned(),
            ..answer::Refusal::NoToken.into()
        }
    }

    /// 403: a cookie from a page of a stranger.
    pub fn foreign_origin() -> Self {
        Self {
            message: "the cookie is not taken from pages of this origin".to_owned(),
            ..answer::Refusal::NotEntitled.into()
        }
    }

    /// 404.
    pub fn not_found() -> Self {
        Self {
            message: "there are /v1/sse, /v1/poll, /v1/session and /v1/admit".to_owned(),
            ..answer::Refusal::NotFound.into()
        }
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self {
            message: "this method is not served here".to_owned(),
            ..answer::Refusal::MethodNotAllowed.into()
        }
    }

    /// 429: its IP has as many streams as it may have.
    pub fn too_many_connections() -> Self {
        answer::Refusal::TooManyConnections {
            retry_after_s: retry_after_s(std::time::Duration::ZERO),
        }
        .into()
    }

    /// 503: no place left.
    pub fn at_capacity() -> Self {
        answer::Refusal::AtCapacity {
            retry_after_s: retry_after_s(std::time::Duration::ZERO),
        }
        .into()
    }

    /// 503: the process is about to end.
    pub fn draining() -> Self {
        answer::Refusal::Draining {
            retry_after_s: retry_after_s(std::time::Duration::ZERO),
        }
        .into()
    }
}

impl From<answer::Refusal> for Refusal {
    fn from(refusal: answer::Refusal) -> Self {
        Self {
            status: StatusCode::from_u16(refusal.status().0)
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: refusal.code(),
            message: refusal.message(),
            retry_after_s: refusal.retry_after_s(),
        }
    }
}

impl From<UpgradeError> for Refusal {
    fn from(error: UpgradeError) -> Self {
        answer::Refusal::from(error).into()
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotEntitled => answer::Refusal::NotEntitled.into(),
            Refused::Busy => Self::at_capacity(),
            Refused::Draining => Self::draining(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.code, "message": self.message });
        let mut response = (self.status, Json(body)).into_response();
        let fields = response.headers_mut();
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            fields.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 6750 § 3.1: without a token, no error is named.
            let challenge = match self.code {
                "unauthorized" => "Bearer",
                _ => "Bearer error=\"invalid_token\"",
            };
            let challenge = HeaderValue::from_static(challenge);
            fields.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
