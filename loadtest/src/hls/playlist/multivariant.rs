//! Multivariant playlists (draft-pantos-hls-rfc8216bis-16 §4.4.6).

use super::Fault;
use super::attributes::{Attributes, decimal, integer, lines, tag};
use std::collections::BTreeSet;

/// One `EXT-X-STREAM-INF` and the address below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its media playlist.
    pub uri: String,
    /// `BANDWIDTH`, in bits per second.
    pub bandwidth: u64,
    /// `AVERAGE-BANDWIDTH`.
    pub average_bandwidth: Option<u64>,
    /// `CODECS`, one by one.
    pub codecs: Vec<String>,
    /// `RESOLUTION`.
    pub resolution: Option<(u64, u64)>,
    /// `FRAME-RATE`.
    pub frame_rate: Option<f64>,
    /// `AUDIO`: a group of renditions.
    pub audio: Option<String>,
}

/// One `EXT-X-MEDIA`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// `TYPE`.
    pub kind: String,
    /// `GROUP-ID`.
    pub group: String,
    /// `NAME`.
    pub name: String,
    /// `URI`; without it the media is in the variant itself.
    pub uri: Option<String>,
    /// `DEFAULT`.
    pub is_default: bool,
    /// `AUTOSELECT`.
    pub autoselect: bool,
}

/// A playlist that names others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Multivariant {
    /// `EXT-X-VERSION`; 1 without.
    pub version: u64,
    /// `EXT-X-INDEPENDENT-SEGMENTS`.
    pub independent_segments: bool,
    /// The variants, in order.
    pub variants: Vec<Variant>,
    /// The renditions, in order.
    pub media: Vec<Media>,
}

impl Multivariant {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn read(text: &[u8]) -> Result<Self, Fault> {
        let mut this = Self { version: 1, ..Self::default() };
        let mut seen = BTreeSet::new();
        let mut pending: Option<(usize, Variant)> = None;
        for (number, line) in lines(text)? {
            let Some((name, value)) = tag(line) else {
                let (_, variant) = pending
                    .take()
                    .ok_or_else(|| Fault::new(number, "an address follows a tag (§4.4.6.2)"))?;
                this.variants.push(Variant { uri: line.to_owned(), ..variant });
                continue;
            };
            if pending.is_some() {
                return Err(Fault::new(
                    number,
                    "EXT-X-STREAM-INF is followed by its URI (§4.4.6.2)",
                ));
            }
            let is_single = !matches!(name, "#EXT-X-STREAM-INF" | "#EXT-X-MEDIA");
            if is_single && !seen.insert(name) {
                return Err(Fault::new(number, format!("{name} stands once (§4.4.2)")));
            }
            match name {
                "#EXT-X-VERSION" => this.version = integer(number, value)?,
                "#EXT-X-INDEPENDENT-SEGMENTS" => this.independent_segments = true,
                "#EXT-X-STREAM-INF" => pending = Some((number, variant(number, value)?)),
                "#EXT-X-MEDIA" => this.media.push(media(number, value)?),
                "#EXTINF"
                | "#EXT-X-TARGETDURATION"
                | "#EXT-X-MEDIA-SEQUENCE"
                | "#EXT-X-MAP"
                | "#EXT-X-PART"
                | "#EXT-X-PART-INF"
                | "#EXT-X-SERVER-CONTROL"
                | "#EXT-X-ENDLIST" => {
                    return Err(Fault::new(
                        number,
                        format!("{name} is of media playlists (§4.4.3)"),
                    ));
                }
                _ => {}
            }
        }
        match pending {
            Some((number, _)) => Err(Fault::new(number, "its URI is missing (§4.4.6.2)")),
            None => this.check().map(|()| this),
        }
    }

    fn check(&self) -> Result<(), Fault> {
        if self.variants.is_empty() {
            return Err(Fault::new(0, "there is a variant stream (§4.4.6.2)"));
        }
        for group in self.variants.iter().filter_map(|variant| variant.audio.as_ref()) {
            if !self.media.iter().any(|it| it.kind == "AUDIO" && it.group == *group) {
                let rule = format!("AUDIO={group}: there is an EXT-X-MEDIA of it (§4.4.6.2)");
                return Err(Fault::new(0, rule));
            }
        }
        for media in &self.media {
            let of_group = |it: &&Media| it.group == media.group && it.kind == media.kind;
            let ours = || self.media.iter().filter(of_group);
            if ours().filter(|it| it.name == media.name).count() > 1 {
                return Err(Fault::new(0, "names differ within a group (§4.4.6.1.1)"));
            }
            if ours().filter(|it| it.is_default).count() > 1 {
                return Err(Fault::new(0, "a group has one default (§4.4.6.1.1)"));
            }
        }
        Ok(())
    }
}

