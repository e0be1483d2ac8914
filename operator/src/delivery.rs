//! The part of a spec that every consuming kind has: from messages in a queue to calls of a handler.
//! Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weir_broker::{QueueSpec, Removal};
use weir_core::config::{
    ConsumerConfig, DeduplicateBy, DeduplicateConfig, DeduplicateScope, IntakeConfig, ObjectConfig,
    Protocol, QueueConfig, RetryConfig, TargetConfig, VERSION, WhenExhausted,
};
use weir_core::object::{Kind, ObjectKey};
use weir_crds::conditions::Reason;
use weir_crds::shared::{
    self, AllowedFrom, AllowedNamespaces, Deduplicate, DeletionPolicy, Delivery, Handler,
    ScalingProvider, Target, TargetKind,
};

use crate::bus::{self, Bus};
use crate::handler_pod::{self, Worker};
use crate::identity::Identity;
use crate::kinds::{Ending, Needs};
use crate::plan::{Config, Plan, Rejected};
use crate::runtime::Member;
use crate::world::{Name, Place, World};

/// How long a message stays with a silent process, seconds. Sidecars extend it every third of that.
const LEASE_SECONDS: u32 = 30;
/// Most messages waiting in one queue.
const CAPACITY: u64 = 1_000_000;
/// Longest call of something that exists, seconds.
const TARGET_TIMEOUT_SECONDS: u32 = 30;
/// Calls at once in one handler pod, unless the spec says otherwise.
const PER_REPLICA: u32 = 10;
/// Calls at once in one runtime pod for one object, whatever its limit over all of them.
const PER_RUNTIME: u32 = 1000;
/// Time for a pod to end after its last call, seconds.
const SHUTDOWN_SECONDS: u32 = 15;

/// A queue and where its messages go, with every reference followed and every default filled in.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Whose it is.
    pub identity: Identity,
    /// Where its messages live.
    pub bus: Bus,
    /// How messages come in.
    pub intake: IntakeConfig,
    /// How they are kept.
    pub queue: QueueConfig,
    /// How they go out.
    pub consumer: ConsumerConfig,
    /// The handler, when Weir runs it.
    pub handler: Option<ResolvedHandler>,
    /// What becomes of messages when the object is deleted.
    pub deletion_policy: DeletionPolicy,
    /// The address that takes messages.
    pub url: String,
    /// What handles them, in a few words.
    pub handler_ref: String,
    /// Deliveries are stopped by the user.
    pub paused: bool,
    /// Where the plan will be carried out.
    pub place: Place,
}

/// A handler that Weir runs.
#[derive(Clone, Debug)]
pub struct ResolvedHandler {
    /// What the user wrote.
    pub handler: Handler,
    /// How many pods.
    pub replicas: u32,
    /// How long a pod may take to end.
    pub grace_seconds: u32,
}

/// What the plan of a consuming object depends on.
pub fn needs(identity: &Identity, delivery: &Delivery<'_>, place: &Place) -> Needs {
    let namespace = &identity.key.namespace;
    Needs {
        buses: bus::candidates(delivery.bus, namespace, place),
        queue: delivery.to.and_then(|to| target_queue(namespace, to)),
        service_account: delivery
            .handler
            .and_then(|handler| handler.service_account_name.as_ref())
            .map(|name| Name::new(namespace, name)),
    }
}

