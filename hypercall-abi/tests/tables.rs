//! Properties of the tables themselves.

use std::path::Path;

use hypercall_abi::call::{Hypercall, NUMBERS, Status};
use hypercall_abi::coverage::Count;
use hypercall_abi::errno::Errno;
use hypercall_abi::{cpuid, structure};

#[test]
fn a_number_finds_its_call_and_no_other_number_does() {
    for call in Hypercall::ALL {
        assert_eq!(Hypercall::from_number(u64::from(call.number())), Some(*call));
        assert!(call.number() < NUMBERS);
    }
    for number in u64::from(NUMBERS)..0x1000 {
        assert_eq!(Hypercall::from_number(number), None);
    }
    // The whole register counts.
    assert_eq!(Hypercall::from_number(1 << 32 | 17), None);
    assert_eq!(Hypercall::from_number(u64::MAX), None);
}

#[test]
fn rows_are_in_order_and_names_unique() {
    assert!(Hypercall::ALL.is_sorted_by_key(|call| call.number()));
    for call in Hypercall::ALL {
        let ops = call.sub_ops();
        assert!(ops.windows(2).all(|pair| pair[0].number < pair[1].number), "{}", call.name());
        for (index, op) in ops.iter().enumerate() {
            assert!(ops[..index].iter().all(|other| other.name != op.name), "{}", op.name);
            assert_eq!(call.sub_op(op.number), Some(op));
        }
        assert_eq!(call.sub_op(u32::MAX), None);
    }
}

#[test]
fn a_call_with_sub_ops_answers_an_unknown_one() {
    for call in Hypercall::ALL.iter().filter(|call| !call.sub_ops().is_empty()) {
        assert_ne!(call.status(), Status::Done, "{}: status is its sub-ops'", call.name());
    }
}

#[test]
fn counts_add_up() {
    let calls = Hypercall::ALL.iter().map(|call| call.sub_ops().len().max(1)).sum::<usize>();
    assert_eq!(Count::of_all().total(), calls);
    let each: usize = Hypercall::ALL.iter().map(|call| Count::of(*call).done).sum();
    assert_eq!(Count::of_all().done, each);
}

#[test]
fn errors_survive_the_register() {
    for errno in Errno::ALL {
        assert_eq!(Errno::from_raw(errno.to_raw()), Some(*errno));
        assert!(errno.to_raw() < 0);
    }
    assert_eq!(Errno::ENOSYS.to_raw(), -38);
    for no_error in [0, 1, 38, i64::MAX, -15, -4096, i64::MIN] {
        assert_eq!(Errno::from_raw(no_error), None, "{no_error}");
    }
}

#[test]
fn signatures_are_the_texts() {
    let text = |registers: [u32; 3]| registers.map(u32::to_le_bytes).concat();
    assert_eq!(text(cpuid::SIGNATURE), b"XenVMMXenVMM");
    assert_eq!(text(cpuid::EXTENSION_SIGNATURE), b"ParavaneHypV");
}

/// A structure is compared with C only if its module is in the list of all.
#[test]
fn every_module_with_structures_is_listed() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut declared = Vec::new();
    for entry in std::fs::read_dir(sources).expect("the crate has sources") {
        let path = entry.expect("a directory entry").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let mut block = text.lines().skip_while(|line| *line != "abi_structs! {");
            let names = block.by_ref().take_while(|line| *line != "}");
            declared.extend(names.filter_map(|line| {
                let (name, rest) = line.strip_prefix("    ")?.split_once(" = \"struct ")?;
                (!name.contains(' ') && rest.contains("size")).then(|| name.to_owned())
            }));
        }
    }
    let mut listed: Vec<_> = structure::all().map(|it| it.name.to_owned()).collect();
    declared.sort();
    listed.sort();
    assert!(declared.len() > 80, "the sources declare too few structures: {declared:?}");
    assert_eq!(declared, listed);
}
