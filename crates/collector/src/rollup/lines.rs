//! The text of a family of our own.

use bytes::Bytes;

/// Writes the lines of one family.
pub(crate) struct Lines {
    name: &'static str,
    text: String,
    digits: itoa::Buffer,
}

impl Lines {
    /// Text likely of about this length.
    pub(super) fn of_about(name: &'static str, length: usize) -> Self {
        Self { name, text: String::with_capacity(length), digits: itoa::Buffer::new() }
    }

    /// One sample; `labels` and `more` are encoded label pairs or empty.
    pub(crate) fn add(&mut self, labels: &str, more: &str, value: impl itoa::Integer) {
        let value = self.digits.format(value);
        self.text.push_str(self.name);
        if !(labels.is_empty() && more.is_empty()) {
            let comma = if labels.is_empty() || more.is_empty() { "" } else { "," };
            self.text.extend(["{", labels, comma, more, "}"]);
        }
        self.text.extend([" ", value, "\n"]);
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
