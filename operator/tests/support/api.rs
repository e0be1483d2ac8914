//! An API server in this process, as far as the operator needs one: reads, lists, watches with
//! history, server-side apply, merge patches, preconditions, finalizers, garbage collection, and a
//! Deployment controller whose pods are ready at once. It can be told to fail.

mod apply;
mod http;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

pub use http::Logged;

/// A collection: group, version and plural.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub plural: String,
}

/// Where an object is.
pub type Place = (Kind, String, String);

struct Stored {
    value: Value,
    /// What each field manager applied last.
    applied: BTreeMap<String, Value>,
}

struct Watcher {
    kind: Kind,
    namespace: Option<String>,
    labels: String,
    events: mpsc::UnboundedSender<Value>,
}

/// An answer that is not the right one.
struct Fault {
    method: String,
    path: String,
    code: u16,
    left: usize,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Place, Stored>,
    version: u64,
    uids: u64,
    history: Vec<(u64, Place, &'static str, Value)>,
    watchers: Vec<Watcher>,
    log: Vec<Logged>,
    faults: Vec<Fault>,
    users: Vec<User>,
}

/// Somebody with a token.
#[derive(Clone)]
pub struct User {
    pub token: String,
    pub name: String,
    /// What the token is good for beside the API server itself.
    pub audience: Option<String>,
    /// `get webhooks/deadletters shop`, `* * shop`.
    pub rights: Vec<String>,
}

/// The server. Clones share it.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Api {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A client of this server.
    pub fn client(&self) -> Client {
        Client::new(http::service(self.clone()), "default")
    }

    /// A client of this server behind a fence.
    pub fn fenced(&self, fence: &weir_operator::fence::Fence) -> Client {
        use tower::Layer as _;
        let layer = weir_operator::fence::FenceLayer(fence.clone());
        Client::new(layer.layer(http::service(self.clone())), "default")
    }

    /// Creates or replaces an object as a user would, and says what its UID is.
    pub fn put(&self, object: &Value) -> String {
        let place = place_of(object);
        let uid = self.lock().put(&place, object.clone());
        self.notify();
        uid
    }

    /// Changes an object, if it is there.
    pub fn edit(&self, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.lock();
        let place = state
            .find(plural, name)
            .unwrap_or_else(|| panic!("no {plural}/{name}"));
        let mut value = state.objects[&place].value.clone();
        change(&mut value);
        state.replace(&place, value);
        drop(state);
        self.notify();
    }

    /// Deletes an object as a user would.
    pub fn delete(&self, plural: &str, name: &str) {
        let mut state = self.lock();
        let place = state
            .find(plural, name)
            .unwrap_or_else(|| panic!("no {plural}/{name}"));
        state.delete(&place);
        drop(state);
        self.notify();
    }

    /// An object.
    pub fn get(&self, plural: &str, name: &str) -> Option<Value> {
        let state = self.lock();
        Some(state.objects[&state.find(plural, name)?].value.clone())
    }

    /// All objects of a kind.
    pub fn all(&self, plural: &str) -> Vec<Value> {
        let state = self.lock();
        let of_kind = state
            .objects
            .iter()
            .filter(|((kind, ..), _)| kind.plural == plural);
        of_kind.map(|(_, stored)| stored.value.clone()).collect()
    }

    /// How many objects of a kind are like this.
    pub fn count(&self, plural: &str, is: impl Fn(&Value) -> bool) -> usize {
        let state = self.lock();
        let of_kind = state
            .objects
            .iter()
            .filter(|((kind, ..), _)| kind.plural == plural);
        of_kind.filter(|(_, stored)| is(&stored.value)).count()
    }

    /// From now on there is this user.
    pub fn add_user(&self, user: User) {
        self.lock().users.push(user);
    }

    /// The requests so far.
    pub fn log(&self) -> Vec<Logged> {
        self.lock().log.clone()
    }

    /// Answers the next `times` requests of this method to paths with this part with `code`.
    pub fn fail(&self, method: &str, path: &str, code: u16, times: usize) {
        let (method, path) = (method.to_owned(), path.to_owned());
        self.lock().faults.push(Fault {
            method,
            path,
            code,
            left: times,
        });
    }

