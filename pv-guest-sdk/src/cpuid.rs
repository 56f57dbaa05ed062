//! CPUID as the hypervisor answers it. Executed plainly the instruction may show the machine's
//! own leaves instead.

use core::fmt;

use crate::raw::gate::Gate;

pub use hypercall_abi::cpuid::BASE as HYPERVISOR;

/// What a leaf says.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{cpuid::Leaf};
/// let Leaf { eax, .. } = Leaf { eax: 0x4000_0005, ebx: 0, ecx: 0, edx: 0 };
/// assert_eq!(eax & 0xff, 5);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Leaf {
    /// The register eax.
    pub eax: u32,
    /// The register ebx.
    pub ebx: u32,
    /// The register ecx.
    pub ecx: u32,
    /// The register edx.
    pub edx: u32,
}

/// Asks the hypervisor for a leaf.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Machine, cpuid, println};
/// # fn example() {
/// let leaf = cpuid::leaf(&Machine, cpuid::HYPERVISOR, 0);
/// println!("{}, with leaves up to {:#x}", cpuid::Signature::of(leaf), leaf.eax);
/// # }
/// ```
pub fn leaf(gate: &impl Gate, leaf: u32, subleaf: u32) -> Leaf {
    let [eax, ebx, ecx, edx] = gate.cpuid(leaf, subleaf);
    Leaf { eax, ebx, ecx, edx }
}

/// Twelve bytes by which a hypervisor names itself, for example `XenVMMXenVMM`.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{cpuid::{Leaf, Signature}};
/// let [ebx, ecx, edx] = [*b"XenV", *b"MMXe", *b"nVMM"].map(u32::from_le_bytes);
/// let leaf = Leaf { eax: 0, ebx, ecx, edx };
/// assert_eq!(Signature::of(leaf).to_string(), "XenVMMXenVMM");
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signature([u8; 12]);

impl Signature {
    /// The name in a leaf of which ebx, ecx and edx are text.
    #[must_use]
    pub fn of(leaf: Leaf) -> Self {
        let mut bytes = [0; 12];
        let words = [leaf.ebx, leaf.ecx, leaf.edx];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Self(bytes)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(crate::boot::text(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use hypercall_abi::cpuid::SIGNATURE;

    use super::{Leaf, Signature};

    #[test]
    fn a_signature_is_the_text_of_three_registers() {
        let [ebx, ecx, edx] = SIGNATURE;
        let leaf = Leaf { eax: 0x4000_0005, ebx, ecx, edx };
        assert_eq!(Signature::of(leaf).to_string(), "XenVMMXenVMM");
    }
}
