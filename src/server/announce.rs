//! Which addresses clients are told: those configured, those of the machine, and the one that the
//! outside sees, which is asked for where none of the others is public.
//!
//! All become host candidates, that one too: a lite agent has no others (RFC 8445 §5.2), and a
//! 1:1 NAT takes nothing more from a client than the host would.

use super::{StartError, system};
use crate::config::address::interfaces;
use crate::config::network::{Network, StunServer};
use crate::config::reach::Reach;
use crate::peer::binding::{Answer, question, read_answer};
use crate::shard::socket::MediaSocket;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tracing::{debug, info, warn};

/// What clients are told, and what the operator is.
#[derive(Debug)]
pub(super) struct Announced {
    /// The best first: some clients try no other.
    pub(super) addresses: Vec<SocketAddr>,
    /// What to set where clients may not get through.
    pub(super) advice: Option<String>,
}

/// Why nobody could tell what the outside sees.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("its name cannot be resolved: {0}")]
    Unresolved(io::Error),
    #[error("it has no address of the IP version asked with")]
    OtherFamily,
    #[error("it cannot be asked: {0}")]
    Unreachable(io::Error),
    #[error("it does not answer")]
    NoAnswer,
    #[error("it refuses to tell, with error {0}")]
    Refused(u16),
}

/// When a question is repeated (RFC 8489 §6.2.1: after half a second, then twice as long each
/// time). Four of the seven times there: the server does not start before it is done.
#[derive(Debug, Clone, Copy)]
struct Patience {
    first_wait: Duration,
    questions: u32,
    /// After the last question: whatever is still under way arrives.
    last_wait: Duration,
}

impl Patience {
    const USUAL: Self = Self {
        first_wait: Duration::from_millis(500),
        questions: 4,
        last_wait: Duration::from_millis(1_500),
    };
    /// For the name and all questions together.
    const ALL: Duration = Duration::from_secs(8);

    /// How long to wait for an answer to the question of this number.
    const fn after(&self, question: u32) -> Duration {
        if question + 1 == self.questions {
            return self.last_wait;
        }
        self.first_wait.saturating_mul(1 << question)
    }
}

/// Finds the addresses for the port of this socket.
pub(super) async fn find(network: &Network, socket: &MediaSocket) -> Result<Announced, StartError> {
    let interfaces = interfaces().map_err(system("the list of network interfaces"))?;
    let port = socket.local_address().map_err(system("the media port's address"))?.port();
    let (public, listen) = (&network.public_addresses, &network.media_listen);
    let hidden_at = public.hidden_at(listen, &interfaces);
    let mut failure = None;
    let mut outside = None;
    if let (Some(local), Some(server)) = (hidden_at, &network.stun_server) {
        let asking = timeout(Patience::ALL, ask(server, socket, local));
        match asking.await.unwrap_or(Err(Silence::NoAnswer)) {
            Ok(seen) => outside = Some(seen),
            Err(silence) => {
                warn!(%server, reason = %silence, "the outside address is not known");
                failure = Some(format!("{server} was asked for it: {silence}."));
            }
        }
    }
    let announced = public.announced(listen, &interfaces, outside.map(|seen| seen.ip()));
    let advice = match outside {
        Some(seen) => tell(seen, port, &interfaces.iter().map(|i| i.address).collect::<Vec<_>>()),
        None => advice(&announced, failure.as_deref()),
    };
    let addresses = announced.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    Ok(Announced { addresses, advice })
}

/// What the outside sees, for the log; and for the operator where that will not do.
fn tell(seen: SocketAddr, port: u16, own: &[IpAddr]) -> Option<String> {
    debug!(%seen, "the outside address");
    if own.contains(&seen.ip()) {
        info!("there is no NAT between here and the STUN server");
        return None;
    }
    info!("there is a NAT; the address that the outside sees is announced first");
    // From a port of its own choice the NAT lets nobody in who was not asked.
    (seen.port() != port).then(|| {
        format!(
            "\nNOTE: the NAT before this machine changes ports. Have it forward UDP port {port}\n\
             of {} to this machine, or clients outside will not get through.\n",
            seen.ip()
        )
    })
}

