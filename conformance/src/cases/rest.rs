//! Calls for tasks that no PV guest has in its daily work, each asked for something that changes
//! nothing.

use super::control::{EOPNOTSUPP, ESRCH, FREE, with_domain};
use super::event_calls::{EVENT_CHANNEL_OP, NOBODY};
use crate::call::{EFAULT, EINVAL, ENODEV, ENOSYS, EPERM, hypercall};
use crate::case::{Case, case, equal, equal_at};
use crate::raw::memory::{arena_address, fill_arena, peek, poke};
use crate::raw::pages_calls::{SELF, memory_op};

const XSM: u64 = 27;
const XENOPROF: u64 = 31;
const PHYSDEV: u64 = 33;
const HVM: u64 = 34;
const KEXEC: u64 = 37;
const ARGO: u64 = 39;
const PMU: u64 = 40;
const DEVICE_MODEL: u64 = 41;
const HYPFS: u64 = 42;
const MACHINE_CHECKS: u64 = 48;
const EACCES: i64 = -13;
const ENOENT: i64 = -2;
const ENODATA: i64 = -61;

/// Makes a call with words at the arena's start as the argument behind the sub-op.
fn with(number: u64, cmd: u64, words: &[u64]) -> i64 {
    fill_arena(0);
    for (at, word) in (arena_address()..).step_by(8).zip(words) {
        poke(at, *word);
    }
    hypercall(number, &[cmd, arena_address()])
}

pub(crate) const CALLS: &[Case] = &[
    case("rest/pmu", "Virtual counters are off unless a boot asks for them: EOPNOTSUPP.", |_| {
        for cmd in (0..8).chain([99]) {
            equal_at("sub-op", cmd, with(PMU, cmd, &[]), EOPNOTSUPP)?;
        }
        Ok(())
    }),
    case("rest/argo", "Messages between domains are off: ENOSYS.", |_| {
        for cmd in 0..6 {
            equal_at("sub-op", cmd, hypercall(ARGO, &[cmd]), ENOSYS)?;
        }
        Ok(())
    }),
    case("rest/xsm", "Security policies are not built in: ENOSYS, whatever the argument.", |_| {
        for argument in [0, 1, 2, arena_address()] {
            equal_at("argument", argument, hypercall(XSM, &[argument]), ENOSYS)?;
        }
        Ok(())
    }),
    case("rest/hvm_unknown", "Sub-ops of hvm_op that there are not: ENOSYS.", |_| {
        for cmd in [2, 3, 4, 6, 14, 16, 17, 26, 99] {
            equal_at("sub-op", cmd, with(HVM, cmd, &[]), ENOSYS)?;
        }
        Ok(())
    }),
    case("rest/hvm_parameter", "A PV domain has no parameters of hvm_op: EINVAL.", |_| {
        equal("set", with(HVM, 0, &[0x7ff0]), EINVAL)?;
        equal("get", with(HVM, 1, &[0x7ff0]), EINVAL)
    }),
    case("rest/device_model", "dm_op reads its buffers first; with none: ENODATA.", |_| {
        equal("answer", hypercall(DEVICE_MODEL, &[0x7ff0, 0, arena_address()]), ENODATA)
    }),
    case("rest/machine_checks", "The argument of mca that can't be read: EFAULT.", |_| {
        equal("answer", hypercall(MACHINE_CHECKS, &[0]), EFAULT)
    }),
    case("rest/machine_checks_version", "mca of another version: EACCES.", |_| {
        fill_arena(0);
        equal("answer", hypercall(MACHINE_CHECKS, &[arena_address()]), EACCES)
    }),
    case(
        "rest/profiler",
        "Who does not run a session of profiling can't do its work: EPERM.",
        |_| {
            for cmd in (1..14).chain([15, 16, 17]) {
                equal_at("sub-op", cmd, hypercall(XENOPROF, &[cmd, 0]), EPERM)?;
            }
            Ok(())
        },
    ),
    case("rest/profiler_buffer", "A buffer of samples to nowhere: EFAULT.", |_| {
        equal("answer", hypercall(XENOPROF, &[14, 0]), EFAULT)
    }),
    case("rest/profiler_unknown", "Unknown sub-ops of xenoprof_op: EINVAL.", |_| {
        for cmd in [18, 19, 99] {
            equal_at("sub-op", cmd, hypercall(XENOPROF, &[cmd, 0]), EINVAL)?;
        }
        Ok(())
    }),
    case("rest/kexec_pointer", "The argument of kexec_op that can't be read: EFAULT.", |_| {
        for cmd in 1..7 {
            equal_at("sub-op", cmd, hypercall(KEXEC, &[cmd, 0]), EFAULT)?;
        }
        Ok(())
    }),
    case("rest/kexec_status", "No kernel is loaded in its place.", |_| {
        equal("answer", with(KEXEC, 6, &[0]), 0)
    }),
    case("rest/kexec_kind", "A kind of kernel that does not exist: EINVAL.", |_| {
        equal("status", with(KEXEC, 6, &[99]), EINVAL)?;
        equal("unload", with(KEXEC, 5, &[99]), EINVAL)
    }),
    case("rest/kexec_range", "Where the hypervisor is in memory is told.", |_| {
        equal("answer", with(KEXEC, 3, &[1]), 0)?;
        equal("somewhere", peek(arena_address() + 16) != 0, true)
    }),
    case("rest/files_version", "The version of hypfs_op is 1.", |_| {
        equal("answer", hypercall(HYPFS, &[0]), 1)
    }),
    case("rest/files_version_more", "It takes no other argument: EINVAL.", |_| {
        equal("answer", hypercall(HYPFS, &[0, 0x1000, 2, 0x1000, 16]), EINVAL)
    }),
    case("rest/files_read", "A path that can't be read: EFAULT; none at all: EINVAL.", |_| {
        equal("bad", hypercall(HYPFS, &[1, 0x1000, 2, 0x1000, 16]), EFAULT)?;
        equal("none", hypercall(HYPFS, &[1]), EINVAL)
    }),
    case("rest/files_write", "A path to write that can't be read: EFAULT; none: EINVAL.", |_| {
        equal("bad", hypercall(HYPFS, &[2, 0x1000, 2, 0x1000, 16]), EFAULT)?;
        equal("none", hypercall(HYPFS, &[2]), EINVAL)
    }),
    case("rest/files_root", "The root is a folder with entries.", |_| {
        fill_arena(0);
        poke(arena_address(), u64::from(b'/'));
        equal("answer", hypercall(HYPFS, &[1, arena_address(), 2, arena_address() + 64, 1024]), 0)?;
        equal("entries", peek(arena_address() + 64) != 0 || peek(arena_address() + 72) != 0, true)
    }),
    case(
        "rest/queue_control",
        "A queue's block that straddles its page is refused: EINVAL.",
        |_| equal("answer", with(EVENT_CHANNEL_OP, 11, &[1, 4092]), EINVAL),
    ),
    case("rest/queue_vcpu", "A queue of a vCPU that does not exist: ENOENT.", |_| {
        equal("answer", with(EVENT_CHANNEL_OP, 11, &[1, 9999 << 32]), ENOENT)
    }),
];

