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
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::Read;
use xz4rust::{XzDecoder, XzNextBlockResult};

/// Bytes that are handed on at once, by formats that let us choose.
pub(crate) const PIECE: usize = 64 << 10;
/// The largest dictionary of XZ that is accepted: that of Linux' images is 32 MiB.
const XZ_DICTIONARY: usize = 64 << 20;
/// The dictionary before a file says how large its own is.
const XZ_FIRST_DICTIONARY: usize = 64 << 10;
/// The longest header of a frame of zstd. Unit: bytes.
const ZSTD_HEADER: usize = 18;
/// Where in it the window's size is, unless the frame is one segment, which the byte before it says.
const ZSTD_WINDOW: usize = 5;
const ZSTD_SINGLE: u8 = 1 << 5;
/// What zstd's decoder may have beside its window. Unit: bytes.
const ZSTD_BESIDE: usize = 1 << 20;
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
    /// Its dictionary is larger than is accepted.
    Dictionary,
    /// So many bytes of memory in one place are needed to unpack it, and are not there.
    Memory(usize),
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => write!(f, "it is packed by {format}: {}", format.remedy()),
            Self::Cut(format) => write!(f, "it is packed by {format} and ends too early"),
            Self::Damaged(format) => write!(f, "it is packed by {format} and damaged"),
            Self::Dictionary => {
                f.write_str("its dictionary is larger than 64 MiB (xz) or 128 MiB (zstd)")
            }
            Self::Memory(bytes) => {
                let size = bytes.div_ceil(1 << 20);
                write!(f, "to unpack it takes {size} MiB of memory in one place")
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
    let (format, file, length) = match outer {
        Compression::BzImage => {
            let payload = payload(file).ok_or(UnpackError::Cut(outer))?;
            let inner = Compression::of(payload).filter(|&inner| inner != outer);
            (inner.ok_or(UnpackError::Damaged(outer))?, payload, unpacked_length(payload))
        }
        _ => (outer, file, None),
    };
    match format {
        Compression::Gzip => gzip(file, sink).await,
        Compression::Xz => xz(file, sink).await,
        Compression::Zstd => zstd(file, length, sink).await,
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

/// How long the kernel in a boot image is, which its last four bytes say.
fn unpacked_length(payload: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*payload.last_chunk()?)).ok()
}

/// Whether there is so much memory in one place. Decoders panic where there is none; so who asks is to
/// use it before anything else can.
fn room(bytes: usize) -> Result<(), UnpackError> {
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| UnpackError::Memory(bytes))
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
    let decoder = |most| XzDecoder::in_heap_with_alloc_dict_size(XZ_FIRST_DICTIONARY, most);
    let (mut rest, mut begun, mut piece) = (file, false, vec![0; PIECE]);
    let mut xz = decoder(XZ_FIRST_DICTIONARY);
    loop {
        let step = match xz.decode(rest, &mut piece) {
            // Its size is known now: once more from the start.
            Err(xz4rust::XzError::DictionaryTooLarge(size)) if !begun => {
                let size = usize::try_from(size).ok().filter(|&size| size <= XZ_DICTIONARY);
                let most = size.ok_or(UnpackError::Dictionary)?;
                room(most)?;
                (xz, rest) = (decoder(most), file);
                continue;
            }
            Err(xz4rust::XzError::DictionaryTooLarge(_)) => Err(UnpackError::Dictionary),
            step => step.map_err(|_| UnpackError::Damaged(format)),
        }?;
        let (XzNextBlockResult::NeedMoreData(consumed, written)
        | XzNextBlockResult::EndOfStream(consumed, written)) = step;
        rest = rest.get(consumed..).unwrap_or_default();
        begun |= written > 0;
        let ended = matches!(step, XzNextBlockResult::EndOfStream(..));
        if sink(piece.get(..written).unwrap_or_default()).is_break() || ended {
            return Ok(());
        }
        if consumed == 0 && written == 0 {
            return Err(UnpackError::Cut(format));
        }
        yield_now().await;
    }
}

