//! How much of the machine workers may take, from what it has and what the operator wants. Pure,
//! but for [`Share::of_this_machine`].

use crate::config::transcode::Transcode;
use std::fmt;
use std::fs::read_to_string;
use std::num::NonZero;

/// Streams whose picture is transcoded at once, for each core: one of 1080p30 takes about half of
/// it.
const PICTURES_PER_CORE: usize = 2;

/// What workers may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The cores that they run on; none where that is all that the server may run on.
    pub(super) only: Vec<usize>,
    /// So much processor time, in cores.
    pub cores: usize,
    /// Streams whose picture is transcoded at once.
    pub pictures: usize,
}

impl Share {
    /// Of a process that may run on these cores, and has so much time on them.
    pub(super) fn of(settings: &Transcode, allowed: &[usize], cores: usize) -> Self {
        // The last ones: shards take the first.
        let first = match settings.cores {
            0 => 0,
            wanted => allowed.len().saturating_sub(wanted),
        };
        let only = allowed[first..].to_vec();
        let cores = if only.is_empty() { cores } else { cores.min(only.len()) };
        let pictures = match settings.pictures_max {
            0 => cores * PICTURES_PER_CORE,
            wanted => wanted,
        };
        Self { only: if first == 0 { Vec::new() } else { only }, cores, pictures }
    }

    /// As the kernel tells of this process: its affinity, and the quota of its control groups.
    pub fn of_this_machine(settings: &Transcode) -> Self {
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::of(settings, &allowed(&status), cores)
    }

    /// The cores that they run on, as a worker reads them; `None` where that is all.
    pub(super) fn list(&self) -> Option<String> {
        let numbers: Vec<_> = self.only.iter().map(ToString::to_string).collect();
        (!numbers.is_empty()).then(|| numbers.join(","))
    }
}

/// In words: "1 core (number 3), 2 pictures at once".
impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        write!(out, "{} core{}", self.cores, plural(self.cores))?;
        if let Some(list) = self.list() {
            write!(out, " (number {list})")?;
        }
        write!(out, ", {} picture{} at once", self.pictures, plural(self.pictures))
    }
}

/// The cores of a line such as `Cpus_allowed_list: 0-3,8` (proc(5)).
fn allowed(status: &str) -> Vec<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.into_iter().flat_map(|list| list.trim().split(',')).filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn share(
        wanted: (usize, usize),
        allowed: &[usize],
        cores: usize,
    ) -> (Vec<usize>, usize, usize) {
        let mut settings = Config::default().transcode;
        (settings.cores, settings.pictures_max) = wanted;
        let Share { only, cores, pictures } = Share::of(&settings, allowed, cores);
        (only, cores, pictures)
    }

    #[test]
    fn workers_take_what_the_operator_leaves_them_and_the_last_cores() {
        for (wanted, allowed, cores, expected) in [
            ((0, 0), &[0, 1][..], 2, (vec![], 2, 4)),
            ((1, 0), &[0, 1], 2, (vec![1], 1, 2)),
            ((2, 0), &[0, 1], 2, (vec![], 2, 4)),
            ((64, 0), &[0, 1], 2, (vec![], 2, 4)),
            ((3, 0), &[2, 3, 8, 9, 10], 5, (vec![8, 9, 10], 3, 6)),
            // A quota of less than the cores.
            ((0, 0), &[0, 1, 2, 3], 1, (vec![], 1, 2)),
            ((3, 0), &[0, 1, 2, 3], 2, (vec![1, 2, 3], 2, 4)),
            ((0, 1), &[0, 1], 2, (vec![], 2, 1)),
            ((1, 9), &[0, 1], 2, (vec![1], 1, 9)),
            // A kernel that does not say.
            ((1, 0), &[], 4, (vec![], 4, 8)),
        ] {
            assert_eq!(share(wanted, allowed, cores), expected, "{wanted:?} of {allowed:?}");
        }
    }

    #[test]
    fn the_cores_of_a_process_are_read_as_the_kernel_writes_them() {
        for (list, expected) in [
            ("0", &[0][..]),
            ("0-3", &[0, 1, 2, 3]),
            ("1,4-5,9", &[1, 4, 5, 9]),
            ("x,2", &[2]),
            ("", &[]),
        ] {
            let status = format!("Name:\tmillrace\nCpus_allowed_list:\t{list}\nMems:\t0\n");
            assert_eq!(allowed(&status), expected, "{list}");
        }
        assert_eq!(allowed("Name:\tmillrace\n"), &[] as &[usize]);
    }

    #[test]
    fn it_is_told_in_words() {
        let one = Share { only: vec![1], cores: 1, pictures: 2 };
        assert_eq!(one.to_string(), "1 core (number 1), 2 pictures at once");
        let all = Share { only: vec![], cores: 2, pictures: 1 };
        assert_eq!(all.to_string(), "2 cores, 1 picture at once");
    }
}