fn variant(number: usize, value: &str) -> Result<Variant, Fault> {
    let list = Attributes::read(number, value)?;
    let resolution = |text: &str| {
        let (width, height) = text
            .split_once('x')
            .ok_or_else(|| Fault::new(number, "RESOLUTION: a decimal-resolution (§4.2)"))?;
        Ok((integer(number, width)?, integer(number, height)?))
    };
    let codecs = list.quoted("CODECS")?.unwrap_or_default();
    let frame_rate = list.word("FRAME-RATE")?;
    if frame_rate.is_some_and(|it| it.split_once('.').is_some_and(|(_, part)| part.len() > 3)) {
        return Err(Fault::new(number, "FRAME-RATE has three decimal places (§4.4.6.2)"));
    }
    Ok(Variant {
        uri: String::new(),
        bandwidth: list.required("BANDWIDTH", list.integer("BANDWIDTH")?)?,
        average_bandwidth: list.integer("AVERAGE-BANDWIDTH")?,
        codecs: codecs.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect(),
        resolution: list.word("RESOLUTION")?.map(resolution).transpose()?,
        frame_rate: frame_rate.map(|it| decimal(number, it)).transpose()?,
        audio: list.quoted("AUDIO")?,
    })
}

fn media(number: usize, value: &str) -> Result<Media, Fault> {
    let list = Attributes::read(number, value)?;
    let kind = list.required("TYPE", list.word("TYPE")?)?;
    if !["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"].contains(&kind) {
        return Err(Fault::new(number, format!("TYPE={kind} (§4.4.6.1)")));
    }
    let media = Media {
        kind: kind.to_owned(),
        group: list.required("GROUP-ID", list.quoted("GROUP-ID")?)?,
        name: list.required("NAME", list.quoted("NAME")?)?,
        uri: list.quoted("URI")?,
        is_default: list.yes("DEFAULT", true)?,
        autoselect: list.yes("AUTOSELECT", true)?,
    };
    if media.is_default && list.word("AUTOSELECT")? == Some("NO") {
        return Err(Fault::new(number, "a default one is AUTOSELECT=YES (§4.4.6.1)"));
    }
    Ok(media)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"AAC\",DEFAULT=YES,AUTOSELECT=YES,\
        URI=\"aac.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2700000,AVERAGE-BANDWIDTH=2600000,RESOLUTION=1280x720,\
        FRAME-RATE=29.970,CODECS=\"avc1.42E01F,mp4a.40.2\",AUDIO=\"aac\"\nvideo.m3u8\n";

    #[test]
    fn a_variant_has_all_that_it_says() -> Result<(), Fault> {
        let read = Multivariant::read(GOOD.as_bytes())?;
        assert_eq!(read.variants.len(), 1);
        let variant = &read.variants[0];
        assert_eq!((read.version, read.independent_segments), (6, true));
        assert_eq!((variant.uri.as_str(), variant.bandwidth), ("video.m3u8", 2_700_000));
        assert_eq!((variant.resolution, variant.frame_rate), (Some((1280, 720)), Some(29.97)));
        assert_eq!(variant.codecs, ["avc1.42E01F", "mp4a.40.2"]);
        assert_eq!(read.media[0].uri.as_deref(), Some("aac.m3u8"));
        Ok(())
    }

    #[test]
    fn what_breaks_a_rule_is_found() {
        for (good, bad, line) in [
            ("#EXTM3U", "#EXTM3U8", 1),
            ("BANDWIDTH=2700000,", "", 5),
            ("video.m3u8\n", "", 5),
            ("AUDIO=\"aac\"", "AUDIO=\"opus\"", 0),
            ("29.970", "29.9701", 5),
            ("#EXT-X-VERSION:6", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6", 3),
            ("#EXT-X-VERSION:6", "#EXT-X-TARGETDURATION:2", 2),
            ("AUTOSELECT=YES", "AUTOSELECT=NO", 4),
            ("NAME=\"AAC\",", "", 4),
            ("TYPE=AUDIO", "TYPE=SOUND", 4),
        ] {
            assert!(GOOD.contains(good), "{good}");
            let fault = Multivariant::read(GOOD.replacen(good, bad, 1).as_bytes());
            assert_eq!(fault.map_err(|it| it.line).err(), Some(line), "{bad}");
        }
    }
}
