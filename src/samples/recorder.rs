//! Takes each request as it ends, in the load path, and hands it to a thread that writes.
//!
//! The load must not wait for a disk, so rows are copied into a batch, and full batches go into a queue without a lock.
//! The writer looks for them by itself, as to wake it would cost the load a system call, and runs when nothing else wants
//! its CPU (`SCHED_IDLE`): compressing a row group takes tens of milliseconds, and a stamp must not be late by that. So it
//! may be stopped anywhere, for long, and nothing of the load may wait for a lock that it holds: that of empty batches is
//! only tried. Where the writer does not come to it, memory ends at [`MOST`], and what ends then is counted as missing,
//! never waited for.
//!
//! What can fail: the file, now or later ([`Error`]); the load does not notice.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SendError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::{Error, Setup, batch::Batch, sink::Sink};
use crate::{
    load::{dispatch::Observer, sample::Sample},
    stats::summary::Window,
};

/// Bytes of a batch that is handed over.
const BATCH: usize = 64 << 10;
/// Bytes of all batches together.
const MOST: usize = 24 << 20;
/// How often the writer looks for batches.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct Shared {
    /// Batches to be filled again.
    free: Mutex<Vec<Batch>>,
    /// How many batches there are, whoever has them.
    made: AtomicUsize,
    /// Is the load over?
    over: AtomicBool,
}

/// What a worker of the load fills.
#[derive(Debug)]
struct Slot {
    batch: Batch,
    full: Sender<Batch>,
    missing: u64,
}

/// What the thread that writes leaves to the one that ends the file.
struct Rest {
    sink: Sink,
    full: Receiver<Batch>,
}

/// Takes requests as they end.
#[derive(Debug)]
pub struct Recorder {
    slots: Vec<Mutex<Slot>>,
    /// Tasks that share the load.
    tasks: u64,
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<Result<Rest, Error>>>>,
    window: Arc<OnceLock<Window>>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Requests in it.
    pub rows: u64,
    /// Requests that are not, because the writer had no time for them.
    pub missing: u64,
}

impl Recorder {
    /// Begins the file, under a name of its own until it is whole. `workers` fill it at once.
    ///
    /// # Errors
    /// No file, or no thread.
    pub fn begin(setup: Setup, workers: usize) -> Result<Self, Error> {
        let tasks = setup.tasks.max(1) as u64;
        let window = Arc::clone(&setup.window);
        let sink = Sink::create(setup)?;
        let shared = Arc::new(Shared::default());
        let (sender, full) = channel();
        let writer = thread::Builder::new().name("samples".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || write(Rest { sink, full }, &shared)
        });
        Ok(Self {
            tasks,
            slots: slots(workers, &sender),
            shared,
            writer: Mutex::new(Some(writer.map_err(Error::Thread)?)),
            window,
        })
    }

    /// Takes a request that has ended.
    fn take(&self, sample: &Sample) {
        // requests are dealt out by their numbers: workers seldom meet here
        let slots = self.slots.len() as u64;
        let place = usize::try_from(sample.index / self.tasks % slots).unwrap_or(0);
        let mut slot = lock(&self.slots[place]);
        if slot.batch.bytes() >= BATCH && !self.hand_over(&mut slot) {
            slot.missing += 1;
            return;
        }
        slot.batch.take(sample);
    }

    /// Gives a full batch for an empty one, if there may be another, and somebody who takes it.
    fn hand_over(&self, slot: &mut Slot) -> bool {
        let Shared { free, made, .. } = &*self.shared;
        let another = |made| (made < MOST / BATCH).then_some(made + 1);
        let empty = free.try_lock().ok().and_then(|mut free| free.pop());
        let empty = match empty {
            Some(empty) => empty,
            None if made
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, another)
                .is_ok() =>
            {
                Batch::default()
            }
            None => return false,
        };
        let full = std::mem::replace(&mut slot.batch, empty);
        match slot.full.send(full) {
            Ok(()) => true,
            Err(SendError(full)) => {
                slot.batch = full;
                false
            }
        }
    }

    /// Ends the file when the load is over, with what its reader must know, and gives it its name. Blocks.
    ///
    /// # Errors
    /// The file could not be written; then there is none.
    pub fn finish(&self, facts: &str) -> Result<Written, Error> {
        let Rest { mut sink, full } = self.stop().ok_or(Error::Panicked)??;
        // by this thread, which has its turns
        for batch in full.try_iter() {
            drop(sink.take(batch)?);
        }
        let mut missing = 0;
        for slot in &self.slots {
            let mut slot = lock(slot);
            missing += slot.missing;
            drop(sink.take(std::mem::take(&mut slot.batch))?);
        }
        sink.close(missing, facts)
    }

    /// Ends the thread; nothing where it was ended before, or came to an end of its own.
    fn stop(&self) -> Option<Result<Rest, Error>> {
        self.shared.over.store(true, Ordering::Release);
        lock(&self.writer).take()?.join().ok()
    }
}

impl Drop for Recorder {
    /// A file that was not finished goes.
    fn drop(&mut self) {
        drop(self.stop());
    }
}

impl Observer for Option<Arc<Recorder>> {
    fn ended(&self, sample: &Sample) {
        if let Some(recorder) = self {
            recorder.take(sample);
        }
    }

    fn window_known(&self, window: Window) {
        if let Some(recorder) = self {
            // the first to say so is right
            let _ = recorder.window.set(window);
        }
    }
}

/// So many slots, each with a way to the writer.
fn slots(workers: usize, full: &Sender<Batch>) -> Vec<Mutex<Slot>> {
    let slot = |_| {
        Mutex::new(Slot {
            batch: Batch::default(),
            full: full.clone(),
            missing: 0,
        })
    };
    (0..workers.max(1)).map(slot).collect()
}

/// The thread that writes, until the load is over.
fn write(mut rest: Rest, shared: &Shared) -> Result<Rest, Error> {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) =
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
    {
        tracing::debug!(
            ?error,
            "The writer of samples takes turns with everything else"
        );
    }
    while !shared.over.load(Ordering::Acquire) {
        thread::sleep(LOOK);
        for batch in rest.full.try_iter() {
            let mut free = rest.sink.take(batch)?;
            lock(&shared.free).append(&mut free);
        }
    }
    Ok(rest)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
