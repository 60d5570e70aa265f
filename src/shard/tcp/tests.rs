//! What a shard does with TCP connections, against real ones on loopback.

use super::framing::{HEADER, header};
use super::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// A connection and its client.
fn pair() -> (Connection, TcpStream) {
    pair_that_holds(Arc::new(()))
}

/// A connection that counts as open by this.
fn pair_that_holds(open: Arc<()>) -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let (stream, _) = listener.accept().expect("it has connected");
    (Connection::new(stream, open).expect("it is open"), client)
}

/// A shard's connections with one in them.
fn one() -> (Connections, Path, TcpStream) {
    let mut connections = Connections::new().expect("a descriptor");
    let (connection, client) = pair();
    let path = connection.path();
    connections.insert(connection);
    // Whatever was told of one before with the same ends: nothing waits for this one.
    assert_eq!(news(&mut connections), [Backlog::Low]);
    (connections, path, client)
}

/// Waits until a connection is ready, and takes in what there is.
fn receive(connections: &mut Connections) -> Vec<(Path, Vec<u8>)> {
    let mut polled = [PollFd::new(connections.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut polled, PollTimeout::from(10_000_u16)).expect("poll works");
    assert!(ready > 0, "nothing comes");
    let mut datagrams = Vec::new();
    connections.receive(|path, bytes| datagrams.push((path, bytes.to_vec())));
    datagrams
}

fn send(connections: &mut Connections, datagrams: &[(Path, Vec<u8>)]) {
    let mut arena = SendArena::new(1 << 20);
    for (path, bytes) in datagrams {
        assert!(arena.push(*path, bytes));
    }
    connections.send(&arena);
}

fn news(connections: &mut Connections) -> Vec<Backlog> {
    std::iter::from_fn(|| connections.poll_news()).map(|(_, backlog)| backlog).collect()
}

fn read_datagram(client: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; HEADER];
    client.read_exact(&mut length).expect("a frame comes");
    let mut datagram = vec![0; usize::from(u16::from_be_bytes(length))];
    client.read_exact(&mut datagram).expect("all of it comes");
    datagram
}

/// Sends bursts until one is lost in part; tells how many datagrams are on their way then.
fn fill(connections: &mut Connections, path: Path) -> u64 {
    for number in 0..10_000_u32 {
        let datagram: Vec<u8> = number.to_be_bytes().repeat(300);
        send(connections, &[(path, datagram.clone()), (path, datagram)]);
        if connections.counts().dropped > 0 {
            return connections.counts().datagrams;
        }
    }
    unreachable!("a connection that nobody reads has taken 24 MB")
}

#[test]
fn datagrams_come_and_go_in_frames_with_the_addresses_of_both_ends() {
    let (mut connections, path, mut client) = one();
    assert_eq!(path.remote, client.local_addr().expect("connected"));
    assert_eq!(path.local, Some(client.peer_addr().expect("connected").ip()));
    let stream = [&header(3)[..], b"one", &header(0), &header(3), b"two"].concat();
    client.write_all(&stream).expect("there is room");
    let came = receive(&mut connections);
    assert_eq!(came, [(path, b"one".to_vec()), (path, b"two".to_vec())]);
    let burst = [vec![1; 1200], vec![2; 1200], vec![3; 700], vec![4; 90]];
    send(&mut connections, &burst.clone().map(|datagram| (path, datagram)));
    for datagram in burst {
        assert_eq!(read_datagram(&mut client), datagram);
    }
    let TcpCounts { open, received, datagrams, bytes, messages, system_calls, .. } =
        connections.counts();
    assert_eq!((open, received, datagrams, bytes), (1, 2, 4, 3190));
    assert_eq!((messages, system_calls), (2, 2), "a run is one system call");
    assert_eq!(news(&mut connections), []);
}

#[test]
fn what_goes_over_udp_is_left_to_the_socket() {
    let (mut connections, path, mut client) = one();
    let over_udp = Path::udp(path.remote, path.local);
    send(&mut connections, &[(over_udp, vec![1; 9]), (path, vec![2; 9])]);
    assert_eq!(read_datagram(&mut client), [2; 9]);
    assert_eq!(connections.counts().unsent, 0);
}

