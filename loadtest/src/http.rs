//! The HTTP half of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep), for any server.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, LOCATION};
use reqwest::{Method, StatusCode, Url};
use std::time::Duration;

/// A server that does not answer within this time is gone.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum SignalingError {
    /// The server said no.
    #[error("the server answered {status}: {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
        /// The problem body.
        body: String,
    },
    /// The server answered with something that is not WHIP or WHEP.
    #[error("not a WHIP or WHEP answer: {0}")]
    Protocol(String),
    /// The request failed on its way.
    #[error("request failed: {0}")]
    Transport(#[from] reqwest::Error),
}

impl SignalingError {
    /// The status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// A session the server made.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its URL, absolute.
    pub url: String,
    /// Its entity tag.
    pub etag: Option<String>,
    /// The SDP answer.
    pub answer: String,
}

/// An HTTP client with a token.
#[derive(Debug, Clone)]
pub struct Signaling {
    http: reqwest::Client,
    token: Option<String>,
}

impl Signaling {
    /// A client that sends this token, if any.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub fn new(token: Option<&str>) -> Result<Self, SignalingError> {
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self { http, token: token.map(str::to_owned) })
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { http: self.http.clone(), token: token.map(str::to_owned) }
    }

    /// A request to which the token is added.
    pub fn request(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Posts an offer.
    ///
    /// # Errors
    ///
    /// [`SignalingError`].
    pub async fn offer(&self, url: &str, offer: &str) -> Result<Session, SignalingError> {
        let response = self
            .request(Method::POST, url)
            .header(CONTENT_TYPE, "application/sdp")
            .body(offer.to_owned())
            .send()
            .await?;
        let response = accepted(response, StatusCode::CREATED).await?;
        let header = |name: reqwest::header::HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let location = header(LOCATION)
            .ok_or_else(|| SignalingError::Protocol("201 without Location".to_owned()))?;
        // RFC 9110 §10.2.2: Location may be relative to the request.
        let absolute = Url::parse(url)
            .and_then(|base| base.join(&location))
            .map_err(|error| SignalingError::Protocol(format!("Location {location}: {error}")))?;
        let etag = header(ETAG);
        Ok(Session { url: absolute.into(), etag, answer: response.text().await? })
    }

    /// Sends trickled candidates or an ICE restart.
    ///
    /// # Errors
    ///
    /// [`SignalingError`].
    pub async fn patch(
        &self,
        session: &Session,
        fragment: &str,
    ) -> Result<reqwest::Response, SignalingError> {
        let request = self
            .request(Method::PATCH, &session.url)
            .header(CONTENT_TYPE, "application/trickle-ice-sdpfrag")
            .body(fragment.to_owned());
        let request = match &session.etag {
            Some(etag) => request.header(IF_MATCH, etag),
            None => request,
        };
        Ok(request.send().await?)
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// [`SignalingError`].
    pub async fn delete(&self, url: &str) -> Result<(), SignalingError> {
        let response = self.request(Method::DELETE, url).send().await?;
        accepted(response, StatusCode::OK).await.map(drop)
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    ///
    /// [`SignalingError`].
    pub async fn json(&self, url: &str) -> Result<serde_json::Value, SignalingError> {
        let response = self.request(Method::GET, url).send().await?;
        Ok(accepted(response, StatusCode::OK).await?.json().await?)
    }
}

/// Passes the wanted status on; a DELETE may also be answered without a body.
async fn accepted(
    response: reqwest::Response,
    wanted: StatusCode,
) -> Result<reqwest::Response, SignalingError> {
    let status = response.status();
    if status == wanted || (wanted == StatusCode::OK && status == StatusCode::NO_CONTENT) {
        return Ok(response);
    }
    let retry_after = response
        .headers()
        .get(reqwest::header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.text().await.unwrap_or_default();
    Err(SignalingError::Refused { status: status.as_u16(), retry_after, body })
}
