//! Answers as a person reads them: tables with xl's columns, and sentences.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::domctl::{DomainFlags, SHUTDOWN_MASK, SHUTDOWN_SHIFT};
use hypercall_abi::sched::REASON_CRASH;
use serde_json::Value;

/// A column: the field that is in it, what is above it, its width, and how it is shown.
type Column = (&'static str, &'static str, i8, fn(&Value) -> String);

/// The columns of interfaces: xl's, and what went through.
const INTERFACES: &[Column] = &[
    ("idx", "Idx", -4, plain),
    ("be", "BE", -3, plain),
    ("mac", "Mac Addr.", -18, plain),
    ("state", "state", -6, plain),
    ("evt_ch", "evt-ch", -7, plain),
    ("rings", "tx-/rx-ring-ref", -16, plain),
    ("be_path", "BE-path", -30, plain),
    ("bridge", "bridge", -8, plain),
    ("tx_packets", "tx-pkts", 8, plain),
    ("tx_dropped", "dropped", 7, plain),
    ("rx_packets", "rx-pkts", 8, plain),
    ("rx_dropped", "dropped", 7, plain),
];

/// The columns of an answer that is a list. A negative width is of a column that begins at its left.
fn columns(verb: &str) -> &'static [Column] {
    match verb {
        "list" => &[
            ("name", "Name", -40, plain),
            ("id", "ID", 5, plain),
            ("mem", "Mem", 5, plain),
            ("vcpus", "VCPUs", 5, plain),
            ("state", "State", 10, plain),
            ("cpu_time", "Time(s)", 9, tenths),
        ],
        "top" => &[
            ("name", "Name", -40, plain),
            ("id", "ID", 5, plain),
            ("state", "State", 10, plain),
            ("cpu_time", "CPU(sec)", 10, tenths),
            ("share", "CPU(%)", 8, permille),
            ("net_tx", "NETTX(k)", 9, kib),
            ("net_rx", "NETRX(k)", 9, kib),
        ],
        "vcpu-list" => &[
            ("name", "Name", -32, plain),
            ("id", "ID", 5, plain),
            ("vcpu", "VCPU", 5, plain),
            ("cpu", "CPU", 5, plain),
            ("state", "State", 6, plain),
            ("cpu_time", "Time(s)", 9, tenths),
            ("affinity", "Affinity", -8, plain),
        ],
        "sched" => &[
            ("name", "Name", -33, plain),
            ("id", "ID", 4, plain),
            ("weight", "Weight", 6, plain),
            ("cap", "Cap", 5, plain),
        ],
        "block-list" => &[
            ("vdev", "Vdev", -6, plain),
            ("be", "BE", -3, plain),
            ("name", "name", -6, plain),
            ("state", "state", -6, plain),
            ("evt_ch", "evt-ch", -7, plain),
            ("ring_ref", "ring-ref", -9, plain),
            ("target", "target", -20, plain),
            ("be_path", "BE-path", -30, plain),
        ],
        "network-list" => INTERFACES,
        "uptime" => &[
            ("name", "Name", -40, plain),
            ("id", "ID", 5, plain),
            ("seconds", "Uptime", 15, clock),
        ],
        _ => &[],
    }
}

/// An answer as text, which ends with a line feed unless it is empty. What domains have written is in
/// some: control characters, which a terminal might obey, are dots.
#[must_use]
pub fn text(verb: &str, answer: &Value) -> String {
    let text = raw(verb, answer);
    let shown = |it: char| if it.is_control() && !"\n\t".contains(it) { '.' } else { it };
    text.chars().filter(|it| *it != '\r').map(shown).collect()
}

fn raw(verb: &str, answer: &Value) -> String {
    match answer {
        Value::Null => String::new(),
        Value::String(text) if text.is_empty() || text.ends_with('\n') => text.clone(),
        Value::String(text) => format!("{text}\n"),
        Value::Array(rows) => table(columns(verb), rows),
        Value::Object(_) if sentence(verb, answer).is_some() => {
            sentence(verb, answer).unwrap_or_default()
        }
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name:<23}: {}\n", plain(value))).collect()
        }
        other => format!("{other}\n"),
    }
}

