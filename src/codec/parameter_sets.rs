//! What decoders must have before the first picture: the newest parameter set of each number.

/// Parameter sets in the order in which decoders need them. The standards bound their numbers.
#[derive(Debug, Default)]
pub(in crate::codec) struct ParameterSets {
    sets: Vec<(SetId, Vec<u8>)>,
    bytes: usize,
}

/// One place for a parameter set. Their order is that in which they refer to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::codec) enum SetId {
    Video(u8),
    Sequence(u8),
    Picture(u8),
}

impl ParameterSets {
    /// Encoders have three sets of a few dozen bytes; hundreds with scaling lists still fit.
    pub(in crate::codec) const BYTES_MAX: usize = 16_384;

    /// Takes the place of the one with this number; whether it is another. Sets beyond all measure
    /// begin anew.
    pub(in crate::codec) fn put(&mut self, id: SetId, nal: &[u8]) -> bool {
        if nal.len() > Self::BYTES_MAX {
            return false;
        }
        let found = self.sets.binary_search_by_key(&id, |(id, _)| *id);
        if let Ok(at) = found {
            let (_, set) = &mut self.sets[at];
            if set == nal {
                return false;
            }
            self.bytes = self.bytes - set.len() + nal.len();
            set.clear();
            set.extend_from_slice(nal);
        } else if let Err(at) = found {
            self.bytes += nal.len();
            self.sets.insert(at, (id, nal.to_vec()));
        }
        if self.bytes > Self::BYTES_MAX {
            self.sets.clear();
            self.sets.push((id, nal.to_vec()));
            self.bytes = nal.len();
        }
        true
    }

    /// How many bytes they are, each with its length.
    pub(super) const fn len(&self) -> usize {
        self.bytes + 4 * self.sets.len()
    }

    /// All of them, in their order.
    pub(in crate::codec) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.sets.iter().map(|(_, set)| set.as_slice())
    }

    /// The first sequence parameter set.
    pub(in crate::codec) fn sequence(&self) -> Option<&[u8]> {
        let is_sequence = |(id, _): &&(SetId, _)| matches!(id, SetId::Sequence(_));
        self.sets.iter().find(is_sequence).map(|(_, set)| set.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_number_stands_in_the_order_of_need() {
        let mut sets = ParameterSets::default();
        for (id, nal) in [
            (SetId::Picture(1), "pps 1"),
            (SetId::Picture(0), "pps 0"),
            (SetId::Sequence(0), "an older sps"),
            (SetId::Video(0), "vps"),
            (SetId::Sequence(0), "sps"),
        ] {
            sets.put(id, nal.as_bytes());
        }
        let all: Vec<&[u8]> = sets.iter().collect();
        assert_eq!(all, [&b"vps"[..], b"sps", b"pps 0", b"pps 1"]);
        assert_eq!(sets.sequence(), Some(&b"sps"[..]));
        assert_eq!(sets.bytes, 16);
    }

    #[test]
    fn there_are_never_more_bytes_than_the_bound() {
        let mut sets = ParameterSets::default();
        for id in 0..=u8::MAX {
            sets.put(SetId::Picture(id), &vec![id; 1 + usize::from(id) * 100]);
            let bytes: usize = sets.iter().map(<[u8]>::len).sum();
            assert_eq!(bytes, sets.bytes);
            assert!((1..=ParameterSets::BYTES_MAX).contains(&bytes));
        }
    }
}
