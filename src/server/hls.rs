//! LL-HLS as HTTP sees it, in `signaling`'s words.

use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::Config;
use crate::egress::http::{self, Answer, Ask, Directives, Hls, Refused, Tools};
use crate::media::id::StreamName;
use crate::media::time::Epoch;
use crate::transcode::Transcoder;
use futures_util::StreamExt as _;
use signaling::media_server::hls::{HlsAnswer, HlsError, HlsPlaylist, HlsRequest, Unfinished};
use std::sync::Arc;
use std::time::Duration;

/// All streams that are packaged, with their playlists as HTTP gives them.
pub(super) type Packaged = Hls<Arc<HlsPlaylist>>;

/// Who has waited in vain, or finds nobody publishing, is to come back after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Packages what is asked for.
pub(super) fn packaged(
    config: &Config,
    bus: &Arc<Bus>,
    clock: &Clock,
    epoch: Epoch,
    transcoder: &Transcoder,
) -> Packaged {
    let tools = Tools {
        bus: Arc::clone(bus),
        clock: clock.clone(),
        epoch,
        transcoder: transcoder.clone(),
        settings: config.hls.clone(),
        grace: config.whip.grace_time,
    };
    Hls::new(tools, |text, max_age| Arc::new(HlsPlaylist::new(text.into(), max_age)))
}

/// Answers a request.
pub(super) async fn answer(hls: &Packaged, request: HlsRequest<'_>) -> Result<HlsAnswer, HlsError> {
    let HlsRequest { stream: name, file, directives, query } = request;
    let stream = StreamName::parse(name).map_err(|error| HlsError::BadName(error.to_string()))?;
    let signaling::media_server::hls::Directives { msn, part, skip } = directives;
    let directives = Directives { msn, part, skip };
    let answer = hls.get(Ask { stream: &stream, file, directives, query }).await;
    match answer {
        Ok(Answer::Playlist(playlist)) => Ok(HlsAnswer::Playlist(playlist)),
        Ok(Answer::Media(bytes)) => Ok(HlsAnswer::Media(bytes)),
        Ok(Answer::Growing(parts)) => {
            let parts = parts.map(|part| part.map_err(|http::Unfinished| Unfinished));
            Ok(HlsAnswer::Growing(parts.boxed()))
        }
        Err(refused) => Err(refusal(refused, name)),
    }
}

/// A refusal in HTTP's words.
fn refusal(refused: Refused, stream: &str) -> HlsError {
    let text = refused.to_string();
    match refused {
        Refused::NotLive => HlsError::NotLive(stream.to_owned()),
        Refused::NotFound => HlsError::NotFound(text),
        Refused::TooFarAhead { .. } => HlsError::BadRequest(text),
        Refused::NotPlayable(reason) => HlsError::NotPlayable(reason),
        Refused::NotInTime(_) | Refused::Closed => {
            HlsError::Busy { reason: text, retry_after: RETRY_AFTER }
        }
        Refused::Off => HlsError::Off,
    }
}
