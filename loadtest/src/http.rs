//! The HTTP half of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep), for any server.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LINK, LOCATION};
use reqwest::{Method, StatusCode, Url};
use std::time::Duration;

/// A server that does not answer within this time is gone.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The relation under which a viewer's session says where layers are chosen (draft-ietf-wish-whep,
/// "Video Layer Selection Extension").
const LAYER_RELATION: &str = "rel=\"urn:ietf:params:whep:ext:core:layer\"";

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
    /// Where a viewer chooses among layers, if the server lets it.
    pub layer_url: Option<String>,
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
        let header = |name: HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let location = header(LOCATION)
            .ok_or_else(|| SignalingError::Protocol("201 without Location".to_owned()))?;
        // RFC 9110 §10.2.2: Location may be relative to the request; RFC 8288 §3.1: so may a link.
        let absolute = |relative: &str| {
            let joined = Url::parse(url).and_then(|base| base.join(relative));
            joined.map_err(|error| SignalingError::Protocol(format!("{relative}: {error}")))
        };
        let links = response.headers().get_all(LINK).iter().filter_map(|link| link.to_str().ok());
        let layer_url = links.flat_map(|links| links.split(',')).find_map(|link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            parameters.contains(LAYER_RELATION).then(|| absolute(target))
        });
        let layer_url = layer_url.transpose()?.map(String::from);
        let (url, etag) = (absolute(&location)?.into(), header(ETAG));
        Ok(Session { url, etag, layer_url, answer: response.text().await? })
    }

    /// Chooses a layer, or sets a ceiling: JSON of the layer extension.
    ///
    /// # Errors
    ///
    /// [`SignalingError`]; also where the server has no such extension.
    pub async fn choose(
        &self,
        layer_url: Option<&str>,
        choice: &str,
    ) -> Result<(), SignalingError> {
        let none = || SignalingError::Protocol("the session has no layers".to_owned());
        let request = self.request(Method::POST, layer_url.ok_or_else(none)?);
        let request = request.header(CONTENT_TYPE, "application/json").body(choice.to_owned());
        accepted(request.send().await?, StatusCode::OK).await.map(drop)
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
