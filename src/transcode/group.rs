//! A control group of the workers, beside one of the server, where the server's own was delegated
//! to it (cgroups(7), version 2; `Delegate=cpu` in its unit): whatever the workers want, the server
//! comes first. Without one there is `nice` alone, thread by thread: many threads of workers then
//! weigh as much as one that sends packets.
//!
//! There is no quota (`cpu.max`): it is used up in a burst, and pictures stand for the rest of its
//! 100 ms.

use std::fs::{create_dir_all, read_to_string, write};
use std::io;
use std::path::{Path, PathBuf};
use tracing::debug;

/// Where control groups of version 2 are.
const ROOT: &str = "/sys/fs/cgroup";
/// The controller that is needed.
const CONTROLLER: &str = "cpu";
/// What the workers weigh where processor time is short; every group has 100 at first.
const WEIGHT: &str = "20";
/// Which processes a group has.
const PROCESSES: &str = "cgroup.procs";

/// The group of the workers.
#[derive(Debug, Clone)]
pub(super) struct Group(PathBuf);

impl Group {
    /// Makes it, where that is possible; before any worker runs.
    pub(super) fn make() -> Option<Self> {
        let own = own_group(&read_to_string("/proc/self/cgroup").ok()?)?;
        match Self::make_in(&own, std::process::id()) {
            Ok(group) => Some(group),
            Err(error) => {
                debug!(group = %own.display(), %error, "no control group for workers");
                None
            }
        }
    }

    /// Makes it in the group of this process, which must be alone there: what others are in is not
    /// ours to divide. A group with others in it has no processes itself.
    fn make_in(own: &Path, process: u32) -> io::Result<Self> {
        let controllers = read_to_string(own.join("cgroup.controllers"))?;
        if !controllers.split_whitespace().any(|it| it == CONTROLLER) {
            return Err(io::Error::other("processor time is not controlled there"));
        }
        if read_to_string(own.join(PROCESSES))?.trim() != process.to_string() {
            return Err(io::Error::other("it has other processes too"));
        }
        let (server, workers) = (own.join("server"), own.join("workers"));
        create_dir_all(&server)?;
        write(server.join(PROCESSES), process.to_string())?;
        write(own.join("cgroup.subtree_control"), format!("+{CONTROLLER}"))?;
        create_dir_all(&workers)?;
        write(workers.join("cpu.weight"), WEIGHT)?;
        Ok(Self(workers))
    }

    /// Puts a worker into it.
    pub(super) fn take(&self, process: u32) {
        // One that has ended already is in none.
        let _ = write(self.0.join(PROCESSES), process.to_string());
    }
}

/// Where the group of a process is, by its `/proc/PID/cgroup`.
fn own_group(groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(ROOT).join(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::remove_dir_all;

    #[test]
    fn the_own_group_is_that_of_version_2() {
        let own = |text| own_group(text).map(|it| it.display().to_string());
        let unit = "0::/system.slice/millrace.service\n";
        let expected = "/sys/fs/cgroup/system.slice/millrace.service";
        assert_eq!(own(unit).as_deref(), Some(expected));
        assert_eq!(own("4:cpu:/x\n0::/\n").as_deref(), Some("/sys/fs/cgroup/"));
        assert_eq!(own("4:cpu:/x\n"), None);
    }

    #[test]
    fn a_group_is_divided_only_where_the_server_is_alone_in_it_and_time_is_controlled() {
        let folder = format!("millrace-group-{}", std::process::id());
        let own = std::env::temp_dir().join(folder);
        create_dir_all(&own).expect("a folder");
        let read = |name: &str| read_to_string(own.join(name)).unwrap_or_default();
        let set = |name: &str, text: &str| write(own.join(name), text).expect("a file");
        assert!(Group::make_in(&own, 7).is_err(), "it is no group");
        set("cgroup.controllers", "memory pids\n");
        set("cgroup.procs", "7\n");
        assert!(Group::make_in(&own, 7).is_err(), "nothing is controlled");
        set("cgroup.controllers", "cpuset cpu memory\n");
        set("cgroup.procs", "6\n7\n");
        assert!(Group::make_in(&own, 7).is_err(), "somebody else is in it");
        assert!(!own.join("server").exists(), "nothing was changed");
        set("cgroup.procs", "7\n");
        let group = Group::make_in(&own, 7).expect("all is as it should be");
        group.take(9);
        assert_eq!(read("server/cgroup.procs"), "7");
        assert_eq!(read("cgroup.subtree_control"), "+cpu");
        assert_eq!([read("workers/cgroup.procs"), read("workers/cpu.weight")], ["9", "20"]);
        remove_dir_all(own).expect("it is ours");
    }
}
