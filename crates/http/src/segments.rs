//! What is kept of a page for the next one: its text in segments, of which those are written anew in which something
//! has changed.

use std::{iter::Peekable, sync::Arc};

use fleet_collector::BootTime;

use crate::{
    chunks::Joined,
    form::{Form, Output},
};

/// Text that comes in parts, each of which can tell that it has changed.
pub(crate) trait Parts {
    /// What a part must know of those before it.
    type Carry: Clone + PartialEq;

    /// What a stamp is the address of.
    type Pin;

    fn count(&self) -> usize;

    /// A number that is another one after each change of what the part says. Asked for before it is written.
    fn stamp(&self, part: usize) -> u64;

    /// The memory whose address is the stamp, if it is one: kept, so that nothing else gets it.
    fn pin(&self, part: usize) -> Option<Self::Pin>;

    /// Writes one part. Gives the moment from which on it says something else with the same stamp.
    fn write(&self, part: usize, carry: &mut Self::Carry, output: &mut impl Output) -> Option<BootTime>;
}

/// The segments of one text, in their order.
#[derive(Debug)]
pub(crate) struct Segments<C, P> {
    list: Vec<Segment<C, P>>,
    bytes: usize,
    text_length: u64,
}

#[derive(Debug)]
struct Segment<C, P> {
    /// Its first part.
    start: usize,
    /// One for each of its parts.
    stamps: Box<[u64]>,
    _pins: Box<[P]>,
    before: C,
    after: C,
    until: Option<BootTime>,
    text_length: u64,
    /// None where it was let go.
    joined: Option<Arc<Joined>>,
    /// Of the joined chunks; here, where it is added up without following pointers.
    bytes: usize,
}

impl<C, P> Default for Segments<C, P> {
    fn default() -> Self {
        Self { list: Vec::new(), bytes: 0, text_length: 0 }
    }
}

impl<C: Clone + PartialEq, P> Segments<C, P> {
    /// Makes the segments those of the text at this moment, in this form. One that is written anew ends where it has
    /// `size` bytes of text; or, unless it is small change, where one of the last segments starts. Gives how much of the
    /// text is as it was.
    pub(crate) fn update(
        &mut self,
        parts: &impl Parts<Carry = C, Pin = P>,
        now: BootTime,
        mut carry: C,
        size: u64,
        form: &mut impl Form,
    ) -> u64 {
        let count = parts.count();
        let likely = Vec::with_capacity(self.list.len());
        let mut last = std::mem::replace(&mut self.list, likely).into_iter().peekable();
        let (mut part, mut unchanged) = (0, 0);
        (self.bytes, self.text_length) = (0, 0);
        while part < count {
            let same = at(&mut last, part).filter(|last| last.holds(parts, now, &carry));
            unchanged += same.as_ref().map_or(0, |same| same.text_length);
            let segment = match same {
                Some(same) if same.joined.is_some() => same,
                _ => write(parts, part, carry, form.begin(), |part, length| {
                    length >= size || length >= size / 4 && starts(&mut last, part)
                }),
            };
            part += segment.stamps.len();
            carry = segment.after.clone();
            self.bytes += segment.bytes;
            self.text_length += segment.text_length;
            self.list.push(segment);
        }
        unchanged
    }

    /// Lets go of the text. What it was made of is known still, and so what has changed when it is made again.
    pub(crate) fn forget(&mut self) {
        self.bytes = 0;
        for segment in &mut self.list {
            segment.joined = None;
        }
    }

    /// What is there of the text, in its order: all of it, unless it was let go.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Arc<Joined>> {
        self.list.iter().filter_map(|segment| segment.joined.as_ref())
    }

    /// How much text there is, here or let go.
    pub(crate) fn text_length(&self) -> u64 {
        self.text_length
    }

    /// Bytes that they hold.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Runs of text that are joined into larger ones, so that a page is not joined of each of them.
pub(crate) struct Runs<'a>(pub(crate) Vec<&'a Arc<Joined>>);

