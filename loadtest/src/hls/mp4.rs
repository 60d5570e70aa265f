//! Fragmented MP4 as far as a check needs it (ISO/IEC 14496-12): what a track is, and when each of
//! its samples is. Written from the standard, beside no writer.

/// A box: its type and what is in it.
type Boxed<'a> = ([u8; 4], &'a [u8]);

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoMp4(String);

fn no(what: impl Into<String>) -> NoMp4 {
    NoMp4(what.into())
}

/// The track of an initialization segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Ticks a second.
    pub timescale: u32,
    /// `vide` or `soun`.
    pub handler: [u8; 4],
    /// The codec as RFC 6381 has it, as far as the sample entry says it.
    pub codec: String,
    /// Width and height, of a picture.
    pub size: Option<(u16, u16)>,
    id: u32,
    default_duration: u32,
    default_flags: u32,
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// In ticks.
    pub duration: u32,
    /// Whether decoding can start here.
    pub is_sync: bool,
    /// In bytes.
    pub size: u32,
}

/// One chunk: `moof` and `mdat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// `baseMediaDecodeTime`, in ticks.
    pub decode_time: u64,
    /// Its samples, in order.
    pub samples: Vec<Sample>,
}

impl Chunk {
    /// How long its samples are together, in ticks.
    pub fn duration(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.duration)).sum()
    }
}

/// §4.2.
fn boxes(mut bytes: &[u8]) -> Result<Vec<Boxed<'_>>, NoMp4> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let head = bytes.first_chunk::<8>().ok_or_else(|| no("a box without a head"))?;
        let [a, b, c, d, kind @ ..] = *head;
        let size = u32::from_be_bytes([a, b, c, d]);
        let (start, size) = match size {
            0 => (8, bytes.len()),
            1 => (16, usize::try_from(u64_at(bytes, 8)?).unwrap_or(usize::MAX)),
            size => (8, size as usize),
        };
        let inner = bytes.get(start..size).ok_or_else(|| no(format!("{}: cut", name(kind))))?;
        found.push((kind, inner));
        bytes = bytes.get(size..).unwrap_or_default();
    }
    Ok(found)
}

fn name(kind: [u8; 4]) -> String {
    String::from_utf8_lossy(&kind).into_owned()
}

fn child<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Result<&'a [u8], NoMp4> {
    let mut inner = bytes;
    for kind in path {
        let mut all = boxes(inner)?.into_iter();
        let found = all.find(|(found, _)| found == *kind);
        inner = found.ok_or_else(|| no(format!("no {}", name(**kind))))?.1;
    }
    Ok(inner)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, NoMp4> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    Ok(u32::from_be_bytes(*field.ok_or_else(|| no("a box that is too short"))?))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, NoMp4> {
    Ok((u64::from(u32_at(bytes, at)?) << 32) | u64::from(u32_at(bytes, at + 4)?))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, NoMp4> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk::<2>);
    Ok(u16::from_be_bytes(*field.ok_or_else(|| no("a box that is too short"))?))
}

