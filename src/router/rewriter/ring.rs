//! The last few of something, in memory of a fixed size.

/// At most `N` of the newest.
#[derive(Debug, Clone)]
pub(super) struct Ring<T, const N: usize> {
    slots: [T; N],
    /// How many there were ever.
    count: usize,
}

impl<T: Copy, const N: usize> Ring<T, N> {
    /// With one in it.
    pub(super) const fn starting_with(first: T) -> Self {
        Self { slots: [first; N], count: 1 }
    }

    pub(super) const fn push(&mut self, item: T) {
        self.slots[self.count % N] = item;
        self.count += 1;
    }

    /// The newest.
    pub(super) const fn last(&self) -> T {
        self.slots[(self.count - 1) % N]
    }

    pub(super) const fn last_mut(&mut self) -> &mut T {
        &mut self.slots[(self.count - 1) % N]
    }

    /// From the newest back.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        let oldest = self.count.saturating_sub(N);
        (oldest..self.count).rev().map(|at| self.slots[at % N])
    }
}
