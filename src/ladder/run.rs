//! The made layers of one publisher: from what viewers want to what its worker makes.

use super::Tools;
use super::demand::{Demand, Todo};
use super::outlet::{Known, Outlet};
use super::plan::{Planned, rates};
use super::report::{LadderReport, MadeReport};
use super::shedding::Shedding;
use super::wishes::Wished;
use crate::bus::making::Making;
use crate::engine::message::Term;
use crate::media::bitrate::Bitrate;
use crate::media::codec::Codec;
use crate::media::id::StreamName;
use crate::media::layer::MadeLayer;
use crate::media::sample::Sample;
use crate::transcode::picture::{Layer, Load, MadeFrame, SourceFrame, Standby, Told};
use crate::transcode::{PictureWorker, Unavailable};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::mpsc::{Receiver, channel};
use tracing::{info, warn};

/// What a worker has told and nobody has taken yet: a second of seven layers.
const TOLD_MAX: usize = 512;
/// Of that, what is kept free of frames: other things must not be lost.
const TOLD_BESIDE_FRAMES: usize = 64;

/// One publisher's picture on its way through a worker.
pub(super) struct Run {
    stream: StreamName,
    /// How the source is encoded.
    codec: Codec,
    /// Every viewer can play it.
    is_for_all: bool,
    worker: PictureWorker,
    told: Receiver<Told>,
    /// Frames were lost, since nobody took them in time.
    is_lossy: Arc<AtomicBool>,
    wished: Arc<Wished>,
    making: Option<Making>,
    frame_rate: f64,
    /// The encoder's element; empty where the worker chooses.
    encoder: &'static str,
    layers: Vec<Made>,
    demand: Demand,
    shedding: Shedding,
    /// What is wrong with the worker, while something is.
    fault: Option<String>,
    is_given_up: bool,
    /// Why there is no room for it, while that is so.
    full: Option<Unavailable>,
    /// The newest time of the source.
    known: Option<Known>,
    load: Load,
    dropped_frames: u64,
    /// The engine is to be told what can be had.
    is_changed: bool,
}

/// One layer.
struct Made {
    planned: Planned,
    bitrate: Bitrate,
    outlet: Option<Outlet>,
    encoder: Option<String>,
    /// Why no encoder can make it.
    refused: Option<String>,
    skipped_pictures: u64,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Run").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Run {
    /// These layers are to be made of a picture.
    pub(super) fn start(
        tools: &Tools,
        stream: &StreamName,
        codec: Codec,
        is_for_all: bool,
        planned: Vec<Planned>,
    ) -> Result<Self, Unavailable> {
        tools.transcoder.picture_available(codec)?;
        let (out, told) = channel(TOLD_MAX);
        let is_lossy = Arc::new(AtomicBool::new(false));
        let lossy = Arc::clone(&is_lossy);
        let sink = move |it: Told| {
            let is_full = matches!(it, Told::Frame(_)) && out.capacity() <= TOLD_BESIDE_FRAMES;
            if is_full || out.try_send(it).is_err() {
                lossy.store(true, Ordering::Release);
            }
        };
        let worker = tools.transcoder.picture(stream, sink)?;
        let rates = rates(is_for_all, None, &planned);
        let made = planned.into_iter().zip(rates).enumerate().map(|(index, (planned, bitrate))| {
            let id = MadeLayer::id(index);
            let outlet = id.map(|id| Outlet::new(id, tools.payload_max));
            Made { planned, bitrate, outlet, encoder: None, refused: None, skipped_pictures: 0 }
        });
        Ok(Self {
            stream: stream.clone(),
            codec,
            is_for_all,
            worker,
            told,
            is_lossy,
            wished: Arc::default(),
            making: None,
            frame_rate: 0.0,
            encoder: tools.settings.encoder.element(),
            layers: made.take(MadeLayer::MAX).collect(),
            demand: Demand::default(),
            shedding: Shedding::default(),
            fault: None,
            is_given_up: false,
            full: None,
            known: None,
            load: Load::default(),
            dropped_frames: 0,
            is_changed: false,
        })
    }

    /// Whether somebody watches the stream, whatever of it. What not everybody plays is decoded in
    /// any case: a worker that starts has to decode first what has come since the last keyframe.
    pub(super) fn set_audience(&self, is_watched: bool) {
        self.worker.stand_by(match (self.is_for_all, is_watched) {
            (false, _) => Standby::Yes,
            (true, true) => Standby::IfThereIsRoom,
            (true, false) => Standby::No,
        });
    }

    /// Where wishes are told.
    pub(super) const fn wished(&self) -> &Arc<Wished> {
        &self.wished
    }

