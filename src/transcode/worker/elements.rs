//! Which of GStreamer's elements decode and encode here, best first: whatever this machine has.

use crate::ipc::Sound;
use gstreamer as gst;

/// An encoder, and how to set it up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoder {
    /// The element.
    pub(crate) name: &'static str,
    /// Its properties besides the bit rate, which all call the same.
    pub(crate) properties: &'static [(&'static str, &'static str)],
    /// Samples of a packet.
    pub(crate) packet: i64,
    /// By so many samples, at 48 kHz, what it makes of a sound comes later than the sound.
    pub(crate) delay: i64,
}

/// The sample rate of all that is encoded: Opus has no other, and AAC any.
pub(crate) const RATE: i32 = 48_000;

const OPUS: [Encoder; 1] = [Encoder {
    name: "opusenc",
    // No forward error correction: at the rates of music Opus works in CELT mode, which has none
    // (RFC 6716 §2.1.7). The lookahead is that of libopus for sound in general.
    properties: &[("frame-size", "20"), ("bitrate-type", "constrained-vbr"), ("complexity", "8")],
    packet: 960,
    delay: 312,
}];

// The delay was measured by a click that goes in and comes out again.
const AAC: [Encoder; 1] =
    [Encoder { name: "avenc_aac", properties: &[], packet: 1024, delay: 1024 }];

/// The elements that decode a sound; which layer of MPEG audio it is, is not known before it comes.
pub(crate) const fn decoders(sound: &Sound, layer: u8) -> &'static [&'static str] {
    match sound {
        Sound::Opus => &["opusdec", "avdec_opus"],
        Sound::Aac(_) => &["avdec_aac", "fdkaacdec", "faad"],
        Sound::Mpeg if layer == 3 => &["avdec_mp3float", "mpg123audiodec"],
        Sound::Mpeg => &["avdec_mp2float", "mpg123audiodec"],
        Sound::Ac3 => &["avdec_ac3", "a52dec"],
    }
}

/// The elements that encode a sound; none for what nothing here asks for.
pub(crate) const fn encoders(sound: &Sound) -> &'static [Encoder] {
    match sound {
        Sound::Opus => &OPUS,
        Sound::Aac(_) => &AAC,
        Sound::Mpeg | Sound::Ac3 => &[],
    }
}

/// Makes the first of these elements that is there and starts.
pub(crate) fn first_decoder(names: &[&'static str]) -> Option<gst::Element> {
    names.iter().find_map(|name| started(gst::ElementFactory::make(name).build().ok()?))
}

/// An element whose library has opened; stopped again.
pub(crate) fn started(element: gst::Element) -> Option<gst::Element> {
    use gst::prelude::*;
    let opens = element.set_state(gst::State::Ready).is_ok();
    let closes = element.set_state(gst::State::Null).is_ok();
    (opens && closes).then_some(element)
}
