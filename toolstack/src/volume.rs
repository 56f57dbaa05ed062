//! Files of a FAT file system (16 or 32) on a disk that answers later.
//!
//! `embedded-sdmmc`, which knows the file system, wants a block at once. `Blocks` gives it what is
//! there, and notes what is not; that is read, and the question asked again. A question has a
//! bound on what it may look at, so that a folder or a file that goes round in circles ends.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::ops::ControlFlow;

use embedded_sdmmc::{
    Block, BlockCount, BlockDevice, BlockIdx, DirEntry, Directory, Error, LfnBuffer, Mode,
    ShortFileName, TimeSource, Timestamp, Volume, VolumeIdx, VolumeManager,
};

/// What is read at once. Unit: bytes.
pub const PIECE: usize = 16 << 10;
/// Blocks in a piece.
const BLOCKS: u64 = 32;
/// Pieces that are kept: as many as one question may need.
const KEPT: usize = 64;
/// Blocks that one question may look at.
const LOOKS: u32 = 1 << 16;
/// Names of a folder that are told.
pub const NAMES: usize = 256;
/// Where a file system's partition begins in the table that is put before it.
const FRONT: u64 = 1;

/// A disk with a file system on it, and on nothing else of it.
pub trait Source {
    /// Its length. Unit: sectors of 512 bytes.
    fn sectors(&self) -> u64;

    /// Reads whole sectors, [`PIECE`] bytes at most.
    ///
    /// # Errors
    ///
    /// What went wrong, as a sentence.
    fn read(&self, first: u64, bytes: &mut [u8]) -> impl Future<Output = Result<(), String>>;
}

/// Reads the file at `path`, of `most` bytes at most. Names are found in whatever case.
///
/// # Errors
///
/// What is wrong, as a sentence that begins with what it is of; `None` if there is no such file.
pub async fn read<S: Source>(
    source: &S,
    path: &str,
    most: usize,
) -> Result<Vec<u8>, Option<String>> {
    let blocks = Blocks::open(source).await?;
    let manager = VolumeManager::new_with_limits(&blocks, NoClock, 0);
    let mut parts = parts(path);
    let name = parts.next_back();
    let (volume, folder) = enter(&blocks, &manager, parts).await?;
    let entry = find(&blocks, &folder, name.ok_or(None)?).await?.ok_or(None)?;
    if entry.attributes.is_directory() {
        return Err(Some("it is a folder".to_string()));
    }
    let length = usize::try_from(entry.size).unwrap_or(usize::MAX);
    if length > most {
        return Err(Some(format!("{length} bytes are too many: {most} are possible")));
    }
    let mut bytes = Vec::new();
    let no_room = |_| Some(format!("no memory for its {length} bytes"));
    bytes.try_reserve_exact(length).map_err(no_room)?;
    bytes.resize(length, 0);
    let file = blocks.ask(|| folder.open_file_in_dir(entry.name, Mode::ReadOnly)).await?;
    for (piece, at) in bytes.chunks_mut(PIECE).zip((0..).step_by(PIECE)) {
        let whole = piece.len();
        let read = blocks.ask(|| {
            // An attempt that failed has moved on.
            file.seek_from_start(at)?;
            file.read(piece)
        });
        if read.await? != whole {
            return Err(Some("it is shorter than its folder says".to_string()));
        }
    }
    drop((file, folder, volume));
    Ok(bytes)
}

