//! How often, how long, how old, how much: the settings that many levels share, and which of them wins.

use std::{collections::BTreeSet, fmt, time::Duration};

use fleet_collector::query::ResultLimits;

use super::{
    ItemSettings, OnFailure,
    field::{At, Field, Setting, Word as _, Wrong, read, read_with},
    raw::{RawResultLimits, RawSettings, RawTiming},
    report::{Findings, Place},
};

/// The bounds of an interval, wherever it comes from.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// The same.
pub(crate) const LONGEST_INTERVAL: Duration = Duration::from_hours(24);

const INTERVAL: Duration = Duration::from_secs(15);
const TIMEOUT: Duration = Duration::from_secs(5);
const LEAST_EXPIRE_AFTER: Duration = Duration::from_mins(1);
/// With a longer interval than this, a failed item is tried again before its next tick.
const LONG: Duration = Duration::from_mins(1);
/// The longest wait for that, unless the file says otherwise.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What one level says.
#[derive(Debug, Default, Clone)]
pub(super) struct Settings {
    pub(super) interval: Setting<Duration>,
    pub(super) timeout: Setting<Duration>,
    pub(super) expire_after: Setting<Duration>,
    pub(super) on_failure: Setting<OnFailure>,
    pub(super) retry_after: Setting<Duration>,
    pub(super) rows: Setting<usize>,
    pub(super) series: Setting<usize>,
    pub(super) label_bytes: Setting<usize>,
    pub(super) result_bytes: Setting<usize>,
    pub(super) enabled: Setting<bool>,
}

impl Settings {
    /// Checks what is written at a level, `enabled` where the level has it.
    pub(super) fn check(found: &mut Findings, raw: RawSettings, enabled: Option<Field<bool>>) -> Self {
        let RawSettings { timing, result } = raw;
        let RawTiming { interval, timeout, expire_after, on_failure, retry_after } = timing;
        let (second, day) = (SHORTEST_INTERVAL, LONGEST_INTERVAL);
        Self {
            interval: read_with(found, "interval", interval, between(second, day)),
            timeout: read_with(found, "timeout", timeout, between(Duration::from_millis(100), day)),
            expire_after: read_with(found, "expire_after", expire_after, between(second, day * 31)),
            on_failure: read(found, "on_failure", on_failure),
            retry_after: read_with(found, "retry_after", retry_after, between(second, day)),
            enabled: read(found, "enabled", enabled),
            ..Self::check_limits(found, result)
        }
    }

    /// The same for `[limits]`, the weakest level of these keys.
    pub(super) fn check_limits(found: &mut Findings, raw: RawResultLimits) -> Self {
        let RawResultLimits { rows, series, label_bytes, result_bytes } = raw;
        Self {
            rows: read_with(found, "max_rows", rows, at_most(10_000_000)),
            series: read_with(found, "max_series", series, at_most(10_000_000)),
            label_bytes: read_with(found, "max_label_bytes", label_bytes, at_most(1 << 20)),
            result_bytes: read_with(found, "max_result_bytes", result_bytes, at_most(1 << 30)),
            ..Self::default()
        }
    }
}

/// The rule of a number that is at least 1.
pub(super) fn at_most(most: usize) -> impl Fn(usize) -> Result<usize, Wrong> {
    move |n| match n {
        0 => Err(Wrong::new("is 0, which leaves nothing", "write at least 1")),
        n if n > most => {
            Err(Wrong::new(format!("is {n}, which is too large"), format!("write at most {most}")))
        }
        n => Ok(n),
    }
}

pub(super) fn between(least: Duration, most: Duration) -> impl FnOnce(Duration) -> Result<Duration, Wrong> {
    move |value| {
        let show = humantime::format_duration;
        if value < least {
            return Err(Wrong::new(
                format!("is {}, which is too short", show(value)),
                format!("write at least \"{}\"", show(least)),
            ));
        }
        if value > most {
            return Err(Wrong::new(
                format!("is {}, which is too long", show(value)),
                format!("write at most \"{}\"", show(most)),
            ));
        }
        Ok(value)
    }
}

/// What each level says of an item, the strongest first: the override at its target, that at its group, its query, its
/// target, its group, `[defaults]`, `[limits]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers<'a>(pub(super) [Option<&'a Settings>; 7]);

