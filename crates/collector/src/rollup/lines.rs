//! The text of a family of our own.

use bytes::Bytes;

/// Writes the lines of one family.
pub(crate) struct Lines {
    /// The name and the brace that opens the labels.
    open: String,
    text: String,
    digits: itoa::Buffer,
}

impl Lines {
    /// Text likely of about this length.
    pub(super) fn of_about(name: &'static str, length: usize) -> Self {
        Self { open: format!("{name}{{"), text: String::with_capacity(length), digits: itoa::Buffer::new() }
    }

    /// One sample; `labels` and `more` are encoded label pairs or empty.
    pub(crate) fn add(&mut self, labels: &str, more: &str, value: impl itoa::Integer) {
        let value = self.digits.format(value);
        match (labels, more) {
            ("", "") => self.text.extend([&self.open[..self.open.len() - 1], " "]),
            (labels, "") | ("", labels) => self.text.extend([&self.open, labels, "} "]),
            (labels, more) => self.text.extend([&self.open, labels, ",", more, "} "]),
        }
        self.text.extend([value, "\n"]);
    }

    /// One sample whose value is a number of seconds, given in milliseconds.
    pub(crate) fn add_seconds(&mut self, labels: &str, ms: u64) {
        self.add(labels, "", ms / 1000);
        if !ms.is_multiple_of(1000) {
            self.text.pop();
            // A one in front keeps the zeros.
            let thousandths = &self.digits.format(1000 + ms % 1000)[1..];
            self.text.extend([".", thousandths, "\n"]);
        }
    }

    /// All lines.
    pub(super) fn text(self) -> Bytes {
        self.text.into()
    }
}
