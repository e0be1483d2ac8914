//! From manifests to what this machine is to run. Pure: files in, values out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use weir_broker::QueueSpec;
use weir_core::config::{BusConfig, ObjectConfig, TargetConfig};
use weir_crds::document::Document;
use weir_crds::lint::{Linter, Located, Problem, Severity};
use weir_crds::shared::Handler;
use weir_operator::kinds::{Object, group_by as group_by_of};
use weir_operator::plan::Plan;
use weir_operator::world::{Local, World};

use crate::failure::Failure;
use crate::files::File;
use crate::local::handlers::{Source, split};

/// Annotation that names the command of a handler for `weir run`.
pub const RUN_ANNOTATION: &str = "weir.dev/run";

/// Everything that the files hold.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Our objects, each with the file that it came from.
    pub objects: Vec<(Object, PathBuf)>,
    secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// What is wrong with them.
    pub problems: Vec<Problem>,
}

/// One object as this machine runs it.
#[derive(Debug)]
pub struct Unit {
    /// What the runtime is told. The handler's port is not known yet.
    pub config: ObjectConfig,
    /// Topology of its queue.
    pub queue: QueueSpec,
    /// Address for people.
    pub url: String,
    /// Where its handler comes from; `None` when it delivers to an address.
    pub handler: Option<Source>,
    /// Environment that the manifest gives the handler, as far as it is known here.
    pub environment: Vec<(String, String)>,
    /// Path of the handler.
    pub path: String,
    /// Keys to be written below the keys folder: file name to content.
    pub keys: BTreeMap<String, Vec<u8>>,
    /// Secret with the keys, when it is not in the files.
    pub missing_secret: Option<String>,
}

impl Manifests {
    /// Reads and checks every file.
    pub fn read(files: &[File]) -> Self {
        let linter = Linter::new();
        let mut all = Self::default();
        for file in files {
            let manifest = linter.read(&file.path.display().to_string(), &file.text);
            all.problems.extend(manifest.problems);
            for located in manifest.documents {
                all.check(&located, file);
                all.add(located.document, file);
            }
        }
        all
    }

    /// What the schema cannot say: an expression that does not parse.
    fn check(&mut self, located: &Located, file: &File) {
        let Document::FifoConsumer(queue) = &located.document else {
            return;
        };
        let group_by = queue.spec.group_by.as_deref();
        if let Some(Err(rejected)) = group_by.map(group_by_of) {
            let message = rejected.message;
            self.problems.push(Problem {
                file: file.path.display().to_string(),
                line: Some(located.line),
                object: format!("FifoConsumer/{}", located.document.name()),
                path: "spec.groupBy".to_owned(),
                message: message
                    .strip_prefix("spec.groupBy: ")
                    .map_or(message.clone(), str::to_owned),
                severity: Severity::Error,
            });
        }
    }

    fn add(&mut self, document: Document, file: &File) {
        let object = match document {
            Document::MessageBus(bus) => Object::MessageBus(*bus),
            Document::QueueConsumer(queue) => Object::QueueConsumer(*queue),
            Document::FifoConsumer(queue) => Object::FifoConsumer(*queue),
            Document::Webhook(webhook) => Object::Webhook(*webhook),
            Document::Other(value) => {
                let name = value["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                match value["kind"].as_str() {
                    Some("Secret") => self.secrets.entry(name).or_default().extend(data(&value)),
                    Some("ConfigMap") => {
                        self.config_maps
                            .entry(name)
                            .or_default()
                            .extend(data(&value));
                    }
                    _ => {}
                }
                return;
            }
        };
        self.objects.push((object, file.folder()));
    }

    /// Plans every object with the operator's own code.
    pub fn plan(&self, local: &Local, options: &Options) -> Result<Vec<Unit>, Failure> {
        let mut world = World::local(local.clone());
        for (object, _) in &self.objects {
            object.add_to(&mut world);
        }
        let mut units = Vec::new();
        for (object, folder) in &self.objects {
            let about = About::of(object);
            let plan = object.decide(&world).map_err(|why| {
                Failure::new(format!(
                    "{}: {}: {}",
                    about.title,
                    why.reason.as_str(),
                    why.message
                ))
            })?;
            if about.takes_messages {
                units.push(self.unit(plan, &about, folder, options)?);
            }
        }
        if units.is_empty() {
            return Err(
                Failure::usage("the files hold no Webhook, QueueConsumer or FifoConsumer")
                    .next("weir run -f examples/scalable-webhook shows one"),
            );
        }
        options.refuse_unused(&units)?;
        Ok(units)
    }