impl<'a> Layers<'a> {
    /// What wins: the first level that says something. None in it means that what it says was wrong.
    fn first<T>(&self, pick: impl Fn(&'a Settings) -> &'a Setting<T>) -> Option<&'a At<Option<T>>> {
        self.0.iter().flatten().find_map(|level| pick(level).as_ref())
    }

    /// Whether the query runs on the target.
    pub(super) fn enabled(&self) -> Chosen<'a, bool> {
        Chosen::new(self.first(|s| &s.enabled), true).unwrap_or(Chosen { value: true, at: None })
    }

    /// How large an answer may be; what was wrong is as if it were not written.
    pub(super) fn limits(&self) -> ResultLimits {
        let usual = ResultLimits::default();
        let [rows, series, label_bytes, result_bytes] =
            self.limits_chosen(&usual).map(|(_, chosen, usual)| chosen.map_or(usual, |chosen| chosen.value));
        ResultLimits { rows, series, label_bytes, result_bytes }
    }

    /// How long a run may take.
    pub(super) fn timeout(&self) -> Duration {
        Chosen::new(self.first(|s| &s.timeout), TIMEOUT).map_or(TIMEOUT, |chosen| chosen.value)
    }

    fn limits_chosen(&self, usual: &ResultLimits) -> [(&'static str, Option<Chosen<'a, usize>>, usize); 4] {
        let chosen = |pick: fn(&Settings) -> &Setting<usize>, usual| Chosen::new(self.first(pick), usual);
        [
            ("max_rows", chosen(|s| &s.rows, usual.rows), usual.rows),
            ("max_series", chosen(|s| &s.series, usual.series), usual.series),
            ("max_label_bytes", chosen(|s| &s.label_bytes, usual.label_bytes), usual.label_bytes),
            ("max_result_bytes", chosen(|s| &s.result_bytes, usual.result_bytes), usual.result_bytes),
        ]
    }

    fn timing(&self) -> Option<Timing<'a>> {
        let interval = Chosen::new(self.first(|s| &s.interval), INTERVAL)?;
        let timeout = Chosen::new(self.first(|s| &s.timeout), TIMEOUT)?;
        let usual = usual_expire_after(interval.value, timeout.value);
        let expire_after = Chosen::new(self.first(|s| &s.expire_after), usual)?;
        let on_failure = Chosen::new(self.first(|s| &s.on_failure), OnFailure::Keep)?;
        let retry_after = Chosen::new(self.first(|s| &s.retry_after), usual_retry_after(interval.value))?;
        Some(Timing { interval, timeout, expire_after, on_failure, retry_after })
    }

    /// Each key, its value and where it comes from.
    pub(super) fn explain(&self) -> Vec<(&'static str, String, Option<&'a Place>)> {
        let enabled = self.enabled();
        let mut lines = vec![("enabled", enabled.value.to_string(), enabled.at)];
        if let Some(timing) = self.timing() {
            let Timing { interval, timeout, expire_after, on_failure, retry_after } = timing;
            let show = humantime::format_duration;
            lines.push(("interval", show(interval.value).to_string(), interval.at));
            lines.push(("timeout", show(timeout.value).to_string(), timeout.at));
            lines.push(("expire_after", show(expire_after.value).to_string(), expire_after.at));
            lines.push(("on_failure", on_failure.value.word().to_owned(), on_failure.at));
            let retry = retry_within(retry_after.value, interval.value).map(|wait| show(wait).to_string());
            let retry = retry.unwrap_or_else(|| "not before the next run".to_owned());
            lines.push(("retry_after", retry, retry_after.at));
        }
        for (key, chosen, _) in self.limits_chosen(&ResultLimits::default()) {
            lines.extend(chosen.map(|chosen| (key, chosen.value.to_string(), chosen.at)));
        }
        lines
    }
}

/// The timing that wins, and where it comes from.
struct Timing<'a> {
    interval: Chosen<'a, Duration>,
    timeout: Chosen<'a, Duration>,
    expire_after: Chosen<'a, Duration>,
    on_failure: Chosen<'a, OnFailure>,
    retry_after: Chosen<'a, Duration>,
}

fn usual_expire_after(interval: Duration, timeout: Duration) -> Duration {
    LEAST_EXPIRE_AFTER.max(2 * interval + timeout)
}

