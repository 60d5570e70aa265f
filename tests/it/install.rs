//! The package for Debian, installed into a folder and started from there; and what the container
//! image is built from.

use crate::harness::Server;
use anyhow::Context as _;
use millrace::config::Config;
use millrace::config::address::Listen;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a command to its end; what it printed.
fn done(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn the_package_has_all_that_a_service_needs_and_its_server_serves() -> anyhow::Result<()> {
    let folder = format!("package-{}", std::process::id());
    let folder = Folder(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder));
    let mut pack = Command::new(format!("{ROOT}/scripts/deb"));
    pack.env("MILLRACE_BINARY", env!("CARGO_BIN_EXE_millrace"));
    pack.env("DEB_DIRECTORY", &folder.0).env("DEB_COMPRESSION", "none");
    let package = done(&mut pack)?;
    let package = package.trim_end();
    let root = folder.0.join("root");
    done(Command::new("dpkg-deb").arg("-x").arg(package).arg(&root))?;
    let read = |path: &str| std::fs::read_to_string(root.join(path)).context(path.to_owned());

    let unit = read("usr/lib/systemd/system/millrace.service")?;
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).context("a start")?;
    let start: Vec<&str> = start.split_whitespace().collect();
    let [program, "--config", config] = start[..] else { anyhow::bail!("{start:?}") };
    let [program, config] = [program, config].map(|path| root.join(path.trim_start_matches('/')));
    let conffiles = done(Command::new("dpkg-deb").args(["-I", package, "conffiles"]))?;
    assert_eq!(conffiles, "/etc/millrace/millrace.toml\n");
    assert!(read("usr/lib/sysctl.d/60-millrace.conf")?.contains("net.core.rmem_max = "));

    let probe = done(Command::new(program.with_file_name("millrace-transcode")).arg("--probe"))?;
    assert!(probe.contains("encode opus"), "{probe}");

    let mut command = tokio::process::Command::new(&program);
    command.arg("--config").arg(&config);
    // On free ports, as every server of the tests; that it answers is part of starting it.
    let server = Server::spawn(command, &[]).await?;
    let mut check = Command::new(&program);
    check.env_clear().arg("healthcheck").arg("--config").arg(&config);
    done(check.env("MILLRACE_NETWORK__HTTP_LISTEN", server.http_address()))?;
    Ok(())
}

/// The words after an instruction of the Dockerfile, line by line.
fn instructions(name: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(format!("{ROOT}/Dockerfile"))?.replace("\\\n", " ");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    Ok(text.lines().filter_map(|line| line.strip_prefix(name)).map(words).collect())
}

#[test]
fn all_that_the_image_copies_is_there_and_not_ignored() -> anyhow::Result<()> {
    let ignored = std::fs::read_to_string(format!("{ROOT}/.dockerignore"))?;
    let let_in: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut copied = 0;
    for words in instructions("COPY ")? {
        if words.iter().any(|word| word.starts_with("--from=")) {
            continue;
        }
        let (_, sources) = words.split_last().context("a target")?;
        for source in sources {
            assert!(Path::new(ROOT).join(source).exists(), "{source} is copied but not there");
            let first = source.split('/').next().unwrap_or_default();
            assert!(let_in.contains(&first), ".dockerignore keeps {source} out");
            copied += 1;
        }
    }
    assert!(copied > 5, "{copied}");
    Ok(())
}

#[test]
fn the_image_exposes_every_port_of_its_configuration() -> anyhow::Result<()> {
    let exposed: BTreeSet<String> = instructions("EXPOSE ")?.into_iter().flatten().collect();
    let Config { network, rtmp, srt, .. } = Config::default();
    let port = |listen: Listen| listen.address(true).map(|address| address.port());
    let wanted = [
        (port(network.http_listen), "tcp"),
        (port(network.https_listen), "tcp"),
        (port(network.media_listen), "udp"),
        (port(network.media_listen).filter(|_| network.media_tcp), "tcp"),
        (port(rtmp.listen), "tcp"),
        (port(rtmp.tls_listen), "tcp"),
        (port(srt.listen), "udp"),
    ];
    let wanted = wanted.into_iter().filter_map(|(port, kind)| Some(format!("{}/{kind}", port?)));
    assert_eq!(exposed, wanted.collect());
    Ok(())
}

#[test]
fn the_image_runs_as_nobody_and_says_whether_it_is_well() -> anyhow::Result<()> {
    let user = instructions("USER ")?.concat();
    assert!(user.iter().all(|user| !user.starts_with("root") && !user.starts_with('0')));
    assert_eq!(user.len(), 1);
    let check = instructions("HEALTHCHECK ")?.concat().join(" ");
    assert!(check.contains("\"/usr/bin/millrace\", \"healthcheck\""), "{check}");
    // The compiler of the image is the one that everybody builds with.
    let toolchain = std::fs::read_to_string(format!("{ROOT}/rust-toolchain.toml"))?;
    let from = instructions("FROM ")?.concat().join(" ");
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = \""));
    let version = version.and_then(|rest| rest.strip_suffix('"')).context("a version")?;
    assert!(from.contains(&format!("rust:{version}-")), "{from}");
    Ok(())
}
