//! Paths and parameters. Pure: a request line in, what is asked for out.

use http::{Method, StatusCode};
use weir_core::object::Kind;
use weir_core::ops::{By, MOST_ITEMS, USUAL_ITEMS, parse_filter};
use weir_core::redrive::Filter;

use crate::guard::{Access, Verb};
use crate::refusal::Refusal;

const HELP: &str = "there is GET /v1/objects, and below /v1/objects/<kind>/<name>: GET depth, messages, \
    dead-letters, dead-letters/<id>, summary, export, redrives, redrives/<id>, groups; POST redrives, \
    purge, import, groups/<group>/release, groups/<group>/redrive; DELETE redrives/<id>";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Every object.
    Objects { namespace: Option<String> },
    /// Something of one object.
    Object {
        kind: Kind,
        namespace: Option<String>,
        name: String,
        what: Box<What>,
    },
}

/// What of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Description,
    Depth,
    Messages {
        after: Option<u64>,
        limit: usize,
    },
    Letters {
        after: Option<u64>,
        limit: usize,
        filter: Filter,
    },
    Letter {
        id: String,
    },
    Summary {
        by: By,
        after: Option<u64>,
        filter: Filter,
    },
    Export {
        after: Option<u64>,
        filter: Filter,
    },
    Groups {
        after: Option<String>,
        limit: usize,
    },
    ReleaseGroup {
        group: String,
    },
    RedriveGroup {
        group: String,
    },
    Redrives,
    Redrive {
        id: String,
    },
    StartRedrive,
    CancelRedrive {
        id: String,
    },
    Purge,
    Import,
}

impl What {
    /// What it takes: a verb on a subresource.
    fn needs(&self) -> (Verb, Option<&'static str>) {
        const LETTERS: Option<&str> = Some("deadletters");
        match self {
            Self::Description | Self::Depth => (Verb::Get, None),
            Self::Messages { .. } => (Verb::Get, Some("messages")),
            Self::Letters { .. }
            | Self::Letter { .. }
            | Self::Summary { .. }
            | Self::Export { .. }
            | Self::Groups { .. }
            | Self::Redrives
            | Self::Redrive { .. } => (Verb::Get, LETTERS),
            Self::StartRedrive
            | Self::CancelRedrive { .. }
            | Self::ReleaseGroup { .. }
            | Self::RedriveGroup { .. } => (Verb::Redrive, LETTERS),
            Self::Purge => (Verb::Delete, LETTERS),
            Self::Import => (Verb::Create, LETTERS),
        }
    }

