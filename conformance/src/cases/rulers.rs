//! Sub-ops of `domctl` and `sysctl` for tasks that few tools have, as far as they leave the machine
//! and the caller alone: those of `domctl` are tried on a domain with one vCPU that never ran.

use super::control::{EOPNOTSUPP, ESRCH, FREE, answer, answers, domctl, sysctl, with_domain};
use crate::call::{EFAULT, EINVAL, ENODEV, ENOSYS, EPERM};
use crate::case::{Case, Outcome, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, peek};

const ENOENT: i64 = -2;

/// What a sub-op answers for a domain that has never run.
fn fresh(cmd: u64, payload: &[u64], expected: i64) -> Outcome {
    with_domain(|| answers(FREE, &[(15, &[1], 0), (cmd, payload, expected)]))
}

macro_rules! domains {
    ($($name:literal, $cmd:literal, $payload:expr, $answer:expr, $clause:literal;)+) => {
        &[$(case(concat!("rulers/", $name), $clause, |_| fresh($cmd, &$payload, $answer))),+]
    };
}

pub(crate) const DOMAINS: &[Case] = domains! {
    "shadow_off", 10, [0], EINVAL, "Following writes can't be ended before it began: EINVAL.";
    "shadow_unknown", 10, [99], EINVAL, "An unknown way to follow writes: EINVAL.";
    "debugging", 18, [1], 0, "A domain gets a debugger.";
    "debugging_off", 18, [0], 0, "A debugger that is not there is removed.";
    "real_mode_area", 26, [0], ENOSYS, "A real-mode area is for other architectures: ENOSYS.";
    "trigger", 28, [0], 0, "A non-maskable interrupt is sent to a vCPU that never ran.";
    "trigger_other", 28, [1], ENOSYS, "Other triggers are not for PV domains: ENOSYS.";
    "trigger_button", 28, [3], EINVAL, "A PV domain has no buttons: EINVAL.";
    "trigger_none", 28, [9 << 32], ESRCH, "A vCPU that is not there: ESRCH.";
    "subscribe", 29, [9999], 0, "The port to tell of a suspend is not looked at.";
    "assign_device", 37, [0], EOPNOTSUPP, "Without an IOMMU no device is given: EOPNOTSUPP.";
    "bind_pt_irq", 38, [0], EINVAL, "A guest's interrupt line is not for PV domains: EINVAL.";
    "memory_mapping", 39, [0], EINVAL, "No frames are no mapping of device memory: EINVAL.";
    "ioport_mapping", 40, [0], EOPNOTSUPP, "Mapped ports are not for PV domains: EOPNOTSUPP.";
    "set_ext_context", 42, [0], EINVAL, "A context without a size is not set: EINVAL.";
    "get_ext_context", 43, [0], 0, "A vCPU's other state is told with its size, 64 bytes.";
    "get_ext_context_none", 43, [9], ESRCH, "Of a vCPU that is not there: ESRCH.";
    "opt_feature", 44, [0], ENOSYS, "A feature of another architecture: ENOSYS.";
    "test_assign", 45, [0], EOPNOTSUPP, "Whether a device could be given: EOPNOTSUPP without an IOMMU.";
    "set_target", 46, [999], ESRCH, "A domain that is not there can't be ruled: ESRCH.";
    "deassign_device", 47, [0], EOPNOTSUPP, "Nor is a device taken back: EOPNOTSUPP.";
    "unbind_pt_irq", 48, [0], EINVAL, "Nor is a guest's line taken back: EINVAL.";
    "device_group", 50, [0], EOPNOTSUPP, "Devices have no groups without an IOMMU: EOPNOTSUPP.";
    "debug_op", 54, [0], EINVAL, "Single steps are not for PV domains: EINVAL.";
    "vm_event", 56, [0], ENOSYS, "Watching is not built in: ENOSYS.";
    "mem_sharing", 57, [0], ENOSYS, "Sharing is not built in: ENOSYS.";
    "set_xstate", 62, [0], EINVAL, "Extended registers of no size are not set: EINVAL.";
    "get_xstate", 63, [0], 0, "A vCPU without extended registers has 16 bytes of them.";
    "get_xstate_none", 63, [9], ESRCH, "Extended registers of no vCPU: ESRCH.";
    "access_required", 64, [0], 0, "A domain need not be watched.";
    "audit", 65, [0], ENOSYS, "Lists of pages are not checked: ENOSYS.";
    "virq_handler", 66, [99], EINVAL, "A virtual interrupt that does not exist has no handler: EINVAL.";
    "virq_own", 66, [0], EINVAL, "One that each vCPU has for itself has none either: EINVAL.";
    "broken_page", 67, [0], EINVAL, "Bad memory of a PV domain is not noted: EINVAL.";
    "set_nodes", 68, [0], EINVAL, "No nodes at all are not enough: EINVAL.";
    "get_nodes", 69, [0], 0, "The nodes of a domain are told.";
    "cache_flush", 71, [0], ENOSYS, "Caches of another architecture: ENOSYS.";
    "get_msrs", 72, [0], 0, "A vCPU's machine registers are counted.";
    "get_msrs_none", 72, [9], ESRCH, "Machine registers of no vCPU: ESRCH.";
    "set_msrs", 73, [0], 0, "No machine registers at all are set.";
    "virtual_nodes", 74, [0], EINVAL, "No virtual nodes are none: EINVAL.";
    "cache_use", 75, [0], ENODEV, "A CPU that can't count the use of caches: ENODEV.";
    "monitor", 77, [0], EOPNOTSUPP, "Watching is not for PV domains: EOPNOTSUPP.";
    "cache_share", 78, [0], ENODEV, "A CPU whose caches can't be shared out: ENODEV.";
    "soft_reset", 79, [0], EINVAL, "A PV domain is not reset: EINVAL.";
    "vuart", 81, [0], ENOSYS, "A virtual serial line of another architecture: ENOSYS.";
    "get_policy", 82, [0], 0, "The words of a domain's CPU policy are counted.";
    "set_policy", 83, [0], 0, "A policy without words changes nothing.";
    "trace", 84, [0], EINVAL, "Processor traces are not for PV domains: EINVAL.";
    "get_pool", 85, [0], EOPNOTSUPP, "PV domains have no pool for shadow tables: EOPNOTSUPP.";
    "set_pool", 86, [0], EOPNOTSUPP, "Nor can they be given one: EOPNOTSUPP.";
    "debugger", 1000, [0], ENOSYS, "The debugger's calls are not built in: ENOSYS.";
    "debugger_pause", 1001, [0], ENOSYS, "Nor does it stop a vCPU: ENOSYS.";
    "debugger_unpause", 1002, [0], ENOSYS, "Nor let it run: ENOSYS.";
    "debugger_status", 1003, [0], ENOSYS, "Nor ask what happened: ENOSYS.";
};

