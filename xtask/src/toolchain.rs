//! The two routes to a compiler for the bare-metal target, and the cargo commands over them.
//!
//! Route 1 is rustup's precompiled `core` for `x86_64-unknown-none`. Whether it can be had is
//! decided by trying: where rustup's servers are out of reach it fails within seconds. Route 2 is
//! Debian's newest Rust, which brings the source of `core`, and `-Zbuild-std`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::process::{self, say};
use crate::workspace::{self, Workspace, cargo};

/// The bare-metal target.
pub(crate) const TARGET: &str = "x86_64-unknown-none";

/// Forces a route when `--toolchain` is not given: `rustup` or `debian`.
const ROUTE_VARIABLE: &str = "XTASK_TOOLCHAIN";

/// The folder below the target directory for what Debian's compiler makes.
const DEBIAN_FOLDER: &str = "debian";

/// What is needed of Debian's compiler, the source of `core`, a linker and the lints; and the
/// packages that have it.
const DEBIAN_FILES: [(&str, &str); 5] = [
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/core", "rust-web-src"),
    ("/usr/bin/ld.lld", "lld"),
    ("/usr/bin/clippy-driver", "rust-web-clippy"),
];

/// Where the compiler for the bare-metal target comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// `rustup target add`.
    Rustup,
    /// Debian's `rustc-web` and its companions.
    Debian,
}

impl Route {
    /// The name that [`Route::named`] takes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }

    /// The route called `name`.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            "rustup" => Ok(Self::Rustup),
            "debian" => Ok(Self::Debian),
            _ => bail!("no toolchain route `{name}`: it is `rustup` or `debian`"),
        }
    }
}

/// A compiler for the bare-metal target that is there and works.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    route: Route,
    root: PathBuf,
    target: PathBuf,
}

impl Toolchain {
    /// Provides the compiler by `forced`, or by the environment's choice, or by whatever works.
    ///
    /// # Errors
    ///
    /// When no route leads to one.
    pub(crate) fn provide(workspace: &Workspace, forced: Option<Route>) -> Result<Self> {
        let forced = match (forced, std::env::var(ROUTE_VARIABLE)) {
            (None, Ok(name)) if !name.is_empty() => {
                Some(Route::named(&name).context(ROUTE_VARIABLE)?)
            }
            (forced, _) => forced,
        };
        let _alone = workspace::alone();
        let route = match forced {
            Some(Route::Rustup) => {
                rustup().context("no bare-metal target by the route `rustup`")?;
                Route::Rustup
            }
            None if has_target() => Route::Rustup,
            // Once the other route was taken, rustup's servers are not asked again on every run.
            None if has_debian() && workspace.target.join(DEBIAN_FOLDER).exists() => Route::Debian,
            None if rustup().map_err(|error| say(last_line(&error))).is_ok() => Route::Rustup,
            Some(Route::Debian) | None => {
                say("building for bare metal with Debian's compiler");
                debian_packages()?;
                Route::Debian
            }
        };
        let target = match route {
            Route::Rustup => workspace.target.clone(),
            // Two compilers in one folder would rebuild everything whenever they take turns.
            Route::Debian => workspace.target.join(DEBIAN_FOLDER),
        };
        Ok(Self { route, root: workspace.root.clone(), target })
    }

    /// `cargo SUBCOMMAND` for the bare-metal target.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = match self.route {
            Route::Rustup => Command::new(cargo()),
            Route::Debian => debian_cargo(),
        };
        command.current_dir(&self.root).arg(subcommand);
        command.arg("--target-dir").arg(&self.target);
        command.args(["--target", TARGET]);
        command
    }

    /// Builds the binary `name` of the crate in a folder of its own, below which everything made lies.
    ///
    /// # Errors
    ///
    /// As of [`Toolchain::build`].
    pub(crate) fn build_folder(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        let mut target = folder.join("target");
        if self.route == Route::Debian {
            target.push(DEBIAN_FOLDER);
        }
        let there = Self { root: folder.to_owned(), target, ..*self };
        let mut command = there.cargo("build");
        command.args(["--release", "--bin", name]);
        process::succeed(&mut command).with_context(|| format!("cannot build `{name}`"))?;
        Ok(there.target.join(TARGET).join("release").join(name))
    }

    /// Builds our kernel with all that a debugger may want to know, beside the usual one; its path.
    ///
    /// # Errors
    ///
    /// As of [`Toolchain::build`].
    pub(crate) fn build_for_gdb(&self) -> Result<PathBuf> {
        let there = Self { root: self.root.clone(), target: self.target.join("gdb"), ..*self };
        let mut command = there.cargo("build");
        command.args(["--release", "-p", "paravane-kernel", "--bin", "paravane"]);
        command.env("CARGO_PROFILE_RELEASE_DEBUG", "true");
        process::succeed(&mut command).context("cannot build the kernel for gdb")?;
        Ok(there.target.join(TARGET).join("release").join("paravane"))
    }

    /// Builds the binary `name` of `package` and returns its path.
    ///
    /// # Errors
    ///
    /// When it does not build; cargo has said why by then.
    pub(crate) fn build(&self, package: &str, name: &str) -> Result<PathBuf> {
        let mut command = self.cargo("build");
        command.args(["--release", "-p", package, "--bin", name]);
        process::succeed(&mut command).with_context(|| format!("cannot build `{name}`"))?;
        Ok(self.target.join(TARGET).join("release").join(name))
    }
}

/// Route 1: the target is there, or rustup can fetch it.
fn rustup() -> Result<()> {
    if has_target() {
        return Ok(());
    }
    say(format!("adding the target {TARGET} with rustup (some 30 MB)"));
    let mut command = Command::new("rustup");
    // Where this fails there is another way: an error and no backtrace.
    command.args(["target", "add", TARGET]).env("RUST_BACKTRACE", "0");
    process::output(&mut command)?;
    if has_target() {
        return Ok(());
    }
    bail!("rustup added the target, but this cargo's compiler does not see it")
}

/// rustup's errors tell their story from its beginning.
fn last_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().last().unwrap_or_default().to_owned()
}

/// Whether the compiler that cargo uses has `core` for the bare-metal target.
fn has_target() -> bool {
    let mut command = Command::new("rustc");
    command.args(["--print", "target-libdir", "--target", TARGET]);
    let Ok(folder) = process::output(&mut command) else {
        return false;
    };
    Path::new(String::from_utf8_lossy(&folder).trim())
        .read_dir()
        .is_ok_and(|mut files| files.next().is_some())
}

/// Route 2: what is missing of it is installed.
fn debian_packages() -> Result<()> {
    if has_debian() {
        return Ok(());
    }
    let packages: Vec<&str> = DEBIAN_FILES.iter().map(|(_, package)| *package).collect();
    debian::install(&packages, "to build for bare metal without rustup")
}

fn has_debian() -> bool {
    DEBIAN_FILES.iter().all(|(path, _)| Path::new(path).exists())
}

fn debian_cargo() -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    command
        // A `rustup` in the PATH takes this as "the toolchain installed in /usr".
        .env("RUSTUP_TOOLCHAIN", "/usr")
        .env("RUSTC", "/usr/bin/rustc")
        // Debian's is a stable compiler; `-Zbuild-std` needs this.
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("CARGO")
        // rustup's cargo points this at its own compiler's libraries.
        .env_remove("LD_LIBRARY_PATH")
        .arg("-Zbuild-std=core,alloc,compiler_builtins")
        .arg("-Zbuild-std-features=compiler-builtins-mem")
        .arg("--config")
        .arg(format!("target.{TARGET}.linker=\"ld.lld\""));
    command
}
