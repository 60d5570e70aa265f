//! Opus in Ogg (RFC 3533, RFC 7845): a page for each packet.

/// Any number; there is one stream.
const SERIAL: u32 = 1;
const BEGINS: u8 = 2;
const ENDS: u8 = 4;

/// Writes a file, and returns the RTP time of its first sample. Nothing is skipped at its start,
/// as no browser does.
pub(super) fn write(packets: &[rtp::Packet]) -> anyhow::Result<(Vec<u8>, u32)> {
    let times = || packets.iter().map(|packet| packet.header.timestamp);
    let (Some(start), Some(last)) = (times().next(), times().next_back()) else {
        anyhow::bail!("no sound came");
    };
    let mut steps = times().zip(times().skip(1)).map(|(a, b)| b.wrapping_sub(a));
    let step = steps.next().unwrap_or(0);
    anyhow::ensure!(steps.all(|it| it == step), "there are holes in the sound");
    let mut file = Vec::new();
    let mut head = b"OpusHead\x01\x02\0\0".to_vec();
    head.extend(48_000_u32.to_le_bytes());
    head.extend([0, 0, 0]);
    file.extend(page(&head, 0, 0, BEGINS));
    let tags = b"OpusTags\x04\0\0\0none\0\0\0\0";
    file.extend(page(tags, 0, 1, 0));
    for (packet, number) in packets.iter().zip(2..) {
        let time = packet.header.timestamp;
        let position = u64::from(time.wrapping_sub(start).wrapping_add(step));
        let flags = if time == last { ENDS } else { 0 };
        file.extend(page(&packet.payload, position, number, flags));
    }
    Ok((file, start))
}

/// RFC 3533 §6.
fn page(packet: &[u8], position: u64, number: u32, flags: u8) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(position.to_le_bytes());
    page.extend(SERIAL.to_le_bytes());
    page.extend(number.to_le_bytes());
    page.extend([0; 4]);
    let full = packet.len() / 255;
    page.push((full + 1).min(255) as u8);
    page.extend(std::iter::repeat_n(255, full.min(254)));
    page.push((packet.len() % 255) as u8);
    page.extend_from_slice(packet);
    let sum = checksum(&page).to_le_bytes();
    page.splice(22..26, sum);
    page
}

/// Polynomial 0x04C11DB7 from the top, starting from nothing.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            (sum << 1) ^ if sum >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::AudioSource;

    #[test]
    fn every_packet_has_a_page_with_its_number_and_position() {
        let mut source = AudioSource::new(111, 9);
        let packets: Vec<rtp::Packet> = (0..50).map(|_| source.next_packet()).collect();
        let (file, start) = write(&packets).expect("sound without a hole");
        assert_eq!(start, packets[0].header.timestamp);
        let pages = file.windows(4).enumerate().filter(|(_, four)| four == b"OggS");
        let pages: Vec<&[u8]> = pages.map(|(at, _)| &file[at..]).collect();
        assert_eq!(pages.len(), 52);
        let position = |page: &[u8]| u64::from_le_bytes(page[6..14].try_into().expect("eight"));
        assert_eq!(position(pages[2]), 960);
        assert_eq!((pages[0][5], pages[51][5]), (BEGINS, ENDS));
        assert_eq!(position(pages[51]), 50 * 960);
    }

    #[test]
    fn a_hole_is_told() {
        let mut source = AudioSource::new(111, 9);
        let mut packets: Vec<rtp::Packet> = (0..50).map(|_| source.next_packet()).collect();
        packets.remove(7);
        assert!(write(&packets).is_err());
    }
}
