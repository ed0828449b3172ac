//! Pages being built: one at a time for each encoding, off the async threads unless that is brief, shared by all who
//! asked before it began.
//!
//! However many scrapers come at once, they get two pages: the one that was begun when the first of them came, and the
//! next. A page is never older than the request that it answers.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use fleet_collector::Cut;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{spawn_blocking, yield_now},
    time::{Instant, timeout_at},
};

use crate::{
    State,
    brief::Made,
    negotiate::{Encoding, Format},
};

/// How long a scrape waits for its page, well within Prometheus' usual timeout of 10 s.
const WAIT: Duration = Duration::from_secs(5);

/// Pages being sent hold this many times the largest one's size at most, beside [`HELD_FREELY`]. More would be many
/// readers that are slow, each with a page of another moment. What several pages have in common counts once.
const HELD_PAGES: u64 = 4;

/// What pages being sent may hold however small they are.
const HELD_FREELY: u64 = 64 << 20;

/// Which page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) format: Format,
    pub(crate) encoding: Encoding,
    pub(crate) content: Content,
}

/// What is on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    /// Everything.
    Whole,
    /// Some targets, groups or queries.
    Cut(Cut),
    /// What the exporter says about itself, but for its targets.
    Own,
}

/// Why there is no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPage {
    /// Others were built for too long.
    Busy,
    /// Too many bytes of other pages are still being sent.
    Full,
    /// A defect.
    Failed,
}

/// A page, to be sent to one reader or more.
#[derive(Debug)]
pub(crate) struct Built {
    chunks: Vec<Bytes>,
    length: u64,
    /// What counts it out again.
    held: Option<Arc<Held>>,
}

impl Built {
    /// One that nobody counts.
    pub(crate) fn of(chunks: Vec<Bytes>) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks, length, held: None }
    }

    pub(crate) fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            held.remove(&self.chunks);
        }
    }
}

/// Smaller chunks count for each page that has them: knowing each of them would take longer than sending it.
const COUNTED_ONCE: usize = 4 << 10;

/// The memory of pages that are being sent. Pages of different moments share what has not changed between them.
#[derive(Debug, Default)]
struct Held {
    /// How many pages have each large chunk, by where it lies and how long it is.
    chunks: Mutex<HashMap<(usize, usize), usize>>,
    bytes: AtomicU64,
}

impl Held {
    fn chunks(&self) -> MutexGuard<'_, HashMap<(usize, usize), usize>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, chunks: &[Bytes]) {
        self.bytes.fetch_add(small(chunks), Relaxed);
        let mut held = self.chunks();
        for chunk in chunks.iter().filter(|chunk| chunk.len() >= COUNTED_ONCE) {
            let pages = held.entry(place(chunk)).or_default();
            *pages += 1;
            if *pages == 1 {
                self.bytes.fetch_add(chunk.len() as u64, Relaxed);
            }
        }
    }

    fn remove(&self, chunks: &[Bytes]) {
        self.bytes.fetch_sub(small(chunks), Relaxed);
        let mut held = self.chunks();
        for chunk in chunks.iter().filter(|chunk| chunk.len() >= COUNTED_ONCE) {
            let Some(pages) = held.get_mut(&place(chunk)) else { continue };
            *pages -= 1;
            if *pages == 0 {
                held.remove(&place(chunk));
                self.bytes.fetch_sub(chunk.len() as u64, Relaxed);
            }
        }
    }
}

/// Bytes of the small chunks.
fn small(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).filter(|length| *length < COUNTED_ONCE as u64).sum()
}

/// What tells a chunk from all others, while it is there.
fn place(chunk: &Bytes) -> (usize, usize) {
    (chunk.as_ptr().addr(), chunk.len())
}

/// How far a page is.
#[derive(Debug, Clone)]
enum Stage {
    Waiting,
    Begun,
    Done(Arc<Built>),
}

/// The pages that wait for their turn, and those that are being sent.
#[derive(Debug)]
pub(crate) struct Builds {
    plain: Arc<Semaphore>,
    gzip: Arc<Semaphore>,
    /// Those that have not begun. Who wants one of them waits along.
    waiting: Mutex<HashMap<Wanted, watch::Receiver<Stage>>>,
    /// The pages that are there.
    held: Arc<Held>,
    /// The largest page so far.
    largest: AtomicU64,
    /// What they took.
    made: Made,
}

impl Default for Builds {
    fn default() -> Self {
        let turn = || Arc::new(Semaphore::new(1));
        Self {
            plain: turn(),
            gzip: turn(),
            waiting: Mutex::default(),
            held: Arc::default(),
            largest: AtomicU64::new(0),
            made: Made::default(),
        }
    }
}

impl Builds {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Wanted, watch::Receiver<Stage>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn turn(&self, encoding: Encoding) -> &Arc<Semaphore> {
        match encoding {
            Encoding::Identity => &self.plain,
            Encoding::Gzip => &self.gzip,
        }
    }

