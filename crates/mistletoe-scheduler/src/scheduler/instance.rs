//! An instance of a plugin, with what it writes to its standard output and error.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mistletoe_abi::{AnyProgram, AnyProgramSession, CancelHandle, Error, Result};
use mistletoe_wasi::{Clock, OutputStream, Random, Wasi};

use crate::objects::Cycle;
use crate::protocol::{Answer, Call, KubeScheduler};

/// The maximum length of what is kept of a guest's output until a call ends, in bytes.
const MAX_CAPTURED: usize = 128 << 10;

pub(super) struct Instance {
    session: AnyProgramSession<KubeScheduler, Wasi>,
    output: Output,
}

impl Instance {
    /// Makes an instance. If it does not start, the error comes with what it has written.
    pub(super) fn new(
        program: &AnyProgram<KubeScheduler, Wasi>,
        name: &str,
        cancel: &CancelHandle,
    ) -> Result<Self, (Error, String)> {
        let output = Output::default();
        let stream = || OutputStream::stream(output.clone());
        let wasi = Wasi::builder().args([name]).clock(Clock::System).random(Random::System);
        match program.session_with_cancel(wasi.stdout(stream()).stderr(stream()).build(), cancel) {
            Ok(session) => Ok(Self { session, output }),
            Err(error) => Err((error, output.take())),
        }
    }

    /// Sets the cycle that calls are about.
    pub(super) fn set_cycle(&mut self, cycle: Option<Arc<Cycle>>) {
        self.session.store_mut().set_cycle(cycle);
    }

    /// Sets the handle that cancels calls from now on.
    pub(super) fn set_cancel_handle(&mut self, cancel: Option<CancelHandle>) {
        self.session.set_cancel_handle(cancel);
    }

    #[inline(always)]
    pub(super) fn call(&mut self, call: Call<'_>) -> Result<Answer> {
        self.session.call(call)
    }

    /// Returns whether the instance can be called again.
    pub(super) fn is_usable(&self) -> bool {
        self.session.fault().is_none()
    }

    /// Returns whether the guest has written anything since the last time.
    #[inline]
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Returns what the guest has written since the last time, without the white space at the end.
    pub(super) fn take_output(&mut self) -> String {
        if self.has_output() { self.output.take() } else { String::new() }
    }

    /// Returns the fuel of the latest call, if it is counted.
    pub(super) fn fuel_used(&mut self) -> Option<u64> {
        self.session.fuel_used().ok().flatten()
    }

    /// Returns the size of the memory, in bytes.
    pub(super) fn memory_size(&self) -> u64 {
        self.session.memory_size()
    }
}

/// Where a guest writes. It outlasts an instance that does not start.
#[derive(Clone, Default)]
struct Output(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Read after each call, where a lock would take longer.
    is_written: AtomicBool,
    bytes: Mutex<Vec<u8>>,
}

impl Output {
    fn is_empty(&self) -> bool {
        // The guest runs on the thread that reads this.
        !self.0.is_written.load(Ordering::Relaxed)
    }

    fn take(&self) -> String {
        self.0.is_written.store(false, Ordering::Relaxed);
        String::from_utf8_lossy(&mem::take(&mut *self.bytes())).trim_end().to_owned()
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Output {
    /// Writes as to a disk that is full some day.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.bytes();
        let fits = &bytes[..bytes.len().min(MAX_CAPTURED - all.len())];
        if fits.len() < bytes.len() && fits.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        all.extend_from_slice(fits);
        self.0.is_written.store(true, Ordering::Relaxed);
        Ok(fits.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
