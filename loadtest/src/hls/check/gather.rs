//! Watches a stream as a player would, and asks beside that what no player asks.

use super::evidence::{Evidence, Fetched, Rendition, Snapshot};
use crate::hls::playlist::{Media, MediaPlaylist, Multivariant};
use anyhow::Context;
use bytes::Bytes;
use futures_util::future::join_all;
use reqwest::Url;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A stream that is not there by then will not come.
const BEGIN_WITHIN: Duration = Duration::from_secs(20);
/// Between two attempts, and after an answer that is none.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// No answer may take longer: three target durations of ten seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Requests under way when it ends are waited for so long.
const FINISH_WITHIN: Duration = Duration::from_secs(10);
/// Attempts to ask for a playlist again before it changes.
const UNCHANGED_TRIES: usize = 8;
/// Reloads from one round of probes to the next.
const PROBE_EVERY: u64 = 8;
/// Rounds of probes.
const PROBES_MAX: usize = 12;

/// What is watched.
#[derive(Debug, Clone)]
pub struct GatherOptions {
    /// The multivariant playlist.
    pub url: String,
    /// For how long.
    pub watch: Duration,
}

/// Asks, and keeps the time.
#[derive(Debug, Clone)]
struct Asker {
    http: reqwest::Client,
    start: Instant,
}

impl Asker {
    async fn get(&self, url: Url, headers: HeaderMap) -> Fetched {
        let asked = self.start.elapsed().as_secs_f64();
        let mut fetched = Fetched { url: url.to_string(), asked, ..Fetched::default() };
        match self.answer(url, headers, &mut fetched).await {
            Ok(body) => fetched.body = body,
            Err(error) => (fetched.status, fetched.body) = (0, format!("{error:#}").into()),
        }
        fetched.answered = self.start.elapsed().as_secs_f64();
        fetched
    }

    async fn answer(
        &self,
        url: Url,
        headers: HeaderMap,
        fetched: &mut Fetched,
    ) -> reqwest::Result<Bytes> {
        let answer = self.http.get(url).headers(headers).send().await?;
        fetched.status = answer.status().as_u16();
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        fetched.headers =
            answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        answer.bytes().await
    }

    async fn plain(&self, url: Url) -> Fetched {
        self.get(url, HeaderMap::new()).await
    }

    async fn with(&self, url: Url, name: HeaderName, value: &str) -> Fetched {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
        self.get(url, headers).await
    }
}

