//! What a media socket does, against real sockets on loopback.

use super::*;
use crate::clock::HandClock;
use crate::media::time::WallTime;
use std::net::IpAddr;

const BUFFERS: Buffers = Buffers { receive: 1 << 20, send: 1 << 20 };

fn socket(address: &str) -> MediaSocket {
    let address = address.parse().expect("a socket address");
    MediaSocket::bind(address, BUFFERS, false).expect("loopback has a free port")
}

fn address_of(socket: &MediaSocket) -> SocketAddr {
    socket.local_address().expect("a bound socket has an address")
}

/// Containers often have none.
fn machine_has_ipv6() -> bool {
    let address = "[::1]:0".parse().expect("a socket address");
    MediaSocket::bind(address, BUFFERS, false).is_ok()
}

fn to(socket: &MediaSocket) -> Path {
    Path::udp(address_of(socket), None)
}

fn send(socket: &mut MediaSocket, datagrams: &[(Path, &[u8])]) -> SendReport {
    let mut arena = SendArena::new(1 << 20);
    for (path, bytes) in datagrams {
        assert!(arena.push(*path, bytes));
    }
    socket.send(&arena, &Clock::system(), |_| false)
}

/// Waits until so many datagrams have come.
fn receive(socket: &mut MediaSocket, count: usize) -> Vec<(Path, Vec<u8>)> {
    let mut datagrams = Vec::new();
    while datagrams.len() < count {
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut polled, PollTimeout::from(5_000_u16)).expect("poll works");
        assert!(ready > 0, "only {} of {count} datagrams came", datagrams.len());
        let take = |path, bytes: &mut [u8]| datagrams.push((path, bytes.to_vec()));
        socket.receive(take).expect("the socket works");
    }
    datagrams
}

fn bytes_of(received: Vec<(Path, Vec<u8>)>) -> Vec<Vec<u8>> {
    received.into_iter().map(|(_, bytes)| bytes).collect()
}

/// Numbered datagrams of these sizes.
fn numbered(sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes.iter().enumerate().map(|(i, &size)| vec![i as u8; size]).collect()
}

#[test]
fn bursts_arrive_as_separate_datagrams_in_order() {
    let sizes = [1200, 1200, 1200, 700, 90, 90, 1100];
    for (segmented, address) in
        [(true, "127.0.0.1:0"), (false, "127.0.0.1:0"), (true, "[::1]:0"), (false, "[::1]:0")]
    {
        if address.starts_with('[') && !machine_has_ipv6() {
            continue;
        }
        let (mut server, mut client) = (socket(address), socket(address));
        if !segmented {
            server.disable_segmentation();
        }
        let datagrams = numbered(&sizes);
        let path = to(&client);
        let waiting: Vec<_> = datagrams.iter().map(|d| (path, d.as_slice())).collect();
        let report = send(&mut server, &waiting);
        assert_eq!(bytes_of(receive(&mut client, sizes.len())), datagrams);
        assert_eq!((report.datagrams, report.system_calls), (7, 1), "{address}");
        assert_eq!(report.messages, if segmented { 3 } else { 7 });
        assert_eq!(report, server.sent());
    }
}

#[test]
fn more_messages_than_a_batch_take_more_system_calls() {
    let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let sizes: Vec<_> = (0..150).map(|i| 100 + i).collect();
    let datagrams = numbered(&sizes);
    let path = to(&client);
    let waiting: Vec<_> = datagrams.iter().map(|d| (path, d.as_slice())).collect();
    let report = send(&mut server, &waiting);
    assert_eq!((report.messages, report.system_calls), (150, 3));
    assert_eq!(bytes_of(receive(&mut client, 150)), datagrams);
}

#[test]
fn where_the_kernel_refuses_to_segment_datagrams_go_out_singly() {
    let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let datagrams = numbered(&[1200, 1200, 300]);
    let path = to(&client);
    let waiting: Vec<_> = datagrams.iter().map(|d| (path, d.as_slice())).collect();
    sys::forbid_checksums(server.as_fd(), true).expect("the kernel has SO_NO_CHECK");
    let first = send(&mut server, &waiting);
    assert_eq!(bytes_of(receive(&mut client, 3)), datagrams);
    assert_eq!((first.fallbacks, first.messages, first.refused), (1, 3, 0));

    sys::forbid_checksums(server.as_fd(), false).expect("the kernel has SO_NO_CHECK");
    let other = socket("127.0.0.2:0");
    let (remembered, unaffected) = (send(&mut server, &waiting), {
        let path = to(&other);
        let waiting: Vec<_> = datagrams.iter().map(|d| (path, d.as_slice())).collect();
        send(&mut server, &waiting)
    });
    assert_eq!((remembered.fallbacks, remembered.messages), (0, 3));
    assert_eq!((unaffected.fallbacks, unaffected.messages), (0, 1));
}

