//! Thumbnails as HTTP sees them, in `signaling`'s words.

use super::readings::metric;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::Config;
use crate::egress::thumbnail::{Refused, Thumbnail, ThumbnailCounts, Thumbnails, Tools};
use crate::media::id::StreamName;
use crate::media::time::Epoch;
use crate::telemetry::metrics;
use crate::transcode::Transcoder;
use signaling::media_server::Metric;
use signaling::media_server::thumbnail;
use signaling::media_server::thumbnail::ThumbnailError;
use std::sync::Arc;
use std::time::Duration;

/// Who has got none is to come back after this: by then another attempt is made.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Thumbnails of all streams.
pub(super) fn thumbnails(
    config: &Config,
    bus: &Arc<Bus>,
    clock: &Clock,
    epoch: Epoch,
    transcoder: &Transcoder,
) -> Thumbnails {
    Thumbnails::new(Tools {
        bus: Arc::clone(bus),
        clock: clock.clone(),
        epoch,
        transcoder: transcoder.clone(),
        at_once_max: config.transcode.thumbnails_max,
    })
}

/// Answers a request.
pub(super) async fn answer(
    thumbnails: &Thumbnails,
    name: &str,
) -> Result<thumbnail::Thumbnail, ThumbnailError> {
    let stream = StreamName::parse(name);
    let stream = stream.map_err(|error| ThumbnailError::BadName(error.to_string()))?;
    let made = thumbnails.get(&stream).await.map_err(|refused| refusal(&refused, name))?;
    let Thumbnail { jpeg, made, fresh_for: max_age } = made;
    let etag = format!("{:x}", made.as_unix().as_micros());
    Ok(thumbnail::Thumbnail { jpeg, etag, max_age })
}

/// A refusal in HTTP's words.
fn refusal(refused: &Refused, stream: &str) -> ThumbnailError {
    let reason = refused.to_string();
    match refused {
        Refused::NotLive => ThumbnailError::NotLive(stream.to_owned()),
        Refused::NoPicture => ThumbnailError::NoPicture(reason),
        Refused::Unavailable(_) => ThumbnailError::Unavailable(reason),
        Refused::NoKeyframe | Refused::Failed | Refused::Busy => failed(reason),
    }
}

/// None this time.
pub(super) const fn failed(reason: String) -> ThumbnailError {
    ThumbnailError::Failed { reason, retry_after: RETRY_AFTER }
}

/// What came of all attempts.
pub(super) fn reading(counts: ThumbnailCounts) -> Metric {
    let ThumbnailCounts { made, failed, refused } = counts;
    let results = [("made", made), ("failed", failed), ("refused", refused)];
    let sample = |(result, count): (&str, u64)| (vec![("result", result.to_owned())], count as f64);
    metric(metrics::THUMBNAILS, results.map(sample).into())
}
