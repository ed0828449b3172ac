//! The snapshot as one reader sees it: what is within its age limit at one moment, whole or cut.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{Cut, FamilyPlace, FamilyText, ItemId, Layout, Published, Slot, Snapshot, lines};
use crate::{BootTime, Family, ItemSpec, deflate::Packed, fragment::identity};

/// Every so many results of one family may begin a group, so that a result that grows moves the groups behind it only
/// up to the next such place.
const ANCHOR_EVERY: usize = 32;
/// The same for families, which may have few results each.
const ANCHOR_FAMILIES: usize = 16;

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
    /// A number that no other text of this snapshot has or will have; none if the text was made for this reader.
    pub id: Option<u64>,
    /// Whether groups of pieces had best begin here: the place does not depend on the size of other results.
    pub anchor: bool,
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
        for (nth, place) in self.layout.families.iter().enumerate() {
            let anchor = |source: usize| match source {
                0 => nth.is_multiple_of(ANCHOR_FAMILIES),
                source => source.is_multiple_of(ANCHOR_EVERY),
            };
            if place.shared {
                self.walk_shared(place, &wanted, anchor, |piece| show(&place.family, piece));
                continue;
            }
            for (source, (slot, fragment)) in place.sources.iter().enumerate() {
                if wanted.has(&slot.id)
                    && let Some(published) = &*slot.current.load()
                    && let Some(piece) = published.piece(*fragment, self.now)
                {
                    show(&place.family, Piece { anchor: anchor(source), ..piece });
                }
            }
        }
    }

    /// The same for a family in which series may be equal.
    fn walk_shared(
        &self,
        place: &FamilyPlace,
        wanted: &Wanted<'_>,
        anchor: impl Fn(usize) -> bool,
        mut show: impl FnMut(Piece<'_>),
    ) {
        let published = |slot: &Slot| wanted.has(&slot.id).then(|| slot.current.load_full()).flatten();
        let sources: Vec<_> =
            place.sources.iter().map(|(slot, fragment)| (published(slot), *fragment)).collect();
        let mut seen = HashSet::new();
        for (source, (published, fragment)) in sources.iter().enumerate() {
            let Some(piece) = published.as_ref().and_then(|published| published.piece(*fragment, self.now))
            else {
                continue;
            };
            match without_repeats(piece.text, &mut seen) {
                None => show(Piece { anchor: anchor(source), ..piece }),
                Some(rest) if rest.is_empty() => {}
                Some(rest) => show(Piece { text: &rest, id: None, anchor: anchor(source), packed: None }),
            }
        }
    }
}

impl Published {
    fn piece(&self, place: usize, now: BootTime) -> Option<Piece<'_>> {
        let text = self.fragments.get(place).filter(|text| !text.is_empty() && self.expires > now)?;
        Some(Piece {
            text,
            id: Some(self.first_id + place as u64),
            anchor: false,
            packed: self.packed(place),
        })
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