impl Track {
    /// Reads an initialization segment of one track.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(init: &[u8]) -> Result<Self, NoMp4> {
        let top = boxes(init)?;
        if top.first().is_none_or(|(kind, _)| kind != b"ftyp") {
            return Err(no("it begins with ftyp (§4.3)"));
        }
        if top.iter().any(|(kind, _)| kind == b"moof" || kind == b"mdat") {
            return Err(no("an initialization segment has no media"));
        }
        let moov = child(init, &[b"moov"])?;
        if boxes(moov)?.iter().filter(|(kind, _)| kind == b"trak").count() != 1 {
            return Err(no("one track"));
        }
        let tkhd = child(moov, &[b"trak", b"tkhd"])?;
        let is_long = tkhd.first() == Some(&1);
        let id = u32_at(tkhd, if is_long { 20 } else { 12 })?;
        let mdia = child(moov, &[b"trak", b"mdia"])?;
        let mdhd = child(mdia, &[b"mdhd"])?;
        let timescale = u32_at(mdhd, if mdhd.first() == Some(&1) { 20 } else { 12 })?;
        let handler = u32_at(child(mdia, &[b"hdlr"])?, 8)?.to_be_bytes();
        let stsd = child(mdia, &[b"minf", b"stbl", b"stsd"])?;
        let entries = boxes(stsd.get(8..).unwrap_or_default())?;
        let (kind, entry) = entries.first().ok_or_else(|| no("no sample entry"))?;
        let trex = child(moov, &[b"mvex", b"trex"])?;
        if u32_at(trex, 4)? != id {
            return Err(no("trex is of another track"));
        }
        let is_video = &handler == b"vide";
        Ok(Self {
            timescale,
            handler,
            codec: if is_video { video_codec(*kind, entry) } else { audio_codec(*kind, entry) }?,
            size: is_video.then(|| Ok((u16_at(entry, 24)?, u16_at(entry, 26)?))).transpose()?,
            id,
            default_duration: u32_at(trex, 12)?,
            default_flags: u32_at(trex, 20)?,
        })
    }

    /// Reads a part or a segment: its chunks, in order.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn chunks(&self, bytes: &[u8]) -> Result<Vec<Chunk>, NoMp4> {
        let mut chunks = Vec::new();
        let mut open: Option<Chunk> = None;
        for (kind, inner) in boxes(bytes)? {
            match &kind {
                b"moof" if open.is_some() => return Err(no("moof without mdat")),
                b"moof" => open = Some(self.chunk(inner)?),
                b"mdat" => {
                    let chunk = open.take().ok_or_else(|| no("mdat without moof"))?;
                    let size: u64 = chunk.samples.iter().map(|it| u64::from(it.size)).sum();
                    if size != inner.len() as u64 {
                        return Err(no(format!("{size} bytes of samples in {}", inner.len())));
                    }
                    chunks.push(chunk);
                }
                b"styp" | b"prft" | b"emsg" | b"sidx" => {}
                other => return Err(no(format!("{} in media", name(*other)))),
            }
        }
        match open {
            None if !chunks.is_empty() => Ok(chunks),
            _ => Err(no("no media")),
        }
    }

    /// §8.8.7, §8.8.8, §8.8.12.
    fn chunk(&self, moof: &[u8]) -> Result<Chunk, NoMp4> {
        let traf = child(moof, &[b"traf"])?;
        let tfhd = child(traf, &[b"tfhd"])?;
        let flags = u32_at(tfhd, 0)? & 0x00FF_FFFF;
        if u32_at(tfhd, 4)? != self.id {
            return Err(no("a fragment of another track"));
        }
        let mut at =
            8 + if flags & 0x1 == 0 { 0 } else { 8 } + if flags & 0x2 == 0 { 0 } else { 4 };
        let mut field = |bit: u32| -> Result<Option<u32>, NoMp4> {
            if flags & bit == 0 {
                return Ok(None);
            }
            at += 4;
            u32_at(tfhd, at - 4).map(Some)
        };
        let duration = field(0x8)?.unwrap_or(self.default_duration);
        let size = field(0x10)?;
        let default_flags = field(0x20)?.unwrap_or(self.default_flags);
        let tfdt = child(traf, &[b"tfdt"])?;
        let decode_time =
            if tfdt.first() == Some(&1) { u64_at(tfdt, 4)? } else { u64::from(u32_at(tfdt, 4)?) };
        let mut samples = Vec::new();
        for (_, trun) in boxes(traf)?.into_iter().filter(|(kind, _)| kind == b"trun") {
            run(trun, (duration, size, default_flags), &mut samples)?;
        }
        Ok(Chunk { decode_time, samples })
    }
}

/// Reads a `trun` (§8.8.8).
fn run(
    trun: &[u8],
    (duration, size, default_flags): (u32, Option<u32>, u32),
    samples: &mut Vec<Sample>,
) -> Result<(), NoMp4> {
    /// `sample_is_non_sync_sample` (§8.8.3.1).
    const NON_SYNC: u32 = 0x0001_0000;
    let flags = u32_at(trun, 0)? & 0x00FF_FFFF;
    let count = u32_at(trun, 4)?;
    let mut at = 8 + if flags & 0x1 == 0 { 0 } else { 4 };
    let mut field = |bit: u32| -> Result<Option<u32>, NoMp4> {
        if flags & bit == 0 {
            return Ok(None);
        }
        at += 4;
        u32_at(trun, at - 4).map(Some)
    };
    let first_flags = field(0x4)?;
    for number in 0..count {
        let duration = field(0x100)?.unwrap_or(duration);
        let size = field(0x200)?.or(size).ok_or_else(|| no("a sample without a size"))?;
        let own = field(0x400)?;
        field(0x800)?;
        let first = first_flags.filter(|_| number == 0);
        let flags = first.or(own).unwrap_or(default_flags);
        samples.push(Sample { duration, is_sync: flags & NON_SYNC == 0, size });
    }
    Ok(())
}

