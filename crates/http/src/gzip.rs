//! The page as one gzip member, joined of pieces that were compressed when they were last new.
//!
//! Large results carry their compressed form with them. Small ones are compressed in groups, and so is our own text;
//! a group in which nothing has changed since the last page is taken from there.

use std::collections::HashMap;

use bytes::Bytes;
use crc32fast::Hasher;
use fleet_collector::{
    deflate::{Deflated, Deflater},
    snapshot::Piece,
};
use xxhash_rust::xxh64::xxh64;

use crate::{exposition::Output, plain::Plain};

/// A group is closed when it holds this much text. Twice as much would make the page 3 % smaller, and each result that
/// changes twice as dear.
const GROUP: usize = 16 << 10;

/// From this much on a group is closed where the next may begin without regard to the size of what is before it.
const GROUP_AT_ANCHOR: usize = GROUP / 2;

/// Text of our own from this size on is one of many targets' worth, cut by their number: a group may begin with it.
const OWN_ANCHOR: usize = 1 << 10;

/// Method deflate, no name, no time, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty final block, which ends the stream that the pieces have left open.
const END_OF_STREAM: [u8; 2] = [3, 0];

/// Marks the id of a text that is known by its contents, beside those that have a number.
const BY_CONTENTS: u64 = 1 << 63;

/// The groups of the last page, by the ids of what is in them.
#[derive(Debug, Default)]
pub(crate) struct Groups(HashMap<Box<[u64]>, Deflated>);

impl Groups {
    /// Bytes that they hold.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|(ids, deflated)| size_of_val(&**ids) + deflated.bytes.len()).sum()
    }
}

/// Writes one page.
#[derive(Debug)]
pub(crate) struct Gzip<'a> {
    deflater: &'a mut Deflater,
    /// Those of the last page, and where those of this one are left; none if the page is not worth remembering.
    groups: Option<(&'a mut Groups, Groups)>,
    /// The group that is not closed yet: its texts, their ids, and their length.
    open: Vec<Bytes>,
    ids: Vec<u64>,
    open_length: usize,
    crc: Hasher,
    text_length: u64,
    joined: Plain,
}

impl<'a> Gzip<'a> {
    /// Begins a page. `last` are the groups of the last page of this kind, and becomes those of this page.
    pub(crate) fn new(deflater: &'a mut Deflater, last: Option<&'a mut Groups>) -> Self {
        let mut joined = Plain::default();
        joined.push(&Bytes::from_static(&HEADER));
        Self {
            deflater,
            groups: last.map(|last| (last, Groups::default())),
            open: Vec::new(),
            ids: Vec::new(),
            open_length: 0,
            crc: Hasher::new(),
            text_length: 0,
            joined,
        }
    }

    /// The chunks, to be sent in this order.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.close();
        if let Some((last, present)) = self.groups.take() {
            *last = present;
        }
        let mut end = END_OF_STREAM.to_vec();
        end.extend(self.crc.finalize().to_le_bytes());
        // Modulo 2^32, as the format has it.
        #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
        end.extend((self.text_length as u32).to_le_bytes());
        self.joined.push(&end.into());
        self.joined.finish()
    }

    fn add(&mut self, text: Bytes, id: Option<u64>, anchor: bool) {
        if anchor && self.open_length >= GROUP_AT_ANCHOR {
            self.close();
        }
        self.ids.push(id.unwrap_or_else(|| xxh64(&text, 0) | BY_CONTENTS));
        self.open_length += text.len();
        self.open.push(text);
        if self.open_length >= GROUP {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let known = self.groups.as_mut().and_then(|(last, _)| last.0.remove_entry(&*self.ids));
        let (ids, deflated) = known.unwrap_or_else(|| {
            let ids = self.ids.as_slice().into();
            (ids, self.deflater.deflate(&self.open.concat()))
        });
        self.join(&deflated);
        if let Some((_, present)) = &mut self.groups {
            present.0.insert(ids, deflated);
        }
        self.open.clear();
        self.ids.clear();
        self.open_length = 0;
    }

    fn join(&mut self, piece: &Deflated) {
        self.crc.combine(&Hasher::new_with_initial_len(piece.crc, piece.text_length));
        self.text_length += piece.text_length;
        self.joined.push(&piece.bytes);
    }
}

impl Output for Gzip<'_> {
    fn text(&mut self, text: Bytes) {
        let anchor = text.len() >= OWN_ANCHOR;
        self.add(text, None, anchor);
    }

    fn piece(&mut self, piece: &Piece<'_>) {
        match piece.packed {
            Some(packed) => {
                self.close();
                let deflated = packed.get(piece.text, self.deflater);
                self.join(deflated);
            }
            None => self.add(piece.text.clone(), piece.id, piece.anchor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a page of these texts, and gives where the compressed form of each of its groups lies.
    fn page(deflater: &mut Deflater, groups: &mut Groups, texts: &[&Bytes]) -> Vec<*const u8> {
        let mut page = Gzip::new(deflater, Some(groups));
        for text in texts {
            page.text((*text).clone());
        }
        page.finish();
        let mut places: Vec<_> = groups.0.values().map(|deflated| deflated.bytes.as_ptr()).collect();
        places.sort();
        places
    }

    #[test]
    fn a_group_in_which_nothing_has_changed_is_taken_from_the_last_page_and_others_are_forgotten() {
        let text = |letter: u8, size: usize| Bytes::from(vec![letter; size]);
        let (a, b, c) = (text(b'a', 9 << 10), text(b'b', 9 << 10), text(b'c', 9 << 10));
        let (mut deflater, mut groups) = (Deflater::default(), Groups::default());
        let first = page(&mut deflater, &mut groups, &[&a, &b]);
        assert_eq!(first.len(), 2, "each is a group, as it may begin with each");
        assert_eq!(page(&mut deflater, &mut groups, &[&a, &b]), first);
        let second = page(&mut deflater, &mut groups, &[&c, &b]);
        assert_eq!(second.iter().filter(|place| first.contains(place)).count(), 1);
        let held: usize = groups.0.values().map(|deflated| deflated.bytes.len()).sum();
        assert_eq!(groups.bytes(), held + 2 * size_of::<u64>());
        assert_eq!(page(&mut deflater, &mut groups, &[]).len(), 0);
    }

    #[test]
    fn an_empty_page_is_a_member_too() {
        let chunks = Gzip::new(&mut Deflater::default(), None).finish();
        assert_eq!(chunks.concat(), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
