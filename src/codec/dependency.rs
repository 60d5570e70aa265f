//! The dependency descriptor, a header extension that says of a frame what its payload may not:
//! its layers, and where somebody can go up to more of them (AOM "RTP Payload Format For AV1" 1.0,
//! Appendix A). What frames refer to, by which receivers know what they lack, is passed over: it is
//! said in differences of frame numbers, so that these can be moved for a viewer.
//!
//! Fuzz target: `codec_dependency`.

use super::bits::BitReader;
use crate::media::layer::Sizes;
use crate::media::patch::DependencyMoved;

/// Templates have numbers of 6 bits (§A.8.3).
pub(super) const TEMPLATES_MAX: usize = 64;
/// Their numbers wrap.
const TEMPLATE_MASK: u8 = 0x3f;
/// A descriptor of this length has none but the mandatory fields.
pub(super) const MANDATORY: usize = 3;
/// Layer ids: of AV1, which has 2 bits for spatial ones and 3 for temporal ones.
const SPATIAL_MAX: u8 = 3;
const TEMPORAL_MAX: u8 = 7;

/// What a frame is to a decode target, 2 bits each, the first target's lowest (§A.8.3, table A.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Indications(u64);

impl Indications {
    const SWITCH: u64 = 2;

    fn read(bits: &mut BitReader<'_>, targets: usize) -> Option<Self> {
        let mut all = 0;
        for target in 0..targets {
            all |= u64::from(bits.bits(2)?) << (2 * target);
        }
        Some(Self(all))
    }

    const fn of(self, target: usize) -> u64 {
        self.0 >> (2 * target) & 3
    }
}

/// A pattern of which frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Template {
    spatial: u8,
    temporal: u8,
    indications: Indications,
}

/// The templates that frames name until the next structure comes, with a keyframe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// The number of the first.
    offset: u8,
    templates: Vec<Template>,
    /// The highest spatial and temporal layer of each decode target.
    targets: Vec<(u8, u8)>,
    sizes: Sizes,
}

/// What a descriptor says of its packet and the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// Whether this is the last packet of the frame.
    pub ends: bool,
    /// Whether it has brought the structure.
    pub has_structure: bool,
    /// The frame's spatial layer.
    pub spatial: u8,
    /// Its temporal layer.
    pub temporal: u8,
    /// Whoever decodes this frame can decode all that follow up to this temporal layer of the same
    /// spatial one, if there is one said (the switch indication of §A.8.3).
    pub opens: Option<u8>,
}

impl Dependency {
    /// Reads the extension's value; `known` is the structure of the newest keyframe, which one
    /// that brings another replaces. `None` where it makes no sense, or names what is not known.
    pub fn read(value: &[u8], known: &mut Option<Box<Structure>>) -> Option<Self> {
        let mut bits = BitReader::new(value);
        bits.skip(1)?; // start_of_frame
        let ends = bits.flag()?;
        let template = bits.bits(6)? as u8;
        bits.skip(16)?; // frame_number
        let (mut has_structure, mut own_indications) = (false, false);
        if value.len() > MANDATORY {
            has_structure = bits.flag()?;
            let has_active = bits.flag()?;
            own_indications = bits.flag()?;
            bits.skip(2)?; // custom_fdiffs_flag, custom_chains_flag
            if has_structure {
                *known = Some(Box::new(Structure::read(&mut bits)?));
            }
            if has_active {
                bits.skip(known.as_ref()?.targets.len() as u32)?;
            }
        }
        let structure = known.as_ref()?;
        let index = template.wrapping_sub(structure.offset) & TEMPLATE_MASK;
        let Template { spatial, temporal, mut indications } =
            *structure.templates.get(usize::from(index))?;
        if own_indications {
            indications = Indications::read(&mut bits, structure.targets.len())?;
        }
        let opens = structure.opens(spatial, temporal, indications);
        Some(Self { ends, has_structure, spatial, temporal, opens })
    }
}