    /// What whoever asks must be allowed.
    pub(crate) fn access(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Access {
        let (verb, subresource) = self.needs();
        Access {
            verb,
            kind,
            subresource,
            namespace: namespace.map(str::to_owned),
            name: Some(name.to_owned()),
        }
    }
}

/// Reads a request line.
pub(crate) fn parse(method: &Method, path: &str, query: &str) -> Result<Route, Refusal> {
    let parts: Vec<String> = path
        .trim_start_matches('/')
        .split('/')
        .map(decoded)
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let ["v1", "objects", rest @ ..] = parts.as_slice() else {
        return Err(Refusal::not_found(HELP));
    };
    let mut query = Query::parse(query)?;
    let namespace = query.take("namespace");
    let route = match rest {
        [] => {
            only(method, &[Method::GET])?;
            Route::Objects { namespace }
        }
        [_] => {
            return Err(Refusal::not_found(
                "name an object: /v1/objects/<kind>/<name>",
            ));
        }
        [kind, name, rest @ ..] => {
            let kinds = Kind::ALL.map(Kind::lower).join(", ");
            let found = Kind::parse(kind);
            let kind = found.ok_or_else(|| {
                Refusal::not_found(format!("there is no kind {kind:?}; kinds: {kinds}"))
            })?;
            Route::Object {
                kind,
                namespace,
                name: (*name).to_owned(),
                what: Box::new(what(method, rest, &mut query)?),
            }
        }
    };
    query.nothing_left()?;
    Ok(route)
}

fn what(method: &Method, rest: &[&str], query: &mut Query) -> Result<What, Refusal> {
    let get = |what| only(method, &[Method::GET]).map(|()| what);
    let post = |what| only(method, &[Method::POST]).map(|()| what);
    match rest {
        [] => get(What::Description),
        ["depth"] => get(What::Depth),
        ["messages"] => get(What::Messages {
            after: query.number("after")?,
            limit: query.limit()?,
        }),
        ["dead-letters"] => get(What::Letters {
            after: query.number("after")?,
            limit: query.limit()?,
            filter: query.filter()?,
        }),
        ["dead-letters", id] => get(What::Letter {
            id: (*id).to_owned(),
        }),
        ["summary"] => {
            let by = query.take("by").unwrap_or_else(|| "reason".to_owned());
            let by = By::parse(&by).ok_or_else(|| {
                Refusal::bad_request(format!("by: {by:?} is not reason, status or type"))
            })?;
            get(What::Summary {
                by,
                after: query.number("after")?,
                filter: query.filter()?,
            })
        }
        ["export"] => get(What::Export {
            after: query.number("after")?,
            filter: query.filter()?,
        }),
        ["groups"] => get(What::Groups {
            after: query.take("afterGroup"),
            limit: query.limit()?,
        }),
        ["groups", group, "release"] => post(What::ReleaseGroup {
            group: (*group).to_owned(),
        }),
        ["groups", group, "redrive"] => post(What::RedriveGroup {
            group: (*group).to_owned(),
        }),
        ["redrives"] if method == Method::POST => Ok(What::StartRedrive),
        ["redrives"] => only(method, &[Method::GET, Method::POST]).map(|()| What::Redrives),
        ["redrives", id] => {
            only(method, &[Method::GET, Method::DELETE])?;
            let id = (*id).to_owned();
            Ok(if method == Method::GET {
                What::Redrive { id }
            } else {
                What::CancelRedrive { id }
            })
        }
        ["purge"] => post(What::Purge),
        ["import"] => post(What::Import),
        _ => Err(Refusal::not_found(HELP)),
    }
}

fn only(method: &Method, allowed: &[Method]) -> Result<(), Refusal> {
    if allowed.contains(method) {
        return Ok(());
    }
    let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    Err(Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        format!("use {} here", allowed.join(" or ")),
    ))
}

/// Parameters that nobody has asked for yet.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut found: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name);
            if found.iter().any(|(known, _)| *known == name) {
                let message = format!("{name} is there more than once");
                return Err(Refusal::bad_request(message));
            }
            found.push((name, decoded(&value.replace('+', " "))));
        }
        Ok(Self(found))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| Refusal::bad_request(format!("{name}: {text:?} is not a number")))
    }

    fn limit(&mut self) -> Result<usize, Refusal> {
        match self.number("limit")? {
            None => Ok(USUAL_ITEMS),
            Some(limit @ 1..) if limit <= MOST_ITEMS as u64 => Ok(limit as usize),
            Some(other) => Err(Refusal::bad_request(format!(
                "limit: {other} is not 1 to {MOST_ITEMS}; ask for pages with `after`"
            ))),
        }
    }

    fn filter(&mut self) -> Result<Filter, Refusal> {
        parse_filter(self.take("where").as_deref()).map_err(Refusal::bad_request)
    }

    /// A parameter that is misspelt must not be taken for none.
    fn nothing_left(&self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::bad_request(format!(
                "there is no parameter {name:?} here"
            ))),
        }
    }
}

