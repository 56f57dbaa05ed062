//! The emulator against an independent decoder and the processor itself.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]
#![expect(clippy::panic, reason = "fails the test")]

mod decode;
mod execute;
mod msr;
mod processor;
mod random;
mod reference;
mod table_write;
mod vcpu;
