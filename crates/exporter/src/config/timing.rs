//! How often, how long, how old: the settings that many levels share, and which of them wins.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::{
    OnFailure,
    field::{At, Field, Setting, Wrong, read, read_with},
    report::{Findings, Place},
};

const INTERVAL: Duration = Duration::from_secs(15);
const TIMEOUT: Duration = Duration::from_secs(5);
const LEAST_EXPIRE_AFTER: Duration = Duration::from_mins(1);

/// What one level says.
#[derive(Debug, Default, Clone)]
pub(super) struct Timing {
    pub(super) interval: Setting<Duration>,
    pub(super) timeout: Setting<Duration>,
    pub(super) expire_after: Setting<Duration>,
    pub(super) on_failure: Setting<OnFailure>,
}

impl Timing {
    pub(super) fn check(
        found: &mut Findings,
        interval: Option<Field<Duration>>,
        timeout: Option<Field<Duration>>,
        expire_after: Option<Field<Duration>>,
        on_failure: Option<Field<OnFailure>>,
    ) -> Self {
        let second = Duration::from_secs(1);
        let day = Duration::from_hours(24);
        Self {
            interval: read_with(found, "interval", interval, between(second, day)),
            timeout: read_with(found, "timeout", timeout, between(Duration::from_millis(100), day)),
            expire_after: read_with(found, "expire_after", expire_after, between(second, day * 31)),
            on_failure: read(found, "on_failure", on_failure),
        }
    }
}

fn between(least: Duration, most: Duration) -> impl FnOnce(Duration) -> Result<Duration, Wrong> {
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

/// The setting that wins: the first level that has one. None in it means that it was wrong.
fn first<'a, T>(
    layers: &[&'a Timing],
    pick: impl Fn(&'a Timing) -> &'a Setting<T>,
) -> Option<&'a At<Option<T>>> {
    layers.iter().find_map(|layer| pick(layer).as_ref())
}

/// What an item gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effective {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) expire_after: Duration,
    pub(super) on_failure: OnFailure,
}

/// Gives items their settings, and says once for each pair of places that two of them do not fit.
#[derive(Debug, Default)]
pub(super) struct Cascade {
    seen: BTreeSet<(Option<usize>, Option<usize>, &'static str)>,
}

impl Cascade {
    /// The settings of an item whose levels are these, strongest first.
    pub(super) fn of(
        &mut self,
        layers: &[&Timing],
        item: fmt::Arguments<'_>,
        found: &mut Findings,
    ) -> Option<Effective> {
        let interval = Chosen::new(first(layers, |t| &t.interval), INTERVAL)?;
        let timeout = Chosen::new(first(layers, |t| &t.timeout), TIMEOUT)?;
        let usual = LEAST_EXPIRE_AFTER.max(2 * interval.value + timeout.value);
        let expire_after = Chosen::new(first(layers, |t| &t.expire_after), usual)?;
        let on_failure = Chosen::new(first(layers, |t| &t.on_failure), OnFailure::Keep)?;
        if timeout.value > interval.value {
            self.misfit(&timeout, "timeout", &interval, item, found);
            return None;
        }
        if expire_after.value < interval.value {
            self.misfit(&expire_after, "expire_after", &interval, item, found);
        }
        Some(Effective {
            interval: interval.value,
            timeout: timeout.value,
            expire_after: expire_after.value,
            on_failure: on_failure.value,
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
struct Chosen<'a, T> {
    value: T,
    at: Option<&'a Place>,
}

impl<'a, T: Copy> Chosen<'a, T> {
    /// None if what was written is wrong: nothing can be said about the item then.
    fn new(setting: Option<&'a At<Option<T>>>, built_in: T) -> Option<Self> {
        match setting {
            None => Some(Self { value: built_in, at: None }),
            Some(At { at, value }) => value.map(|value| Self { value, at: Some(at) }),
        }
    }
}