#[test]
fn a_client_that_does_not_read_has_a_bounded_backlog_and_all_of_that_arrives_whole() {
    let (mut connections, path, mut client) = one();
    let accepted = fill(&mut connections, path);
    assert_eq!(news(&mut connections), [Backlog::High, Backlog::Lost]);
    for _ in 0..1_000 {
        send(&mut connections, &[(path, vec![9; 1200])]);
    }
    let backlog = connections.open.iter().map(|(_, it)| it.backlog_bytes()).max();
    assert!(backlog.is_some_and(|bytes| bytes <= Connection::BACKLOG_MAX), "{backlog:?} bytes");
    assert!(connections.counts().dropped > 900);
    let lost = news(&mut connections);
    assert!(!lost.is_empty() && lost.iter().all(|it| *it == Backlog::Lost), "{lost:?}");

    // It reads again: whatever was cut apart on the way is put together.
    let reader = std::thread::spawn(move || {
        for _ in 0..accepted {
            let datagram = read_datagram(&mut client);
            assert!(datagram.len() == 1200 && datagram.chunks(4).all(|it| it == &datagram[..4]));
        }
        client
    });
    let mut told = Vec::new();
    while told != [Backlog::Low] {
        assert!(receive(&mut connections).is_empty());
        told = news(&mut connections);
    }
    while connections.open.iter().any(|(_, it)| it.waits_for_room()) {
        receive(&mut connections);
    }
    reader.join().expect("all that was accepted came");
    connections.sweep(|_| true);
    assert_eq!(connections.counts().open, 1);
}

#[test]
fn one_that_does_not_read_keeps_no_other_waiting() {
    let (mut connections, slow, _deaf) = one();
    let (connection, mut client) = pair();
    let path = connection.path();
    connections.insert(connection);
    fill(&mut connections, slow);
    send(&mut connections, &[(slow, vec![1; 1200]), (path, vec![2; 1200])]);
    assert_eq!(read_datagram(&mut client), [2; 1200]);
}

#[test]
fn a_client_that_leaves_or_sends_no_frames_is_closed_and_nobody_else() {
    let (mut connections, _, gone) = one();
    let (garbage, mut bad) = pair();
    let (steady, mut good) = pair();
    connections.insert(garbage);
    connections.insert(steady);
    drop(gone);
    bad.write_all(&[0xff; 9]).expect("there is room");
    while connections.counts().open > 1 {
        receive(&mut connections);
    }
    assert_eq!(bad.read(&mut [0; 1]).ok().filter(|&read| read > 0), None, "it is closed");
    good.write_all(&[&header(2)[..], b"ok"].concat()).expect("there is room");
    assert_eq!(receive(&mut connections)[0].1, b"ok");
}

#[test]
fn a_connection_moves_to_another_shard_in_the_midst_of_a_frame() {
    let (mut connections, path, mut client) = one();
    client.write_all(&[&header(6)[..], b"hal"].concat()).expect("there is room");
    assert!(receive(&mut connections).is_empty());
    let moved = connections.take(path).expect("it is there");
    assert_eq!(connections.counts().open, 0);
    send(&mut connections, &[(path, vec![1; 9])]);
    assert_eq!(connections.counts().unsent, 1, "it is another's now");
    let mut others = Connections::new().expect("a descriptor");
    others.insert(moved);
    client.write_all(b"ves").expect("there is room");
    assert_eq!(receive(&mut others), [(path, b"halves".to_vec())]);
    send(&mut others, &[(path, vec![5; 5])]);
    assert_eq!(read_datagram(&mut client), [5; 5]);
}

#[test]
fn who_serves_nobody_is_closed_and_what_it_held_is_given_back() {
    let mut connections = Connections::new().expect("a descriptor");
    let open = Arc::new(());
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let (connection, client) = pair_that_holds(Arc::clone(&open));
            let path = connection.path();
            connections.insert(connection);
            (path, client)
        })
        .collect();
    assert_eq!(Arc::strong_count(&open), 11);
    let kept = clients[3].0;
    connections.sweep(|path| path == kept);
    assert_eq!((connections.counts().open, Arc::strong_count(&open)), (1, 2));
    for (path, mut client) in clients {
        if path != kept {
            assert_eq!(client.read(&mut [0; 1]).expect("it is closed"), 0);
        }
    }
}
