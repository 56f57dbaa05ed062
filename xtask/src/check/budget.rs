//! Lines of code against the limits that keep the project small.

use std::path::Path;

use anyhow::{Result, ensure};

use super::source::Source;

/// Folders of one budget, and the most lines of code they may have.
const BUDGETS: [(&str, &[&str], Option<usize>); 11] = [
    (
        "kernel and kernel/core",
        &["kernel/src", "kernel/core/src", "domain-builder/src"],
        Some(26_000),
    ),
    ("hypercall-abi", &["hypercall-abi/src"], Some(3_500)),
    ("pv-guest-sdk", &["pv-guest-sdk/src"], Some(10_500)),
    (
        "dom0",
        &[
            "dom0/src",
            "toolstack/src",
            "xenstore/src",
            "shared-ring/src",
            "backend/src",
            "blkback/src",
            "netback/src",
        ],
        Some(15_000),
    ),
    ("supervisors", &["supervisors/src"], None),
    ("xtask", &["xtask/src"], Some(9_500)),
    ("example-guests", &["example-guests/src"], None),
    ("kv-store", &["kv-store/src"], None),
    ("mutation", &["mutation/src"], None),
    ("book", &["book/src"], None),
    ("conformance", &["conformance/src", "conformance/hostile/src"], None),
];

/// The most lines of code in a file.
const FILE: usize = 450;
/// The most lines of code in a function.
const FUNCTION: usize = 60;

/// Prints the counts of all crates.
///
/// # Errors
///
/// When something is above its limit.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut over = Vec::new();
    println!("lines of code, without comments and tests:");
    for (name, folders, limit) in BUDGETS {
        let mut total = 0;
        for folder in folders {
            for source in Source::all_below(root, folder)? {
                total += source.lines();
                measure(&source, &mut over);
            }
        }
        let of = limit.map_or(String::new(), |limit| format!(" of {limit}"));
        println!("    {name:<24}{total:>6}{of}");
        if limit.is_some_and(|limit| total > limit) {
            over.push(format!("{name}: {total} lines{of}"));
        }
    }
    ensure!(over.is_empty(), "above the limit:\n    {}", over.join("\n    "));
    Ok(())
}

fn measure(source: &Source, over: &mut Vec<String>) {
    let path = source.path.display();
    if source.lines() > FILE {
        over.push(format!("{path}: {} lines of {FILE}", source.lines()));
    }
    for function in source.functions() {
        if function.lines > FUNCTION {
            let lines = function.lines;
            over.push(format!("{path}: `{}`: {lines} lines of {FUNCTION}", function.name));
        }
    }
}
