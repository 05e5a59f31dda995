//! A future that is seldom ready, next to one that often is.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls a future only after it has woken its task, whatever else wakes the task.
///
/// A connection is polled several times for each request. To poll its timers each time would take longer than to route
/// the request.
pub(crate) struct Seldom<F> {
    future: F,
    woken: Arc<Woken>,
    /// The task, as far as `woken` knows it.
    task: Option<Waker>,
}

struct Woken {
    is_woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl<F: Future + Unpin> Seldom<F> {
    pub(crate) fn new(future: F) -> Self {
        let woken = Woken { is_woken: AtomicBool::new(true), task: Mutex::default() };
        Self { future, woken: Arc::new(woken), task: None }
    }
}

impl<F: Future + Unpin> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, woken, task } = &mut *self;
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
            *woken.task.lock().unwrap_or_else(PoisonError::into_inner) = task.clone();
        }
        // After that, so that whoever wakes from now on wakes this task.
        if !woken.is_woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Not a store, which would miss what a wake at this moment has seen.
        woken.is_woken.swap(false, Ordering::AcqRel);
        let waker = Waker::from(woken.clone());
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_future_is_polled_again_once_it_wakes() {
        let (mut polls, own) = (0, Mutex::<Option<Waker>>::default());
        let mut seldom = Seldom::new(poll_fn(|context| {
            polls += 1;
            *own.lock().expect("no panic") = Some(context.waker().clone());
            if polls < 3 { Poll::Pending } else { Poll::Ready(polls) }
        }));
        let wake = || own.lock().expect("no panic").take().expect("a waker").wake();
        let (first, second) = (Arc::<Count>::default(), Arc::<Count>::default());
        let mut poll = |task: &Arc<Count>| Pin::new(&mut seldom).poll(&mut Context::from_waker(&task.clone().into()));
        assert_eq!([poll(&first), poll(&first), poll(&second)], [Poll::Pending; 3]);
        // The latest task is woken, and finds the future as often as it has woken.
        wake();
        assert_eq!([&first, &second].map(|task| task.0.load(Ordering::Relaxed)), [0, 1]);
        assert_eq!([poll(&second), poll(&second)], [Poll::Pending; 2]);
        wake();
        assert_eq!(poll(&first), Poll::Ready(3));
    }
}
