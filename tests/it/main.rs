//! Integration tests: one binary, real sockets on loopback.
//!
//! - `acme`: a certificate from an authority
//! - `addresses`: IPv4 and IPv6, NAT, proxies
//! - `auth`: who may publish, watch and administer
//! - `authority`: that authority, which the tests of `signaling` ask too
//! - `doctor`: what is said of good and bad machines
//! - `feedback`: RTCP and retransmission, both ways
//! - `fingerprint`: certificates other than those announced
//! - `harness`: the real server as a process; publishing, viewing, waiting with a deadline
//! - `hostile`: hostile input from strangers and from clients with a session
//! - `ice_restart`: new ICE credentials in mid-stream
//! - `impair`: clients behind the load generator's bad network
//! - `install`: the package, and what the image is built from
//! - `ladder`: made layers, and workers that fail
//! - `limits`: what is refused, and how
//! - `llhls`: LL-HLS out
//! - `loss`: handshakes and media over lossy paths
//! - `overload`: more asked for than can be served
//! - `reconnect`: viewers outlast their publisher, and are told
//! - `relay`: a UDP relay that drops or changes what a test wants it to
//! - `rtmp`: RTMP and RTMPS in
//! - `sessions`: how sessions end
//! - `simulcast`: a publisher of several layers, and viewers on links of their own
//! - `spread`: a way to the server with many addresses at its end
//! - `shutdown`: SIGTERM
//! - `shard`: a whole shard, seen from outside
//! - `shards`: four shards on one port
//! - `srt`: SRT in
//! - `swarm`: the load generator's viewers against a server
//! - `tcp`: clients without UDP
//! - `thumbnails`: what a stream shows, by the real worker
//! - `tidy`: the invariants of ARCHITECTURE.md
//! - `transcode`: sound through the real worker
//! - `ways`: the load generator's publishers by RTMP and SRT
//! - `whip_whep`: WHIP in, WHEP out, untouched

mod acme;
mod addresses;
mod auth;
#[path = "../support/authority/mod.rs"]
#[expect(dead_code, reason = "its moods and its memory are for the tests of signaling")]
mod authority;
mod doctor;
mod feedback;
mod fingerprint;
mod harness;
mod hostile;
mod ice_restart;
mod impair;
mod install;
mod ladder;
mod limits;
mod llhls;
mod loss;
mod overload;
mod reconnect;
mod relay;
mod rtmp;
mod sessions;
mod shard;
mod shards;
mod shutdown;
mod simulcast;
mod spread;
mod srt;
mod swarm;
mod tcp;
mod thumbnails;
mod tidy;
mod transcode;
mod ways;
mod whip_whep;
