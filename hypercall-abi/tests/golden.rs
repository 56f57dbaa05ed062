//! Keeps the pages under `docs/src/abi` the same as the tables.
//!
//! Every change of the ABI or of its coverage is thus a visible change of a file. With
//! `UPDATE_GOLDEN=1` in the environment the files are rewritten instead of compared.

mod facts;

use std::fmt::Write as _;
use std::path::Path;

use hypercall_abi::call::Hypercall;
use hypercall_abi::{coverage, structure};

/// Compares a file in `docs/src/abi` with what it should contain, or rewrites it.
fn compare(file: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/abi").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, wanted).expect("can't write the page");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        found == wanted,
        "docs/src/abi/{file} is not what the tables say; the first difference (found, wanted) is \
         {difference:?}.\nIf the change is meant, note it in docs/src/abi/changelog.md and run \
         `UPDATE_GOLDEN=1 cargo test -p hypercall-abi`."
    );
}

#[test]
fn the_coverage_page_is_that_of_the_tables() {
    let mut page = String::new();
    coverage::render(&mut page).expect("a string grows");
    compare("coverage.md", &page);
}

#[test]
fn numbers_and_offsets_are_the_golden_ones() {
    let mut page = String::from(
        "Numbers and offsets of the ABI. Generated from hypercall-abi; do not edit.\n\
         Each change here is a change of the ABI and belongs into changelog.md.\n\nCALLS\n",
    );
    write_calls(&mut page).expect("a string grows");
    page.push_str("\nNUMBERS\n");
    for (name, value) in facts::all().iter().chain(&facts::ours()) {
        let name = name.strip_prefix("ALL_").unwrap_or(name);
        if !name.starts_with("__HYPERVISOR_") && !is_sub_op(name) {
            writeln!(page, "{name} = {value:#x}").expect("a string grows");
        }
    }
    page.push_str("\nSTRUCTURES (offset, field, size; in bytes)\n");
    write_structures(&mut page).expect("a string grows");
    compare("golden.txt", &page);
}

fn is_sub_op(name: &str) -> bool {
    Hypercall::ALL
        .iter()
        .flat_map(|call| call.sub_ops())
        .any(|op| name.strip_prefix(op.c_prefix) == Some(op.name))
}

fn write_calls(page: &mut String) -> std::fmt::Result {
    for call in Hypercall::ALL {
        writeln!(page, "{} {} ({})", call.number(), call.name(), call.caller().name())?;
        for op in call.sub_ops() {
            writeln!(page, "    {} {} ({})", op.number, op.name, op.caller.name())?;
        }
    }
    Ok(())
}

fn write_structures(page: &mut String) -> std::fmt::Result {
    for it in structure::all() {
        writeln!(page, "{} = {}, size {}, align {}", it.name, it.c_type, it.size, it.align)?;
        for field in it.fields {
            writeln!(page, "    {:>5} {} ({})", field.offset, field.name, field.size)?;
        }
    }
    Ok(())
}
