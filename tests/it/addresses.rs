//! IPv4 and IPv6 on one port, what clients are told behind NAT, and who they are behind a proxy.

use crate::harness::{PUBLISH_TOKEN, SOON, Server, media_address, received};
use crate::spread::{Route, Spread};
use anyhow::Context as _;
use loadtest::codec::Codec;
use loadtest::light::{Answer, Identity, LightOptions, Offer};
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{PublishOptions, WhipClient};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::message::{BINDING_SUCCESS, Message, Setter};
use rtc_stun::xoraddr::XorMappedAddress;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

/// Listens on every address of the machine, and announces loopback's two.
async fn everywhere() -> anyhow::Result<Server> {
    let options = [
        ("network.media_listen", "*:0"),
        ("network.http_listen", "*:0"),
        ("network.public_addresses", "127.0.0.1,::1"),
    ];
    Server::with(&options).await
}

/// Containers often have no IPv6.
fn machine_has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// Which clients there can be here.
fn hosts() -> Vec<IpAddr> {
    let ipv6 = machine_has_ipv6().then_some(Ipv6Addr::LOCALHOST.into());
    [Ipv4Addr::LOCALHOST.into()].into_iter().chain(ipv6).collect()
}

#[tokio::test]
async fn clients_of_both_ip_versions_publish_to_and_watch_one_server() -> anyhow::Result<()> {
    let server = everywhere().await?;
    let port = media_address(&server).await?.port();
    let http: SocketAddr = server.http_address().parse()?;
    for (number, from) in hosts().into_iter().enumerate() {
        // Signalling and media both by that IP version.
        let base = |host: IpAddr| format!("http://{}", SocketAddr::new(host, http.port()));
        let by = |host: IpAddr| LightOptions {
            via: Some(SocketAddr::new(host, port)),
            ..LightOptions::default()
        };
        let stream = format!("from-{number}");
        let options = PublishOptions { light: by(from), ..PublishOptions::default() };
        let url = format!("{}/whip/{stream}", base(from));
        let publisher = WhipClient::publish(&server.publisher(), &url, options).await?;
        // The first viewer comes when the stream is live.
        drop(server.view(&stream, ViewOptions::default()).await?);
        for to in hosts() {
            let options = ViewOptions { light: by(to), ..ViewOptions::default() };
            let url = format!("{}/whep/{stream}", base(to));
            let viewer = WhepClient::view(&server.client(None), &url, options).await?;
            received(&viewer, Codec::H264, 60).await?;
            assert!(viewer.summary().values().all(|it| it.lost == 0), "{:?}", viewer.summary());
            let ports: Vec<IpAddr> = viewer.answer.candidates.iter().map(SocketAddr::ip).collect();
            assert_eq!(ports, [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
            viewer.end().await?;
        }
        publisher.end().await?;
    }
    server.assert_sound();
    Ok(())
}

/// A client hears only the address that it has asked at; anything else is a stranger's to it.
#[tokio::test]
async fn media_leaves_from_the_address_that_the_client_asked_at() -> anyhow::Result<()> {
    let server = everywhere().await?;
    let port = media_address(&server).await?.port();
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let mut asked = hosts();
    asked.extend([Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 9, 8, 7)].map(IpAddr::from));
    for host in asked {
        let way = Spread::start(SocketAddr::new(host, port), |_| Route::One(3)).await?;
        let options = ViewOptions { light: way.light(), ..ViewOptions::default() };
        let viewer = server.view("a", options).await.with_context(|| host.to_string())?;
        received(&viewer, Codec::H264, 60).await.with_context(|| host.to_string())?;
        assert!(way.received(3) > 60);
    }
    Ok(())
}

/// The addresses that an answer names.
async fn candidates(server: &Server) -> anyhow::Result<Vec<SocketAddr>> {
    let identity = Identity::generate()?;
    let offer = Offer { fingerprint: Some(identity.fingerprint()), ..Offer::publish(Codec::Vp8) };
    let session = server.publisher().offer(&server.whip("a"), &offer.to_string()).await?;
    server.publisher().delete(&session.url).await?;
    Ok(Answer::parse(&session.answer)?.candidates)
}

/// A STUN server that answers one question, with an address as a NAT would have made it, and says
/// from which port it was asked.
async fn stun_server(
    outside: IpAddr,
) -> anyhow::Result<(String, tokio::task::JoinHandle<anyhow::Result<u16>>)> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let url = format!("stun:{}", socket.local_addr()?);
    let answering = tokio::spawn(async move {
        let mut datagram = vec![0; 1_500];
        let (length, from) = socket.recv_from(&mut datagram).await?;
        let answer = answer(&datagram[..length], SocketAddr::new(outside, from.port()))?;
        socket.send_to(&answer, from).await?;
        Ok(from.port())
    });
    Ok((url, answering))
}

