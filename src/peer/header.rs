//! A view of an RTP header: fields read in place, nothing copied or allocated (RFC 3550 §5.1).
//!
//! Writing headers is the sealer's work; this file only reads what the network sent.
//! Fuzz target: `rtp_header`.

/// The fields of an RTP header, and where its parts lie in the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// The marker bit.
    pub marker: bool,
    /// The payload type.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
    /// Whether the last bytes of the payload are padding.
    pub padding: bool,
    /// Bytes of the whole header, extensions included: where the payload starts.
    pub len: usize,
    /// Where the extension block's elements lie, and whether they have two-byte headers.
    extension: Option<ExtensionBlock>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ExtensionBlock {
    start: usize,
    end: usize,
    two_byte: bool,
}

impl RtpHeader {
    /// Bytes of the fixed part.
    pub const FIXED: usize = 12;

    /// Reads the header of a datagram; `None` if it is no RTP version 2 packet or is cut short.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let (fixed, _) = datagram.split_first_chunk::<{ Self::FIXED }>()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut len = Self::FIXED + usize::from(fixed[0] & 0x0f) * 4;
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let (head, _) = datagram.get(len..)?.split_first_chunk::<4>()?;
            let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let start = len + 4;
            len = start + words * 4;
            let profile = u16::from_be_bytes([head[0], head[1]]);
            // RFC 8285 §4.2 and §4.3; anything else is an extension nobody agreed on.
            let two_byte = profile & 0xfff0 == 0x1000;
            if profile == 0xbede || two_byte {
                extension = Some(ExtensionBlock { start, end: len, two_byte });
            }
        }
        if len > datagram.len() {
            return None;
        }
        Some(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            padding: fixed[0] & 0x20 != 0,
            len,
            extension,
        })
    }

    /// The value of the header extension with this id, in the datagram the header was read from.
    pub fn extension<'d>(&self, datagram: &'d [u8], id: u8) -> Option<&'d [u8]> {
        let block = self.extension?;
        let mut rest = datagram.get(block.start..block.end)?;
        while let Some((&first, tail)) = rest.split_first() {
            if first == 0 {
                rest = tail; // padding between elements
                continue;
            }
            let (found, len, tail) = if block.two_byte {
                let (&len, tail) = tail.split_first()?;
                (first, usize::from(len), tail)
            } else {
                if first >> 4 == 15 {
                    return None; // RFC 8285 §4.2: stop reading here
                }
                (first >> 4, usize::from(first & 0x0f) + 1, tail)
            };
            let value = tail.get(..len)?;
            if found == id {
                return Some(value);
            }
            rest = &tail[len..];
        }
        None
    }

    /// The payload of the opened datagram, without padding; `None` if the padding count lies.
    pub fn payload<'d>(&self, datagram: &'d [u8]) -> Option<&'d [u8]> {
        let payload = datagram.get(self.len..)?;
        if !self.padding {
            return Some(payload);
        }
        let padding = usize::from(*payload.last()?);
        if padding == 0 {
            return None;
        }
        payload.get(..payload.len().checked_sub(padding)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 2, extension, marker, payload type 96, sequence 258, a one-byte extension block
    /// with ids 1 (one byte) and 3 (two bytes), three payload bytes of which two are padding.
    const PACKET: [u8; 27] = [
        0xb0, 0xe0, 1, 2, 0, 0, 0, 9, 0, 0, 0, 7, 0xbe, 0xde, 0, 2, 0x10, b'0', 0x31, 5, 6, 0, 0,
        0, 0xaa, 0, 2,
    ];

    #[test]
    fn fields_extensions_and_payload_are_read_in_place() {
        let header = RtpHeader::read(&PACKET).expect("a well-formed packet");
        assert!(header.marker);
        assert_eq!((header.payload_type, header.sequence, header.ssrc), (96, 258, 7));
        assert_eq!(header.extension(&PACKET, 1), Some(b"0".as_slice()));
        assert_eq!(header.extension(&PACKET, 3), Some([5, 6].as_slice()));
        assert_eq!(header.extension(&PACKET, 2), None);
        assert_eq!(header.payload(&PACKET), Some([0xaa].as_slice()));
    }

    #[test]
    fn cut_short_anywhere_it_is_refused_or_read_without_panic() {
        for end in 0..PACKET.len() {
            let cut = &PACKET[..end];
            if let Some(header) = RtpHeader::read(cut) {
                assert!(header.len <= end);
                let _ = (header.payload(cut), header.extension(cut, 3));
            }
        }
    }

    #[test]
    fn a_padding_count_beyond_the_payload_is_refused() {
        let mut packet = PACKET;
        packet[26] = 200;
        let header = RtpHeader::read(&packet).expect("the header is sound");
        assert_eq!(header.payload(&packet), None);
    }
}
