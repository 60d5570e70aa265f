//! Several layers of one picture (RFC 8853), offered as those offer them that send them.

use crate::codec::{Codec, Kind};
use crate::light::{
    ABS_SEND_TIME, AgreedSection, Direction, MID, Offer, PUBLISHED_SSRCS, REPAIRED_RID, RID,
    Section, TRANSPORT_CC, publish_audio,
};
use std::str::FromStr;

/// What OBS 32 offers for video: no transport-wide feedback, no RTX.
const OBS_FEEDBACK: [&str; 3] = ["nack", "nack pli", "goog-remb"];
/// SSRCs from one layer to the next.
const SSRC_STEP: u32 = 0x10;
/// More than any server takes; a stamp has room for 64.
const LAYERS_MAX: usize = 16;

/// Whose offer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Like {
    /// A browser's: transport-wide feedback, RTX, the smallest layer first.
    #[default]
    Chromium,
    /// That of OBS 32: REMB, no RTX, rids from 0, the largest first; sound without extensions.
    Obs,
}

impl FromStr for Like {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "chromium" => Ok(Self::Chromium),
            "obs" => Ok(Self::Obs),
            other => Err(format!("{other} is none of chromium, obs")),
        }
    }
}

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSettings {
    /// Width and height.
    pub size: [u16; 2],
    /// Mean bits per second of payload.
    pub bitrate_bps: u64,
}

impl FromStr for LayerSettings {
    type Err = String;

    /// Reads `1280x720@2500`, the rate in kb/s.
    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (size, kbps) = text.split_once('@')?;
            let (width, height) = size.split_once('x')?;
            let side =
                |side: &str| side.parse().ok().filter(|it: &u16| *it >= 2 && it.is_multiple_of(2));
            let bitrate_bps = kbps.parse::<u64>().ok()?.checked_mul(1_000)?;
            Some(Self { size: [side(width)?, side(height)?], bitrate_bps })
        };
        read().ok_or_else(|| format!("{text} is no layer such as 1280x720@2500"))
    }
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulcast {
    /// The layers, the largest first; their places are in the stamps.
    pub layers: Vec<LayerSettings>,
    /// Whose offer it is.
    pub like: Like,
}

impl Simulcast {
    /// Three layers as OBS makes them of 720p.
    pub fn three(like: Like) -> Self {
        let layer = |width, height, kbps: u64| LayerSettings {
            size: [width, height],
            bitrate_bps: kbps * 1_000,
        };
        let layers = vec![layer(1_280, 720, 2_500), layer(640, 360, 500), layer(320, 180, 130)];
        Self { layers, like }
    }

    /// Reads layers with commas between them.
    ///
    /// # Errors
    ///
    /// A text for people.
    pub fn parse(text: &str, like: Like) -> Result<Self, String> {
        let layers = text.split(',').map(str::parse).collect::<Result<Vec<_>, _>>()?;
        if layers.len() > LAYERS_MAX {
            return Err(format!("more than {LAYERS_MAX} layers"));
        }
        Ok(Self { layers, like })
    }

    /// The name of the layer at a place. It says nothing of the size, to those who do not know.
    pub fn rid(&self, place: usize) -> String {
        match (self.like, place) {
            (Like::Chromium, 0..=2) if self.layers.len() <= 3 => ["f", "h", "q"][place].to_owned(),
            (Like::Chromium, place) => format!("r{place}"),
            (Like::Obs, place) => place.to_string(),
        }
    }

    /// The SSRCs of the layer at a place, and of its repairs. They are in no offer.
    pub fn ssrcs(place: usize) -> [u32; 2] {
        let step = SSRC_STEP * place as u32;
        [PUBLISHED_SSRCS[1] + step, PUBLISHED_SSRCS[2] + step]
    }

