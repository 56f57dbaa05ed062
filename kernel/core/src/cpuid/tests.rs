use std::collections::BTreeMap;
use std::vec::Vec;

use super::{FEATURES, Limits, Viewer, as_it_runs, policy};
use crate::emulate::xcr0;
use crate::life::tests::World;

type Leaves = BTreeMap<(u32, u32), [u32; 4]>;

const XSAVE: u32 = 1 << 26;
const AVX: u32 = 1 << 28;
/// What needs AVX in leaf 1, and in leaf 7's ebx and ecx.
const NEED: [u32; 3] = [1 << 12 | AVX | 1 << 29, 1 << 5, 1 << 9 | 1 << 10];

/// A processor that has everything, more than anybody is shown.
fn everything() -> Leaves {
    let all = [u32::MAX; 4];
    let mut leaves: Leaves =
        [(1, 0), (7, 0), (0xd, 1), (0x8000_0001, 0)].map(|at| (at, all)).into();
    leaves.insert((0, 0), [0x1f, 0, 0, 0]);
    leaves.insert((0x8000_0000, 0), [0x8000_0021, 0, 0, 0]);
    leaves.insert((0xd, 0), [0x6e7, 2696, 2696, 0]);
    leaves.insert((0xd, 2), [256, 576, 0, 0]);
    leaves
}

/// The parts that are kept, of a processor's.
#[test]
fn parts_are_kept_if_all_fits() {
    let kept = |change: &dyn Fn(&mut Leaves)| {
        let mut leaves = everything();
        change(&mut leaves);
        xcr0::kept(&|leaf, subleaf| leaves.get(&(leaf, subleaf)).copied().unwrap_or_default())
    };
    assert_eq!(kept(&|_| ()), 7);
    assert_eq!(kept(&|leaves| leaves.get_mut(&(0, 0)).unwrap()[0] = 0xc), 0, "no leaf d");
    assert_eq!(kept(&|leaves| leaves.get_mut(&(1, 0)).unwrap()[2] &= !XSAVE), 0);
    assert_eq!(kept(&|leaves| leaves.get_mut(&(1, 0)).unwrap()[2] &= !AVX), 3);
    assert_eq!(kept(&|leaves| leaves.get_mut(&(0xd, 0)).unwrap()[0] = 3), 3);
    assert_eq!(kept(&|leaves| leaves.get_mut(&(0xd, 0)).unwrap()[0] = 5), 0, "no SSE");
    assert_eq!(kept(&|leaves| leaves.get_mut(&(0xd, 2)).unwrap()[1] = 640), 3, "another place");
}

/// XSAVE and AVX are shown with all that needs them, or not at all.
#[test]
fn extended_state_is_shown_as_one() {
    let world = World::new(64);
    let machine = world.machine();
    let ask = |limits: &Limits, leaf, subleaf| {
        policy(&world.system, Viewer::Other, limits, (leaf, subleaf))
    };
    let see = |limits: &Limits| {
        let ([_, _, leaf1, _], [_, ebx, ecx, _]) = (ask(limits, 1, 0), ask(limits, 7, 0));
        let [parts, in_use, size, _] = ask(limits, 0xd, 0);
        assert_eq!((leaf1 >> 27 & 1, in_use), (0, 0), "they depend on who runs");
        let need = [leaf1 & NEED[0], ebx & NEED[1], ecx & NEED[2]];
        (leaf1 & XSAVE, need, [parts, size], ask(limits, 0xd, 1)[0], ask(limits, 0xd, 2))
    };
    let all = Limits::NONE;
    assert_eq!(see(&all), (0, [0; 3], [0; 2], 0, [0; 4]), "the processor has none");
    *machine.leaves.lock().unwrap() = everything();
    assert_eq!(see(&all), (XSAVE, NEED, [7, 832], 7, [256, 576, 0, 0]));
    let without = |place, bits: u32| {
        let mut limits = Limits::NONE;
        let at = FEATURES.iter().position(|&known| known == place).unwrap();
        limits.features[at] = !bits;
        limits
    };
    let no_avx = without((1, 0, 2), AVX);
    assert_eq!(see(&no_avx), (XSAVE, [0; 3], [3, 576], 7, [0; 4]));
    let no_xsave = without((1, 0, 2), XSAVE);
    assert_eq!(see(&no_xsave), (0, [0; 3], [0; 2], 0, [0; 4]));
    assert_eq!(see(&without((0xd, 1, 0), 1)).3, 6, "no XSAVEOPT");
    for (limits, features) in
        [(all, [0x5_000c, 7]), (no_avx, [0x5_000c, 3]), (no_xsave, [0x1_000c, 0])]
    {
        *world.control.cpuid.lock(machine) = limits;
        let (system, domain) = (&world.system, &world.control);
        assert_eq!([system.cr4_features(domain), system.xcr0_features(domain)], features);
    }
    *world.control.cpuid.lock(machine) = without((7, 0, 1), 1);
    assert_eq!(world.system.cr4_features(&world.control), 0x4_000c, "no bases");
}

