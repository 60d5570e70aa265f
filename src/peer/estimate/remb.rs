//! Reads a receiver's own estimate (REMB, draft-alvestrand-rmcat-remb-03 §2.2).
//! Fuzz target: `viewer_rtcp`.

use crate::media::bitrate::Bitrate;

/// The estimate in a whole RTCP packet with its header, if it is one that has one.
pub fn read(packet: &[u8]) -> Option<Bitrate> {
    let (&[first, 206, _, _], rest) = packet.split_first_chunk()? else { return None };
    let rest = rest.get(8..)?;
    let (&[b'R', b'E', b'M', b'B', _, high, middle, low], _) = rest.split_first_chunk()? else {
        return None;
    };
    if first >> 6 != 2 || first & 0x1f != 15 {
        return None;
    }
    let exponent = u32::from(high >> 2);
    let mantissa = u64::from(u32::from_be_bytes([0, high & 3, middle, low]));
    // What does not fit 64 bits is no limit at all.
    let shifted = mantissa.checked_mul(1_u64.checked_shl(exponent).unwrap_or(u64::MAX));
    Some(Bitrate::bps(shifted.unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mantissa_and_exponent_make_the_rate() {
        let mut packet = [
            0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0, 0, 0, 0, 0, 0, 7,
        ];
        packet[17..20].copy_from_slice(&[3 << 2 | 1, 0x86, 0xa0]);
        assert_eq!(read(&packet), Some(Bitrate::kbps(800)));
        packet[17] = 0xff;
        assert_eq!(read(&packet), Some(Bitrate::bps(u64::MAX)));
        for end in 0..20 {
            assert_eq!(read(&packet[..end]), None);
        }
        packet[12] = b'X';
        assert_eq!(read(&packet), None);
    }
}
