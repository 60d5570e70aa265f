//! How a packet goes to one viewer otherwise than it came: its first bytes, its marker, the numbers
//! in its dependency descriptor.
//!
//! Payloads are shared by all viewers and never written to; what differs is written over the copy
//! that is sealed.

/// By how much the numbers in a dependency descriptor are moved, wrapping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DependencyMoved {
    /// The frame number, 16 bits.
    pub frame: u16,
    /// Numbers of templates, 6 bits.
    pub template: u8,
}

impl DependencyMoved {
    /// They stay as they are.
    pub const NONE: Self = Self { frame: 0, template: 0 };
}

/// What differs, for one viewer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patch {
    /// The marker is set: what the picture goes on with is left out.
    pub marker: bool,
    /// The payload is left out: the packet is nothing but RTP padding (RFC 3550 §5.1), by which a
    /// receiver knows that it misses nothing.
    pub is_blank: bool,
    /// By how much the numbers in its dependency descriptor are moved.
    pub dependency: DependencyMoved,
    len: u8,
    head: [u8; Self::HEAD_MAX],
}

impl Patch {
    /// So many bytes at the start of a payload may differ.
    pub const HEAD_MAX: usize = 5;
    /// Nothing differs.
    pub const NONE: Self = Self {
        marker: false,
        is_blank: false,
        dependency: DependencyMoved::NONE,
        len: 0,
        head: [0; Self::HEAD_MAX],
    };
    /// Nothing is left but padding.
    pub const BLANK: Self = Self { is_blank: true, ..Self::NONE };

    /// Another byte in the place of one in the payload; beyond what may differ nothing happens.
    pub fn set(&mut self, payload: &[u8], at: usize, byte: u8) {
        let end = at + 1;
        if end > Self::HEAD_MAX || end > payload.len() {
            return;
        }
        let known = usize::from(self.len);
        if end > known {
            self.head[known..end].copy_from_slice(&payload[known..end]);
            self.len = end as u8;
        }
        self.head[at] = byte;
    }

    /// What the payload begins with instead; as long as what it takes the place of.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_stays_as_it_is() {
        let mut patch = Patch::NONE;
        assert!(patch.head().is_empty());
        patch.set(b"payload", 3, b'X');
        patch.set(b"payload", 1, b'Y');
        assert_eq!(patch.head(), b"pYyX");
        patch.set(b"payload", 5, b'Z');
        patch.set(b"pay", 4, b'Z');
        assert_eq!(patch.head(), b"pYyX", "beyond what may differ, or the payload's end");
    }
}
