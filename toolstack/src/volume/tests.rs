use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use embassy_futures::block_on;

use super::{Source, list, read};

const SECTOR: usize = 512;
/// Where the table, the root and the clusters begin, and how many clusters there are.
const TABLE: usize = 1;
const ROOT: usize = 21;
const DATA: usize = 53;
const CLUSTERS: usize = 5000;

/// A FAT16 file system in memory, with clusters of a sector.
struct Image {
    bytes: Vec<u8>,
    /// The next cluster that is free.
    free: usize,
    reads: Cell<usize>,
    fails: bool,
}

impl Source for Image {
    fn sectors(&self) -> u64 {
        (self.bytes.len() / SECTOR) as u64
    }

    async fn read(&self, first: u64, bytes: &mut [u8]) -> Result<(), String> {
        self.reads.set(self.reads.get() + 1);
        let first = usize::try_from(first).unwrap() * SECTOR;
        bytes.copy_from_slice(&self.bytes[first..first + bytes.len()]);
        if self.fails { Err("the disk is broken".to_string()) } else { Ok(()) }
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// An entry of a folder.
fn entry(name: &[u8; 11], kind: u8, cluster: usize, length: usize) -> [u8; 32] {
    let mut entry = [0; 32];
    put(&mut entry, 0, name);
    entry[11] = kind;
    put(&mut entry, 26, &u16::try_from(cluster).unwrap().to_le_bytes());
    put(&mut entry, 28, &u32::try_from(length).unwrap().to_le_bytes());
    entry
}

impl Image {
    fn new() -> Self {
        let all = DATA + CLUSTERS;
        let mut bytes = vec![0; all * SECTOR];
        put(&mut bytes, 0, &[0xeb, 0x3c, 0x90]);
        put(&mut bytes, 11, &[0, 2, 1, 1, 0, 1, 0, 2]);
        put(&mut bytes, 19, &u16::try_from(all).unwrap().to_le_bytes());
        put(&mut bytes, 22, &[20, 0]);
        put(&mut bytes, 510, &[0x55, 0xaa]);
        Self { bytes, free: 2, reads: Cell::new(0), fails: false }
    }

    fn link(&mut self, cluster: usize, next: usize) {
        let next = u16::try_from(next).unwrap();
        put(&mut self.bytes, TABLE * SECTOR + 2 * cluster, &next.to_le_bytes());
    }

    /// Writes bytes to every `step`th cluster; the first.
    fn store(&mut self, bytes: &[u8], step: usize) -> usize {
        let first = self.free;
        for piece in bytes.chunks(SECTOR) {
            put(&mut self.bytes, (DATA + self.free - 2) * SECTOR, piece);
            self.link(self.free, self.free + step);
            self.free += step;
        }
        self.link(self.free - step, 0xffff);
        first
    }

    fn root(&mut self, entries: &[[u8; 32]]) {
        put(&mut self.bytes, ROOT * SECTOR, entries.as_flattened());
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Option<String>> {
        block_on(read(self, path, 1 << 20))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Option<String>> {
        block_on(list(self, path))
    }
}

/// The slot of a long name of less than 13 letters before the entry of a short one.
fn long(name: &str, short: &[u8; 11]) -> [u8; 32] {
    let sum = short.iter().fold(0_u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
    let mut slot = [0xff; 32];
    (slot[0], slot[11], slot[12], slot[13]) = (0x41, 0x0f, 0, sum);
    put(&mut slot, 26, &[0, 0]);
    let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain([28, 30]);
    for (place, letter) in places.zip(name.encode_utf16().chain([0])) {
        put(&mut slot, place, &letter.to_le_bytes());
    }
    slot
}

/// An image with `WEB.CFG` and, in the folder `My Kernels`, `KERNEL`, scattered.
fn filled() -> (Image, Vec<u8>) {
    let mut image = Image::new();
    let kernel: Vec<u8> =
        (0..100_000_u32).flat_map(|it| (it * 7 % 251).to_le_bytes().into_iter().take(1)).collect();
    let config = image.store(b"name = 'web'\n", 1);
    let at = image.store(&kernel, 3);
    let short = b"MYKERN~1   ";
    let folder = image.store(&entry(b"KERNEL     ", 0x20, at, kernel.len()), 1);
    image.root(&[
        entry(b"WEB     CFG", 0x20, config, 13),
        long("My Kernels", short),
        entry(short, 0x10, folder, 0),
    ]);
    (image, kernel)
}

#[test]
fn files_are_found_in_folders_and_in_whatever_case() {
    let (image, kernel) = filled();
    assert_eq!(image.read("web.cfg").unwrap(), b"name = 'web'\n");
    assert_eq!(image.read("/WEB.CFG").unwrap(), b"name = 'web'\n");
    assert!(image.read("my kernels/kernel").unwrap() == kernel);
    assert!(image.read("/MYKERN~1/kernel").unwrap() == kernel);
}

#[test]
fn a_folder_is_listed() {
    let (image, _) = filled();
    assert_eq!(image.list("").unwrap(), ["web.cfg", "My Kernels/"]);
    assert_eq!(image.list("/my kernels/").unwrap(), ["kernel"]);
    assert_eq!(image.list("none").unwrap_err(), None);
    assert!(image.list("web.cfg").is_err());
}

#[test]
fn little_is_read_twice() {
    let (image, kernel) = filled();
    image.read("my kernels/kernel").unwrap();
    let pieces = 3 * kernel.len() / super::PIECE;
    assert!(image.reads.get() < pieces + 8, "{} reads of {pieces} pieces", image.reads.get());
}

#[test]
fn what_can_not_be_read_is_said() {
    let (mut image, _) = filled();
    for path in ["", "/", "no.cfg", "web.cfg/x", "no/web.cfg", "a name that is no name"] {
        let error = image.read(path).unwrap_err();
        assert!(error.is_none() || path == "web.cfg/x", "{path}: {error:?}");
    }
    assert_eq!(image.read("my kernels").unwrap_err().unwrap(), "it is a folder");
    image.root(&[entry(b"WEB     CFG", 0x20, 2, 2 << 20)]);
    let error = image.read("web.cfg").unwrap_err().unwrap();
    assert_eq!(error, "2097152 bytes are too many: 1048576 are possible");
    image.fails = true;
    assert_eq!(image.read("web.cfg").unwrap_err().unwrap(), "the disk is broken");
    image = Image::new();
    image.bytes[..SECTOR].fill(0);
    assert_eq!(image.read("web.cfg").unwrap_err().unwrap(), "there is no FAT file system");
}

#[test]
fn what_goes_round_in_circles_ends() {
    let (mut image, _) = filled();
    let folder = image.store(&[b'x'; 1024], 1);
    image.link(folder + 1, folder);
    image
        .root(&[entry(b"FOLDER     ", 0x10, folder, 0), entry(b"FILE       ", 0x20, folder, 9999)]);
    assert!(image.read("folder/none").unwrap_err().unwrap().contains("circles"));
    assert_eq!(image.read("file").unwrap().len(), 9999);
}

#[test]
fn garbage_is_no_end_of_the_program() {
    let (image, _) = filled();
    let mut random = 1_u64;
    for _ in 0..3000 {
        let mut image = Image { bytes: image.bytes.clone(), ..Image::new() };
        for _ in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = usize::try_from(random >> 33).unwrap();
            let place = match place % 3 {
                0 => 11 + place / 3 % 40,
                1 => TABLE * SECTOR + place / 3 % 600,
                _ => ROOT * SECTOR + place / 3 % 96,
            };
            image.bytes[place] = random.to_le_bytes()[3];
        }
        let _any = image.read("web.cfg");
        let _any = image.read("my kernels/kernel");
        let _any = (image.list("/"), image.list("my kernels"));
    }
}
