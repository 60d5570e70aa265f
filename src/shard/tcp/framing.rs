//! Datagrams in a stream of bytes (RFC 4571 §2): two bytes of length, then the datagram.
//!
//! Fuzz target: `framing`.

/// Bytes before each datagram.
pub const HEADER: usize = 2;
/// The longest datagram taken in, as over UDP.
pub const DATAGRAM_MAX: usize = 2048;

/// A frame that no WebRTC client sends: whatever follows is none either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes: no datagram of WebRTC is as long")]
pub struct Oversized(pub usize);

/// What stands before a datagram of this length.
pub const fn header(length: usize) -> [u8; HEADER] {
    (length as u16).to_be_bytes()
}

/// Takes datagrams out of a stream that comes in pieces.
#[derive(Debug, Default)]
pub struct Frames {
    /// The beginning of a frame whose rest has not come yet.
    partial: Vec<u8>,
}

impl Frames {
    /// Takes in the next piece and hands on every datagram that is complete now. Empty ones mean
    /// nothing and are passed over.
    ///
    /// # Errors
    ///
    /// [`Oversized`]: nothing that comes after it can be understood.
    pub fn read(
        &mut self,
        piece: &mut [u8],
        mut take: impl FnMut(&mut [u8]),
    ) -> Result<(), Oversized> {
        let mut rest = piece;
        while !self.partial.is_empty() {
            let wanted = HEADER + length_of(&self.partial)?.unwrap_or(0);
            let missing = wanted.saturating_sub(self.partial.len());
            let (head, tail) = rest.split_at_mut(missing.min(rest.len()));
            self.partial.extend_from_slice(head);
            if head.len() < missing {
                return Ok(());
            }
            rest = tail;
            if length_of(&self.partial)?.is_some_and(|len| self.partial.len() == HEADER + len) {
                if let Some(datagram) = self.partial.get_mut(HEADER..).filter(|d| !d.is_empty()) {
                    take(datagram);
                }
                self.partial.clear();
            }
        }
        while let Some(length) = length_of(rest)?
            && rest.len() >= HEADER + length
        {
            let (frame, tail) = rest.split_at_mut(HEADER + length);
            if let Some(datagram) = frame.get_mut(HEADER..).filter(|d| !d.is_empty()) {
                take(datagram);
            }
            rest = tail;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }
}

/// The length of the datagram that a frame begins with, once it is there.
fn length_of(frame: &[u8]) -> Result<Option<usize>, Oversized> {
    let Some(header) = frame.first_chunk::<HEADER>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*header));
    if length > DATAGRAM_MAX { Err(Oversized(length)) } else { Ok(Some(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(datagrams: &[Vec<u8>]) -> Vec<u8> {
        datagrams.iter().flat_map(|d| [&header(d.len())[..], d].concat()).collect()
    }

    /// Reads a stream that comes in pieces of these lengths, and then in one.
    fn read(stream: &[u8], pieces: &[usize]) -> Result<Vec<Vec<u8>>, Oversized> {
        let mut frames = Frames::default();
        let mut datagrams = Vec::new();
        let mut rest = stream.to_vec();
        for &length in pieces.iter().chain([&usize::MAX]) {
            let mut piece: Vec<u8> = rest.drain(..length.min(rest.len())).collect();
            frames.read(&mut piece, |datagram| datagrams.push(datagram.to_vec()))?;
            assert!(frames.partial.len() < HEADER + DATAGRAM_MAX);
        }
        Ok(datagrams)
    }

    #[test]
    fn a_stream_split_at_any_byte_gives_the_same_datagrams() {
        let datagrams = [vec![1; 20], vec![2], vec![3; DATAGRAM_MAX], vec![4; 300]];
        let stream = framed(&datagrams);
        for at in 0..=stream.len() {
            assert_eq!(read(&stream, &[at]), Ok(datagrams.to_vec()), "split at {at}");
            assert_eq!(read(&stream, &[at, 1]), Ok(datagrams.to_vec()), "split around {at}");
        }
        assert_eq!(read(&stream, &vec![1; stream.len()]), Ok(datagrams.to_vec()));
    }

    #[test]
    fn empty_frames_mean_nothing() {
        let stream = framed(&[vec![], vec![7; 3], vec![], vec![]]);
        for at in 0..=stream.len() {
            assert_eq!(read(&stream, &[at]), Ok(vec![vec![7; 3]]));
        }
    }

    #[test]
    fn a_frame_longer_than_any_datagram_is_an_error_as_soon_as_it_begins() {
        let good = framed(&[vec![5; 9]]);
        for length in [DATAGRAM_MAX + 1, usize::from(u16::MAX)] {
            let stream = [&good[..], &header(length)].concat();
            for at in 0..stream.len() {
                assert_eq!(read(&stream, &[at]), Err(Oversized(length)));
            }
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_what_was_framed_comes_out(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..20),
            pieces in prop::collection::vec(0_usize..50, 0..40),
        ) {
            prop_assert_eq!(read(&framed(&datagrams), &pieces), Ok(datagrams));
        }
    }
}
