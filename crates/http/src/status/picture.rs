//! An hour as a small picture: sixty bars, drawn as one path, and a mark under each minute in which something failed.

use std::{fmt::Write as _, time::Duration};

use fleet_collector::hour::{MINUTES, Minute};

use super::{markup::Markup, words::Length};

/// The height of the bars, in units of the picture; a bar is two units apart from the next.
const HEIGHT: f64 = 20.0;

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// The longest run of each minute.
    RunTime,
    /// The greatest lateness of each minute.
    Lateness,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::RunTime => "run time",
            Self::Lateness => "lateness",
        }
    }

    /// The top of the picture at least: below it a fleet is well, and its noise should not look like mountains.
    fn floor(self) -> Duration {
        match self {
            Self::RunTime => Duration::from_millis(10),
            Self::Lateness => Duration::from_millis(100),
        }
    }

    fn value(self, minute: &Minute) -> Option<Duration> {
        match self {
            Self::RunTime => minute.longest,
            Self::Lateness => minute.longest.map(|_| minute.latest),
        }
    }
}

/// Draws the hour, with what it shows as its text for those who do not see it.
pub(super) fn draw(markup: &mut Markup, of: Of, hour: &[Minute; MINUTES]) {
    let most = hour.iter().filter_map(|minute| of.value(minute)).max();
    let most_text = most.map_or_else(|| "no run".to_owned(), |most| format!("{} at most", Length(most)));
    markup.raw("<svg viewBox=\"0 0 120 24\" role=\"img\" aria-label=\"").text(of.name());
    markup.raw(" in the last hour: ").text(&most_text).raw("\">");
    let top = most.unwrap_or_default().max(of.floor()).as_secs_f64();
    let bars = hour.iter().map(|minute| {
        // A run is to be seen, however short.
        of.value(minute).map(|value| (value.as_secs_f64() / top * HEIGHT).max(1.0))
    });
    path(markup, "<path class=\"bar\" d=\"", &verticals(bars, HEIGHT));
    if of == Of::RunTime {
        let failed = hour.iter().map(|minute| (minute.failed > 0).then_some(3.0));
        path(markup, "<path class=\"failed\" d=\"", &verticals(failed, 24.0));
    } else {
        let missed = hour.iter().map(|minute| (minute.missed > 0).then_some(3.0));
        path(markup, "<path class=\"missed\" d=\"", &verticals(missed, 24.0));
    }
    markup.raw("</svg>");
}

fn path(markup: &mut Markup, begin: &'static str, d: &str) {
    if !d.is_empty() {
        markup.raw(begin).text(d).raw("\"/>");
    }
}

/// Vertical lines, one for each minute that has a height, upwards from `from`.
fn verticals(heights: impl Iterator<Item = Option<f64>>, from: f64) -> String {
    let mut d = String::new();
    for (minute, height) in heights.enumerate() {
        if let Some(height) = height {
            // Tenths of a unit are a fraction of a pixel.
            let _ = write!(d, "M{} {from}v-{}", minute * 2 + 1, (height * 10.0).round() / 10.0);
        }
    }
    d
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(of: Of, minutes: &[(usize, Minute)], expected: &Expect) {
        let mut hour = [Minute::default(); MINUTES];
        for (place, minute) in minutes {
            hour[*place] = *minute;
        }
        let mut markup = Markup::default();
        draw(&mut markup, of, &hour);
        expected.assert_eq(&markup.finish().replace("><", ">\n<").replace('\u{a0}', " "));
    }

    fn minute(longest_ms: u64, latest_ms: u64, failed: u8, missed: u8) -> Minute {
        let longest = (longest_ms > 0).then(|| Duration::from_millis(longest_ms));
        Minute { longest, latest: Duration::from_millis(latest_ms), failed, missed }
    }

    #[test]
    fn bars_are_as_high_as_runs_were_long_and_failures_are_marked() {
        let minutes = [(0, minute(500, 3, 0, 0)), (58, minute(1000, 2, 4, 0)), (59, minute(1, 0, 0, 6))];
        check(
            Of::RunTime,
            &minutes,
            &expect![[r#"
                <svg viewBox="0 0 120 24" role="img" aria-label="run time in the last hour: 1 s at most">
                <path class="bar" d="M1 20v-10M117 20v-20M119 20v-1"/>
                <path class="failed" d="M117 24v-3"/>
                </svg>"#]],
        );
        check(
            Of::Lateness,
            &minutes,
            &expect![[r#"
                <svg viewBox="0 0 120 24" role="img" aria-label="lateness in the last hour: 3.0 ms at most">
                <path class="bar" d="M1 20v-1M117 20v-1M119 20v-1"/>
                <path class="missed" d="M119 24v-3"/>
                </svg>"#]],
        );
    }

    #[test]
    fn an_hour_without_a_run_is_empty() {
        check(
            Of::RunTime,
            &[],
            &expect![[r#"
            <svg viewBox="0 0 120 24" role="img" aria-label="run time in the last hour: no run">
            </svg>"#]],
        );
        check(
            Of::Lateness,
            &[(30, minute(0, 0, 0, 9))],
            &expect![[r#"
            <svg viewBox="0 0 120 24" role="img" aria-label="lateness in the last hour: no run">
            <path class="missed" d="M61 24v-3"/>
            </svg>"#]],
        );
    }
}
