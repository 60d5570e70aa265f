//! The text of playlists (draft-pantos-hls-rfc8216bis-22 §4.4).
//!
//! EXT-X-INDEPENDENT-SEGMENTS is said of sound only: a picture whose keyframes do not come in time
//! is cut without one, and what a playlist once said it may not take back (§6.2.1). Where a decoder
//! can start, the parts say.

use super::Rendition;
use super::media_playlist::{MediaPlaylist, Segment};
use super::playlists::Playlists;
use crate::media::time::WallTime;
use std::fmt::Write;

/// What EXT-X-SKIP needs (§8).
const VERSION: u32 = 9;

/// Behind each URL.
struct Query<'a>(&'a str);

impl std::fmt::Display for Query<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(out, "?{}", self.0) }
    }
}

/// Sound is dated so many microseconds early.
///
/// hls.js places a segment by the durations of those before, and sound by its date beside that of
/// the picture, in whole milliseconds. Where that puts it behind the end of what the browser has,
/// be it by a microsecond, and hls.js has at that time forgotten which parts it has (it does if it
/// removes what was played while a part comes in), it waits for the hole to be filled, up to a
/// segment: it stalls. What lies early never looks like a hole. Two dates that are rounded are a
/// millisecond off at most; the rest is for a clock that goes slower than was thought.
pub(super) const SOUND_EARLY: i64 = 2_500;

/// How long a segment is said to be, for the same reason: 10 to 20 microseconds less than it is.
/// Browsers tell of what they have in whole microseconds.
fn told(duration: f64) -> f64 {
    const STEPS: f64 = 100_000.0;
    ((duration * STEPS).floor() - 1.0).max(0.0) / STEPS
}

/// What comes may be more than what was measured so far.
const HEADROOM: f64 = 1.2;

/// A media playlist as it is now; `skip`: as a delta update, if one is shorter.
pub(super) fn media(
    rendition: Rendition,
    skip: bool,
    query: &str,
    all: &Playlists,
) -> Option<String> {
    let playlist = all.get(rendition);
    let part_target = playlist.part_target?;
    let first = playlist.listed().next()?;
    let query = Query(query);
    let target = all.target_duration;
    let window: f64 = playlist.listed().map(|segment| told(segment.duration)).sum();
    // At least six times the Target Duration (§4.4.3.8), and worth it.
    let boundary = 6.0 * target as f64;
    let skipped = if skip && !playlist.is_over() { older(playlist, boundary) } else { 0 };
    let mut text = String::with_capacity(8_192);
    let mut write = || -> std::fmt::Result {
        writeln!(text, "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{target}")?;
        control(&mut text, part_target, window > boundary, all)?;
        if !rendition.is_video() {
            writeln!(text, "#EXT-X-INDEPENDENT-SEGMENTS")?;
        }
        writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{}", first.msn)?;
        let before = first.discontinuity - u64::from(first.is_discontinuous);
        writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{before}")?;
        if skipped > 0 {
            writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")?;
        }
        segments(&mut text, rendition, skipped, &query, all)?;
        if playlist.is_over() {
            return writeln!(text, "#EXT-X-ENDLIST");
        }
        if let Some(hint) = playlist.hint() {
            writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{hint}{query}\"")?;
        }
        reports(&mut text, rendition, &query, all)
    };
    write().ok()?;
    Some(text)
}

/// How many of the oldest segments lie before the Skip Boundary, seconds from the end.
fn older(playlist: &MediaPlaylist, boundary: f64) -> usize {
    let mut behind = 0.0;
    let mut recent = 0;
    for segment in playlist.listed().rev() {
        if behind >= boundary {
            break;
        }
        behind += told(segment.duration);
        recent += 1;
    }
    playlist.listed().count() - recent
}

