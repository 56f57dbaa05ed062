use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Config, Mac, Then};

fn problem(text: &str) -> String {
    Config::parse("d.cfg", text).unwrap_err().to_string()
}

/// Both keys that must be there, and more.
fn with(more: &str) -> String {
    alloc::format!("name = 'd'\nkernel = \"k\"\n{more}\n")
}

#[test]
fn a_file_of_xl_is_understood() {
    let text = with(
        "ramdisk = 'r'\nmemory = '64'\nvcpus = 2\ncpus = \"0,2-3,^2\"\ncpu_weight = 512\ncap = 50\n\
         disk = ['phy:/dev/vda2,xvda,w', 'format=raw, vdev=xvdb1, access=ro, target=/dev/vdb',\n\
         '/dev/vdc,,xvdc']\nvif = ['mac=00:16:3e:00:00:02,bridge=xenbr0', '']\nextra = 'a=b c'\n\
         on_poweroff = 'preserve'\non_reboot = 'destroy'\non_crash = 'restart'\ntype = 'pv'",
    );
    let config = Config::parse("d.cfg", &text).unwrap();
    assert_eq!((config.memory, config.vcpus, config.cpus), (64, 2, 0b1001));
    assert_eq!((config.cpu_weight, config.cap), (512, 50));
    let disks: Vec<_> =
        config.disks.iter().map(|it| (&*it.target, it.number(), it.readonly)).collect();
    let expected =
        [("/dev/vda2", 51712, false), ("/dev/vdb", 51729, true), ("/dev/vdc", 51744, false)];
    assert_eq!(disks, expected);
    assert_eq!(config.vifs[0].mac, Some(Mac([0, 0x16, 0x3e, 0, 0, 2])));
    assert_eq!(config.vifs[0].mac.unwrap().to_string(), "00:16:3e:00:00:02");
    assert_eq!(config.vifs[1].mac, None);
    let ends = (config.on_poweroff, config.on_reboot, config.on_crash);
    assert_eq!(ends, (Then::Preserve, Then::Destroy, Then::Restart));
    assert!(!config.has_core());
    let text = with("on_poweroff = 'coredump-destroy'\non_crash = 'coredump-restart'");
    let config = Config::parse("d.cfg", &text).unwrap();
    let ends = (config.on_poweroff, config.on_crash);
    assert_eq!(ends, (Then::CoredumpDestroy, Then::CoredumpRestart));
    assert_eq!((ends.0.after_core(), ends.1.after_core()), (Then::Destroy, Then::Restart));
    assert!(config.has_core());
}

#[test]
fn what_is_wrong_is_said_with_file_line_and_key() {
    assert_eq!(problem("kernel = 'k'"), "d.cfg:1: `name` is missing");
    assert_eq!(problem("name = 'd'"), "d.cfg:1: `kernel` is missing");
    let cases = [
        ("memory = 0", "`memory`: a number from 1 to 1048576 is expected"),
        ("memory = '12x'", "`memory`: a number from 1 to 1048576 is expected"),
        ("memory = -5", "`memory`: a number from 1 to 1048576 is expected"),
        ("vcpus = 33", "`vcpus`: a number from 1 to 32 is expected"),
        ("extra = 5", "`extra`: a string is expected"),
        ("disk = 5", "`disk`: a list of strings is expected"),
        ("disk = ['/dev/vda,qcow2,xvda,w']", "`disk`: `qcow2`: only raw disks are possible"),
        (
            "disk = ['/dev/vda,raw,hda,w']",
            "`disk`: `hda`: the name in the domain is like xvda, xvdb1",
        ),
        ("disk = ['/dev/vda,xvda,x']", "`disk`: `x`: access is r, ro, w or rw"),
        ("disk = ['xvda']", "`disk`: `xvda`: the name in the domain is like xvda, xvdb1"),
        ("disk = ['a,raw,xvda,w,e']", "`disk`: `e`: there are too many parts"),
        (
            "vif = ['mac=01:16:3e:00:00:02']",
            "`vif`: `mac=01:16:3e:00:00:02`: an address is like 00:16:3e:00:00:02, and no group's",
        ),
        (
            "vif = ['rate=10Mbit/s']",
            "`vif`: `rate=10Mbit/s`: a rate is like 10Mb/s, 250KB/s, or 1MB/s@20ms, and brings 1 to \
             4294967295 bytes in an interval",
        ),
        (
            "vif = ['bridge=a/b']",
            "`vif`: `bridge=a/b`: a switch has a name of 1 to 15 letters, digits, and -_.",
        ),
        ("vif = ['script=x']", "`vif`: `script=x`: nothing of an interface here"),
        ("cpus = '3-1'", "`cpus`: CPUs are \"all\" or like \"0,2-3,^1\", up to 63"),
        ("cpus = '64'", "`cpus`: CPUs are \"all\" or like \"0,2-3,^1\", up to 63"),
        ("cpus = []", "`cpus`: CPUs are \"all\" or like \"0,2-3,^1\", up to 63"),
        (
            "on_crash = 'rename-restart'",
            "`on_crash`: \"destroy\", \"restart\", \"preserve\", \"coredump-destroy\" and \"coredump-restart\" are possible",
        ),
        ("type = 'hvm'", "`type`: only \"pv\" is possible"),
        ("vfb = []", "`vfb` is no key of a domain here: remove it"),
    ];
    for (line, expected) in cases {
        assert_eq!(problem(&with(line)), alloc::format!("d.cfg:3: {expected}"), "{line}");
    }
    assert!(problem("name = 'd'\nkernel = ").starts_with("d.cfg:2: "));
    assert!(problem("name = 'd'\nname = 'e'").starts_with("d.cfg:2: "));
    assert!(problem("name = 'a b'").contains("a name has 1 to 64"));
}

#[test]
fn cpus_come_in_several_ways() {
    let cpus =
        |value: &str| Config::parse("d", &with(&alloc::format!("cpus = {value}"))).unwrap().cpus;
    assert_eq!(cpus("'all'"), u64::MAX);
    assert_eq!(cpus("1"), 2);
    assert_eq!(cpus("[0, 1, 1]"), 3, "one that is named twice is one");
    assert_eq!(cpus("[63, 63]"), 1 << 63);
    assert_eq!(cpus("[0, 3]"), 9);
    assert_eq!(cpus("['0', '2-3']"), 13);
    assert_eq!(cpus("'0-63,^5'"), !32);
}

#[test]
fn a_word_changes_what_a_file_said() {
    let mut config = Config::parse("d", &with("memory = 8\ndisk = ['ram:1,xvda']")).unwrap();
    for word in
        ["memory=64", "extra=a b=c", "name='e'", "vcpus = 2", "disk=ram:2,xvdb,r", "vif=['']"]
    {
        config.change(word).unwrap();
    }
    assert_eq!((config.memory, &*config.extra, &*config.name, config.vcpus), (64, "a b=c", "e", 2));
    assert!(config.disks.len() == 1 && config.disks[0].readonly && config.vifs.len() == 1);
    let mut problem = |word: &str| config.change(word).unwrap_err().to_string();
    assert_eq!(problem("memory=x"), "memory=x:1: `memory`: a number from 1 to 1048576 is expected");
    assert_eq!(problem("memory"), "memory:1: `memory`: a number from 1 to 1048576 is expected");
    assert_eq!(problem("vfb=1"), "vfb=1:1: `vfb` is no key of a domain here: remove it");
    assert_eq!(problem("a b=1"), "a b=1:1: key=value is expected");
}
