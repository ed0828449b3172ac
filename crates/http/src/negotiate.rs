//! What the client can read: the text format by `Accept`, compression by `Accept-Encoding`.
//!
//! A client is never refused for what it says here. What cannot be read is passed over, and who accepts nothing that
//! there is gets the plain, classic text.

/// More parts of a header than this are not looked at; Prometheus sends six.
const MAX_PARTS: usize = 64;

/// A text format of the page. The sample lines are the same in each; only headers differ, and how the page ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The Prometheus text format 0.0.4.
    Classic,
    /// `OpenMetrics` text, 1.0.0.
    OpenMetrics,
    /// `OpenMetrics` text for those who know 0.0.1 only: the same text under another version.
    OldOpenMetrics,
}

impl Format {
    /// In the order of preference where a client likes several equally well. Classic comes first: who sends `*/*` is a
    /// person or a tool that knows nothing else.
    const ALL: [Self; 3] = [Self::Classic, Self::OpenMetrics, Self::OldOpenMetrics];

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::OldOpenMetrics => "application/openmetrics-text; version=0.0.1; charset=utf-8",
        }
    }

    /// Whether the text is `OpenMetrics`.
    pub fn is_open_metrics(self) -> bool {
        self != Self::Classic
    }

    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Classic => ("text", "plain"),
            Self::OpenMetrics | Self::OldOpenMetrics => ("application", "openmetrics-text"),
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Classic => "0.0.4",
            Self::OpenMetrics => "1.0.0",
            Self::OldOpenMetrics => "0.0.1",
        }
    }
}

/// How the body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// As one gzip member.
    Gzip,
}

/// The best format for the values of a request's `Accept` headers.
///
/// Each format has the weight of the most specific part that is about it; the greatest weight wins. Without a header,
/// or if nothing fits, it is the classic one.
pub fn format<'a>(accept: impl IntoIterator<Item = &'a str>) -> Format {
    let parts = parts(accept);
    let weight = |format: Format| {
        let about = parts.iter().filter_map(|part| Some((specificity(part, format)?, part.weight)));
        // Of equally specific parts the first counts.
        about.reduce(|best, next| if next.0 > best.0 { next } else { best }).map_or(0, |(_, weight)| weight)
    };
    let mut best = (Format::Classic, 0);
    for format in Format::ALL {
        if weight(format) > best.1 {
            best = (format, weight(format));
        }
    }
    best.0
}

/// How closely a part of `Accept` describes a format, if it does.
fn specificity(part: &Part<'_>, format: Format) -> Option<u8> {
    let (media, subtype) = part.value.split_once('/')?;
    let (own_media, own_subtype) = format.media_type();
    let named = match (media.trim(), subtype.trim()) {
        ("*", "*") => return Some(0),
        (media, "*") if media.eq_ignore_ascii_case(own_media) => return Some(1),
        (media, subtype) => {
            media.eq_ignore_ascii_case(own_media) && subtype.eq_ignore_ascii_case(own_subtype)
        }
    };
    let version = part.parameter("version");
    let fits = match version {
        // What the name meant before there were versions.
        None => format != Format::OpenMetrics,
        Some(version) => version == format.version(),
    };
    (named && fits).then_some(2 + u8::from(version.is_some()))
}

/// The encoding for the values of a request's `Accept-Encoding` headers: gzip where it is welcome and no less than the
/// plain text.
pub fn encoding<'a>(accept_encoding: impl IntoIterator<Item = &'a str>) -> Encoding {
    let parts = parts(accept_encoding);
    let of = |names: &[&str]| {
        let part = parts.iter().find(|part| names.iter().any(|name| part.value.eq_ignore_ascii_case(name)));
        part.map(|part| part.weight)
    };
    let any = of(&["*"]);
    let gzip = of(&["gzip", "x-gzip"]).or(any).unwrap_or(0);
    // Nobody needs to name the plain text; a weight that it gets all the same is a wish.
    let identity = of(&["identity"]).unwrap_or(0);
    if gzip > 0 && gzip >= identity { Encoding::Gzip } else { Encoding::Identity }
}

/// One part of a header like `a;b=c;q=0.5, d`.
struct Part<'a> {
    value: &'a str,
    parameters: &'a str,
    /// In thousandths, 0 to 1000.
    weight: u16,
}

impl<'a> Part<'a> {
    fn new(text: &'a str) -> Option<Self> {
        let (value, parameters) = text.split_once(';').unwrap_or((text, ""));
        let mut part = Self { value: value.trim(), parameters, weight: 1000 };
        if let Some(weight) = part.parameter("q") {
            part.weight = thousandths(weight)?;
        }
        (!part.value.is_empty()).then_some(part)
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
        })
    }
}

/// The parts that can be read.
fn parts<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Part<'a>> {
    headers.into_iter().flat_map(|header| header.split(',')).take(MAX_PARTS).filter_map(Part::new).collect()
}

/// A weight, brought into its range: Prometheus 2.49 sends a 2.
fn thousandths(text: &str) -> Option<u16> {
    let weight: f32 = text.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    (!weight.is_nan()).then(|| (weight.clamp(0.0, 1.0) * 1000.0).ceil() as u16)
}

// What known clients send, and each way to ask for an encoding, is in tests/pages/forms.rs.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_accept_has_its_format() {
        use Format::{Classic, OldOpenMetrics, OpenMetrics};
        #[track_caller]
        fn check(accept: &str, expected: Format) {
            assert_eq!(format([accept]), expected, "{accept}");
        }
        assert_eq!(format([]), Classic, "no header");
        check("", Classic);
        check("*/*", Classic);
        check("text/*", Classic);
        check("text/plain", Classic);
        check("text/plain; version=0.0.4", Classic);
        check("text/plain;version=0.0.5", Classic);
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Classic);
        check("application/json", Classic);
        check("garbage", Classic);
        check(",;,=,;q=,/;;//", Classic);
        check("application/openmetrics-text", OldOpenMetrics);
        check("application/openmetrics-text;version=0.0.1", OldOpenMetrics);
        check("application/openmetrics-text; version=1.0.0; charset=utf-8", OpenMetrics);
        check("Application/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics);
        check("application/openmetrics-text;version=2.0.0", Classic);
        check("application/*", OpenMetrics);
        // Weights decide; what cannot be read as one makes its part unreadable.
        check("text/plain;q=0.1,application/openmetrics-text;version=1.0.0;q=0.2", OpenMetrics);
        check("text/plain;q=0.2,application/openmetrics-text;version=1.0.0;q=0.1", Classic);
        check("application/openmetrics-text;version=1.0.0;q=0,*/*;q=0.1", Classic);
        check("text/plain;q=0,*/*;q=0.1", OpenMetrics);
        check("text/plain;q=-1,*/*;q=0.1", OpenMetrics);
        check("application/openmetrics-text;version=1.0.0;q=x", Classic);
        check("application/openmetrics-text;version=1.0.0;q=NaN", Classic);
        check("*/*;q=0", Classic);
        check("application/openmetrics-text;version=1.0.0;q=0.0001,text/html", OpenMetrics);
        let long = "a/b,".repeat(2000) + "application/openmetrics-text;version=1.0.0";
        check(&long, Classic);
    }

    #[test]
    fn several_headers_are_one() {
        let accept = ["text/plain;q=0.5", "application/openmetrics-text;version=1.0.0"];
        assert_eq!(format(accept), Format::OpenMetrics);
        assert_eq!(encoding(["br", "gzip"]), Encoding::Gzip);
    }
}
