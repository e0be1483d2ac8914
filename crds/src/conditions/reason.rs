//! The closed list of reasons. A message says the particulars; the text here is the page that the
//! documentation prints: what it means, then what to do.

use super::closed_list;

closed_list! {
    /// Why a condition is as it is.
    pub enum Reason {
        // Of any type
        AsExpected => "All is as it should be.",
        Pending => "The operator has not looked yet. Wait; if it stays, see whether the operator runs.",
        Deleting => "The object is being deleted. Wait for what it owns to go.",
        DeletionBlocked => "Stored messages cannot be removed because the broker does not answer. The object goes after ten minutes in any case; bring the broker back if the messages should be deleted.",
        Forbidden => "The API server does not let the operator do this. Compare the operator's role with the chart's.",
        ApiServerRefused => "The API server refused an object that Weir wrote. The message holds its words; an admission policy or a quota is the usual cause.",
        NameConflict => "An object of the wanted name exists and is not Weir's. Rename one of the two.",

        // Accepted
        InvalidSpec => "The spec contradicts itself in a way the schema could not refuse. Change the field that the message names.",
        InvalidDefinition => "A definition or expression in the spec does not parse. The message holds its path and the nearest valid name.",
        BusNotFound => "No MessageBus of the wanted name. Create it, or change `spec.bus`.",
        BusNotReady => "The MessageBus is not Ready. See its own conditions.",
        SecretNotFound => "A Secret that the spec names is missing. Create it, or change the field that the message names.",
        SecretKeyNotFound => "The Secret is there, but has no such key, or an empty one. Add the key.",
        SecretInvalid => "The Secret does not hold what it should. The message says what is expected, never what was found.",
        SecretNotGranted => "The operator may not read the Secret. Grant it with a Role as the documentation of MessageBus shows.",
        ConfigMapNotFound => "A ConfigMap that the spec names is missing. Create it, or change the field that the message names.",
        ClaimNotFound => "A `PersistentVolumeClaim` that the spec names is missing. Create it, or change the field that the message names.",
        ServiceAccountNotFound => "The service account of the handler is missing. Create it, or change `spec.handler.serviceAccountName`.",
        ServiceAccountNotAllowed => "The service account lacks the annotation `weir.dev/allow-handler: \"true\"`. Whoever owns the account adds it.",
        TargetNotFound => "The object that `spec.to` names is missing. Create it, or change `spec.to`.",
        TargetNotAllowed => "The object that `spec.to` names is in another namespace and does not allow this one. Its owner adds it to `spec.allowedFrom`.",
        TargetLoop => "Following `spec.to` leads back to this object. Break the circle.",
        AddressForbidden => "The URL points to an address that may not be called: the node, link-local or cloud metadata. Use another.",
        BreakerNotFound => "The `CircuitBreaker` that the spec names is missing. Create it, or change `spec.circuitBreaker`.",
        Unsupported => "This broker, or this version of Weir, cannot do what is asked. The message says what is missing.",
        MemoryInCluster => "A bus in memory works with `weir run` only. Use `spec.nats` or `spec.rabbitmq`.",

        // TopologyReady
        BrokerUnreachable => "The broker does not answer. Messages wait. See whether it runs and whether the address is right.",
        BrokerRefused => "The broker refuses the credentials or the permission. Renew the Secret, or widen the permissions that the message names.",
        BrokerTooOld => "The server is older than Weir needs. Upgrade it to the version in the message.",
        JetStreamDisabled => "The server runs without JetStream, or the account may not use it. Enable it.",
        NotEnoughServers => "The broker has fewer servers than `replicas` asks for. Add servers, or lower `replicas` of the MessageBus.",
        StorageFull => "The broker has no room left. Make room, or raise its limits.",
        TopologyFailed => "The broker refused a change. The message holds its words.",
        ReplaceRequired => "The change cannot be made in place. The object is moved to a new generation of its stream; wait until the old one is empty.",
        DeadLettersBlocked => "A message was given up and its dead letter cannot be stored, so it is held and nothing is lost. The message holds the broker's words: make room for dead letters, or undo what was changed on their stream. Held messages go on by themselves then.",
        TopologyLost => "A stream vanished and was made again, empty; what it held is lost. Find out who deleted it. The condition goes back by itself after an hour.",

        // HandlerReady
        ScaledToZero => "No work, so no pods. Nothing is wrong.",
        RollingOut => "New pods are starting. Wait; after ten minutes this becomes `ProgressDeadlineExceeded`.",
        ProgressDeadlineExceeded => "New pods did not become ready in time. See the pods' events and logs.",
        ImagePullFailed => "The image cannot be pulled. Check its name and `spec.handler.imagePullSecrets`.",
        CrashLooping => "The handler ends again and again. See its log with `kubectl logs --previous`.",
        Unschedulable => "No node takes the pods. See their events: resources, `nodeSelector`, taints.",
        QuotaExceeded => "A quota of the namespace is used up. Raise it, or ask for less in `spec.handler.resources`.",
        PodRejected => "Pods are refused when they are created. The message holds the words of the API server.",
        ConfigRejected => "The sidecar refused its configuration and keeps the one before. Operator and sidecar are of different versions, usually.",
        TargetNotReady => "The object that `spec.to` names is not Ready. See its own conditions.",
        RuntimeNotReady => "The shared runtime of the namespace is not ready. See the Deployment `weir-runtime`.",

        // RouteReady
        GatewayApiMissing => "The cluster has no Gateway API. Install it, or remove `spec.route`; the address in the cluster works.",
        GatewayNotFound => "No Gateway of the wanted name. Create it, or change `spec.route.gatewayRef`.",
        RoutePending => "The Gateway has not answered for the route yet. Wait; if it stays, see the Gateway's controller.",
        RouteNotAccepted => "The Gateway does not accept the route. The message holds its words; `allowedRoutes` and host names are the usual cause.",

        // ScalerReady
        KedaMissing => "KEDA is not installed, so a fixed number of pods runs. Install it, or set `spec.scaling.provider: None`.",
        ScalerRejected => "KEDA does not accept the scaler. The message holds its words.",
        FixedReplicas => "A fixed number of pods runs, as asked.",

        // Present only when true
        Changing => "A change is being applied.",
        PausedByUser => "`spec.paused` is true.",
        DeadLettersStored => "Messages could not be handled. See them with `weir dlq list`.",
        AllPlacesTaken => "As many calls run as `spec.concurrency.max` allows.",
        StoppedByLimit => "`spec.concurrency.max` is 0.",
        BreakerOpen => "The breaker is open. See its status.",
        NumbersOutdated => "The broker has not been asked successfully for two minutes.",
    }
}