/// Follows the references of a consuming spec and refuses what cannot be done. `max_age_seconds` is
/// the kind's own bound on a message's age.
pub fn resolve(
    identity: &Identity,
    delivery: &Delivery<'_>,
    intake: IntakeConfig,
    max_age_seconds: u32,
    world: &World,
) -> Result<Resolved, Rejected> {
    refuse_unsupported(delivery)?;
    let bus = bus::choose(delivery.bus, &identity.key.namespace, world)?;
    // A queue that keeps order remembers identities itself, on every broker.
    let remembers = bus.config.remembers() || identity.key.kind == Kind::FifoConsumer;
    if intake.deduplicate.is_some() && !remembers {
        return Err(Rejected::new(
            Reason::Unsupported,
            format!(
                "spec.deduplicate: RabbitMQ cannot remember identities; add spec.state (NATS) to MessageBus {}, or remove the field",
                bus.name
            ),
        ));
    }
    let (target, handler, handler_ref) = match (delivery.handler, delivery.to) {
        (Some(handler), None) => {
            let resolved = resolve_handler(identity, handler, delivery, world)?;
            (
                handler_target(handler),
                Some(resolved),
                handler.image.clone(),
            )
        }
        (None, Some(to)) => {
            let (url, words) = resolve_target(&identity.key, to, world)?;
            (TargetConfig::Url { url }, None, words)
        }
        _ => {
            return Err(Rejected::new(
                Reason::InvalidSpec,
                "exactly one of spec.handler and spec.to must be set; remove the other one",
            ));
        }
    };
    Ok(Resolved {
        identity: identity.clone(),
        queue: QueueConfig {
            limit: delivery.concurrency.max,
            batch_max: delivery.batch_max,
            lease_seconds: LEASE_SECONDS,
            replicas: bus.replicas,
            capacity: CAPACITY,
            dead_letter_retention_seconds: u64::from(delivery.dead_letter.retention_seconds),
            fifo: None,
        },
        consumer: ConsumerConfig {
            target,
            protocol: match delivery.handler.map(|handler| handler.protocol) {
                Some(shared::Protocol::Http) => Protocol::Http,
                _ => Protocol::CloudEvents,
            },
            timeout_seconds: delivery
                .handler
                .map_or(TARGET_TIMEOUT_SECONDS, |handler| handler.timeout_seconds),
            per_replica: match delivery.handler {
                Some(_) => per_replica(delivery),
                None => delivery.concurrency.max.clamp(1, PER_RUNTIME),
            },
            batch_window_seconds: delivery.batch_window_seconds,
            retry: retry(delivery.retry, max_age_seconds),
            when_exhausted: WhenExhausted::default(),
            paused: delivery.paused,
        },
        bus,
        intake,
        handler,
        deletion_policy: delivery.deletion_policy,
        url: world.url(&identity.key),
        handler_ref,
        paused: delivery.paused,
        place: world.place.clone(),
    })
}

/// What is to exist for a consuming object.
pub fn plan(resolved: &Resolved) -> Plan {
    let identity = &resolved.identity;
    let document = |intake: Option<&IntakeConfig>, consumer: Option<&ConsumerConfig>| {
        (intake.is_some() || consumer.is_some()).then(|| ObjectConfig {
            version: VERSION,
            object: identity.key.clone(),
            uid: identity.uid.clone(),
            generation: identity.generation,
            bus: resolved.bus.config.clone(),
            queue: resolved.queue.clone(),
            intake: intake.cloned(),
            consumer: consumer.cloned(),
        })
    };
    let consumer = Some(&resolved.consumer);
    let (worker, delivered_by_runtime) = if resolved.handler.is_some() {
        (consumer, None)
    } else {
        (None, consumer)
    };
    let worker = document(None, worker);
    let workloads = match (&resolved.handler, &worker, &resolved.place) {
        (Some(handler), Some(config), Place::Cluster(cluster)) => handler_pod::children(&Worker {
            identity,
            handler: &handler.handler,
            replicas: handler.replicas,
            grace_seconds: handler.grace_seconds,
            bus: &resolved.bus,
            config,
            cluster,
        }),
        _ => Vec::new(),
    };
    Plan {
        identity: Some(identity.clone()),
        bus: resolved.bus.clone(),
        topology: vec![queue_spec(resolved)],
        config: Config {
            worker,
            runtime: document(Some(&resolved.intake), delivered_by_runtime),
        },
        workloads,
        scaler: None,
        routes: Vec::new(),
    }
}

/// What the shared runtime has to know about a consuming object.
pub fn member(
    identity: &Identity,
    metadata: &ObjectMeta,
    bus: Option<&str>,
    world: &World,
) -> Member {
    Member {
        key: identity.key.clone(),
        owner: identity.owner.clone(),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        keys_secret: identity.keys_secret.clone(),
        bus: bus::choose(bus, &identity.key.namespace, world).ok(),
    }
}

fn queue_spec(resolved: &Resolved) -> QueueSpec {
    QueueSpec {
        object: resolved.identity.key.clone(),
        uid: resolved.identity.uid.clone(),
        config: resolved.queue.clone(),
    }
}

/// Fields of the API that this release cannot honour. They are refused, never ignored.
fn refuse_unsupported(delivery: &Delivery<'_>) -> Result<(), Rejected> {
    let unsupported = |message: &str| Err(Rejected::new(Reason::Unsupported, message));
    if delivery.circuit_breaker.is_some() {
        return unsupported(
            "spec.circuitBreaker: this version of Weir has no circuit breakers; remove the field",
        );
    }
    if delivery
        .handler
        .is_some_and(|handler| handler.protocol == shared::Protocol::Lambda)
    {
        return unsupported(
            "spec.handler.protocol: this version of Weir does not run Lambda images; use CloudEvents or HTTP",
        );
    }
    if matches!(
        delivery.scaling.provider,
        ScalingProvider::Push | ScalingProvider::Builtin
    ) {
        return unsupported(
            "spec.scaling.provider: this version of Weir runs a fixed number of pods; write Auto or None",
        );
    }
    Ok(())
}

