//! The copy of the workspace that faults are put into. What is built of it stays from one fault to the
//! next, so that only what depends on the changed file is built anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Mutation;

/// The copy.
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Makes the copy, or makes it the same again: all that git knows of the workspace or would add.
    ///
    /// # Errors
    ///
    /// When git does not run, or a file can't be copied.
    pub(crate) fn renew(workspace: &Path, root: PathBuf) -> Result<Self> {
        let listed = listed(workspace)?;
        for name in &listed {
            let Ok(content) = std::fs::read(workspace.join(name)) else { continue };
            let copy = root.join(name);
            if std::fs::read(&copy).ok().as_ref() != Some(&content) {
                put(&copy, &content)?;
            }
        }
        let tree = Self { root };
        if tree.running().exists() {
            // A compiler that was killed may have left half of what the next one goes on from.
            for profile in ["debug", "release"] {
                let left = tree.root.join("target").join(profile).join("incremental");
                let _none = std::fs::remove_dir_all(left);
            }
        }
        for name in tree.files(Path::new(""))? {
            if !listed.contains(&name) || !workspace.join(&name).exists() {
                std::fs::remove_file(tree.root.join(&name))?;
            }
        }
        Ok(tree)
    }

    /// Its folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The file that is there while something is built or run.
    fn running(&self) -> PathBuf {
        self.root.join("target/running")
    }

    /// Does something with what is in the tree; noted, so that it is known when it was interrupted.
    ///
    /// # Errors
    ///
    /// When that can't be noted, or what is done fails.
    pub(crate) fn work<T>(&self, does: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        put(&self.running(), b"")?;
        let done = does(&self.root);
        std::fs::remove_file(self.running())?;
        done
    }

    /// Puts a fault in, until the returned value is dropped.
    ///
    /// # Errors
    ///
    /// When the fault does not fit.
    pub(crate) fn mutate(&self, mutation: &Mutation) -> Result<Mutated> {
        let path = self.root.join(&mutation.file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mutated = Mutated { path, text };
        put(&mutated.path, changed(&mutated.text, mutation)?.as_bytes())?;
        Ok(mutated)
    }

    /// All files, without what was built.
    fn files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.root.join(folder))? {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if !entry.file_type()?.is_dir() {
                found.push(name);
            } else if name != Path::new("target") {
                found.extend(self.files(&name)?);
            }
        }
        Ok(found)
    }
}

/// A file with a fault in it.
#[must_use = "the fault is gone when this is dropped"]
pub(crate) struct Mutated {
    path: PathBuf,
    text: String,
}

impl Drop for Mutated {
    fn drop(&mut self) {
        if let Err(error) = put(&self.path, self.text.as_bytes()) {
            eprintln!("mutate: {error:#}");
        }
    }
}

/// What becomes of a file's text.
///
/// # Errors
///
/// When what is to be replaced does not stand there exactly once.
pub(crate) fn changed(text: &str, mutation: &Mutation) -> Result<String> {
    let mut text = text.to_owned();
    for (before, after) in &mutation.parts {
        let count = text.matches(before.as_str()).count();
        let Mutation { id, file, .. } = mutation;
        ensure!(count == 1, "{id}: this stands in {file} {count} times, not once:\n{before}");
        text = text.replacen(before.as_str(), after, 1);
    }
    Ok(text)
}

fn listed(workspace: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(workspace).args(["ls-files", "-z", "-co", "--exclude-standard"]);
    let output = git.output().context("git does not run")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).context("a file whose name is no text")?;
    Ok(text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

fn put(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file in no folder")?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(path, content).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutation(parts: &[(&str, &str)]) -> Mutation {
        let parts = parts.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        Mutation { id: "1a".into(), what: String::new(), file: "f".into(), parts }
    }

    #[test]
    fn what_is_replaced_stands_there_once() {
        assert_eq!(changed("a b c", &mutation(&[("b", "x"), ("c", "y")])).unwrap(), "a x y");
        assert!(changed("a b b", &mutation(&[("b", "x")])).is_err());
        assert!(changed("a b c", &mutation(&[("d", "x")])).is_err());
    }

    #[test]
    fn a_fault_goes_as_it_came() {
        let root = std::env::temp_dir().join(format!("paravane-mutation-{}", std::process::id()));
        put(&root.join("f"), b"a b c").unwrap();
        let tree = Tree { root: root.clone() };
        let read = || std::fs::read_to_string(root.join("f")).unwrap();
        let mutated = tree.mutate(&mutation(&[("b", "x")])).unwrap();
        assert_eq!(read(), "a x c");
        drop(mutated);
        assert_eq!(read(), "a b c");
        std::fs::remove_dir_all(root).unwrap();
    }
}