/// What a verb has done.
fn sentence(verb: &str, answer: &Value) -> Option<String> {
    let (name, id) = (plain(answer.get("name").unwrap_or_default()), answer.get("id"));
    let heard = answer.get("acknowledged").and_then(Value::as_bool) == Some(true);
    Some(match verb {
        "create" => format!("{name} is domain {}\n", plain(id?)),
        "destroy" => format!("{name} is destroyed\n"),
        "pause" => format!("{name} is paused\n"),
        "unpause" => format!("{name} goes on\n"),
        "shutdown" | "reboot" if heard => format!("{name} has heard of it\n"),
        "shutdown" | "reboot" => format!("{name} has not answered: it may not listen\n"),
        "dump-core" => core_file(&name, answer)?,
        "log" => plain(answer.get("text")?),
        "input" => format!("{} bytes taken\n", plain(answer.get("taken")?)),
        "poweroff" => match answer.get("destroyed").and_then(Value::as_array) {
            Some(names) if !names.is_empty() => {
                let names: Vec<_> = names.iter().map(plain).collect();
                format!("destroyed, as they did not end: {}\n", names.join(", "))
            }
            _ => "all domains have ended\n".to_string(),
        },
        _ => return None,
    })
}

/// What is in a core.
fn core_file(name: &str, answer: &Value) -> Option<String> {
    let number = |what: &str| answer.get(what).and_then(Value::as_u64);
    let (bytes, pages, segments) = (number("bytes")?, number("pages")?, number("segments")?);
    let mut text = format!(
        "{name}: a core of {bytes} bytes, {} virtual CPUs, {pages} pages in {segments} segments\n",
        number("vcpus")?
    );
    if let Some(foreign @ 1..) = number("foreign") {
        text +=
            &format!("{foreign} pages are of frames that are not the domain's: they are zeros\n");
    }
    if answer.get("cut").and_then(Value::as_bool) == Some(true) {
        text += "its page tables map more than a domain needs: the rest is left out\n";
    }
    Some(text)
}

fn table(columns: &[Column], rows: &[Value]) -> String {
    let line = |cells: &dyn Fn(&Column) -> String| {
        let mut line = String::new();
        for column in columns {
            let (cell, width) = (cells(column), usize::from(column.2.unsigned_abs()));
            if !line.is_empty() {
                line.push(' ');
            }
            line +=
                &if column.2 < 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
        }
        line.trim_end().to_string() + "\n"
    };
    let mut text = line(&|column| column.1.to_string());
    for row in rows {
        text += &line(&|column| row.get(column.0).map_or_else(|| "-".to_string(), column.3));
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToString::to_string)
}

/// Bytes as KiB.
fn kib(value: &Value) -> String {
    (value.as_u64().unwrap_or_default() / 1024).to_string()
}

/// Nanoseconds as seconds with one decimal.
fn tenths(value: &Value) -> String {
    let tenths = value.as_u64().unwrap_or_default() / 100_000_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Thousandths as hundredths with one decimal.
fn permille(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_string(), |share| format!("{}.{}", share / 10, share % 10))
}

/// Seconds as a clock shows them.
fn clock(value: &Value) -> String {
    let seconds = value.as_u64().unwrap_or_default();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let time = format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days == 0 { time } else { format!("{days} days, {time}") }
}

