use zerocopy::{FromZeros, IntoBytes};

use super::FpuState;
use crate::cpu::CpuId;
use crate::life::tests::World;
use crate::regs::GuestRegs;
use crate::system::DomainVcpu;
use hypercall_abi::errno::Errno;
use hypercall_abi::types::VcpuId;

/// Registers and XCR0 of a vCPU are where it is, and nobody else's.
#[test]
fn a_vcpu_takes_its_registers_along() {
    let world = World::new(64);
    let machine = world.machine();
    let vcpu = |number| {
        let vcpu = world.control.vcpu(VcpuId(number)).unwrap().clone();
        DomainVcpu { domain: world.control.clone(), vcpu }
    };
    let (one, other) = (vcpu(0), vcpu(1));
    let cpus = [0, 1].map(|number| CpuId::new(number).unwrap());
    let regs = &mut GuestRegs::default();
    assert!(one.load(machine, cpus[0], regs));
    one.vcpu.state.lock(machine).xcr0 = 7;
    let mut marked = FpuState::new_zeroed();
    marked.as_mut_bytes().fill(0x5a);
    *machine.unit() = (marked.clone(), 7);
    one.save(machine, regs);
    assert!(other.load(machine, cpus[0], regs));
    assert_eq!(machine.unit().0.as_bytes(), FpuState::INITIAL.as_bytes());
    assert_eq!(machine.unit().1, 0, "it has not chosen");
    other.save(machine, regs);
    machine.on(1);
    assert!(one.load(machine, cpus[1], regs));
    let (registers, xcr0) = machine.unit().clone();
    assert_eq!((registers.as_bytes(), xcr0), (marked.as_bytes(), 7));
}

/// What a guest or the tools describe is as they say, but for what no processor loads.
#[test]
fn what_is_described_can_be_loaded() {
    let legacy = FpuState::from_guest([0xff; FpuState::LEGACY]);
    assert_eq!(legacy.as_bytes()[24..28], [0xff, 0xff, 0, 0], "MXCSR");
    assert_eq!(legacy.as_bytes()[28..512], [0xff; 484]);
    assert_eq!(legacy.as_bytes()[512..520], 3_u64.to_le_bytes(), "x87 and SSE are in use");
    assert_eq!(legacy.as_bytes()[520..], [0; 312], "no other is");
    let state = |word: usize, value: u64| {
        let mut state = FpuState::from_guest([0xff; FpuState::LEGACY]);
        state.as_mut_bytes()[8 * word..8 * word + 8].copy_from_slice(&value.to_le_bytes());
        state
    };
    for parts in [1, 3, 7] {
        for named in 0..16 {
            let checked = state(64, named).checked(parts);
            assert_eq!(checked.is_some(), named & !parts == 0, "{named:x} of {parts:x}");
        }
    }
    for word in 65..72 {
        let error = state(word, 1).checked(3).unwrap().err();
        let expected = if word == 65 { Errno::EOPNOTSUPP } else { Errno::EIO };
        assert_eq!(error, Some(expected), "word {word}");
    }
    let checked = state(3, u64::MAX).checked(3).unwrap().unwrap();
    assert_eq!(checked.as_bytes()[24..28], [0xff, 0xff, 0, 0], "MXCSR");
}
