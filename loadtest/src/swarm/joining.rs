//! The HTTP side of a swarm: posts offers, at a rate or as fast as it can, and deletes sessions.

use super::Swarm;
use super::inbox::now_nanos;
use super::viewer::Invitation;
use crate::http::{Signaling, SignalingError};
use crate::light::{Answer, Offer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often a viewer that is to try again does so.
const TRIES_MAX: u32 = 10;
/// How long a refused viewer waits where the server does not say.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often a stream that is not live yet is asked for again, and how long after.
const EARLY_MAX: u32 = 40;
const EARLY_AGAIN: Duration = Duration::from_millis(50);
/// Reasons of failures that are kept.
const REASONS_MAX: usize = 20;

/// How viewers join.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// The WHEP endpoint.
    pub url: String,
    /// Whom they are reported with.
    pub group: usize,
    /// How many.
    pub viewers: usize,
    /// How many a second; as fast as it goes where it is none.
    pub rate: Option<f64>,
    /// POSTs that may be under way at the same time.
    pub in_flight: usize,
    /// Whether those refused with 503 try again when they are told to.
    pub retry: bool,
    /// What viewers choose, in turn: JSON of the layer extension. Nothing, where there is none.
    pub choices: Vec<String>,
}

/// What became of one POST or more.
enum Joining {
    Joined(String),
    Refused(SignalingError),
    Failed(String),
}

/// Everybody's luck.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Joins {
    /// Viewers that asked.
    pub asked: usize,
    /// Viewers that got an answer.
    pub answered: usize,
    /// Refusals in the end, by status.
    pub refused: BTreeMap<u16, usize>,
    /// `Retry-After` of refusals, seconds: how often each was said.
    pub retry_after_s: BTreeMap<u64, usize>,
    /// Other failures: how many, and what the first of them were.
    pub failed: usize,
    /// The reasons of the first failures and refusals.
    pub reasons: Vec<String>,
}

/// The viewers that joined, to be ended together.
#[derive(Debug, Default)]
pub struct Joined {
    /// Everybody's luck.
    pub joins: Joins,
    urls: Vec<String>,
}

impl Joined {
    /// Posts the offers of a group, and returns when the last is answered.
    ///
    /// # Errors
    ///
    /// When there are no random numbers; what the server says is counted.
    pub async fn post(
        swarm: &Arc<Swarm>,
        signaling: &Signaling,
        options: &JoinOptions,
    ) -> anyhow::Result<Self> {
        let permits = Arc::new(Semaphore::new(options.in_flight.max(1)));
        let mut posts = JoinSet::new();
        let start = Instant::now();
        for number in 0..options.viewers {
            if let Some(rate) = options.rate {
                let due = Duration::from_secs_f64(number as f64 / rate.max(0.001));
                tokio::time::sleep_until(start + due).await;
            }
            let permit = permits.clone().acquire_owned().await?;
            let (swarm, signaling, options) = (swarm.clone(), signaling.clone(), options.clone());
            posts.spawn(async move {
                let choice = options.choices.get(number % options.choices.len().max(1));
                let joining = join(&swarm, &signaling, &options, choice).await;
                drop(permit);
                joining
            });
        }
        let mut joined = Self::default();
        joined.joins.asked = options.viewers;
        while let Some(post) = posts.join_next().await {
            joined.add(post?);
        }
        Ok(joined)
    }

    fn add(&mut self, joining: Joining) {
        let joins = &mut self.joins;
        let reason = match joining {
            Joining::Joined(url) => {
                joins.answered += 1;
                self.urls.push(url);
                return;
            }
            Joining::Refused(SignalingError::Refused { status, retry_after, body }) => {
                *joins.refused.entry(status).or_default() += 1;
                if let Some(seconds) = retry_after {
                    *joins.retry_after_s.entry(seconds).or_default() += 1;
                }
                format!("{status}: {body}")
            }
            Joining::Refused(error) => {
                joins.failed += 1;
                error.to_string()
            }
            Joining::Failed(reason) => {
                joins.failed += 1;
                reason
            }
        };
        if joins.reasons.len() < REASONS_MAX && !joins.reasons.contains(&reason) {
            joins.reasons.push(reason);
        }
    }

    /// Deletes the sessions; returns how many the server knew no more.
    pub async fn delete(self, signaling: &Signaling, in_flight: usize) -> usize {
        let permits = Arc::new(Semaphore::new(in_flight.max(1)));
        let mut deletes = JoinSet::new();
        for url in self.urls {
            let Ok(permit) = permits.clone().acquire_owned().await else { break };
            let signaling = signaling.clone();
            deletes.spawn(async move {
                let deleted = signaling.delete(&url).await;
                drop(permit);
                deleted.is_ok()
            });
        }
        let mut failed = 0;
        while let Some(deleted) = deletes.join_next().await {
            failed += usize::from(!deleted.unwrap_or(false));
        }
        failed
    }
}

/// Posts one viewer's offer, again and again if that is wanted.
async fn join(
    swarm: &Swarm,
    signaling: &Signaling,
    options: &JoinOptions,
    choice: Option<&String>,
) -> Joining {
    let (mut tries, mut early) = (0, 0);
    loop {
        let mut offer = Offer::view().congestion(swarm.feedback);
        offer.fingerprint = Some(swarm.identity.fingerprint());
        let posted = now_nanos();
        match signaling.offer(&options.url, &offer.to_string()).await {
            Ok(session) => {
                let answer = match Answer::parse(&session.answer) {
                    Ok(answer) => answer,
                    Err(error) => return Joining::Failed(error.to_string()),
                };
                let layer_url = session.layer_url.as_deref();
                if let Some(choice) = choice
                    && let Err(error) = signaling.choose(layer_url, choice).await
                {
                    return Joining::Failed(error.to_string());
                }
                let local = (offer.ufrag, offer.password);
                let (group, feedback) = (options.group, swarm.feedback);
                swarm.join(Invitation { group, local, answer, feedback, posted });
                return Joining::Joined(session.url);
            }
            // The publisher is there, and its first packet is not yet.
            Err(SignalingError::Refused { status: 409, .. }) if early < EARLY_MAX => {
                early += 1;
                tokio::time::sleep(EARLY_AGAIN).await;
            }
            Err(SignalingError::Refused { status: 503, retry_after, .. })
                if options.retry && tries < TRIES_MAX =>
            {
                tries += 1;
                let wait = retry_after.map_or(RETRY_AFTER, Duration::from_secs);
                tokio::time::sleep(wait).await;
            }
            Err(error @ SignalingError::Refused { .. }) => return Joining::Refused(error),
            Err(error) => return Joining::Failed(error.to_string()),
        }
    }
}
