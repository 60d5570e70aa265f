//! What the kernel and the machine grant: buffers, descriptors, memory, the time.

use super::super::kernel::{self, Grants};
use super::super::memory;
use super::{Finding, is_root};
use crate::clock::Clock;
use crate::config::Config;
use crate::media::time::WallTime;
use crate::shard::socket::{Buffers, MediaSocket};
use std::net::SocketAddr;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;
/// Below this a few streams with their history fill the memory.
const MEMORY_MIN: u64 = 256 * MIB;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let wanted = Grants::wanted(config);
    let mut findings = Vec::new();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    match MediaSocket::bind(loopback, wanted.buffers, false) {
        Ok(socket) => {
            let granted =
                Grants { buffers: socket.granted(), descriptors: kernel::raise_descriptor_limit() };
            findings.push(buffers(&wanted, &granted));
            if is_root() {
                let ceilings = [ceiling("rmem_max"), ceiling("wmem_max")];
                findings.extend(buffers_of_others(&wanted, ceilings));
            }
            findings.push(descriptors(&wanted, &granted));
        }
        Err(error) => findings.push(Finding::failure(
            format!("no media socket can be made: {error}"),
            "the kernel must be Linux with UDP; a container may forbid it",
        )),
    }
    let usable = memory::usable_bytes();
    let limit = config.limits.memory_max_bytes;
    findings.push(memory_finding(if limit == 0 { usable } else { usable.min(limit) }));
    let written = std::env::current_exe().and_then(|path| path.metadata()?.modified());
    let written = written.map(WallTime::from_system).ok();
    findings.push(clock(Clock::system().wall(), written));
    findings
}

/// The buffers of a media socket.
fn buffers(wanted: &Grants, granted: &Grants) -> Finding {
    let (wanted, granted) = (wanted.buffers, granted.buffers);
    let Some(advice) = larger(wanted, [granted.receive, granted.send]) else {
        return Finding::fine("socket buffers are as large as configured");
    };
    Finding::warning(
        format!(
            "socket buffers are {} (receive) and {} bytes (send) of {} and {}: under load packets \
             will be lost",
            granted.receive, granted.send, wanted.receive, wanted.send
        ),
        advice,
    )
}

/// What a service gets that is not root, where root asks: root may go beyond the kernel's ceilings.
fn buffers_of_others(wanted: &Grants, ceilings: [usize; 2]) -> Option<Finding> {
    let wanted = wanted.buffers;
    let [receive, send] = [wanted.receive, wanted.send];
    larger(wanted, ceilings).map(|advice| {
        let [to_receive, to_send] = ceilings;
        Finding::warning(
            format!(
                "root is granted these buffers, but a service that is not root {to_receive} \
                 (receive) and {to_send} bytes (send) at most of {receive} and {send}"
            ),
            advice,
        )
    })
}

/// How buffers for receiving and sending become as large as wanted; `None` where they are.
fn larger(wanted: Buffers, granted: [usize; 2]) -> Option<String> {
    let rows = [("net.core.rmem_max", wanted.receive), ("net.core.wmem_max", wanted.send)];
    let short = rows.into_iter().zip(granted).filter(|((_, wanted), granted)| granted < wanted);
    let settings: Vec<String> =
        short.map(|((setting, wanted), _)| format!("{setting}={wanted}")).collect();
    let settings = settings.join(" ");
    (!settings.is_empty()).then(|| {
        format!("as root: sysctl -w {settings}, and the same in /etc/sysctl.d/60-millrace.conf")
    })
}

/// A ceiling of the kernel's. Containers do not show it, and are told nothing then.
fn ceiling(name: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/sys/net/core/{name}"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(usize::MAX)
}

