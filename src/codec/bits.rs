//! Reads single bits and Exp-Golomb numbers from codec headers, one at a time and never past the
//! end. It knows no codec.

/// A reader over the bytes of one header. Every method is `None` once the bytes have run out.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    rest: &'a [u8],
    current: u8,
    /// How many bits of `current` have not been read.
    left: u32,
    /// How many bytes before the next one were zero; counted only to find escapes.
    zeros: u32,
    escaped: bool,
}

impl<'a> BitReader<'a> {
    /// Reads the bytes as they are.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, current: 0, left: 0, zeros: 0, escaped: false }
    }

    /// Reads a NAL unit: the 3 in each 00 00 03 is an escape and left out (H.264 §7.4.1).
    pub(super) fn escaped(bytes: &'a [u8]) -> Self {
        Self { escaped: true, ..Self::new(bytes) }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if self.escaped && self.zeros >= 2 && first == 3 {
            self.zeros = 0;
            return self.next_byte_after_escape();
        }
        self.count_zeros(first);
        Some(first)
    }

    fn next_byte_after_escape(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.count_zeros(byte);
        Some(byte)
    }

    fn count_zeros(&mut self, byte: u8) {
        self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
    }

    /// One bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.next_byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.current >> self.left & 1 == 1)
    }

    /// A number of `count` bits, at most 32.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// Passes over `count` bits.
    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.flag()?;
        }
        Some(())
    }

    /// An unsigned Exp-Golomb number (H.264 §9.1), `ue(v)`; those over 31 bits are refused.
    pub(super) fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 30 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// A signed Exp-Golomb number (H.264 §9.1.1), `se(v)`.
    pub(super) fn signed(&mut self) -> Option<i32> {
        let code = i64::from(self.unsigned()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 1 { magnitude } else { -magnitude }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_numbers_are_read() {
        // 1 | 010 | 011 | 00100 | 00101, then padding.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = BitReader::new(&bytes);
        let read: Vec<_> = (0..3).map(|_| reader.unsigned()).collect();
        assert_eq!(read, [Some(0), Some(1), Some(2)]);
        assert_eq!((reader.signed(), reader.signed()), (Some(2), Some(-2)));
    }

    #[test]
    fn escapes_are_left_out_only_where_asked() {
        let bytes = [0, 0, 3, 1];
        assert_eq!(BitReader::escaped(&bytes).bits(24), Some(1));
        assert_eq!(BitReader::new(&bytes).bits(24), Some(3));
        assert_eq!(BitReader::escaped(&bytes).bits(25), None);
    }

    #[test]
    fn endless_zeros_are_no_number() {
        assert_eq!(BitReader::new(&[0; 64]).unsigned(), None);
    }
}
