//! One packet of a transport stream (ISO/IEC 13818-1 §2.4.3): its header and adaptation field.

/// A packet's size, and the byte that it begins with.
pub(super) const LEN: usize = 188;
pub(super) const SYNC: u8 = 0x47;
/// The PID of packets that only fill up a constant rate.
pub(super) const NULL_PID: u16 = 0x1fff;

/// One packet, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) pid: u16,
    /// A PES packet or a section begins in the payload.
    pub(super) is_start: bool,
    /// The sender's modulator or network knows it to be damaged, or it is encrypted.
    pub(super) is_unusable: bool,
    /// Counts the packets with payload of a PID, modulo 16.
    pub(super) continuity: u8,
    /// The count may be any other than the one expected.
    pub(super) is_discontinuous: bool,
    /// The adaptation field is longer than what it carries: what comes next would not have fitted,
    /// or there is nothing more.
    pub(super) is_stuffed: bool,
    /// Empty where there is none.
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a packet apart; `None` where it contradicts itself.
    pub(super) fn split(bytes: &'a [u8; LEN]) -> Option<Self> {
        let (&[sync, first, second, third], rest) = bytes.split_first_chunk()?;
        if sync != SYNC {
            return None;
        }
        let (field, payload) = match third >> 4 & 3 {
            0 => return None,
            1 => (None, rest),
            _ => {
                let (&len, rest) = rest.split_first()?;
                let (field, payload) = rest.split_at_checked(usize::from(len))?;
                (Some(field), payload)
            }
        };
        let has_payload = third & 0x10 != 0;
        Some(Self {
            pid: u16::from(first & 0x1f) << 8 | u16::from(second),
            is_start: first & 0x40 != 0,
            is_unusable: first & 0x80 != 0 || third & 0xc0 != 0,
            continuity: third & 0x0f,
            is_discontinuous: field.is_some_and(|it| it.first().is_some_and(|it| it & 0x80 != 0)),
            is_stuffed: field.is_some_and(is_stuffed),
            payload: if has_payload { payload } else { &[] },
        })
    }
}

/// Whether an adaptation field (§2.4.3.5) is longer than what its flags announce.
fn is_stuffed(field: &[u8]) -> bool {
    let Some((&flags, rest)) = field.split_first() else { return true };
    let clock = |flag: u8| if flags & flag != 0 { 6 } else { 0 };
    let mut used = clock(0x10) + clock(0x08) + usize::from(flags & 0x04 != 0);
    // Private data, then an extension: each has its length before it.
    for flag in [0x02, 0x01] {
        if flags & flag != 0 {
            let len = rest.get(used).copied().unwrap_or(0);
            used += 1 + usize::from(len);
        }
    }
    rest.len() > used || (rest.is_empty() && flags == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with this header and adaptation field; the payload is 0xaa.
    fn packet(header: [u8; 4], field: &[u8]) -> [u8; LEN] {
        let mut bytes = [0xaa; LEN];
        bytes[..4].copy_from_slice(&header);
        bytes[4..4 + field.len()].copy_from_slice(field);
        bytes
    }

    #[test]
    fn a_header_is_taken_apart() {
        let bytes = packet([0x47, 0x41, 0x00, 0x1b], &[]);
        let packet = Packet::split(&bytes).expect("a packet");
        assert_eq!((packet.pid, packet.is_start, packet.continuity), (0x100, true, 11));
        assert_eq!(packet.payload.len(), 184);
        assert!(!packet.is_unusable && !packet.is_stuffed && !packet.is_discontinuous);
    }

    #[test]
    fn stuffing_is_told_from_what_a_field_carries() {
        // The field with its length, whether it is stuffed, the payload's length.
        let table: [(&[u8], bool, usize); 7] = [
            (&[0], true, 183),
            (&[1, 0], true, 182),
            (&[1, 0x40], false, 182),
            (&[7, 0x10, 1, 2, 3, 4, 5, 6], false, 176),
            (&[8, 0x10, 1, 2, 3, 4, 5, 6, 0xff], true, 175),
            (&[4, 0x02, 2, 7, 7], false, 179),
            (&[5, 0x02, 2, 7, 7, 0xff], true, 178),
        ];
        for (field, stuffed, len) in table {
            let bytes = packet([0x47, 0x01, 0x00, 0x30], field);
            let packet = Packet::split(&bytes).expect("a packet");
            assert_eq!((packet.is_stuffed, packet.payload.len()), (stuffed, len), "{field:?}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_no_packet() {
        for (header, field) in
            [([0x48, 0, 0, 0x10], &[][..]), ([0x47, 0, 0, 0x00], &[]), ([0x47, 0, 0, 0x30], &[184])]
        {
            assert_eq!(Packet::split(&packet(header, field)), None, "{header:?}");
        }
        let unusable = packet([0x47, 0x80, 0, 0x10], &[]);
        assert!(Packet::split(&unusable).is_some_and(|it| it.is_unusable));
        let scrambled = packet([0x47, 0, 0, 0x90], &[]);
        assert!(Packet::split(&scrambled).is_some_and(|it| it.is_unusable));
        let without_payload = packet([0x47, 0, 0, 0x20], &[183, 0]);
        assert!(Packet::split(&without_payload).is_some_and(|it| it.payload.is_empty()));
    }
}
