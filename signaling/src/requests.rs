//! The requests of one connection: each is given to the app with its client, and counted until the
//! last of its answer is sent, to tell when the connection idles, or its client takes no more.

use crate::proxy::TrustedProxies;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures_util::future::BoxFuture;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tower::ServiceExt as _;
use tracing::Instrument as _;

/// The app as hyper wants it.
pub(crate) struct Answering {
    pub(crate) app: Router,
    /// Where the connection comes from.
    pub(crate) from: IpAddr,
    /// Whether by TLS.
    pub(crate) secure: bool,
    pub(crate) proxies: Arc<TrustedProxies>,
    pub(crate) requests: Arc<Requests>,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Counted>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let open = self.requests.begin();
        let client = self.proxies.client(self.from, self.secure, request.headers());
        request.extensions_mut().insert(client);
        let span = tracing::debug_span!("request", client = %client.address);
        let answer = self.app.clone().oneshot(request.map(Body::new));
        let answered = async move {
            // It is open until the last of its body is sent: a stream of events lasts.
            answer.await.map(|response| response.map(|body| Counted { body, open, given: None }))
        };
        Box::pin(answered.instrument(span))
    }
}

/// The requests of a connection, and the pieces of answers that the client has not taken yet.
///
/// Time is counted in the intervals of [`Requests::left_alone`].
#[derive(Default)]
pub(crate) struct Requests {
    begun: AtomicUsize,
    open: AtomicUsize,
    /// Which interval it is.
    interval: AtomicUsize,
    /// Answers that gave a piece and were not asked for the next, by the interval of that, modulo
    /// three: the present one, the last, and one that is empty.
    given: [AtomicUsize; 3],
}

impl Requests {
    fn begin(self: &Arc<Self>) -> OpenRequest {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenRequest(Arc::clone(self))
    }

    fn given(&self, interval: usize) -> &AtomicUsize {
        &self.given[interval % 3]
    }

    /// Done when for one whole interval no request began and none was open, or a piece of an answer
    /// was not taken.
    pub(crate) async fn left_alone(&self, timeout: Duration) {
        let mut ticks = interval(timeout.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        ticks.tick().await;
        let mut seen = self.begun.load(Ordering::Relaxed);
        loop {
            ticks.tick().await;
            let begun = self.begun.load(Ordering::Relaxed);
            if begun == seen && self.open.load(Ordering::Relaxed) == 0 {
                return;
            }
            seen = begun;
            let over = self.interval.fetch_add(1, Ordering::Relaxed);
            if over > 0 && self.given(over - 1).load(Ordering::Relaxed) > 0 {
                tracing::debug!("an answer is not taken");
                return;
            }
        }
    }
}

/// Ends the count of one request when its answer is sent or given up.
struct OpenRequest(Arc<Requests>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, counted.
///
/// It is asked for its next piece when there is room for that: an answer that waits for what the
/// media server is to give has been asked, one whose client takes no more has not.
pub(crate) struct Counted {
    body: Body,
    open: OpenRequest,
    /// The interval in which a piece was given, until the next one is asked for.
    given: Option<usize>,
}

impl Counted {
    fn taken(&mut self) {
        if let Some(interval) = self.given.take() {
            self.open.0.given(interval).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.taken();
    }
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.taken();
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            let interval = self.open.0.interval.load(Ordering::Relaxed);
            self.open.0.given(interval).fetch_add(1, Ordering::Relaxed);
            self.given = Some(interval);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
