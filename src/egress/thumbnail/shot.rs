//! One thumbnail: from a tap that is opened for it to a worker's JPEG.

use super::search::{Search, Step};
use super::{Refused, Tools};
use crate::egress::source::{Found, Source};
use crate::engine::tap::Tapped;
use crate::media::codec::Kind;
use crate::media::id::StreamName;
use crate::transcode::StillError;
use crate::transcode::picture::SourceFrame;
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::time::{sleep_until, timeout};
use tracing::debug;

/// Twice the lines of the box in which the first page shows it: screens have two pixels for one.
const HEIGHT: u16 = 270;
/// A publisher that is there is told of at once: without one by then it has left.
const BEGIN_MAX: Duration = Duration::from_secs(2);
/// How long frames are looked for, whatever comes.
const SEARCH_MAX: Duration = Duration::from_secs(7);
/// How long a worker may take: twelve seconds of 1080p60 it decodes in five on a slow core.
const WORKER_MAX: Duration = Duration::from_secs(6);
/// Ten times what a picture of noise has.
const BYTES_MAX: usize = 512 << 10;
/// What a JPEG begins with (ITU-T T.81 §B.1.1.3): a worker is not trusted to make one.
const START: [u8; 3] = [0xff, 0xd8, 0xff];

/// Makes a thumbnail of what is sent now.
pub(super) async fn make(tools: &Tools, stream: &StreamName) -> Result<Bytes, Refused> {
    match timeout(WORKER_MAX, tools.transcoder.probed()).await {
        Ok(Ok(_)) => {}
        Ok(Err(reason)) => return Err(Refused::Unavailable(reason.to_string())),
        Err(_) => return Err(failed(stream, "it is not known yet what workers can do")),
    }
    let frames = timeout(SEARCH_MAX, find(tools, stream)).await;
    let frames = frames.unwrap_or(Err(Refused::NoKeyframe))?;
    let jpeg = match timeout(WORKER_MAX, tools.transcoder.still(&frames, HEIGHT)).await {
        Ok(Ok(jpeg)) => jpeg,
        Ok(Err(StillError::Unavailable(reason))) => {
            return Err(Refused::Unavailable(reason.to_string()));
        }
        Ok(Err(StillError::Fault(fault))) => return Err(failed(stream, &fault)),
        Err(_) => return Err(failed(stream, "it takes too long")),
    };
    if jpeg.len() > BYTES_MAX || !jpeg.starts_with(&START) {
        return Err(failed(stream, "that is no JPEG"));
    }
    Ok(jpeg.into())
}

/// Whoever asked has no use for what the worker said.
fn failed(stream: &StreamName, fault: &str) -> Refused {
    debug!(%stream, fault, "no thumbnail could be made");
    Refused::Failed
}

/// Finds what it is made of.
async fn find(tools: &Tools, stream: &StreamName) -> Result<Vec<SourceFrame>, Refused> {
    let mut tap = tools.bus.tap(stream);
    let mut source = Source::of_any_codec(tools.epoch);
    let mut search: Option<Search> = None;
    let begins_by = tools.clock.now() + BEGIN_MAX;
    loop {
        let now = tools.clock.now();
        let due = match search.as_mut().map(|search| search.step(now)) {
            None if now >= begins_by => return Err(Refused::NotLive),
            None => begins_by,
            Some(Step::Wait(until)) => until,
            Some(Step::Ask) => {
                tap.want_keyframe();
                continue;
            }
            Some(Step::Found(frames)) => return Ok(frames),
            Some(Step::NoPicture) => return Err(Refused::NoPicture),
            Some(Step::NoKeyframe) => return Err(Refused::NoKeyframe),
        };
        let due = source.deadline().map_or(due, |overdue| overdue.min(due));
        let mut found = Vec::new();
        tokio::select! {
            tapped = tap.next() => {
                let Some(tapped) = tapped else { return Err(Refused::Busy) };
                if let Some(search) = search.as_mut().filter(|_| is_of_picture(&tapped)) {
                    search.see_picture();
                }
                source.take(tapped, tools.clock.now(), &mut |it| found.push(it));
            }
            () = sleep_until(due.into()) => {
                source.handle_timeout(tools.clock.now(), &mut |it| found.push(it));
            }
        }
        for it in found {
            if matches!(it, Found::Gap(_)) {
                tap.want_keyframe();
            }
            take(it, &mut search, tools.clock.now());
        }
    }
}

fn take(found: Found, search: &mut Option<Search>, now: Instant) {
    if let Found::Began { takes_requests, .. } = found {
        *search = Some(Search::new(HEIGHT, takes_requests, now));
    }
    let Some(present) = search else { return };
    match found {
        Found::Sample(sample) => present.take(&sample),
        Found::Gap(layer) => present.miss(layer),
        Found::Layers(layers) => present.set_layers(&layers),
        Found::Left => *search = None,
        Found::Began { .. } | Found::NeedsMade(_) | Found::NotPlayable(_) => {}
    }
}

/// Whether there is something of a picture in it.
fn is_of_picture(tapped: &Tapped) -> bool {
    match tapped {
        Tapped::Packets(packets) => packets.iter().any(|it| it.codec.kind() == Kind::Video),
        Tapped::Frame(frame, _) => frame.coding.kind() == Kind::Video,
        _ => false,
    }
}
