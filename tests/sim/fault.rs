//! A fault in one session ends that session only.
//!
//! Faults are provoked where the code of others runs anyway: in the subscriber of the log.

use crate::camera::Camera;
use crate::sessions::session;
use crate::viewer::Screen;
use crate::world::{World, secs};
use millrace::engine::command::{Command, EndReason, LayerChoice};
use std::fmt::Debug;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

/// Panics at one message about one session.
struct Saboteur {
    message: &'static str,
    session: String,
}

/// What a message says, and of which session.
#[derive(Default)]
struct Said {
    message: String,
    session: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "session" => self.session = format!("{value:?}"),
            _ => {}
        }
    }
}

impl Subscriber for Saboteur {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        if said.message == self.message && said.session == self.session {
            sabotage();
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[allow(clippy::panic, reason = "this is what is tested")]
fn sabotage() {
    panic!("sabotage")
}

/// Runs a stream with two viewers, of whom the first meets a fault at this message; with a wish,
/// they come when the layers are known, and it is told then.
fn with_fault_at(message: &'static str, wish: Option<LayerChoice>) -> World {
    let saboteur = Saboteur { message, session: format!("{:?}", session(1)) };
    let mut world = World::seeded(101);
    // A session whose beginning fails is told goodbye all the same.
    world.strict = false;
    subscriber::with_default(saboteur, || {
        world.publish("lot-42", Camera::default());
        if wish.is_some() {
            world.run_for(secs(2));
        }
        world.view("lot-42", Screen::default());
        world.view("lot-42", Screen::default());
        if let Some(wish) = wish {
            world.run_for(secs(1));
            world.command(Command::Choose(session(1), wish));
        }
        world.run_for(secs(5));
    });
    world
}

#[test]
fn a_fault_ends_the_session_that_it_is_in_and_no_other() {
    let paused = LayerChoice { paused: true, ..LayerChoice::default() };
    // Where a session begins, where its datagrams are read, where it is chosen what it is to get,
    // as layers come and as it wishes, and where it is sent media.
    for (message, wish) in [
        ("session claimed", None),
        ("connected", None),
        ("target", None),
        ("target", Some(paused)),
        ("batch", None),
    ] {
        let mut world = with_fault_at(message, wish);
        let reason = |number| world.ended(number).map(|(_, reason)| reason);
        assert_eq!(reason(1), Some(&EndReason::Fault), "{message}");
        assert_eq!((reason(0), reason(2)), (None, None), "{message}");
        assert_eq!(world.engine.counters().faults, 1, "{message}");
        assert_eq!(world.engine.sessions(), 2, "{message}");
        let (missing, expected) = world.viewer(2).missing();
        assert!(missing == 0 && expected > 600, "{message}: {missing} of {expected}");
        world.command(Command::Stop);
        assert_eq!(world.engine.sizes(), [0; 3], "{message}: nothing is left of any");
    }
}
