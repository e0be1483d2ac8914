//! Where the configuration comes from: a folder that is looked at again and again, or updates that
//! another part of the same process publishes (`weir run`, tests).
//!
//! A document that cannot be used changes nothing: the object keeps the configuration it had, the
//! error is counted, logged once and shown at `/config`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use weir_core::config::ObjectConfig;
use weir_core::object::ObjectKey;

use crate::metrics::Metrics;
use crate::supervise::{Heart, RunError};

/// Largest document.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Where the configuration comes from.
pub enum ConfigSource {
    /// A folder, and a signal to look at it now.
    Directory {
        /// `*.json` in it and in its subfolders is read.
        path: PathBuf,
        /// Looks at once, without waiting for the next time.
        reload: Arc<Notify>,
    },
    /// Updates from this process. The first value counts as soon as it is marked as loaded.
    Updates(watch::Receiver<Arc<Config>>),
}

/// What there is to serve.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Whether it was ever read; false only before the first time.
    pub loaded: bool,
    /// Every object.
    pub objects: BTreeMap<ObjectKey, Arc<ObjectConfig>>,
    /// Documents that cannot be used.
    pub errors: Vec<DocumentError>,
}

/// A document that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DocumentError {
    /// Its file, relative to the folder.
    pub file: String,
    /// A stable word.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
}

impl Config {
    /// These objects, and no errors.
    pub fn of(objects: impl IntoIterator<Item = ObjectConfig>) -> Arc<Self> {
        let objects = objects
            .into_iter()
            .map(|object| (object.object.clone(), Arc::new(object)))
            .collect();
        Arc::new(Self {
            loaded: true,
            objects,
            errors: Vec::new(),
        })
    }
}

/// Looks at a folder for ever.
pub async fn watch_directory(
    path: PathBuf,
    reload: Arc<Notify>,
    interval: Duration,
    publish: watch::Sender<Arc<Config>>,
    metrics: Arc<Metrics>,
    heart: Heart,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let mut reader = Reader::new(path);
    loop {
        let (read, config) = tokio::task::spawn_blocking(move || {
            let config = reader.read();
            (reader, config)
        })
        .await
        .map_err(|error| crate::supervise::panicked("config", error))?;
        reader = read;
        if let Some((config, new_errors)) = config {
            for error in &new_errors {
                metrics.config_error(error.reason);
                tracing::error!(
                    file = error.file,
                    reason = error.reason,
                    "configuration is not used, the one before stays: {}",
                    error.message
                );
            }
            publish.send_replace(Arc::new(config));
        }
        heart.beat();
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = reload.notified() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Reads a folder, remembering what it read.
struct Reader {
    path: PathBuf,
    /// By file: the bytes last seen and what they were.
    files: HashMap<String, (Vec<u8>, Result<ObjectKey, DocumentError>)>,
    /// The last good document of each object.
    objects: BTreeMap<ObjectKey, Arc<ObjectConfig>>,
    folder_error: Option<DocumentError>,
    loaded: bool,
}

impl Reader {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: HashMap::new(),
            objects: BTreeMap::new(),
            folder_error: None,
            loaded: false,
        }
    }

    /// Reads the folder; `None` when nothing has changed, else the configuration and the errors that
    /// are new.
    fn read(&mut self) -> Option<(Config, Vec<DocumentError>)> {
        let found = match documents(&self.path) {
            Ok(found) => found,
            Err(error) => {
                // The folder may be on its way: keep what there was.
                let error = DocumentError {
                    file: self.path.display().to_string(),
                    reason: "Folder",
                    message: error.to_string(),
                };
                if self.folder_error.as_ref() == Some(&error) {
                    return None;
                }
                self.folder_error = Some(error.clone());
                return Some((self.config(), vec![error]));
            }
        };
        let mut changed = !self.loaded || self.folder_error.take().is_some();
        self.loaded = true;
        let mut new_errors = Vec::new();
        let mut files = HashMap::with_capacity(found.len());
        for (name, bytes) in found {
            let known = self
                .files
                .remove(&name)
                .filter(|(before, _)| *before == bytes);
            let read = known.unwrap_or_else(|| {
                changed = true;
                let result = self.document(&name, &bytes);
                new_errors.extend(result.as_ref().err().cloned());
                (bytes, result)
            });
            files.insert(name, read);
        }
        changed |= !self.files.is_empty();
        self.files = files;
        if !changed {
            return None;
        }
        // Objects whose document is gone. A document that is broken now still speaks for the object
        // that it was about; its file has the object's name.
        let served: Vec<&ObjectKey> = self
            .files
            .values()
            .filter_map(|(_, result)| result.as_ref().ok())
            .collect();
        let broken: Vec<&String> = self
            .files
            .iter()
            .filter(|(_, (_, result))| result.is_err())
            .map(|(n, _)| n)
            .collect();
        self.objects.retain(|key, _| {
            let file = ObjectConfig::file_name(key);
            served.contains(&key) || broken.iter().any(|name| base_name(name) == file)
        });
        Some((self.config(), new_errors))
    }

    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<ObjectKey, DocumentError> {
        let error = |reason, message| DocumentError {
            file: name.to_owned(),
            reason,
            message,
        };
        if bytes.len() as u64 > LARGEST {
            return Err(error("TooLarge", format!("more than {LARGEST} bytes")));
        }
        let config = ObjectConfig::parse(bytes)
            .map_err(|refusal| error(refusal.reason(), refusal.to_string()))?;
        let key = config.object.clone();
        self.objects.insert(key.clone(), Arc::new(config));
        Ok(key)
    }

    fn config(&self) -> Config {
        let errors = self
            .files
            .values()
            .filter_map(|(_, result)| result.as_ref().err());
        let mut errors: Vec<DocumentError> = errors.chain(&self.folder_error).cloned().collect();
        errors.sort_by(|a, b| a.file.cmp(&b.file));
        Config {
            loaded: self.loaded,
            objects: self.objects.clone(),
            errors,
        }
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Every document in the folder and its subfolders. What begins with a dot belongs to the kubelet,
/// which swaps the link `..data` at once, so that a set of files is seen whole or not at all.
fn documents(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for (name, path) in entries(path)? {
        if path.is_dir() {
            for (inner, path) in entries(&path)? {
                if path.is_file() {
                    read(&format!("{name}/{inner}"), &path, &mut found)?;
                }
            }
        } else {
            read(&name, &path, &mut found)?;
        }
    }
    Ok(found)
}

fn entries(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            entries.push((name, entry.path()));
        }
    }
    entries.sort();
    Ok(entries)
}

fn read(name: &str, path: &Path, found: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    if !path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
    {
        return Ok(());
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > LARGEST => {
            // One byte too many says that it is too large.
            found.push((name.to_owned(), vec![0; LARGEST as usize + 1]));
        }
        Ok(_) => match fs::read(path) {
            Ok(bytes) => found.push((name.to_owned(), bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        },
        // The kubelet has just taken it away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
