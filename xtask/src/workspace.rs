//! Where things are: the workspace's folders, and the guests it can build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// Packages whose binaries are PV guests.
const GUEST_PACKAGES: [&str; 5] =
    ["example-guests", "dom0", "supervisors", "conformance", "hostile"];

/// The workspace this program was built from.
pub(crate) struct Workspace {
    /// The folder of the topmost `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target directory; everything made lies in here.
    pub(crate) target: PathBuf,
    /// The binaries that are PV guests.
    pub(crate) guests: Vec<GuestBinary>,
}

/// A guest that the workspace can build.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct GuestBinary {
    /// What a user calls it: the name of the binary.
    pub(crate) name: String,
    /// The package it is built from.
    pub(crate) package: String,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    ///
    /// When cargo does not run or answers something unknown.
    pub(crate) fn find() -> Result<Self> {
        // Compiled in: `cargo xtask` builds this program from the very tree it works on.
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask is not inside a workspace")?
            .to_path_buf();
        let mut command = Command::new(cargo());
        command.current_dir(&root).args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version=1",
        ]);
        let metadata: Value = serde_json::from_slice(&process::output(&mut command)?)?;
        let target = metadata["target_directory"]
            .as_str()
            .context("cargo metadata names no target directory")?;
        Ok(Self { root, target: PathBuf::from(target), guests: guests(&metadata) })
    }

    /// A folder of that name below the target directory, made if need be.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join("xtask").join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(folder)
    }
}

/// While it is held, nobody else of this process installs or makes what several use.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static PROVIDING: Mutex<()> = Mutex::new(());
    PROVIDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has what `recipe` says made in `folder`, if it was not made there by the same recipe before. Others who
/// want it wait until it is there.
///
/// # Errors
///
/// Those of `make`.
pub(crate) fn once(folder: &Path, recipe: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let _alone = alone();
    let complete = folder.join("complete");
    if std::fs::read_to_string(&complete).is_ok_and(|made| made == recipe) {
        return Ok(());
    }
    make()?;
    std::fs::write(complete, recipe)?;
    Ok(())
}

/// The cargo that started us, or the one in the PATH.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn guests(metadata: &Value) -> Vec<GuestBinary> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = list(&metadata["packages"]).into_iter();
    let guests = packages.filter(|it| GUEST_PACKAGES.contains(&text(&it["name"]).as_str()));
    let binaries = guests.flat_map(|package| {
        let targets = list(&package["targets"]).into_iter();
        let binaries = targets.filter(|target| target["kind"][0] == "bin");
        let package = text(&package["name"]);
        binaries.map(move |it| GuestBinary { name: text(&it["name"]), package: package.clone() })
    });
    binaries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_the_binaries_of_guest_packages() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "xtask", "targets": [{ "kind": ["bin"], "name": "xtask" }] },
            { "name": "dom0", "targets": [
                { "kind": ["custom-build"], "name": "build-script-build" },
                { "kind": ["bin"], "name": "dom0" },
            ] },
        ] });
        let dom0 = GuestBinary { name: "dom0".into(), package: "dom0".into() };
        assert_eq!(guests(&metadata), [dom0]);
    }
}
