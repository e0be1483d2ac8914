//! Reading manifests: files, folders, standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Largest manifest file, bytes; what the API server would refuse in any case.
const FILE_LIMIT: u64 = 16 << 20;

/// One file as it was read.
#[derive(Clone, Debug)]
pub struct File {
    /// As people named it; `-` for standard input.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl File {
    /// The folder in which its relative paths start.
    pub fn folder(&self) -> PathBuf {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        }
    }
}

/// Reads every file named, and every `*.yaml`, `*.yml` and `*.json` of every folder named, in order of
/// name. `kustomization.yaml` is not a manifest and is left out.
pub fn read(names: &[PathBuf]) -> Result<Vec<File>, Failure> {
    let mut files = Vec::new();
    for name in names {
        if name == Path::new("-") {
            files.push(read_one(name, std::io::stdin())?);
            continue;
        }
        let about = std::fs::metadata(name)
            .map_err(|why| Failure::usage(format!("cannot read {}: {why}", name.display())))?;
        if !about.is_dir() {
            files.push(open(name)?);
            continue;
        }
        let mut inside: Vec<PathBuf> = std::fs::read_dir(name)
            .map_err(|why| Failure::usage(format!("cannot read {}: {why}", name.display())))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_file() && is_manifest(path))
            .collect();
        inside.sort();
        if inside.is_empty() {
            return Err(
                Failure::usage(format!("{} holds no manifest", name.display()))
                    .next("name a folder with *.yaml files, or a file"),
            );
        }
        for path in inside {
            files.push(open(&path)?);
        }
    }
    Ok(files)
}

/// The text of one file, or of standard input for `-`.
pub fn text(name: &Path) -> Result<String, Failure> {
    let file = if name == Path::new("-") {
        read_one(name, std::io::stdin())?
    } else {
        open(name)?
    };
    Ok(file.text)
}

/// The value of a flag: as it stands, or for `@FILE` what is in the file.
pub fn value(given: &str) -> Result<String, Failure> {
    match given.strip_prefix('@') {
        Some(file) => text(Path::new(file)),
        None => Ok(given.to_owned()),
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let stem = path
        .file_stem()
        .and_then(|s| s.to_str())
        .unwrap_or_default();
    matches!(extension, "yaml" | "yml" | "json") && stem != "kustomization"
}

fn open(path: &Path) -> Result<File, Failure> {
    let file = std::fs::File::open(path)
        .map_err(|why| Failure::usage(format!("cannot read {}: {why}", path.display())))?;
    read_one(path, file)
}

fn read_one(path: &Path, from: impl std::io::Read) -> Result<File, Failure> {
    let mut bytes = Vec::new();
    from.take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|why| Failure::usage(format!("cannot read {}: {why}", path.display())))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(
            Failure::usage(format!("{} is larger than 16 MiB", path.display()))
                .next("a manifest is never that large; is it the right file?"),
        );
    }
    let text = String::from_utf8(bytes).map_err(|why| {
        let at = why.utf8_error().valid_up_to();
        Failure::usage(format!("{} is not UTF-8: byte {at}", path.display()))
            .next("save it as UTF-8, without a byte order mark")
    })?;
    Ok(File {
        path: path.to_owned(),
        text,
    })
}
