//! The tables that say what a transport stream carries: PAT and PMT (ISO/IEC 13818-1 §2.4.4).

/// The longest section of these tables, header included (§2.4.4.4, §2.4.4.9).
const SECTION_MAX: usize = 1024;
/// Streams that are looked at in one PMT.
const STREAMS_MAX: usize = 64;
const PAT: u8 = 0;
const PMT: u8 = 2;
/// The first PID that may carry a PMT or media.
const FREE_PIDS: std::ops::Range<u16> = 0x10..super::packet::NULL_PID;

/// Puts the sections of one PID together.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// Of the one that has begun.
    bytes: Vec<u8>,
    /// The last one that was good: the same is sent ten times a second.
    last: Option<u32>,
}

impl Sections {
    /// Takes a payload in, and calls `found` with each section that is whole, right, and not the
    /// one before.
    pub(super) fn push(&mut self, payload: &[u8], is_start: bool, mut found: impl FnMut(&[u8])) {
        if !is_start {
            if !self.bytes.is_empty() {
                self.append(payload, &mut found);
            }
            return;
        }
        // §2.4.4.2: the first byte says how much of the section before still comes.
        let Some((&pointer, rest)) = payload.split_first() else { return };
        let Some((end, begin)) = rest.split_at_checked(usize::from(pointer)) else { return };
        if !self.bytes.is_empty() {
            self.append(end, &mut found);
        }
        self.bytes.clear();
        self.append(begin, &mut found);
    }

    /// What was lost may have been part of the section that has begun.
    pub(super) fn lost(&mut self) {
        self.bytes.clear();
    }

    fn append(&mut self, payload: &[u8], found: &mut impl FnMut(&[u8])) {
        let room = SECTION_MAX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(payload.get(..room).unwrap_or(payload));
        loop {
            // What follows the last section of a packet is filled with 0xff.
            if self.bytes.first().is_none_or(|&table| table == 0xff) {
                self.bytes.clear();
                return;
            }
            let Some(&[_, high, low]) = self.bytes.first_chunk() else { return };
            let len = 3 + (usize::from(high & 0x0f) << 8 | usize::from(low));
            if len > SECTION_MAX {
                self.bytes.clear();
                return;
            }
            let Some(section) = self.bytes.get(..len) else { return };
            if let Some((_, sum)) = section.split_last_chunk::<4>() {
                let sum = u32::from_be_bytes(*sum);
                if self.last != Some(sum) && crc(section) == 0 {
                    self.last = Some(sum);
                    found(section);
                }
            }
            self.bytes.drain(..len);
        }
    }
}

/// The checksum of §2.4.4 and its annex A; that of a section with its checksum is 0.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            if crc & 1 << 31 != 0 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 }
        })
    })
}

/// What stands between header and checksum of a section of this table that is in force.
fn body(section: &[u8], table: u8) -> Option<&[u8]> {
    let (&[id, _, _, _, _, version, _, _], rest) = section.split_first_chunk()?;
    let (body, _) = rest.split_last_chunk::<4>()?;
    (id == table && version & 1 == 1).then_some(body)
}

/// The PIDs of the programs in a PAT.
pub(super) fn programs(section: &[u8]) -> Option<Vec<u16>> {
    let entries = body(section, PAT)?.chunks_exact(4);
    let programs = entries.filter_map(|entry| {
        let &[high, low, pid_high, pid_low] = entry else { return None };
        // Program 0 is the network's table.
        ((high, low) != (0, 0)).then_some(pid(pid_high, pid_low))
    });
    Some(programs.filter(|pid| FREE_PIDS.contains(pid)).take(STREAMS_MAX).collect())
}

/// One stream of a PMT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) stream_type: u8,
    pub(super) pid: u16,
    descriptors: &'a [u8],
}

/// The streams in a PMT.
pub(super) fn streams(section: &[u8]) -> Option<Vec<Entry<'_>>> {
    let (&[_, _, high, low], rest) = body(section, PMT)?.split_first_chunk()?;
    let (_, mut rest) = rest.split_at_checked(usize::from(high & 0x0f) << 8 | usize::from(low))?;
    let mut entries = Vec::new();
    while let Some((&[stream_type, pid_high, pid_low, high, low], after)) = rest.split_first_chunk()
    {
        let len = usize::from(high & 0x0f) << 8 | usize::from(low);
        let (descriptors, after) = after.split_at_checked(len)?;
        let entry = Entry { stream_type, pid: pid(pid_high, pid_low), descriptors };
        if FREE_PIDS.contains(&entry.pid) && entries.len() < STREAMS_MAX {
            entries.push(entry);
        }
        rest = after;
    }
    Some(entries)
}

