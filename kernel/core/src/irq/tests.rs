//! Interrupts on a machine of host memory: what reaches the I/O APIC and the devices, and the ports.

use std::sync::Arc;

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{Mfn, Port};

use super::{Function, Kind, PIRQS, Polarity, Table, Trigger};
use crate::emulate::width::Width;
use crate::event::Status;
use crate::event::world::{Dom, World};
use crate::fake::Machine;
use crate::frames::DeviceAccess;
use crate::mm::Mm;
use crate::platform::Platform;
use crate::system::System;

/// A device with 64-bit messages at 0x40, and a table of four at 0x60 in its memory.
const DEVICE: Function = Function { segment: 0, bdf: 0x18 };
const MEMORY: u64 = 0x10_0000_0000;
const TABLE: Table = Table { entry: 2, base: 0 };

fn world() -> World {
    let world = World::new(Machine::new(64, 1), 2, 1);
    let machine = &world.system.platform;
    let lines = &machine.interrupts().lines;
    lines.begin(machine, 24);
    lines.overrule(machine, 9, 9, (Trigger::Level, Polarity::High));
    lines.keep(machine, 0);
    lines.keep(machine, 4);
    for (register, value) in [
        (0x04, 0x0010_0002),
        (0x0c, 0),
        (0x10, 4),
        (0x14, 0x10),
        (0x34, 0x40),
        (0x40, 0x0080_6005),
        (0x44, 0),
        (0x48, 0),
        (0x4c, 0),
        (0x60, 0x0003_0011),
        (0x64, 0x1000),
        (0x68, 0x1800),
    ] {
        machine.bus.configure(DEVICE.bdf, register, value);
    }
    world
}

impl World {
    /// Maps a line under its own number and binds it.
    fn line(&self, domain: &Dom, line: i32) -> Port {
        self.system.map_line(domain, domain, line, line).unwrap();
        self.system.bind_pirq(domain, u32::try_from(line).unwrap()).unwrap()
    }

    fn vector(&self, pin: u32) -> u8 {
        self.system.platform.bus.line(pin).expect("the line is open").vector
    }

    fn mm<'a>(&'a self, domain: &'a Dom) -> Mm<'a, Machine, System<Machine>> {
        Mm::new(&self.system.platform, &domain.memory, &self.system)
    }

    fn pending(&self, domain: &Dom, port: Port) -> bool {
        domain.is_pending(&self.system.platform, port).unwrap()
    }
}

#[test]
fn an_edge_raises_its_port_and_stays_open() {
    let world = world();
    let domain = &world.domains[0];
    let port = world.line(domain, 8);
    assert_eq!(world.status(domain, port), Status::Pirq(8));
    let vector = world.vector(8);
    for _ in 0..3 {
        world.system.device_interrupt(vector);
        assert_eq!(world.waits(domain, port), (true, true));
        assert!(world.system.platform.bus.line(8).is_some());
        world.clear(domain, port);
    }
    world.system.close_port(domain, port).unwrap();
    assert!(world.system.platform.bus.line(8).is_none(), "closed is masked");
    world.system.device_interrupt(vector);
    assert!(!world.pending(domain, port), "one that was under way is lost");
}

#[test]
fn a_level_is_masked_until_its_end() {
    let world = world();
    let (domain, bus) = (&world.domains[0], &world.system.platform.bus);
    let port = world.line(domain, 9);
    let vector = world.vector(9);
    assert_eq!(bus.line(9).unwrap().trigger, Trigger::Level);
    for _ in 0..2 {
        world.system.device_interrupt(vector);
        assert!(world.pending(domain, port) && bus.line(9).is_none());
        // Neither looking at the event nor unmasking the port is its end.
        world.clear(domain, port);
        world.system.unmask_port(domain, port).unwrap();
        assert!(bus.line(9).is_none());
        world.system.end_of_pirq(domain, 9).unwrap();
        assert_eq!(bus.line(9).unwrap().vector, vector);
    }
    // An end that nobody waits for changes nothing; a port that is closed meanwhile ends it, too.
    world.system.end_of_pirq(domain, 9).unwrap();
    world.system.device_interrupt(vector);
    world.system.close_port(domain, port).unwrap();
    world.system.end_of_pirq(domain, 9).unwrap();
    assert!(bus.line(9).is_none(), "nobody is there to look after it");
    let port = world.system.bind_pirq(domain, 9).unwrap();
    assert!(bus.line(9).is_some() && !world.pending(domain, port));
}