    /// Waits until something holds. `what` says what was waited for in vain.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        self.until_within(Duration::from_secs(20), what, holds)
            .await;
    }

    /// The same with a time of one's own.
    pub async fn until_within(&self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !holds(self) {
                // Also now and then without a change: not everything is seen here.
                tokio::time::timeout(Duration::from_millis(50), changed.changed())
                    .await
                    .ok();
            }
        };
        if tokio::time::timeout(limit, waiting).await.is_err() {
            let dump: Vec<String> = [
                "webhooks",
                "queueconsumers",
                "fifoconsumers",
                "messagebuses",
                "deployments",
            ]
            .iter()
            .flat_map(|plural| self.all(plural))
            .map(|object| format!("{} {}", object["metadata"], object["status"]))
            .collect();
            let log: Vec<Logged> = self.log();
            let tail = &log[log.len().saturating_sub(20)..];
            panic!("not so in time: {what}\n{}\n{tail:#?}", dump.join("\n"));
        }
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

impl State {
    /// Says who a token is.
    fn review_token(&self, review: &Value) -> Value {
        let spec = &review["spec"];
        let asked = spec["audiences"][0].as_str();
        let user = self
            .users
            .iter()
            .find(|user| spec["token"] == user.token.as_str() && user.audience.as_deref() == asked);
        let mut answer = review.clone();
        answer["status"] = match user {
            Some(user) => json!({
                "authenticated": true,
                "user": { "username": user.name, "groups": ["system:authenticated"] },
                "audiences": asked.map(|asked| vec![asked]),
            }),
            None => json!({ "authenticated": false }),
        };
        answer
    }

    /// Says what a user may.
    fn review_access(&self, review: &Value) -> Value {
        let spec = &review["spec"];
        let wanted = &spec["resourceAttributes"];
        let text = |field: &str| wanted[field].as_str().unwrap_or_default();
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            sub => format!("{}/{sub}", text("resource")),
        };
        let is = |pattern: &str, found: &str| pattern == "*" || pattern == found;
        let allowed = self.users.iter().any(|user| {
            spec["user"] == user.name.as_str()
                && text("group") == "weir.dev"
                && user.rights.iter().any(|right| {
                    let words: Vec<&str> = right.split(' ').collect();
                    is(words[0], text("verb"))
                        && is(words[1], &resource)
                        && is(words[2], text("namespace"))
                })
        });
        let mut answer = review.clone();
        answer["status"] = json!({ "allowed": allowed });
        answer
    }

    fn find(&self, plural: &str, name: &str) -> Option<Place> {
        self.objects
            .keys()
            .find(|(kind, _, n)| kind.plural == plural && n == name)
            .cloned()
    }

    fn put(&mut self, place: &Place, mut object: Value) -> String {
        if let Some(old) = self.objects.get(place) {
            for field in ["uid", "creationTimestamp", "generation", "finalizers"] {
                object["metadata"][field] = old.value["metadata"][field].clone();
            }
            object["status"] = old.value["status"].clone();
        }
        self.replace(place, object);
        let uid = &self.objects[place].value["metadata"]["uid"];
        uid.as_str().unwrap().to_owned()
    }

    /// Stores a value if it is another one: versions, generation, events, controllers.
    fn replace(&mut self, place: &Place, mut value: Value) -> bool {
        let old = self.objects.get(place).map(|stored| stored.value.clone());
        remove_nulls(&mut value);
        let meta = &mut value["metadata"];
        if let Some(old) = &old {
            meta["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        } else {
            self.uids += 1;
            meta["uid"] = json!(format!("uid-{}", self.uids));
            meta["generation"] = json!(1);
            #[expect(clippy::disallowed_methods, reason = "a server reads the clock")]
            let now = jiff::Timestamp::now();
            meta["creationTimestamp"] = json!(now.to_string());
        }
        if old.as_ref() == Some(&value) {
            return false;
        }
        if old.as_ref().is_some_and(|old| old["spec"] != value["spec"]) {
            let generation = value["metadata"]["generation"].as_i64().unwrap_or(0);
            value["metadata"]["generation"] = json!(generation + 1);
        }
        if place.0.plural == "deployments" {
            become_ready(&mut value);
        }
        self.version += 1;
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let is_new = old.is_none();
        let gone = value["metadata"]["deletionTimestamp"].is_string()
            && value["metadata"]["finalizers"]
                .as_array()
                .is_none_or(Vec::is_empty);
        if gone {
            self.objects.remove(place);
            self.event(place, "DELETED", &value);
            self.collect();
            return true;
        }
        if let Some(stored) = self.objects.get_mut(place) {
            stored.value = value.clone();
        } else {
            let stored = Stored {
                value: value.clone(),
                applied: BTreeMap::new(),
            };
            self.objects.insert(place.clone(), stored);
        }
        if place.0.plural == "deployments" {
            self.make_pod(place, &value);
        }
        self.event(place, if is_new { "ADDED" } else { "MODIFIED" }, &value);
        true
    }

    fn delete(&mut self, place: &Place) {
        let mut value = self.objects[place].value.clone();
        #[expect(clippy::disallowed_methods, reason = "a server reads the clock")]
        let now = jiff::Timestamp::now();
        if value["metadata"]["deletionTimestamp"].is_null() {
            value["metadata"]["deletionTimestamp"] = json!(now.to_string());
        }
        self.replace(place, value);
    }

    /// Removes what nobody owns any more.
    fn collect(&mut self) {
        let uids: Vec<Value> = self
            .objects
            .values()
            .map(|stored| stored.value["metadata"]["uid"].clone())
            .collect();
        let orphans: Vec<Place> = self
            .objects
            .iter()
            .filter(|(_, stored)| {
                let owners = stored.value["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| {
                    !owners.is_empty() && owners.iter().all(|owner| !uids.contains(&owner["uid"]))
                })
            })
            .map(|(place, _)| place.clone())
            .collect();
        for place in orphans {
            if self.objects.contains_key(&place) {
                self.delete(&place);
            }
        }
    }

    /// One pod stands for all of a Deployment.
    fn make_pod(&mut self, deployment: &Place, value: &Value) {
        let (_, namespace, name) = deployment;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{name}-pod"), "namespace": namespace,
                "labels": value["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [{ "uid": value["metadata"]["uid"], "name": name,
                    "apiVersion": "apps/v1", "kind": "Deployment" }],
            },
            "status": { "podIP": "10.0.0.1", "phase": "Running" },
        });
        let place = place_of(&pod);
        if !self.objects.contains_key(&place) {
            self.put(&place, pod);
        }
    }

    fn event(&mut self, place: &Place, type_: &'static str, value: &Value) {
        self.history
            .push((self.version, place.clone(), type_, value.clone()));
        self.watchers.retain(|watcher| {
            !watcher.wants(place, value)
                || watcher
                    .events
                    .send(json!({ "type": type_, "object": value }))
                    .is_ok()
        });
    }
}