    fn unit(
        &self,
        plan: Plan,
        about: &About<'_>,
        folder: &Path,
        options: &Options,
    ) -> Result<Unit, Failure> {
        let mut config = match (plan.config.runtime, plan.config.worker) {
            (Some(runtime), worker) => ObjectConfig {
                consumer: worker
                    .and_then(|worker| worker.consumer)
                    .or(runtime.consumer.clone()),
                ..runtime
            },
            (None, Some(worker)) => worker,
            (None, None) => return Err(Failure::new(format!("{}: nothing to run", about.title))),
        };
        let keys_dir = config
            .intake
            .as_ref()
            .and_then(|i| i.verify.as_ref())
            .map(|v| &v.keys_dir);
        let (mut keys, mut missing_secret) = (BTreeMap::new(), None);
        if keys_dir.is_some() {
            match about.secret.and_then(|name| self.secrets.get(name)) {
                Some(found) => keys.clone_from(found),
                None => missing_secret = about.secret.map(str::to_owned),
            }
        }
        let mut source = None;
        let mut environment = Vec::new();
        if let Some(handler) = about.handler {
            source = Some(options.source(about, folder)?);
            environment = self.environment(handler);
            if let (Some(consumer), Some(Source::Url(url))) = (&mut config.consumer, &source) {
                // An address on the command line is used as it is; it may have a path of its own.
                consumer.target = TargetConfig::Handler {
                    url: url.clone(),
                    readiness_path: None,
                };
            }
        }
        let queue = plan.topology.into_iter().next();
        Ok(Unit {
            queue: queue.ok_or_else(|| Failure::new(format!("{}: no queue", about.title)))?,
            url: format!(
                "{}/{}/{}",
                options.base_url,
                config.object.kind.plural(),
                about.name
            ),
            config,
            handler: source,
            environment,
            path: about
                .handler
                .map_or_else(|| "/".to_owned(), |handler| handler.path.clone()),
            keys,
            missing_secret,
        })
    }

    /// The variables that are known here: plain values, and those of Secrets and ConfigMaps in the files.
    fn environment(&self, handler: &Handler) -> Vec<(String, String)> {
        let handler = serde_json::to_value(handler).unwrap_or_default();
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let mut known = Vec::new();
        for from in handler["envFrom"].as_array().into_iter().flatten() {
            let prefix = from["prefix"].as_str().unwrap_or_default();
            for (field, all) in [
                ("secretRef", &self.secrets),
                ("configMapRef", &self.config_maps),
            ] {
                let found = from[field]["name"].as_str().and_then(|name| all.get(name));
                for (key, value) in found.into_iter().flatten() {
                    known.push((format!("{prefix}{key}"), text(value)));
                }
            }
        }
        for variable in handler["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().unwrap_or_default().to_owned();
            let source = &variable["valueFrom"];
            let referenced = [
                (&source["secretKeyRef"], &self.secrets),
                (&source["configMapKeyRef"], &self.config_maps),
            ]
            .into_iter()
            .find_map(|(at, all)| all.get(at["name"].as_str()?)?.get(at["key"].as_str()?));
            let value = variable["value"]
                .as_str()
                .map(str::to_owned)
                .or(referenced.map(text));
            known.extend(value.map(|value| (name, value)));
        }
        known
    }
}

/// Content of a Secret or ConfigMap by key.
fn data(value: &Value) -> BTreeMap<String, Vec<u8>> {
    let entries = |field: &str| value[field].as_object().cloned().unwrap_or_default();
    let is_secret = value["kind"] == "Secret";
    let encoded = if is_secret { "data" } else { "binaryData" };
    let plain = if is_secret { "stringData" } else { "data" };
    let decoded = entries(encoded).into_iter().filter_map(|(key, value)| {
        let bytes = STANDARD.decode(value.as_str()?.trim()).ok()?;
        Some((key, bytes))
    });
    let written = entries(plain)
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_str()?.as_bytes().to_vec())));
    decoded.chain(written).collect()
}