/// A playlist's URL with directives, all in UTF-8 order (§6.2.5).
fn directed(url: &Url, directives: &[(&str, String)]) -> Url {
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    pairs.extend(directives.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    pairs.sort();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url
}

fn waiting(url: &Url, msn: u64, part: u64, skip: bool) -> Url {
    let mut directives = vec![("_HLS_msn", msn.to_string()), ("_HLS_part", part.to_string())];
    if skip {
        directives.push(("_HLS_skip", "YES".to_owned()));
    }
    directed(url, &directives)
}

/// Watches a stream.
///
/// # Errors
///
/// When there is no such stream. All else that goes wrong is part of what is found.
pub async fn gather(options: &GatherOptions) -> anyhow::Result<Evidence> {
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build()?;
    let asker = Asker { http, start: Instant::now() };
    let base = Url::parse(&options.url).with_context(|| options.url.clone())?;
    let multivariant = loop {
        let fetched = asker.plain(base.clone()).await;
        if fetched.status == 200 {
            break fetched;
        }
        let said = String::from_utf8_lossy(&fetched.body).into_owned();
        let is_over = asker.start.elapsed() > BEGIN_WITHIN;
        anyhow::ensure!(!is_over, "{base}: {} {said}", fetched.status);
        tokio::time::sleep(AGAIN_AFTER).await;
    };
    let read = Multivariant::read(&multivariant.text());
    let mut evidence = Evidence { multivariant, ..Evidence::default() };
    match read {
        Ok(master) => {
            evidence.renditions = renditions(&master);
            evidence.master = Some(master);
        }
        Err(fault) => evidence.master_fault = Some(fault),
    }
    let until = asker.start.elapsed() + options.watch;
    let watched = std::mem::take(&mut evidence.renditions).into_iter().map(|rendition| {
        let asker = asker.clone();
        let url = base.join(&rendition.uri);
        async move {
            match url {
                Ok(url) => Watcher::new(asker, url, rendition).run(until).await,
                Err(_) => rendition,
            }
        }
    });
    evidence.renditions = join_all(watched).await;
    Ok(evidence)
}

/// The media playlists that are named, each once.
fn renditions(master: &Multivariant) -> Vec<Rendition> {
    let mut found: BTreeMap<String, Rendition> = BTreeMap::new();
    for variant in &master.variants {
        let of_group = |uri: &String| {
            let ours = |media: &&Media| Some(&media.group) == variant.audio.as_ref();
            master.media.iter().filter(ours).any(|media| media.uri.as_ref() == Some(uri))
        };
        let sounds = master.media.iter().filter_map(|media| media.uri.as_ref());
        for uri in sounds.filter(|uri| of_group(uri)).chain([&variant.uri]) {
            let rendition = found.entry(uri.clone()).or_default();
            rendition.uri.clone_from(uri);
            rendition.codecs.extend(variant.codecs.iter().cloned());
            let pictures = ["avc", "hvc", "hev", "av01", "vp0"];
            let has =
                variant.codecs.iter().any(|codec| pictures.iter().any(|it| codec.starts_with(it)));
            rendition.is_video |= has && *uri == variant.uri;
        }
    }
    found.into_values().collect()
}

/// What a request beside the player's own was for.
enum Kind {
    File(String),
    Hint(String),
    Segment(u64),
    Beyond(u64),
    TooFar,
    PartAlone,
    Unknown,
    Removed,
}

/// Watches one rendition.
struct Watcher {
    asker: Asker,
    url: Url,
    rendition: Rendition,
    under_way: JoinSet<(Kind, Fetched)>,
    asked: BTreeSet<String>,
    hinted: BTreeSet<String>,
    listed: BTreeMap<u64, String>,
    rounds: usize,
}

impl Watcher {
    fn new(asker: Asker, url: Url, rendition: Rendition) -> Self {
        Self {
            asker,
            url,
            rendition,
            under_way: JoinSet::new(),
            asked: BTreeSet::new(),
            hinted: BTreeSet::new(),
            listed: BTreeMap::new(),
            rounds: 0,
        }
    }

    async fn run(mut self, until: Duration) -> Rendition {
        self.begin().await;
        let mut reloads = 0;
        while self.asker.start.elapsed() < until {
            let last = self.rendition.snapshots.last();
            let ended = last.is_some_and(|it| it.playlist.as_ref().is_ok_and(|it| it.ended));
            let Some((msn, part)) = last.and_then(Snapshot::next).filter(|_| !ended) else {
                tokio::time::sleep(AGAIN_AFTER).await;
                let fetched = self.asker.plain(self.url.clone()).await;
                self.take(Snapshot::new(fetched, None));
                if ended {
                    break;
                }
                continue;
            };
            if reloads % PROBE_EVERY == 2 && self.rounds < PROBES_MAX {
                self.rounds += 1;
                self.probe_together(msn, part).await;
            } else {
                let fetched = self.asker.plain(waiting(&self.url, msn, part, false)).await;
                self.take(Snapshot::new(fetched, Some((msn, Some(part)))));
            }
            if reloads % PROBE_EVERY == 3 && self.rounds <= PROBES_MAX {
                self.probe_apart();
            }
            reloads += 1;
            while let Some(Ok(done)) = self.under_way.try_join_next() {
                self.put(done);
            }
        }
        self.end().await
    }

    /// What is asked without directives.
    async fn begin(&mut self) {
        for _ in 0..2 {
            let fetched = self.asker.plain(self.url.clone()).await;
            self.rendition.probes.plain.push(fetched);
        }
        // It may change between two requests; that is no fault.
        for _ in 0..UNCHANGED_TRIES {
            let fetched = self.asker.plain(self.url.clone()).await;
            let Some(etag) = fetched.header("etag").map(str::to_owned) else { break };
            self.rendition.probes.plain.push(fetched);
            let again = self.asker.with(self.url.clone(), IF_NONE_MATCH, &etag).await;
            let is_unchanged = again.status == 304;
            self.rendition.probes.unchanged = vec![again];
            if is_unchanged {
                break;
            }
        }
        let changed = self.asker.with(self.url.clone(), IF_NONE_MATCH, "\"another\"").await;
        self.rendition.probes.changed.push(changed);
        let fetched = self.asker.plain(self.url.clone()).await;
        self.take(Snapshot::new(fetched, None));
    }

    /// Takes a playlist, and asks for what it lists.
    fn take(&mut self, snapshot: Snapshot) {
        if let Ok(playlist) = &snapshot.playlist {
            let playlist = playlist.clone();
            self.load(&playlist);
        }
        self.rendition.snapshots.push(snapshot);
    }

    fn load(&mut self, playlist: &MediaPlaylist) {
        let mut wanted = Vec::new();
        for segment in &playlist.segments {
            wanted.extend(segment.map.clone());
            wanted.extend(segment.parts.iter().map(|part| part.uri.clone()));
            wanted.extend(segment.uri.clone());
            if let Some(uri) = &segment.uri {
                self.listed.insert(segment.msn, uri.clone());
            }
        }
        for uri in wanted {
            if self.asked.insert(uri.clone()) {
                self.ask(Kind::File(uri.clone()), &uri);
            }
        }
        if let Some(hint) = playlist.part_hint()
            && !self.asked.contains(hint)
            && self.hinted.insert(hint.to_owned())
        {
            self.ask(Kind::Hint(hint.to_owned()), hint);
        }
        let kept = self.listed.split_off(&playlist.media_sequence);
        for (_, removed) in std::mem::replace(&mut self.listed, kept) {
            self.ask(Kind::Removed, &removed);
        }
    }

    /// Asks for a file beside what else is done.
    fn ask(&mut self, kind: Kind, uri: &str) {
        if let Ok(url) = self.url.join(uri) {
            self.ask_url(kind, url);
        }
    }

    fn ask_url(&mut self, kind: Kind, url: Url) {
        let asker = self.asker.clone();
        self.under_way.spawn(async move { (kind, asker.plain(url).await) });
    }

    /// The same playlist four times at once: as a player, again, packed, and as a delta update.
    async fn probe_together(&mut self, msn: u64, part: u64) {
        let asker = self.asker.clone();
        let whole = waiting(&self.url, msn, part, false);
        let (fetched, plain, packed, delta) = tokio::join!(
            asker.plain(whole.clone()),
            asker.plain(whole.clone()),
            asker.with(whole.clone(), ACCEPT_ENCODING, "gzip"),
            asker.plain(waiting(&self.url, msn, part, true)),
        );
        let wanted = Some((msn, Some(part)));
        let snapshot = Snapshot::new(fetched, wanted);
        let can_skip = snapshot.playlist.as_ref().ok().and_then(|it| it.control?.can_skip_until);
        if can_skip.is_some() {
            let delta = Snapshot::new(delta, wanted);
            self.rendition.probes.deltas.push((snapshot.clone(), delta));
        }
        self.rendition.probes.twins.push((plain, packed));
        self.take(snapshot);
    }

    /// What no player asks.
    fn probe_apart(&mut self) {
        let Some(playlist) = self.rendition.last().cloned() else { return };
        let Some((msn, _)) = self.rendition.snapshots.last().and_then(Snapshot::next) else {
            return;
        };
        let asking = |name: &'static str, value: u64| (name, value.to_string());
        let url = self.url.clone();
        self.ask_url(Kind::TooFar, directed(&url, &[asking("_HLS_msn", msn + 10)]));
        self.ask_url(Kind::PartAlone, directed(&url, &[asking("_HLS_part", 0)]));
        self.ask_url(Kind::Segment(msn), directed(&url, &[asking("_HLS_msn", msn)]));
        let whole = playlist.complete().rfind(|segment| !segment.parts.is_empty());
        if let Some(segment) = whole {
            let part = segment.parts.len() as u64;
            self.ask_url(Kind::Beyond(segment.msn), waiting(&url, segment.msn, part, false));
        }
        self.ask(Kind::Unknown, "there-is-none_video_7.m4s");
    }

    fn put(&mut self, (kind, fetched): (Kind, Fetched)) {
        let probes = &mut self.rendition.probes;
        match kind {
            Kind::File(uri) => drop(self.rendition.files.insert(uri, fetched)),
            Kind::Hint(uri) => drop(self.rendition.hints.insert(uri, fetched)),
            Kind::Segment(msn) => probes.segment.push((msn, Snapshot::new(fetched, None))),
            Kind::Beyond(msn) => probes.beyond.push((msn, Snapshot::new(fetched, None))),
            Kind::TooFar => probes.too_far.push(fetched),
            Kind::PartAlone => probes.part_alone.push(fetched),
            Kind::Unknown => probes.unknown.push(fetched),
            Kind::Removed => probes.removed.push(fetched),
        }
    }

    /// Waits for what is under way; what does not come in time, say a part that is hinted at and
    /// never made, is left out.
    async fn end(mut self) -> Rendition {
        let deadline = tokio::time::sleep(FINISH_WITHIN);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                done = self.under_way.join_next() => match done {
                    Some(Ok(done)) => self.put(done),
                    Some(Err(_)) => {}
                    None => break,
                },
                () = &mut deadline => break,
            }
        }
        self.rendition
    }
}
