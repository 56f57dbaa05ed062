//! Compares every number and layout with what a C compiler makes of Xen's own headers.
//!
//! Needs `cc` and Debian's `libxen-dev` (any Xen 4.17 headers under `/usr/include/xen`). Without
//! them the tests fail and say so: a comparison that did not happen is not a pass.

mod facts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hypercall_abi::call::Hypercall;
use hypercall_abi::structure;

/// What every program includes. The second pass over `errno.h` lists also the two numbers that
/// only the hypervisor itself sees.
const PRELUDE: &str = r#"
#define __XEN_INTERFACE_VERSION__ 0x00041100
#define __XEN_TOOLS__ 1
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <xen/xen.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/argo.h>
#include <xen/callback.h>
#include <xen/domctl.h>
#include <xen/elfnote.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/hypfs.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
#include <xen/kexec.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/pmu.h>
#include <xen/sched.h>
#include <xen/sysctl.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/xenoprof.h>
#define __XEN__ 1
#define XEN_ERRNO(name, value) ALL_##name = value,
enum all_errno {
#include <xen/errno.h>
};
#undef __XEN__
"#;

const INSTALL: &str = "run `apt-get install gcc libc6-dev libxen-dev`";

/// A C source file with the prelude and `body`, in the directory cargo gives tests.
fn source(name: &str, body: &str) -> PathBuf {
    assert!(
        Path::new("/usr/include/xen/xen.h").exists(),
        "Xen's headers are not in /usr/include/xen: {INSTALL}"
    );
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, format!("{PRELUDE}{body}")).expect("can't write the C program");
    path
}

/// Runs the C compiler and returns what it printed.
fn cc(arguments: &[&str]) -> String {
    let output = Command::new("cc")
        .args(arguments)
        .output()
        .map_err(|error| format!("can't run the C compiler `cc` ({error}): {INSTALL}"))
        .expect("the comparison needs a C compiler");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cc {arguments:?} failed ({INSTALL} if files are missing):\n{complaints}"
    );
    String::from_utf8(output.stdout).expect("cc printed something that is not text")
}

