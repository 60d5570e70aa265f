//! What the payload descriptors of VP8 and VP9 say of a packet's frame (RFC 7741 §4.2, RFC 9628
//! §4.2): its layers, and the numbers by which receivers find what it refers to.
//!
//! Fuzz target: `codec_descriptor`.

use super::vp9;
use crate::media::codec::Codec;

/// A picture id as it stands in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// Its value: 15 bits where it is long, else 7.
    pub value: u16,
    /// Whether it takes two bytes.
    pub is_long: bool,
    /// Where it begins.
    pub at: u8,
}

impl PictureId {
    /// The highest value of its length.
    pub const fn mask(self) -> u16 {
        if self.is_long { 0x7fff } else { 0x7f }
    }
}

/// A number of one byte as it stands in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteField {
    /// Its value.
    pub value: u8,
    /// Where it stands.
    pub at: u8,
}

/// The payload descriptor of one packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Whether it says of which layers the frame is.
    pub has_layers: bool,
    /// The spatial layer (VP9 `SID`); 0 where it is not said.
    pub spatial: u8,
    /// The temporal layer (`TID`); 0 where it is not said.
    pub temporal: u8,
    /// VP8's `Y`: the frame refers to none but its base layer frame.
    pub is_sync: bool,
    /// VP9's `U`: pictures of higher temporal layers that follow refer to none of theirs from
    /// before this one.
    pub is_up_point: bool,
    /// VP9's `P`: the picture refers to earlier ones.
    pub is_predicted: bool,
    /// Whether the frame begins here: VP8's `S` with partition 0, VP9's `B`.
    pub begins: bool,
    /// VP9's `E`: the last packet of the frame in its spatial layer. VP8 has the marker for that.
    pub ends: bool,
    /// The picture's number.
    pub picture_id: Option<PictureId>,
    /// How many base layer frames there were, modulo 256.
    pub base_index: Option<ByteField>,
    /// Where the frame's data begins, if there is no scalability structure before it.
    pub len: u8,
}

impl Descriptor {
    /// So many bytes at its start hold both numbers.
    pub const NUMBERS_MAX: usize = 5;

    /// Whether payloads of this codec have one.
    pub const fn is_of(codec: Codec) -> bool {
        matches!(codec, Codec::Vp8 | Codec::Vp9)
    }

    /// The descriptor at the start of a payload; `None` where it is cut short, or the codec has
    /// none.
    pub fn read(codec: Codec, payload: &[u8]) -> Option<Self> {
        match codec {
            Codec::Vp8 => read_vp8(payload),
            Codec::Vp9 => read_vp9(payload),
            Codec::H264 | Codec::H265 | Codec::Av1 | Codec::Opus => None,
        }
    }

    fn read_picture_id(&mut self, payload: &[u8]) -> Option<()> {
        let at = self.len;
        let first = self.take(payload)?;
        let is_long = first & 0x80 != 0;
        let mut value = u16::from(first & 0x7f);
        if is_long {
            value = value << 8 | u16::from(self.take(payload)?);
        }
        self.picture_id = Some(PictureId { value, is_long, at });
        Some(())
    }

    fn read_base_index(&mut self, payload: &[u8]) -> Option<()> {
        let at = self.len;
        let value = self.take(payload)?;
        self.base_index = Some(ByteField { value, at });
        Some(())
    }

    fn take(&mut self, payload: &[u8]) -> Option<u8> {
        let byte = *payload.get(usize::from(self.len))?;
        self.len += 1;
        Some(byte)
    }
}

/// RFC 7741 §4.2.
fn read_vp8(payload: &[u8]) -> Option<Descriptor> {
    let mut descriptor = Descriptor::default();
    let flags = descriptor.take(payload)?;
    descriptor.begins = flags & 0x17 == 0x10;
    if flags & 0x80 == 0 {
        return Some(descriptor);
    }
    let extended = descriptor.take(payload)?;
    if extended & 0x80 != 0 {
        descriptor.read_picture_id(payload)?;
    }
    if extended & 0x40 != 0 {
        descriptor.read_base_index(payload)?;
    }
    if extended & 0x30 != 0 {
        // TID, Y and KEYIDX share a byte.
        let indices = descriptor.take(payload)?;
        if extended & 0x20 != 0 {
            descriptor.has_layers = true;
            descriptor.temporal = indices >> 6;
            descriptor.is_sync = indices & 0x20 != 0;
        }
    }
    Some(descriptor)
}

