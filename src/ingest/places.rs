//! Who may be connected without having said what for: so many in all, so many of one address.
//!
//! Where there are too many the oldest gives way: an encoder settled at once, a client of
//! media over TCP sends its check, and whoever only takes up room does not. Those that are settled
//! are bounded elsewhere.

use crate::config::reach::network_of;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::AbortHandle;

/// Connections that are not settled yet, the oldest first.
pub struct Places {
    waiting: VecDeque<Waiting>,
    max: usize,
    per_network_max: usize,
}

struct Waiting {
    network: IpAddr,
    task: AbortHandle,
    settled: Arc<AtomicBool>,
}

impl Places {
    /// So many in all, and of one network.
    pub const fn new(max: usize, per_network_max: usize) -> Self {
        Self { waiting: VecDeque::new(), max, per_network_max }
    }

    /// Makes room for one more, and says which network it is of.
    pub fn make_room(&mut self, remote: IpAddr) -> IpAddr {
        self.waiting.retain(Waiting::waits);
        let network = network_of(remote);
        let neighbours = self.waiting.iter().filter(|other| other.network == network).count();
        let gives_way = if neighbours >= self.per_network_max {
            self.waiting.iter().position(|other| other.network == network)
        } else {
            (self.waiting.len() >= self.max).then_some(0)
        };
        if let Some(oldest) = gives_way.and_then(|at| self.waiting.remove(at)) {
            oldest.task.abort();
        }
        network
    }

    /// Takes a place, until the task ends or says that its client is settled.
    pub fn take(&mut self, network: IpAddr, task: AbortHandle, settled: Arc<AtomicBool>) {
        self.waiting.push_back(Waiting { network, task, settled });
    }

    /// Ends all that wait.
    pub fn clear(&mut self) {
        self.waiting.retain(Waiting::waits);
        self.waiting.drain(..).for_each(|waiting| waiting.task.abort());
    }
}

impl Waiting {
    fn waits(&self) -> bool {
        !self.task.is_finished() && !self.settled.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::task::JoinSet;

    /// Comes in from an address and stays until it has to give way.
    fn come(places: &mut Places, tasks: &mut JoinSet<()>, from: &str) -> Arc<AtomicBool> {
        let network = places.make_room(from.parse().expect("an address"));
        let settled = Arc::new(AtomicBool::new(false));
        places.take(network, tasks.spawn(pending()), Arc::clone(&settled));
        settled
    }

    async fn given_way(tasks: &mut JoinSet<()>) -> bool {
        // What has been aborted ends when it is next looked at.
        tokio::task::yield_now().await;
        tasks.try_join_next().is_some()
    }

    #[tokio::test]
    async fn the_oldest_that_does_not_publish_gives_way() {
        let (mut places, mut tasks) = (Places::new(2, 2), JoinSet::new());
        let first = come(&mut places, &mut tasks, "192.0.2.1");
        first.store(true, Ordering::Release);
        for from in ["192.0.2.2", "192.0.2.3"] {
            come(&mut places, &mut tasks, from);
        }
        assert!(!given_way(&mut tasks).await, "who publishes takes no place");
        come(&mut places, &mut tasks, "192.0.2.4");
        assert!(given_way(&mut tasks).await);
        assert_eq!(tasks.len(), 3);
    }

    #[tokio::test]
    async fn one_network_does_not_take_the_places_of_others() {
        let (mut places, mut tasks) = (Places::new(9, 2), JoinSet::new());
        let other = come(&mut places, &mut tasks, "192.0.2.1");
        for last in 1..6 {
            come(&mut places, &mut tasks, &format!("2001:db8::{last}"));
        }
        let mut gone = 0;
        while given_way(&mut tasks).await {
            gone += 1;
        }
        assert_eq!((gone, places.waiting.len()), (3, 3));
        assert!(places.waiting.iter().any(|it| Arc::ptr_eq(&it.settled, &other)));
        places.clear();
        assert!(given_way(&mut tasks).await);
    }
}
