//! Spatial layers that refer to each other in keyframes only (`L3T3_KEY`) say of each frame that it
//! needs the one below.
//!
//! libwebrtc decodes a picture once the frame that ends it can be, with what is there of the
//! others. One of a lower layer that comes late, repaired, is of no use to it then, and as those
//! after it refer to it no picture can be decoded whole any more: Chromium 156 stood until the next
//! keyframe, for seconds, at 2 % loss. Said to need it, the picture waits for what is repaired.
//!
//! Fuzz target: `codec_joined`.

use super::bits::BitReader;
use super::dependency::{MANDATORY, TEMPLATES_MAX};
use super::descriptor::Descriptor;
use crate::media::codec::Codec;

/// An element of a header extension is no longer (RFC 8285 §4.3).
const LEN_MAX: usize = 255;

/// Says so in a payload of VP9, in its descriptor (RFC 9628 §4.2, `D`).
pub fn join_vp9(payload: &mut [u8]) {
    let Some(own) = Descriptor::read(Codec::Vp9, payload).filter(|own| own.spatial > 0) else {
        return;
    };
    // Behind the first byte and the picture id.
    let at = 1 + own.picture_id.map_or(0, |id| 1 + usize::from(id.is_long));
    if let Some(layer) = payload.get_mut(at) {
        *layer |= 0x01;
    }
}

/// The same in the structure that a dependency descriptor brings (AOM "RTP Payload Format For AV1"
/// 1.0, §A.8.2, `template_fdiffs`); `None` where there is nothing to say, or no structure. The
/// frame of the spatial layer below has the number before.
pub fn joined(value: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Copy { from: BitReader::new(value), left: 8 * value.len(), to: Vec::new() };
    copy.number(8 * MANDATORY as u32)?;
    if copy.number(1)? == 0 {
        return None;
    }
    copy.number(4 + 6)?; // the other flags, template_id_offset
    let targets = copy.number(5)? + 1;
    let layers = copy.spatial_layers()?;
    for _ in &layers {
        copy.number(2 * targets)?; // template_dti
    }
    let mut is_other = false;
    for spatial in layers {
        let mut needs_below = spatial == 0;
        while copy.number(1)? == 1 {
            needs_below |= copy.number(4)? == 0; // fdiff_minus_one
        }
        if !needs_below {
            is_other = true;
            // In the place of the zero that ends them.
            copy.to.pop();
            copy.to.extend([true, false, false, false, false, false]);
        }
    }
    copy.number(u32::try_from(copy.left).ok()?)?;
    Some(copy.bytes()).filter(|bytes| is_other && bytes.len() <= LEN_MAX)
}

/// Bits on their way from one descriptor to another.
struct Copy<'a> {
    from: BitReader<'a>,
    left: usize,
    to: Vec<bool>,
}

impl Copy<'_> {
    /// The next bits; of more than 32 the last ones count.
    fn number(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let bit = self.from.flag()?;
            self.left = self.left.saturating_sub(1);
            self.to.push(bit);
            value = value << 1 | u32::from(bit);
        }
        Some(value)
    }

    /// The spatial layer of each template (§A.8.2, `template_layers`).
    fn spatial_layers(&mut self) -> Option<Vec<u8>> {
        let (mut layers, mut spatial) = (Vec::with_capacity(8), 0);
        while layers.len() < TEMPLATES_MAX {
            layers.push(spatial);
            match self.number(2)? {
                2 => spatial += 1,
                3 => return Some(layers),
                _ => {}
            }
        }
        None
    }

    /// All of them, filled up with zeros.
    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        self.to.chunks(8).map(|bits| byte(bits) << (8 - bits.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::dependency::Dependency;
    use super::super::hex;
    use super::*;

    #[test]
    fn frames_of_vp9_above_the_lowest_say_that_they_need_the_one_below() {
        for (payload, becomes) in [
            ("ec 8123 53 09", "ec 8123 53 09"),
            ("ec 8123 52 09", "ec 8123 53 09"),
            ("ac 23 52 09", "ac 23 53 09"),
            ("2c 52 09", "2c 53 09"),
            ("ec 8123 50 09", "ec 8123 50 09"),
            ("0c 52", "0c 52"),
            ("ec 8123", "ec 8123"),
        ] {
            let mut bytes = hex(payload);
            join_vp9(&mut bytes);
            assert_eq!(bytes, hex(becomes), "{payload}");
        }
    }

    #[test]
    fn templates_above_the_lowest_refer_to_the_frame_before() {
        // Chromium 156, AV1 `L2T3_KEY` of 640x360, a keyframe's.
        let value = hex("c00001800514853aaaa8018004004002a02a0060010015d34514174d144c70087432\
             1651118543276809f8059813f80b38");
        let whole = joined(&value).expect("those of the upper layer do not yet");
        let (mut before, mut after) = (None, None);
        let read = [Dependency::read(&value, &mut before), Dependency::read(&whole, &mut after)];
        assert_eq!(read[0], read[1]);
        assert!(before.is_some() && before == after, "nothing else differs");
        assert_eq!(joined(&whole), None, "they do now");
        assert!(whole.len() > value.len() && whole.len() <= value.len() + 4);
    }

    #[test]
    fn without_layers_above_or_a_structure_there_is_nothing_to_say() {
        assert_eq!(joined(&[0xc1, 0, 7]), None);
        assert_eq!(joined(&[]), None);
        let value = hex("c00001800514853aaaa8018004004002a02a0060010015d34514174d144c70087432");
        for end in 0..16 {
            assert_eq!(joined(&value[..end]), None, "{end}");
        }
    }
}
