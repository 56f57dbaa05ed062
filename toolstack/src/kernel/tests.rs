extern crate std;

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use domain_builder::image::NoteError;
use embassy_futures::block_on;
use miniz_oxide::deflate::compress_to_vec;

use super::{Collector, Kernel, KernelError};

const SHT_NOTE: u32 = 7;

/// A gzip file.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    file.extend(compress_to_vec(data, 6));
    file.extend([0; 8]);
    file
}

fn note(kind: u32, value: &[u8]) -> Vec<u8> {
    let words = [4, u32::try_from(value.len()).unwrap(), kind];
    let mut out: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    out.extend(b"Xen\0");
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// A kernel of two segments of `length` bytes with its notes between them, after `gap` bytes.
fn elf(length: usize, gap: usize) -> Vec<u8> {
    let notes =
        [note(5, b"xen-3.0\0"), note(8, b"generic\0"), note(3, &0_u64.to_le_bytes())].concat();
    let first = 64 + 3 * 56 + gap;
    let (at_notes, second) = (first + length, first + length + notes.len());
    let mut out =
        vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0];
    for word in [0x1000_u64, 64, 0] {
        out.extend(word.to_le_bytes());
    }
    for half in [0, 0, 64, 56, 3, 64, 0, 0_u16] {
        out.extend(half.to_le_bytes());
    }
    let mut program = |kind: u32, at: usize, paddr: u64, length: usize, memory: u64| {
        out.extend([kind.to_le_bytes(), 7_u32.to_le_bytes()].concat());
        for word in [at as u64, paddr, paddr, length as u64, memory, 4096] {
            out.extend(word.to_le_bytes());
        }
    };
    program(1, first, 0x1000, length, length as u64);
    program(4, at_notes, 0, notes.len(), notes.len() as u64);
    program(1, second, 0x80_0000, length, length as u64 + 100);
    out.resize(first, 0);
    out.extend((0..251_u8).cycle().take(length));
    out.extend(notes);
    out.extend((0..241_u8).cycle().take(length));
    out.extend(b"symbols that nobody needs");
    out
}

fn open(file: &[u8]) -> Result<Kernel<'_>, KernelError> {
    block_on(Kernel::open(file))
}

/// What a kernel puts into memory.
fn loaded(kernel: &Kernel<'_>) -> Result<Vec<u8>, KernelError> {
    let memory = RefCell::new(vec![0; 0x100_0000]);
    let put = |at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap();
        memory.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok::<_, KernelError>(())
    };
    for segment in kernel.image.segments(kernel.head()) {
        put(segment.offset, &kernel.head()[segment.file])?;
    }
    block_on(kernel.unpack(put))?;
    Ok(memory.into_inner())
}

#[test]
fn a_packed_kernel_is_the_same_as_the_kernel() {
    for (length, gap) in [(10, 0), (3000, 7), (400_000, 100_000)] {
        let plain = elf(length, gap);
        let packed = gzip(&plain);
        let (one, other) = (open(&plain).unwrap(), open(&packed).unwrap());
        assert_eq!(one.image, other.image);
        assert!(other.head().len() < 1000);
        assert!(loaded(&one).unwrap() == loaded(&other).unwrap(), "{length}");
    }
}

/// The same kernel, its notes in a section behind all else and in no segment.
fn with_section(length: usize) -> Vec<u8> {
    let mut file = elf(length, 0);
    let notes = 64 + 56;
    file[notes..notes + 4].fill(0);
    let (offset, bytes) =
        (file[notes + 8..notes + 16].to_vec(), file[notes + 32..notes + 40].to_vec());
    let table = file.len() as u64;
    file.extend([[0; 4], SHT_NOTE.to_le_bytes()].concat());
    file.extend([[0; 8]; 2].concat());
    file.extend([offset, bytes].concat());
    file.extend([0; 24]);
    file[40..48].copy_from_slice(&table.to_le_bytes());
    file[60] = 1;
    file
}

#[test]
fn a_small_packed_kernel_may_have_its_notes_in_a_section() {
    let plain = with_section(100_000);
    let packed = gzip(&plain);
    let (one, other) = (open(&plain).unwrap(), open(&packed).unwrap());
    assert_eq!((one.image, one.head()), (other.image, other.head()));
    assert!(loaded(&one).unwrap() == loaded(&other).unwrap());
    let large = open(&gzip(&with_section(2 << 20))).map(drop);
    assert_eq!(large, Err(KernelError::Image(NoteError::None.into())));
}

#[test]
fn a_packed_kernel_that_ends_early_is_refused() {
    let plain = elf(400_000, 0);
    let cut = gzip(&plain[..plain.len() - 30]);
    assert_eq!(loaded(&open(&cut).unwrap()).map(drop), Err(KernelError::Cut));
    for length in [0, 10, 63, 100, 64 + 2 * 56, 400_000] {
        let cut = gzip(&plain[..length]);
        assert_eq!(open(&cut).map(drop), Err(KernelError::Contents), "{length}");
    }
}

#[test]
fn what_is_packed_may_be_anything() {
    assert_eq!(open(&gzip(b"#!/bin/sh\n")).map(drop), Err(KernelError::Contents));
    assert_eq!(open(&gzip(&[b'x'; 100_000])).map(drop), Err(KernelError::Contents));
    let plain = elf(100, 0);
    for at in 0..64 + 3 * 56 {
        for value in [0, 0x7f, 0x80, 0xff] {
            let mut wild = plain.clone();
            wild[at] = value;
            let packed = gzip(&wild);
            if let Ok(kernel) = open(&packed) {
                let _any = block_on(kernel.unpack(|_, _| Ok::<_, KernelError>(())));
            }
        }
    }
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let plain = elf(3000, 5);
    let whole = {
        let mut collector = Collector::default();
        collector.take(0, &plain).unwrap();
        collector.finish().unwrap()
    };
    for size in [1, 2, 63, 64, 65, 1000] {
        let mut collector = Collector::default();
        let mut at = 0;
        for piece in plain.chunks(size) {
            if !collector.take(at, piece).unwrap() {
                break;
            }
            at += piece.len() as u64;
        }
        assert!(collector.finish().unwrap() == whole, "{size}");
    }
}
