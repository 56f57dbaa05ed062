//! Unpacks kernels: gzip, XZ, zstd, LZ4 as Linux uses it, also within a Linux boot image.
//!
//! What is unpacked comes in pieces, in order, so that it need not fit into memory. After each piece
//! other tasks get their turn.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;

use domain_builder::image::Compression;
use embassy_futures::yield_now;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::Read;
use xz4rust::{XzDecoder, XzError, XzNextBlockResult};

/// Bytes that are handed on at once, by formats that let us choose.
pub(crate) const PIECE: usize = 64 << 10;
/// The largest dictionary of XZ that is accepted: that of Linux' images is 32 MiB.
const XZ_DICTIONARY: usize = 64 << 20;
/// The dictionary before a file says how large its own is.
const XZ_FIRST_DICTIONARY: usize = 64 << 10;
/// A block of zstd unpacks to this at most. Unit: bytes.
const ZSTD_BLOCK: usize = 128 << 10;
/// A block of LZ4's legacy format unpacks to this at most. Unit: bytes.
const LZ4_BLOCK: usize = 8 << 20;
/// Of a Linux boot image: where its header says how long the part for real mode is, where the
/// payload begins behind that and how long it is.
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// Why a file can't be unpacked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnpackError {
    /// It is packed in a way that is not understood here.
    Format(Compression),
    /// It ends too early.
    Cut(Compression),
    /// It is damaged.
    Damaged(Compression),
    /// Unpacking takes more memory than there is.
    Dictionary,
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => write!(f, "it is packed by {format}: {}", format.remedy()),
            Self::Cut(format) => write!(f, "it is packed by {format} and ends too early"),
            Self::Damaged(format) => write!(f, "it is packed by {format} and damaged"),
            Self::Dictionary => {
                f.write_str("its dictionary is larger than 64 MiB, or than what is free")
            }
        }
    }
}

impl core::error::Error for UnpackError {}

/// Takes what is unpacked; `Break` ends it early.
pub type Sink<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

/// Whether a file is packed.
#[must_use]
pub fn is_packed(file: &[u8]) -> bool {
    Compression::of(file).is_some()
}

/// Unpacks a file; one that is not packed comes as it is.
///
/// # Errors
///
/// [`UnpackError`]; some of the file may have come before.
pub async fn unpack(file: &[u8], sink: &mut Sink<'_>) -> Result<(), UnpackError> {
    let Some(outer) = Compression::of(file) else { return pieces(file, sink).await };
    let (format, file) = match outer {
        Compression::BzImage => {
            let payload = payload(file).ok_or(UnpackError::Cut(outer))?;
            let inner = Compression::of(payload).filter(|&inner| inner != outer);
            (inner.ok_or(UnpackError::Damaged(outer))?, payload)
        }
        _ => (outer, file),
    };
    match format {
        Compression::Gzip => gzip(file, sink).await,
        Compression::Xz => xz(file, sink).await,
        Compression::Zstd => zstd(file, sink).await,
        Compression::Lz4 => lz4(file, sink).await,
        other => Err(UnpackError::Format(other)),
    }
}

/// Hands bytes on as they are.
async fn pieces(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), UnpackError> {
    for piece in bytes.chunks(PIECE) {
        if sink(piece).is_break() {
            break;
        }
        yield_now().await;
    }
    Ok(())
}

/// The packed kernel in a Linux boot image.
fn payload(file: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = file.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    // 0 sectors stand for 4.
    let sectors = match usize::from(*file.get(SETUP_SECTORS)?) {
        0 => 4,
        sectors => sectors,
    };
    let start = (sectors + 1) * SECTOR + word(PAYLOAD_OFFSET)?;
    file.get(start..start.checked_add(word(PAYLOAD_LENGTH)?)?)
}

