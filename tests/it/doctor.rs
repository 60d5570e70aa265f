//! What `millrace doctor` says of good and bad machines, and `millrace healthcheck` of a server.

use crate::harness::{Server, media_address};
use rcgen::{CertificateParams, KeyPair};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::process::Command;

/// What it said, and whether it found nothing to mend.
struct Said {
    text: String,
    is_well: bool,
}

impl Said {
    /// The line with these words.
    fn line(&self, words: &str) -> &str {
        self.text.lines().find(|line| line.contains(words)).unwrap_or_default()
    }
}

/// Runs a command of the program on free ports of loopback, unless the options say otherwise.
async fn run(command: &str, options: &[(&str, &str)]) -> anyhow::Result<Said> {
    let mut process = Command::new(env!("CARGO_BIN_EXE_millrace"));
    process.env_clear().arg(command);
    let state = folder("state");
    let defaults = [
        ("network.http_listen", "127.0.0.1:0"),
        ("network.https_listen", "127.0.0.1:0"),
        ("network.media_listen", "127.0.0.1:0"),
        ("rtmp.listen", "127.0.0.1:0"),
        ("rtmp.tls_listen", "127.0.0.1:0"),
        ("server.state_directory", state.to_str().unwrap_or_default()),
    ];
    for (key, value) in defaults.iter().chain(options) {
        process.arg(format!("--{key}={value}"));
    }
    let output = process.output().await?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Said { text: String::from_utf8(text)?, is_well: output.status.success() })
}

/// A folder of one test's, not there yet.
fn folder(name: &str) -> PathBuf {
    let name = format!("doctor-{}-{name}", std::process::id());
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[tokio::test]
async fn a_machine_that_can_serve_is_well() -> anyhow::Result<()> {
    let said = run("doctor", &[]).await?;
    assert!(said.is_well, "{}", said.text);
    assert!(said.text.ends_with(" 0 to mend\n"), "{}", said.text);
    assert!(said.line("state directory").starts_with("ok "), "{}", said.text);
    assert!(!folder("state").exists(), "nothing was made");
    // It listens on loopback and has nobody's certificate: both are said.
    assert!(
        said.line("127.0.0.1, which only this machine reaches").starts_with("warn"),
        "{}",
        said.text
    );
    assert!(said.line("browsers warn about").starts_with("warn"), "{}", said.text);
    Ok(())
}

#[tokio::test]
async fn a_port_of_another_program_is_to_be_mended() -> anyhow::Result<()> {
    let http = TcpListener::bind("127.0.0.1:0")?;
    let media = UdpSocket::bind("127.0.0.1:0")?;
    let [http_address, media_address] = [http.local_addr()?, media.local_addr()?];
    let said = run(
        "doctor",
        &[
            ("network.http_listen", &http_address.to_string()),
            ("network.media_listen", &media_address.to_string()),
        ],
    )
    .await?;
    assert!(!said.is_well);
    for (port, option) in [
        (format!("{}/tcp (HTTP)", http_address.port()), "network.http_listen"),
        (format!("{}/udp (media)", media_address.port()), "network.media_listen"),
    ] {
        let line = said.line(&port);
        assert!(line.starts_with("fail") && line.contains("another program"), "{}", said.text);
        assert!(line.contains(option), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn the_ports_of_a_server_that_runs_are_fine() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let media = media_address(&server).await?.to_string();
    let options =
        [("network.http_listen", server.http_address()), ("network.media_listen", media.as_str())];
    let said = run("doctor", &options).await?;
    assert!(said.is_well, "{}", said.text);
    for port in ["(HTTP)", "(media)"] {
        assert!(said.line(port).contains("by the millrace that runs"), "{}", said.text);
    }
    Ok(())
}

/// A certificate and its key, written into a folder; valid until so many days from now.
fn certificate(folder: &Path, days: i32) -> anyhow::Result<(String, String)> {
    std::fs::create_dir_all(folder)?;
    let day = Duration::from_hours(24);
    let now = SystemTime::now();
    let until = if days < 0 { now - day * days.unsigned_abs() } else { now + day * days as u32 };
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(["live.example.org".to_owned()])?;
    params.not_before = (until - 90 * day).into();
    params.not_after = until.into();
    let [certificate, key_file] = ["a.crt", "a.key"].map(|name| folder.join(name));
    std::fs::write(&certificate, params.self_signed(&key)?.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;
    Ok((certificate.display().to_string(), key_file.display().to_string()))
}

#[tokio::test]
async fn a_certificate_that_no_client_takes_is_to_be_mended() -> anyhow::Result<()> {
    let [good, old] = [folder("good"), folder("old")];
    let (certificate_file, key_file) = certificate(&good, 60)?;
    let (old_certificate, old_key) = certificate(&old, -3)?;
    let nowhere = good.join("nowhere.key").display().to_string();
    for (pair, words) in [
        ([&old_certificate, &old_key], "expired 3 days ago"),
        ([&certificate_file, &old_key], "cannot be used"),
        ([&certificate_file, &nowhere], "nowhere.key"),
        ([&key_file, &key_file], "no PEM certificate"),
    ] {
        let [certificate, key] = pair.map(String::as_str);
        let options =
            [("network.tls_certificate_file", certificate), ("network.tls_key_file", key)];
        let said = run("doctor", &options).await?;
        assert!(!said.is_well, "{words}");
        assert!(said.line("fail").contains(words), "{}", said.text);
    }
    let options = [
        ("network.tls_certificate_file", &*certificate_file),
        ("network.tls_key_file", &*key_file),
    ];
    let said = run("doctor", &options).await?;
    assert!(said.is_well && said.line("vouches for itself").starts_with("warn"), "{}", said.text);
    for folder in [good, old] {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_health_check_is_as_well_as_the_server() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let address = server.http_address().to_owned();
    let well = run("healthcheck", &[("network.http_listen", &address)]).await?;
    assert!(well.is_well && well.text.is_empty(), "{}", well.text);
    let other = TcpListener::bind("127.0.0.1:0")?;
    let nobody = other.local_addr()?.to_string();
    drop(other);
    let gone = run("healthcheck", &[("network.http_listen", &nobody)]).await?;
    assert!(!gone.is_well && gone.text.contains(&nobody), "{}", gone.text);
    Ok(())
}

#[tokio::test]
async fn whether_sound_can_be_transcoded_is_told_with_what_to_do() -> anyhow::Result<()> {
    let beside = run("doctor", &[]).await?;
    assert!(beside.line("all sound can be transcoded").starts_with("ok "), "{}", beside.text);
    let said = run("doctor", &[("transcode.worker", "/nowhere/millrace-transcode")]).await?;
    let line = said.line("there is no /nowhere/millrace-transcode");
    assert!(line.starts_with("warn") && line.contains("transcode.worker"), "{}", said.text);
    assert!(said.is_well, "video plays without it: {}", said.text);
    Ok(())
}