/// What to set where no address is public.
fn advice(announced: &[IpAddr], failure: Option<&str>) -> Option<String> {
    let reach = announced.iter().map(|address| Reach::of(*address)).min();
    if failure.is_none() && reach == Some(Reach::Internet) {
        return None;
    }
    let who = match reach {
        Some(Reach::Machine) | None => "this machine",
        Some(Reach::Internet) => "the internet by IPv6",
        Some(_) => "this network",
    };
    let failure = failure.map(|text| format!("{text}\n")).unwrap_or_default();
    Some(format!(
        "\nNOTE: only clients on {who} can reach the announced media addresses.\n{failure}\
         For clients elsewhere set the public address of this machine or its NAT:\n  \
         network.public_addresses = [\"auto\", \"<address>\"]\n\
         or let a STUN server tell it: network.stun_server = \"stun:<host>\"\n"
    ))
}

/// Asks the server from the media port what it sees.
async fn ask(
    server: &StunServer,
    socket: &MediaSocket,
    local: IpAddr,
) -> Result<SocketAddr, Silence> {
    let known = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    let mut known = known.map_err(Silence::Unresolved)?;
    let same_family = |address: &SocketAddr| address.is_ipv4() == local.is_ipv4();
    let remote = known.find(same_family).ok_or(Silence::OtherFamily)?;
    let socket = socket.beside(local, remote).map_err(Silence::Unreachable)?;
    let socket = UdpSocket::from_std(socket).map_err(Silence::Unreachable)?;
    let mut transaction = [0; 12];
    getrandom::fill(&mut transaction)
        .map_err(|error| Silence::Unreachable(io::Error::other(error)))?;
    converse(&socket, transaction, Patience::USUAL).await
}

/// Asks by a connected socket, again and again within bounds, and waits for the answer.
async fn converse(
    socket: &UdpSocket,
    transaction: [u8; 12],
    patience: Patience,
) -> Result<SocketAddr, Silence> {
    let question = question(transaction);
    for number in 0..patience.questions {
        // What cannot be sent now, or what anybody's ICMP says, may be otherwise in a moment.
        let _ = socket.send(&question).await;
        if let Ok(answer) = timeout(patience.after(number), answer(socket, transaction)).await {
            return match answer {
                Answer::Seen(seen) => Ok(seen),
                Answer::Refused(code) => Err(Silence::Refused(code)),
            };
        }
    }
    Err(Silence::NoAnswer)
}