/// Files and sockets.
fn descriptors(wanted: &Grants, granted: &Grants) -> Finding {
    let (wanted, granted) = (wanted.descriptors, granted.descriptors);
    if granted >= wanted {
        return Finding::fine(format!("{granted} open files and sockets are allowed"));
    }
    Finding::warning(
        format!("{granted} open files and sockets are allowed here, {wanted} may be needed"),
        format!(
            "set LimitNOFILE={wanted} in the unit, or `ulimit -n {wanted}` in the shell that \
             starts it; lower limits.http_connections_max and limits.streams_max otherwise"
        ),
    )
}

/// What may be used before new viewers are refused.
fn memory_finding(usable: u64) -> Finding {
    if usable == u64::MAX {
        return Finding::fine("memory has no limit that the kernel tells");
    }
    let shown = usable / MIB;
    if usable >= MEMORY_MIN {
        return Finding::fine(format!("{shown} MiB of memory may be used"));
    }
    Finding::warning(
        format!("only {shown} MiB of memory may be used: new viewers will soon be refused"),
        "raise MemoryMax= of the unit, the container's limit, or limits.memory_max_bytes",
    )
}

/// A clock that stands before the program was written is wrong; certificates then seem invalid.
fn clock(now: WallTime, written: Option<WallTime>) -> Finding {
    let slack = Duration::from_hours(24);
    let is_early = written.is_some_and(|written| now.as_unix() + slack < written.as_unix());
    if is_early {
        return Finding::failure(
            "the clock of this machine is earlier than the server's own program",
            "set it: timedatectl set-ntp true",
        );
    }
    Finding::fine("the clock of this machine may be right")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const ENOUGH: Grants =
        Grants { buffers: Buffers { receive: 5_000_000, send: 4_000_000 }, descriptors: 5_000 };

    #[test]
    fn buffers_that_are_too_small_are_told_with_the_command() {
        assert_eq!(buffers(&ENOUGH, &ENOUGH).verdict, Verdict::Fine);
        let tiny = Grants { buffers: Buffers { receive: 212_992, ..ENOUGH.buffers }, ..ENOUGH };
        let found = buffers(&ENOUGH, &tiny);
        assert_eq!(found.verdict, Verdict::Warning);
        assert!(found.advice.contains("sysctl -w net.core.rmem_max=5000000,"), "{found}");
        assert!(!found.advice.contains("wmem_max"), "{found}");
    }

    #[test]
    fn what_root_alone_is_granted_is_not_taken_for_what_the_service_gets() {
        assert_eq!(buffers_of_others(&ENOUGH, [5_000_000, usize::MAX]), None);
        let found = buffers_of_others(&ENOUGH, [212_992, 4_000_000]).expect("it is too little");
        assert_eq!(found.verdict, Verdict::Warning);
        assert!(found.what.contains("a service that is not root 212992 (receive)"), "{found}");
        assert!(found.advice.contains("sysctl -w net.core.rmem_max=5000000,"), "{found}");
    }

    #[test]
    fn too_few_descriptors_are_told_with_what_is_needed() {
        assert_eq!(descriptors(&ENOUGH, &ENOUGH).verdict, Verdict::Fine);
        let found = descriptors(&ENOUGH, &Grants { descriptors: 1_024, ..ENOUGH });
        assert_eq!(found.verdict, Verdict::Warning);
        assert!(found.advice.contains("LimitNOFILE=5000"), "{found}");
    }

    #[test]
    fn little_memory_is_told() {
        assert_eq!(memory_finding(512 * MIB).verdict, Verdict::Fine);
        assert_eq!(memory_finding(u64::MAX).verdict, Verdict::Fine);
        assert_eq!(memory_finding(64 * MIB).verdict, Verdict::Warning);
    }

    #[test]
    fn a_clock_that_stands_before_the_program_is_wrong() {
        let at = |days: u64| WallTime::since_unix_epoch(Duration::from_hours(24 * days));
        assert_eq!(clock(at(5), Some(at(4))).verdict, Verdict::Fine);
        assert_eq!(clock(at(5), None).verdict, Verdict::Fine);
        assert_eq!(clock(at(0), Some(at(20_000))).verdict, Verdict::Failure);
    }
}