/// OSXSAVE and the sizes in use are the running vCPU's.
#[test]
fn what_depends_on_who_runs() {
    let world = World::new(64);
    let machine = world.machine();
    *machine.leaves.lock().unwrap() = everything();
    machine.leaves.lock().unwrap().insert((0xd, 0), [7, 576, 832, 0]);
    let with = |ecx| [0, 1, ecx, 2];
    assert_eq!(as_it_runs(machine, (1, 0), with(XSAVE), true), with(XSAVE | 1 << 27));
    assert_eq!(as_it_runs(machine, (1, 0), with(XSAVE), false), with(XSAVE));
    assert_eq!(as_it_runs(machine, (1, 0), with(0), true), with(0), "XSAVE is hidden");
    assert_eq!(as_it_runs(machine, (0xd, 0), [7, 0, 832, 0], true), [7, 576, 832, 0]);
    assert_eq!(as_it_runs(machine, (0xd, 0), [0; 4], true), [0; 4]);
    assert_eq!(as_it_runs(machine, (0xd, 1), [7, 0, 0, 0], true), [7, u32::MAX, 0, 0]);
    assert_eq!(as_it_runs(machine, (0xd, 1), [1, 0, 0, 0], true), [1, 0, 0, 0], "no XSAVEC");
}

/// Of all features there are these are shown, as on Xen; by their numbers.
#[test]
fn features_are_shown_one_by_one() {
    let world = World::new(64);
    *world.machine().leaves.lock().unwrap() = everything();
    let shown = |viewer, leaf, register: usize| {
        let bits = policy(&world.system, viewer, &Limits::NONE, (leaf, 0))[register];
        (0..32).filter(|bit| bits >> bit & 1 != 0).collect::<Vec<_>>()
    };
    let expected: [(u32, usize, &[u32], Option<u32>); 6] = [
        (1, 2, &[0, 1, 9, 12, 13, 19, 20, 22, 23, 25, 26, 28, 29, 30, 31], Some(7)),
        (1, 3, &[0, 2, 4, 5, 6, 7, 8, 9, 14, 15, 16, 19, 22, 23, 24, 25, 26, 27, 28], Some(12)),
        (7, 1, &[0, 3, 5, 8, 9, 18, 19, 23, 24, 29], None),
        (7, 2, &[9, 10], None),
        (0x8000_0001, 2, &[0, 5, 6, 7, 8, 11, 16, 21], None),
        (
            0x8000_0001,
            3,
            &[0, 2, 4, 5, 6, 7, 8, 9, 11, 14, 15, 16, 20, 22, 23, 24, 25, 27, 29, 30, 31],
            Some(12),
        ),
    ];
    for (leaf, register, all, kernels) in expected {
        for viewer in [Viewer::Other, Viewer::InitialUser] {
            assert_eq!(shown(viewer, leaf, register), all, "{leaf:#x}, {viewer:?}");
        }
        let mut more = all.to_vec();
        more.extend(kernels);
        more.sort_unstable();
        assert_eq!(shown(Viewer::InitialKernel, leaf, register), more, "{leaf:#x}");
    }
}
