//! Credentials of buses, as files that only this process reads.
//!
//! No path and no file name is taken from an object. The operator reads a Secret only where its
//! owner has granted that with a Role; what it read is never logged or told.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::Instant;
use weir_core::config::BusConfig;
use weir_crds::conditions::Reason;

use super::NoConnection;
use crate::bus::{Bus, BusSecret};
use crate::error::Error;
use crate::plan::Rejected;
use crate::pod::short_hash;
use crate::world::Name;

/// Reads Secrets and keeps them as files.
pub struct Credentials {
    client: Client,
    folder: PathBuf,
    /// The service account of the operator, for the command that grants access.
    account: Name,
    ttl: Duration,
    read: Mutex<HashMap<(Name, String), (Instant, PathBuf)>>,
}

impl Credentials {
    /// Keeps files below `folder`, which belongs to this process alone.
    pub fn new(client: Client, folder: PathBuf, account: Name, ttl: Duration) -> Self {
        Self {
            client,
            folder,
            account,
            ttl,
            read: Mutex::new(HashMap::new()),
        }
    }

    /// How the operator itself connects to a bus.
    pub async fn for_operator(&self, bus: &Bus) -> Result<BusConfig, NoConnection> {
        let mut files = HashMap::new();
        for secret in &bus.secrets {
            let path = self.file(&bus.name, secret).await?;
            files.insert(secret.file(), path.to_string_lossy().into_owned());
        }
        let own = |mounted: &str| {
            files
                .get(mounted)
                .cloned()
                .expect("a bus lists every Secret that its configuration names by path")
        };
        Ok(bus.config.with_files(&own))
    }

    /// The file with one key of one Secret. Its name changes with the content, so that a rotated
    /// Secret makes another connection.
    async fn file(&self, bus: &Name, secret: &BusSecret) -> Result<PathBuf, NoConnection> {
        let id = (
            Name::new(&bus.namespace, &secret.secret),
            secret.key.clone(),
        );
        if let Some((when, path)) = self.lock().get(&id)
            && when.elapsed() < self.ttl
        {
            return Ok(path.clone());
        }
        let content = self.read_secret(&id.0, &secret.key, bus).await?;
        let name = short_hash(&format!("{}/{}/{}", id.0, secret.key, digest(&content)));
        let path = self.folder.join(name).join(secret.role);
        write_private(&path, &content).map_err(|source| {
            NoConnection::Failed(Error::File {
                what: path.display().to_string(),
                source,
            })
        })?;
        self.lock().insert(id, (Instant::now(), path.clone()));
        Ok(path)
    }

    async fn read_secret(
        &self,
        name: &Name,
        key: &str,
        bus: &Name,
    ) -> Result<Vec<u8>, NoConnection> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        let refused = |reason, message| NoConnection::Refused(Rejected::new(reason, message));
        let secret = match api.get(&name.name).await {
            Ok(secret) => secret,
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                return Err(refused(
                    Reason::SecretNotFound,
                    format!("secret {name} not found; create it, or change MessageBus {bus}"),
                ));
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                return Err(refused(Reason::SecretNotGranted, self.how_to_grant(name)));
            }
            Err(error) => {
                return Err(NoConnection::Failed(Error::kube(
                    "read",
                    format!("secret {name}"),
                    error,
                )));
            }
        };
        match secret.data.and_then(|mut data| data.remove(key)) {
            Some(content) if !content.0.is_empty() => Ok(content.0),
            _ => Err(refused(
                Reason::SecretKeyNotFound,
                format!(
                    "secret {name} has no key {key}, or an empty one; add it, or change MessageBus {bus}"
                ),
            )),
        }
    }

    fn how_to_grant(&self, secret: &Name) -> String {
        let Name { namespace, name } = secret;
        let account = &self.account;
        let role = format!("weir-reads-{name}");
        format!(
            "the operator may not read secret {secret}; grant it with `kubectl -n {namespace} create role {role} --verb=get --resource=secrets --resource-name={name} && kubectl -n {namespace} create rolebinding {role} --role={role} --serviceaccount={}:{}`",
            account.namespace, account.name
        )
    }

    /// Removes the files of a connection that is no longer used.
    pub fn forget(&self, config: &BusConfig) {
        for file in config.files() {
            let path = Path::new(file);
            self.lock().retain(|_, (_, kept)| kept != path);
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(%error, "file of an unused connection was already gone");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Name, String), (Instant, PathBuf)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(content: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(content)
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Writes a file that nobody else may read. A reader never sees half of it.
fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let draft = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}
