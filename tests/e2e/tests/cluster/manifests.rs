//! Manifests that several tests apply.

/// Reads one document as kubectl would: `0644` is an octal number.
pub fn parse(yaml: &str) -> Result<serde_json::Value, String> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|e| e.to_string())
}

/// Signing key of the webhooks of the tests.
pub const KEY: &str = "an-example-signing-key-of-32-byte";

/// NATS servers of the cluster that most tests share.
pub fn shared_nats() -> String {
    std::env::var("WEIR_E2E_NATS").unwrap_or_else(|_| "nats://nats.nats.svc:4222".to_owned())
}

/// A pod that counts the calls of all replicas, and its Service.
pub const COUNTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: counter, labels: {app: counter}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: counter
    image: weir.test/handler:1
    imagePullPolicy: Never
    readinessProbe: {httpGet: {path: /stats, port: 8080}, periodSeconds: 1}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {name: counter}
spec:
  selector: {app: counter}
  ports: [{port: 8080}]
";

/// The handler of most tests: it passes its calls on to the counter.
pub const HANDLER: &str =
    "{image: weir.test/handler:1, env: [{name: FORWARD_TO, value: 'http://counter:8080'}]}";

/// The Secret with [`KEY`].
pub fn signing_secret(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}, stringData: {{key: {KEY}}}}}"
    )
}

/// A MessageBus on the given servers.
pub fn bus(name: &str, servers: &str) -> String {
    format!(
        "
apiVersion: weir.dev/v1alpha1
kind: MessageBus
metadata: {{name: {name}}}
spec:
  nats: {{servers: ['{servers}'], replicas: 1}}
  runtime: {{minReplicas: 1, maxReplicas: 1}}
"
    )
}

/// A NATS server of the test's own, with messages on a volume, so that it can be stopped.
pub const OWN_NATS: &str = "
apiVersion: v1
kind: Service
metadata: {name: own-nats}
spec:
  selector: {app: own-nats}
  ports: [{port: 4222}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: own-nats}
spec:
  serviceName: own-nats
  selector: {matchLabels: {app: own-nats}}
  template:
    metadata: {labels: {app: own-nats}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: nats
        image: weir.test/nats:1
        imagePullPolicy: Never
        args: [--jetstream, --store_dir, /data]
        readinessProbe: {tcpSocket: {port: 4222}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
