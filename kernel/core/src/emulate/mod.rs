//! Instructions executed on a guest's behalf.
//!
//! A PV kernel runs at CPL 3, where its privileged instructions fault. A closed list of them is
//! decoded and executed here; everything else is the guest's own fault and reaches its handler.
//! Nothing in this module touches the machine: bytes come from a [`code::Fetch`], effects go to a
//! [`state::PrivilegedState`] or come back as values.
//!
//! What calls what:
//!
//! * `#GP` with error code 0: [`privileged::decode`], then [`execute::execute`];
//! * `#GP` with an error code that has the IDT bit: [`soft_interrupt::decode`];
//! * `#PF` for a kernel's write to one of its level-1 tables: [`table_write::decode`], then
//!   [`table_write::TableWrite::apply`] in a compare-and-swap loop, then
//!   [`table_write::TableWrite::retire`];
//! * `#UD`: [`forced::decode`].
//!
//! Where to read next: [`privileged`] for the list and what was measured about it,
//! [`msr`] and [`control`] for what each register shows and accepts,
//! [`table_write`] for page tables.

pub mod alu;
pub mod code;
pub mod control;
pub mod execute;
pub mod forced;
pub mod memory_operand;
pub mod msr;
pub mod port;
pub mod prefix;
pub mod privileged;
pub mod register;
pub mod soft_interrupt;
pub mod state;
pub mod string_io;
pub mod table_operation;
pub mod table_write;
pub mod width;
pub mod xcr0;