fn resolve_handler(
    identity: &Identity,
    handler: &Handler,
    delivery: &Delivery<'_>,
    world: &World,
) -> Result<ResolvedHandler, Rejected> {
    handler_pod::check(handler)?;
    if let (Place::Cluster(_), Some(account)) = (&world.place, &handler.service_account_name) {
        check_service_account(&identity.key.namespace, account, world)?;
    }
    Ok(ResolvedHandler {
        handler: handler.clone(),
        replicas: replicas(delivery),
        grace_seconds: handler.timeout_seconds.saturating_add(SHUTDOWN_SECONDS),
    })
}

/// Enough pods for the limit, within the bounds of `scaling`, and at least one.
fn replicas(delivery: &Delivery<'_>) -> u32 {
    let least = delivery.scaling.min_replicas.max(1);
    let most = delivery.scaling.max_replicas.max(least);
    delivery
        .concurrency
        .max
        .div_ceil(per_replica(delivery))
        .clamp(least, most)
}

fn per_replica(delivery: &Delivery<'_>) -> u32 {
    delivery
        .concurrency
        .per_replica
        .unwrap_or(PER_REPLICA)
        .max(1)
}

fn check_service_account(namespace: &str, account: &str, world: &World) -> Result<(), Rejected> {
    let name = Name::new(namespace, account);
    match world.service_accounts.get(&name) {
        Some(true) => Ok(()),
        Some(false) => Err(Rejected::new(
            Reason::ServiceAccountNotAllowed,
            format!(
                "service account {name} may not be used by handlers; allow it with `kubectl -n {namespace} annotate serviceaccount {account} weir.dev/allow-handler=true`, or remove spec.handler.serviceAccountName"
            ),
        )),
        None => Err(Rejected::new(
            Reason::ServiceAccountNotFound,
            format!(
                "service account {name} not found; create it, or change spec.handler.serviceAccountName"
            ),
        )),
    }
}

fn handler_target(handler: &Handler) -> TargetConfig {
    TargetConfig::Handler {
        url: format!("http://127.0.0.1:{}{}", handler.port, handler.path),
        readiness_path: handler.readiness_path.clone(),
    }
}

/// The queue that a target names, when it is one.
pub fn target_queue(namespace: &str, to: &Target) -> Option<ObjectKey> {
    let kind = match to.kind? {
        TargetKind::QueueConsumer => Kind::QueueConsumer,
        TargetKind::FifoConsumer => Kind::FifoConsumer,
        _ => return None,
    };
    let namespace = to.namespace.as_deref().unwrap_or(namespace);
    Some(ObjectKey::new(kind, namespace, to.name.as_ref()?))
}

/// The URL of a target, and the words for it.
fn resolve_target(
    object: &ObjectKey,
    to: &Target,
    world: &World,
) -> Result<(String, String), Rejected> {
    match (&to.url, to.kind, &to.name) {
        (Some(url), None, None) => Ok((url.clone(), url.clone())),
        (None, Some(TargetKind::QueueConsumer | TargetKind::FifoConsumer), Some(_)) => {
            resolve_queue(object, to, world)
        }
        (None, Some(kind), Some(_)) => Err(Rejected::new(
            Reason::Unsupported,
            format!(
                "spec.to.kind: this version of Weir cannot send to a {kind:?}; use a QueueConsumer, a FifoConsumer, or spec.to.url"
            ),
        )),
        _ => Err(Rejected::new(
            Reason::InvalidSpec,
            "spec.to: exactly one of url, and kind with name must be set",
        )),
    }
}