fn control(
    out: &mut String,
    part_target: i64,
    can_skip: bool,
    all: &Playlists,
) -> std::fmt::Result {
    let target = all.target_duration as f64;
    let longest = Rendition::all().filter_map(|it| all.get(it).part_target).max();
    let part_hold_back = 3.0 * longest.unwrap_or(part_target) as f64 / 1_000.0;
    let part_target = part_target as f64 / 1_000.0;
    write!(out, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,")?;
    if can_skip {
        write!(out, "CAN-SKIP-UNTIL={:.1},", 6.0 * target)?;
    }
    writeln!(out, "HOLD-BACK={:.1},PART-HOLD-BACK={part_hold_back:.3}", 3.0 * target)?;
    writeln!(out, "#EXT-X-PART-INF:PART-TARGET={part_target:.3}")
}

fn segments(
    out: &mut String,
    rendition: Rendition,
    skipped: usize,
    query: &Query,
    all: &Playlists,
) -> std::fmt::Result {
    let playlist = all.get(rendition);
    let mut left: f64 = playlist.listed().map(|segment| segment.duration).sum();
    let is_between = playlist.position().is_some_and(|it| it.is_complete && !it.is_over);
    // With the one that begins next.
    let count = playlist.listed().count() + usize::from(is_between);
    let mut init = None;
    for (index, segment) in playlist.listed().enumerate() {
        // Parts are listed of the last three target durations (§6.2.2); some readers take that for
        // three segments.
        let is_recent = left <= 3.0 * all.target_duration as f64 && index + 3 >= count;
        left -= segment.duration;
        let is_same = init == segment.init.as_ref().map(|it| it.name.as_str());
        if let Some(new) = &segment.init {
            init = Some(new.name.as_str());
        }
        if index < skipped {
            continue;
        }
        if segment.is_discontinuous {
            writeln!(out, "#EXT-X-DISCONTINUITY")?;
        }
        if let (false, Some(init)) = (is_same, &segment.init) {
            writeln!(out, "#EXT-X-MAP:URI=\"{}{query}\"", init.name)?;
        }
        if let Some(begins) = segment.begins {
            let early = if rendition.is_video() { 0 } else { SOUND_EARLY };
            writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", date_time(begins.offset_micros(-early)))?;
        }
        if is_recent {
            parts(out, rendition, segment, query)?;
        }
        if segment.is_complete {
            if segment.parts.is_empty() {
                writeln!(out, "#EXT-X-GAP")?;
            }
            let name = segment.name(rendition);
            writeln!(out, "#EXTINF:{:.5},\n{name}{query}", told(segment.duration))?;
        }
    }
    Ok(())
}

fn parts(
    out: &mut String,
    rendition: Rendition,
    segment: &Segment,
    query: &Query,
) -> std::fmt::Result {
    for (index, part) in segment.parts.iter().enumerate() {
        let name = segment.part_name(rendition, index);
        write!(out, "#EXT-X-PART:DURATION={:.6},URI=\"{name}{query}\"", part.duration)?;
        out.write_str(if part.is_independent { ",INDEPENDENT=YES\n" } else { "\n" })?;
    }
    Ok(())
}

/// How far the others are (§4.4.5.4).
fn reports(
    out: &mut String,
    rendition: Rendition,
    query: &Query,
    all: &Playlists,
) -> std::fmt::Result {
    for other in Rendition::all().filter(|other| *other != rendition) {
        let Some(position) = all.get(other).position() else { continue };
        let (msn, part) = (position.msn, position.parts - 1);
        let name = other.playlist();
        write!(out, "#EXT-X-RENDITION-REPORT:URI=\"{name}{query}\",")?;
        writeln!(out, "LAST-MSN={msn},LAST-PART={part}")?;
    }
    Ok(())
}

/// The playlist that names the others; `pictures`: those of them that newcomers are to have.
pub(super) fn multivariant(
    query: &str,
    pictures: impl Iterator<Item = Rendition>,
    all: &Playlists,
) -> Option<String> {
    let query = Query(query);
    let pictures = best_first(pictures, all);
    let has = |rendition: &Rendition| all.get(*rendition).position().is_some();
    let sounds: Vec<Rendition> = Rendition::SOUNDS.into_iter().filter(has).collect();
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n");
    let write = || -> std::fmt::Result {
        if pictures.is_empty() {
            return sounds.iter().try_for_each(|it| variant(&mut text, &[*it], &query, all));
        }
        for sound in &sounds {
            let (slug, name) = (sound.slug(), sound.playlist());
            write!(text, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{slug}\",NAME=\"Sound\",")?;
            write!(text, "DEFAULT=YES,AUTOSELECT=YES,")?;
            if let Some(super::cmaf::Description::Audio(it)) = all.get(*sound).description() {
                write!(text, "CHANNELS=\"{}\",", it.channels)?;
            }
            writeln!(text, "URI=\"{name}{query}\"")?;
        }
        for picture in pictures {
            if sounds.is_empty() {
                variant(&mut text, &[picture], &query, all)?;
            }
            for sound in &sounds {
                variant(&mut text, &[picture, *sound], &query, all)?;
            }
        }
        Ok(())
    };
    write().ok()?;
    Some(text)
}

/// Pictures in the order of what they carry, those that can be played at once: players take a
/// playlist without a complete segment for empty.
fn best_first(pictures: impl Iterator<Item = Rendition>, all: &Playlists) -> Vec<Rendition> {
    let mut pictures: Vec<Rendition> =
        pictures.filter(|it| all.get(*it).position().is_some()).collect();
    if pictures.iter().any(|it| all.get(*it).has_segment()) {
        pictures.retain(|it| all.get(*it).has_segment());
    }
    let mean = |it: &Rendition| all.get(*it).bandwidth().1;
    pictures.sort_by(|one, other| mean(other).total_cmp(&mean(one)));
    pictures
}

/// A variant: a playlist and the sound that goes with it.
fn variant(
    out: &mut String,
    renditions: &[Rendition],
    query: &Query,
    all: &Playlists,
) -> std::fmt::Result {
    let playlists = || renditions.iter().map(|rendition| all.get(*rendition));
    // Whichever sound is chosen: players would change to and fro where one is now a little more
    // than the other, and now less.
    let sounds = Rendition::SOUNDS.map(|sound| all.get(sound).bandwidth());
    let sound = sounds
        .into_iter()
        .fold((0.0, 0.0), |most: (f64, f64), it| (most.0.max(it.0), most.1.max(it.1)));
    let rates =
        renditions.iter().map(|it| if it.is_video() { all.get(*it).bandwidth() } else { sound });
    let (peak, mean) = rates.fold((0.0, 0.0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
    let peak = peak * HEADROOM;
    let descriptions = playlists().filter_map(MediaPlaylist::description);
    let codecs: Vec<&str> = descriptions.map(super::cmaf::Description::codec_string).collect();
    write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={},", peak.ceil().max(1.0) as u64)?;
    write!(out, "AVERAGE-BANDWIDTH={},", mean.ceil().max(1.0) as u64)?;
    write!(out, "CODECS=\"{}\"", codecs.join(","))?;
    if let Some(super::cmaf::Description::Video(video)) =
        playlists().next().and_then(MediaPlaylist::description)
    {
        write!(out, ",RESOLUTION={}x{}", video.size.0, video.size.1)?;
        if let Some(frame_rate) = playlists().next().and_then(|it| it.frame_rate) {
            write!(out, ",FRAME-RATE={frame_rate:.3}")?;
        }
    }
    let mut names = renditions.iter().map(|rendition| rendition.playlist());
    if let [_, sound] = renditions {
        write!(out, ",AUDIO=\"{}\"", sound.slug())?;
    }
    writeln!(out, "\n{}{query}", names.next().unwrap_or_default())
}

/// A moment as ISO 8601 has it, in UTC (§4.4.4.6).
fn date_time(wall: WallTime) -> String {
    let millis = (wall.as_unix().as_micros() + 500) / 1_000;
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (days, seconds) = ((seconds / 86_400) as i64, seconds % 86_400);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Days since 1970 as year, month and day. Counts from March, so that leap days come last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_are_written_with_milliseconds() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_764_148_199_999, "2025-11-26T09:09:59.999Z"),
            (4_107_542_399_001, "2100-02-28T23:59:59.001Z"),
        ] {
            let wall = WallTime::since_unix_epoch(Duration::from_millis(millis));
            assert_eq!(date_time(wall), text);
        }
    }
}