fn usual_retry_after(interval: Duration) -> Duration {
    if interval > LONG { LONGEST_RETRY.min(interval / 4) } else { interval }
}

/// A retry that would not come before the next run is none.
fn retry_within(retry_after: Duration, interval: Duration) -> Option<Duration> {
    Some(retry_after).filter(|wait| *wait < interval)
}

/// Lengths that follow from an interval unless they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Written {
    expire_after: Option<Duration>,
    retry_after: Option<Duration>,
}

impl Written {
    /// What they are at this interval.
    pub(super) fn at(&self, interval: Duration, timeout: Duration) -> (Duration, Option<Duration>) {
        let expire_after = self.expire_after.unwrap_or_else(|| usual_expire_after(interval, timeout));
        let retry_after = self.retry_after.unwrap_or_else(|| usual_retry_after(interval));
        (expire_after, retry_within(retry_after, interval))
    }
}

/// Gives items their settings, and says once for each pair of places that two of them do not fit.
#[derive(Debug, Default)]
pub(super) struct Cascade {
    seen: BTreeSet<(Option<usize>, Option<usize>, &'static str)>,
}

impl Cascade {
    /// The settings of an item whose levels are these.
    pub(super) fn of(
        &mut self,
        layers: &Layers<'_>,
        item: fmt::Arguments<'_>,
        found: &mut Findings,
    ) -> Option<ItemSettings> {
        let Timing { interval, timeout, expire_after, on_failure, retry_after } = layers.timing()?;
        if timeout.value > interval.value {
            self.misfit(&timeout, "timeout", &interval, item, found);
            return None;
        }
        if expire_after.value < interval.value {
            self.misfit(&expire_after, "expire_after", &interval, item, found);
        }
        Some(ItemSettings {
            interval: interval.value,
            timeout: timeout.value,
            expire_after: expire_after.value,
            on_failure: on_failure.value,
            retry_after: retry_within(retry_after.value, interval.value),
            limits: layers.limits(),
            written: Written { expire_after: expire_after.written(), retry_after: retry_after.written() },
        })
    }

    fn misfit(
        &mut self,
        length: &Chosen<'_, Duration>,
        key: &'static str,
        interval: &Chosen<'_, Duration>,
        item: fmt::Arguments<'_>,
        found: &mut Findings,
    ) {
        let start = |place: Option<&Place>| place.map(|place| place.start);
        if !self.seen.insert((start(length.at), start(interval.at), key)) {
            return;
        }
        let show = humantime::format_duration;
        let (length_text, interval_text) = (show(length.value), show(interval.value));
        let built_in = |place: Option<&Place>| if place.is_none() { " (built in)" } else { "" };
        // At least one of the two was written: the built-in values fit each other.
        let Some(at) = length.at.or(interval.at) else { return };
        let problem = if key == "timeout" {
            found
                .error(
                    at,
                    format!(
                        "the timeout of {item}, {length_text}{}, is above its interval, {interval_text}{}",
                        built_in(length.at),
                        built_in(interval.at)
                    ),
                )
                .help(format!(
                    "a run must end before the next is due: write timeout = \"{interval_text}\" or less"
                ))
        } else {
            found
                .warn(
                    at,
                    format!("the results of {item} expire after {length_text}, before the next run at {interval_text}"),
                )
                .help(format!("its series come and go; write expire_after = \"{}\"", show(2 * interval.value)))
        };
        if let (Some(_), Some(interval_at)) = (length.at, interval.at) {
            problem.note(interval_at, "the interval comes from here");
        }
    }
}

/// A value, and where it was written if it is not built in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen<'a, T> {
    pub(super) value: T,
    pub(super) at: Option<&'a Place>,
}

impl<'a, T: Copy> Chosen<'a, T> {
    /// The value, unless it is built in.
    fn written(&self) -> Option<T> {
        self.at.map(|_| self.value)
    }

    /// None if what was written is wrong: nothing can be said about the item then.
    fn new(setting: Option<&'a At<Option<T>>>, built_in: T) -> Option<Self> {
        match setting {
            None => Some(Self { value: built_in, at: None }),
            Some(At { at, value }) => value.map(|value| Self { value, at: Some(at) }),
        }
    }
}