fn pid(high: u8, low: u8) -> u16 {
    u16::from(high & 0x1f) << 8 | u16::from(low)
}

impl<'a> Entry<'a> {
    /// The descriptor with this tag, without tag and length.
    pub(super) fn descriptor(&self, tag: u8) -> Option<&'a [u8]> {
        self.descriptors().find(|(it, _)| *it == tag).map(|(_, content)| content)
    }

    /// Whether it is registered as this format (§2.6.8).
    pub(super) fn is_registered(&self, format: [u8; 4]) -> bool {
        self.descriptors().any(|(tag, content)| tag == 0x05 && content.starts_with(&format))
    }

    fn descriptors(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.descriptors;
        std::iter::from_fn(move || {
            let (&[tag, len], after) = rest.split_first_chunk()?;
            let (content, after) = after.split_at_checked(usize::from(len))?;
            rest = after;
            Some((tag, content))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section with its length and checksum.
    fn section(table: u8, body: &[u8]) -> Vec<u8> {
        let len = body.len() + 9;
        let mut bytes = vec![table, 0xb0 | (len >> 8) as u8, len as u8, 0, 1, 0xc1, 0, 0];
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&crc(&bytes).to_be_bytes());
        bytes
    }

    fn whole(sections: &mut Sections, payload: &[u8], is_start: bool) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        sections.push(payload, is_start, |section| found.push(section.to_vec()));
        found
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The PAT that ffmpeg writes.
        let pat = [0x00, 0xb0, 0x0d, 0x00, 0x01, 0xc1, 0, 0, 0, 1, 0xf0, 0, 0x2a, 0xb1, 0x04, 0xb2];
        assert_eq!(crc(&pat), 0);
        assert_eq!(programs(&pat), Some(vec![0x1000]));
    }

    #[test]
    fn a_section_is_put_together_and_told_once() {
        let pat = section(PAT, &[0, 1, 0xe1, 0x00, 0, 0, 0xe0, 0x10]);
        let mut sections = Sections::default();
        let mut payload = vec![0];
        payload.extend_from_slice(&pat[..10]);
        assert!(whole(&mut sections, &payload, true).is_empty());
        let mut rest = pat[10..].to_vec();
        rest.extend_from_slice(&[0xff; 20]);
        assert_eq!(whole(&mut sections, &rest, false), std::slice::from_ref(&pat));
        let again: Vec<u8> = std::iter::once(0).chain(pat.iter().copied()).collect();
        assert!(whole(&mut sections, &again, true).is_empty(), "the same again");
        assert_eq!(programs(&pat), Some(vec![0x100]), "the network's table is no program");
    }

    #[test]
    fn a_section_may_end_where_another_begins() {
        let (one, two) = (section(PAT, &[0, 1, 0xe1, 0]), section(PAT, &[0, 1, 0xe2, 0]));
        let mut sections = Sections::default();
        let first: Vec<u8> = [&[0], &one[..5]].concat();
        assert!(whole(&mut sections, &first, true).is_empty());
        let second: Vec<u8> = [&[(one.len() - 5) as u8], &one[5..], &two].concat();
        assert_eq!(whole(&mut sections, &second, true), [one, two]);
    }

    #[test]
    fn damaged_and_endless_sections_are_dropped() {
        let mut sections = Sections::default();
        let mut damaged = section(PAT, &[0, 1, 0xe1, 0]);
        damaged[9] ^= 1;
        damaged.insert(0, 0);
        assert!(whole(&mut sections, &damaged, true).is_empty());
        assert!(whole(&mut sections, &[0, 0, 0xbf, 0xff, 1, 2, 3], true).is_empty());
        for _ in 0..100 {
            assert!(whole(&mut sections, &[0x11; 184], false).is_empty());
        }
        assert!(sections.bytes.len() <= SECTION_MAX);
    }

    #[test]
    fn streams_come_with_their_descriptors() {
        let opus = [0x06, 0xe1, 1, 0xf0, 10, 5, 4, b'O', b'p', b'u', b's', 0x7f, 2, 0x80, 2];
        let body = [&[0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0][..], &opus].concat();
        let pmt = section(PMT, &body);
        let entries = streams(&pmt).expect("a PMT");
        assert_eq!(entries.iter().map(|it| it.pid).collect::<Vec<_>>(), [0x100, 0x101]);
        assert!(entries[1].is_registered(*b"Opus"));
        assert_eq!(entries[1].descriptor(0x7f), Some(&[0x80, 2][..]));
        assert_eq!(entries[0].descriptor(0x7f), None);
        assert_eq!(streams(&section(PAT, &body)), None, "another table");
    }
}