async fn gzip(file: &[u8], sink: &mut Sink<'_>) -> Result<(), UnpackError> {
    let format = Compression::Gzip;
    let mut rest = gzip_body(file).ok_or(UnpackError::Cut(format))?;
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let mut piece = vec![0; PIECE];
    loop {
        let result = inflate(&mut state, rest, &mut piece, MZFlush::None);
        rest = rest.get(result.bytes_consumed..).unwrap_or_default();
        let out = piece.get(..result.bytes_written).unwrap_or_default();
        if sink(out).is_break() {
            return Ok(());
        }
        yield_now().await;
        match result.status {
            Ok(MZStatus::StreamEnd) => return Ok(()),
            Ok(_) if out.is_empty() && rest.is_empty() => return Err(UnpackError::Cut(format)),
            Ok(_) => {}
            Err(_) if rest.is_empty() => return Err(UnpackError::Cut(format)),
            Err(_) => return Err(UnpackError::Damaged(format)),
        }
    }
}

/// What follows the header of a gzip file (RFC 1952).
fn gzip_body(file: &[u8]) -> Option<&[u8]> {
    const HEADER_CHECK: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    let (&flags, mut rest) = (file.get(3)?, file.get(10..)?);
    if flags & EXTRA != 0 {
        let length = u16::from_le_bytes(rest.get(..2)?.try_into().ok()?);
        rest = rest.get(2 + usize::from(length)..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & HEADER_CHECK != 0 { rest.get(2..) } else { Some(rest) }
}

async fn xz(file: &[u8], sink: &mut Sink<'_>) -> Result<(), UnpackError> {
    let format = Compression::Xz;
    let first = XZ_FIRST_DICTIONARY;
    let mut decoder = XzDecoder::in_heap_with_alloc_dict_size(first, first);
    let mut rest = file;
    let mut has_begun = false;
    let mut piece = vec![0; PIECE];
    loop {
        let step = match decoder.decode(rest, &mut piece) {
            Ok(step) => step,
            Err(XzError::DictionaryTooLarge(length)) if !has_begun => {
                let length = dictionary(length).ok_or(UnpackError::Dictionary)?;
                decoder = XzDecoder::in_heap_with_alloc_dict_size(length, length);
                (rest, has_begun) = (file, true);
                continue;
            }
            Err(XzError::DictionaryTooLarge(_)) => return Err(UnpackError::Dictionary),
            Err(_) => return Err(UnpackError::Damaged(format)),
        };
        let (XzNextBlockResult::NeedMoreData(consumed, written)
        | XzNextBlockResult::EndOfStream(consumed, written)) = step;
        rest = rest.get(consumed..).unwrap_or_default();
        let ended = matches!(step, XzNextBlockResult::EndOfStream(..));
        has_begun |= written > 0;
        if sink(piece.get(..written).unwrap_or_default()).is_break() || ended {
            return Ok(());
        }
        if consumed == 0 && written == 0 {
            return Err(UnpackError::Cut(format));
        }
        yield_now().await;
    }
}

/// The length of a dictionary that a file says it needs, if there is so much memory.
fn dictionary(length: u64) -> Option<usize> {
    let length = usize::try_from(length).ok().filter(|length| *length <= XZ_DICTIONARY)?;
    has_memory(length).map(|()| length)
}

/// Whether there is so much memory in a row, before a decoder wants it: one that has none ends the
/// program. Unit: bytes.
fn has_memory(length: usize) -> Option<()> {
    Vec::<u8>::new().try_reserve_exact(length).ok()
}

async fn zstd(mut file: &[u8], sink: &mut Sink<'_>) -> Result<(), UnpackError> {
    let damaged = UnpackError::Damaged(Compression::Zstd);
    let mut decoder = FrameDecoder::new();
    decoder.init(&mut file).map_err(|_| damaged)?;
    let mut piece = vec![0; PIECE];
    // What the decoder holds at most, and for how much of it there was memory.
    let (mut held, mut room) = (0, 0);
    loop {
        // It gives nothing away before its window is full, which may be longer than the kernel.
        if decoder.can_collect() < PIECE && !decoder.is_finished() {
            held += ZSTD_BLOCK;
            if held > room {
                room = held.next_power_of_two();
                has_memory(room + 3 * ZSTD_BLOCK).ok_or(UnpackError::Dictionary)?;
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            decoder.decode_blocks(&mut file, one).map_err(|_| damaged)?;
        } else {
            let read = decoder.read(&mut piece).map_err(|_| damaged)?;
            held = held.saturating_sub(read);
            if read == 0 || sink(piece.get(..read).unwrap_or_default()).is_break() {
                return Ok(());
            }
        }
        yield_now().await;
    }
}

/// The legacy format: a magic number, then blocks, each with its length before it.
async fn lz4(file: &[u8], sink: &mut Sink<'_>) -> Result<(), UnpackError> {
    let format = Compression::Lz4;
    if !file.starts_with(&[0x02, 0x21, 0x4c, 0x18]) {
        return Err(UnpackError::Format(format));
    }
    let mut rest = file.get(4..).unwrap_or_default();
    let mut block: Vec<u8> = vec![0; LZ4_BLOCK];
    // Within a boot image the unpacked length, of four bytes, ends the file.
    while rest.len() > 4 {
        let (length, blocks) = rest.split_first_chunk().ok_or(UnpackError::Cut(format))?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (packed, behind) = blocks.split_at_checked(length).ok_or(UnpackError::Cut(format))?;
        rest = behind;
        let written = lz4_flex::block::decompress_into(packed, &mut block)
            .map_err(|_| UnpackError::Damaged(format))?;
        let mut ended = false;
        let mut until = |piece: &[u8]| {
            let flow = sink(piece);
            ended = flow.is_break();
            flow
        };
        pieces(block.get(..written).unwrap_or_default(), &mut until).await?;
        if ended {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::vec::Vec;
    use core::ops::ControlFlow;
    use std::io::Write;
    use std::process::{Command, Stdio};

    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    use domain_builder::image::Compression;
    use embassy_futures::block_on;

    use super::{PIECE, UnpackError, ZSTD_BLOCK, unpack};

    fn all(file: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let mut out = Vec::new();
        block_on(unpack(file, &mut |piece| {
            out.extend_from_slice(piece);
            ControlFlow::Continue(())
        }))?;
        Ok(out)
    }

    /// Text that packs well in parts and not at all in others.
    fn sample() -> Vec<u8> {
        let mut state = 1_u32;
        (0..300_000_u32)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at / 1000 % 2 == 0 { (at % 26) as u8 + b'a' } else { (state >> 24) as u8 }
            })
            .collect()
    }

    /// What a tool of the host makes of it; `None` where there is no such tool.
    fn packed(command: &str, data: &[u8]) -> Option<Vec<u8>> {
        let mut words = command.split(' ');
        let mut child = Command::new(words.next()?)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut input = child.stdin.take()?;
        let data = data.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&data));
        let output = child.wait_with_output().ok()?;
        writer.join().ok()?.ok()?;
        output.status.success().then_some(output.stdout)
    }

    /// A boot image around a payload.
    fn boot_image(payload: &[u8]) -> Vec<u8> {
        let mut file = alloc::vec![0; 5 * 512 + 100];
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x1f1] = 4;
        file[0x248..0x24c].copy_from_slice(&100_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        file[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        file.extend_from_slice(payload);
        file.extend_from_slice(b"what follows");
        file
    }

    #[test]
    fn what_the_usual_tools_pack_comes_out_again() {
        let data = sample();
        for command in [
            "gzip -c",
            "xz -c --check=crc32 --x86 --lzma2=dict=1MiB",
            "xz -c --check=crc64",
            "zstd -c -q",
            "lz4 -c -l -q",
        ] {
            let Some(mut file) = packed(command, &data) else {
                std::eprintln!("{command}: not here");
                continue;
            };
            assert!(file.len() < data.len(), "{command}");
            assert!(all(&file).as_ref() == Ok(&data), "{command}");
            let half = file.len() / 2;
            assert!(all(&file[..half]) != Ok(data.clone()), "{command}, cut");
            file.extend_from_slice(&300_000_u32.to_le_bytes());
            assert!(all(&boot_image(&file)).as_ref() == Ok(&data), "{command} in a boot image");
            file[half] ^= 0x55;
            assert!(all(&file) != Ok(data.clone()), "{command}, damaged");
        }
    }

    #[test]
    fn others_get_their_turn_while_a_window_is_filled() {
        let data: Vec<u8> = sample().into_iter().cycle().take(8 * ZSTD_BLOCK).collect();
        let Some(file) = packed("zstd -c -q -3", &data) else { return };
        let taken = core::cell::Cell::new(0);
        let mut sink = |piece: &[u8]| {
            taken.set(taken.get() + piece.len());
            ControlFlow::Continue(())
        };
        let mut unpacking = pin!(unpack(&file, &mut sink));
        let mut context = Context::from_waker(Waker::noop());
        let mut turns = 0;
        while taken.get() == 0 {
            assert!(unpacking.as_mut().poll(&mut context).is_pending());
            turns += 1;
        }
        assert!(turns >= 8, "{turns}: the window is longer than all of it");
        block_on(unpacking).unwrap();
        assert_eq!(taken.get(), data.len());
    }

    #[test]
    fn a_dictionary_is_had_or_refused_and_not_failed_for() {
        assert_eq!(super::dictionary(1 << 20), Some(1 << 20));
        assert_eq!(super::dictionary(super::XZ_DICTIONARY as u64 + 1), None);
        assert_eq!(super::dictionary(u64::MAX), None);
        let data = sample();
        for (size, expected) in
            [("64MiB", Ok(data.clone())), ("96MiB", Err(UnpackError::Dictionary))]
        {
            let command = std::format!("xz -c --check=crc32 --lzma2=dict={size}");
            let Some(file) = packed(&command, &data) else { return };
            assert!(all(&file) == expected, "{size}");
        }
    }

    #[test]
    fn what_is_not_packed_stays_as_it_is() {
        assert_eq!(all(b"\x7fELF and so on").unwrap(), b"\x7fELF and so on");
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert_eq!(all(b"BZh91AY"), Err(UnpackError::Format(Compression::Bzip2)));
        assert_eq!(all(&[0x04, 0x22, 0x4d, 0x18, 0]), Err(UnpackError::Format(Compression::Lz4)));
        assert_eq!(all(&boot_image(b"nothing")), Err(UnpackError::Damaged(Compression::BzImage)));
        let cut = &boot_image(b"\x1f\x8b and so on")[..0x300];
        assert_eq!(all(cut), Err(UnpackError::Cut(Compression::BzImage)));
        assert_eq!(all(&[0x1f, 0x8b, 8, 0, 0]), Err(UnpackError::Cut(Compression::Gzip)));
    }

    #[test]
    fn who_has_enough_gets_no_more() {
        let Some(file) = packed("gzip -c", &sample()) else { return };
        let mut pieces = 0;
        block_on(unpack(&file, &mut |_| {
            pieces += 1;
            ControlFlow::Break(())
        }))
        .unwrap();
        assert_eq!(pieces, 1);
    }

    #[test]
    fn others_get_their_turn_between_pieces() {
        let data = sample();
        let commands = ["cat", "gzip -c", "xz -c", "zstd -c -q", "lz4 -c -l -q"];
        for (command, file) in commands.map(|command| (command, packed(command, &data))) {
            let Some(file) = file else { continue };
            let mut most = 0;
            let taken = core::cell::Cell::new(0);
            let mut sink = |piece: &[u8]| {
                taken.set(taken.get() + piece.len());
                ControlFlow::Continue(())
            };
            let mut unpacking = pin!(unpack(&file, &mut sink));
            let mut context = Context::from_waker(Waker::noop());
            while unpacking.as_mut().poll(&mut context) == Poll::Pending {
                most = most.max(taken.take());
            }
            assert!(most.max(taken.take()) <= 2 * PIECE && most > 0, "{command}: {most}");
        }
    }
}
