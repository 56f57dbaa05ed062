use core::cell::RefCell;
use std::collections::BTreeMap;

use std::vec::Vec;

use pv_guest_sdk::device::physdev::Function;

use super::{Configuration, Device, Held, Region, functions};

type Registers = ([u8; 256], [u32; 6]);

/// Functions with registers, and the bits of regions that can be set.
#[derive(Default)]
struct Fake {
    functions: RefCell<BTreeMap<Function, Registers>>,
    /// What was written: function, offset, width, value.
    written: RefCell<Vec<(Function, u8, u32, u32)>>,
}

fn at(bus: u8, device: u8, function: u8) -> Function {
    Function { segment: 0, bus, devfn: device << 3 | function }
}

impl Fake {
    /// Adds a function with registers of 32 bits.
    fn add(&self, at: Function, registers: &[(u8, u32)]) {
        let mut functions = self.functions.borrow_mut();
        let (bytes, _) = functions.entry(at).or_insert(([0; 256], [0; 6]));
        bytes[..4].copy_from_slice(&[0xf4, 0x1a, 0x42, 0x10]);
        for &(offset, value) in registers {
            let offset = usize::from(offset);
            bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
    }

    fn set(&self, at: Function, offset: u8, value: &[u8]) {
        if let Some((bytes, masks)) = self.functions.borrow_mut().get_mut(&at) {
            let start = usize::from(offset);
            let old = bytes[start..start + value.len()].to_vec();
            bytes[start..start + value.len()].copy_from_slice(value);
            if (0x10..0x28).contains(&offset) {
                let mask = masks[(start - 0x10) / 4].to_le_bytes();
                for ((byte, old), mask) in bytes[start..].iter_mut().zip(old).zip(mask) {
                    *byte = *byte & mask | old & !mask;
                }
            }
        }
    }
}

impl Configuration for Fake {
    fn read32(&self, at: Function, offset: u8) -> u32 {
        let offset = usize::from(offset & 0xfc);
        let functions = self.functions.borrow();
        functions.get(&at).map_or(u32::MAX, |(bytes, _)| {
            u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
        })
    }

    fn write16(&self, at: Function, offset: u8, value: u16) {
        self.written.borrow_mut().push((at, offset, 16, value.into()));
        self.set(at, offset, &value.to_le_bytes());
    }

    fn write32(&self, at: Function, offset: u8, value: u32) {
        self.written.borrow_mut().push((at, offset, 32, value));
        self.set(at, offset, &value.to_le_bytes());
    }
}

#[test]
fn every_bus_behind_a_bridge_is_walked_once() {
    let fake = Fake::default();
    let bridge_to = |bus: u32| [(0x0c, 1 << 16), (0x18, bus << 8)];
    fake.add(at(0, 0, 0), &[]);
    fake.add(at(0, 3, 0), &bridge_to(5));
    fake.add(at(5, 1, 0), &bridge_to(0));
    fake.add(at(5, 2, 0), &bridge_to(5));
    fake.add(at(5, 3, 0), &bridge_to(255));
    fake.add(at(255, 31, 0), &[(0x0c, 0x80 << 16)]);
    fake.add(at(255, 31, 7), &[]);
    // Its function 0 has no others.
    fake.add(at(0, 4, 0), &[]);
    fake.add(at(0, 4, 1), &[]);
    // Nothing is looked for where function 0 is not.
    fake.add(at(0, 6, 2), &[]);
    let expected = [
        at(0, 0, 0),
        at(0, 3, 0),
        at(0, 4, 0),
        at(5, 1, 0),
        at(5, 2, 0),
        at(5, 3, 0),
        at(255, 31, 0),
        at(255, 31, 7),
    ];
    assert_eq!(functions(&fake), expected);
}

#[test]
fn regions_have_the_size_that_can_be_set_and_stay_where_they_are() {
    let fake = Fake::default();
    let here = at(0, 1, 0);
    let values = [0xc041, 0xfeb0_0000, 0xfe00_000c, 0x1, 0, 0xfea0_0006];
    let registers: Vec<_> = (0x10..).step_by(4).zip(values).collect();
    fake.add(here, &registers);
    fake.add(here, &[(4, 0x0010_0107)]);
    let masks = [0xffff_ffc0, 0xffff_f000, 0xffff_c000, 0xffff_ffff, 0, 0xffff_0000];
    fake.functions.borrow_mut().get_mut(&here).unwrap().1 = masks;
    let device = Device::at(&fake, here);
    let regions: Vec<_> = (0..7).map(|number| device.region(number)).collect();
    let expected = [
        Some(Region::Ports(0xc040, 0x40)),
        Some(Region::Memory(0xfeb0_0000, 0x1000)),
        Some(Region::Memory(0x1_fe00_0000, 0x4000)),
        None,
        None,
        Some(Region::Memory(0xfea0_0000, 0x1_0000)),
        None,
    ];
    // The third is the upper half of the second.
    assert_eq!((&regions[..3], &regions[4..]), (&expected[..3], &expected[4..]));
    assert_eq!(values, [0, 1, 2, 3, 4, 5].map(|it| device.read(0x10 + 4 * it)));
    assert_eq!(device.read(4), 0x0010_0107, "on again");
    let off = fake.written.borrow().iter().any(|it| (it.1, it.3) == (4, 0x0104));
    assert!(off, "a region that moves is off");
}

#[test]
fn capabilities_that_go_round_come_to_an_end() {
    let fake = Fake::default();
    let here = at(0, 1, 0);
    fake.add(here, &[(4, 1 << 20), (0x34, 0x40), (0x40, 0x0000_5000), (0x50, 0x0000_4009)]);
    let device = Device::at(&fake, here);
    assert_eq!(device.capabilities().len(), 48);
    assert_eq!(device.messages(), None);
    fake.add(here, &[(0x34, 0xfc), (0xfc, 0x0000_0011)]);
    assert_eq!(device.messages(), None, "its table would be behind the end");
    fake.add(here, &[(4, 0)]);
    assert!(device.capabilities().is_empty());
}

#[test]
fn the_control_of_messages_is_written_by_itself() {
    let fake = Fake::default();
    let here = at(0, 1, 0);
    fake.add(here, &[(4, 1 << 20), (0x34, 0x98), (0x98, 0x0002_0011), (0x9c, 1)]);
    fake.add(here, &[(0x14, 0xfebf_1000), (0x3c, 0x010b)]);
    fake.functions.borrow_mut().get_mut(&here).unwrap().1[1] = 0xffff_f000;
    let device = Device::at(&fake, here);
    let messages = device.messages().expect("a table");
    assert_eq!((messages.entries, messages.region), (3, 0xfebf_1000));
    fake.written.borrow_mut().clear();
    device.enable_messages(messages, Held::Back);
    device.enable_messages(messages, Held::Not);
    device.disable_messages(messages);
    let expected = [0xc002, 0x8002, 0x0002].map(|value| (here, 0x9a, 16, value));
    assert_eq!(*fake.written.borrow(), expected);
    assert_eq!(device.wire(), Some(11));
}
