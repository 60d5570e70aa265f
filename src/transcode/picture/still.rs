//! One picture of a stream as a JPEG, by a worker that is started for that and has then done.

use super::SourceFrame;
use super::supervisor::{named, order_of};
use crate::transcode::exchange::Exchange;
use crate::transcode::ipc::picture::{Order, Report, STILL_ARGUMENT};
use crate::transcode::process::{Launch, Process};
use std::iter;
use tracing::debug;

/// So much waits for the socket before more of the frames is copied.
const BYTES_MAX: usize = 64 * 1024;

/// A JPEG of the newest picture of these frames, so high at most. The first of them is a keyframe,
/// and all are of one layer. Whoever waits no longer ends the worker by that.
///
/// # Errors
///
/// What went wrong, in the worker's words.
pub(in crate::transcode) async fn still(
    launch: &Launch,
    frames: &[SourceFrame],
    height: u16,
) -> Result<Vec<u8>, String> {
    let codec = frames.first().and_then(|first| named(first.codec)).ok_or("there is no picture")?;
    let process = launch.start(Some(STILL_ARGUMENT)).map_err(|error| error.to_string())?;
    debug!(process = process.id(), frames = frames.len(), "a worker for one picture was started");
    let orders = iter::once(Order::Source(codec))
        .chain(frames.iter().map(order_of))
        .chain([Order::Still(height)]);
    let made = talk(&process, orders).await;
    let last_words = process.end().await;
    made.map_err(|fault| fault.unwrap_or(last_words))
}

/// Says all that, and hears what comes of it. An error without a text: the worker has ended.
async fn talk(
    process: &Process,
    mut orders: impl Iterator<Item = Order>,
) -> Result<Vec<u8>, Option<String>> {
    let socket = &process.socket;
    let mut exchange = Exchange::<Report>::new();
    let mut is_ready = false;
    loop {
        let was_read = exchange.read(socket);
        while let Some(report) = exchange.take_next().map_err(|bad| Some(bad.to_string()))? {
            match report {
                Report::Ready => is_ready = true,
                Report::Still(jpeg) => return Ok(jpeg),
                Report::Failed(fault) => return Err(Some(fault)),
                _ => {}
            }
        }
        was_read.map_err(|_| None)?;
        while is_ready
            && exchange.waiting() < BYTES_MAX
            && let Some(order) = orders.next()
        {
            // What is longer than a message may be no decoder takes: it shows in what comes of it.
            exchange.put(&order);
        }
        let has_bytes = exchange.waiting() > 0;
        let done = tokio::select! {
            ready = socket.readable() => ready,
            ready = socket.writable(), if has_bytes => {
                ready.and_then(|()| exchange.write(socket))
            }
        };
        if done.is_err() {
            // What it has said before may be read still, and then its end.
            is_ready = false;
        }
    }
}
