//! Makes new inputs out of known ones: the same seed makes the same inputs for ever.

/// The longest input: a datagram cannot be longer, and an offer is refused beyond 64 KiB.
const LEN_MAX: usize = 66_000;
/// Numbers at which length fields and counters go wrong.
const EDGES: [u32; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0xffff_ffff];
/// What an attacker writes where a number, a name or a separator is expected.
const WORDS: [&str; 16] = [
    "0",
    "-1",
    "4294967296",
    "99999999999999999999",
    "a=",
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
    "\r\n",
    "\0",
    ":",
    ";",
    "=",
    " ",
    "*",
    "\u{e9}",
    "a=mid:0\r\n",
    "a=bundle-only\r\n",
];

/// A generator of numbers (SplitMix64): small, and good enough to choose by.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; 0 where that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }
}

/// One input, changed in one to six ways. `corpus` holds at least one entry.
pub(crate) fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        change(&mut input, corpus, random);
    }
    input.truncate(LEN_MAX);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len());
    match random.below(11) {
        0 => edit(input, at, |byte| byte ^ 1 << random.below(8)),
        1 => edit(input, at, |_| random.next() as u8),
        2 => edit(input, at, |byte| byte.wrapping_add(1)),
        3 => input.truncate(at),
        4 => {
            let end = (at + random.below(64)).min(input.len());
            input.drain(at..end);
        }
        5 => {
            let bytes: Vec<u8> = (0..=random.below(16)).map(|_| random.next() as u8).collect();
            insert(input, at, &bytes);
        }
        6 => overwrite(input, at, random),
        7 => {
            // The head of this input with the tail of another.
            let other = &corpus[random.below(corpus.len())];
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len())..]);
        }
        8 => {
            let end = (at + random.below(256)).min(input.len());
            let piece = input[at..end].to_vec();
            let to = random.below(input.len());
            insert(input, to, &piece);
        }
        9 => change_lines(input, random),
        _ => insert(input, at, WORDS[random.below(WORDS.len())].as_bytes()),
    }
}

fn edit(input: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = change(*byte);
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let at = at.min(input.len());
    input.splice(at..at, bytes.iter().copied());
}

/// Writes an edge number over what is there, in one, two or four bytes.
fn overwrite(input: &mut [u8], at: usize, random: &mut Random) {
    let edge = EDGES[random.below(EDGES.len())].to_be_bytes();
    let len = 1 << random.below(3);
    if let Some(place) = input.get_mut(at..at + len) {
        place.copy_from_slice(&edge[4 - len..]);
    }
}

/// Doubles, drops or swaps whole lines: what is text stays readable for longer.
fn change_lines(input: &mut Vec<u8>, random: &mut Random) {
    let mut lines: Vec<&[u8]> = input.split_inclusive(|&byte| byte == b'\n').collect();
    let (one, other) = (random.below(lines.len()), random.below(lines.len()));
    match random.below(3) {
        _ if lines.is_empty() => {}
        0 => lines.insert(other, lines[one]),
        1 => {
            lines.remove(one);
        }
        _ => lines.swap(one, other),
    }
    *input = lines.concat();
}
