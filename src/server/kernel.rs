//! What the kernel grants this process, and the lines that make it grant more.
//!
//! Too little is no error: a server for ten viewers needs none of it. It is said at the start,
//! because under load it shows as lost packets and refused clients, and then nobody looks here.

use crate::config::Config;
use crate::config::address::Listen;
use crate::shard::socket::Buffers;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt::Write as _;
use tracing::warn;

/// What the configuration asks for, or what there is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grants {
    /// Of each media socket.
    pub(super) buffers: Buffers,
    /// Files and sockets that may be open at once.
    pub(super) descriptors: u64,
}

impl Grants {
    /// What files, pipes, timers and the media sockets themselves need at most.
    const OTHER_DESCRIPTORS: usize = 128;

    /// What this configuration asks for: a publisher may have a socket of its own.
    pub(super) fn wanted(config: &Config) -> Self {
        let network = &config.network;
        let limits = &config.limits;
        let publishers = limits.streams_max.min(limits.sessions_max);
        let over_tcp = if network.media_tcp { limits.media_tcp_connections_max } else { 0 };
        let rtmp = &config.rtmp;
        let has_rtmp = [rtmp.listen, rtmp.tls_listen].iter().any(|it| *it != Listen::Off);
        let half_open = if has_rtmp { rtmp.half_open_max } else { 0 };
        let connections = publishers + over_tcp + half_open + limits.http_connections_max;
        let descriptors = connections + Self::OTHER_DESCRIPTORS;
        Self {
            buffers: Buffers {
                receive: network.udp_receive_buffer_bytes,
                send: network.udp_send_buffer_bytes,
            },
            descriptors: descriptors as u64,
        }
    }
}

/// Raises the limit of open descriptors as far as this process may, and tells how far that is.
/// The usual limit of 1024 is kept low for programs that call select(2), which we do not.
pub(super) fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    if raised.is_ok() { hard } else { soft }
}

/// Logs what the kernel grants too little of, and tells how to mend it; `None` where all is well.
pub(super) fn check(wanted: &Grants, granted: &Grants) -> Option<String> {
    let advice = advice(wanted, granted)?;
    warn!(
        receive_buffer_bytes = granted.buffers.receive,
        send_buffer_bytes = granted.buffers.send,
        descriptors = granted.descriptors,
        "the kernel grants less than the configuration asks for; the start output says how to \
         mend that"
    );
    Some(advice)
}

/// What is too small, and the lines to type.
fn advice(wanted: &Grants, granted: &Grants) -> Option<String> {
    let rows = [
        (
            "receive buffer of a media socket, bytes",
            "network.udp_receive_buffer_bytes",
            Some("net.core.rmem_max"),
            (wanted.buffers.receive as u64, granted.buffers.receive as u64),
        ),
        (
            "send buffer of a media socket, bytes",
            "network.udp_send_buffer_bytes",
            Some("net.core.wmem_max"),
            (wanted.buffers.send as u64, granted.buffers.send as u64),
        ),
        (
            "open files and sockets",
            "limits.streams_max + limits.media_tcp_connections_max + limits.http_connections_max",
            None,
            (wanted.descriptors, granted.descriptors),
        ),
    ];
    let short: Vec<_> =
        rows.into_iter().filter(|(.., (wanted, granted))| granted < wanted).collect();
    if short.is_empty() {
        return None;
    }
    let mut text = String::from(
        "\nWARNING: the kernel grants less than the configuration asks for. Under load packets \
         will be\nlost or clients refused. Nothing needs to be done for a few viewers.\n",
    );
    let (mut settings, mut descriptors) = (Vec::new(), None);
    for (what, option, setting, (wanted, granted)) in short {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {what}: {granted} granted, {wanted} wanted by {option}");
        match setting {
            Some(setting) => settings.push((setting, wanted)),
            None => descriptors = Some(wanted),
        }
    }
    if !settings.is_empty() {
        let now: String = settings
            .iter()
            .fold(String::new(), |all, (name, value)| all + &format!(" {name}={value}"));
        let _ = writeln!(text, "Until the machine starts anew, as root:\n  sysctl -w{now}");
        let _ = writeln!(text, "For good, in /etc/sysctl.d/60-millrace.conf:");
        for (name, value) in settings {
            let _ = writeln!(text, "  {name} = {value}");
        }
    }
    if let Some(wanted) = descriptors {
        let _ = writeln!(text, "In the systemd unit, under [Service]:\n  LimitNOFILE={wanted}");
        let _ = writeln!(text, "or, as root, in the shell that starts it:\n  ulimit -n {wanted}");
    }
    text.push_str("Then start millrace again.\n");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: Grants =
        Grants { buffers: Buffers { receive: 5_000_000, send: 4_000_000 }, descriptors: 5_000 };

    #[test]
    fn nothing_is_said_where_all_is_granted() {
        let more = Grants { descriptors: 6_000, ..ENOUGH };
        assert_eq!(advice(&ENOUGH, &ENOUGH), None);
        assert_eq!(advice(&ENOUGH, &more), None);
    }

    #[test]
    fn the_lines_to_type_name_what_is_too_small_and_nothing_else() {
        let small = Buffers { receive: 425_984, send: 425_984 };
        let text = advice(&ENOUGH, &Grants { buffers: small, ..ENOUGH }).expect("too small");
        for line in [
            "  sysctl -w net.core.rmem_max=5000000 net.core.wmem_max=4000000\n",
            "  net.core.rmem_max = 5000000\n",
            "  net.core.wmem_max = 4000000\n",
            "425984 granted, 5000000 wanted by network.udp_receive_buffer_bytes\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("LimitNOFILE"), "{text}");
        let text = advice(&ENOUGH, &Grants { descriptors: 1_024, ..ENOUGH }).expect("too few");
        assert!(text.contains("  LimitNOFILE=5000\n"), "{text}");
        assert!(!text.contains("sysctl"), "{text}");
        let small = Buffers { send: 425_984, ..ENOUGH.buffers };
        let text = advice(&ENOUGH, &Grants { buffers: small, ..ENOUGH }).expect("too small");
        assert!(text.contains("  sysctl -w net.core.wmem_max=4000000\n"), "{text}");
    }

    #[test]
    fn the_unit_grants_what_the_default_configuration_asks_for() {
        let unit = include_str!("../../configs/millrace.service");
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key));
        let limit = value("LimitNOFILE=").and_then(|limit| limit.parse::<u64>().ok());
        assert!(limit.expect("a number") >= Grants::wanted(&Config::default()).descriptors);
        assert_eq!(value("StateDirectory="), Some("millrace"), "state_directory = \"auto\"");
        let stop: u64 = value("TimeoutStopSec=").and_then(|s| s.parse().ok()).expect("a number");
        assert!(stop > Config::default().server.shutdown_timeout.as_secs());
    }
}