impl Structure {
    /// §A.8.2, `template_dependency_structure`.
    fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        let offset = bits.bits(6)? as u8;
        let target_count = bits.bits(5)? as usize + 1;
        let mut templates = read_layers(bits)?;
        for template in &mut templates {
            template.indications = Indications::read(bits, target_count)?;
        }
        for _ in &templates {
            while bits.flag()? {
                bits.skip(4)?; // fdiff_minus_one
            }
        }
        let chains = read_non_symmetric(bits, target_count as u32 + 1)?;
        if chains > 0 {
            for _ in 0..target_count {
                read_non_symmetric(bits, chains)?; // decode_target_protected_by
            }
            bits.skip(4 * chains * templates.len() as u32)?; // template_chain_fdiff
        }
        let spatial_max = templates.last().map_or(0, |last| last.spatial);
        let mut sizes = Some(Sizes::default());
        if bits.flag()? {
            // render_resolutions
            for _ in 0..=spatial_max {
                let (width, height) = (bits.bits(16)? + 1, bits.bits(16)? + 1);
                let size = super::size(width, height);
                sizes = sizes.zip(size).map(|(sizes, size)| sizes.with(size));
            }
        }
        let sizes = sizes.unwrap_or_default();
        let highest = |target| {
            let within = templates.iter().filter(|it| it.indications.of(target) != 0);
            within.fold((0, 0), |(spatial, temporal): (u8, u8), it| {
                (spatial.max(it.spatial), temporal.max(it.temporal))
            })
        };
        let targets = (0..target_count).map(highest).collect();
        Some(Self { offset, templates, targets, sizes })
    }

    /// The highest spatial and temporal layer in it.
    pub fn highest(&self) -> (u8, u8) {
        self.templates.iter().fold((0, 0), |(spatial, temporal), it| {
            (spatial.max(it.spatial), temporal.max(it.temporal))
        })
    }

    /// How large the pictures of its spatial layers are, where it says so.
    pub const fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The highest temporal layer of the targets of this spatial layer that are switched to here.
    fn opens(&self, spatial: u8, temporal: u8, indications: Indications) -> Option<u8> {
        let targets = self.targets.iter().enumerate();
        targets
            .filter(|&(index, _)| indications.of(index) == Indications::SWITCH)
            .filter(|&(_, &(of, up_to))| of == spatial && up_to >= temporal)
            .map(|(_, &(_, up_to))| up_to)
            .max()
    }
}

/// The numbers in a descriptor that receivers see: their order, and no more, means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The frame's.
    pub frame: u16,
    /// Of the templates that it brings the first one's, and the one after the last.
    pub templates: Option<(u8, u8)>,
}

impl Numbers {
    /// Those of a descriptor; `None` where it is cut short.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (&[_, high, low], _) = value.split_first_chunk::<MANDATORY>()?;
        Some(Self { frame: u16::from_be_bytes([high, low]), templates: read_templates(value) })
    }
}

/// The numbers of the templates that a descriptor brings (§A.8.2, `template_dependency_structure`).
fn read_templates(value: &[u8]) -> Option<(u8, u8)> {
    let &[flags, ..] = value.get(MANDATORY..)? else { return None };
    if flags & 0x80 == 0 {
        return None;
    }
    let mut bits = BitReader::new(&value[MANDATORY..]);
    bits.skip(5)?;
    let first = bits.bits(6)? as u8;
    bits.skip(5)?; // dt_cnt_minus_one
    let count = read_layers(&mut bits)?.len() as u8;
    Some((first, first.wrapping_add(count) & TEMPLATE_MASK))
}

/// So many bytes hold all numbers in a descriptor.
pub const NUMBERS_LEN: usize = 5;

/// What a descriptor begins with when its numbers have been moved; what lies beyond its end is
/// zero.
pub fn moved(value: &[u8], by: DependencyMoved) -> [u8; NUMBERS_LEN] {
    let mut head = [0; NUMBERS_LEN];
    let len = value.len().min(NUMBERS_LEN);
    head[..len].copy_from_slice(&value[..len]);
    let [flags, high, low, extended, offset] = &mut head;
    let next = |number: u8| number.wrapping_add(by.template) & TEMPLATE_MASK;
    *flags = *flags & !TEMPLATE_MASK | next(*flags & TEMPLATE_MASK);
    [*high, *low] = u16::from_be_bytes([*high, *low]).wrapping_add(by.frame).to_be_bytes();
    if *extended & 0x80 != 0 && len == NUMBERS_LEN {
        // template_id_offset, behind five flags.
        let first = next(*extended << 3 & 0x38 | *offset >> 5);
        *extended = *extended & !0x07 | first >> 3;
        *offset = *offset & !0xe0 | first << 5;
    }
    head
}

/// §A.8.2, `template_layers`: which layers the templates are of.
fn read_layers(bits: &mut BitReader<'_>) -> Option<Vec<Template>> {
    let mut templates = Vec::with_capacity(8);
    let (mut spatial, mut temporal) = (0, 0);
    loop {
        if templates.len() == TEMPLATES_MAX || spatial > SPATIAL_MAX || temporal > TEMPORAL_MAX {
            return None;
        }
        templates.push(Template { spatial, temporal, indications: Indications::default() });
        match bits.bits(2)? {
            0 => {}
            1 => temporal += 1,
            2 => (spatial, temporal) = (spatial + 1, 0),
            _ => return Some(templates),
        }
    }
}

