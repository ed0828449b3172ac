//! A result as bytes that outlive the process, and back into its place.
//!
//! What comes back is believed no more than a server's answer: it must be of this item as it is configured now, within
//! its age limit, and of lines that the item could have written; each of them is read by [`is_valid`] once more.

use std::{fmt::Debug, sync::Arc, time::Duration};

use bytes::Bytes;
use xxhash_rust::xxh64::xxh64;

use super::{Published, Slot, Snapshot, lines};
use crate::{
    fragment::is_valid,
    mapping::Mapped,
    record::{Moment, Took},
};

/// How the bytes are laid out, and what the lines in them mean. Another number is another language.
const FORMAT: u8 = 1;

/// Why bytes did not become the result of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotRestored {
    /// The item has a result.
    NotNeeded,
    /// It is beyond the item's age limit.
    TooOld,
    /// It was written for another query, target, label or limit, or by another version.
    OfAnother,
    /// It is cut off, or is not what this item writes.
    Invalid,
    /// The page would be larger than it may be.
    TooLarge,
}

/// What is told of a result beside its lines.
struct Header {
    /// Of all that decides what the lines say.
    fingerprint: u64,
    rows: u64,
    lateness_us: u64,
    duration_us: u64,
}

impl Header {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { fingerprint, rows, lateness_us, duration_us } = self;
        for number in [fingerprint, rows, lateness_us, duration_us] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            fingerprint: number(bytes)?,
            rows: number(bytes)?,
            lateness_us: number(bytes)?,
            duration_us: number(bytes)?,
        })
    }
}

impl Slot {
    /// The result that is there, for [`Snapshot::restore`], and when it was read, in milliseconds since the epoch.
    pub(crate) fn to_bytes(&self, now: Moment) -> Option<(u64, Vec<u8>)> {
        let current = self.current.load();
        let Published { at, fragments, bytes, .. } = current.as_deref()?;
        let last = self.record.last_run();
        let took = last.as_ref().map(|last| last.took).unwrap_or_default();
        let rows = last.as_ref().and_then(|last| last.result).map_or(0, |result| result.rows);
        let header = Header {
            fingerprint: self.fingerprint(),
            rows: rows as u64,
            lateness_us: micros(took.lateness),
            duration_us: micros(took.duration),
        };
        let mut out = Vec::with_capacity(64 + 8 * fragments.len() + usize::try_from(*bytes).unwrap_or(0));
        out.push(FORMAT);
        header.write(&mut out);
        for fragment in fragments {
            out.extend_from_slice(&(fragment.len() as u64).to_le_bytes());
        }
        for fragment in fragments {
            out.extend_from_slice(fragment);
        }
        // What the age says, though somebody may have set the wall clock meanwhile.
        Some((now.wall_ms.saturating_sub(millis(now.boot.since(*at))), out))
    }

    /// The number of the result, if it is a single one.
    pub(crate) fn single_value(&self) -> Option<f64> {
        let current = self.current.load();
        let published = current.as_deref().filter(|published| published.series == 1)?;
        let line = published.fragments.iter().find(|fragment| !fragment.is_empty())?;
        let (line, series) = lines(line).next()?;
        std::str::from_utf8(&line[series.len()..]).ok()?.trim().parse().ok()
    }

    /// All that decides what its lines say. Results of equal ones are interchangeable.
    pub(super) fn says(&self) -> impl PartialEq + Debug + '_ {
        (&self.limits, &self.target.labels, self.target.data(), self.query.yields())
    }

    /// A number that stands for it from one process to the next. `Debug` spells out every part, and no secret.
    fn fingerprint(&self) -> u64 {
        xxh64(format!("{:?}", self.says()).as_bytes(), u64::from(FORMAT))
    }

    /// The lines of each family, if they are what this item could have written.
    fn lines_of(&self, mut bytes: &[u8]) -> Option<Mapped> {
        let n_families = self.plan.family_metrics().count();
        let lengths = (0..n_families).map(|_| usize::try_from(number(&mut bytes)?).ok());
        let lengths = lengths.collect::<Option<Vec<_>>>()?;
        let mut text = Bytes::copy_from_slice(bytes);
        let mut mapped = Mapped::default();
        for (family, length) in lengths.into_iter().enumerate() {
            if length > text.len() {
                return None;
            }
            let fragment = text.split_to(length);
            if !is_valid(&fragment) {
                return None;
            }
            let series = lines(&fragment).map(|(_, series)| series);
            mapped.series += self.plan.series_in(&self.query, &self.target, family, series)?;
            mapped.fragments.push(fragment);
        }
        (text.is_empty() && mapped.series <= self.limits.series).then_some(mapped)
    }
}

impl Snapshot {
    /// Gives an item without a result the one in these bytes, as old as it is: what was read in the future is new. After
    /// `expire_after` it is no longer shown. `read_ms` is since the epoch. Gives its age.
    pub(crate) fn restore(
        &self,
        slot: &Slot,
        (read_ms, bytes): (u64, &[u8]),
        now: Moment,
        expire_after: Duration,
    ) -> Result<Duration, NotRestored> {
        if slot.has_result() {
            return Err(NotRestored::NotNeeded);
        }
        let (format, mut rest) = bytes.split_first().ok_or(NotRestored::Invalid)?;
        if *format != FORMAT {
            return Err(NotRestored::OfAnother);
        }
        let header = Header::read(&mut rest).ok_or(NotRestored::Invalid)?;
        if header.fingerprint != slot.fingerprint() {
            return Err(NotRestored::OfAnother);
        }
        let age = Duration::from_millis(now.wall_ms.saturating_sub(read_ms));
        if age >= expire_after {
            return Err(NotRestored::TooOld);
        }
        let mapped = slot.lines_of(rest).ok_or(NotRestored::Invalid)?;
        if !self.has_room_for(mapped.bytes()) {
            return Err(NotRestored::TooLarge);
        }
        let series = mapped.series;
        let published = slot.published(mapped, now.boot.before(age), expire_after);
        let read = Moment { wall_ms: read_ms.min(now.wall_ms), boot: published.at };
        // First, so that nobody sees the result and not when it was read. A newer time stays.
        slot.read_at(read.wall_ms);
        if !slot.fill(published) {
            return Err(NotRestored::NotNeeded);
        }
        slot.mark_tried();
        let took = Took {
            lateness: Duration::from_micros(header.lateness_us),
            duration: Duration::from_micros(header.duration_us),
        };
        slot.record.restored(read, took, usize::try_from(header.rows).unwrap_or(usize::MAX), series);
        Ok(age)
    }
}

impl Slot {
    /// Puts a result where there is none; not where a run has just put one.
    fn fill(&self, published: Published) -> bool {
        let new = Arc::new(published);
        let empty: Option<Arc<Published>> = None;
        let filled = self.current.compare_and_swap(&empty, Some(Arc::clone(&new))).is_none();
        if filled {
            self.totals.count(None, Some(&new));
            self.changed();
        }
        filled
    }
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