impl Parts for Runs<'_> {
    type Carry = ();
    type Pin = Arc<Joined>;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn stamp(&self, part: usize) -> u64 {
        Arc::as_ptr(self.0[part]).addr() as u64
    }

    fn pin(&self, part: usize) -> Option<Arc<Joined>> {
        Some(Arc::clone(self.0[part]))
    }

    fn write(&self, part: usize, (): &mut (), output: &mut impl Output) -> Option<BootTime> {
        output.run(self.0[part]);
        None
    }
}

type Last<C, P> = Peekable<std::vec::IntoIter<Segment<C, P>>>;

/// Whether one of the last segments starts with this part. Those before it are gone.
fn starts<C, P>(last: &mut Last<C, P>, part: usize) -> bool {
    while last.next_if(|segment| segment.start < part).is_some() {}
    last.peek().is_some_and(|segment| segment.start == part)
}

/// Takes the one that does.
fn at<C, P>(last: &mut Last<C, P>, part: usize) -> Option<Segment<C, P>> {
    if starts(last, part) { last.next() } else { None }
}

/// Writes a segment from this part on, up to the one at which `ends` says so, given its length until then.
fn write<P: Parts>(
    parts: &P,
    start: usize,
    before: P::Carry,
    mut output: impl Output,
    mut ends: impl FnMut(usize, u64) -> bool,
) -> Segment<P::Carry, P::Pin> {
    let (mut stamps, mut pins, mut until) = (Vec::new(), Vec::new(), None);
    let mut after = before.clone();
    for part in start..parts.count() {
        if part > start && ends(part, output.text_length()) {
            break;
        }
        stamps.push(parts.stamp(part));
        pins.extend(parts.pin(part));
        let of_part = parts.write(part, &mut after, &mut output);
        until = [until, of_part].into_iter().flatten().min();
    }
    let joined = Arc::new(output.finish());
    let (bytes, text_length) = (joined.bytes(), joined.text_length);
    Segment {
        start,
        stamps: stamps.into(),
        _pins: pins.into(),
        before,
        after,
        until,
        text_length,
        joined: Some(joined),
        bytes,
    }
}

impl<C: PartialEq, P> Segment<C, P> {
    /// Whether it would be written like this again.
    fn holds(&self, parts: &impl Parts<Carry = C, Pin = P>, now: BootTime, carry: &C) -> bool {
        self.before == *carry
            && self.until.is_none_or(|until| until > now)
            && self.start + self.stamps.len() <= parts.count()
            && (self.start..).zip(&self.stamps).all(|(part, stamp)| parts.stamp(part) == *stamp)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::plain::Identity;

    const KIB: usize = 1 << 10;

    /// Parts of so many bytes of a letter; a part of a new size has a new stamp.
    struct Letters<'a> {
        sizes: &'a [usize],
        until: Option<BootTime>,
    }

    impl Parts for Letters<'_> {
        type Carry = usize;
        type Pin = ();

        fn count(&self) -> usize {
            self.sizes.len()
        }

        fn stamp(&self, part: usize) -> u64 {
            self.sizes[part] as u64
        }

        fn pin(&self, _: usize) -> Option<()> {
            None
        }

