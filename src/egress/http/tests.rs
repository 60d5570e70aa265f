//! Who asks for what there is, for what comes next, and for what never comes.

use super::Render;
use super::answers::{Answer, Ask, Directives, Refused};
use super::presentation::{Position, Presentation, Rendition};
use super::store::Store;
use crate::config::Config;
use crate::media::frame::{AudioCoding, Coding};
use crate::media::id::StreamName;
use crate::media::layer::LayerId;
use crate::media::sample::Sample;
use crate::media::time::WallTime;
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

type Text = Arc<String>;

/// Where the numbers of segments begin: the seconds since 1970.
const FIRST: u64 = 1_764_148_000;

/// Sound of one publisher, on its way into a store.
struct Rig {
    store: Arc<Store<Text>>,
    stream: StreamName,
    frames: i64,
    start: Instant,
}

fn as_it_is(text: String, _max_age: Duration) -> Text {
    Arc::new(text)
}

fn rig_with(render: Render<Text>) -> Rig {
    let start = Instant::now();
    let wall = WallTime::since_unix_epoch(Duration::from_secs(FIRST));
    let store = Arc::new(Store::new(&Config::default().hls, render, start, wall));
    store.change(|presentation| {
        presentation.begin("run", None);
        presentation.hurry();
    });
    Rig { store, stream: StreamName::parse("lot-42").expect("a name"), frames: 0, start }
}

fn rig() -> Rig {
    rig_with(as_it_is)
}

impl Rig {
    /// So many frames of AAC at 48 kHz; nine are a part.
    fn sound(&mut self, frames: i64) {
        for _ in 0..frames {
            let ticks = self.frames * 1_920;
            self.frames += 1;
            self.push(AudioCoding::Aac(Arc::from([0x11, 0x90].as_slice())), ticks);
        }
    }

    fn push(&self, coding: AudioCoding, ticks: i64) {
        let millis = ticks.unsigned_abs() / 90;
        self.store.change(|presentation| {
            presentation.push(Sample {
                coding: Coding::Audio(coding),
                layer: LayerId::ONLY,
                decode_ticks: ticks,
                present_ticks: ticks,
                wall: WallTime::since_unix_epoch(Duration::from_millis(millis)),
                starts: true,
                arrival: self.start + Duration::from_millis(millis),
                data: Bytes::from_static(&[0x21; 300]),
            });
        });
    }

    fn position(&self) -> Position {
        self.store.edge(Rendition::Aac).borrow().expect("there are parts")
    }

    fn ask(&self, file: &str, directives: Directives) -> JoinHandle<Result<Answer<Text>, Refused>> {
        let (store, stream, file) = (Arc::clone(&self.store), self.stream.clone(), file.to_owned());
        tokio::spawn(async move {
            let ask = Ask { stream: &stream, file: &file, directives, query: "" };
            store.answer(&ask).await
        })
    }

    async fn playlist(&self, directives: Directives) -> Result<Text, Refused> {
        let answer = self.ask("aac.m3u8", directives).await.expect("no fault")?;
        let Answer::Playlist(text) = answer else { unreachable!("a playlist was asked for") };
        Ok(text)
    }
}

fn blocking(msn: u64, part: Option<u64>) -> Directives {
    Directives { msn: Some(msn), part, skip: false }
}

/// The last name behind this in a playlist.
fn last_name<'a>(playlist: &'a str, before: &str) -> &'a str {
    let (_, behind) = playlist.rsplit_once(before).expect("it is there");
    behind.split('"').next().expect("a name")
}

/// Lets all that can go on do so.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_first_playlist_is_waited_for() {
    let mut rig = rig();
    let first = rig.ask("index.m3u8", Directives::default());
    settle().await;
    assert!(!first.is_finished());
    rig.sound(60);
    let Ok(Ok(Answer::Playlist(text))) = first.await else { unreachable!("it is there") };
    assert!(text.contains("aac.m3u8"), "{text}");
}

#[tokio::test]
async fn a_blocking_reload_waits_for_just_what_it_names() {
    let mut rig = rig();
    rig.sound(60);
    let position = rig.position();
    let waiting = rig.ask("aac.m3u8", blocking(position.msn, Some(position.parts)));
    let segment = rig.ask("aac.m3u8", blocking(position.msn, None));
    settle().await;
    assert!(!waiting.is_finished() && !segment.is_finished());
    rig.sound(10);
    let Ok(Ok(Answer::Playlist(text))) = waiting.await else { unreachable!("it is there") };
    assert!(text.matches("#EXT-X-PART:").count() as u64 > position.parts);
    settle().await;
    assert!(!segment.is_finished(), "the segment is not complete");
    rig.sound(100);
    assert!(segment.await.is_ok_and(|answer| answer.is_ok()));
    let newest = rig.position().msn;
    let far = rig.playlist(blocking(newest + 3, None)).await;
    assert_eq!(far, Err(Refused::TooFarAhead { asked: newest + 3, newest }));
}

#[tokio::test]
async fn all_who_ask_for_the_same_get_one_rendering() {
    static RENDERED: AtomicUsize = AtomicUsize::new(0);
    let mut rig = rig_with(|text, _| {
        RENDERED.fetch_add(1, Ordering::Relaxed);
        Arc::new(text)
    });
    rig.sound(60);
    let first = rig.playlist(Directives::default()).await.expect("a playlist");
    for _ in 0..10 {
        let again = rig.playlist(Directives::default()).await.expect("a playlist");
        assert!(Arc::ptr_eq(&first, &again));
    }
    assert_eq!(RENDERED.load(Ordering::Relaxed), 1);
    rig.sound(10);
    let later = rig.playlist(Directives::default()).await.expect("a playlist");
    assert_ne!(first, later);
}