macro_rules! machine {
    ($($name:literal, $cmd:literal, $payload:expr, $answer:expr, $clause:literal;)+) => {
        &[$(case(concat!("rulers/", $name), $clause, |_| {
            equal("answer", sysctl($cmd, $payload), $answer)
        })),+]
    };
}

pub(crate) const MACHINE: &[Case] = machine! {
    "trace_unknown", 2, [99, 0, 0], EINVAL, "An unknown command for trace buffers: EINVAL.";
    "trace_info", 2, [0; 3], 0, "Trace buffers are told of, even if they are off.";
    "counters", 5, [2, 0, 0], ENOSYS, "Performance counters are not built in: ENOSYS.";
    "statistics", 10, [9999 << 32 | 2, 0, 0], EINVAL, "Power states of no CPU: EINVAL.";
    "statistics_none", 10, [2, 0, 0], ENODEV, "Power states of a CPU without: ENODEV.";
    "power", 12, [0x10 | 9999 << 32, 0, 0], EINVAL, "Settings of no CPU's power: EINVAL.";
    "power_unknown", 12, [99, 0, 0], ENOSYS, "An unknown setting of power: ENOSYS.";
    "bad_pages", 14, [5 << 32 | 3, 2, 0], EINVAL, "Bad memory that ends before it begins: EINVAL.";
    "bad_pages_answer", 14, [3, 0, 0], EFAULT, "Nowhere to tell of bad memory: EFAULT.";
    "lock_profile", 15, [2, 0, 0], ENOSYS, "Profiles of locks are not built in: ENOSYS.";
    "pool_unknown", 18, [99, 0, 0], ENOSYS, "An unknown command for pools of CPUs: ENOSYS.";
    "pool_in_use", 18, [2, 0, 0], -16, "A pool with domains is not removed: EBUSY.";
    "pool_none", 18, [3 | 1 << 32, 0, 0], ENOENT, "A pool that does not exist: ENOENT.";
    "scheduler_none", 19, [99, 0, 0], ESRCH, "The scheduler of a pool that does not exist: ESRCH.";
    "scheduler_other", 19, [0, 1, 0], EINVAL, "Settings for another scheduler: EINVAL.";
    "coverage", 20, [0; 3], EOPNOTSUPP, "Coverage is not built in: EOPNOTSUPP.";
    "cache_use_all", 21, [0; 3], ENODEV, "A machine that can't count the use of caches: ENODEV.";
    "device_nodes", 22, [0, 0x1000, 0], EINVAL, "Nodes of no devices: EINVAL.";
    "cache_share_all", 23, [0; 3], ENODEV, "A machine whose caches can't be shared out: ENODEV.";
    "cache_share_unknown", 23, [99, 0, 0], EOPNOTSUPP, "An unknown way to share caches: EOPNOTSUPP.";
    "patch_unknown", 27, [99, 0, 0], EOPNOTSUPP, "An unknown command for patches: EOPNOTSUPP.";
    "policy_none", 29, [99, 0, 0], EINVAL, "A CPU policy for no kind of guest: EINVAL.";
};

