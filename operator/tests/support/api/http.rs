//! Requests and answers.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Api, Kind, Place, State, Watcher, apply, has_labels};

/// A request, as far as tests ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub method: String,
    pub path: String,
    pub query: String,
    pub code: u16,
}

impl Logged {
    /// Something was, or could have been, written; the lease does not count.
    pub fn is_write(&self) -> bool {
        self.method != "GET" && !self.path.contains("/leases")
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The server as a client's transport.
pub fn service(
    api: Api,
) -> impl tower::Service<Request<Body>, Response = Answer, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    tower::service_fn(move |request: Request<Body>| {
        let api = api.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            Ok(api.answer(&head, &body))
        }
    })
}

struct Target {
    kind: Kind,
    namespace: Option<String>,
    name: Option<String>,
    status: bool,
}

impl Target {
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (plural, name, sub) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some(*name), None),
            [plural, name, sub] => (*plural, Some(*name), Some(*sub)),
            _ => return None,
        };
        Some(Self {
            kind: Kind {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: plural.to_owned(),
            },
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            status: sub == Some("status"),
        })
    }

    fn place(&self) -> Place {
        let namespace = self.namespace.clone().unwrap_or_default();
        (
            self.kind.clone(),
            namespace,
            self.name.clone().unwrap_or_default(),
        )
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| decode(value))
    })
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                out.push(u8::from_str_radix(digits, 16).unwrap());
            }
            b'+' => out.push(b' '),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap()
}

impl Api {
    fn answer(&self, head: &http::request::Parts, body: &Bytes) -> Answer {
        let (path, query) = (
            head.uri.path().to_owned(),
            head.uri.query().unwrap_or("").to_owned(),
        );
        let mut state = self.lock();
        let method = head.method.as_str().to_owned();
        let fault = state
            .faults
            .iter_mut()
            .find(|fault| fault.left > 0 && fault.method == method && path.contains(&fault.path));
        let result = match fault {
            Some(fault) => {
                fault.left -= 1;
                Err((fault.code, "told to fail".to_owned()))
            }
            None => state.handle(head, &path, &query, body),
        };
        let code = result.as_ref().map_or_else(|(code, _)| *code, |_| 200);
        state.log.push(Logged {
            method,
            path,
            query,
            code,
        });
        drop(state);
        if head.method != Method::GET {
            self.notify();
        }
        match result {
            Ok(Outcome::Value(value)) => respond(200, &value),
            Ok(Outcome::Watch(events)) => {
                let lines = stream::unfold(events, |mut events| async move {
                    let mut line = events.recv().await?.to_string();
                    line.push('\n');
                    Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line))), events))
                });
                Response::new(StreamBody::new(lines.boxed()).boxed_unsync())
            }
            Err((code, message)) => respond(code, &status(code, &message)),
        }
    }
}

fn respond(code: u16, value: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        _ => "InternalError",
    };
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

enum Outcome {
    Value(Value),
    Watch(mpsc::UnboundedReceiver<Value>),
}

type Handled = Result<Outcome, (u16, String)>;

