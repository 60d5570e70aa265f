//! What a viewer wishes to see, as plain data: a layer by its name, ceilings, or no picture at all.
//!
//! A wish is by names and sizes, which outlast the publisher; which layer that is at a moment is
//! `allocator`'s matter.

use crate::media::bitrate::Bitrate;

/// What a viewer wishes to see. All empty, it leaves that to the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerChoice {
    /// The layer with this name in the publisher's offer (RFC 8851); the best that the link carries
    /// where it is not named, and while nothing comes of it.
    pub rid: Option<String>,
    /// This spatial layer of it (SVC), or its highest below that.
    pub spatial: Option<u8>,
    /// This temporal layer of it, or its highest below that.
    pub temporal: Option<u8>,
    /// What must not be exceeded.
    pub ceiling: Ceiling,
    /// No picture; the sound goes on.
    pub paused: bool,
}

/// What must not be exceeded. The smallest layer goes out whatever it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// The picture's width in pixels.
    pub width: Option<u32>,
    /// Its height.
    pub height: Option<u32>,
    /// What the picture may take.
    pub bitrate: Option<Bitrate>,
    /// The highest spatial layer.
    pub spatial: Option<u8>,
    /// The highest temporal layer.
    pub temporal: Option<u8>,
}

impl LayerChoice {
    /// The highest spatial layer that is wished for of one whose highest is `max`.
    pub fn spatial_of(&self, max: u8) -> u8 {
        least(max, [self.spatial, self.ceiling.spatial])
    }

    /// The highest temporal layer that is wished for of one whose highest is `max`.
    pub fn temporal_of(&self, max: u8) -> u8 {
        least(max, [self.temporal, self.ceiling.temporal])
    }
}

impl Ceiling {
    /// Whether a picture of this size is no larger.
    pub fn admits(&self, (width, height): (u16, u16)) -> bool {
        let fits = |side: u16, most: Option<u32>| most.is_none_or(|it| u32::from(side) <= it);
        fits(width, self.width) && fits(height, self.height)
    }
}

fn least(max: u8, ceilings: [Option<u8>; 2]) -> u8 {
    ceilings.into_iter().flatten().fold(max, u8::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_larger_than_a_ceiling_by_one_side() {
        let ceiling = |width, height| Ceiling { width, height, ..Ceiling::default() };
        assert!(Ceiling::default().admits((u16::MAX, u16::MAX)));
        assert!(ceiling(Some(640), Some(360)).admits((640, 360)));
        assert!(!ceiling(Some(639), Some(600)).admits((640, 360)));
        assert!(!ceiling(Some(800), Some(359)).admits((640, 360)));
        assert!(ceiling(None, Some(361)).admits((640, 360)));
        assert!(!ceiling(Some(0), None).admits((1, 1)));
    }

    #[test]
    fn the_lowest_of_all_that_is_said_of_a_layer_counts() {
        let ceiling = Ceiling { spatial: Some(1), ..Ceiling::default() };
        let choice = LayerChoice { temporal: Some(1), ceiling, ..LayerChoice::default() };
        assert_eq!((choice.spatial_of(2), choice.spatial_of(0)), (1, 0));
        assert_eq!((choice.temporal_of(2), choice.temporal_of(0)), (1, 0));
        assert_eq!(LayerChoice::default().temporal_of(2), 2);
    }
}