    /// What the worker tells next.
    pub(super) async fn told(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// Whether viewers were told of its layers.
    pub(super) const fn is_declared(&self) -> bool {
        self.making.is_some()
    }

    /// Whether viewers can have them.
    pub(super) const fn is_to_be_had(&self) -> bool {
        self.making.is_some() && !self.is_given_up && self.full.is_none()
    }

    /// Viewers can have its layers from now on.
    pub(super) fn declare(&mut self, tools: &Tools, term: Term, frame_rate: f64) {
        self.frame_rate = frame_rate;
        let wishes = Arc::clone(&self.wished);
        self.making = tools.bus.make(&self.stream, term, self.made_layers(), wishes);
        if self.making.is_some() {
            let layers = self.layers.iter().map(|made| made.planned.rid.as_str());
            let layers = layers.collect::<Vec<_>>().join(", ");
            info!(stream = %self.stream, %layers, "layers can be made");
        }
    }

    /// A frame of the source.
    pub(super) fn write(&mut self, sample: &Sample) {
        let Sample { present_ticks, wall, starts, arrival, ref data, .. } = *sample;
        self.known = Some(Known { ticks: present_ticks, wall });
        let (codec, data) = (self.codec, data.clone());
        self.worker.write(SourceFrame { codec, ticks: present_ticks, starts, arrival, data });
    }

    /// Takes in what the worker has told.
    pub(super) fn take(&mut self, told: Told, now: Instant) {
        match told {
            Told::Frame(frame) => self.take_frame(&frame),
            Told::Encoder { layer, name } => {
                if let Some(made) = self.layers.get_mut(usize::from(layer)) {
                    made.encoder = Some(name);
                }
            }
            Told::Refused { layer, reason } => {
                if let Some(made) = self.layers.get_mut(usize::from(layer)) {
                    warn!(stream = %self.stream, layer = made.planned.rid, %reason, "not made");
                    made.refused = Some(reason);
                }
                self.bar();
            }
            Told::Load(load) => self.take_load(load, now),
            Told::Failed { fault, is_given_up } => {
                self.fault = Some(fault);
                self.is_given_up = is_given_up;
                self.load = Load::default();
                let running = self.demand.running();
                for index in (0..self.layers.len()).filter(|at| running & (1 << at) != 0) {
                    self.end(index);
                }
                self.demand.restarted();
                self.bar();
            }
            Told::Well => {
                (self.fault, self.is_given_up) = (None, false);
                self.bar();
            }
            Told::Full(reason) => {
                warn!(stream = %self.stream, %reason, "no layers are made");
                self.full = Some(reason);
                self.bar();
            }
            Told::Room => {
                self.full = None;
                self.bar();
            }
            Told::Rests => self.load = Load::default(),
        }
    }

    fn take_frame(&mut self, frame: &MadeFrame) {
        let index = usize::from(frame.layer);
        let Some(made) = self.layers.get_mut(index) else { return };
        let (Some(outlet), Some(making)) = (&mut made.outlet, &self.making) else { return };
        self.demand.come(index, frame.is_keyframe);
        if self.is_lossy.load(Ordering::Acquire) {
            outlet.lose();
        }
        if !outlet.write(frame, self.known, making.writer()) {
            self.demand.want_keyframes(1 << index);
        }
    }

    fn take_load(&mut self, load: Load, now: Instant) {
        self.dropped_frames += u64::from(load.dropped);
        for layer in &load.layers {
            if let Some(made) = self.layers.get_mut(usize::from(layer.layer)) {
                made.skipped_pictures += u64::from(layer.skipped);
            }
        }
        let running = self.demand.running();
        if let Some(shed) = self.shedding.load(&load, running, self.wished.watching(), now) {
            let speed_percent = load.speed_percent;
            let layer = self.layers.get(shed).map(|made| &made.planned.rid);
            warn!(
                stream = %self.stream, ?layer, speed_percent,
                "too slow for all layers that are watched: this one is not made for now"
            );
            self.bar();
        }
        self.load = load;
    }

    /// Which layers cannot be had has changed.
    fn bar(&mut self) {
        self.demand.set_barred(self.barred());
        self.is_changed = true;
    }

    fn barred(&self) -> u8 {
        if self.is_given_up || self.full.is_some() {
            return u8::MAX;
        }
        let refused = self.layers.iter().enumerate().filter(|(_, made)| made.refused.is_some());
        refused.fold(self.shedding.shed(), |bits, (index, _)| bits | 1 << index)
    }

    /// Looks what is to be done now.
    pub(super) fn act(&mut self, now: Instant) {
        if self.is_lossy.swap(false, Ordering::AcqRel) {
            for made in &mut self.layers {
                made.outlet.iter_mut().for_each(Outlet::lose);
            }
            self.demand.want_keyframes(u8::MAX);
        }
        let watching = self.wished.watching().into_iter().enumerate();
        let watched = watching.filter(|(_, by)| *by > 0);
        self.demand.set_watched(watched.fold(0, |bits, (index, _)| bits | 1 << index));
        self.demand.want_keyframes(self.wished.take_keyframes());
        let Todo { start, stop, keyframe } = self.demand.take(now);
        for index in (0..self.layers.len()).filter(|index| start & (1 << index) != 0) {
            self.worker.start(self.order(index));
        }
        for index in (0..self.layers.len()).filter(|index| stop & (1 << index) != 0) {
            self.stop(index);
        }
        if keyframe {
            self.worker.want_keyframe();
        }
        if self.is_changed
            && let Some(making) = &self.making
        {
            self.is_changed = !making.change(self.made_layers());
        }
    }

    fn stop(&mut self, index: usize) {
        self.worker.stop(index as u8);
        self.end(index);
    }

    /// Nothing more comes of a layer until it begins anew.
    fn end(&mut self, index: usize) {
        let Some(made) = self.layers.get_mut(index) else { return };
        made.encoder = None;
        made.outlet.iter_mut().for_each(Outlet::lose);
        if let (Some(making), Some(id)) = (&self.making, MadeLayer::id(index)) {
            // Where there is no room for it, viewers see that nothing comes.
            let _ = making.writer().end(id);
        }
    }

    /// A layer as the worker is told to make it.
    fn order(&self, index: usize) -> Layer {
        /// Above what was measured: frames that come a little sooner than the others are made too.
        const FASTER: f64 = 1.05;
        let Made { planned, bitrate, .. } = &self.layers[index];
        let (width, height) = planned.dimensions;
        Layer {
            number: index as u8,
            width,
            height,
            frame_rate_mhz: (self.frame_rate * FASTER * 1000.0) as u32,
            bitrate_bps: u32::try_from(bitrate.as_bps()).unwrap_or(u32::MAX),
            encoder: self.encoder.to_owned(),
        }
    }

    /// The layers as viewers can have them.
    fn made_layers(&self) -> Vec<MadeLayer> {
        let barred = self.barred();
        let made = |(index, made): (usize, &Made)| MadeLayer {
            codec: Codec::H264,
            rid: made.planned.rid.clone(),
            dimensions: made.planned.dimensions,
            frame_rate: self.frame_rate,
            bitrate: made.bitrate,
            is_available: barred & (1 << index) == 0,
        };
        self.layers.iter().enumerate().map(made).collect()
    }

    /// Looks at what changes slowly: what the source takes, and what may be tried again.
    pub(super) fn look(&mut self, source: Option<Bitrate>, now: Instant) {
        while let Some(index) = self.shedding.look(now) {
            let layer = self.layers.get(index).map(|made| &made.planned.rid);
            info!(stream = %self.stream, ?layer, "made again when somebody wants it");
            self.bar();
        }
        if source.is_some() {
            self.set_rates(source);
        }
    }

    /// Layers take less where the source does.
    fn set_rates(&mut self, source: Option<Bitrate>) {
        /// A change by less is none.
        const PART: f64 = 0.2;
        let planned: Vec<Planned> = self.layers.iter().map(|made| made.planned.clone()).collect();
        for (index, rate) in rates(self.is_for_all, source, &planned).into_iter().enumerate() {
            let present = self.layers[index].bitrate;
            let apart = rate.as_bps().abs_diff(present.as_bps());
            let ceiling = planned[index].ceiling;
            let is_back = rate == ceiling && present != ceiling;
            if apart as f64 > present.as_bps() as f64 * PART || is_back {
                self.layers[index].bitrate = rate;
                self.is_changed = true;
                if self.demand.running() & (1 << index) != 0 {
                    self.worker.start(self.order(index));
                }
            }
        }
    }

    /// When there will be something to do, if nothing changes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.demand.deadline()
    }

