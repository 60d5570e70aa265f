//! H.264 out of RTP (RFC 6184): single units, aggregates, fragments.

const START_CODE: [u8; 4] = [0, 0, 0, 1];
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// From the first keyframe on: a file in Annex B, and the RTP time of each picture.
pub(super) fn write(packets: &[rtp::Packet]) -> anyhow::Result<(Vec<u8>, Vec<u32>)> {
    let first = packets.iter().position(starts_keyframe).unwrap_or(packets.len());
    // The last picture may be cut off.
    let end = packets.iter().rposition(|it| it.header.marker).map_or(0, |last| last + 1);
    let packets = packets.get(first..end).unwrap_or_default();
    let (mut stream, mut times): (_, Vec<u32>) = (Vec::new(), Vec::new());
    let mut last = None;
    for packet in packets {
        let number = packet.header.sequence_number;
        let follows = last.is_none_or(|last: u16| last.wrapping_add(1) == number);
        anyhow::ensure!(follows, "packets before {number} are missing");
        last = Some(number);
        if times.last() != Some(&packet.header.timestamp) {
            times.push(packet.header.timestamp);
        }
        unpack(&packet.payload, &mut stream);
    }
    anyhow::ensure!(!times.is_empty(), "no keyframe came");
    Ok((stream, times))
}

fn unpack(payload: &[u8], stream: &mut Vec<u8>) {
    match payload {
        [header, rest @ ..] if header & 0x1F == STAP_A => {
            let mut rest = rest;
            while let Some((length, after)) = rest.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
                let (unit, after) = after.split_at(length);
                stream.extend(START_CODE);
                stream.extend_from_slice(unit);
                rest = after;
            }
        }
        [indicator, header, piece @ ..] if indicator & 0x1F == FU_A => {
            if header & 0x80 != 0 {
                stream.extend(START_CODE);
                stream.push(indicator & 0xE0 | header & 0x1F);
            }
            stream.extend_from_slice(piece);
        }
        unit => {
            stream.extend(START_CODE);
            stream.extend_from_slice(unit);
        }
    }
}

/// Parameter sets, alone or at the head of an aggregate.
fn starts_keyframe(packet: &rtp::Packet) -> bool {
    const SPS: u8 = 7;
    match packet.payload[..] {
        [header, _, _, first, ..] if header & 0x1F == STAP_A => first & 0x1F == SPS,
        [header, ..] => header & 0x1F == SPS,
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{VideoSettings, VideoSource};

    fn packets() -> Vec<rtp::Packet> {
        let mut source = VideoSource::new(VideoSettings::default(), 96, 7);
        (0..5).flat_map(|_| source.next_frame().packets).collect()
    }

    #[test]
    fn units_come_out_whole_and_each_picture_has_its_time() {
        let packets = packets();
        let (stream, times) = write(&packets).expect("a keyframe comes first");
        let starts = stream.windows(4).enumerate().filter(|(_, four)| *four == START_CODE);
        let kinds: Vec<u8> = starts.map(|(at, _)| stream[at + 4] & 0x1F).collect();
        assert_eq!(kinds, [7, 8, 5, 1, 1, 1, 1]);
        assert_eq!(times.len(), 5);
        assert!(times.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == 3_000));
    }

    #[test]
    fn what_is_cut_off_at_either_end_is_left_out() {
        let mut packets = packets();
        packets.remove(0);
        assert!(write(&packets).is_err(), "the only keyframe has no parameter sets");
        let mut packets = self::packets();
        packets.pop();
        assert_eq!(write(&packets).expect("four pictures").1.len(), 4);
    }

    #[test]
    fn a_hole_is_told() {
        let mut packets = packets();
        packets.remove(3);
        assert!(write(&packets).is_err());
    }
}