impl State {
    fn handle(
        &mut self,
        head: &http::request::Parts,
        path: &str,
        query: &str,
        body: &Bytes,
    ) -> Handled {
        let target = Target::of(path).ok_or((404, format!("no such path {path}")))?;
        let body = || serde_json::from_slice::<Value>(body).unwrap_or_default();
        let kind_of_patch = head
            .headers
            .get("content-type")
            .and_then(|value| value.to_str().ok());
        match (head.method.as_str(), &target.name) {
            ("GET", None) if query.contains("watch=true") => Ok(self.watch(&target, query)),
            ("GET", None) => Ok(self.list(&target, query)),
            ("GET", Some(_)) => self.read(&target),
            ("POST", None) if target.kind.plural == "tokenreviews" => {
                Ok(Outcome::Value(self.review_token(&body())))
            }
            ("POST", None) if target.kind.plural == "subjectaccessreviews" => {
                Ok(Outcome::Value(self.review_access(&body())))
            }
            ("POST", None) => {
                let object = body();
                let mut place = target.place();
                object["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .clone_into(&mut place.2);
                if self.objects.contains_key(&place) {
                    return Err((409, "it exists".to_owned()));
                }
                self.put(&place, object);
                Ok(Outcome::Value(self.objects[&place].value.clone()))
            }
            ("PUT", Some(_)) => self.update(&target, body()),
            ("DELETE", Some(_)) => self.remove(&target, &body()),
            ("PATCH", Some(_)) => match kind_of_patch {
                Some("application/apply-patch+yaml") => self.apply(&target, query, &body()),
                Some("application/merge-patch+json") => self.merge(&target, &body()),
                other => Err((415, format!("{other:?}"))),
            },
            (method, _) => Err((405, method.to_owned())),
        }
    }

    fn read(&self, target: &Target) -> Handled {
        let place = target.place();
        let stored = self
            .objects
            .get(&place)
            .ok_or((404, format!("{place:?} not found")))?;
        Ok(Outcome::Value(stored.value.clone()))
    }

    fn list(&self, target: &Target, query: &str) -> Outcome {
        let labels = parameter(query, "labelSelector").unwrap_or_default();
        let items: Vec<Value> = self
            .objects
            .iter()
            .filter(|((kind, namespace, _), stored)| {
                *kind == target.kind
                    && target.namespace.as_ref().is_none_or(|own| own == namespace)
                    && has_labels(&stored.value, &labels)
            })
            .map(|(_, stored)| {
                let mut item = stored.value.clone();
                // As a real one does.
                item.as_object_mut().unwrap().remove("kind");
                item.as_object_mut().unwrap().remove("apiVersion");
                item
            })
            .collect();
        let api = match target.kind.group.as_str() {
            "" => target.kind.version.clone(),
            group => format!("{group}/{}", target.kind.version),
        };
        let version = self.version.to_string();
        Outcome::Value(json!({
            "apiVersion": api, "kind": "List", "metadata": { "resourceVersion": version },
            "items": items,
        }))
    }

    fn watch(&mut self, target: &Target, query: &str) -> Outcome {
        let since: u64 = parameter(query, "resourceVersion")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let (events, receiver) = mpsc::unbounded_channel();
        let watcher = Watcher {
            kind: target.kind.clone(),
            namespace: target.namespace.clone(),
            labels: parameter(query, "labelSelector").unwrap_or_default(),
            events,
        };
        for (version, place, type_, value) in &self.history {
            if *version > since && watcher.wants(place, value) {
                watcher
                    .events
                    .send(json!({ "type": type_, "object": value }))
                    .ok();
            }
        }
        self.watchers.push(watcher);
        Outcome::Watch(receiver)
    }

    fn update(&mut self, target: &Target, object: Value) -> Handled {
        let place = target.place();
        let stored = self
            .objects
            .get(&place)
            .ok_or((404, "not found".to_owned()))?;
        let version = &object["metadata"]["resourceVersion"];
        if *version != stored.value["metadata"]["resourceVersion"] {
            return Err((409, "the object has been modified".to_owned()));
        }
        self.replace(&place, object);
        self.read(target)
    }

    fn remove(&mut self, target: &Target, options: &Value) -> Handled {
        let place = target.place();
        let stored = self
            .objects
            .get(&place)
            .ok_or((404, "not found".to_owned()))?;
        let uid = &options["preconditions"]["uid"];
        if uid.is_string() && *uid != stored.value["metadata"]["uid"] {
            return Err((409, "another uid".to_owned()));
        }
        let value = stored.value.clone();
        self.delete(&place);
        Ok(Outcome::Value(value))
    }

    fn merge(&mut self, target: &Target, patch: &Value) -> Handled {
        fn merge(live: &mut Value, patch: &Value) {
            match (live, patch) {
                (Value::Object(live), Value::Object(patch)) => {
                    for (field, value) in patch {
                        if value.is_null() {
                            live.remove(field);
                        } else {
                            merge(live.entry(field.clone()).or_insert(json!({})), value);
                        }
                    }
                }
                (live, patch) => *live = patch.clone(),
            }
        }
        let place = target.place();
        let stored = self
            .objects
            .get(&place)
            .ok_or((404, "not found".to_owned()))?;
        let version = &patch["metadata"]["resourceVersion"];
        if version.is_string() && *version != stored.value["metadata"]["resourceVersion"] {
            return Err((409, "the object has been modified".to_owned()));
        }
        let mut value = stored.value.clone();
        merge(&mut value, patch);
        let after = value.clone();
        self.replace(&place, value);
        Ok(Outcome::Value(
            self.objects
                .get(&place)
                .map_or(after, |stored| stored.value.clone()),
        ))
    }

    fn apply(&mut self, target: &Target, query: &str, object: &Value) -> Handled {
        let place = target.place();
        let manager = parameter(query, "fieldManager").ok_or((400, "no manager".to_owned()))?;
        let manager = format!("{manager} {}", target.status);
        let uid = &object["metadata"]["uid"];
        let Some(stored) = self.objects.get(&place) else {
            if target.status {
                return Err((404, "not found".to_owned()));
            }
            if uid.is_string() {
                return Err((409, "another uid".to_owned()));
            }
            self.put(&place, object.clone());
            let stored = self.objects.get_mut(&place).unwrap();
            stored.applied.insert(manager, object.clone());
            return self.read(target);
        };
        if uid.is_string() && *uid != stored.value["metadata"]["uid"] {
            return Err((409, "another uid".to_owned()));
        }
        // A status changes nothing else, and nothing else changes the status.
        let part = |object: &Value| {
            if target.status {
                json!({ "status": object["status"] })
            } else {
                let mut rest = object.clone();
                rest.as_object_mut().unwrap().remove("status");
                rest
            }
        };
        let now = part(object);
        let before = stored.applied.get(&manager).cloned().unwrap_or_default();
        let others: Vec<&Value> = stored
            .applied
            .iter()
            .filter(|(other, _)| **other != manager)
            .map(|(_, applied)| applied)
            .collect();
        let mut value = stored.value.clone();
        apply::apply(&mut value, &before, &now, &others);
        self.replace(&place, value);
        if let Some(stored) = self.objects.get_mut(&place) {
            stored.applied.insert(manager, now);
        }
        self.read(target)
    }
}