fn resolve_queue(
    object: &ObjectKey,
    to: &Target,
    world: &World,
) -> Result<(String, String), Rejected> {
    let key = target_queue(&object.namespace, to).expect("the caller looked at kind and name");
    let (kind, queue) = (key.kind, Name::new(&key.namespace, &key.name));
    if key == *object {
        return Err(Rejected::new(
            Reason::TargetLoop,
            "spec.to names the object itself; its messages would go round for ever",
        ));
    }
    let Some(found) = world.queues.get(&key) else {
        return Err(Rejected::new(
            Reason::TargetNotFound,
            format!("{kind} {queue} not found; create it, or change spec.to"),
        ));
    };
    if queue.namespace != object.namespace && !allows(&found.allowed_from, &object.namespace) {
        return Err(Rejected::new(
            Reason::TargetNotAllowed,
            format!(
                "{kind} {queue} does not take messages from namespace {}; its owner adds it to spec.allowedFrom, or change spec.to",
                object.namespace
            ),
        ));
    }
    refuse_loop(object, &key, world)?;
    Ok((world.url(&key), format!("{kind}/{}", queue.name)))
}

/// Follows `to` from queue to queue, as far as the world was looked at.
fn refuse_loop(object: &ObjectKey, first: &ObjectKey, world: &World) -> Result<(), Rejected> {
    let mut path = vec![first.clone()];
    while let Some(next) = path.last().and_then(|last| next_queue(last, world)) {
        if next == *object {
            let path: Vec<String> = path
                .iter()
                .map(|key| format!("{}/{}", key.namespace, key.name))
                .collect();
            return Err(Rejected::new(
                Reason::TargetLoop,
                format!(
                    "spec.to leads back to this object, through {}; change one of them, or messages go round for ever",
                    path.join(", ")
                ),
            ));
        }
        if path.contains(&next) {
            return Ok(()); // Somebody else's loop: it is reported there.
        }
        path.push(next);
    }
    Ok(())
}

/// Where the messages of a queue go on to, when that is a queue.
pub fn next_queue(queue: &ObjectKey, world: &World) -> Option<ObjectKey> {
    let to = world.queues.get(queue)?.to.as_ref()?;
    target_queue(&queue.namespace, to)
}

fn allows(from: &AllowedFrom, namespace: &str) -> bool {
    match from.namespaces {
        AllowedNamespaces::Same => false,
        AllowedNamespaces::All => true,
        AllowedNamespaces::Listed => from.names.iter().any(|name| name == namespace),
    }
}

fn retry(retry: &shared::Retry, max_age_seconds: u32) -> RetryConfig {
    RetryConfig {
        max_attempts: retry.max_attempts.max(1),
        initial_seconds: retry.initial_seconds,
        multiplier: retry.multiplier.max(1),
        max_seconds: retry.max_seconds.max(retry.initial_seconds),
        max_age_seconds: u64::from(retry.max_age_seconds.min(max_age_seconds)),
        permanent_statuses: retry.permanent_statuses.clone(),
    }
}

/// How an object takes messages that others publish to it.
pub fn publish_api() -> IntakeConfig {
    /// Longest body, bytes. What the broker takes is usually less, and counts too.
    const MAX_BODY_BYTES: u64 = 1_048_576;
    IntakeConfig {
        methods: vec!["POST".to_owned()],
        max_body_bytes: MAX_BODY_BYTES,
        status: 202,
        verify: None,
        deduplicate: None,
        group: None,
        delay_seconds: 0,
        publish_api: true,
    }
}

/// The runtime's form of `deduplicate`, in the whole queue.
pub fn deduplicate(
    by: shared::DeduplicateBy,
    header: Option<&str>,
    window_seconds: u32,
) -> DeduplicateConfig {
    DeduplicateConfig {
        by: match by {
            shared::DeduplicateBy::MessageId => DeduplicateBy::MessageId,
            shared::DeduplicateBy::ContentHash => DeduplicateBy::ContentHash,
            shared::DeduplicateBy::Header => DeduplicateBy::Header,
        },
        header: header.map(str::to_ascii_lowercase),
        window_seconds,
        scope: DeduplicateScope::Queue,
    }
}

/// [`deduplicate`] of kinds without groups.
pub fn deduplicate_all(spec: &Deduplicate) -> DeduplicateConfig {
    deduplicate(spec.by, spec.header.as_deref(), spec.window_seconds)
}

/// How a consuming object ends.
pub fn ending(identity: &Identity, delivery: &Delivery<'_>) -> Ending {
    Ending {
        identity: identity.clone(),
        bus: delivery.bus.map(str::to_owned),
        removal: match delivery.deletion_policy {
            DeletionPolicy::Retain => Removal::Retain,
            DeletionPolicy::Delete => Removal::Delete,
            DeletionPolicy::DeleteIfEmpty => Removal::DeleteIfEmpty,
        },
        grace_seconds: delivery.handler.map_or(0, |handler| {
            handler.timeout_seconds.saturating_add(SHUTDOWN_SECONDS)
        }),
    }
}
