//! What many items have in common, held once.

use std::{collections::HashSet, hash::Hash, sync::Arc};

/// The one of these that is equal, which this one is from now on if there was none.
pub(crate) fn share<T: Eq + Hash>(value: T, known: &mut HashSet<Arc<T>>) -> Arc<T> {
    if let Some(known) = known.get(&value) {
        return Arc::clone(known);
    }
    let new = Arc::new(value);
    known.insert(Arc::clone(&new));
    new
}
