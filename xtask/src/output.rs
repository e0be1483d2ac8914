//! Generated files: written, or compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of one generator, and the folders in which only it writes.
#[derive(Debug, Default)]
pub struct Output {
    files: BTreeMap<PathBuf, String>,
    owned: Vec<(PathBuf, &'static str)>,
}

impl Output {
    /// A file, with its path from the root.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: String) {
        self.files.insert(path.into(), text);
    }

    /// Files of `folder` that contain `mark` and are not among ours are stale.
    pub fn own(&mut self, folder: impl Into<PathBuf>, mark: &'static str) {
        self.owned.push((folder.into(), mark));
    }

    /// Writes what differs, or with `check` only tells. Returns how many files differ.
    pub fn apply(&self, root: &Path, check: bool) -> Result<usize, String> {
        let mut differing = 0;
        for (path, text) in &self.files {
            let target = root.join(path);
            if fs::read_to_string(&target).is_ok_and(|old| old == *text) {
                continue;
            }
            differing += 1;
            println!(
                "{} {}",
                if check { "differs:" } else { "wrote" },
                path.display()
            );
            if !check {
                let folder = target.parent().unwrap_or(root);
                fs::create_dir_all(folder)
                    .and_then(|()| fs::write(&target, text))
                    .map_err(|error| format!("{}: {error}", target.display()))?;
            }
        }
        for path in self.stale(root) {
            differing += 1;
            println!(
                "{} {}",
                if check { "stale:" } else { "removed" },
                path.display()
            );
            if !check {
                fs::remove_file(root.join(&path))
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        Ok(differing)
    }

    fn stale(&self, root: &Path) -> Vec<PathBuf> {
        let mut stale = Vec::new();
        for (folder, mark) in &self.owned {
            let entries = fs::read_dir(root.join(folder))
                .into_iter()
                .flatten()
                .flatten();
            for entry in entries {
                let path = folder.join(entry.file_name());
                let ours = fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(mark));
                if ours && !self.files.contains_key(&path) {
                    stale.push(path);
                }
            }
        }
        stale.sort();
        stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_tells_and_does_not_write() {
        let root = std::env::temp_dir().join(format!("weir-xtask-{}", std::process::id()));
        let mut output = Output::default();
        output.add("a/b.txt", "# made\n".into());
        output.own("a", "# made");
        assert_eq!(output.apply(&root, true), Ok(1));
        assert!(!root.join("a/b.txt").exists());
        assert_eq!(output.apply(&root, false), Ok(1));
        assert_eq!(output.apply(&root, true), Ok(0));
        fs::write(root.join("a/old.txt"), "# made before\n").unwrap();
        fs::write(root.join("a/own.txt"), "by hand\n").unwrap();
        assert_eq!(output.apply(&root, true), Ok(1));
        assert_eq!(output.apply(&root, false), Ok(1));
        assert!(!root.join("a/old.txt").exists() && root.join("a/own.txt").exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
