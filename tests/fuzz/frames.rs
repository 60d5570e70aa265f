//! The targets that take frames, as ways in that do not speak RTP make them.

use bytes::Bytes;
use millrace::codec::access_unit::AccessUnits;
use millrace::codec::configuration::{
    AudioConfiguration, VideoConfiguration, strip_parameter_sets,
};
use millrace::codec::depacketizer::depacketize;
use millrace::codec::packetizer::Packetizer;
use millrace::codec::{carries_parameters, is_keyframe, keyframe_size, sizes};
use millrace::config::ingest::BFramePolicy;
use millrace::ingest::b_frames::{BFrames, Found, Verdict};
use millrace::ingest::timing::{Placement, Timing};
use millrace::media::codec::{Codec, Kind};
use millrace::media::frame::{AudioCoding, Coding, Frame};
use std::time::{Duration, Instant};

/// Cuts an input into frames, each after its length in two bytes; the last has what is left.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
        let (frame, rest) = rest.split_at(len);
        bytes = rest;
        Some(frame)
    })
}

/// Whatever the frames are, payloads are within the bound and carry no more than the frame and the
/// parameter sets; one of each frame is its last.
pub(crate) fn packetizer(bytes: &[u8]) {
    let Some((&[codec, max], rest)) = bytes.split_first_chunk() else { return };
    let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
    let max = usize::from(max) * 8;
    let mut packetizer = Packetizer::new(codec, max);
    let max = max.max(Packetizer::PAYLOAD_MIN);
    for frame in frames(rest) {
        let starts = packetizer.starts(frame);
        let (mut total, mut lasts, mut payloads) = (0, 0, 0);
        packetizer.packetize(frame, &mut |payload, last| {
            assert!((1..=max).contains(&payload.len()) && lasts == 0);
            assert!(starts || !carries_parameters(codec, payload));
            let _ = (is_keyframe(codec, payload), carries_parameters(codec, payload));
            let _ = sizes(codec, payload);
            total += payload.len();
            lasts += usize::from(last);
            payloads += 1;
        });
        assert_eq!(lasts, usize::from(payloads > 0));
        assert!(total <= frame.len() * 4 + 16_384 + 12 * payloads, "{total} of {}", frame.len());
        let _ = packetizer.format();
    }
}

/// Whatever the payloads are, what is put together of them is no longer, and once it is complete it
/// stays the same on its way through packets.
pub(crate) fn depacketizer(bytes: &[u8]) {
    let Some((&[codec, max], rest)) = bytes.split_first_chunk() else { return };
    let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
    let payloads: Vec<&[u8]> = frames(rest).collect();
    let mut units = AccessUnits::new(codec);
    // All of it as one frame, and its beginnings.
    for count in (1..=payloads.len()).take(16).chain([payloads.len()]) {
        let Some(frame) = depacketize(codec, payloads[..count].iter().copied()) else { continue };
        let total: usize = payloads[..count].iter().map(|payload| payload.len() + 4).sum();
        assert!(frame.len() <= 4 * total, "{} bytes of {total}", frame.len());
        let Some((complete, starts)) = units.complete(&frame) else { continue };
        assert!(complete.len() <= frame.len() + 32_768);
        assert!(!starts || keyframe_size(codec, &complete).is_some());
        let mut again = Vec::new();
        Packetizer::new(codec, usize::from(max) * 8).packetize(&complete, &mut |payload, _| {
            again.push(payload.to_vec());
        });
        let frame = depacketize(codec, again.iter().map(Vec::as_slice));
        assert_eq!(frame.as_deref(), Some(&complete[..]));
    }
}

/// What is configured holds no more than it came from, and is the same without what it holds.
pub(crate) fn configuration(bytes: &[u8]) {
    let Some((&[codec], rest)) = bytes.split_first_chunk() else { return };
    if let Some(read) = AudioConfiguration::read(&AudioCoding::Aac(rest.into())) {
        assert!(read.record == rest && read.channels > 0 && read.sample_rate > 0);
        assert!(read.frame_samples.is_some_and(|samples| samples > 0));
    }
    let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
    let frame = Bytes::copy_from_slice(rest);
    let stripped = strip_parameter_sets(codec, &frame);
    assert!(stripped.len() <= frame.len());
    if let Some(read) = VideoConfiguration::read(codec, &frame) {
        assert!(read.size.0 > 0 && read.size.1 > 0);
        assert!(read.record.len() <= frame.len() + 40, "{} bytes", read.record.len());
        assert!(read.codec_string.len() < 48 && read.codec_string.is_ascii());
        if codec != Codec::Av1 {
            assert_eq!(VideoConfiguration::read(codec, &stripped), None);
        }
    }
}

/// What passes is presented in order, unless the clock goes back or the stream itself says so.
pub(crate) fn b_frames(bytes: &[u8]) {
    let Some((&[codec], rest)) = bytes.split_first_chunk() else { return };
    let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
    let (mut b_frames, arrival) = (BFrames::new(BFramePolicy::Transcode), Instant::now());
    let (mut decode, mut last) = (0_i64, i64::MIN);
    for frame in frames(rest) {
        let Some((&[step, offset], data)) = frame.split_first_chunk() else { continue };
        decode += i64::from(step.cast_signed());
        let is_back = step.cast_signed() < 0;
        let present = decode + i64::from(offset);
        let frame = Frame {
            coding: Coding::Video(codec),
            decode_ticks: decode,
            present_ticks: present,
            arrival,
            data: data.to_vec().into(),
        };
        let verdict = b_frames.look(&frame);
        let is_declared = b_frames.found() == Found::Never;
        if verdict == Verdict::Pass {
            assert!(is_back || is_declared || present >= last);
            last = if is_back { present } else { last.max(present) };
        }
    }
}

/// Steps of a publisher's clock and of ours: sound rises, and no two pictures are at the same
/// time.
pub(crate) fn timing(bytes: &[u8]) {
    let (mut timing, mut arrival) = (Timing::new(Duration::from_secs(2)), Instant::now());
    let (mut sound, mut pictures) = (0, Vec::new());
    let mut clock = 0_i64;
    for step in bytes.chunks_exact(8) {
        let &[kind, passed, reorder, shift, a, b, c, d] = step else { return };
        arrival += Duration::from_millis(u64::from(passed) * if kind & 4 == 0 { 1 } else { 100 });
        clock = clock.wrapping_add(i64::from(i32::from_be_bytes([a, b, c, d])) << (shift % 40));
        let kind = if kind & 1 == 0 { Kind::Video } else { Kind::Audio };
        let coding = match kind {
            Kind::Video => Coding::Video(Codec::H264),
            Kind::Audio => Coding::Audio(AudioCoding::Opus),
        };
        let present_ticks = clock.wrapping_add(i64::from(reorder.cast_signed()) * 9_000);
        let data = Vec::new().into();
        let frame = Frame { coding, decode_ticks: clock, present_ticks, arrival, data };
        let Placement::At(placed) = timing.place(&frame, step[0] & 2 == 0) else { continue };
        if kind == Kind::Audio {
            assert!(placed.ticks > sound);
            sound = placed.ticks;
        } else {
            assert!(!pictures[pictures.len().saturating_sub(15)..].contains(&placed.ticks));
            pictures.push(placed.ticks);
        }
    }
}
