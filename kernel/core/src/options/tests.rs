use super::*;

extern crate std;
use std::string::ToString;

fn options(line: &str) -> Options<'_> {
    parse(line.as_bytes()).unwrap()
}

fn refusal(line: &str) -> std::string::String {
    parse(line.as_bytes()).unwrap_err().to_string()
}

#[test]
fn an_empty_line_gives_the_defaults() {
    let options = options("");
    assert_eq!(options, Options::default());
    assert_eq!(options.serial(), Some(Serial { port: 0x3f8, baud: 115_200 }));
    assert_eq!((options.log_level, options.guest_log_level), (LogLevel::Info, LogLevel::Warning));
    assert!(!options.no_reboot && !options.meltdown_unsafe);
}

#[test]
fn the_line_that_boots_xen_is_understood() {
    let options = options(
        "console=com1 com1=115200,8n1 dom0=pv dom0_mem=64M loglvl=none guest_loglvl=all/error",
    );
    assert_eq!(options.console, Console::Com1);
    assert_eq!(options.dom0_memory.initial, Amount::parse("64M"));
    assert_eq!(options.log_level, LogLevel::None);
    assert_eq!(options.guest_log_level, LogLevel::All);
    assert!(options.ignored.is_empty());
}

#[test]
fn sizes_have_units_and_default_to_kib() {
    for (text, bytes) in [
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("1G", 1 << 30),
        ("2T", 2 << 40),
        ("100", 100 << 10),
        ("100k", 100 << 10),
        ("4096B", 4096),
        ("0x10M", 16 << 20),
        ("0x1B", 0x1b << 10),
        ("010K", 8 << 10),
        ("0", 0),
    ] {
        assert_eq!(parse_size(text), Some(bytes), "{text}");
    }
    for text in ["", "M", "-1", "+1", "1X", "1MB", "0x", "99999999999999999999", "16777216T"] {
        assert_eq!(parse_size(text), None, "{text}");
    }
}

#[test]
fn dom0_memory_takes_bounds_shares_and_rests() {
    let memory = options("dom0_mem=min:32M,max:25%,-128M").dom0_memory;
    assert_eq!(memory.min.unwrap().of(1 << 30), 32 << 20);
    assert_eq!(memory.max.unwrap().of(1 << 30), 256 << 20);
    assert_eq!(memory.initial.unwrap().of(1 << 30), (1 << 30) - (128 << 20));
    let sum = options("dom0_mem=64M+10%").dom0_memory.initial.unwrap();
    assert_eq!(sum.of(1000 << 20), 164 << 20);
    assert_eq!(Amount { percent: 100, ..Amount::default() }.of(u64::MAX), u64::MAX);
    assert_eq!(Amount { bytes: 2, is_rest: true, ..Amount::default() }.of(1), 0);
    for line in ["dom0_mem", "dom0_mem=", "dom0_mem=min:", "dom0_mem=101%", "dom0_mem=64M,"] {
        assert!(refusal(line).contains("the value must be"), "{line}");
    }
}

#[test]
fn consoles_and_serial_ports() {
    assert_eq!(options("console=vga,com2").console, Console::Com2);
    assert_eq!(options("console=com1H").console, Console::Com1);
    assert_eq!(options("console=vga").serial(), None);
    assert_eq!(options("com1=9600,8n1,0x2f8,5").com1, Serial { port: 0x2f8, baud: 9600 });
    assert_eq!(options("com1=auto").com1.baud, 115_200);
    assert_eq!(options("com1=115200/1843200").com1.baud, 115_200);
    for line in ["com1=0", "com1=115200,7e1", "com1=9600,8n1,0x12345", "console=lpt1", "com1=-1"] {
        assert!(refusal(line).contains("the value must be"), "{line}");
    }
}

#[test]
fn cpus() {
    assert_eq!(options("maxcpus=3").max_cpus, Some(3));
    assert_eq!(options("nosmp").max_cpus, Some(1));
    assert_eq!(options("nosmp=no").max_cpus, None);
    assert_eq!(options("dom0_max_vcpus=2").dom0_vcpus, (Some(2), Some(2)));
    assert_eq!(options("dom0_max_vcpus=2-4").dom0_vcpus, (Some(2), Some(4)));
    assert_eq!(options("dom0_max_vcpus=2-").dom0_vcpus, (Some(2), None));
    assert!(refusal("maxcpus=0").contains("at least 1"));
    assert!(refusal("dom0_max_vcpus=-").contains("the value must be"));
}

#[test]
fn truth_values_and_meltdown() {
    assert!(options("noreboot").no_reboot);
    assert!(!options("noreboot noreboot=off").no_reboot);
    assert!(refusal("noreboot=maybe").contains("yes or no"));
    assert!(options("meltdown=unsafe").meltdown_unsafe);
    assert!(refusal("meltdown=safe").contains("unsafe"));
    assert_eq!(options("mem=512M").memory_limit, Some(512 << 20));
}

#[test]
fn options_of_xen_alone_are_ignored_and_reported() {
    let options = options("sched=credit2 no-real-mode  iommu=off no-xpti dom0=pv,shadow=off");
    assert_eq!(
        options.ignored.as_slice(),
        ["sched=credit2", "no-real-mode", "iommu=off", "no-xpti", "dom0=pv,shadow=off"]
    );
}

#[test]
fn unknown_options_are_refused_with_one_sentence() {
    assert_eq!(
        refusal("loglvl=all dom0_mme=64M"),
        "the kernel's command line has `dom0_mme=64M`, which is no option: remove it or correct its spelling"
    );
    assert!(refusal("dom0=pvh").contains("pv, the only kind"));
    assert_eq!(parse(b"loglvl=\xff"), Err(Refused::NotText));
}

#[test]
fn what_follows_the_separator_is_the_domains() {
    assert_eq!(options("noreboot -- foo  bar=1 ").domain_arguments, "foo  bar=1");
    assert_eq!(options("-- foo").domain_arguments, "foo");
    assert_eq!(options("noreboot --").domain_arguments, "");
}

#[test]
fn any_bytes_are_answered() {
    use proptest::prelude::*;
    proptest!(|(line in proptest::collection::vec(any::<u8>(), 0..64))| {
        let _ = parse(&line);
    });
    proptest!(|(value in "[-0-9xKMGT%+:,minax]{0,24}")| {
        let line = std::format!("dom0_mem={value} mem={value} com1={value}");
        let _ = parse(line.as_bytes());
        if let Some(amount) = Amount::parse(&value) {
            let _ = amount.of(u64::MAX);
        }
    });
}