/// What of an object matters here.
struct About<'a> {
    title: String,
    name: String,
    /// It has a queue.
    takes_messages: bool,
    /// The handler of its own.
    handler: Option<&'a Handler>,
    secret: Option<&'a str>,
    run: Option<&'a str>,
}

impl<'a> About<'a> {
    fn of(object: &'a Object) -> Self {
        let (kind, metadata) = match object {
            Object::MessageBus(bus) => ("messagebus", &bus.metadata),
            Object::QueueConsumer(queue) => ("queueconsumer", &queue.metadata),
            Object::FifoConsumer(queue) => ("fifoconsumer", &queue.metadata),
            Object::Webhook(webhook) => ("webhook", &webhook.metadata),
        };
        let name = metadata.name.clone().unwrap_or_default();
        let (handler, secret) = match object {
            Object::MessageBus(_) => (None, None),
            Object::QueueConsumer(queue) => (queue.spec.handler.as_ref(), None),
            Object::FifoConsumer(queue) => (queue.spec.handler.as_ref(), None),
            Object::Webhook(webhook) => (
                webhook.spec.handler.as_ref(),
                webhook
                    .spec
                    .verify
                    .secret_ref
                    .as_ref()
                    .map(|secret| secret.name.as_str()),
            ),
        };
        let annotations = metadata.annotations.as_ref();
        Self {
            title: format!("{kind}/{name}"),
            name,
            takes_messages: !matches!(object, Object::MessageBus(_)),
            handler,
            secret,
            run: annotations
                .and_then(|all| all.get(RUN_ANNOTATION))
                .map(String::as_str),
        }
    }
}

/// What the command line said about handlers.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Addresses by name of object.
    pub named: BTreeMap<String, String>,
    /// The command after `--`.
    pub command: Vec<String>,
    /// `http://127.0.0.1:9400`.
    pub base_url: String,
}

impl Options {
    fn source(&self, about: &About<'_>, folder: &Path) -> Result<Source, Failure> {
        if let Some(url) = self.named.get(&about.name) {
            return Ok(Source::Url(url.clone()));
        }
        if !self.command.is_empty() {
            let folder = PathBuf::from(".");
            return Ok(Source::Command {
                line: self.command.clone(),
                folder,
            });
        }
        if let Some(line) = about.run {
            return Ok(Source::Command {
                line: split(line)?,
                folder: folder.to_owned(),
            });
        }
        Err(Failure::usage(format!("{} has no handler on this machine; its image is not run here", about.title)).next(format!(
            "add `-- COMMAND`, --handler {}=http://127.0.0.1:PORT, or the annotation {RUN_ANNOTATION}: python3 handler.py",
            about.name
        )))
    }

    fn refuse_unused(&self, units: &[Unit]) -> Result<(), Failure> {
        let known = |name: &String| units.iter().any(|unit| unit.config.object.name == *name);
        if let Some(name) = self.named.keys().find(|name| !known(name)) {
            let names: Vec<_> = units
                .iter()
                .map(|unit| unit.config.object.name.as_str())
                .collect();
            return Err(
                Failure::usage(format!("--handler {name}=...: no object has that name"))
                    .next(format!("objects in the files: {}", names.join(", "))),
            );
        }
        let handled = units.iter().filter(|unit| {
            matches!(unit.handler, Some(Source::Command { .. })) && !self.command.is_empty()
        });
        if handled.count() > 1 {
            return Err(
                Failure::usage("one command cannot be told apart for several objects")
                    .next("give each its own: --handler NAME=URL, or the annotation weir.dev/run"),
            );
        }
        Ok(())
    }
}

/// What every local object shares.
pub fn place(bus: BusConfig, base_url: &str, keys: &Path) -> Local {
    Local {
        bus,
        replicas: 1,
        base_url: base_url.to_owned(),
        keys_dir: keys.display().to_string(),
    }
}