/// Names in the folder at `path`, those of folders with a slash behind them; [`NAMES`] at most.
///
/// # Errors
///
/// As of [`read`].
pub async fn list<S: Source>(source: &S, path: &str) -> Result<Vec<String>, Option<String>> {
    let blocks = Blocks::open(source).await?;
    let manager = VolumeManager::new_with_limits(&blocks, NoClock, 0);
    let (volume, folder) = enter(&blocks, &manager, parts(path)).await?;
    let mut names = Vec::new();
    let look = || {
        names.clear();
        let mut letters = [0; 512];
        let mut long = LfnBuffer::new(&mut letters);
        folder.iterate_dir_lfn(&mut long, |entry, long| {
            let short = || entry.name.to_string().to_lowercase();
            let name = long.map_or_else(short, ToString::to_string);
            let end = if entry.attributes.is_directory() { "/" } else { "" };
            if !entry.attributes.is_volume() && !name.starts_with('.') {
                names.push(name + end);
            }
            if names.len() < NAMES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    };
    blocks.ask(look).await?;
    drop((folder, volume));
    Ok(names)
}

type Manager<'b, S> = VolumeManager<&'b Blocks<'b, S>, NoClock, 4, 2, 1>;
type Opened<'a, 'b, S> = Volume<'a, &'b Blocks<'b, S>, NoClock, 4, 2, 1>;
type Folder<'a, 'b, S> = Directory<'a, &'b Blocks<'b, S>, NoClock, 4, 2, 1>;

/// The names in a path.
fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// Opens the file system, and in it one folder in the other by their names; the last of them. The file
/// system has to stay open as long.
async fn enter<'a, 'b, S: Source>(
    blocks: &'b Blocks<'b, S>,
    manager: &'a Manager<'b, S>,
    names: impl Iterator<Item = &str>,
) -> Result<(Opened<'a, 'b, S>, Folder<'a, 'b, S>), Option<String>> {
    let raw = blocks.ask(|| manager.open_raw_volume(VolumeIdx(0))).await?;
    let volume = raw.to_volume(manager);
    let root = blocks.ask(|| manager.open_root_dir(raw)).await?;
    let mut folder = root.to_directory(manager);
    for name in names {
        let entry = find(blocks, &folder, name).await?.ok_or(None)?;
        folder = blocks.ask(|| folder.open_dir(entry.name)).await?;
    }
    Ok((volume, folder))
}

/// Looks for a name in a folder.
async fn find<S: Source>(
    blocks: &Blocks<'_, S>,
    folder: &Folder<'_, '_, S>,
    name: &str,
) -> Result<Option<DirEntry>, Option<String>> {
    let short = ShortFileName::create_from_str(name).ok();
    let mut found = None;
    let look = || {
        let mut letters = [0; 512];
        let mut long = LfnBuffer::new(&mut letters);
        folder.iterate_dir_lfn(&mut long, |entry, long| {
            let is = short.as_ref() == Some(&entry.name)
                || long.is_some_and(|long| long.eq_ignore_ascii_case(name));
            if is && !entry.attributes.is_volume() {
                found = Some(entry.clone());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    };
    blocks.ask(look).await?;
    Ok(found)
}

/// The blocks of a source, as the file system wants them: behind a table with one partition.
struct Blocks<'a, S> {
    source: &'a S,
    /// Pieces by their number, the last used last.
    pieces: RefCell<Vec<(u64, Vec<u8>)>>,
    /// The piece that was not there.
    missing: Cell<Option<u64>>,
    /// How many blocks the question may still look at.
    looks: Cell<u32>,
}

impl<'a, S: Source> Blocks<'a, S> {
    /// Makes sure that a file system is there.
    async fn open(source: &'a S) -> Result<Self, Option<String>> {
        let blocks = Self {
            source,
            pieces: RefCell::default(),
            missing: Cell::new(None),
            looks: Cell::new(0),
        };
        blocks.bring(0).await?;
        let first = blocks.block(FRONT)?;
        let Some(first) = first else { return Err(None) };
        // A jump, and sectors of 512 bytes.
        if !matches!(first.contents.get(..13), Some([0xeb | 0xe9, .., 0, 2])) {
            return Err(Some("there is no FAT file system".to_string()));
        }
        Ok(blocks)
    }

    /// Asks until all that the answer needs is there.
    async fn ask<T>(
        &self,
        mut question: impl FnMut() -> Result<T, Error<NotYet>>,
    ) -> Result<T, Option<String>> {
        for _ in 0..KEPT {
            self.looks.set(LOOKS);
            let answer = question();
            // An answer that was given without what was missing is none.
            match self.missing.take() {
                Some(number) => self.bring(number).await?,
                None => {
                    return answer.map_err(|error| match error {
                        Error::NotFound => None,
                        error => Some(format!("the file system: {error}")),
                    });
                }
            }
        }
        Err(Some("the file system: it is too scattered".to_string()))
    }

    /// Reads a piece.
    async fn bring(&self, number: u64) -> Result<(), Option<String>> {
        let first = number * BLOCKS;
        let count = self.source.sectors().saturating_sub(first).min(BLOCKS);
        if count == 0 {
            return Err(Some("the file system: it goes beyond the disk's end".to_string()));
        }
        let mut bytes = alloc::vec![0; usize::try_from(count).unwrap_or(0) * Block::LEN];
        self.source.read(first, &mut bytes).await.map_err(Some)?;
        let mut pieces = self.pieces.borrow_mut();
        if pieces.len() == KEPT {
            pieces.remove(0);
        }
        pieces.push((number, bytes));
        Ok(())
    }

    /// A block behind the table; `None` if it was not there.
    fn block(&self, at: u64) -> Result<Option<Block>, Option<String>> {
        let at = at - FRONT;
        let mut pieces = self.pieces.borrow_mut();
        let Some(place) = pieces.iter().position(|(number, _)| *number == at / BLOCKS) else {
            return Ok(None);
        };
        let piece = pieces.remove(place);
        let offset = usize::try_from(at % BLOCKS).unwrap_or(0) * Block::LEN;
        let mut block = Block::new();
        let there =
            piece.1.get(offset..offset + Block::LEN).map(|it| block.contents.copy_from_slice(it));
        pieces.push(piece);
        there
            .map(|()| Some(block))
            .ok_or_else(|| Some("the file system: beyond the end".to_string()))
    }
}

/// A block that is not there.
#[derive(Clone, Copy, Debug)]
struct NotYet;

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it goes round in circles, or beyond the disk's end")
    }
}

impl core::error::Error for NotYet {}

impl<S: Source> BlockDevice for &Blocks<'_, S> {
    type Error = NotYet;

    fn read(&self, blocks: &mut [Block], start: BlockIdx) -> Result<(), NotYet> {
        for (block, at) in blocks.iter_mut().zip(u64::from(start.0)..) {
            self.looks.set(self.looks.get().checked_sub(1).ok_or(NotYet)?);
            if at < FRONT {
                *block = table(self.source.sectors());
                continue;
            }
            match self.block(at) {
                Ok(Some(found)) => *block = found,
                Ok(None) => {
                    self.missing.set(Some((at - FRONT) / BLOCKS));
                    return Err(NotYet);
                }
                Err(_) => return Err(NotYet),
            }
        }
        Ok(())
    }

    fn write(&self, _: &[Block], _: BlockIdx) -> Result<(), NotYet> {
        Err(NotYet)
    }

    fn num_blocks(&self) -> Result<BlockCount, NotYet> {
        Ok(BlockCount(u32::try_from(self.source.sectors() + FRONT).unwrap_or(u32::MAX)))
    }
}

/// A partition table with one partition of so many sectors behind it.
fn table(sectors: u64) -> Block {
    let mut block = Block::new();
    let sectors = u32::try_from(sectors).unwrap_or(u32::MAX).to_le_bytes();
    let entry = [[0, 0, 0, 0], [0x0c, 0, 0, 0], [1, 0, 0, 0], sectors];
    for (to, from) in block.contents.iter_mut().skip(446).zip(entry.as_flattened()) {
        *to = *from;
    }
    for (to, from) in block.contents.iter_mut().skip(510).zip([0x55, 0xaa]) {
        *to = from;
    }
    block
}

/// Nothing is written, so that no time is needed.
struct NoClock;

impl TimeSource for NoClock {
    fn get_timestamp(&self) -> Timestamp {
        Timestamp {
            year_since_1970: 10,
            zero_indexed_month: 0,
            zero_indexed_day: 0,
            hours: 0,
            minutes: 0,
            seconds: 0,
        }
    }
}

#[cfg(test)]
mod tests;
