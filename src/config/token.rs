//! One secret, and the pair of tokens that the first start makes.
//!
//! Randomness comes in as an argument, and so does the directory: the tests have their own.

use super::auth::Auth;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A secret that a client shows as `Authorization: Bearer ..` (RFC 6750 §2.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// What `parse` understands, in words.
    pub(super) const TAKES: &str = "a token of 1 to 256 letters, digits and - . _ ~ + / =";

    /// Reads what a bearer header can carry: `b64token` of RFC 6750 §2.1. No separator of a URL
    /// query or of an SRT stream id is among it, so that one token works everywhere.
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        ((1..=256).contains(&text.len()) && text.bytes().all(legal)).then(|| Self(text.into()))
    }

    /// The secret itself: for comparing it, keeping it, and printing it once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Makes a token of 20 random bytes: 160 bits in 32 letters and digits that nobody mistakes
    /// for others.
    fn from_random(bytes: &[u8; 20]) -> Self {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut text = String::with_capacity(32);
        for five in bytes.chunks_exact(5) {
            let bits = five.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
            for shift in (0..8).rev() {
                text.push(char::from(DIGITS[(bits >> (shift * 5)) as usize & 31]));
            }
        }
        Self(text.into())
    }
}

/// Never shows the secret: configurations are logged.
impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(..)")
    }
}

/// The two tokens a server always has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Publishes any stream.
    pub publish: Token,
    /// Reads `/api`, `/metrics` and the list of streams.
    pub admin: Token,
    /// The file in which those are kept that the operator has not set; where he has set both there
    /// is none.
    pub kept_in: Option<PathBuf>,
    /// The operator has set the one for publishing: it is his secret, and printed nowhere.
    pub publish_is_set: bool,
    /// The same of the other.
    pub admin_is_set: bool,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error(
        "cannot keep the tokens in {path}: {error}; set server.state_directory to a directory \
             that this user may write to, or set auth.publish_token and auth.admin_token"
    )]
    Storage {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is there, and is not what the first start wrote.
    #[error("{path} holds no two tokens; delete it to have new ones made")]
    Damaged {
        /// Which.
        path: PathBuf,
    },
}

/// The operator's tokens; for each that is missing, the one kept in the state directory.
///
/// Where there is none yet, `random` becomes the first pair, which is kept for good in
/// `tokens.toml` (mode 0600, so that only the server's user reads it).
///
/// # Errors
///
/// [`TokenError`] where the state directory cannot be used.
pub fn load_or_make(
    auth: &Auth,
    state_directory: &Path,
    random: &[[u8; 20]; 2],
) -> Result<Tokens, TokenError> {
    let [publish_is_set, admin_is_set] =
        [&auth.publish_token, &auth.admin_token].map(Option::is_some);
    if let (Some(publish), Some(admin)) = (&auth.publish_token, &auth.admin_token) {
        let (publish, admin) = (publish.clone(), admin.clone());
        return Ok(Tokens { publish, admin, kept_in: None, publish_is_set, admin_is_set });
    }
    let path = state_directory.join("tokens.toml");
    let storage = |error| TokenError::Storage { path: path.clone(), error };
    let (publish, admin) = match fs::read_to_string(&path) {
        Ok(text) => {
            // Somebody may have copied the file with a careless mask.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(storage)?;
            parse(&text).ok_or_else(|| TokenError::Damaged { path: path.clone() })?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = (Token::from_random(&random[0]), Token::from_random(&random[1]));
            keep(state_directory, &path, &made.0, &made.1).map_err(storage)?;
            made
        }
        Err(error) => return Err(storage(error)),
    };
    Ok(Tokens {
        publish: auth.publish_token.clone().unwrap_or(publish),
        admin: auth.admin_token.clone().unwrap_or(admin),
        kept_in: Some(path),
        publish_is_set,
        admin_is_set,
    })
}

/// Writes both tokens, whole or not at all.
fn keep(directory: &Path, path: &Path, publish: &Token, admin: &Token) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let text = format!(
        "# Made at the first start. Delete this file to have new tokens made.\n\
         publish_token = \"{}\"\nadmin_token = \"{}\"\n",
        publish.reveal(),
        admin.reveal(),
    );
    let unfinished = path.with_extension("toml.new");
    // A left-over of a crashed start may have any mode, which opening would not change.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Reads what [`keep`] wrote.
