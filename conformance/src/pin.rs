//! Keeping the domain's vCPUs on CPU 0 for the length of a case, by the control domain's call.
//!
//! CPUs have clocks of their own. Xen sets each by a time source of the machine, and where the CPU's
//! counter is not said to be the same on all, as in QEMU, they are apart by milliseconds: a vCPU that
//! moves may see time go back, and sleep less than it asked. And an order of events that is that of
//! the hypervisor's choices, such as what is done when a vCPU is left for another, needs vCPUs that
//! take turns on one CPU.

use crate::call::hypercall;
use crate::raw::memory::arena_address;
use crate::raw::pages_calls::put_words;
use crate::vcpus::VCPUS;

/// What the names of the cases begin with that run on one CPU.
const NAMES: [&str; 16] = [
    // They measure time.
    "block/",
    "clock/",
    "ipi/",
    "pirq/",
    "poll/",
    "runstate/",
    "timer/",
    "vcpu_info/time",
    "watchdog/",
    // They tell what a switch from one vCPU to another does, and when.
    "vcpu_entry/online",
    "vcpu_run/failsafe",
    "vcpu_run/slices",
    "vcpu_run/yield",
    // One is told which CPU a vCPU is bound to, if it is.
    "vcpu_start/physid_b",
    "vcpu_start/physid_p",
    // What another CPU does for a moment more is over after some calls, not after a time.
    "vcpu_start/down_other",
];

const DOMCTL: u64 = 36;
/// `setvcpuaffinity`, with the version of the interface.
const SET_AFFINITY: u64 = 9 | 0x15 << 32;
/// That it is about where a vCPU may run, not about where it runs best.
const HARD: u64 = 1;
/// Where the set of CPUs lies in the arena, behind the argument. Unit: bytes.
const SET: usize = 256;

/// A case that runs on one CPU, for as long as this is there.
pub(crate) struct Pinned(());

impl Pinned {
    /// Binds all vCPUs to CPU 0 if the case of that name wants it. Who may not do that, as a domain
    /// that does not control others, goes on as it is.
    pub(crate) fn for_case(name: &str) -> Option<Self> {
        NAMES.iter().any(|begin| name.starts_with(begin)).then(|| {
            allow(1);
            Self(())
        })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        allow(u64::MAX);
    }
}

/// Lets all vCPUs run on a set of CPUs alone.
fn allow(cpus: u64) {
    for vcpu in 0..VCPUS {
        let set = arena_address() + SET as u64;
        put_words(0, &[SET_AFFINITY, 0, vcpu | HARD << 32, set, 64, 0, 0]);
        put_words(SET, &[cpus]);
        hypercall(DOMCTL, &[arena_address()]);
    }
}