#[test]
fn numbers_are_given_as_on_xen() {
    let world = world();
    let (system, domain) = (&world.system, &world.domains[0]);
    let map = |line, wanted| system.map_line(domain, domain, line, wanted);
    assert_eq!(map(0, -1), Err(Errno::EPERM));
    assert_eq!(map(24, -1), Err(Errno::EINVAL));
    assert_eq!(map(-1, -1), Err(Errno::EINVAL));
    assert_eq!(map(1, 208), Err(Errno::EINVAL));
    assert_eq!(map(1, -1), Ok(16));
    assert_eq!((map(1, -1), map(1, 16), map(1, 1)), (Ok(16), Ok(16), Err(Errno::EEXIST)));
    // An index is a number of the caller first.
    assert_eq!(map(16, -1), Ok(16));
    assert_eq!(system.bind_pirq(domain, 17), Err(Errno::EPERM));
    assert_eq!(system.bind_pirq(domain, PIRQS), Err(Errno::EINVAL));
    let port = system.bind_pirq(domain, 16).unwrap();
    assert_eq!(system.bind_pirq(domain, 16), Err(Errno::EEXIST));
    assert_eq!(system.send_event(domain, port), Err(Errno::EINVAL));
    system.unmap_pirq(domain, 16).unwrap();
    assert_eq!((map(1, -1), map(1, 16)), (Err(Errno::EBUSY), Err(Errno::EEXIST)));
    system.close_port(domain, port).unwrap();
    assert_eq!(map(1, 16), Err(Errno::EPERM), "given back is given up");
    assert_eq!(map(4, 4), Ok(4));
    assert_eq!(system.bind_pirq(domain, 4), Err(Errno::EBUSY), "the console's line");
    for pirq in (24..PIRQS).rev() {
        assert_eq!(system.reserve_pirq(domain, Kind::Message), Ok(pirq));
    }
    assert_eq!(system.reserve_pirq(domain, Kind::Message), Err(Errno::ENOSPC));
}

#[test]
fn another_domain_gets_what_it_was_given() {
    let world = world();
    let [initial, other] = &world.domains[..] else { panic!() };
    assert_eq!(world.system.map_line(other, other, 8, 8), Err(Errno::EINVAL));
    world.system.map_line(initial, other, 8, 8).unwrap();
    let port = world.system.bind_pirq(other, 8).unwrap();
    world.system.map_line(initial, initial, 8, 8).unwrap();
    assert_eq!(world.system.bind_pirq(initial, 8), Err(Errno::EBUSY), "it is not shared");
    let vector = world.vector(8);
    world.system.device_interrupt(vector);
    assert!(world.pending(other, port));
    world.system.close_port(other, port).unwrap();
    world.system.end_pirqs(other, world.mm(other).frames);
    assert_eq!(world.system.permitted_irq(other, 8), None);
    assert_eq!(Arc::strong_count(other), 2, "nothing of it is left");
    world.system.bind_pirq(initial, 8).unwrap();
}

