//! DTLS records and handshake fragments, read in place (RFC 6347 §4.1, §4.2.2).
//!
//! Only the framing is read; what the messages say is the library's business, and `client_hello`'s.
//! Fuzz target: `dtls_record`.

/// Content types (RFC 5246 §6.2.1).
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;

/// Bytes before a record's body.
pub(super) const RECORD_HEADER: usize = 13;
/// Bytes before a handshake fragment's body.
pub(super) const FRAGMENT_HEADER: usize = 12;
/// Where in a record its 48-bit sequence number lies.
pub(super) const RECORD_NUMBER: std::ops::Range<usize> = 5..11;

/// One record of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'d> {
    pub(super) content: u8,
    pub(super) epoch: u16,
    /// Header and body.
    pub(super) whole: &'d [u8],
    pub(super) body: &'d [u8],
}

/// The records of a datagram, up to the first that is cut short or of another version.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (header, tail) = rest.split_first_chunk::<RECORD_HEADER>()?;
        if header[1] != 0xfe {
            return None;
        }
        let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let body = tail.get(..len)?;
        let (whole, next) = rest.split_at_checked(RECORD_HEADER + len)?;
        rest = next;
        let epoch = u16::from_be_bytes([header[3], header[4]]);
        Some(Record { content: header[0], epoch, whole, body })
    })
}

/// A handshake message or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment<'d> {
    /// The message's type.
    pub(super) kind: u8,
    /// The whole message's length.
    pub(super) length: usize,
    /// The message's number in this handshake.
    pub(super) message: u16,
    /// Where in the message this part lies.
    pub(super) offset: usize,
    pub(super) bytes: &'d [u8],
}

/// The fragments in the body of an unencrypted handshake record; `None` if any is malformed.
pub(super) fn fragments(body: &[u8]) -> Option<Vec<Fragment<'_>>> {
    let mut fragments = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (header, tail) = rest.split_first_chunk::<FRAGMENT_HEADER>()?;
        let three = |at: usize| {
            usize::from(header[at]) << 16
                | usize::from(header[at + 1]) << 8
                | usize::from(header[at + 2])
        };
        let (length, offset) = (three(1), three(6));
        let (bytes, next) = tail.split_at_checked(three(9))?;
        if offset + bytes.len() > length {
            return None;
        }
        let message = u16::from_be_bytes([header[4], header[5]]);
        fragments.push(Fragment { kind: header[0], length, message, offset, bytes });
        rest = next;
    }
    Some(fragments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATAGRAM: [u8; 42] = [
        22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 14, // a record of 14 bytes
        1, 0, 0, 9, 0, 3, 0, 0, 7, 0, 0, 2, 0xaa, 0xbb, // the last 2 of a message's 9 bytes
        21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, // an alert of epoch 1
    ];

    #[test]
    fn records_and_fragments_are_read_in_place() {
        let read: Vec<_> = records(&DATAGRAM).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].content, read[0].epoch), (HANDSHAKE, 0));
        assert_eq!((read[1].content, read[1].epoch, read[1].body.len()), (ALERT, 1, 2));
        let parts = fragments(read[0].body).expect("well-formed");
        assert_eq!((parts[0].kind, parts[0].length, parts[0].message), (1, 9, 3));
        assert_eq!((parts[0].offset, parts[0].bytes), (7, [0xaa, 0xbb].as_slice()));
    }

    #[test]
    fn a_fragment_beyond_its_message_is_malformed() {
        let mut body = [1, 0, 0, 9, 0, 3, 0, 0, 8, 0, 0, 2, 0xaa, 0xbb];
        assert_eq!(fragments(&body), None);
        body[8] = 7;
        assert!(fragments(&body).is_some());
        assert_eq!(fragments(&body[..13]), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(at in 0_usize..42, byte: u8, end in 0_usize..=42) {
            let mut datagram = DATAGRAM;
            datagram[at] = byte;
            for record in records(&datagram[..end]) {
                let _ = fragments(record.body);
            }
        }
    }
}