#[test]
fn replies_leave_from_the_address_that_was_asked() {
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let mut server = socket(wildcard);
        let port = address_of(&server).port();
        for host in ["127.0.0.1", "127.0.0.2"] {
            let mut client = socket("127.0.0.1:0");
            let asked = SocketAddr::new(host.parse().expect("an address"), port);
            send(&mut client, &[(Path::udp(asked, None), b"question")]);
            let (path, _) = receive(&mut server, 1).remove(0);
            assert_eq!(path.remote, address_of(&client), "IPv4 is plain IPv4");
            assert_eq!(path.local, Some(asked.ip()));
            // As a burst, so that both control messages go together.
            send(&mut server, &[(path, b"answer 1"), (path, b"answer 2")]);
            let answers = receive(&mut client, 2);
            assert!(answers.iter().all(|(path, _)| path.remote == asked), "{answers:?}");
        }
    }
}

#[test]
fn a_dual_stack_socket_serves_both_kinds_of_client() {
    let mut server = socket("[::]:0");
    let port = address_of(&server).port();
    for host in ["127.0.0.1", "::1"] {
        let host: IpAddr = host.parse().expect("an address");
        if host.is_ipv6() && !machine_has_ipv6() {
            continue;
        }
        let mut client = MediaSocket::bind(SocketAddr::new(host, 0), BUFFERS, false)
            .expect("loopback has a free port");
        let asked = SocketAddr::new(host, port);
        send(&mut client, &[(Path::udp(asked, None), b"question")]);
        let (path, _) = receive(&mut server, 1).remove(0);
        assert_eq!(path, Path::udp(address_of(&client), Some(host)));
        send(&mut server, &[(path, b"answer")]);
        assert_eq!(receive(&mut client, 1)[0].0.remote, asked);
    }
}

#[test]
fn a_message_that_cannot_be_sent_holds_up_no_other() {
    let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let broadcast = Path::udp(SocketAddr::from(([255; 4], 9)), None);
    let foreign = Path { local: Some(IpAddr::from([192, 0, 2, 1])), ..to(&client) };
    let other_family = Path::udp("[::1]:9".parse().expect("an address"), None);
    let good = to(&client);
    let report = send(
        &mut server,
        &[
            (good, b"1"),
            (broadcast, b"x"),
            (good, b"2"),
            (foreign, b"x"),
            (good, b"3"),
            (other_family, b"x"),
            (good, b"4"),
        ],
    );
    let arrived = bytes_of(receive(&mut client, 4));
    assert_eq!(arrived, [b"1", b"2", b"3", b"4"]);
    assert_eq!((report.refused, report.datagrams), (3, 4));
}

#[test]
fn a_client_that_is_gone_stops_no_other() {
    let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let gone = to(&socket("127.0.0.1:0"));
    for round in 0..3 {
        send(&mut server, &[(gone, b"nobody there"), (to(&client), b"hello"), (gone, b"x")]);
        assert_eq!(receive(&mut client, 1)[0].1, b"hello", "round {round}");
        let count = server.receive(|_, _| {}).expect("ICMP answers are no fault of the socket");
        assert_eq!(count, 0);
    }
}

#[test]
fn what_is_too_long_is_dropped_and_counted() {
    let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let path = to(&server);
    send(&mut client, &[(path, &[7; 3_000]), (path, b"short")]);
    assert_eq!(bytes_of(receive(&mut server, 1)), [b"short"]);
    assert_eq!((server.received().datagrams, server.received().cut_off), (2, 1));
}

#[test]
fn what_the_receive_buffer_could_not_take_is_counted() {
    let small = Buffers { receive: 4_096, send: 1 << 20 };
    let address = "127.0.0.1:0".parse().expect("an address");
    let mut server = MediaSocket::bind(address, small, false).expect("loopback has a port");
    assert!(server.granted().receive < BUFFERS.receive);
    let mut client = socket("127.0.0.1:0");
    let path = to(&server);
    for _ in 0..2 {
        send(&mut client, &[(path, [7_u8; 1_000].as_slice()); 50]);
        while server.receive(|_, _| {}).expect("the socket works") > 0 {}
    }
    // Each datagram tells how many were lost before it: the last round's are yet untold.
    send(&mut client, &[(path, b"last")]);
    receive(&mut server, 1);
    let counts = server.received();
    assert!(counts.overflowed > 0);
    assert_eq!(counts.datagrams + counts.overflowed, 101);
}

