//! The forms that text is sent in: what a run of it goes through, and what a page is made of.

use bytes::Bytes;
use fleet_collector::snapshot::Piece;

use crate::chunks::Joined;

/// Where the text goes. What is done with it depends on how long it lives.
pub(crate) trait Output {
    /// Text of our own.
    fn text(&mut self, text: &Bytes);
    /// Text of a result.
    fn piece(&mut self, piece: &Piece<'_>);
    /// A run of text in this form.
    fn run(&mut self, run: &Joined);
    /// How much there is so far, as it is read in the end.
    fn text_length(&self) -> u64;
    /// All of it in the form in which it is sent.
    fn finish(self) -> Joined;
}

/// A form in which pages are sent.
pub(crate) trait Form {
    /// What makes a run of it.
    type Output<'a>: Output
    where
        Self: 'a;

    /// How much text a segment of results has that is kept.
    const SEGMENT: u64;

    /// The same for our own families, a few lines of which change all over with each run.
    const OWN_SEGMENT: u64;

    /// Whether runs that are joined to larger ones are there twice.
    const RUNS_ARE_COPIES: bool;

    /// Text of about this length follows.
    fn expect(&mut self, _text: u64) {}

    /// Begins a run.
    fn begin(&mut self) -> Self::Output<'_>;

    /// The page of these runs: its chunks, to be sent in this order.
    fn page<'a>(&self, runs: impl Iterator<Item = &'a Joined>) -> Vec<Bytes>;
}
