//! Configurations, kernels and ramdisks: from the boot bundle, and from partitions of the machine's
//! disks with a FAT file system.
//!
//! A file on a disk is named as `/dev/vda1:/web.cfg`. What a configuration on a disk names by a bare
//! name is looked for beside it, then in the bundle, then on the partition of the word `from=` on the
//! command line. A partition is claimed while it is read: it can't be one that a domain may write.

use alloc::borrow::Cow;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use devices::disk::{Disk, Operation};
use devices::hw::Buffer;
use toolstack::archive::File;
use toolstack::config::Config;
use toolstack::volume::{self, Source};

use crate::storage::{Claim, Storage};

/// The word on the command line that names the partition.
pub(crate) const WORD: &str = "from=";
/// What the names of configurations end with.
const ENDING: &str = ".cfg";

/// Where files come from.
pub(crate) struct Files {
    bundle: Vec<File<'static>>,
    /// The partition where everything else is looked for, such as `/dev/vda1`.
    from: Option<String>,
    storage: Rc<Storage>,
    /// The longest file. Unit: bytes.
    most: usize,
}

impl Files {
    /// Files of the bundle and of the partition `from`, of `most` bytes at most.
    pub(crate) fn new(
        bundle: Vec<File<'static>>,
        from: Option<&str>,
        storage: Rc<Storage>,
        most: usize,
    ) -> Self {
        Self { bundle, from: from.map(ToString::to_string), storage, most }
    }

    /// A file of the bundle.
    pub(crate) fn bundled(&self, name: &str) -> Option<&'static [u8]> {
        Some(self.bundle.iter().find(|file| file.name == name)?.bytes)
    }

    /// A file that a configuration names, which has others `beside` itself.
    ///
    /// # Errors
    /// If there is none of this name, or it can't be read.
    pub(crate) async fn get(&self, name: &str, beside: &str) -> Result<Cow<'static, [u8]>, String> {
        if let Some((disk, path)) = on_disk(name) {
            let bytes = self.read(disk, path).await?;
            return bytes.map(Cow::Owned).ok_or_else(|| format!("there is no file {name}"));
        }
        if let Some((disk, folder)) = on_disk(beside)
            && let Some(bytes) = self.read(disk, &format!("{folder}{name}")).await?
        {
            return Ok(Cow::Owned(bytes));
        }
        if let Some(bytes) = self.bundled(name) {
            return Ok(Cow::Borrowed(bytes));
        }
        if let Some(from) = &self.from
            && let Some(bytes) = self.read(from, name).await?
        {
            return Ok(Cow::Owned(bytes));
        }
        let places = [beside, self.from.as_deref().unwrap_or_default()];
        let places = places.iter().filter(|place| !place.is_empty());
        Err(format!("no file `{name}` in the bundle")
            + &places.map(|place| format!(", nor at {place}")).collect::<String>())
    }

    /// The configuration that a file holds, or that is of this name in one of the bundle's.
    ///
    /// # Errors
    /// If there is none, or it is wrong.
    pub(crate) async fn config(&self, name: &str) -> Result<Config, String> {
        if let Some((disk, path)) = on_disk(name) {
            let bytes = self.read(disk, path).await?;
            return of_disk(name, &bytes.ok_or_else(|| format!("there is no file {name}"))?);
        }
        let files = || self.bundle.iter().filter(|file| file.name.ends_with(ENDING));
        if let Some(file) = files().find(|file| file.name == name) {
            return parse(file.name, file.bytes);
        }
        let mut parsed = files().filter_map(|file| parse(file.name, file.bytes).ok());
        if let Some(config) = parsed.find(|it| it.name == name) {
            return Ok(config);
        }
        // A file of that name may be wrong.
        if let Some(file) = files().find(|file| file.name.strip_suffix(ENDING) == Some(name)) {
            return parse(file.name, file.bytes);
        }
        let Some(from) = &self.from else {
            return Err(format!("no configuration is called `{name}`"));
        };
        for path in [name.to_string(), format!("{name}{ENDING}")] {
            if path.ends_with(ENDING)
                && let Some(bytes) = self.read(from, &path).await?
            {
                return of_disk(&format!("{from}:/{path}"), &bytes);
            }
        }
        Err(format!("no configuration is called `{name}`, nor {name}{ENDING} at {from}"))
    }

    /// The names of the bundle's configurations.
    pub(crate) fn configs(&self) -> Vec<String> {
        let files = self.bundle.iter().filter(|file| file.name.ends_with(ENDING));
        files.filter_map(|file| Some(parse(file.name, file.bytes).ok()?.name)).collect()
    }

    /// Configurations and folders of a disk whose names can go on as this one does: those of its folder,
    /// or of the partition where everything is looked for. None if that can't be read.
    pub(crate) async fn like(&self, word: &str) -> Vec<String> {
        let (prefix, disk, folder) = match (on_disk(word), &self.from) {
            (Some((disk, path)), _) => {
                let folder = path.rfind('/').and_then(|end| path.get(..=end)).unwrap_or_default();
                (format!("{disk}:{folder}"), disk, folder)
            }
            (None, Some(from)) => (String::new(), &**from, ""),
            (None, None) => return Vec::new(),
        };
        let names = async {
            let claim = self.storage.open(disk, true, |_| None).await.ok()?;
            volume::list(&Reader::new(disk, &claim).ok()?, folder).await.ok()
        };
        let told = |name: String| match prefix.is_empty() {
            true => Some(name.strip_suffix(ENDING)?.to_string()),
            false => {
                (name.ends_with('/') || name.ends_with(ENDING)).then(|| prefix.clone() + &name)
            }
        };
        names.await.unwrap_or_default().into_iter().filter_map(told).collect()
    }

    /// Reads a file of a disk, if it is there.
    async fn read(&self, disk: &str, path: &str) -> Result<Option<Vec<u8>>, String> {
        let claim = self.storage.open(disk, true, |_| None).await?;
        let source = Reader::new(disk, &claim)?;
        match volume::read(&source, path, self.most).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(format!("{disk}:/{}: {error}", path.trim_start_matches('/'))),
        }
    }
}