/// Two who ask a cache and the server must not find two playlists under one URL.
#[tokio::test]
async fn a_playlist_stays_as_it_was_rendered_while_only_others_go_on() {
    let mut rig = rig();
    for frame in 0..60 {
        rig.push(AudioCoding::Opus, frame * 1_800);
    }
    rig.sound(60);
    let first = rig.playlist(Directives::default()).await.expect("a playlist");
    for frame in 60..90 {
        rig.push(AudioCoding::Opus, frame * 1_800);
    }
    let other = rig.store.edge(Rendition::Opus).borrow().expect("there are parts");
    let again = rig.playlist(Directives::default()).await.expect("a playlist");
    assert!(Arc::ptr_eq(&first, &again));
    rig.sound(10);
    let later = rig.playlist(Directives::default()).await.expect("a playlist");
    let told = format!("LAST-MSN={},LAST-PART={}", other.msn, other.parts.saturating_sub(1));
    assert!(later.contains(&told) && !first.contains(&told), "{told}: {later}");
}

#[tokio::test]
async fn what_is_hinted_at_waits_and_a_segment_comes_part_by_part() {
    let mut rig = rig();
    rig.sound(60);
    let text = rig.playlist(Directives::default()).await.expect("a playlist");
    let hinted = last_name(&text, "TYPE=PART,URI=\"").to_owned();
    let waiting = rig.ask(&hinted, Directives::default());
    settle().await;
    assert!(!waiting.is_finished());
    let newest = rig.position().msn;
    let name = format!("run_aac_{newest}.m4s");
    let growing = rig.ask(&name, Directives::default()).await.expect("no fault");
    let Ok(Answer::Growing(mut parts)) = growing else { unreachable!("it is being made") };
    let mut grown = Vec::new();
    grown.extend_from_slice(&parts.next().await.expect("a part").expect("bytes"));
    rig.sound(100);
    let Ok(Ok(Answer::Media(part))) = waiting.await else { unreachable!("it is there") };
    assert!(!part.is_empty());
    while let Some(part) = parts.next().await {
        grown.extend_from_slice(&part.expect("bytes"));
    }
    let whole = rig.ask(&name, Directives::default()).await.expect("no fault");
    let Ok(Answer::Media(whole)) = whole else { unreachable!("it is complete") };
    assert_eq!(grown, whole);
}

#[tokio::test]
async fn what_there_is_not_is_refused_at_once() {
    let mut rig = rig();
    rig.sound(60);
    for name in ["run_aac_999.m4s", "run_video_0.m4s", "other_aac_0.m4s", "favicon.ico", "_", ""] {
        let answer = rig.ask(name, Directives::default()).await.expect("no fault");
        assert_eq!(answer.err(), Some(Refused::NotFound), "{name}");
    }
    let video = rig.ask("video.m3u8", Directives::default()).await.expect("no fault");
    assert_eq!(video.err(), Some(Refused::NotFound), "there is no picture");
}

#[tokio::test]
async fn what_cannot_be_packaged_says_so_to_all_who_wait() {
    let rig = rig();
    let waiting = rig.ask("index.m3u8", Directives::default());
    settle().await;
    rig.store.refuse("VP8 needs the transcoder".to_owned());
    let refused = waiting.await.expect("no fault").err();
    assert_eq!(refused, Some(Refused::NotPlayable("VP8 needs the transcoder".to_owned())));
}

#[tokio::test]
async fn at_the_end_nobody_waits_any_more() {
    let mut rig = rig();
    rig.sound(60);
    let position = rig.position();
    let waiting = rig.ask("aac.m3u8", blocking(position.msn + 1, Some(3)));
    settle().await;
    rig.store.change(Presentation::end);
    let Ok(Ok(Answer::Playlist(text))) = waiting.await else { unreachable!("it is there") };
    assert!(text.contains("#EXT-X-ENDLIST"), "{text}");
}

#[tokio::test]
async fn who_waits_is_told_when_the_server_stops() {
    let mut rig = rig();
    rig.sound(60);
    let position = rig.position();
    let waiting = rig.ask("aac.m3u8", blocking(position.msn + 1, None));
    settle().await;
    rig.store.close();
    assert_eq!(waiting.await.expect("no fault").err(), Some(Refused::Closed));
}

#[tokio::test]
async fn who_sends_what_can_be_packaged_is_not_refused_for_what_came_before() {
    let mut rig = rig();
    rig.store.refuse("VP8".to_owned());
    assert_eq!(rig.playlist(Directives::default()).await, Err(Refused::NotPlayable("VP8".into())));
    rig.store.accept();
    rig.sound(60);
    assert!(rig.playlist(Directives::default()).await.is_ok());
    rig.store.refuse("VP9".to_owned());
    rig.store.accept();
    assert!(rig.playlist(Directives::default()).await.is_ok());
}

#[tokio::test]
async fn numbers_of_segments_go_on_where_a_stream_is_packaged_anew() {
    let mut rig = rig();
    rig.sound(60);
    let text = rig.playlist(blocking(7, Some(3))).await.expect("a playlist");
    assert!(text.contains(&format!("#EXT-X-MEDIA-SEQUENCE:{FIRST}\n")), "{text}");
}

#[tokio::test]
async fn what_comes_next_is_hinted_at_as_the_next_publisher_calls_it() {
    let mut rig = rig();
    rig.sound(60);
    rig.store.change(Presentation::end);
    assert!(rig.playlist(Directives::default()).await.is_ok());
    rig.store.begin("two", None);
    let text = rig.playlist(Directives::default()).await.expect("a playlist");
    assert_eq!(last_name(&text, "TYPE=PART,URI=\""), "two_aac_part0.m4s");
}
