//! What is agreed in a world: the codecs, and the payload types on which they travel.

use crate::camera::{Camera, Repair};
use crate::publisher::{DEPENDENCY, RID};
use crate::sessions;
use crate::tells::Tells;
use crate::viewer::Screen;
use millrace::engine::command::Agreement;
use millrace::media::codec::{Codec, Format, Kind};
use millrace::peer::agreement::{PayloadFormat, ReceivedMedia};
use millrace::peer::testing::TestClient;

/// The codecs of pictures.
pub(crate) const VIDEO: [Codec; 5] = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H265];

/// The payload types of a codec: of media, and of its retransmissions.
pub(crate) fn payload_types(codec: Codec) -> [u8; 2] {
    match codec {
        Codec::Opus => [111, 112],
        Codec::H264 => [102, 103],
        Codec::H265 => [104, 105],
        Codec::Vp8 => [96, 97],
        Codec::Vp9 => [98, 99],
        Codec::Av1 => [45, 46],
    }
}

/// What is agreed with a publisher that may send pictures of every codec, in so many encodings.
pub(crate) fn publisher(peer: &TestClient, camera: &Camera) -> Agreement {
    let rtx = camera.repair == Repair::Rtx;
    let mut agreement = sessions::publisher(peer, rtx);
    if let Agreement::Publisher(agreement) = &mut agreement {
        for media in &mut agreement.media {
            media.formats = formats(media.kind, &VIDEO, rtx);
            if media.kind == Kind::Video && camera.mode.is_scalable() {
                media.extensions.dependency_descriptor = Some(DEPENDENCY);
            }
            if media.kind == Kind::Video && !camera.ladder.is_empty() {
                // As offers of simulcast are: rids, and no SSRC.
                media.ssrcs.clear();
                media.rids = camera.ladder.iter().map(|it| it.rid.to_owned()).collect();
                media.extensions.rid = Some(RID[0]);
                media.extensions.repaired_rid = Some(RID[1]);
            }
        }
    }
    agreement
}

/// The id of dependency descriptors, where a viewer takes them.
pub(crate) const DESCRIBED: u8 = 7;
/// The id of transport-wide numbers.
pub(crate) const TRANSPORT_CC: u8 = 6;

/// What is agreed with the viewer of this number, who knows these codecs of pictures.
pub(crate) fn viewer(
    peer: &TestClient,
    number: usize,
    screen: Screen,
    codecs: &[Codec],
) -> Agreement {
    let mut agreement = sessions::viewer(peer, number, screen.rtx);
    if let Agreement::Viewer(agreement) = &mut agreement {
        for media in &mut agreement.media {
            media.formats = formats(media.kind, codecs, screen.rtx);
            let arrivals = screen.tells == Tells::Arrivals;
            media.extensions.transport_cc = arrivals.then_some(TRANSPORT_CC);
            if media.kind == Kind::Video && screen.dependencies {
                media.extensions.dependency_descriptor = Some(DESCRIBED);
            }
            media.feedback.transport_cc = arrivals;
            media.feedback.remb = arrivals || screen.tells == Tells::Remb;
        }
    }
    agreement
}

/// The receiving end of what is agreed with a viewer.
pub(crate) fn received(kind: Kind, first_ssrc: u32, rtx: bool, nack: bool) -> ReceivedMedia {
    let formats = formats(kind, &VIDEO, rtx);
    ReceivedMedia { formats, ..sessions::received(kind, first_ssrc, rtx, nack) }
}

fn formats(kind: Kind, video: &[Codec], rtx: bool) -> Vec<PayloadFormat> {
    let format = |codec: Codec| {
        let [payload_type, repair] = payload_types(codec);
        let parameters = match codec {
            Codec::H264 => "packetization-mode=1;profile-level-id=42e01f",
            _ => "",
        };
        let format = Format { codec, parameters: parameters.to_owned() };
        PayloadFormat { payload_type, format, rtx: rtx.then_some(repair) }
    };
    match kind {
        Kind::Audio => vec![format(Codec::Opus)],
        Kind::Video => video.iter().copied().map(format).collect(),
    }
}
