//! A disk, as xl describes it: `target,format,vdev,access`, or by names, `vdev=xvda,target=...`.

use alloc::string::{String, ToString};

use super::error::Problem;

/// A domain's disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disk {
    /// What it is of: a device, a partition of one, or a region, such as `/dev/vda2`.
    pub target: String,
    /// Its name in the domain, such as `xvda`.
    pub vdev: String,
    /// Whether the domain may only read it.
    pub readonly: bool,
}

const VDEV: &str = "the name in the domain is like xvda, xvdb1";
const ACCESS: &str = "access is r, ro, w or rw";

impl Disk {
    pub(super) fn parse(words: &str) -> Result<Self, Problem> {
        let wrong = |part: &str, expected| Problem::Part(part.to_string(), expected);
        let mut disk = Self { target: String::new(), vdev: String::new(), readonly: false };
        let mut place = 0;
        for word in words.split(',').map(str::trim) {
            // The target may contain `=`, and its name is not needed.
            let (key, value) = match word.split_once('=') {
                Some((key, value)) if is_key(key) => (key, value),
                _ => {
                    let key = ["target", "format", "vdev", "access"].get(place).copied();
                    place += 1;
                    // Before there were formats, the name in the domain came second.
                    if key == Some("format") && number_of(word).is_some() {
                        place = 3;
                        ("vdev", word)
                    } else {
                        (key.ok_or_else(|| wrong(word, "there are too many parts"))?, word)
                    }
                }
            };
            match key {
                "target" => disk.target = path(value).to_string(),
                "format" if matches!(value, "" | "raw") => {}
                "format" => return Err(wrong(value, "only raw disks are possible")),
                "vdev" if number_of(value).is_some() => disk.vdev = value.to_string(),
                "vdev" => return Err(wrong(value, VDEV)),
                "access" => disk.readonly = access(value).ok_or_else(|| wrong(value, ACCESS))?,
                "backendtype" if matches!(value, "phy" | "") => {}
                _ => return Err(wrong(word, "nothing of a disk here")),
            }
        }
        if disk.target.is_empty() {
            return Err(wrong(words, "it names no target, such as /dev/vda"));
        }
        if disk.vdev.is_empty() {
            return Err(wrong(words, VDEV));
        }
        Ok(disk)
    }

    /// The number by which the domain knows the disk.
    #[must_use]
    pub fn number(&self) -> u32 {
        number_of(&self.vdev).unwrap_or_default()
    }
}

fn is_key(word: &str) -> bool {
    matches!(word, "target" | "format" | "vdev" | "access" | "backendtype")
}

fn path(target: &str) -> &str {
    target.strip_prefix("phy:").unwrap_or(target)
}

fn access(word: &str) -> Option<bool> {
    match word {
        "r" | "ro" => Some(true),
        "w" | "rw" | "" => Some(false),
        _ => None,
    }
}

/// The number of `xvdX` or `xvdXN`: the major number 202, 16 minors a disk.
fn number_of(vdev: &str) -> Option<u32> {
    let rest = vdev.strip_prefix("xvd")?;
    let letter = *rest.as_bytes().first().filter(|letter| (b'a'..=b'p').contains(letter))?;
    let partition = rest.get(1..)?;
    let partition: u32 = if partition.is_empty() { 0 } else { partition.parse().ok()? };
    let valid = partition < 16 && !rest.get(1..)?.starts_with(['0', '+']);
    valid.then(|| 202 << 8 | u32::from(letter - b'a') << 4 | partition)
}
