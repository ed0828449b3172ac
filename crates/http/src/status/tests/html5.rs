//! A page as a browser's parser sees it: its elements, and whatever the parser complains about.

use std::{borrow::Cow, cell::RefCell, collections::BTreeSet, rc::Rc};

use html5ever::{
    Attribute, ExpandedName, ParseOpts, QualName, parse_document,
    tendril::{StrTendril, TendrilSink as _},
    tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink},
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// What the parser complained about.
    pub(super) errors: Vec<String>,
    /// `element` and `element attribute`, each once.
    pub(super) names: BTreeSet<String>,
    /// The values of `href` and `action`.
    pub(super) links: BTreeSet<String>,
}

/// Parses a whole page.
pub(super) fn parse(page: &str) -> Parsed {
    parse_document(Sink::default(), ParseOpts::default()).one(page)
}

/// Takes notes and builds no tree: the parser itself knows what is open.
#[derive(Default)]
struct Sink(RefCell<Parsed>);

impl Sink {
    fn attributes(&self, element: &str, attributes: Vec<Attribute>) {
        let mut parsed = self.0.borrow_mut();
        for Attribute { name, value } in attributes {
            parsed.names.insert(format!("{element} {}", &*name.local));
            if matches!(&*name.local, "href" | "action") {
                parsed.links.insert(value.to_string());
            }
        }
    }
}

fn nothing() -> Rc<QualName> {
    Rc::new(QualName::new(None, "".into(), "".into()))
}

impl TreeSink for Sink {
    type Handle = Rc<QualName>;
    type Output = Parsed;
    type ElemName<'a> = ExpandedName<'a>;

    fn finish(self) -> Parsed {
        self.0.into_inner()
    }

    fn parse_error(&self, message: Cow<'static, str>) {
        self.0.borrow_mut().errors.push(message.into_owned());
    }

    fn get_document(&self) -> Rc<QualName> {
        nothing()
    }

    fn elem_name<'a>(&'a self, target: &'a Rc<QualName>) -> ExpandedName<'a> {
        target.expanded()
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, _: ElementFlags) -> Rc<QualName> {
        self.0.borrow_mut().names.insert(name.local.to_string());
        self.attributes(&name.local, attributes);
        Rc::new(name)
    }

    fn create_comment(&self, text: StrTendril) -> Rc<QualName> {
        self.0.borrow_mut().errors.push(format!("a comment: {text}"));
        nothing()
    }

    fn create_pi(&self, target: StrTendril, _: StrTendril) -> Rc<QualName> {
        self.0.borrow_mut().errors.push(format!("a processing instruction: {target}"));
        nothing()
    }

    fn add_attrs_if_missing(&self, target: &Rc<QualName>, attributes: Vec<Attribute>) {
        self.attributes(&target.local, attributes);
    }

    fn set_quirks_mode(&self, mode: QuirksMode) {
        if mode != QuirksMode::NoQuirks {
            self.0.borrow_mut().errors.push(format!("{mode:?}"));
        }
    }

    fn get_template_contents(&self, target: &Rc<QualName>) -> Rc<QualName> {
        Rc::clone(target)
    }

    fn same_node(&self, x: &Rc<QualName>, y: &Rc<QualName>) -> bool {
        Rc::ptr_eq(x, y)
    }

    fn append(&self, _: &Rc<QualName>, _: NodeOrText<Rc<QualName>>) {}
    fn append_before_sibling(&self, _: &Rc<QualName>, _: NodeOrText<Rc<QualName>>) {}
    fn append_based_on_parent_node(&self, _: &Rc<QualName>, _: &Rc<QualName>, _: NodeOrText<Rc<QualName>>) {}
    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}
    fn remove_from_parent(&self, _: &Rc<QualName>) {}
    fn reparent_children(&self, _: &Rc<QualName>, _: &Rc<QualName>) {}
}

#[test]
fn the_parser_complains_about_what_is_wrong_and_sees_what_was_smuggled_in() {
    let page = |body: &str| {
        parse(&format!(
            "<!DOCTYPE html><html lang=\"en\"><head><title>x</title></head><body>{body}</body></html>"
        ))
    };
    assert_eq!(page("<p>fine</p>").errors, [] as [&str; 0]);
    for wrong in
        ["<p><div></div></p>", "<table><p></table>", "</b>", "<a href=\"x\"y=\"z\">", "<b>", "<!-- -->"]
    {
        assert!(!page(wrong).errors.is_empty(), "{wrong}");
    }
    let smuggled = page("<a onclick=\"x\" href=\"javascript:x\"><script></script></a>");
    assert!(smuggled.names.contains("script") && smuggled.names.contains("a onclick"));
    assert!(smuggled.links.contains("javascript:x"));
}
