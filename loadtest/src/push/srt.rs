//! Publishes by SRT. The caller's packets have times that lag behind its handshake's, so that
//! libsrt holds them for less than was agreed: whoever measures latency goes by `udp` instead.

use super::mpegts::{MESSAGE_BYTES, Muxer};
use crate::source::Picture;
use crate::srt::{CallOptions, SrtCaller};
use anyhow::Context;
use bytes::Bytes;
use reqwest::Url;
use std::time::Duration;

/// Where a server listens if the address does not say.
const PORT: u16 = 8890;
/// How long what was sent last may take to be acknowledged.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A connection that the server has accepted.
pub(super) struct Srt {
    caller: SrtCaller,
    muxer: Muxer,
}

impl std::fmt::Debug for Srt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Srt").field("muxer", &self.muxer).finish_non_exhaustive()
    }
}

/// What an address says of the connection.
fn options(url: &Url) -> anyhow::Result<CallOptions> {
    let mut options = CallOptions::new("");
    let (mut passphrase, mut key_bytes) = (None, 16);
    for (name, value) in url.query_pairs() {
        match &*name {
            "streamid" => options.stream_id = value.into_owned(),
            "latency" => {
                options.latency = Duration::from_millis(value.parse().context("latency")?);
            }
            "passphrase" => passphrase = Some(value.into_owned()),
            "pbkeylen" => key_bytes = value.parse().context("pbkeylen")?,
            other => anyhow::bail!("{other} is not among what is known of SRT addresses"),
        }
    }
    anyhow::ensure!([16, 24, 32].contains(&key_bytes), "pbkeylen is 16, 24 or 32");
    options.encryption = passphrase.map(|passphrase| (key_bytes, passphrase));
    Ok(options)
}

impl Srt {
    pub(super) async fn publish(url: &Url, audio: bool) -> anyhow::Result<Self> {
        let options = options(url)?;
        let host = url.host_str().context("an address has a host")?;
        let place = (host.trim_matches(['[', ']']), url.port().unwrap_or(PORT));
        let remote = tokio::net::lookup_host(place).await?.next().context("an address")?;
        let caller = SrtCaller::call(remote, &options).await?;
        Ok(Self { caller, muxer: Muxer::new(audio) })
    }

    pub(super) async fn picture(&mut self, picture: &Picture) -> anyhow::Result<()> {
        let stream = Bytes::from(self.muxer.picture(picture));
        self.send(stream).await
    }

    pub(super) async fn audio(&mut self, ticks: u64, packet: &Bytes) -> anyhow::Result<()> {
        let stream = Bytes::from(self.muxer.audio(ticks, packet));
        self.send(stream).await
    }

    /// Each picture begins a message of its own and waits for nothing.
    async fn send(&mut self, mut stream: Bytes) -> anyhow::Result<()> {
        while !stream.is_empty() {
            let message = stream.split_to(stream.len().min(MESSAGE_BYTES));
            self.caller.send(message).await.context("the server is gone")?;
        }
        Ok(())
    }

    pub(super) async fn end(self) {
        let _ = tokio::time::timeout(END_WITHIN, self.caller.close()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_stream_id_latency_and_keys() -> anyhow::Result<()> {
        let url = "srt://host:9?streamid=publish:a:b&latency=20&passphrase=0123456789&pbkeylen=32";
        let options = options(&Url::parse(url)?)?;
        assert_eq!(options.stream_id, "publish:a:b");
        assert_eq!(options.latency, Duration::from_millis(20));
        assert_eq!(options.encryption, Some((32, "0123456789".to_owned())));
        assert!(super::options(&Url::parse("srt://host?pbkeylen=5")?).is_err());
        assert!(super::options(&Url::parse("srt://host?mode=listener")?).is_err());
        Ok(())
    }
}
