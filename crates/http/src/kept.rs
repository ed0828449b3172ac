//! What is kept from scrape to scrape: of each kind of page that is asked for, what has not changed since.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use fleet_collector::{FamilyText, deflate::Deflater, snapshot::Reading};
use tokio::time::Instant;

use crate::{
    exposition::{self, OwnFamily, Sources},
    form::{Form, Output as _},
    negotiate::{Encoding, Format},
    plain::Identity,
};

/// What nobody has asked for in this time is let go, with the next page of any kind. More than the interval of any
/// scraper that should be.
const UNUSED: Duration = Duration::from_mins(2);

/// The kinds of pages with everything on them.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    plain: Kind<Identity>,
    gzip: Kind<Deflater>,
}

/// Pages of one encoding. They are made one at a time (`Builds`), so nobody waits for the lock.
#[derive(Debug, Default)]
struct Kind<F> {
    pages: Mutex<Pages<F>>,
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Pages<F> {
    form: F,
    /// Of each format, and when it was last asked for.
    kept: HashMap<Format, (Instant, exposition::Kept)>,
}

impl Kept {
    /// The page with everything on it, results of about so many bytes, and the families that were left out.
    pub(crate) fn whole(
        &self,
        format: Format,
        encoding: Encoding,
        own: (Vec<OwnFamily>, Vec<FamilyText>),
        results: (&Reading, u64),
    ) -> (Vec<Bytes>, Vec<String>) {
        self.plain.let_go();
        self.gzip.let_go();
        match encoding {
            Encoding::Identity => self.plain.whole(format, own, results),
            Encoding::Gzip => self.gzip.whole(format, own, results),
        }
    }

    /// A page of which nothing is kept: there are as many cuts as clients can think of.
    pub(crate) fn once(&self, format: Format, encoding: Encoding, sources: Sources<'_>) -> Vec<Bytes> {
        match encoding {
            Encoding::Identity => self.plain.once(format, sources),
            Encoding::Gzip => self.gzip.once(format, sources),
        }
    }

    /// Bytes that are kept in this encoding.
    pub(crate) fn bytes(&self, encoding: Encoding) -> usize {
        match encoding {
            Encoding::Identity => self.plain.bytes.load(Relaxed),
            Encoding::Gzip => self.gzip.bytes.load(Relaxed),
        }
    }
}

impl<F: Form> Kind<F> {
    fn whole(
        &self,
        format: Format,
        own: (Vec<OwnFamily>, Vec<FamilyText>),
        (reading, text): (&Reading, u64),
    ) -> (Vec<Bytes>, Vec<String>) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let Pages { form, kept: all } = &mut *pages;
        form.expect(text);
        // Taken out: what a panic leaves half done is gone with it.
        let mut kept = all.remove(&format).map(|(_, kept)| kept).unwrap_or_default();
        let page = kept.page(format, form, own, reading);
        all.insert(format, (Instant::now(), kept));
        self.count(all);
        page
    }

    fn once(&self, format: Format, sources: Sources<'_>) -> Vec<Bytes> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut output = pages.form.begin();
        exposition::write(format, sources, &mut output);
        let page = output.finish();
        pages.form.page(std::iter::once(&page))
    }

    fn count(&self, kept: &HashMap<Format, (Instant, exposition::Kept)>) {
        self.bytes.store(kept.values().map(|(_, kept)| kept.bytes::<F>()).sum(), Relaxed);
    }

    /// Forgets what nobody asks for, unless a page is being made right now.
    fn let_go(&self) {
        let mut pages = match self.pages.try_lock() {
            Ok(pages) => pages,
            Err(TryLockError::Poisoned(pages)) => pages.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let unused: Vec<_> = pages.kept.extract_if(|_, (used, _)| used.elapsed() >= UNUSED).collect();
        self.count(&pages.kept);
        drop(pages);
        // Letting go of a large page takes longer than making the next one.
        drop(unused);
    }
}
