//! The snapshot as one reader sees it: what is within its age limit at one moment, whole or cut.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{Cut, FamilyText, ItemId, Layout, Published, Slot, Snapshot, Source, blocks::Part, lines};
use crate::{BootTime, Family, ItemSpec, deflate::Packed, fragment::identity};

/// What there is to be asked for.
#[derive(Debug, Default)]
pub struct Names {
    /// Targets with an item, and their groups.
    pub targets: BTreeMap<Arc<str>, Arc<str>>,
    /// Groups of such targets.
    pub groups: BTreeSet<Arc<str>>,
    /// Queries with an item.
    pub queries: BTreeSet<Arc<str>>,
}

impl Names {
    pub(super) fn of(items: &[ItemSpec]) -> Self {
        let mut names = Self::default();
        for ItemSpec { query, target, .. } in items {
            names.targets.insert(Arc::clone(&target.name), Arc::clone(&target.group));
            names.groups.insert(Arc::clone(&target.group));
            names.queries.insert(Arc::clone(&query.name));
        }
        names
    }
}

/// The items of a cut.
struct Wanted<'a> {
    cut: &'a Cut,
    /// Its targets; none if it is not narrowed by those or their groups.
    targets: Option<HashSet<&'a str>>,
}

impl<'a> Wanted<'a> {
    fn of(cut: &'a Cut, names: &'a Names) -> Self {
        let of_cut =
            |(name, group): (&'a Arc<str>, &'a Arc<str>)| cut.has_target(name, group).then_some(&**name);
        let narrowed = !(cut.targets.is_empty() && cut.groups.is_empty());
        Self { cut, targets: narrowed.then(|| names.targets.iter().filter_map(of_cut).collect()) }
    }

    fn has(&self, ItemId { query, target }: &ItemId) -> bool {
        self.targets.as_ref().is_none_or(|targets| targets.contains(&**target)) && self.cut.has_query(query)
    }
}

/// The items of one moment and their results.
#[derive(Debug)]
pub struct Reading {
    layout: Arc<Layout>,
    now: BootTime,
}

/// Whole sample lines of one family, of one result.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The lines; never empty.
    pub text: &'a Bytes,
    /// Its compressed form, if it is large enough to have one of its own.
    pub packed: Option<&'a Packed>,
}

impl Snapshot {
    /// What is within its age limit at `now`.
    pub fn reading(&self, now: BootTime) -> Reading {
        Reading { layout: self.layout.load_full(), now }
    }

    /// Everything that is within its age limit at `now`, family by family in the order of their names. Of equal
    /// series the first is kept, by query name, then target name, then row.
    pub fn read(&self, now: BootTime) -> Vec<FamilyText> {
        let mut families: Vec<FamilyText> = Vec::new();
        self.reading(now).walk(&Cut::default(), |family, piece| match families.last_mut() {
            Some(last) if Arc::ptr_eq(&last.family, family) => last.lines.push(piece.text.clone()),
            _ => families.push(FamilyText { family: Arc::clone(family), lines: vec![piece.text.clone()] }),
        });
        families
    }
}

impl Reading {
    /// Whether a query feeds a family of this name, with or without a result.
    pub fn has_family(&self, name: &str) -> bool {
        self.layout.families.binary_search_by(|place| place.family.name.as_str().cmp(name)).is_ok()
    }

    /// What there is to be asked for.
    pub fn names(&self) -> &Names {
        &self.layout.names
    }

    /// Shows each piece of the cut, family by family in the order of their names.
    pub fn walk(&self, cut: &Cut, mut show: impl FnMut(&Arc<Family>, Piece<'_>)) {
        let wanted = Wanted::of(cut, &self.layout.names);
        for part in &self.layout.parts.list {
            self.show(part, |id| wanted.has(id), &mut show);
        }
    }

    /// When it is of.
    pub fn now(&self) -> BootTime {
        self.now
    }

    /// A number for the items that there are: two readings with the same have the same parts.
    pub fn layout(&self) -> u64 {
        self.layout.id
    }

    /// In how many parts the whole can be read.
    pub fn parts(&self) -> usize {
        self.layout.parts.list.len()
    }

    /// A number that is another one when a result in this part has changed. Asked for before the part is walked, it may
    /// be too small for what is seen then, and never too large.
    ///
    /// # Panics
    /// If there is no such part.
    pub fn stamp(&self, part: usize) -> u64 {
        self.layout.parts.stamp(part, &self.layout.blocks)
    }

    /// Shows the pieces of one part, all of one family. All parts in their order are the whole. Gives the moment from
    /// which on the same results show something else, as one of them is too old.
    ///
    /// # Panics
    /// If there is no such part.
    pub fn walk_part(&self, part: usize, show: impl FnMut(&Arc<Family>, Piece<'_>)) -> Option<BootTime> {
        self.show(&self.layout.parts.list[part], |_| true, show)
    }

    fn show(
        &self,
        part: &Part,
        wanted: impl Fn(&ItemId) -> bool,
        mut show: impl FnMut(&Arc<Family>, Piece<'_>),
    ) -> Option<BootTime> {
        let place = &self.layout.families[part.family];
        let sources = &place.sources[part.sources.clone()];
        if place.shared {
            return self.show_shared(sources, wanted, |piece| show(&place.family, piece));
        }
        let mut until: Option<BootTime> = None;
        for (slot, fragment) in sources.iter().filter(|(slot, _)| wanted(&slot.id)) {
            if let Some(published) = &*slot.current.load()
                && let Some(piece) = published.piece(*fragment, self.now)
            {
                show(&place.family, piece);
                until = Some(until.map_or(published.expires, |until| until.min(published.expires)));
            }
        }
        until
    }

    /// The same for a family in which series may be equal.
    fn show_shared(
        &self,
        sources: &[Source],
        wanted: impl Fn(&ItemId) -> bool,
        mut show: impl FnMut(Piece<'_>),
    ) -> Option<BootTime> {
        let published = |slot: &Slot| wanted(&slot.id).then(|| slot.current.load_full()).flatten();
        let sources: Vec<_> = sources.iter().map(|(slot, fragment)| (published(slot), *fragment)).collect();
        let mut seen = HashSet::new();
        for (published, fragment) in &sources {
            let Some(piece) = published.as_ref().and_then(|published| published.piece(*fragment, self.now))
            else {
                continue;
            };
            match without_repeats(piece.text, &mut seen) {
                None => show(piece),
                Some(rest) if rest.is_empty() => {}
                Some(rest) => show(Piece { text: &rest, packed: None }),
            }
        }
        let shown = sources.iter().filter_map(|(published, _)| published.as_ref());
        shown.map(|published| published.expires).filter(|expires| *expires > self.now).min()
    }
}

impl Published {
    fn piece(&self, place: usize, now: BootTime) -> Option<Piece<'_>> {
        let text = self.fragments.get(place).filter(|text| !text.is_empty() && self.expires > now)?;
        Some(Piece { text, packed: self.packed(place) })
    }
}

/// The lines of a piece whose series was not seen before, unless that is all of them.
fn without_repeats<'a>(piece: &'a [u8], seen: &mut HashSet<Vec<&'a [u8]>>) -> Option<Bytes> {
    let fresh: Vec<_> = lines(piece).map(|(line, series)| (line, seen.insert(identity(series)))).collect();
    if fresh.iter().all(|(_, fresh)| *fresh) {
        return None;
    }
    Some(fresh.iter().filter(|(_, fresh)| *fresh).flat_map(|(line, _)| line.iter().copied()).collect())
}