    fn is_full(&self) -> bool {
        let allowed = self.largest.load(Relaxed).saturating_mul(HELD_PAGES).saturating_add(HELD_FREELY);
        self.held.bytes.load(Relaxed) > allowed
    }

    fn count(&self, chunks: Vec<Bytes>) -> Arc<Built> {
        let mut built = Built::of(chunks);
        built.held = Some(Arc::clone(&self.held));
        self.held.add(&built.chunks);
        self.largest.fetch_max(built.length, Relaxed);
        Arc::new(built)
    }
}

/// The one who has a page built. Given up before it begins, those who wait along find another.
struct Lead {
    state: Arc<State>,
    wanted: Wanted,
    stage: watch::Sender<Stage>,
    begun: bool,
}

impl Lead {
    /// Works for some milliseconds where the fleet is large.
    fn build(mut self, turn: OwnedSemaphorePermit) {
        self.begun = true;
        // Who comes from here on may want something newer.
        self.state.builds.waiting().remove(&self.wanted);
        // Nobody need wake for it: who waits, waits for the page.
        self.stage.send_if_modified(|stage| {
            *stage = Stage::Begun;
            false
        });
        let (layout, began) = (self.state.layout(), Instant::now());
        let chunks = self.state.build(&self.wanted);
        if self.wanted.content == Content::Whole {
            self.state.builds.made.note((self.wanted.format, self.wanted.encoding), layout, began);
        }
        let built = self.state.builds.count(chunks);
        // Given back here, not by the one who asked, who is gone if the scraper hangs up.
        drop(turn);
        self.stage.send_replace(Stage::Done(built));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.begun {
            self.state.builds.waiting().remove(&self.wanted);
        }
    }
}

/// The page as it is at some moment from now on.
pub(crate) async fn page(state: &Arc<State>, wanted: Wanted) -> Result<Arc<Built>, NoPage> {
    let deadline = Instant::now() + WAIT;
    loop {
        let (lead, mut progress) = join(state, &wanted);
        if let Some(lead) = lead {
            if state.builds.is_full() {
                return Err(NoPage::Full);
            }
            let turn = Arc::clone(state.builds.turn(wanted.encoding));
            let Ok(Ok(turn)) = timeout_at(deadline, turn.acquire_owned()).await else {
                return Err(NoPage::Busy);
            };
            // Either way a panic in there costs this page, and closes the channel.
            if is_brief(state, &wanted) {
                // Others who are here already come along. To look for them costs a tenth of what a brief page does.
                if state.has_other_scrapes() {
                    yield_now().await;
                }
                let _ = catch_unwind(AssertUnwindSafe(|| lead.build(turn)));
            } else {
                spawn_blocking(move || lead.build(turn));
            }
        }
        match timeout_at(deadline, progress.wait_for(|stage| matches!(stage, Stage::Done(_)))).await {
            Err(_) => return Err(NoPage::Busy),
            Ok(Ok(done)) => {
                if let Stage::Done(built) = &*done {
                    return Ok(Arc::clone(built));
                }
            }
            Ok(Err(_closed)) => {}
        }
        if matches!(*progress.borrow(), Stage::Begun) {
            return Err(NoPage::Failed);
        }
    }
}

/// Whether a page will likely be there before another thread would have begun it. Of cuts nothing is known.
fn is_brief(state: &State, Wanted { format, encoding, content }: &Wanted) -> bool {
    *content == Content::Whole && state.builds.made.promises_brief((*format, *encoding), state.layout())
}

/// Waits along with a page that has not begun, or leads the next.
fn join(state: &Arc<State>, wanted: &Wanted) -> (Option<Lead>, watch::Receiver<Stage>) {
    let mut waiting = state.builds.waiting();
    if let Some(stage) = waiting.get(wanted) {
        return (None, stage.clone());
    }
    let (sender, receiver) = watch::channel(Stage::Waiting);
    waiting.insert(wanted.clone(), receiver.clone());
    let lead = Lead { state: Arc::clone(state), wanted: wanted.clone(), stage: sender, begun: false };
    (Some(lead), receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pages_have_in_common_is_held_once() {
        let builds = Builds::default();
        let common = Bytes::from(vec![b'c'; COUNTED_ONCE]);
        let (old, new) = (Bytes::from("old"), Bytes::from("newer"));
        let first = builds.count(vec![common.clone(), old.clone()]);
        let second = builds.count(vec![common.clone(), old, new, common]);
        let held = || builds.held.bytes.load(Relaxed);
        assert_eq!((first.length(), second.length(), held()), (4099, 8200, 4096 + 3 + 8));
        drop(first);
        assert_eq!(held(), 4096 + 8);
        drop(second);
        assert_eq!((held(), builds.held.chunks().len()), (0, 0));
    }
}