/// RFC 6381 §3.3 and ISO/IEC 14496-15; of H.265 and AV1 the beginning.
fn video_codec(kind: [u8; 4], entry: &[u8]) -> Result<String, NoMp4> {
    let inner = entry.get(78..).unwrap_or_default();
    match &kind {
        b"avc1" | b"avc3" => {
            let record = child(inner, &[b"avcC"])?;
            let level = u32_at(record, 0)? & 0x00FF_FFFF;
            Ok(format!("{}.{level:06X}", name(kind)))
        }
        b"hvc1" | b"hev1" => {
            let record = child(inner, &[b"hvcC"])?;
            let general = record.get(1).copied().ok_or_else(|| no("an empty hvcC"))?;
            let space = ["", "A", "B", "C"].get(usize::from(general >> 6)).copied();
            Ok(format!("{}.{}{}", name(kind), space.unwrap_or_default(), general & 0x1F))
        }
        b"av01" => {
            let record = child(inner, &[b"av1C"])?;
            let profile = record.get(1).copied().ok_or_else(|| no("an empty av1C"))? >> 5;
            Ok(format!("av01.{profile}"))
        }
        other => Err(no(format!("{}: a sample entry that is not known here", name(*other)))),
    }
}

fn audio_codec(kind: [u8; 4], entry: &[u8]) -> Result<String, NoMp4> {
    let inner = entry.get(28..).unwrap_or_default();
    match &kind {
        b"mp4a" => {
            let esds = child(inner, &[b"esds"])?;
            let object = object_type(esds).ok_or_else(|| no("an esds that says no object type"))?;
            Ok(format!("mp4a.40.{object}"))
        }
        b"Opus" => child(inner, &[b"dOps"]).map(|_| "opus".to_owned()),
        other => Err(no(format!("{}: a sample entry that is not known here", name(*other)))),
    }
}