/// Compiles and runs a program whose lines are `key=value`.
fn run(name: &str, statements: &str) -> BTreeMap<String, u64> {
    let source = source(&format!("{name}.c"), &format!("int main(void) {{\n{statements}}}\n"));
    let program = source.with_extension("exe");
    let (source, program) = (source.display().to_string(), program.display().to_string());
    cc(&["-std=gnu11", "-Wall", "-Werror", "-Wno-overflow", "-o", &program, &source]);
    let output = Command::new(&program).output().expect("can't run the C program");
    assert!(output.status.success(), "{program} failed");
    String::from_utf8(output.stdout)
        .expect("not text")
        .lines()
        .map(|line| {
            let (key, value) = line.rsplit_once('=').expect("key=value");
            (key.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

/// A statement that prints `key` and the value of a C expression.
fn print(statements: &mut String, key: &str, expression: &str) {
    writeln!(statements, "printf(\"%s=%llu\\n\", \"{key}\", (unsigned long long)({expression}));")
        .expect("a string grows");
}

/// Compares what C says with what Rust says, and reports all differences at once.
fn compare(c: &BTreeMap<String, u64>, rust: &[(String, u64)]) {
    let differences: Vec<String> = rust
        .iter()
        .filter(|(key, value)| c.get(key) != Some(value))
        .map(|(key, value)| format!("{key}: C has {:?}, Rust has {value}", c.get(key)))
        .collect();
    assert!(differences.is_empty(), "differences from Xen's headers:\n{}", differences.join("\n"));
    assert_eq!(c.len(), rust.len(), "a key occurs twice");
}

#[test]
fn numbers_are_those_of_the_headers() {
    let facts = facts::all();
    let mut statements = String::new();
    for (expression, _) in &facts {
        print(&mut statements, expression, expression);
    }
    compare(&run("numbers", &statements), &facts);
}

#[test]
fn layouts_are_those_of_the_headers() {
    let mut statements = String::new();
    let mut rust = Vec::new();
    let mut expect = |key: String, expression: String, value: usize| {
        print(&mut statements, &key, &expression);
        rust.push((key, value as u64));
    };
    for it in structure::all() {
        let (name, c) = (it.name, it.c_type);
        expect(format!("{name} size"), format!("sizeof({c})"), it.size);
        expect(format!("{name} align"), format!("_Alignof({c})"), it.align);
        for field in it.fields.iter().filter(|field| !field.c_path.is_empty()) {
            let (key, path) = (format!("{name}.{}", field.name), field.c_path);
            expect(format!("{key} offset"), format!("offsetof({c}, {path})"), field.offset);
            expect(format!("{key} size"), format!("sizeof((({c} *)0)->{path})"), field.size);
        }
    }
    compare(&run("layouts", &statements), &rust);
}

/// Macros that begin like a sub-op but are arguments of one, or limits.
fn is_no_sub_op(name: &str) -> bool {
    const BEGINNINGS: [&str; 9] = [
        "PHYSDEVOP_DBGP_",
        "XENMEM_access_op_",
        "XENMEM_paging_op_",
        "XENMEM_resource_",
        "XENMEM_sharing_op_",
        "XEN_DOMCTL_vmtrace_",
        "XEN_SYSCTL_cpu_featureset_",
        "XEN_SYSCTL_cpu_policy_",
        "XEN_SYSCTL_pm_op_",
    ];
    // In these families every sub-op's name begins with a small letter.
    const SMALL: [&str; 6] =
        ["XENMEM_", "XENOPROF_", "XENPF_", "XENPMU_", "XEN_DOMCTL_", "XEN_SYSCTL_"];
    let shouted = |rest: &str| rest.starts_with(|first: char| first.is_ascii_uppercase());
    name == "XENOPROF_last_op"
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || SMALL.iter().any(|prefix| name.strip_prefix(prefix).is_some_and(shouted))
}

#[test]
fn no_call_of_the_headers_is_missing() {
    let source = source("macros.c", "").display().to_string();
    let macros = cc(&["-dM", "-E", &source]);
    let known: Vec<String> = facts::all().into_iter().map(|(name, _)| name).collect();
    let mut prefixes: Vec<&str> =
        Hypercall::ALL.iter().filter_map(|call| Some(call.sub_ops().first()?.c_prefix)).collect();
    prefixes.push("__HYPERVISOR_");
    let missing: Vec<&str> = macros
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter(|(name, value)| {
            prefixes.iter().any(|prefix| name.starts_with(prefix))
                && value.parse::<u32>().is_ok()
                && !known.iter().any(|known| known == name)
                && !is_no_sub_op(name)
                && !name.starts_with("__HYPERVISOR_arch_")
        })
        .map(|(name, _)| name)
        .collect();
    assert!(missing.is_empty(), "in Xen's headers but not in our tables: {missing:?}");
    assert!(known.len() > 400, "too few numbers to believe it: {}", known.len());
}

#[test]
fn no_error_of_the_headers_is_missing() {
    let listing = source(
        "errors.c",
        "#define __XEN__ 1\n#undef XEN_ERRNO\n#define XEN_ERRNO(name, value) =#name value\n\
         #include <xen/errno.h>\n",
    );
    let text = cc(&["-E", "-P", &listing.display().to_string()]);
    let errors: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("=\"")).collect();
    assert!(errors.len() > 40, "the header lists too few errors: {errors:?}");
    for line in errors {
        let (name, number) = line.split_once("\" ").expect("a name and a number");
        let number = number.trim().parse().expect("a number");
        let errno = hypercall_abi::errno::Errno::from_number(number);
        let ours = errno.map(|errno| errno.name());
        let another = matches!(name, "EWOULDBLOCK" | "EDEADLOCK");
        assert!(ours == Some(name) || (another && ours.is_some()), "{name} = {number}: {ours:?}");
    }
}