fn parse(text: &str) -> Option<(Token, Token)> {
    let table: toml::Table = text.parse().ok()?;
    let token = |key: &str| Token::parse(table.get(key)?.as_str()?);
    Some((token("publish_token")?, token("admin_token")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that goes with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("millrace-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("the temporary directory is writable");
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("the test made it");
        }
    }

    const FIRST: [[u8; 20]; 2] = [[1; 20], [2; 20]];
    const SECOND: [[u8; 20]; 2] = [[3; 20], [4; 20]];

    fn configured(publish: &str, admin: &str) -> Auth {
        Auth {
            publish_token: Token::parse(publish),
            admin_token: Token::parse(admin),
            ..Auth::default()
        }
    }

    #[test]
    fn the_first_start_makes_tokens_and_the_second_finds_them() {
        let directory = Directory::new("tokens-kept");
        let state = directory.0.join("new/state");
        let first = load_or_make(&Auth::default(), &state, &FIRST).expect("made");
        let second = load_or_make(&Auth::default(), &state, &SECOND).expect("found");
        assert_eq!(first, second);
        assert_ne!(first.publish, first.admin);
        assert_eq!(first.publish.reveal().len(), 32);
    }

    #[test]
    fn only_the_servers_user_may_read_the_file() {
        let directory = Directory::new("tokens-mode");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let tokens = load_or_make(&Auth::default(), &directory.0, &FIRST).expect("made");
        let path = tokens.kept_in.expect("kept");
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        load_or_make(&Auth::default(), &directory.0, &FIRST).expect("found");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn configured_tokens_need_no_file() {
        let directory = Directory::new("tokens-configured");
        let tokens =
            load_or_make(&configured("pub", "adm"), &directory.0, &FIRST).expect("configured");
        assert_eq!((tokens.publish.reveal(), tokens.admin.reveal()), ("pub", "adm"));
        assert_eq!(tokens.kept_in, None);
        assert_eq!(fs::read_dir(&directory.0).expect("there").count(), 0);
    }

    #[test]
    fn the_one_that_is_missing_is_made() {
        let directory = Directory::new("tokens-half");
        let tokens = load_or_make(&configured("pub", ""), &directory.0, &FIRST).expect("made");
        assert_eq!(tokens.publish.reveal(), "pub");
        assert_eq!(tokens.admin, Token::from_random(&FIRST[1]));
    }

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let directory = Directory::new("tokens-damaged");
        let path = directory.0.join("tokens.toml");
        fs::write(&path, "publish_token = 7").expect("writable");
        let error = load_or_make(&Auth::default(), &directory.0, &FIRST).expect_err("damaged");
        assert!(error.to_string().contains("tokens.toml holds no two tokens"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let error = load_or_make(&Auth::default(), Path::new("/dev/null/state"), &FIRST)
            .expect_err("no directory");
        assert!(error.to_string().contains("/dev/null/state/tokens.toml"), "{error}");
        assert!(error.to_string().contains("server.state_directory"), "{error}");
    }

    #[test]
    fn random_bits_all_reach_the_token() {
        let mut bytes = [0; 20];
        let zero = Token::from_random(&bytes);
        for bit in 0..160 {
            bytes[bit / 8] = 1 << (bit % 8);
            let other = Token::from_random(&bytes);
            let changed = zero.reveal().bytes().zip(other.reveal().bytes());
            assert_eq!(changed.filter(|(a, b)| a != b).count(), 1, "bit {bit}");
            bytes[bit / 8] = 0;
        }
    }

    #[test]
    fn tokens_are_what_a_bearer_header_carries() {
        for bad in ["", "a b", "a,b", "a\"", "ä", "a&b", "a?b"] {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
        assert!(Token::parse(&"x".repeat(257)).is_none());
        assert_eq!(format!("{:?}", Token::parse("secret")), "Some(Token(..))");
    }
}
