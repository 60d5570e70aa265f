//! Bearer tokens (RFC 6750): who may publish or view what, and who may look behind the scenes.
//!
//! Only digests of the tokens are kept, and all of them are compared every time: how long a
//! comparison takes tells nothing about a token, its length included. The address a request comes
//! from never counts: behind a proxy everybody is loopback.

use crate::media_server::{Role, TokenId};
use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// The tokens of this server and what each is good for.
#[derive(Clone)]
pub struct Credentials {
    publish: TokenDigest,
    admin: TokenDigest,
    publish_rules: Vec<Rule>,
    view_rules: Vec<Rule>,
}

/// Why a request is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token where one is needed: 401.
    #[error("this needs a token; send it as Authorization: Bearer <token>")]
    Missing,
    /// No token on a URL that may carry it: 401.
    #[error(
        "this needs a token; send it as ?token=<token> in the URL, or as Authorization: Bearer \
         <token>"
    )]
    NotInUrl,
    /// An `Authorization` header that is not one bearer token: 401.
    #[error("the Authorization header is not of the form: Bearer <token>")]
    Malformed,
    /// A token this server does not know: 401.
    #[error("this server does not know that token; compare it with the one the operator gave out")]
    Unknown,
    /// A token of this server, for something else: 403.
    #[error("that token is not good for this; ask the operator for one that is")]
    NotAllowed,
}

/// A token for the streams whose name fits a pattern.
#[derive(Clone)]
struct Rule {
    pattern: String,
    token: TokenDigest,
}

/// The SHA-256 of a token.
#[derive(Clone, Copy)]
struct TokenDigest([u8; 32]);

impl Credentials {
    /// One token to publish every stream, one for operators.
    pub fn new(publish: &str, admin: &str) -> Self {
        let (publish, admin) = (TokenDigest::of(publish), TokenDigest::of(admin));
        Self { publish, admin, publish_rules: Vec::new(), view_rules: Vec::new() }
    }

    /// Also lets `token` publish the streams whose name fits `pattern`, in which `*` stands for
    /// any characters, `/` included.
    #[must_use]
    pub fn with_publish_rule(mut self, pattern: &str, token: &str) -> Self {
        self.publish_rules.push(Rule::new(pattern, token));
        self
    }

    /// Lets `token` view the streams whose name fits `pattern`. Without any such rule everybody
    /// may view; with one or more, nobody views without a token.
    #[must_use]
    pub fn with_view_rule(mut self, pattern: &str, token: &str) -> Self {
        self.view_rules.push(Rule::new(pattern, token));
        self
    }

    /// Whether viewing takes a token.
    pub fn viewing_needs_token(&self) -> bool {
        !self.view_rules.is_empty()
    }

    /// Says whether the bearer may make a session of that role on that stream.
    ///
    /// # Errors
    ///
    /// [`AuthError`] says why not.
    pub fn may_join(
        &self,
        role: Role,
        headers: &HeaderMap,
        stream: &str,
    ) -> Result<TokenId, AuthError> {
        if role == Role::Viewer && !self.viewing_needs_token() {
            return Ok(TokenId::default());
        }
        let token = digest_of_bearer(headers)?.ok_or(AuthError::Missing)?;
        self.allow(self.joins(role, &token, Some(stream)), &token).map(|()| token.id())
    }

    /// Says whether a token that came by another protocol than HTTP publishes that stream.
    ///
    /// # Errors
    ///
    /// [`AuthError`] says why not.
    pub fn may_publish(&self, token: &str, stream: &str) -> Result<TokenId, AuthError> {
        let token = TokenDigest::of(token);
        self.allow(self.joins(Role::Publisher, &token, Some(stream)), &token).map(|()| token.id())
    }

    /// Says whether a token that came with a URL views that stream, where viewing takes one.
    ///
    /// # Errors
    ///
    /// [`AuthError`] says why not.
    pub(crate) fn may_view(&self, token: &str, stream: &str) -> Result<(), AuthError> {
        let token = TokenDigest::of(token);
        self.allow(self.joins(Role::Viewer, &token, Some(stream)), &token)
    }

    /// Says whether a request on a session URL is to be served.
    ///
    /// The URL is unguessable and proves enough by itself; OBS and others also send the token
    /// they published with (RFC 9725 §4.7.1), and then it has to be one of that role.
    ///
    /// # Errors
    ///
    /// [`AuthError`] where a token is sent that could not have made the session.
    pub fn may_use_session(&self, role: Role, headers: &HeaderMap) -> Result<(), AuthError> {
        if role == Role::Viewer && !self.viewing_needs_token() {
            return Ok(());
        }
        match digest_of_bearer(headers)? {
            Some(token) => self.allow(self.joins(role, &token, None), &token),
            None => Ok(()),
        }
    }

    /// Says whether the bearer is an operator.
    ///
    /// # Errors
    ///
    /// [`AuthError`] says why not.
    pub fn may_operate(&self, headers: &HeaderMap) -> Result<(), AuthError> {
        let token = digest_of_bearer(headers)?.ok_or(AuthError::Missing)?;
        self.allow(token.is(&self.admin), &token)
    }

    /// Who publishes a stream may watch it too.
    fn joins(&self, role: Role, token: &TokenDigest, stream: Option<&str>) -> Choice {
        let publishes = token.is(&self.publish) | any_rule(&self.publish_rules, token, stream);
        match role {
            Role::Publisher => publishes,
            Role::Viewer => publishes | any_rule(&self.view_rules, token, stream),
        }
    }