/// A number below `count` (§A.8.1, `ns(n)`).
fn read_non_symmetric(bits: &mut BitReader<'_>, count: u32) -> Option<u32> {
    let width = u32::BITS - count.leading_zeros();
    let short = (1 << width) - count;
    let value = bits.bits(width.saturating_sub(1))?;
    if value < short {
        return Some(value);
    }
    Some((value << 1) - short + bits.bits(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits as text, spaces left out, padded with zeros to bytes.
    fn bytes(bits: &str) -> Vec<u8> {
        let bits: Vec<u8> = bits.bytes().filter(|bit| *bit != b' ').map(|bit| bit - b'0').collect();
        let byte = |chunk: &[u8]| chunk.iter().enumerate().map(|(at, bit)| bit << (7 - at)).sum();
        bits.chunks(8).map(byte).collect()
    }

    /// One spatial and two temporal layers, both switched to at the lower one's frames: a keyframe
    /// of template 5, which brings the structure.
    fn two_temporal_layers() -> Vec<u8> {
        let mandatory = "1 0 000101 0000000000000111";
        let flags = "1 0 0 0 0";
        let layers = "000101 00001 00 01 11";
        let indications = "10 10  10 10  00 01";
        let references = "0  1 0001 0  1 0000 0";
        let chains = "10  0000 0010 0001";
        let sizes = "1 0000001001111111 0000000101100111";
        bytes(&[mandatory, flags, layers, indications, references, chains, sizes].concat())
    }

    #[test]
    fn templates_say_what_later_frames_are() {
        let mut known = None;
        let first = Dependency::read(&two_temporal_layers(), &mut known).expect("well-formed");
        assert_eq!((first.spatial, first.temporal, first.opens), (0, 0, Some(1)));
        assert!(first.has_structure && !first.ends);
        assert_eq!(known.as_ref().map(|known| known.highest()), Some((0, 1)));
        assert_eq!(known.as_ref().map(|it| it.sizes()), Some(Some((640, 360)).into()));
        let frame = |template: &str| bytes(&format!("01 {template} 0000000000001000"));
        let base = Dependency::read(&frame("000110"), &mut known).expect("a known template");
        assert_eq!((base.temporal, base.opens, base.ends), (0, Some(1), true));
        let upper = Dependency::read(&frame("000111"), &mut known).expect("a known template");
        assert_eq!((upper.temporal, upper.opens), (1, None));
        assert_eq!(Dependency::read(&frame("001000"), &mut known), None, "beyond the last");
        assert_eq!(Dependency::read(&frame("000101"), &mut None), None, "no structure");
    }

    #[test]
    fn chromium_says_the_size_of_each_spatial_layer() {
        // 156, AV1 `L2T3_KEY` of 640x360, a keyframe's.
        let value = "c00001800514853aaaa8018004004002a02a0060010015d34514174d144c70087432\
                     1651118543276809f8059813f80b38";
        let mut known = None;
        let first = Dependency::read(&super::super::hex(value), &mut known).expect("well-formed");
        assert_eq!((first.spatial, first.temporal, first.ends), (0, 0, true));
        let structure = known.expect("it has brought one");
        assert_eq!(structure.highest(), (1, 2));
        assert_eq!(structure.sizes(), Sizes::default().with((320, 180)).with((640, 360)));
    }

    #[test]
    fn a_frame_may_say_for_itself_what_it_is_to_the_targets() {
        let mut known = None;
        Dependency::read(&two_temporal_layers(), &mut known);
        let own = bytes("01 000111 0000000000001000  0 1 1 0 0  11  00 10");
        let own = Dependency::read(&own, &mut known).expect("a known template");
        assert_eq!((own.temporal, own.opens), (1, Some(1)));
    }

    #[test]
    fn numbers_are_moved_and_nothing_else() {
        let value = two_temporal_layers();
        assert_eq!(Numbers::read(&value), Some(Numbers { frame: 7, templates: Some((5, 8)) }));
        let move_by = |value: &[u8], by| {
            let head = moved(value, by);
            [&head[..head.len().min(value.len())], value.get(head.len()..).unwrap_or(&[])].concat()
        };
        let by = DependencyMoved { frame: 0xfffa, template: 60 };
        let there = move_by(&value, by);
        assert_eq!(Numbers::read(&there), Some(Numbers { frame: 1, templates: Some((1, 4)) }));
        let mut known = None;
        let read = Dependency::read(&there, &mut known);
        assert_eq!(read, Dependency::read(&value, &mut None));
        // A frame of the same structure, and what has none of it.
        let upper = bytes("01 000111 0000000000001000");
        let there = move_by(&upper, by);
        assert_eq!(Numbers::read(&there), Some(Numbers { frame: 2, templates: None }));
        assert_eq!(Dependency::read(&there, &mut known).map(|it| it.temporal), Some(1));
        let back = DependencyMoved { frame: by.frame.wrapping_neg(), template: 4 };
        assert_eq!((move_by(&move_by(&value, by), back), move_by(&there, back)), (value, upper));
        let own = bytes("01 000111 0000000000001000  0 1 1 0 0  11  00 10");
        assert_eq!(move_by(&own, by)[3..], own[3..], "no structure");
    }

    #[test]
    fn cut_short_anywhere_a_structure_replaces_none() {
        let whole = two_temporal_layers();
        for end in 0..whole.len() - 4 {
            let mut known = None;
            assert_eq!(Dependency::read(&whole[..end], &mut known), None);
            assert!(known.is_none(), "{end}");
        }
    }

    #[test]
    fn numbers_below_a_count_take_as_few_bits_as_they_can() {
        let read = |bits: &str, count| read_non_symmetric(&mut BitReader::new(&bytes(bits)), count);
        // Of five: 00, 01, 10, 110, 111.
        let all = ["00", "01", "10", "110", "111"].map(|bits| read(bits, 5));
        assert_eq!(all, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(read("1", 1), Some(0), "no bit at all");
    }
}