#[test]
fn a_send_buffer_that_stays_full_drops_in_bounded_time_and_reading_goes_on() {
    let hands = HandClock::starting_at(WallTime::since_unix_epoch(Duration::ZERO));
    let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    send(&mut client, &[(to(&server), b"read me")]);
    let mut arena = SendArena::new(10_000);
    for _ in 0..5 {
        arena.push(to(&client), &[7; 100]);
    }
    server.envelopes.pretended_error = Some(libc::EAGAIN);
    let mut read = Vec::new();
    let report = server.send(&arena, &hands.clock(), |server| {
        hands.advance(MediaSocket::STALL_MAX / 4);
        let take = |_, bytes: &mut [u8]| read.push(bytes.to_vec());
        server.receive(take).expect("the socket works") > 0
    });
    assert_eq!((report.overflowed, report.datagrams, report.stalls), (5, 0, 5));
    assert_eq!(read, [b"read me"]);

    server.envelopes.pretended_error = None;
    let report = server.send(&arena, &hands.clock(), |_| false);
    assert_eq!((report.overflowed, report.datagrams), (0, 5));
}

/// What floods the port cannot push a publisher's packets out of a buffer of their own.
#[test]
fn a_publisher_with_a_socket_of_its_own_loses_nothing_to_a_flood() {
    let small = Buffers { receive: 65_536, send: 1 << 20 };
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let address = address.parse().expect("a socket address");
        let mut server = MediaSocket::bind(address, small, true).expect("loopback has a port");
        let port = address_of(&server).port();
        let server_path = Path::udp(SocketAddr::from(([127, 0, 0, 1], port)), None);
        let (mut publisher, mut stranger) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let local = Some(server_path.remote.ip());
        let path = Path::udp(address_of(&publisher), local);
        server.set_publishers([path].into_iter());
        assert_eq!(server.publishers().len(), 1, "{address}");

        for _ in 0..10 {
            send(&mut stranger, &[(server_path, [9; 1_000].as_slice()); 50]);
        }
        let packets = numbered(&[1_000; 20]);
        let waiting: Vec<_> = packets.iter().map(|p| (server_path, p.as_slice())).collect();
        send(&mut publisher, &waiting);
        let mut read = Vec::new();
        let take = |from, bytes: &mut [u8]| read.push((from, bytes.to_vec()));
        server.receive_from_publisher(0, take);
        assert!(read.iter().all(|(from, _)| *from == path));
        assert_eq!(bytes_of(read), packets, "{address}");

        server.set_publishers(std::iter::empty());
        while server.receive(|_, _| {}).expect("the socket works") > 0 {}
        send(&mut publisher, &[(server_path, b"with everybody else")]);
        assert_eq!(bytes_of(receive(&mut server, 1)), [b"with everybody else"]);
    }
}

#[test]
fn a_port_is_shared_only_where_it_is_asked_for() {
    let first = socket("127.0.0.1:0");
    assert!(MediaSocket::bind(address_of(&first), BUFFERS, false).is_err());
    let address = "127.0.0.1:0".parse().expect("an address");
    let first = MediaSocket::bind(address, BUFFERS, true).expect("loopback has a port");
    assert!(MediaSocket::bind(address_of(&first), BUFFERS, true).is_ok());
}

#[test]
fn a_socket_beside_the_others_hears_its_own_address_and_nobody_else() {
    for wildcard in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let first: SocketAddr = wildcard.parse().expect("an address");
        let bind = |address| MediaSocket::bind(address, BUFFERS, true).expect("a free port");
        let mut shared = vec![bind(first)];
        let port = address_of(&shared[0]).port();
        shared.extend((0..3).map(|_| bind(SocketAddr::new(first.ip(), port))));
        let server = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let remote = server.local_addr().expect("it is bound");
        let local =
            if first.ip().is_unspecified() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let beside = shared[0].beside(local.into(), remote).expect("they share the port");
        beside.send(b"question").expect("loopback takes it");
        let mut buffer = [0; 100];
        let (_, from) = server.recv_from(&mut buffer).expect("it came");
        assert_eq!(from.port(), port, "{wildcard}: from the media port");
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        stranger.send_to(b"stranger", to).expect("loopback takes it");
        server.send_to(b"answer", from).expect("loopback takes it");
        let mut polled = [PollFd::new(beside.as_fd(), PollFlags::POLLIN)];
        assert!(poll(&mut polled, PollTimeout::from(5_000_u16)).expect("poll works") > 0);
        let length = beside.recv(&mut buffer).expect("it came");
        assert_eq!(&buffer[..length], b"answer", "{wildcard}");
        assert!(beside.recv(&mut buffer).is_err(), "{wildcard}: nothing else");
    }
}