/// RFC 9628 §4.2, up to the scalability structure.
fn read_vp9(payload: &[u8]) -> Option<Descriptor> {
    let mut descriptor = Descriptor::default();
    let flags = descriptor.take(payload)?;
    let [picture_id, predicted, layers, flexible, begins, ends] =
        [0x80, 0x40, 0x20, 0x10, 0x08, 0x04].map(|bit| flags & bit != 0);
    (descriptor.begins, descriptor.ends) = (begins, ends);
    descriptor.is_predicted = predicted;
    if picture_id {
        descriptor.read_picture_id(payload)?;
    }
    descriptor.has_layers = layers;
    if layers {
        let indices = descriptor.take(payload)?;
        descriptor.temporal = indices >> 5;
        descriptor.is_up_point = indices & 0x10 != 0;
        descriptor.spatial = indices >> 1 & 0x07;
        if !flexible {
            descriptor.read_base_index(payload)?;
        }
    }
    if flexible && predicted {
        // Up to three differences of picture ids; N says that another follows.
        for _ in 0..vp9::REFERENCES_MAX {
            if descriptor.take(payload)? & 0x01 == 0 {
                break;
            }
        }
    }
    Some(descriptor)
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    fn read(codec: Codec, payload: &str) -> Option<Descriptor> {
        Descriptor::read(codec, &hex(payload))
    }

    fn numbers(read: Option<Descriptor>) -> Option<(Option<u16>, Option<u8>)> {
        read.map(|it| (it.picture_id.map(|id| id.value), it.base_index.map(|index| index.value)))
    }

    #[test]
    fn vp8_says_layer_and_numbers() {
        let whole = read(Codec::Vp8, "90e0 8123 07 a0 ff").expect("whole");
        assert_eq!((whole.temporal, whole.is_sync, whole.begins, whole.len), (2, true, true, 6));
        assert_eq!(whole.picture_id, Some(PictureId { value: 0x123, is_long: true, at: 2 }));
        assert_eq!(whole.base_index, Some(ByteField { value: 7, at: 4 }));
        assert_eq!(numbers(read(Codec::Vp8, "9080 05 10")), Some((Some(5), None)));
        assert_eq!(read(Codec::Vp8, "90e0 812307"), None, "cut short");
        // TID stands there only where T says so (K alone: KEYIDX).
        assert_eq!(read(Codec::Vp8, "9010 e3").map(|it| it.temporal), Some(0));
        assert_eq!(read(Codec::Vp8, "10").map(|it| (it.begins, it.len)), Some((true, 1)));
        assert_eq!(read(Codec::Vp8, "11").map(|it| it.begins), Some(false), "another partition");
    }

    #[test]
    fn vp9_says_layers_and_numbers_in_both_modes() {
        let strict = read(Codec::Vp9, "ec 8123 52 09").expect("whole");
        assert_eq!((strict.temporal, strict.spatial, strict.is_up_point), (2, 1, true));
        assert!(strict.begins && strict.ends);
        assert_eq!(strict.base_index, Some(ByteField { value: 9, at: 4 }));
        let flexible = read(Codec::Vp9, "f8 05 40 0304 ff").expect("whole");
        assert_eq!((flexible.temporal, flexible.base_index, flexible.len), (2, None, 5));
        assert!(!flexible.ends);
        assert_eq!(numbers(read(Codec::Vp9, "08")), Some((None, None)));
        for cut in ["ec 8123 52", "ec 81", "f8 05 40 03"] {
            assert_eq!(read(Codec::Vp9, cut), None, "{cut}");
        }
    }
}