pub(crate) const MEMORY: &[Case] = &[
    case("rest/highest_page", "The highest page number is what the guest said, none: 0.", |_| {
        equal("own", memory_op(14, &[SELF]), 0)?;
        equal("of nobody", memory_op(14, &[NOBODY.into()]), ESRCH)
    }),
    case("rest/paging", "Paging guests out is not built in: ENOSYS.", |_| {
        equal("answer", memory_op(20, &[0; 4]), ENOSYS)
    }),
    case("rest/access", "Watching accesses is not for PV domains: EPERM.", |_| {
        equal("answer", memory_op(21, &[0; 4]), EPERM)
    }),
    case("rest/sharing", "Sharing pages is not built in: ENOSYS.", |_| {
        equal("answer", memory_op(22, &[0; 4]), ENOSYS)
    }),
    case("rest/add_batch", "Adding pages in a batch is not for PV guests: EACCES.", |_| {
        equal("answer", memory_op(23, &[SELF, 0, 0, 0]), EACCES)
    }),
    case("rest/claim", "Memory set aside with flags or in larger pieces: EINVAL.", |_| {
        equal("flags", memory_op(24, &[0, 1, 1 << 32, 0]), EINVAL)?;
        equal("order", memory_op(24, &[0, 1, 1, 0]), EINVAL)
    }),
    case("rest/compatible_frames", "Tables of 32-bit guests: EOPNOTSUPP without any.", |_| {
        equal("answer", memory_op(25, &[1, arena_address() + 64]), EOPNOTSUPP)
    }),
    case("rest/reserved_memory", "No device needs memory at a fixed place.", |_| {
        equal("answer", memory_op(27, &[1, 0, 0, 0]), 0)
    }),
    case("rest/set_map", "A memory map of more than 1024 lines: EINVAL.", |_| {
        with_domain(|| {
            equal("answer", memory_op(13, &[FREE, 1025, arena_address() + 64]), EINVAL)
        })?;
        equal("of nobody", memory_op(13, &[NOBODY.into(), 0, arena_address() + 64]), ESRCH)
    }),
    case("rest/free_vector", "Giving back a vector is gone: ENOSYS.", |_| {
        equal("answer", with(PHYSDEV, 11, &[5]), ENOSYS)
    }),
    case("rest/older_devices", "The older forms add a device, and remove it once.", |_| {
        equal("add", with(PHYSDEV, 15, &[0xf800]), 0)?;
        equal("remove", with(PHYSDEV, 16, &[0xf800]), 0)?;
        equal("again", with(PHYSDEV, 16, &[0xf800]), ENODEV)?;
        equal("add", with(PHYSDEV, 20, &[0xf800, 0]), 0)?;
        equal("remove", with(PHYSDEV, 16, &[0xf800]), 0)
    }),
    case(
        "rest/end_maps",
        "A bit map of interrupts in a frame that is not the guest's: EINVAL.",
        |_| {
            for cmd in [17, 28] {
                equal_at("form", cmd, with(PHYSDEV, cmd, &[1 << 40]), EINVAL)?;
            }
            Ok(())
        },
    ),
];
