//! Shared structures described as data, for tools and tests.

use crate::{
    blkif, callback, console, domctl, event, grant, memory, mmu, multicall, physdev, platform,
    regs, sched, start, sysctl, trap, vcpu, version, xenstore,
};

/// One shared structure: what C calls it, and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct Structure {
    /// The Rust name.
    pub name: &'static str,
    /// The type in Xen's headers, as C spells it.
    pub c_type: &'static str,
    /// Unit: bytes.
    pub size: usize,
    /// Unit: bytes.
    pub align: usize,
    /// In the order of their offsets.
    pub fields: &'static [Field],
}

/// One field of a [`Structure`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The Rust name.
    pub name: &'static str,
    /// The path inside the C type, or empty for padding that C leaves implicit.
    pub c_path: &'static str,
    /// From the start of the structure. Unit: bytes.
    pub offset: usize,
    /// Unit: bytes.
    pub size: usize,
}

/// The size of the field that a function picks. Unit: bytes.
pub(crate) const fn field_size<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Every structure this crate defines, by module.
pub fn all() -> impl Iterator<Item = &'static Structure> {
    [
        start::STRUCTURES,
        regs::STRUCTURES,
        trap::STRUCTURES,
        callback::STRUCTURES,
        mmu::STRUCTURES,
        multicall::STRUCTURES,
        sched::STRUCTURES,
        version::STRUCTURES,
        event::STRUCTURES,
        grant::STRUCTURES,
        memory::STRUCTURES,
        vcpu::STRUCTURES,
        physdev::STRUCTURES,
        platform::STRUCTURES,
        domctl::STRUCTURES,
        sysctl::STRUCTURES,
        console::STRUCTURES,
        xenstore::STRUCTURES,
        blkif::STRUCTURES,
    ]
    .into_iter()
    .flatten()
}
