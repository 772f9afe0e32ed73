use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A counter that one core writes and anybody reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Only the owning core may call this: load and store, so two writers would lose counts.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// See [`Counter::add`].
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// See [`Counter::add`]. Everything the core did before is visible to who reads the result.
    pub fn sub_release(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Release);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn get_acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Its own pair of cache lines: adjacent-line prefetch makes 64 bytes too few on x86.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// One cell a core, padded so that no core's writes slow another's. A clone has the same cells.
#[derive(Debug)]
pub struct PerCore<T>(Arc<[Padded<T>]>);

impl<T> Clone for PerCore<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> PerCore<T> {
    pub fn new(cores: usize) -> Self {
        Self((0..cores.max(1)).map(|_| Padded::default()).collect())
    }
}

impl<T> PerCore<T> {
    /// # Panics
    /// When `core` is not below the number of cores it was made for.
    pub fn of(&self, core: usize) -> &T {
        &self.0[core].0
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|cell| &cell.0)
    }
}
