//! The payload being written, and which is the last of its frame.

/// Hands out payloads one behind: whether one is the frame's last is known when the next begins,
/// or none does.
pub(super) struct Payloads<'a> {
    payload: &'a mut Vec<u8>,
    max: usize,
    emit: &'a mut dyn FnMut(&[u8], bool),
}

impl<'a> Payloads<'a> {
    pub(super) fn new(
        payload: &'a mut Vec<u8>,
        max: usize,
        emit: &'a mut dyn FnMut(&[u8], bool),
    ) -> Self {
        Self { payload, max, emit }
    }

    /// The next payload begins; what was written so far is one.
    pub(super) fn begin(&mut self) {
        if !self.payload.is_empty() {
            (self.emit)(self.payload, false);
            self.payload.clear();
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.payload.extend_from_slice(bytes);
    }

    /// How much more the payload being written can take.
    pub(super) fn room(&self) -> usize {
        self.max.saturating_sub(self.payload.len())
    }

    /// The most that a payload takes.
    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// The payload being written, to be changed: headers are completed at its end.
    pub(super) const fn written(&mut self) -> &mut Vec<u8> {
        self.payload
    }

    /// The frame ends.
    pub(super) fn finish(self) {
        if !self.payload.is_empty() {
            (self.emit)(self.payload, true);
            self.payload.clear();
        }
    }
}
