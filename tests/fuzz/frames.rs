//! The targets that take frames, as ways in that do not speak RTP make them.

use millrace::codec::packetizer::Packetizer;
use millrace::codec::{carries_parameters, dimensions, is_keyframe};
use millrace::media::codec::Codec;

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
        let (mut total, mut lasts, mut payloads) = (0, 0, 0);
        packetizer.packetize(frame, &mut |payload, last| {
            assert!((1..=max).contains(&payload.len()) && lasts == 0);
            let _ = (is_keyframe(codec, payload), carries_parameters(codec, payload));
            let _ = dimensions(codec, payload);
            total += payload.len();
            lasts += usize::from(last);
            payloads += 1;
        });
        assert_eq!(lasts, usize::from(payloads > 0));
        assert!(total <= frame.len() * 4 + 16_384 + 12 * payloads, "{total} of {}", frame.len());
        let _ = packetizer.format();
    }
}