/// Text as its sender meant it; what is no UTF-8 finds nothing.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let decoded = (first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Result<Route, Refusal> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        parse(&Method::GET, path, query)
    }

    fn what_of(target: &str) -> What {
        match get(target).unwrap() {
            Route::Object { what, .. } => *what,
            Route::Objects { .. } => panic!("no object"),
        }
    }

    #[test]
    fn a_group_is_named_by_any_text() {
        let post = |path: &str| match parse(&Method::POST, path, "") {
            Ok(Route::Object { what, .. }) => *what,
            other => panic!("{other:?}"),
        };
        let group = |text: &str| text.to_owned();
        assert_eq!(
            post("/v1/objects/fifo/a/groups/acc%2F7%20*/release"),
            What::ReleaseGroup {
                group: group("acc/7 *")
            }
        );
        assert_eq!(
            post("/v1/objects/fifo/a/groups//redrive"),
            What::RedriveGroup { group: group("") }
        );
        assert_eq!(
            what_of("/v1/objects/fifo/a/groups?afterGroup=b&limit=5"),
            What::Groups {
                after: Some(group("b")),
                limit: 5
            }
        );
        assert!(get("/v1/objects/fifo/a/groups/b/release").is_err());
    }

    #[test]
    fn paths_are_read_with_their_parameters() {
        assert_eq!(
            get("/v1/objects").unwrap(),
            Route::Objects { namespace: None }
        );
        let route =
            get("/v1/objects/qc/in/dead-letters?limit=3&after=9&namespace=shop&where=status%3D5xx");
        let expected = Route::Object {
            kind: Kind::QueueConsumer,
            namespace: Some("shop".to_owned()),
            name: "in".to_owned(),
            what: Box::new(What::Letters {
                after: Some(9),
                limit: 3,
                filter: "status=5xx".parse().unwrap(),
            }),
        };
        assert_eq!(route.unwrap(), expected);
        assert_eq!(
            what_of("/v1/objects/webhook/a/dead-letters/x%2Fy"),
            What::Letter {
                id: "x/y".to_owned()
            }
        );
        assert!(matches!(
            what_of("/v1/objects/webhook/a/summary"),
            What::Summary { by: By::Reason, .. }
        ));
        assert!(matches!(
            what_of("/v1/objects/webhook/a/summary?by=type"),
            What::Summary { by: By::Type, .. }
        ));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_write() {
        for (target, status, wanted) in [
            ("/", 404, "GET /v1/objects"),
            ("/v2/objects", 404, "GET /v1/objects"),
            ("/v1/objects/webhook", 404, "name an object"),
            ("/v1/objects/topic/a", 404, "kinds: webhook"),
            ("/v1/objects/webhook/a/nothing", 404, "dead-letters/<id>"),
            ("/v1/objects/webhook/a/purge", 405, "use POST"),
            (
                "/v1/objects/webhook/a/messages?after=x",
                400,
                "not a number",
            ),
            ("/v1/objects/webhook/a/messages?limit=0", 400, "1 to 200"),
            ("/v1/objects/webhook/a/messages?limit=201", 400, "1 to 200"),
            (
                "/v1/objects/webhook/a/messages?where=x",
                400,
                "no parameter \"where\"",
            ),
            (
                "/v1/objects/webhook/a/dead-letters?wehre=x",
                400,
                "no parameter \"wehre\"",
            ),
            (
                "/v1/objects/webhook/a/dead-letters?where=x",
                400,
                "no condition",
            ),
            (
                "/v1/objects/webhook/a/dead-letters?limit=1&limit=2",
                400,
                "more than once",
            ),
            (
                "/v1/objects/webhook/a/summary?by=body",
                400,
                "reason, status or type",
            ),
        ] {
            let refusal = get(target).unwrap_err();
            assert_eq!(refusal.status.as_u16(), status, "{target}");
            assert!(
                refusal.message.contains(wanted),
                "{target}: {}",
                refusal.message
            );
        }
    }

    #[test]
    fn each_change_needs_a_right_of_its_own() {
        let needs = |method: Method, path: &str| {
            let path = format!("/v1/objects/webhook/a/{path}");
            let route = parse(&method, path.trim_end_matches('/'), "").unwrap();
            let Route::Object {
                what, kind, name, ..
            } = route
            else {
                panic!("no object")
            };
            let access = what.access(kind, Some("shop"), &name);
            format!(
                "{} {}",
                access.verb.as_str(),
                access.subresource.unwrap_or("-")
            )
        };
        for (method, path, wanted) in [
            (Method::GET, "", "get -"),
            (Method::GET, "depth", "get -"),
            (Method::GET, "messages", "get messages"),
            (Method::GET, "dead-letters", "get deadletters"),
            (Method::GET, "dead-letters/x", "get deadletters"),
            (Method::GET, "summary", "get deadletters"),
            (Method::GET, "export", "get deadletters"),
            (Method::GET, "redrives", "get deadletters"),
            (Method::GET, "redrives/x", "get deadletters"),
            (Method::POST, "redrives", "redrive deadletters"),
            (Method::DELETE, "redrives/x", "redrive deadletters"),
            (Method::POST, "purge", "delete deadletters"),
            (Method::POST, "import", "create deadletters"),
        ] {
            assert_eq!(needs(method.clone(), path), wanted, "{method} {path}");
        }
    }
}
