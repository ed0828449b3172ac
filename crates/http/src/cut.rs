//! What a request asks to see of the fleet: `?target=…&group=…&query=…` checked against what there is.

use std::collections::BTreeSet;

use fleet_collector::{Cut, snapshot::Names};
use hyper::StatusCode;

/// Names that a message offers in place of a wrong one.
const OFFERED: usize = 3;

/// Names that a wrong one is compared with, which takes some milliseconds.
const COMPARED: usize = 2000;

/// More parameters than this are not looked at; the length of a request's head bounds them anyway.
const MAX_PARAMETERS: usize = 1024;

/// What may narrow a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parameter {
    Target,
    Group,
    Query,
}

impl Parameter {
    /// All there are.
    pub(crate) const ALL: &[Self] = &[Self::Target, Self::Group, Self::Query];

    fn name(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Group => "group",
            Self::Query => "query",
        }
    }

    fn of(self, cut: &mut Cut) -> &mut BTreeSet<String> {
        match self {
            Self::Target => &mut cut.targets,
            Self::Group => &mut cut.groups,
            Self::Query => &mut cut.queries,
        }
    }

    fn is_known(self, name: &str, names: &Names) -> bool {
        match self {
            Self::Target => names.targets.contains_key(name),
            Self::Group => names.groups.contains(name),
            Self::Query => names.queries.contains(name),
        }
    }

    fn near(self, name: &str, names: &Names) -> Vec<String> {
        match self {
            Self::Target => near(name, names.targets.keys().map(AsRef::as_ref)),
            Self::Group => near(name, names.groups.iter().map(AsRef::as_ref)),
            Self::Query => near(name, names.queries.iter().map(AsRef::as_ref)),
        }
    }
}

/// Why a request cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// For a person: one line.
    pub(crate) message: String,
}

/// Adds what a query string asks for to a cut. A parameter that is not one of `allowed` is refused: ignored, it would
/// give out the whole fleet to who has mistyped a name.
pub(crate) fn narrow(mut cut: Cut, query: &str, allowed: &[Parameter]) -> Result<Cut, Problem> {
    for (key, value) in form_urlencoded::parse(query.as_bytes()).take(MAX_PARAMETERS) {
        let Some(parameter) = allowed.iter().find(|parameter| parameter.name() == key) else {
            let known: Vec<_> = allowed.iter().map(|parameter| parameter.name()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("there is no parameter `{}` here; there are: {known}", shown(&key));
            return Err(Problem { status: StatusCode::BAD_REQUEST, message });
        };
        parameter.of(&mut cut).insert(value.into_owned());
    }
    Ok(cut)
}

/// Checks that all that a cut names is there, and anything of it at all: an empty page would look like good news.
pub(crate) fn check(cut: &Cut, names: &Names) -> Result<(), Problem> {
    let not_found = |message| Err(Problem { status: StatusCode::NOT_FOUND, message });
    for parameter in Parameter::ALL {
        let mut copy = cut.clone();
        let asked = parameter.of(&mut copy);
        if let Some(unknown) = asked.iter().find(|name| !parameter.is_known(name, names)) {
            let kind = parameter.name();
            let offered = match &parameter.near(unknown, names)[..] {
                [] => String::new(),
                near => format!("; did you mean {}?", near.join(", ")),
            };
            return not_found(format!("there is no {kind} `{}`{offered}", shown(unknown)));
        }
    }
    let is_target =
        |name: &String| names.targets.get(name.as_str()).is_some_and(|group| cut.has_target(name, group));
    if !cut.targets.is_empty() && !cut.targets.iter().any(is_target) {
        return not_found("none of these targets is in one of these groups".to_owned());
    }
    Ok(())
}

/// What somebody else wrote, as a message repeats it.
fn shown(text: &str) -> String {
    const MOST: usize = 128;
    text.chars().take(MOST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The most similar names, the best first.
fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    // As long as it may be a name: what is longer is none, and comparing it would take long.
    if name.len() > 128 {
        return Vec::new();
    }
    let name = name.to_lowercase();
    let mut near: Vec<_> = names
        .take(COMPARED)
        .map(|known| (strsim::jaro_winkler(&name, &known.to_lowercase()), known))
        .filter(|(similarity, _)| *similarity > 0.8)
        .collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    near.into_iter().take(OFFERED).map(|(_, known)| known.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        for (target, group) in
            [("orders-1", "prod"), ("orders-2", "prod"), ("billing", "test"), ("[::1]:3306", "test")]
        {
            names.targets.insert(target.into(), group.into());
            names.groups.insert(group.into());
        }
        names.queries.insert("process_count".into());
        names
    }

    fn asked(query: &str) -> Result<Cut, Problem> {
        let cut = narrow(Cut::default(), query, Parameter::ALL)?;
        check(&cut, &names())?;
        Ok(cut)
    }

    #[test]
    fn each_parameter_narrows_and_each_name_adds() {
        #[track_caller]
        fn check(query: &str, targets: &[&str], groups: &[&str], queries: &[&str]) {
            let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let expected = Cut { targets: set(targets), groups: set(groups), queries: set(queries) };
            assert_eq!(asked(query), Ok(expected), "{query}");
        }
        check("", &[], &[], &[]);
        check("&", &[], &[], &[]);
        check("target=orders-1", &["orders-1"], &[], &[]);
        check("target=orders-2&target=orders-1&target=orders-1", &["orders-1", "orders-2"], &[], &[]);
        check("target=%5B%3A%3A1%5D%3A3306", &["[::1]:3306"], &[], &[]);
        check("group=prod&query=process_count", &[], &["prod"], &["process_count"]);
        check("target=orders-1&target=billing&group=prod", &["billing", "orders-1"], &["prod"], &[]);
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        #[track_caller]
        fn check(query: &str, status: u16, message: &str) {
            let problem = asked(query).unwrap_err();
            assert_eq!((problem.status.as_u16(), problem.message.as_str()), (status, message), "{query}");
        }
        check("target=order-1", 404, "there is no target `order-1`; did you mean orders-1, orders-2?");
        check("target=ORDERS-1", 404, "there is no target `ORDERS-1`; did you mean orders-1, orders-2?");
        check("target=nothing.like.it", 404, "there is no target `nothing.like.it`");
        check("target=", 404, "there is no target ``");
        check("target=%00%0a", 404, "there is no target `\u{fffd}\u{fffd}`");
        check("group=production", 404, "there is no group `production`; did you mean prod?");
        check("query=proces_count", 404, "there is no query `proces_count`; did you mean process_count?");
        check(
            "targets=orders-1",
            400,
            "there is no parameter `targets` here; there are: target, group, query",
        );
        check("target=orders-1&group=test", 404, "none of these targets is in one of these groups");
        let long = "x".repeat(5000);
        check(&format!("target={long}"), 404, &format!("there is no target `{}`", "x".repeat(128)));
    }

    #[test]
    fn a_page_without_parameters_says_so() {
        let problem = narrow(Cut::default(), "a=b", &[]).unwrap_err();
        assert_eq!(problem.message, "there is no parameter `a` here; there are: none");
    }
}
