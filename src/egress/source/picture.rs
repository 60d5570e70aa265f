//! A picture's frames with what decoders need, be it from the offer. Fuzz target: `source`.

use crate::codec::access_unit::AccessUnits;
use crate::media::codec::{Codec, Format};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::Bytes;

/// The picture of one publisher.
#[derive(Debug, Default)]
pub(super) struct Picture {
    units: Option<AccessUnits>,
    /// What flows, as was agreed.
    format: Option<Format>,
}

impl Picture {
    /// This flows from now on.
    pub(super) fn set_format(&mut self, format: &Format) {
        self.format = Some(format.clone());
        if let Some(units) = &mut self.units {
            put_sets(units, format);
        }
    }

    /// A frame as decoders need it, and whether they can start with it; `None` where it has no
    /// picture.
    pub(super) fn take(&mut self, codec: Codec, frame: &[u8]) -> Option<(Bytes, bool)> {
        if self.units.as_ref().is_none_or(|units| units.codec() != codec) {
            let mut units = AccessUnits::new(codec);
            if let Some(format) = &self.format {
                put_sets(&mut units, format);
            }
            self.units = Some(units);
        }
        self.units.as_mut()?.complete(frame)
    }
}

/// Parameter sets that came with the offer (RFC 6184 §8.1, RFC 7798 §7.1).
fn put_sets(units: &mut AccessUnits, format: &Format) {
    /// An offer has a few.
    const SETS_MAX: usize = 16;
    let names: &[&str] = match format.codec {
        Codec::H264 => &["sprop-parameter-sets"],
        Codec::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
        _ => &[],
    };
    if format.codec != units.codec() {
        return;
    }
    let sets = names.iter().filter_map(|name| format.parameter(name));
    for set in sets.flat_map(|sets| sets.split(',')).take(SETS_MAX) {
        if let Ok(nal) = BASE64_STANDARD_NO_PAD.decode(set.trim().trim_end_matches('=')) {
            units.put(&nal);
        }
    }
}