        fn write(&self, part: usize, carry: &mut usize, output: &mut impl Output) -> Option<BootTime> {
            // What a part says depends on whether there was text before it.
            let letter = if *carry == 0 { b'A' } else { b'a' };
            *carry += usize::from(self.sizes[part] > 0);
            *carry = (*carry).min(1);
            output.text(&vec![letter; self.sizes[part]].into());
            self.until
        }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from_boot(Duration::from_secs(seconds))
    }

    fn update(segments: &mut Segments<usize, ()>, sizes: &[usize], until: Option<BootTime>, now: BootTime) {
        segments.update(&Letters { sizes, until }, now, 0, 32 << 10, &mut Identity::default());
    }

    /// Where each segment lies, and its length.
    fn places(segments: &Segments<usize, ()>) -> Vec<(*const u8, usize)> {
        segments.runs().map(|run| (run.chunks[0].as_ptr(), run.bytes())).collect()
    }

    #[test]
    fn a_segment_in_which_nothing_has_changed_is_the_same_memory() {
        let mut sizes = vec![10 * KIB; 12];
        let mut segments = Segments::default();
        update(&mut segments, &sizes, None, at(0));
        let first = places(&segments);
        assert_eq!(first.iter().map(|(_, length)| length / KIB).collect::<Vec<_>>(), [40, 40, 40]);
        update(&mut segments, &sizes, None, at(1));
        assert_eq!(places(&segments), first);

        sizes[5] = 11 * KIB;
        update(&mut segments, &sizes, None, at(2));
        let second = places(&segments);
        assert_eq!((second[0], second[2]), (first[0], first[2]));
        assert_ne!(second[1], first[1]);
        assert_eq!(segments.bytes(), sizes.iter().sum::<usize>());

        // The third begins where it began, and the second is too small to stand alone only below a quarter of the size.
        sizes[4..8].copy_from_slice(&[2 * KIB, 2 * KIB, 2 * KIB, 2 * KIB]);
        update(&mut segments, &sizes, None, at(3));
        assert_eq!(places(&segments)[2], first[2]);
        sizes[4] = KIB;
        update(&mut segments, &sizes, None, at(4));
        let lengths: Vec<_> = places(&segments).iter().map(|(_, length)| length / KIB).collect();
        assert_eq!(lengths, [40, 37, 10]);
    }

    #[test]
    fn a_segment_is_written_anew_when_its_time_is_over() {
        let sizes = [KIB];
        let mut segments = Segments::default();
        update(&mut segments, &sizes, Some(at(5)), at(0));
        let first = places(&segments);
        update(&mut segments, &sizes, Some(at(5)), at(4));
        assert_eq!(places(&segments), first);
        // The one that is there keeps its text until the next is made, so that is another place.
        let kept: Vec<_> = segments.runs().flat_map(|run| run.chunks.clone()).collect();
        update(&mut segments, &sizes, None, at(5));
        assert_ne!(places(&segments), first);
        drop(kept);
    }

    #[test]
    fn what_was_let_go_is_known_to_be_unchanged_and_is_written_again() {
        let mut sizes = vec![10 * KIB; 12];
        let mut segments = Segments::default();
        let update = |sizes: &[usize], segments: &mut Segments<usize, ()>| {
            segments.update(&Letters { sizes, until: None }, at(0), 0, 32 << 10, &mut Identity::default())
        };
        assert_eq!(update(&sizes, &mut segments), 0);
        segments.forget();
        assert_eq!((segments.bytes(), segments.text_length()), (0, 120 << 10));
        sizes[5] = 11 * KIB;
        assert_eq!(update(&sizes, &mut segments), 80 << 10);
        assert_eq!(segments.bytes(), 121 << 10);
        let places_then = places(&segments);
        assert_eq!(update(&sizes, &mut segments), 121 << 10);
        assert_eq!(places(&segments), places_then);
    }

    proptest! {
        #[test]
        fn whatever_changes_the_text_is_that_of_the_parts(
            count in 0..40_usize,
            changes in vec((0..40_usize, prop_oneof![Just(0), 1..3000_usize, Just(40 * KIB)], any::<bool>()), 0..60),
        ) {
            let mut sizes = vec![0; count];
            let mut segments = Segments::default();
            for (part, size, forgets) in changes {
                if let Some(place) = sizes.get_mut(part) {
                    *place = size;
                }
                update(&mut segments, &sizes, None, at(0));
                let text: Vec<u8> = segments.runs().flat_map(|run| run.chunks.concat()).collect();
                let first = sizes.iter().copied().find(|size| *size > 0).unwrap_or_default();
                let rest = sizes.iter().sum::<usize>() - first;
                prop_assert!(text == [vec![b'A'; first], vec![b'a'; rest]].concat());
                let lengths: Vec<_> = segments.runs().map(|run| run.bytes()).collect();
                let (_, all_but_the_last) = lengths.split_last().unwrap_or((&0, &[]));
                prop_assert!(all_but_the_last.iter().all(|length| *length >= 8 * KIB), "{lengths:?}");
                if forgets {
                    segments.forget();
                }
            }
        }
    }
}
