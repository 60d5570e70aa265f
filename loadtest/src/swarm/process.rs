//! What a process and a thread have used, and how many files this one may have open.

use anyhow::Context;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeVal;
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;
use std::time::Duration;

/// Descriptors for all but the viewers' sockets: epoll, HTTP connections, standard streams.
const OTHER_DESCRIPTORS: u64 = 512;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
}

impl Usage {
    /// Reads it from `/proc` (proc(5)).
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn of(process: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/proc/{process}/{name}"))
                .with_context(|| format!("there is no process {process}"))
        };
        let ticks_a_second = sysconf(SysconfVar::CLK_TCK)?.context("the length of a tick")?;
        let ticks = cpu_ticks(&read("stat")?).context("utime and stime")?;
        let resident_bytes = resident_bytes(&read("status")?).context("VmRSS")?;
        let cpu = Duration::from_secs_f64(ticks as f64 / ticks_a_second as f64);
        Ok(Self { cpu, resident_bytes })
    }
}

/// Fields 14 and 15; the second field is a name in parentheses that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}

/// CPU time of the calling thread, in user and system mode.
pub fn thread_cpu() -> Duration {
    getrusage(UsageWho::RUSAGE_THREAD)
        .map_or(Duration::ZERO, |usage| duration(usage.user_time()) + duration(usage.system_time()))
}

fn duration(time: TimeVal) -> Duration {
    let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Raises the limit of open files to what the system allows.
///
/// # Errors
///
/// When that is too few for so many viewers, each of which has a socket.
pub fn allow_descriptors(viewers: usize) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let needed = viewers as u64 + OTHER_DESCRIPTORS;
    anyhow::ensure!(
        needed <= hard,
        "{viewers} viewers need {needed} open files and the system allows {hard}: \
         raise it with `ulimit -Hn {needed}` (as root) or LimitNOFILE= of the unit"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 120 34 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(154));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_used_something() -> anyhow::Result<()> {
        assert!(Usage::of(std::process::id())?.resident_bytes > 1 << 16);
        assert!(Usage::of(u32::MAX).is_err());
        Ok(())
    }

    #[test]
    fn too_many_viewers_are_told_what_they_need() {
        let error = allow_descriptors(usize::MAX / 2).expect_err("no system allows that");
        assert!(error.to_string().contains("ulimit -Hn"), "{error}");
    }
}