/// The first datagram that answers the question.
async fn answer(socket: &UdpSocket, transaction: [u8; 12]) -> Answer {
    let mut datagram = [0; 1_500];
    loop {
        let Ok(length) = socket.recv(&mut datagram).await else { continue };
        if let Some(answer) = read_answer(&datagram[..length], transaction) {
            return answer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::binding;

    const NUMBER: [u8; 12] = [9; 12];
    /// Whoever is to answer answers at once.
    const GENEROUS: Patience = Patience {
        first_wait: Duration::from_secs(20),
        questions: 1,
        last_wait: Duration::from_secs(20),
    };

    async fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.expect("loopback has a free port")
    }

    fn outside() -> SocketAddr {
        SocketAddr::from(([8, 8, 4, 4], 8_189))
    }

    /// Asks a server that answers its first question with these datagrams, a stranger's first.
    async fn asked(strangers: &[Vec<u8>], answers: &[Vec<u8>]) -> Result<SocketAddr, Silence> {
        let (client, server, stranger) = (socket().await, socket().await, socket().await);
        client.connect(server.local_addr().expect("bound")).await.expect("loopback");
        let answering = async {
            let mut datagram = [0; 100];
            let (length, from) = server.recv_from(&mut datagram).await.expect("a question");
            assert_eq!(datagram[..length], question(NUMBER));
            for datagram in strangers {
                stranger.send_to(datagram, from).await.expect("loopback takes it");
            }
            for datagram in answers {
                server.send_to(datagram, from).await.expect("loopback takes it");
            }
        };
        tokio::join!(converse(&client, NUMBER, GENEROUS), answering).0
    }

    #[tokio::test]
    async fn the_server_s_answer_is_taken() {
        let answer = binding::answer(NUMBER, outside());
        assert_eq!(asked(&[], &[answer]).await.ok(), Some(outside()));
    }

    #[tokio::test]
    async fn what_is_not_the_answer_is_passed_over() {
        let false_one = SocketAddr::from(([198, 51, 100, 1], 1));
        let other_number = binding::answer([8; 12], false_one);
        let garbage = vec![0xff; 700];
        let good = binding::answer(NUMBER, outside());
        let answers = [vec![], garbage, other_number, question(NUMBER), good];
        assert_eq!(asked(&[], &answers).await.ok(), Some(outside()));
    }

    #[tokio::test]
    async fn an_answer_from_another_address_counts_for_nothing() {
        let false_one = binding::answer(NUMBER, SocketAddr::from(([198, 51, 100, 1], 1)));
        let good = binding::answer(NUMBER, outside());
        assert_eq!(asked(&[false_one], &[good]).await.ok(), Some(outside()));
    }

    #[tokio::test]
    async fn a_silent_server_is_asked_a_bounded_number_of_times() {
        let (client, server) = (socket().await, socket().await);
        client.connect(server.local_addr().expect("bound")).await.expect("loopback");
        let brief = Duration::from_millis(1);
        let patience = Patience { first_wait: brief, questions: 4, last_wait: brief };
        let outcome = converse(&client, NUMBER, patience).await;
        assert!(matches!(outcome, Err(Silence::NoAnswer)), "{outcome:?}");
        let mut datagram = [0; 100];
        let mut questions = 0;
        while let Ok(length) = server.try_recv(&mut datagram) {
            assert_eq!(datagram[..length], question(NUMBER), "the same transaction each time");
            questions += 1;
        }
        assert_eq!(questions, 4);
    }

    #[tokio::test]
    async fn where_nobody_listens_nobody_answers() {
        let client = socket().await;
        let closed = socket().await.local_addr().expect("bound");
        client.connect(closed).await.expect("loopback");
        let brief = Duration::from_millis(1);
        let patience = Patience { first_wait: brief, questions: 3, last_wait: brief };
        let outcome = converse(&client, NUMBER, patience).await;
        assert!(matches!(outcome, Err(Silence::NoAnswer)), "{outcome:?}");
    }

    #[test]
    fn the_waits_are_those_of_rfc_8489_and_the_start_is_not_kept_for_long() {
        let waits = (0..4).map(|number| Patience::USUAL.after(number).as_millis());
        assert_eq!(waits.collect::<Vec<_>>(), [500, 1_000, 2_000, 1_500]);
    }

    #[test]
    fn the_advice_says_who_gets_through_and_what_to_set() {
        let addresses = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        let text = |texts: &[&str]| advice(&addresses(texts), None).unwrap_or_default();
        assert!(text(&["10.0.0.5"]).contains("only clients on this network"));
        assert!(text(&["10.0.0.5"]).contains("network.stun_server"));
        assert!(text(&["127.0.0.1"]).contains("only clients on this machine"));
        assert_eq!(text(&["8.8.4.4", "10.0.0.5"]), "");
        assert_eq!(text(&["2a01:db8::1", "10.0.0.5"]), "", "nobody was asked");
        let failed = advice(&addresses(&["2a01:db8::1", "10.0.0.5"]), Some("stun:x: silent."));
        assert!(failed.is_some_and(|text| text.contains("stun:x: silent.\nFor clients")));
    }

    #[test]
    fn a_nat_that_changes_ports_is_told_to_forward_the_right_one() {
        let inside: IpAddr = [10, 0, 0, 5].into();
        assert_eq!(tell(outside(), 8_189, &[inside]), None, "1:1 NAT");
        assert_eq!(tell(outside(), 5_000, &[outside().ip()]), None, "no NAT");
        let note = tell(outside(), 5_000, &[inside]).expect("a note");
        assert!(note.contains("UDP port 5000") && note.contains("8.8.4.4"), "{note}");
    }
}
