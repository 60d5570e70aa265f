//! Retransmissions as RFC 4588 wraps them. Fuzz target: `rtx`.

/// The original sequence number and payload of a retransmission, given its own payload.
///
/// `None` for what is no retransmission: Chromium probes for bandwidth with padding on the RTX
/// stream, of which no byte is left once the padding is off.
pub fn unwrap(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (sequence, original) = payload.split_first_chunk()?;
    Some((u16::from_be_bytes(*sequence), original))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_is_behind_its_sequence_number() {
        assert_eq!(unwrap(&[1, 2, 9, 8]), Some((258, [9, 8].as_slice())));
        assert_eq!(unwrap(&[1, 2]), Some((258, [].as_slice())));
        assert_eq!(unwrap(&[1]), None);
        assert_eq!(unwrap(&[]), None);
    }
}
