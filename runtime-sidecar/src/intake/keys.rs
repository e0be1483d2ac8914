//! The keys of signatures: mounted files, read again when they change. Every file is a valid key, so
//! that keys can be rotated.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use weir_core::config::SignatureScheme;
use weir_core::verify::Key;

/// Most keys of one object; more is a mistake (a wrong Secret) and would make each check slow.
const MOST: usize = 32;

/// Largest file of a key.
const LARGEST: u64 = 64 * 1024;

/// What is known of the keys of one object. Never printed.
#[derive(Default)]
pub struct Keys {
    /// The valid ones, in the order of their files.
    pub values: Vec<Key>,
    /// What is wrong with the folder.
    pub problem: Option<String>,
    stamp: Vec<(String, Option<SystemTime>, u64)>,
}

impl Keys {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing can be checked.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Reads the folder when it has changed since `known`; `None` when it has not.
pub fn read(dir: &Path, scheme: SignatureScheme, known: &Keys) -> Option<Keys> {
    let stamp = match stamp(dir) {
        Ok(stamp) => stamp,
        Err(error) => {
            let problem = format!("{} cannot be read: {}", dir.display(), error.kind());
            return changed(
                known,
                Keys {
                    problem: Some(problem),
                    ..Keys::default()
                },
            );
        }
    };
    if stamp == known.stamp && !stamp.is_empty() {
        return None;
    }
    let mut keys = Keys {
        stamp,
        ..Keys::default()
    };
    for (name, _, size) in keys.stamp.iter().take(MOST) {
        if *size > LARGEST {
            keys.problem = Some(format!(
                "{name} has more than {LARGEST} bytes; it is not a key"
            ));
            continue;
        }
        match fs::read(dir.join(name)) {
            Ok(value) => match Key::parse(scheme, &value) {
                Ok(key) => keys.values.push(key),
                Err(error) => keys.problem = Some(format!("{name}: {error}")),
            },
            Err(error) => keys.problem = Some(format!("{name}: {}", error.kind())),
        }
    }
    if keys.stamp.is_empty() {
        keys.problem = Some(format!("{} holds no key; create the Secret", dir.display()));
    } else if keys.stamp.len() > MOST {
        keys.problem = Some(format!("only the first {MOST} keys are used"));
    }
    changed(known, keys)
}

fn changed(known: &Keys, keys: Keys) -> Option<Keys> {
    let same = known.stamp == keys.stamp && known.problem == keys.problem;
    (!same).then_some(keys)
}

/// Names, times and sizes of the files, in the order of names. What begins with a dot belongs to the
/// kubelet.
fn stamp(dir: &Path) -> io::Result<Vec<(String, Option<SystemTime>, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        // Follows the kubelet's symbolic links.
        let Ok(metadata) = fs::metadata(entry.path()) else {
            continue;
        };
        if metadata.is_file() {
            files.push((name, metadata.modified().ok(), metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(dir: &Path, known: &Keys) -> Option<Keys> {
        read(dir, SignatureScheme::GitHub, known)
    }

    #[test]
    fn every_file_is_a_key_and_a_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let none = look(dir.path(), &Keys::default()).unwrap();
        assert!(none.problem.as_ref().unwrap().contains("create the Secret"));
        assert!(look(dir.path(), &none).is_none(), "nothing new to say");

        fs::write(dir.path().join("old"), "one\n").unwrap();
        fs::create_dir(dir.path().join("..data")).unwrap();
        let one = look(dir.path(), &none).unwrap();
        assert_eq!((one.len(), &one.problem), (1, &None));
        assert!(look(dir.path(), &one).is_none());

        fs::write(dir.path().join("new"), "two").unwrap();
        let two = look(dir.path(), &one).unwrap();
        assert_eq!(two.len(), 2);

        fs::remove_dir_all(dir.path()).unwrap();
        let gone = look(dir.path(), &two).unwrap();
        assert!(gone.is_empty() && gone.problem.is_some());
    }

    #[test]
    fn what_is_not_a_key_is_a_problem_that_does_not_show_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("empty"), "\n").unwrap();
        let keys = look(dir.path(), &Keys::default()).unwrap();
        assert!(keys.is_empty());
        assert!(keys.problem.unwrap().contains("empty: "));

        fs::write(dir.path().join("empty"), "canary").unwrap();
        let keys = read(
            dir.path(),
            SignatureScheme::StandardWebhooks,
            &Keys::default(),
        )
        .unwrap();
        assert!(keys.is_empty());
        assert!(!keys.problem.unwrap().contains("canary"));
    }

    #[test]
    fn a_bad_key_does_not_keep_a_good_one_from_working() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        fs::write(dir.path().join("b"), "good").unwrap();
        let keys = look(dir.path(), &Keys::default()).unwrap();
        assert!(keys.len() == 1 && keys.problem.is_some());
    }
}