    /// How it fares.
    pub(super) fn report(&self) -> LadderReport {
        let layers = self.layers.iter().map(|made| MadeReport {
            rid: made.planned.rid.clone(),
            encoder: made.encoder.clone(),
            skipped_pictures: made.skipped_pictures,
        });
        LadderReport {
            notices: self.notices(),
            layers: layers.collect(),
            load: self.load.clone(),
            dropped_frames: self.dropped_frames,
        }
    }

    fn notices(&self) -> Vec<String> {
        let fault = self.fault.as_ref().map(|fault| {
            if self.is_given_up {
                format!(
                    "No layers are made of this picture: the program that makes them has failed \
                     again and again ({fault}). It is tried again every minute."
                )
            } else {
                format!("The program that makes layers has failed ({fault}); it was started again.")
            }
        });
        let full = self.full.as_ref().map(no_layers);
        let shed = self.shedding.shed();
        let named = |index: usize| self.layers.get(index).map(|made| made.planned.rid.as_str());
        let shed: Vec<&str> =
            (0..self.layers.len()).filter(|at| shed & (1 << at) != 0).filter_map(named).collect();
        let shed = (!shed.is_empty()).then(|| {
            let (layers, are) = (shed.join(", "), if shed.len() > 1 { "are" } else { "is" });
            format!(
                "This machine is too slow for all layers that are watched: {layers} {are} not \
                 made for now. Fewer layers (transcode.ladder) or more cores help."
            )
        });
        let refused = self.layers.iter().filter_map(|made| {
            let reason = made.refused.as_ref()?;
            Some(format!("{} is not made: {reason}", made.planned.rid))
        });
        fault.into_iter().chain(full).chain(shed).chain(refused).collect()
    }
}

/// What operators are told where nothing is made for this reason.
pub(super) fn no_layers(reason: &Unavailable) -> String {
    format!("No layers are made of this picture: {reason}")
}