    /// The offer.
    pub fn offer(&self, codec: Codec, audio: bool) -> Offer {
        let mut rids: Vec<String> = (0..self.layers.len()).map(|place| self.rid(place)).collect();
        let (sound, mut video) = match self.like {
            Like::Chromium => {
                rids.reverse();
                let video = Section::new(Kind::Video)
                    .codec_with_rtx(codec, 108, 109)
                    .extension(2, ABS_SEND_TIME)
                    .extension(3, TRANSPORT_CC)
                    .extension(4, MID)
                    .extension(10, RID)
                    .extension(11, REPAIRED_RID);
                (publish_audio(), video)
            }
            Like::Obs => {
                let sound = Section::new(Kind::Audio).codec(Codec::Opus, 111).feedback(&[]);
                let video = Section::new(Kind::Video)
                    .codec(codec, 96)
                    .feedback(&OBS_FEEDBACK)
                    .extension(1, MID)
                    .extension(2, RID);
                (sound.ssrc(PUBLISHED_SSRCS[0]), video)
            }
        };
        video.attributes = rids.iter().map(|rid| format!("rid:{rid} send")).collect();
        video.attributes.push(format!("simulcast:send {}", rids.join(";")));
        let offer = Offer::new(Direction::SendOnly);
        if audio { offer.section(sound).section(video) } else { offer.section(video) }
    }

    /// The places of the layers that the server has agreed to.
    pub(super) fn agreed(&self, section: &AgreedSection) -> Vec<usize> {
        let is_agreed = |place: &usize| {
            let line = format!("rid:{} recv", self.rid(*place));
            section.attributes.iter().any(|it| {
                it.strip_prefix(&line).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            })
        };
        (0..self.layers.len()).filter(is_agreed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of an offer a server goes by, without credentials.
    fn lines(sdp: &str) -> Vec<&str> {
        let (_, video) = sdp.split_once("m=video").expect("video");
        let names = ["rid:", "simulcast:", "rtcp-fb:", "ssrc", "extmap:"];
        let said = |line: &&str| names.iter().any(|it| line[2..].starts_with(it));
        let mut lines: Vec<&str> = video.lines().filter(|line| line.len() > 2).collect();
        lines.retain(|line| said(line));
        lines.sort_unstable();
        lines
    }

    #[test]
    fn an_offer_like_that_of_obs_says_what_obs_says() {
        let recorded =
            include_str!("../../../tests/data/offers/obs-32.2.2-whip-h264-simulcast3-offer.sdp");
        let ours = Simulcast::three(Like::Obs).offer(Codec::H264, true).to_string();
        assert_eq!(lines(&ours), lines(recorded));
    }

    #[test]
    fn an_offer_like_that_of_chromium_names_layers_and_no_ssrcs() {
        let offer = Simulcast::three(Like::Chromium).offer(Codec::Vp8, true).to_string();
        let video = lines(&offer);
        for line in ["a=rid:q send", "a=simulcast:send q;h;f", "a=rtcp-fb:108 transport-cc"] {
            assert!(video.contains(&line), "{line} in {video:?}");
        }
        assert!(!video.iter().any(|line| line.starts_with("a=ssrc")), "{video:?}");
    }

    #[test]
    fn layers_are_read_from_a_line() {
        let simulcast = Simulcast::parse("1280x720@2500,320x180@200", Like::Obs).expect("two");
        let second = LayerSettings { size: [320, 180], bitrate_bps: 200_000 };
        assert_eq!((simulcast.layers.len(), simulcast.layers[1]), (2, second));
        for text in ["", "1280x720", "1281x720@1", "x@", "2x2@1,"] {
            assert!(Simulcast::parse(text, Like::Obs).is_err(), "{text}");
        }
    }

    #[test]
    fn only_layers_that_were_agreed_are_sent() {
        let simulcast = Simulcast::three(Like::Obs);
        let attributes = ["rid:0 recv", "rid:2 recv max-width=320", "rid:10 recv", "rid:1 send"];
        let attributes = attributes.map(str::to_owned).to_vec();
        let section = AgreedSection { attributes, ..AgreedSection::default() };
        assert_eq!(simulcast.agreed(&section), [0, 2]);
    }
}
