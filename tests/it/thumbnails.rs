//! Thumbnails that the real worker makes of what ffmpeg publishes, and what is said where there are
//! none.

use crate::harness::{PUBLISH_TOKEN, Server, until};
use crate::ladder::codecs::publishes_h265;
use crate::ladder::faults::Program;
use anyhow::Context as _;
use loadtest::whip::PublishOptions;
use reqwest::Method;
use serde_json::Value;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// Red for four seconds, then blue; with one keyframe for all of it.
const RED_THEN_BLUE: &str = "color=red:size=1280x720:rate=15:duration=4[a];\
    color=blue:size=1280x720:rate=15:duration=60[b];[a][b]concat";
/// As it is for low latency.
const NO_B_FRAMES: &str = "-preset ultrafast -tune zerolatency";

/// A server that makes thumbnails.
async fn server(options: &[(&str, &str)]) -> anyhow::Result<Server> {
    Server::with(&[&[("transcode.worker", "auto")], options].concat()).await
}

/// ffmpeg with this picture by RTMP, in real time, until it is dropped.
async fn publishes(
    server: &Server,
    stream: &str,
    picture: &str,
    encoding: &str,
) -> anyhow::Result<Child> {
    let address = server.listens("\"RTMP\"").await?;
    let mut command = Command::new("ffmpeg");
    command.args("-hide_banner -loglevel error -re -f lavfi -i".split_whitespace()).arg(picture);
    command.args("-c:v libx264 -g 1000 -sc_threshold 0 -b:v 1000k".split_whitespace());
    command.args(encoding.split_whitespace()).args(["-pix_fmt", "yuv420p", "-f", "flv"]);
    command.arg(format!("rtmp://{address}/live/{stream}?token={PUBLISH_TOKEN}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    command.kill_on_drop(true).spawn().context("ffmpeg, which `make test` needs")
}

/// The picture, or the status and kind of the refusal.
type Got = Result<Vec<u8>, (u16, String)>;

async fn get(server: &Server, stream: &str) -> anyhow::Result<Got> {
    let url = server.url(&format!("/api/v1/streams/{stream}/thumbnail.jpg"));
    let answer = server.client(None).request(Method::GET, &url).send().await?;
    let status = answer.status().as_u16();
    let body = answer.bytes().await?;
    if status == 200 {
        return Ok(Ok(body.into()));
    }
    let problem: Value = serde_json::from_slice(&body)?;
    let kind = problem["type"].as_str().and_then(|it| it.rsplit(':').next()).context("a type")?;
    Ok(Err((status, kind.to_owned())))
}

/// The picture, as soon as there is one that is as it is wanted.
async fn sees(
    server: &Server,
    stream: &str,
    what: &str,
    wanted: fn([u8; 3]) -> bool,
) -> anyhow::Result<Vec<u8>> {
    until(what, async || {
        let jpeg = get(server, stream).await.ok()?.ok()?;
        wanted(color(&jpeg).await.ok()?).then_some(jpeg)
    })
    .await
    .with_context(|| server.output().read(Clone::clone))
}

/// The mean of red, green and blue.
async fn color(jpeg: &[u8]) -> anyhow::Result<[u8; 3]> {
    let arguments = "-hide_banner -loglevel error -f image2pipe -c:v mjpeg -i - \
        -vf scale=1:1:flags=area -pix_fmt rgb24 -f rawvideo -";
    let mut child = Command::new("ffmpeg")
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("ffmpeg, which `make test` needs")?;
    let mut input = child.stdin.take().context("a pipe")?;
    input.write_all(jpeg).await?;
    drop(input);
    let output = child.wait_with_output().await?.stdout;
    <[u8; 3]>::try_from(output.as_slice()).context("one pixel")
}

/// Width and height, by the start of its frame (ITU-T T.81 §B.2.2): baseline, 8 bits.
fn size(jpeg: &[u8]) -> Option<(u16, u16)> {
    let frame = jpeg.windows(9).find(|it| it[..2] == [0xff, 0xc0] && it[4] == 8)?;
    let side = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    Some((side(7), side(5)))
}

const fn is_red([red, green, blue]: [u8; 3]) -> bool {
    red > 240 && green < 60 && blue < 60
}

const fn is_blue([red, green, blue]: [u8; 3]) -> bool {
    red < 60 && green < 60 && blue > 240
}

/// How many attempts had this result.
async fn attempts(server: &Server, result: &str) -> anyhow::Result<u64> {
    let name = format!("millrace_thumbnails_total{{result=\"{result}\"}}");
    Ok(server.metric(&name).await? as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thumbnail_shows_what_is_sent_now_however_old_the_keyframe_is() -> anyhow::Result<()> {
    let server = server(&[]).await?;
    let _encoder = publishes(&server, "stage/one", RED_THEN_BLUE, NO_B_FRAMES).await?;
    let jpeg = sees(&server, "stage/one", "it is red", is_red).await?;
    assert_eq!(size(&jpeg), Some((480, 270)));
    assert!(jpeg.len() < 30_000, "{} bytes", jpeg.len());
    sees(&server, "stage/one", "it is blue", is_blue).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_ask_at_the_same_time_cost_one() -> anyhow::Result<()> {
    let server = server(&[]).await?;
    let _encoder = publishes(&server, "cam", RED_THEN_BLUE, NO_B_FRAMES).await?;
    let is_live = async || server.stream("cam").await.ok()?;
    until("it is live", is_live).await?;
    let asked = futures_util::future::try_join_all((0..20).map(|_| get(&server, "cam"))).await?;
    assert!(asked.iter().all(|got| got.is_ok() && *got == asked[0]));
    assert_eq!(attempts(&server, "made").await?, 1);
    server.assert_sound();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_that_browsers_do_not_play_have_thumbnails_too() -> anyhow::Result<()> {
    let server = server(&[("srt.listen", "127.0.0.1:0")]).await?;
    let b_frames = "-preset veryfast -bf 3 -x264-params b-pyramid=normal:b-adapt=0";
    let _of_b_frames = publishes(&server, "b-frames", RED_THEN_BLUE, b_frames).await?;
    sees(&server, "b-frames", "it is red", is_red).await?;
    let _of_h265 = publishes_h265(&server, "h265").await?;
    let jpeg = sees(&server, "h265", "it is something", |_| true).await?;
    assert_eq!(size(&jpeg), Some((480, 270)));
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn what_has_no_picture_or_is_not_there_is_told() -> anyhow::Result<()> {
    let server = server(&[("whip.grace_time_s", "1")]).await?;
    let refused = |status, kind: &str| Err((status, kind.to_owned()));
    assert_eq!(get(&server, "nobody").await?, refused(404, "not-live"));
    assert_eq!(get(&server, "bad%20name").await?, refused(400, "bad-name"));
    let options = PublishOptions { video: None, audio: true, ..PublishOptions::default() };
    let heard = server.publish("heard", options).await?;
    let is_live = async || server.stream("heard").await.ok()?;
    until("it is live", is_live).await?;
    assert_eq!(get(&server, "heard").await?, refused(404, "no-picture"));
    heard.end().await?;
    let is_over =
        async || (get(&server, "heard").await.ok()? == refused(404, "not-live")).then_some(());
    until("it is over", is_over).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_server_that_makes_none_says_so() -> anyhow::Result<()> {
    for option in [("transcode.worker", "off"), ("transcode.thumbnails_max", "0")] {
        let server = server(&[option]).await?;
        let _publisher = server.publish("cam", PublishOptions::default()).await?;
        let answers = async || get(&server, "cam").await.ok()?.err().filter(|it| it.0 != 404);
        let refused = until("it is live", answers).await?;
        assert_eq!(refused, (501, "no-thumbnails".to_owned()), "{option:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_or_hangs_is_told_whoever_asked() -> anyhow::Result<()> {
    for does in ["kill -SEGV $$", "exec sleep 1000"] {
        let program = Program::that(does)?;
        let server = server(&[("transcode.worker", program.path()?)]).await?;
        let _encoder = publishes(&server, "cam", RED_THEN_BLUE, NO_B_FRAMES).await?;
        let is_live = async || server.stream("cam").await.ok()?;
        until("it is live", is_live).await?;
        let refused = Err((503, "no-thumbnail-now".to_owned()));
        assert_eq!(get(&server, "cam").await?, refused, "{does}");
        assert_eq!(attempts(&server, "failed").await?, 1);
        // It is the same for a while: nothing is tried again and again.
        assert_eq!(get(&server, "cam").await?, refused);
        assert_eq!(attempts(&server, "failed").await?, 1);
        server.assert_sound();
    }
    Ok(())
}
