//! Which items a person means who wants to try a query: those of its name, of some targets, of some groups.

use std::{sync::Arc, time::Duration};

use fleet_collector::{
    query::{Query, ResultLimits},
    target::Target,
};

use super::{
    Config,
    field::nearest,
    glob,
    items::Parts,
    queries::CheckedQuery,
    settings::Layers,
    show::{Unknown, find, reaches},
    targets::Member,
};

const PAUSED: &str = "this target is paused";

/// What was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    /// A query of the configuration; without it the statement is one that is in no file.
    pub(crate) query: Option<&'a str>,
    /// Names of targets, or patterns of them.
    pub(crate) targets: &'a [String],
    /// Names of groups.
    pub(crate) groups: &'a [String],
}

/// What that means in this fleet.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The query, where one was named.
    pub(crate) query: Option<Arc<Query>>,
    /// Where to try it: at least one target, in the order of the file.
    pub(crate) candidates: Vec<Candidate>,
    /// Targets that were left out since they are paused.
    pub(crate) n_paused: usize,
}

/// A target to try a query on, with the limits that hold for it there.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) target: Arc<Target>,
    pub(crate) timeout: Duration,
    pub(crate) limits: ResultLimits,
    /// Why the exporter would not run the query there, if so.
    pub(crate) note: Option<&'static str>,
}

impl Config {
    /// The items that are meant. A target that was named is taken even where the exporter would not run the query on
    /// it; of groups, and where nothing is said, those that are paused are left out, and where nothing is said those
    /// too that the query does not run on.
    pub(crate) fn select(&self, wanted: Wanted<'_>) -> Result<Selection, Unknown> {
        let Parts { fleet, queries, .. } = &self.parts;
        let query = wanted
            .query
            .map(|name| find("query", name, queries.iter().map(|query| (query.name.value.as_str(), query))));
        let query = query.transpose()?;
        let groups = wanted.groups.iter().map(|name| {
            let names = fleet.groups.iter().enumerate().map(|(n, group)| (&*group.name.value, n));
            find("group", name, names)
        });
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        for pattern in wanted.targets {
            self.fits_some(pattern)?;
        }
        let everywhere = groups.is_empty() && wanted.targets.is_empty();
        // A statement that nobody has thought about yet does not go to a whole fleet by omission.
        if query.is_none() && everywhere && fleet.members.len() > 1 {
            return Err(Unknown(
                "say where: --target NAME or --group NAME, each as often as needed".to_owned(),
            ));
        }
        let (mut candidates, mut n_paused) = (Vec::new(), 0);
        for member in &fleet.members {
            let named = wanted.targets.iter().any(|pattern| glob::fits(pattern, &member.target.name));
            let candidate = self.candidate(query, member);
            let runs_there = candidate.note.is_none_or(|note| note == PAUSED);
            let meant = named || groups.contains(&member.group) || (everywhere && runs_there);
            if !meant {
                continue;
            }
            if member.paused && !named {
                n_paused += 1;
            } else {
                candidates.push(candidate);
            }
        }
        if candidates.is_empty() {
            return Err(Unknown(match n_paused {
                0 => "there is no target to try it on; name one with --target".to_owned(),
                _ => "the targets are paused; name one with --target to try it there all the same".to_owned(),
            }));
        }
        Ok(Selection { query: query.and_then(|query| query.query.clone()), candidates, n_paused })
    }

    fn fits_some(&self, pattern: &str) -> Result<(), Unknown> {
        let names = || self.parts.fleet.members.iter().map(|member| &*member.target.name);
        if names().any(|name| glob::fits(pattern, name)) {
            return Ok(());
        }
        if !glob::is_pattern(pattern) {
            return find("target", pattern, names().map(|name| (name, ())));
        }
        let help = nearest(&pattern.replace(['*', '?'], ""), names());
        let help = help.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        Err(Unknown(format!("no target is called `{pattern}`{help}")))
    }

    fn candidate(&self, query: Option<&CheckedQuery>, member: &Member) -> Candidate {
        let layers =
            query.map_or_else(|| self.layers_without_query(member), |q| self.parts.layers(q, member));
        let note = match query {
            Some(query) if !reaches(&self.parts, query, member) => {
                Some("the query does not reach this target")
            }
            Some(_) if !layers.enabled().value => Some("the query is disabled on this target"),
            _ if member.paused => Some(PAUSED),
            _ => None,
        };
        Candidate {
            target: Arc::clone(&member.target),
            timeout: layers.timeout(),
            limits: layers.limits(),
            note,
        }
    }

    /// What holds for a statement that has no query's settings.
    fn layers_without_query<'a>(&'a self, member: &'a Member) -> Layers<'a> {
        let Parts { fleet, defaults, limits, .. } = &self.parts;
        let group = &fleet.groups[member.group];
        Layers([
            None,
            None,
            None,
            Some(&member.entry.settings),
            Some(&group.settings),
            Some(defaults),
            Some(limits),
        ])
    }
}
