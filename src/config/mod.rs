//! The operator's words, made into checked types once at the start.
//!
//! - `acme`: a certificate that comes by itself
//! - `address`: where to listen, which addresses to announce
//! - `arguments`: the command line
//! - `auth`: tokens and who may use what with them
//! - `egress`: `[whep]`, `[hls]`, what viewers get
//! - `error`: everything that can be wrong, in the operator's words
//! - `ingest`: `[whip]`, what publishers may send
//! - `limits`: how many, how large, how long
//! - `log`: what is written about it
//! - `network`: ports, TLS, ICE servers
//! - `pattern`: which streams an option is meant for
//! - `reach`: how far an address reaches
//! - `reader`: file, environment and flags behind one look-up
//! - `rtmp`: `[rtmp]`, RTMP and RTMPS
//! - `server`: threads, state, stopping
//! - `srt`: `[srt]`, SRT in
//! - `token`: one secret, and the tokens that the first start makes
//! - `transcode`: `[transcode]`, worker processes
//!
//! A file comes first, then `MILLRACE_SECTION__KEY` variables, then flags; each overrides the one
//! before. An option is one field and one line that names its key, default and range; the same
//! line serves the check, the error and `--help`. `configs/default.toml` explains each.

pub mod acme;
pub mod address;
pub mod arguments;
pub mod auth;
pub mod egress;
pub mod error;
pub mod ingest;
pub mod limits;
pub mod log;
pub mod network;
pub mod pattern;
pub mod reach;
mod reader;
pub mod rtmp;
pub mod server;
pub mod srt;
pub mod token;
pub mod transcode;

pub use arguments::{Action, load};
pub use error::ConfigError;

use reader::Reader;

/// Everything an operator can set, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Threads, state, stopping.
    pub server: server::Server,
    /// Ports, addresses, TLS, ICE servers.
    pub network: network::Network,
    /// Who may publish, watch and administer.
    pub auth: auth::Auth,
    /// What publishers may send.
    pub whip: ingest::Whip,
    /// How streams are taken that do not come by WebRTC.
    pub ingest: ingest::Ingest,
    /// RTMP and RTMPS.
    pub rtmp: rtmp::Rtmp,
    /// SRT in.
    pub srt: srt::Srt,
    /// What viewers get.
    pub whep: egress::Whep,
    /// What players get that do not speak WebRTC.
    pub hls: egress::Hls,
    /// What is made for them that they lack.
    pub transcode: transcode::Transcode,
    /// How many, how large, how long.
    pub limits: limits::Limits,
    /// What is written to the log.
    pub log: log::Log,
}

impl Config {
    /// Reads every section; what is wrong with a value is noted in the reader.
    fn read(reader: &mut Reader) -> Self {
        Self {
            server: server::Server::read(reader),
            network: network::Network::read(reader),
            auth: auth::Auth::read(reader),
            whip: ingest::Whip::read(reader),
            ingest: ingest::Ingest::read(reader),
            rtmp: rtmp::Rtmp::read(reader),
            srt: srt::Srt::read(reader),
            whep: egress::Whep::read(reader),
            hls: egress::Hls::read(reader),
            transcode: transcode::Transcode::read(reader),
            limits: limits::Limits::read(reader),
            log: log::Log::read(reader),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::read(&mut Reader::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const DEFAULT_TOML: &str = include_str!("../../configs/default.toml");

    #[test]
    fn default_toml_parses_to_the_default() {
        let mut reader = Reader::default();
        reader.add_file(DEFAULT_TOML, "default.toml").expect("the file is TOML");
        let parsed = Config::read(&mut reader);
        reader.finish().expect("the file has no fault");
        assert_eq!(parsed, Config::default());
    }

    #[test]
    fn default_toml_mentions_every_field() {
        let table: toml::Table = DEFAULT_TOML.parse().expect("the file is TOML");
        let written: BTreeSet<String> = table
            .iter()
            .flat_map(|(section, keys)| {
                let keys = keys.as_table().expect("options stand in sections");
                keys.keys().map(move |key| format!("{section}.{key}"))
            })
            .collect();
        let mut reader = Reader::default();
        Config::read(&mut reader);
        let known = reader.finish().expect("nothing was given");
        let known: BTreeSet<String> = known.iter().map(|option| option.key.to_owned()).collect();
        assert_eq!(written, known);
    }

    #[test]
    fn default_toml_explains_every_option_right_above_it() {
        let lines: Vec<&str> = DEFAULT_TOML.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(lines[index - 1].starts_with("# "), "{line} has no comment");
            }
        }
    }
}