pub(crate) const CASES: &[Case] = &[
    case("rulers/no_domain", "Of no domain every sub-op answers ESRCH, known or not.", |_| {
        for cmd in (2..88).chain(1000..1004).filter(|&cmd| cmd != 5) {
            equal_at("sub-op", cmd, domctl(cmd, FREE, &[]), ESRCH)?;
        }
        Ok(())
    }),
    case("rulers/irq", "An interrupt that the caller has not got can't be given: EPERM.", |_| {
        with_domain(|| {
            answers(FREE, &[(19, &[0xffff | 1 << 32], EINVAL), (19, &[5 | 1 << 32], EPERM)])
        })
    }),
    case("rulers/debug_itself", "The caller is no debugger of itself: EINVAL.", |_| {
        answers(0, &[(18, &[1], EINVAL)])
    }),
    case("rulers/policy_size", "A domain's policy is counted in leaves and registers.", |_| {
        with_domain(|| {
            equal("answer", domctl(82, FREE, &[]), 0)?;
            let (leaves, registers) = (answer(0) & 0xffff_ffff, answer(0) >> 32);
            holds("leaves", leaves, "more than ten", leaves > 10)?;
            holds("registers", registers, "more than none", registers > 0)
        })
    }),
    case("rulers/features", "The words of each set of features are counted.", |_| {
        for set in 0..3 {
            equal_at("set", set, sysctl(26, [set, 0, 0]), 0)?;
            let words = peek(arena_address() + 8) >> 32;
            holds("words", words, "more than nine", words > 9)?;
        }
        Ok(())
    }),
    case("rulers/levelling", "Which features can be hidden is told.", |_| {
        equal("answer", sysctl(25, [0; 3]), 0)
    }),
    case("rulers/patches", "No patch is loaded.", |_| equal("answer", sysctl(27, [2, 0, 0]), 0)),
    case("rulers/policies", "The policies of the machine and of its guests are counted.", |_| {
        for policy in [0, 1, 2, 4] {
            equal_at("policy", policy, sysctl(29, [policy, 0, 0]), 0)?;
            let leaves = peek(arena_address() + 8) >> 32;
            holds("leaves", leaves, "more than ten", leaves > 10)?;
        }
        Ok(())
    }),
    case("rulers/sysctl_gaps", "The numbers between are unknown: ENOSYS.", |_| {
        for cmd in [0, 13, 24, 28, 30, 31, 99, 0xffff_ffff] {
            equal_at("sub-op", cmd, sysctl(cmd, [0; 3]), ENOSYS)?;
        }
        Ok(())
    }),
];