/// The answer to a question that came from there.
fn answer(question: &[u8], seen: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let mut message = Message::new();
    message.unmarshal_binary(question)?;
    let seen = XorMappedAddress { ip: seen.ip(), port: seen.port() };
    let parts: [Box<dyn Setter>; 4] = [
        Box::new(BINDING_SUCCESS),
        Box::new(message.transaction_id),
        Box::new(seen),
        Box::new(FINGERPRINT),
    ];
    let mut answer = Message::new();
    answer.build(&parts)?;
    Ok(answer.raw)
}

/// Loopback stands for the inside of a NAT: it is no public address.
#[tokio::test]
async fn behind_nat_the_address_that_a_stun_server_sees_is_announced_first() -> anyhow::Result<()> {
    let outside = IpAddr::from([203, 0, 113, 7]);
    let (url, asked_from) = stun_server(outside).await?;
    let server = Server::with(&[("network.stun_server", &url)]).await?;
    let candidates = candidates(&server).await?;
    let inside = IpAddr::from(Ipv4Addr::LOCALHOST);
    let ips: Vec<IpAddr> = candidates.iter().map(SocketAddr::ip).collect();
    assert_eq!(ips, [outside, inside]);
    let port = candidates[0].port();
    assert_eq!(candidates[1].port(), port);
    assert_eq!(asked_from.await??, port, "it is asked from the media port");
    // What answers on that port answers clients as well.
    let _publisher = server.publish("b", via(inside, port)).await?;
    let options = ViewOptions { light: via(inside, port).light, ..ViewOptions::default() };
    received(&server.view("b", options).await?, Codec::H264, 30).await?;
    Ok(())
}

fn via(host: IpAddr, port: u16) -> PublishOptions {
    let via = Some(SocketAddr::new(host, port));
    let light = LightOptions { via, ..LightOptions::default() };
    PublishOptions { light, ..PublishOptions::default() }
}

#[tokio::test]
async fn a_stun_server_that_sees_an_address_of_the_machine_adds_none() -> anyhow::Result<()> {
    let (url, asked_from) = stun_server(Ipv4Addr::LOCALHOST.into()).await?;
    let server = Server::with(&[("network.stun_server", &url)]).await?;
    asked_from.await??;
    assert_eq!(candidates(&server).await?.len(), 1);
    server.said(&["no NAT between here"]).await?;
    Ok(())
}

#[tokio::test]
async fn where_nobody_tells_the_outside_address_the_server_starts_and_says_what_to_set()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    server.said(&["network.public_addresses = [\"auto\", \"<address>\"]"]).await?;
    // It is bound and does not answer.
    let silent = UdpSocket::bind("127.0.0.1:0").await?;
    let url = format!("stun:{}", silent.local_addr()?);
    let server = Server::with(&[("network.stun_server", &url)]).await?;
    server.said(&[&url, "does not answer"]).await?;
    assert_eq!(candidates(&server).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn nobody_is_asked_where_the_operator_names_the_address() -> anyhow::Result<()> {
    let asked = UdpSocket::bind("127.0.0.1:0").await?;
    let url = format!("stun:{}", asked.local_addr()?);
    let options =
        [("network.stun_server", url.as_str()), ("network.public_addresses", "auto,8.8.4.4")];
    let server = Server::with(&options).await?;
    let ips: Vec<IpAddr> = candidates(&server).await?.iter().map(SocketAddr::ip).collect();
    assert_eq!(ips, [IpAddr::from([8, 8, 4, 4]), Ipv4Addr::LOCALHOST.into()]);
    assert!(asked.try_recv(&mut [0; 100]).is_err(), "no question came");
    Ok(())
}

#[tokio::test]
async fn a_client_s_address_is_what_a_trusted_proxy_says_and_no_one_else() -> anyhow::Result<()> {
    for (trusted, client) in [("127.0.0.1", "203.0.113.7"), ("10.0.0.0/8", "127.0.0.1")] {
        let server = Server::with(&[("network.trusted_proxies", trusted)]).await?;
        let identity = Identity::generate()?;
        let offer =
            Offer { fingerprint: Some(identity.fingerprint()), ..Offer::publish(Codec::Vp8) };
        let answer = server
            .client(Some(PUBLISH_TOKEN))
            .request(reqwest::Method::POST, &server.whip("a"))
            .header("content-type", "application/sdp")
            .header("x-forwarded-for", "8.8.8.8, 203.0.113.7")
            .body(offer.to_string())
            .timeout(SOON)
            .send()
            .await?;
        assert_eq!(answer.status().as_u16(), 201);
        server.said(&[&format!("client={client}}}"), "session made"]).await?;
    }
    Ok(())
}
