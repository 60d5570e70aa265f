//! How a player in low-latency mode follows one rendition (draft-pantos-hls-rfc8216bis-16 §6.3): it
//! waits for the playlist with the next part, and for the part that is hinted at, at once. Pure.

use super::listing::{ListedPart, Listing};
use super::playback::Playback;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

/// What is loaded now.
#[derive(Debug, Clone)]
enum Load {
    Map,
    /// A part, and what the playlist says of it once it lists it.
    Part {
        target: Rc<str>,
        listed: Option<ListedPart>,
    },
}

/// What a part that has come is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loaded {
    /// When what it shows is over, in microseconds since the Unix epoch.
    pub(super) ends: i64,
}

/// One rendition of one player.
#[derive(Debug)]
pub(super) struct Follower {
    /// Path and query of its playlist.
    playlist: Rc<str>,
    rendition: usize,
    skip: bool,
    /// The newest part that was listed.
    newest: Option<(u64, u64)>,
    waiting: VecDeque<ListedPart>,
    hint: Option<Rc<str>>,
    next: (u64, u64),
    can_skip: bool,
    loading: Option<Load>,
    /// Came before it was listed.
    unlisted: Option<Rc<str>>,
    map: Rc<str>,
    has_listing: bool,
    pub(super) ended: bool,
}

impl Follower {
    pub(super) fn new(playlist: Rc<str>, rendition: usize, skip: bool) -> Self {
        Self {
            playlist,
            rendition,
            skip,
            newest: None,
            waiting: VecDeque::new(),
            hint: None,
            next: (0, 0),
            can_skip: false,
            loading: None,
            unlisted: None,
            map: "".into(),
            has_listing: false,
            ended: false,
        }
    }

    /// Its playlist's path and query, without directives.
    pub(super) fn playlist(&self) -> &Rc<str> {
        &self.playlist
    }

    /// Writes the next request for the playlist; false where there is none to make.
    pub(super) fn ask_playlist(&self, target: &mut String) -> bool {
        use std::fmt::Write as _;
        if self.ended {
            return false;
        }
        if !self.has_listing {
            target.push_str(&self.playlist);
            return true;
        }
        let (msn, part) = self.next;
        // Parameters stand in UTF-8 order (§6.2.5), and a token's name is in lower case.
        let (path, query) = self.playlist.split_once('?').unwrap_or((&self.playlist, ""));
        // Writing to a string cannot fail.
        let _ = write!(target, "{path}?_HLS_msn={msn}&_HLS_part={part}");
        if self.skip && self.can_skip {
            target.push_str("&_HLS_skip=YES");
        }
        if !query.is_empty() {
            target.push('&');
            target.push_str(query);
        }
        true
    }

    /// Whether what it waits for does not exist yet.
    pub(super) fn blocks(&self) -> bool {
        self.has_listing
    }

    /// The playlist has come.
    pub(super) fn take_listing(
        &mut self,
        listing: &Listing,
        playback: &mut Playback,
        now: Instant,
    ) -> Option<Loaded> {
        let mut credited = None;
        if !self.has_listing {
            let end = listing.end()?;
            playback.open(self.rendition, end, listing.hold_back_us, listing.part_us);
            self.has_listing = true;
            self.newest = before_start(listing, end - listing.hold_back_us);
        }
        for part in &listing.parts {
            if self.newest.is_some_and(|newest| (part.msn, part.part) <= newest) {
                continue;
            }
            self.newest = Some((part.msn, part.part));
            if self.unlisted.as_ref().is_some_and(|target| **target == *part.target) {
                self.unlisted = None;
                credited = Some(self.credit(part, playback, now));
                continue;
            }
            match &mut self.loading {
                Some(Load::Part { target, listed }) if **target == *part.target => {
                    *listed = Some(part.clone());
                }
                _ => self.waiting.push_back(part.clone()),
            }
        }
        self.take_hint(listing.hint.as_ref());
        self.next = listing.next;
        self.can_skip = listing.can_skip;
        self.ended = listing.ended;
        if self.ended {
            playback.end_of_stream(now);
        }
        credited
    }

    /// What is hinted at is asked for once. What came and is neither listed nor hinted at any more
    /// will not be listed: plans may change (§4.4.5.3).
    fn take_hint(&mut self, hint: Option<&Rc<str>>) {
        if self.unlisted.as_ref() != hint {
            self.unlisted = None;
        }
        let is_loading = match &self.loading {
            Some(Load::Part { target, .. }) => Some(target) == hint,
            _ => false,
        };
        let is_asked = is_loading || self.unlisted.is_some();
        self.hint = hint.filter(|_| !is_asked).cloned();
    }

    fn credit(&self, part: &ListedPart, playback: &mut Playback, now: Instant) -> Loaded {
        playback.load(self.rendition, part.begins, part.lasts_us, now);
        Loaded { ends: part.begins + part.lasts_us }
    }