/// The disk and the path of a name such as `/dev/vda1:/web.cfg`.
fn on_disk(name: &str) -> Option<(&str, &str)> {
    name.split_once(':').filter(|_| name.starts_with("/dev/"))
}

/// A configuration from a disk, with its folder.
fn of_disk(name: &str, bytes: &[u8]) -> Result<Config, String> {
    let mut config = parse(name, bytes)?;
    let end = name.rfind(['/', ':']).map_or(0, |at| at + 1);
    config.beside = name.get(..end).unwrap_or_default().to_string();
    Ok(config)
}

/// Reads the bytes of a file as a configuration.
///
/// # Errors
/// If they are none.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Config, String> {
    let text = core::str::from_utf8(bytes).map_err(|_| format!("{name}: no text"))?;
    Config::parse(name, text).map_err(|error| error.to_string())
}

/// A disk that is read through a buffer.
pub(crate) struct Reader<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) buffer: Buffer,
}

impl<'a> Reader<'a> {
    fn new(name: &str, claim: &'a Claim) -> Result<Self, String> {
        let buffer = Buffer::new(volume::PIECE, 0).map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { disk: &claim.disk, buffer })
    }
}

impl Source for Reader<'_> {
    fn sectors(&self) -> u64 {
        self.disk.sectors()
    }

    async fn read(&self, first: u64, bytes: &mut [u8]) -> Result<(), String> {
        let piece = u32::try_from(bytes.len()).ok().and_then(|it| self.buffer.piece(0, it));
        let piece = piece.ok_or("it is too long")?;
        let read = self.disk.transfer(Operation::Read, first, &[piece]).await;
        read.map_err(|error| error.to_string())?;
        for (to, offset) in bytes.chunks_mut(8).zip((0..).step_by(8)) {
            let mut word = [0];
            self.buffer.read(offset, &mut word);
            to.iter_mut().zip(word[0].to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }
}