/// Unpacks a frame, of `length` bytes if that is known. Debian's kernels have a window larger than
/// themselves: all of one is in memory before its first piece comes.
async fn zstd(file: &[u8], length: Option<usize>, sink: &mut Sink<'_>) -> Result<(), UnpackError> {
    let damaged = UnpackError::Damaged(Compression::Zstd);
    let mut header = file.get(..ZSTD_HEADER).unwrap_or(file).to_vec();
    let window = zstd_window(&mut header, length);
    let mut decoder = FrameDecoder::new();
    let mut behind = header.as_slice();
    decoder.init(&mut behind).map_err(|error| match error {
        FrameDecoderError::WindowSizeTooBig { .. } => UnpackError::Dictionary,
        _ => damaged,
    })?;
    let mut rest = file.get(header.len() - behind.len()..).unwrap_or_default();
    let single = usize::try_from(decoder.content_size()).unwrap_or(usize::MAX);
    room(window.unwrap_or(single).next_power_of_two() + ZSTD_BESIDE)?;
    // The second time it takes its memory at once, and no more later.
    decoder.init(header.as_slice()).map_err(|_| damaged)?;
    let mut piece = vec![0; PIECE];
    loop {
        while decoder.can_collect() == 0 && !decoder.is_finished() {
            let one = BlockDecodingStrategy::UptoBlocks(1);
            decoder.decode_blocks(&mut rest, one).map_err(|_| damaged)?;
            yield_now().await;
        }
        let read = decoder.read(&mut piece).map_err(|_| damaged)?;
        if read == 0 || sink(piece.get(..read).unwrap_or_default()).is_break() {
            return Ok(());
        }
        yield_now().await;
    }
}

/// The window of a frame that has one, at most `length` where that is known, and a little more: the header is made
/// to say so. Unit: bytes.
fn zstd_window(header: &mut [u8], length: Option<usize>) -> Option<usize> {
    let size = |code: u8| (8 + usize::from(code & 7)) << (7 + (code >> 3));
    let [.., single, window] = header.get_mut(..=ZSTD_WINDOW)? else { return None };
    if *single & ZSTD_SINGLE != 0 {
        return None;
    }
    let enough = length.and_then(|length| (0..=u8::MAX).find(|&code| size(code) >= length));
    *window = enough.map_or(*window, |enough| enough.min(*window));
    Some(size(*window))
}

async fn lz4(file: &[u8], sink: &mut Sink<'_>) -> Result<(), UnpackError> {
    let format = Compression::Lz4;
    if !file.starts_with(&[0x02, 0x21, 0x4c, 0x18]) {
        return Err(UnpackError::Format(format));
    }
    let mut rest = file.get(4..).unwrap_or_default();
    room(LZ4_BLOCK)?;
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

    use super::{PIECE, UnpackError, room, unpack, zstd_window};

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
    fn a_window_is_no_larger_than_what_is_unpacked() {
        // 128 MiB, as `--ultra -22` has it.
        let window = |length| {
            let mut header = [0x28, 0xb5, 0x2f, 0xfd, 4, 0x88, 0];
            let window = zstd_window(&mut header, length);
            assert_eq!(zstd_window(&mut header, None), window, "the header says the same");
            window
        };
        assert_eq!(window(None), Some(128 << 20));
        assert_eq!(window(Some(57_646_496)), Some(56 << 20));
        assert_eq!(window(Some((56 << 20) + 1)), Some(60 << 20));
        assert_eq!(window(Some(0)), Some(1 << 10));
        assert_eq!(window(Some(u32::MAX as usize)), Some(128 << 20));
        let mut single = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x88, 0];
        assert_eq!(zstd_window(&mut single, Some(1)), None);
        assert_eq!(single[5], 0x88, "this is no window");
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        assert_eq!(room(1 << 20), Ok(()));
        let much = isize::MAX.unsigned_abs();
        assert_eq!(room(much), Err(UnpackError::Memory(much)));
        let header = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x90, 0, 0];
        assert_eq!(all(&header), Err(UnpackError::Dictionary));
    }

    #[test]
    fn a_window_larger_than_the_data_keeps_nobody_waiting() {
        let data = sample();
        let Some(file) = packed("zstd -c -q --long=27 --no-check", &data) else { return };
        let pieces = core::cell::Cell::new(0);
        let mut sink = |_: &[u8]| {
            pieces.set(pieces.get() + 1);
            ControlFlow::Continue(())
        };
        let mut unpacking = pin!(unpack(&file, &mut sink));
        let mut context = Context::from_waker(Waker::noop());
        let mut waits = 0;
        while unpacking.as_mut().poll(&mut context) == Poll::Pending && pieces.get() == 0 {
            waits += 1;
        }
        assert!(waits >= 2, "{waits} for three blocks");
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
