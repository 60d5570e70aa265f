//! Workers that die, hang, crash, or are too many: viewers of the source notice nothing. And what
//! of the machine they may take.

use super::{
    FRAMES, LARGER, SMALLER, SOURCE, can_be_had, choose, ffmpeg, layer, layers_become, notice,
};
use super::{seen, sees, server, view};
use crate::harness::{Server, until};
use anyhow::Context as _;
use loadtest::codec::Codec;
use loadtest::whep::WhepClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of the process that makes layers: a child of the server.
pub(super) fn worker(server: &Server) -> Option<Pid> {
    let is_ours = |pid: &i32| {
        let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let parent = read("stat").rsplit(") ").next().and_then(|rest| {
            rest.split_whitespace().nth(1).and_then(|parent| parent.parse::<u32>().ok())
        });
        parent == server.id() && read("cmdline").contains("--picture")
    };
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(is_ours).map(Pid::from_raw)
}

/// Viewers of the source and of a made layer, to whose worker something happens; the server says
/// `words` of it, and the layer comes back.
async fn worker_gets(signal: Signal, words: &str) -> anyhow::Result<()> {
    let server = server(&[]).await?;
    let _encoder = ffmpeg(&server, "cam").await?;
    can_be_had(&server, "cam").await?;
    let of_source = view(&server, "cam").await?;
    let of_made = view(&server, "cam").await?;
    choose(&of_made, "480p").await?;
    sees(&of_made, LARGER, FRAMES).await?;
    sees(&of_source, SOURCE, FRAMES).await?;
    let stays = seen(&of_source).len();
    let before = worker(&server).context("a worker runs")?;
    kill(before, signal)?;
    server.said(&["another one is started", words]).await?;
    let next = async || worker(&server).filter(|pid| *pid != before);
    until("another worker runs", next).await?;
    sees(&of_made, LARGER, FRAMES).await?;
    sees(&of_source, SOURCE, FRAMES).await?;
    assert_eq!(seen(&of_source).len(), stays, "it has had the source all the time");
    assert_whole(&of_source)?;
    server.assert_sound();
    Ok(())
}

/// It has missed nothing.
pub(super) fn assert_whole(viewer: &WhepClient) -> anyhow::Result<()> {
    let summary = viewer.summary_of(Codec::H264).context("it has got pictures")?;
    assert_eq!(summary.lost, 0, "{summary:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_is_followed_by_another_one() -> anyhow::Result<()> {
    worker_gets(Signal::SIGKILL, "signal: 9").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_hangs_is_followed_by_another_one() -> anyhow::Result<()> {
    worker_gets(Signal::SIGSTOP, "tells nothing any more").await
}

/// A program in the place of the worker; gone with the test.
pub(crate) struct Program(PathBuf);

impl Program {
    /// It can all, by its own account, and does this when it is to do something.
    pub(crate) fn that(does: &str) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("program-{}-{number}", std::process::id());
        let program = Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        let probe = "printf 'decode h264 a\\nencode h264 b\\n'";
        fs::write(
            &program.0,
            format!("#!/bin/sh\n[ \"$1\" = --probe ] && {probe} && exit\n{does}\n"),
        )?;
        fs::set_permissions(&program.0, fs::Permissions::from_mode(0o755))?;
        Ok(program)
    }

    pub(crate) fn path(&self) -> anyhow::Result<&str> {
        self.0.to_str().context("a path")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_crashes_again_and_again_is_given_up() -> anyhow::Result<()> {
    let program = Program::that("kill -SEGV $$")?;
    let server = server(&[("transcode.worker", program.path()?)]).await?;
    let _encoder = ffmpeg(&server, "cam").await?;
    can_be_had(&server, "cam").await?;
    let viewer = view(&server, "cam").await?;
    server.said(&["again and again", "stream=cam", "signal: 11"]).await?;
    notice(&server, "cam", "again and again (signal: 11").await?;
    layers_become(&server, "cam", "no layer can be had", |layers| {
        ["480p", "360p"].iter().all(|rid| layer(layers, rid).is_none_or(|it| it["active"] == false))
    })
    .await?;
    sees(&viewer, SOURCE, FRAMES).await?;
    assert_whole(&viewer)?;
    server.assert_sound();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_pictures_than_may_be_are_told_with_the_option() -> anyhow::Result<()> {
    let server = server(&[("transcode.pictures_max", "1")]).await?;
    let first = ffmpeg(&server, "first").await?;
    can_be_had(&server, "first").await?;
    let viewer = view(&server, "first").await?;
    choose(&viewer, "480p").await?;
    sees(&viewer, LARGER, FRAMES).await?;
    let _second = ffmpeg(&server, "second").await?;
    can_be_had(&server, "second").await?;
    let other = view(&server, "second").await?;
    choose(&other, "480p").await?;
    notice(&server, "second", "transcode.pictures_max").await?;
    server.said(&["no layers are made", "stream=second", "transcode.pictures_max"]).await?;
    drop(first);
    can_be_had(&server, "second").await.context("there is room now")?;
    sees(&other, LARGER, FRAMES).await?;
    server.assert_sound();
    Ok(())
}

/// What the kernel says of a process: the cores that it may run on, and how nice it is (proc(5)).
fn limits(process: i32) -> anyhow::Result<(String, i32)> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Behind the name, which may hold anything.
    let nice = stat.rsplit(") ").next().and_then(|rest| rest.split_whitespace().nth(16));
    Ok((cores.context("a list")?.trim().to_owned(), nice.context("a number")?.parse()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_run_on_as_many_cores_as_they_may_and_behind_the_server() -> anyhow::Result<()> {
    let server = server(&[("transcode.cores", "1")]).await?;
    server.said(&["workers for what viewers lack", "1 core"]).await?;
    let _encoder = ffmpeg(&server, "cam").await?;
    can_be_had(&server, "cam").await?;
    let viewer = view(&server, "cam").await?;
    choose(&viewer, "360p").await?;
    sees(&viewer, SMALLER, FRAMES).await?;
    let (cores, nice) = limits(worker(&server).context("a worker runs")?.as_raw())?;
    let (all, server_nice) = limits(i32::try_from(server.id().context("it runs")?)?)?;
    let last = all.rsplit([',', '-']).next();
    assert_eq!(Some(&*cores), last, "the last one of {all}");
    assert_eq!(nice, (server_nice + 5).min(19));
    server.assert_sound();
    Ok(())
}