#[test]
fn a_message_is_programmed_and_taken_back() {
    let world = world();
    let (system, domain, bus) = (&world.system, &world.domains[0], &world.system.platform.bus);
    assert_eq!(system.map_message(domain, DEVICE, None, -1), Err(Errno::ENODEV));
    system.add_device(DEVICE).unwrap();
    let pirq = system.map_message(domain, DEVICE, None, -1).unwrap();
    assert_eq!(pirq, PIRQS - 1);
    let port = system.bind_pirq(domain, pirq).unwrap();
    assert_eq!(bus.configuration(DEVICE.bdf, 0x44), 0xfee0_0000);
    let [vector, ..] = bus.configuration(DEVICE.bdf, 0x4c).to_le_bytes();
    system.device_interrupt(vector);
    assert!(world.pending(domain, port));
    // The driver switches it on; taking it back switches it off.
    bus.configure(DEVICE.bdf, 0x40, 0x0081_6005);
    assert_eq!(system.map_message(domain, DEVICE, Some(TABLE), -1), Err(Errno::EBUSY));
    system.unmap_pirq(domain, i32::try_from(pirq).unwrap()).unwrap();
    assert_eq!(bus.configuration(DEVICE.bdf, 0x40), 0x0080_6005);
    assert_eq!(world.status(domain, port), Status::Pirq(pirq));
    world.clear(domain, port);
    system.device_interrupt(vector);
    assert!(!world.pending(domain, port));
}

#[test]
fn a_table_is_the_kernels_while_it_is_used() {
    let world = world();
    let (system, domain, machine) = (&world.system, &world.domains[0], &world.system.platform);
    system.add_device(DEVICE).unwrap();
    let table = MEMORY + 0x1000;
    let access = || machine.frames().device_access(Mfn(table >> 12));
    let entry = |register: u64| machine.bus.register(table + 32 + register);
    assert_eq!(
        system.map_message(domain, DEVICE, Some(Table { entry: 4, base: 1 }), -1),
        Err(Errno::EINVAL)
    );
    assert_eq!(access(), DeviceAccess::Full);
    let pirq = system.map_message(domain, DEVICE, Some(TABLE), 100).unwrap();
    assert_eq!((pirq, access(), entry(12)), (100, DeviceAccess::Read, 1));
    let port = system.bind_pirq(domain, pirq).unwrap();
    assert_eq!((entry(0), entry(4), entry(12)), (0xfee0_0000, 0, 0));
    let [vector, ..] = entry(8).to_le_bytes();
    system.device_interrupt(vector);
    assert!(world.pending(domain, port));
    // Of the capability the guest writes nothing but the switch.
    let write = |register: u32, byte: u16, width, value| {
        let selected = 1 << 31 | u32::from(DEVICE.bdf) << 8 | register;
        system.config_out(domain, 0xcf8, Width::B4, selected).unwrap();
        system.config_out(domain, 0xcfc + byte, width, value).unwrap();
    };
    write(0x64, 0, Width::B4, 0);
    write(0x60, 0, Width::B4, 0);
    assert_eq!(machine.bus.configuration(DEVICE.bdf, 0x64), 0x1000);
    write(0x60, 2, Width::B2, 0x8003);
    assert_eq!(machine.bus.configuration(DEVICE.bdf, 0x60), 0x8003_0011);
    assert_eq!(system.config_in(domain, 0xcf8, Width::B4), Some(0x8000_1860));
    assert_eq!(system.config_in(&world.domains[1], 0xcfc, Width::B4), Some(u32::MAX));
    system.close_port(domain, port).unwrap();
    assert_eq!(entry(12), 1, "masked");
    system.unmap_pirq(domain, 100).unwrap();
    assert_eq!(access(), DeviceAccess::Full);
}

#[test]
fn a_table_in_memory_is_no_table() {
    let world = world();
    let (system, domain) = (&world.system, &world.domains[0]);
    // The guest points the device's memory at memory.
    world.system.platform.bus.configure(DEVICE.bdf, 0x10, 4);
    world.system.platform.bus.configure(DEVICE.bdf, 0x14, 0);
    world.system.platform.bus.configure(DEVICE.bdf, 0x64, 0x3000);
    system.add_device(DEVICE).unwrap();
    let map = |base| system.map_message(domain, DEVICE, Some(Table { entry: 0, base }), -1);
    assert_eq!(map(0x2000), Err(Errno::ENXIO));
    assert_eq!(map(u64::MAX), Err(Errno::ENXIO));
    assert_eq!(map(1 << 50), Err(Errno::ENXIO));
    assert_eq!(system.reserve_pirq(domain, Kind::Message), Ok(PIRQS - 1), "no number is lost");
}