    /// Tells a token of this server that is for something else from one it does not know.
    fn allow(&self, allowed: Choice, token: &TokenDigest) -> Result<(), AuthError> {
        let known = token.is(&self.admin) | self.joins(Role::Viewer, token, None);
        match (bool::from(allowed), bool::from(known)) {
            (true, _) => Ok(()),
            (false, true) => Err(AuthError::NotAllowed),
            (false, false) => Err(AuthError::Unknown),
        }
    }
}

/// No digest in a log.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Credentials")
            .field("publish_rules", &self.publish_rules.len())
            .field("view_rules", &self.view_rules.len())
            .finish_non_exhaustive()
    }
}

impl Rule {
    fn new(pattern: &str, token: &str) -> Self {
        Self { pattern: pattern.to_owned(), token: TokenDigest::of(token) }
    }
}

impl TokenDigest {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    fn id(&self) -> TokenId {
        TokenId(self.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
    }
}

/// Whether some rule has this token and, where a stream is given, fits its name.
fn any_rule(rules: &[Rule], token: &TokenDigest, stream: Option<&str>) -> Choice {
    rules.iter().fold(Choice::from(0), |found, rule| {
        let fits = stream.is_none_or(|name| fits(&rule.pattern, name));
        found | (token.is(&rule.token) & Choice::from(u8::from(fits)))
    })
}

/// The bearer token of a request (RFC 6750 §2.1), where it has one.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(AuthError::Malformed);
    }
    let text = value.to_str().map_err(|_| AuthError::Malformed)?;
    let (scheme, token) = text.trim().split_once(' ').ok_or(AuthError::Malformed)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(AuthError::Malformed);
    }
    Ok(Some(token))
}

fn digest_of_bearer(headers: &HeaderMap) -> Result<Option<TokenDigest>, AuthError> {
    Ok(bearer(headers)?.map(TokenDigest::of))
}

/// Whether a name fits a pattern in which `*` stands for any characters.
///
/// Only the last star is ever tried again, so the work is at most pattern times name.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at_pattern, mut at_name) = (0, 0);
    let mut retry = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                retry = Some((at_pattern, at_name));
                at_pattern += 1;
            }
            Some(byte) if name.get(at_name) == Some(byte) => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    (at_pattern, at_name) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at_pattern).all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn bearing(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [
            ("*", "a/b"),
            ("lot-*", "lot-"),
            ("*-cam", "a-cam-cam"),
            ("a*c*e", "abcde"),
            ("a", "a"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("", "a"), ("lot-*", "lot"), ("a*c", "abcd"), ("a", "A"), ("*b", "")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn anybody_views_until_there_is_a_rule() {
        let open = Credentials::new("p", "a");
        let nobody = HeaderMap::new();
        assert_eq!(open.may_join(Role::Viewer, &nobody, "x"), Ok(TokenId(0)));
        assert_eq!(open.may_join(Role::Viewer, &bearing("Bearer wrong"), "x"), Ok(TokenId(0)));
        let closed = open.with_view_rule("lot-*", "v");
        assert_eq!(closed.may_join(Role::Viewer, &nobody, "lot-1"), Err(AuthError::Missing));
        assert!(closed.may_join(Role::Viewer, &bearing("Bearer v"), "lot-1").is_ok());
        assert!(closed.may_join(Role::Viewer, &bearing("Bearer p"), "lot-1").is_ok());
        let other = closed.may_join(Role::Viewer, &bearing("Bearer v"), "other");
        assert_eq!(other, Err(AuthError::NotAllowed));
    }

    #[test]
    fn a_rule_lets_its_token_publish_its_streams_only() {
        let credentials = Credentials::new("p", "a").with_publish_rule("ana/*", "t");
        let may = |value, stream| credentials.may_join(Role::Publisher, &bearing(value), stream);
        assert!(may("Bearer p", "bob").is_ok());
        assert!(may("bearer  t ", "ana/1").is_ok());
        assert_ne!(may("Bearer p", "ana/1"), may("Bearer t", "ana/1"));
        assert_eq!(may("Bearer t", "bob"), Err(AuthError::NotAllowed));
        assert_eq!(may("Bearer a", "bob"), Err(AuthError::NotAllowed));
        assert_eq!(may("Bearer pp", "bob"), Err(AuthError::Unknown));
        assert_eq!(may("Basic cDpw", "bob"), Err(AuthError::Malformed));
        assert_eq!(may("Bearer", "bob"), Err(AuthError::Malformed));
    }

    #[test]
    fn a_session_url_needs_no_token_but_takes_no_wrong_one() {
        let credentials = Credentials::new("p", "a").with_publish_rule("ana/*", "t");
        let may = |headers: &HeaderMap| credentials.may_use_session(Role::Publisher, headers);
        assert_eq!(may(&HeaderMap::new()), Ok(()));
        assert_eq!(may(&bearing("Bearer t")), Ok(()));
        assert_eq!(may(&bearing("Bearer x")), Err(AuthError::Unknown));
        assert_eq!(may(&bearing("Bearer a")), Err(AuthError::NotAllowed));
    }

    #[test]
    fn only_the_admin_token_operates() {
        let credentials = Credentials::new("p", "a");
        assert_eq!(credentials.may_operate(&bearing("Bearer a")), Ok(()));
        assert_eq!(credentials.may_operate(&bearing("Bearer p")), Err(AuthError::NotAllowed));
        assert_eq!(credentials.may_operate(&HeaderMap::new()), Err(AuthError::Missing));
    }

    #[test]
    fn no_token_shows_in_a_log() {
        let text = format!("{:?}", Credentials::new("secret", "admin").with_view_rule("*", "v"));
        assert_eq!(text, "Credentials { publish_rules: 0, view_rules: 1, .. }");
    }
}