/// What a domain is doing, as six letters: running, blocked, paused, shut down, crashed, dying.
#[must_use]
pub fn state(flags: u32) -> String {
    let known = DomainFlags::from_bits_retain(flags);
    let is_down = known.contains(DomainFlags::SHUTDOWN);
    let is_crashed = is_down && flags >> SHUTDOWN_SHIFT & SHUTDOWN_MASK == REASON_CRASH;
    [
        ('r', known.contains(DomainFlags::RUNNING)),
        ('b', known.contains(DomainFlags::BLOCKED)),
        ('p', known.contains(DomainFlags::PAUSED)),
        ('s', is_down),
        ('c', is_crashed),
        ('d', known.contains(DomainFlags::DYING)),
    ]
    .map(|(letter, is_set)| if is_set { letter } else { '-' })
    .iter()
    .collect()
}

/// A set of CPUs of `all`, as xl shows it.
#[must_use]
pub fn cpus(set: u64, all: u32) -> String {
    let everything = u64::MAX.checked_shr(u64::BITS.saturating_sub(all)).unwrap_or(0);
    if set & everything == everything {
        return "all".to_string();
    }
    let mut text = String::new();
    let mut cpu = 0;
    while cpu < u64::BITS {
        let length = (set >> cpu).trailing_ones();
        if length > 0 {
            let comma = if text.is_empty() { "" } else { "," };
            let last = cpu + length - 1;
            let range = if length > 1 { format!("{cpu}-{last}") } else { cpu.to_string() };
            text += &format!("{comma}{range}");
        }
        cpu += length + 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{cpus, state, text};

    #[test]
    fn a_list_has_the_columns_of_xl() {
        let rows = json!([
            { "name": "Domain-0", "id": 0, "mem": 64, "vcpus": 1, "state": "r-----", "cpu_time": 1_250_000_000 },
            { "name": "web", "id": 12, "mem": 1024, "vcpus": 2, "state": "-b----", "cpu_time": 999 },
        ]);
        let expected = "\
Name                                        ID   Mem VCPUs      State   Time(s)
Domain-0                                     0    64     1     r-----       1.2
web                                         12  1024     2     -b----       0.0
";
        assert_eq!(text("list", &rows), expected);
    }

    #[test]
    fn other_answers_are_lines() {
        assert_eq!(text("x", &Value::Null), "");
        assert_eq!(text("x", &json!("done")), "done\n");
        assert_eq!(text("x", &json!("a\nb\n")), "a\nb\n");
        assert_eq!(text("info", &json!({"nr_cpus": 2})), "nr_cpus                : 2\n");
        let uptime = json!([{ "name": "a", "id": 1, "seconds": 93_784 }]);
        assert!(
            text("uptime", &uptime).ends_with(" 1 day, 2:03:04\n".replace("day", "days").as_str())
        );
        assert!(text("top", &json!([{ "name": "a", "share": 1_005 }])).contains(" 100.5 "));
    }

    #[test]
    fn what_a_domain_has_written_does_nothing_to_a_terminal() {
        let rows = json!([{ "idx": "0", "evt_ch": "7\u{1b}[2J\u{9b}1m" }]);
        assert!(text("network-list", &rows).contains(" 7.[2J.1m "));
        let log = json!({ "next": 9, "text": "a\u{1b}c\r\n\tb\u{7}" });
        assert_eq!(text("log", &log), "a.c\n\tb.");
        assert_eq!(text("dmesg", &json!("x\u{1b}]0;y\u{7}\n")), "x.]0;y.\n");
    }

    #[test]
    fn a_state_is_six_letters() {
        assert_eq!(state(0), "------");
        assert_eq!(state(0x20), "r-----");
        assert_eq!(state(0x18), "-bp---");
        assert_eq!(state(0x3_0004), "---sc-");
        assert_eq!(state(0x3_0000), "------", "it has not ended");
        assert_eq!(state(0x5), "---s-d");
    }

    #[test]
    fn sets_of_cpus_are_ranges() {
        assert_eq!(cpus(u64::MAX, 4), "all");
        assert_eq!(cpus(0b1101, 4), "0,2-3");
        assert_eq!(cpus(0b10, 4), "1");
        assert_eq!(cpus(1 << 63, 64), "63");
        assert_eq!(cpus(u64::MAX, 64), "all");
    }
}