    /// Writes the next request for media; false where there is none to make, or one is under way.
    pub(super) fn ask_media(&mut self, target: &mut String) -> bool {
        if self.loading.is_some() {
            return false;
        }
        if let Some(part) = self.waiting.front() {
            // A delta update names no map that was named before what it skips (§6.2.5.1).
            if !part.map.is_empty() && *part.map != *self.map {
                self.map = part.map.clone();
                target.push_str(&self.map);
                self.loading = Some(Load::Map);
                return true;
            }
            target.push_str(&part.target);
            let listed = self.waiting.pop_front();
            self.loading =
                listed.map(|it| Load::Part { target: it.target.clone(), listed: Some(it) });
            return true;
        }
        if self.ended || self.unlisted.is_some() {
            return false;
        }
        let Some(hint) = self.hint.take() else { return false };
        target.push_str(&hint);
        self.loading = Some(Load::Part { target: hint, listed: None });
        true
    }

    /// What was asked for has come.
    pub(super) fn take_media(&mut self, playback: &mut Playback, now: Instant) -> Option<Loaded> {
        match self.loading.take()? {
            Load::Map => None,
            Load::Part { listed: Some(part), .. } => Some(self.credit(&part, playback, now)),
            Load::Part { target, listed: None } => {
                self.unlisted = Some(target);
                None
            }
        }
    }

    /// What was asked for will not come.
    pub(super) fn lose_media(&mut self) {
        self.loading = None;
    }
}

/// The part before the one to begin with: the last from which decoding can start, at or before
/// this time.
fn before_start(listing: &Listing, position: i64) -> Option<(u64, u64)> {
    let starts = || listing.parts.iter().enumerate().filter(|(_, part)| part.independent);
    let before = starts().rfind(|(_, part)| part.begins <= position);
    let (at, _) = before.or_else(|| starts().next())?;
    let before = listing.parts.get(at.checked_sub(1)?)?;
    Some((before.msn, before.part))
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::text;
    use super::*;
    use crate::hls::playlist::Fault;

    struct Player {
        follower: Follower,
        playback: Playback,
        now: Instant,
    }

    impl Player {
        fn new() -> Self {
            let now = Instant::now();
            let follower = Follower::new("/v.m3u8?t=1".into(), 0, true);
            Self { follower, playback: Playback::new(1, now), now }
        }

        fn listing(&mut self, msn: u64, parts: u64) -> Result<Option<Loaded>, Fault> {
            let listing = Listing::new(text(msn, parts).as_bytes(), "/v.m3u8")?;
            Ok(self.follower.take_listing(&listing, &mut self.playback, self.now))
        }

        fn ask(&mut self) -> Option<String> {
            let mut target = String::new();
            self.follower.ask_media(&mut target).then_some(target)
        }

        fn media(&mut self) -> Option<Loaded> {
            self.follower.take_media(&mut self.playback, self.now)
        }

        fn asks_playlist(&self) -> String {
            let mut target = String::new();
            self.follower.ask_playlist(&mut target);
            target
        }
    }

    #[test]
    fn it_begins_where_decoding_can_start_and_goes_on_with_the_hint() -> Result<(), Fault> {
        let mut player = Player::new();
        assert_eq!(player.asks_playlist(), "/v.m3u8?t=1");
        player.listing(9, 1)?;
        assert_eq!(player.asks_playlist(), "/v.m3u8?_HLS_msn=9&_HLS_part=1&t=1");
        // It ends at 3.8 s; 0.6 s before that segment 8 begins.
        let mut asked = Vec::new();
        while let Some(target) = player.ask() {
            if target == "/9.1" {
                break;
            }
            asked.push(target);
            player.media();
        }
        assert_eq!(asked, ["/i.mp4", "/8.0", "/8.1", "/9.0"]);
        assert_eq!(player.playback.position(), Some(3_200_000));
        Ok(())
    }

    #[test]
    fn a_delta_update_without_a_map_goes_on_with_the_one_there_is() -> Result<(), Fault> {
        let mut player = Player::new();
        player.listing(9, 1)?;
        while player.ask().is_some_and(|target| target != "/9.1") {
            player.media();
        }
        let text = text(10, 2).replace("\n#EXT-X-MAP:URI=\"i.mp4\"", "");
        let listing = Listing::new(text.as_bytes(), "/v.m3u8")?;
        player.follower.take_listing(&listing, &mut player.playback, player.now);
        player.media();
        assert_eq!(player.ask().as_deref(), Some("/10.0"));
        Ok(())
    }

    #[test]
    fn a_hinted_part_counts_once_it_is_there_and_listed() -> Result<(), Fault> {
        let mut player = Player::new();
        player.listing(9, 1)?;
        while player.ask().is_some_and(|target| target != "/9.1") {
            player.media();
        }
        // It comes before the playlist lists it, and the next one after.
        assert_eq!(player.media(), None);
        assert_eq!(player.ask(), None);
        assert_eq!(player.listing(9, 2)?, Some(Loaded { ends: 4_000_000 }));
        assert_eq!(player.ask().as_deref(), Some("/10.0"));
        assert_eq!(player.listing(10, 1)?, None);
        assert_eq!(player.media(), Some(Loaded { ends: 4_200_000 }));
        assert_eq!(player.ask().as_deref(), Some("/10.1"));
        Ok(())
    }
}
