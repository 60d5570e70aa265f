//! Opus in RTP (RFC 7587). Fuzz target: `codec_opus`.

/// A decoder can start with any Opus packet; one without a byte is none (RFC 6716 §3.1).
pub fn is_keyframe(payload: &[u8]) -> bool {
    !payload.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_a_start_and_padding_is_not() {
        assert!(is_keyframe(&[0xfc]));
        assert!(!is_keyframe(&[]));
    }
}
