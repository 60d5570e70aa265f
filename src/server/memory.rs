//! How much memory the process holds, and how much it may: read from the kernel's text files.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Of what the machine or the control group has, this much may be used before new viewers are
/// refused: the rest is for those who are there, and for the kernel's own buffers.
const USABLE_PERCENT: u64 = 80;

/// Resident memory of this process (proc(5), `VmRSS`); 0 where the kernel does not say.
pub(super) fn resident_bytes() -> u64 {
    read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| kilobytes(&text, "VmRSS:"))
        .unwrap_or(0)
}

/// What may be used where the operator has set no limit: the smaller of the machine's memory and
/// the limits of the control groups that this process is in.
pub(super) fn usable_bytes() -> u64 {
    let machine = read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| kilobytes(&text, "MemTotal:"));
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups);
    let limits = limits.iter().filter_map(|file| read_to_string(file).ok()?.trim().parse().ok());
    let least = machine.into_iter().chain(limits).min();
    least.map_or(u64::MAX, |bytes: u64| bytes / 100 * USABLE_PERCENT)
}

/// The number of a line such as `VmRSS:     1234 kB`, in bytes.
fn kilobytes(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Where the kernel keeps the limits of these control groups and those above them, in both
/// versions (cgroups(7)). In a container the path may be the machine's, which is not there:
/// then the topmost is the container's own.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path).ancestors() {
            let group = group.strip_prefix("/").unwrap_or(group);
            files.push(Path::new(root).join(group).join(file));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_bytes() {
        let text = "Name:\tmillrace\nVmHWM:\t  99 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(kilobytes(text, "VmRSS:"), Some(12 * 1024));
        for text in ["", "VmRSS:", "VmRSS: many kB", "VmRSS: 99999999999999999999 kB"] {
            assert_eq!(kilobytes(text, "VmRSS:"), None, "{text}");
        }
    }

    #[test]
    fn limits_of_all_groups_above_are_looked_at_in_both_versions() {
        let files = |groups| {
            let files = limit_files(groups).into_iter();
            files.map(|file| file.display().to_string()).collect::<Vec<_>>()
        };
        let second = files("0::/system.slice/millrace.service\n");
        assert_eq!(
            second,
            [
                "/sys/fs/cgroup/system.slice/millrace.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        let first = files("5:cpuset:/x\n4:memory:/pod\n1:cpu:/pod\nbroken");
        assert_eq!(
            first,
            [
                "/sys/fs/cgroup/memory/pod/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
    }

    #[test]
    fn this_process_holds_some_memory_and_may_hold_more() {
        let resident = resident_bytes();
        assert!(resident > 0);
        assert!(resident < usable_bytes());
    }
}