/// A device whose memory moves while its table is in use has no entries behind the frames that were looked at.
#[test]
fn an_entry_lies_in_the_frames_of_its_table() {
    let world = world();
    let (system, domain) = (&world.system, &world.domains[0]);
    let bus = &system.platform.bus;
    // Eight frames of entries.
    bus.configure(DEVICE.bdf, 0x60, 0x07ff_0011);
    system.add_device(DEVICE).unwrap();
    let map = |entry| system.map_message(domain, DEVICE, Some(Table { entry, base: 0 }), -1);
    let first = map(0x7ff).unwrap();
    assert_ne!(bus.register(MEMORY + 0x1000 + 0x7ff0), 0);
    // The table begins where the last of them was.
    bus.configure(DEVICE.bdf, 0x10, 0x7004);
    for entry in [0x100, 0x7ff] {
        assert_eq!(map(entry), Err(Errno::ENXIO));
        assert_eq!(bus.register(MEMORY + 0x8000 + 0x10 * u64::from(entry)), 0);
    }
    let within = map(0xff).unwrap();
    for pirq in [first, within] {
        system.unmap_pirq(domain, pirq.cast_signed()).unwrap();
    }
    let table = Mfn((MEMORY + 0x1000) >> 12);
    assert_eq!(system.platform.frames().device_access(table), DeviceAccess::Full, "no use is left");
}

#[test]
fn devices_stop_with_their_driver() {
    let world = world();
    let bus = &world.system.platform.bus;
    // A device of two functions behind a bridge, and one that nobody reported.
    for (bdf, header) in
        [(0x0008, 1 << 16), (0x0108, 1 << 23), (0x010b, 0), (0xffff, 0), (0xfff8, 1 << 23)]
    {
        bus.configure(bdf, 0, 0x1000_1af4);
        bus.configure(bdf, 0x0c, header);
        bus.configure(bdf, 4, 0x0007);
    }
    world.system.stop_devices();
    let command = |bdf| bus.configuration(bdf, 4);
    assert_eq!(command(0x0008), 0x0007, "a bridge");
    assert_eq!([0x0108, 0x010b, 0xfff8, 0xffff].map(command), [0x0403; 4]);
    assert_eq!(bus.configuration(0x0100, 4), u32::MAX, "no device");
}

/// What no domain has as a whole is read and written piece by piece.
#[test]
fn an_access_is_taken_apart() {
    let world = world();
    let (system, initial, other) = (&world.system, &world.domains[0], &world.domains[1]);
    let selected = 1 << 31 | u32::from(DEVICE.bdf) << 8 | 0x60;
    system.port_out(initial, 0xcf8, Width::B4, selected);
    assert_eq!(system.port_in(initial, 0xcf8, Width::B4), selected);
    assert_eq!(system.port_in(initial, 0xcfc, Width::B4), 0x0003_0011);
    assert_eq!(system.port_in(initial, 0xcfe, Width::B1), 0x03);
    assert_eq!(system.port_in(initial, 0xcfe, Width::B4) & 0xffff, 0x0003);
    // Port cff is the register's last byte, cfb and d00 are the machine's.
    system.port_out(initial, 0xcfe, Width::B4, 0xffff_8003);
    assert_eq!(system.platform.bus.configuration(DEVICE.bdf, 0x60), 0x8003_0011);
    // The selector of the clock is each domain's own, and 8 bits wide.
    system.port_out(initial, 0x70, Width::B2, 0x120d);
    system.port_out(other, 0x70, Width::B4, 0x1234_56a5);
    assert_eq!(system.port_in(initial, 0x70, Width::B1), 0x0d);
    assert_eq!(system.port_in(other, 0x70, Width::B4), 0xffff_ffa5);
    assert_eq!(system.port_in(other, 0x6f, Width::B2), 0xa5ff);
    // Sounds are the initial domain's, and there is nothing behind the last port.
    assert_eq!(system.port_in(initial, 0x43, Width::B1), 0);
    assert_eq!(system.port_in(other, 0x43, Width::B1), 0xff);
    assert_eq!(system.port_in(initial, 0xffff, Width::B4) >> 8, 0x00ff_ffff);
}