/// The audio object type (ISO/IEC 14496-3 §1.6.2.1) in the `DecoderSpecificInfo` (tag 5) of an
/// `ES_Descriptor` (14496-1 §7.2.6.5).
fn object_type(esds: &[u8]) -> Option<u8> {
    let mut rest = esds.get(4..)?;
    loop {
        let (tag, after) = rest.split_first()?;
        let mut after = after;
        // A length in bytes of seven bits.
        loop {
            let (byte, next) = after.split_first()?;
            after = next;
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = match tag {
            3 => after.get(3..)?,
            4 => after.get(13..)?,
            5 => return Some(after.first()? >> 3),
            _ => return None,
        };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "a literal is a reference")]
    fn boxed(kind: &[u8; 4], inner: &[u8]) -> Vec<u8> {
        [&(inner.len() as u32 + 8).to_be_bytes()[..], kind, inner].concat()
    }

    fn full(version: u8, flags: u32, inner: &[u8]) -> Vec<u8> {
        let head = (u32::from(version) << 24) | flags;
        [&head.to_be_bytes()[..], inner].concat()
    }

    /// An initialization segment of H.264 or AAC.
    pub(in super::super) fn init(video: bool, timescale: u32) -> Vec<u8> {
        let tkhd = full(0, 3, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        let mdhd = full(0, 0, &[&[0; 8][..], &timescale.to_be_bytes(), &[0; 8]].concat());
        let handler: &[u8; 4] = if video { b"vide" } else { b"soun" };
        let hdlr = full(0, 0, &[&[0; 4][..], handler, &[0; 13]].concat());
        let entry = if video {
            let avcc = boxed(b"avcC", &[1, 0x42, 0xE0, 0x1F, 0xFF, 0xE0, 0]);
            let size = [2, 0x80, 1, 0x68];
            boxed(b"avc1", &[&[0; 24][..], &size, &[0; 50], &avcc].concat())
        } else {
            let descriptors = [3, 25, 0, 1, 0, 4, 17, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let config = [5, 2, 0x11, 0x90];
            let esds = boxed(b"esds", &full(0, 0, &[&descriptors[..], &config].concat()));
            boxed(b"mp4a", &[&[0; 28][..], &esds].concat())
        };
        let stsd = boxed(b"stsd", &full(0, 0, &[&[0, 0, 0, 1][..], &entry].concat()));
        let minf = boxed(b"minf", &boxed(b"stbl", &stsd));
        let mdia = [boxed(b"mdhd", &mdhd), boxed(b"hdlr", &hdlr), minf].concat();
        let trak = [boxed(b"tkhd", &tkhd), boxed(b"mdia", &mdia)].concat();
        let trex = boxed(b"trex", &full(0, 0, &[&[0, 0, 0, 1][..], &[0; 16]].concat()));
        let moov = [boxed(b"trak", &trak), boxed(b"mvex", &trex)].concat();
        [boxed(b"ftyp", b"cmfc\0\0\0\0iso6"), boxed(b"moov", &moov)].concat()
    }

    /// A chunk of so many samples of this length, the first of which may be a keyframe.
    pub(in super::super) fn chunk(at: u64, count: u32, duration: u32, sync: bool) -> Vec<u8> {
        let tfhd = boxed(b"tfhd", &full(0, 0x2_0000, &[0, 0, 0, 1]));
        let tfdt = boxed(b"tfdt", &full(1, 0, &at.to_be_bytes()));
        let mut samples = Vec::new();
        for number in 0..count {
            let flags: u32 = if sync && number == 0 { 0x0200_0000 } else { 0x0101_0000 };
            for field in [duration, 3, flags] {
                samples.extend(field.to_be_bytes());
            }
        }
        let head = [count.to_be_bytes(), [0, 0, 0, 100]].concat();
        let trun = boxed(b"trun", &full(0, 0x701, &[head, samples].concat()));
        let moof = boxed(b"moof", &boxed(b"traf", &[tfhd, tfdt, trun].concat()));
        let number = at.to_be_bytes();
        let data: Vec<u8> = number.iter().copied().cycle().take(count as usize * 3).collect();
        [moof, boxed(b"mdat", &data)].concat()
    }

    #[test]
    fn tracks_say_what_they_are() -> Result<(), NoMp4> {
        let video = Track::read(&init(true, 90_000))?;
        assert_eq!((video.codec.as_str(), video.size), ("avc1.42E01F", Some((640, 360))));
        assert_eq!((video.timescale, &video.handler), (90_000, b"vide"));
        let audio = Track::read(&init(false, 48_000))?;
        assert_eq!((audio.codec.as_str(), audio.size), ("mp4a.40.2", None));
        Ok(())
    }

    #[test]
    fn chunks_say_when_their_samples_are() -> Result<(), NoMp4> {
        let track = Track::read(&init(true, 90_000))?;
        let bytes = [chunk(7, 2, 3_000, true), chunk(6_007, 1, 3_000, false)].concat();
        let chunks = track.chunks(&bytes)?;
        let times: Vec<(u64, u64)> =
            chunks.iter().map(|chunk| (chunk.decode_time, chunk.duration())).collect();
        assert_eq!(times, [(7, 6_000), (6_007, 3_000)]);
        let syncs: Vec<bool> =
            chunks.iter().flat_map(|chunk| &chunk.samples).map(|it| it.is_sync).collect();
        assert_eq!(syncs, [true, false, false]);
        Ok(())
    }

    #[test]
    fn whatever_is_cut_is_no_mp4() -> Result<(), NoMp4> {
        let init = init(false, 48_000);
        let track = Track::read(&init)?;
        let media = chunk(0, 3, 1_024, true);
        for end in 0..init.len() {
            assert!(Track::read(&init[..end]).is_err(), "{end}");
        }
        for end in 0..media.len() {
            assert!(track.chunks(&media[..end]).is_err(), "{end}");
        }
        Ok(())
    }
}