impl Watcher {
    fn wants(&self, (kind, namespace, _): &Place, value: &Value) -> bool {
        *kind == self.kind
            && self.namespace.as_ref().is_none_or(|own| own == namespace)
            && has_labels(value, &self.labels)
    }
}

fn become_ready(deployment: &mut Value) {
    let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    if deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "never" {
        let waiting =
            json!({ "observedGeneration": deployment["metadata"]["generation"], "replicas": 1 });
        deployment["status"] = waiting;
        return;
    }
    deployment["status"] = json!({
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": replicas, "updatedReplicas": replicas,
        "readyReplicas": replicas, "availableReplicas": replicas,
        "conditions": [
            { "type": "Available", "status": "True" },
            { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" },
        ],
    });
}

fn remove_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(remove_nulls);
        fields.retain(|_, field| !field.is_null());
    }
}

/// `a=b,c!=d`.
fn has_labels(value: &Value, selector: &str) -> bool {
    selector
        .split(',')
        .filter(|part| !part.is_empty())
        .all(|part| {
            let label = |name: &str| {
                value["metadata"]["labels"][name]
                    .as_str()
                    .map(str::to_owned)
            };
            match (part.split_once("!="), part.split_once('=')) {
                (Some((name, wrong)), _) => label(name).as_deref() != Some(wrong),
                (None, Some((name, right))) => label(name).as_deref() == Some(right),
                (None, None) => label(part).is_some(),
            }
        })
}

fn place_of(object: &Value) -> Place {
    let api = object["apiVersion"].as_str().unwrap();
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    let kind = object["kind"].as_str().unwrap().to_lowercase();
    let plural = if kind.ends_with('s') {
        format!("{kind}es")
    } else {
        format!("{kind}s")
    };
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let kind = Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        plural,
    };
    (kind, text("namespace"), text("name"))
}
