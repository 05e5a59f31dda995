//! Budgets that all routes share, of which no route takes all.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Unit of memory, in bytes.
pub(crate) const UNIT: u64 = 1 << 10;

/// A number of units for all routes together.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    all: Arc<Semaphore>,
    units: usize,
}

/// What one route may take of a [`Budget`]: half of it where there are several routes, so that an attack on one leaves
/// something for the others.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    all: Arc<Semaphore>,
    /// `None` if one route may take all.
    own: Option<Arc<Semaphore>>,
}

/// Units that are taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Units {
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Budget {
    pub(crate) fn new(units: usize) -> Self {
        // More permits than a semaphore can have are a panic.
        let units = units.min(Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(units)), units }
    }

    /// Returns the share of one of a number of routes.
    pub(crate) fn share(&self, routes: usize) -> Share {
        let own = share(self.units, routes);
        Share { all: self.all.clone(), own: (own < self.units).then(|| Arc::new(Semaphore::new(own))) }
    }
}

/// Returns how much of a budget one of a number of routes may take.
pub(crate) fn share(units: usize, routes: usize) -> usize {
    if routes > 1 { units.div_ceil(2) } else { units }
}

impl Share {
    /// Takes units, if that many are left.
    pub(crate) fn try_acquire(&self, units: u32) -> Option<Units> {
        let own = match self.own.clone() {
            Some(own) => Some(own.try_acquire_many_owned(units).ok()?),
            None => None,
        };
        let all = self.all.clone().try_acquire_many_owned(units).ok()?;
        Some(Units { _own: own, _all: all })
    }

    /// Waits until that many units are left, and takes them. Never ready for more than the share.
    pub(crate) async fn acquire(&self, units: u32) -> Result<Units, AcquireError> {
        // In this order: a route that waits for itself keeps nothing from the others.
        let own = match self.own.clone() {
            Some(own) => Some(own.acquire_many_owned(units).await?),
            None => None,
        };
        let all = self.all.clone().acquire_many_owned(units).await?;
        Ok(Units { _own: own, _all: all })
    }
}

/// Returns how many units a number of bytes takes.
pub(crate) fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_route_leaves_half_of_a_budget() {
        let budget = Budget::new(5);
        let (first, second) = (budget.share(2), budget.share(2));
        let held = first.try_acquire(3).expect("three units");
        assert!(first.try_acquire(1).is_none());
        let rest = second.try_acquire(2).expect("two units");
        // Within its share, but there are no more.
        assert!(second.try_acquire(1).is_none());
        drop(held);
        assert!(second.try_acquire(1).is_some() && second.try_acquire(2).is_none());
        drop(rest);
        let alone = budget.share(1);
        assert!(alone.try_acquire(6).is_none() && alone.try_acquire(5).is_some());
    }

    #[test]
    fn a_unit_is_begun() {
        assert_eq!([0, 1, UNIT, UNIT + 1, u64::MAX].map(units), [0, 1, 1, 2, u32::MAX]);
    }
}
