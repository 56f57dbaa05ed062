//! Tests of the network: domains that carry data to each other, and servers that are reached from here.

mod client;

use std::net::{Shutdown, TcpStream};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use self::client::{begin, connect, download, drink, get, sum, upload};
use crate::block::{self, image};
use crate::boot::{self, End, Watch};
use crate::ctl::Channel;
use crate::machine::{Machine, System};
use crate::options::{MachineOptions, TestOptions};
use crate::ports::Forwards;
use crate::process::say;
use crate::rule;
use crate::run::Builder;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// How much goes each way, to begin with. Unit: bytes.
const BULK: usize = 4 << 20;
/// The least time that a machine with servers gets.
const LIMIT: Duration = Duration::from_secs(1200);
/// Servers that are there at once.
const SERVERS: u8 = 16;
/// The last number of the first server's address, and the MAC's.
const FIRST: u8 = 80;

/// Two domains that carry data to each other: their configurations.
const PAIR: [(&str, &str); 2] = [
    (
        "serve.cfg",
        "name = 'serve'\nkernel = 'netpair'\nmemory = 16\nextra = 'ip=10.9.0.1/24'\n\
         vif = ['mac=00:16:3e:00:00:0a']\n",
    ),
    (
        "drive.cfg",
        "name = 'drive'\nkernel = 'netpair'\nmemory = 16\n\
         extra = 'peer=10.9.0.1 ip=10.9.0.2/24 host=10.9.0.3 mib=16'\n\
         vif = ['mac=00:16:3e:00:00:0b']\n",
    ),
];
/// What each of the two directions has to reach where instructions are counted. Unit: Mbit/s.
const RATE: u32 = 5900;
/// How fast 16 MiB go out with a limit of 200 Mbit/s: headers count, and what the first interval brings
/// goes at once. Unit: Mbit/s.
const LIMITED: RangeInclusive<u32> = 180..=230;
/// How long a ping may take there, of the other domain and of the initial one. Unit: ns.
const PINGS: [(&str, u32); 2] = [("peer", 42_000), ("host", 25_700)];

/// A front end that lies, and claims the first server's address.
const LIAR: &str = "name = 'liar'\nkernel = 'netliar'\nmemory = 16\n\
                    extra = 'mac=00:16:3e:00:00:50 rounds=44'\nvif = ['mac=00:16:3e:00:00:0c']\n";

/// Adds all tests.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    steps.run("two domains carry data to each other, counted, on paravane", || {
        let scratch = workspace.scratch("netpair")?;
        let rates = pair(builder, &options.machine, "", &scratch)?;
        say(format!("    {rates:?} Mbit/s, of at least {RATE}"));
        let fast = rates.iter().all(|&rate| rate >= RATE);
        ensure!(fast, "data went at {rates:?} Mbit/s, not {RATE}");
        Ok(())
    });
    steps.run("a domain sends as fast as it may, counted, on paravane", || {
        let scratch = workspace.scratch("netrate")?;
        let [sent, received] = pair(builder, &options.machine, ",rate=200Mb/s", &scratch)?;
        say(format!("    out at {sent} Mbit/s, of 200; in at {received}"));
        let kept = LIMITED.contains(&sent) && received > *LIMITED.end();
        ensure!(kept, "data went out at {sent} Mbit/s, and came at {received}");
        Ok(())
    });
    let scenes: [(&str, Scene); 3] = [
        ("a server reached from the host on paravane", visited),
        ("a server beside a front end that lies on paravane", lied_to),
        ("16 servers with disks, rebooted and destroyed under load on paravane", crowded),
    ];
    for (name, scene) in scenes {
        steps.run(name, || {
            let scratch = workspace.scratch("network")?;
            let images = image::provide(&workspace.scratch("disk-images")?)?;
            let disk = scratch.join("disk.img");
            std::fs::copy(images.disk, &disk)?;
            let mut machine = options.machine.clone();
            machine.smp = 2;
            machine.limit = machine.limit.max(LIMIT);
            let house = house(builder, &machine, &disk, &scratch)?;
            house.play(scene, &scratch)
        });
    }
}

/// What is done with a machine that runs.
type Scene = fn(&House, &mut Operator) -> Result<()>;

/// Boots the two, who end by themselves when all was right; the interface of the one that asks is
/// described by more `words`. How fast data went from that one, and to it. Unit: Mbit/s.
fn pair(
    builder: &mut Builder<'_>,
    options: &MachineOptions,
    words: &str,
    scratch: &Path,
) -> Result<[u32; 2]> {
    let text = |text: &str| text.replace(":0b'", &format!(":0b{words}'")).into_bytes();
    let mut bundle: Vec<_> = PAIR.iter().map(|&(name, it)| (name.to_owned(), text(it))).collect();
    bundle.push(("netpair".into(), std::fs::read(builder.example("netpair")?)?));
    let mut options = options.clone();
    (options.smp, options.icount) = (1, true);
    let mut machine = block::machine(builder, System::Paravane, &bundle, &options, scratch)?;
    (machine.guest_args, machine.others) = ("ip=10.9.0.3/24".into(), 64);
    let record = boot::boot(&machine, Watch::Nobody, scratch)?;
    let said = record.console.transcript();
    ensure!(record.end == End::Success, "{}\n{}\n{said}", record.end, record.report);
    for line in ["each way with the right hashes", "each way at once with the right hashes"] {
        ensure!(said.contains(line), "nobody said `{line}`:\n{said}");
    }
    let figures = |before: &str, unit: &str| -> Vec<u32> {
        let figure = |line: &str| line.split_once(before)?.1.strip_suffix(unit)?.parse().ok();
        said.lines().filter_map(figure).collect()
    };
    for (whom, most) in PINGS {
        let took = figures(&format!("ping of the {whom}: time~"), " ns");
        let fast = matches!(took[..], [time] if time <= most);
        ensure!(fast, "pings of the {whom} took {took:?} ns, not {most}");
    }
    figures("rate~", " Mbit/s")
        .try_into()
        .map_err(|rates| anyhow::anyhow!("rates {rates:?}:\n{said}"))
}

/// A machine with servers, and the host's ports that lead to them.
struct House {
    machine: Machine,
    ports: Vec<u16>,
}

/// The machine: its servers have each the partition of files of a disk, to read, and a network card.
fn house(
    builder: &mut Builder<'_>,
    options: &MachineOptions,
    disk: &Path,
    scratch: &Path,
) -> Result<House> {
    let mut bundle = vec![("liar.cfg".to_owned(), Vec::from(LIAR))];
    bundle.push(("httpd".into(), std::fs::read(builder.example("httpd")?)?));
    bundle.push(("netliar".into(), std::fs::read(builder.hostile("netliar")?)?));
    let (mut ports, mut forwards) = (Vec::new(), Forwards::default());
    for number in 0..SERVERS {
        let last = FIRST + number;
        let config = format!(
            "name = 'web{number}'\nkernel = 'httpd'\nmemory = 12\n\
             vif = ['mac=00:16:3e:00:00:{last:02x}']\ndisk = ['/dev/vda1,raw,xvda,r']\n\
             extra = 'ip=10.0.2.{last}/24 gw=10.0.2.2'\n"
        );
        bundle.push((format!("web{number}.cfg"), config.into()));
        ports.push(forwards.add(0, format_args!("10.0.2.{last}"), 80)?);
    }
    let mut machine = block::machine(builder, System::Paravane, &bundle, options, scratch)?;
    machine.guest_args = "operator web0".into();
    machine.add_card(&forwards.words());
    (machine.disks, machine.others) = (vec![disk.to_owned()], 16 * u32::from(SERVERS) + 64);
    Ok(House { machine, ports })
}

impl House {
    /// Boots the machine, has something done with it, and ends it.
    fn play(&self, scene: Scene, scratch: &Path) -> Result<()> {
        thread::scope(|scope| {
            let boot = scope.spawn(|| boot::boot(&self.machine, Watch::Nobody, scratch));
            // Before the boot is given up.
            let deadline = Instant::now() + self.machine.options.limit * 3 / 4;
            let done = Channel::wait(scratch, deadline).and_then(|channel| {
                let mut operator = Operator { channel, deadline };
                let done = operator.serves("web0").and_then(|()| scene(self, &mut operator));
                let ended = operator.ask("poweroff");
                done.and(ended)
            });
            let record = boot.join().map_err(|_| anyhow::anyhow!("the boot has panicked"))??;
            let said = || format!("{}\n{}", record.report, record.console.transcript());
            let answer = done.with_context(said)?;
            ensure!(answer == "all domains have ended", "poweroff: {answer}\n{}", said());
            ensure!(record.end == End::Success, "{}\n{}", record.end, said());
            Ok(())
        })
    }
}

/// The operator of a machine.
struct Operator {
    channel: Channel,
    deadline: Instant,
}

impl Operator {
    /// What is answered to a verb and its words.
    fn ask(&mut self, line: &str) -> Result<Value> {
        let (verb, words) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<_> = words.split_terminator(' ').map(str::to_owned).collect();
        let text = verb == "poweroff";
        let answer = self.channel.ask(verb, &words, text)?.map_err(anyhow::Error::msg);
        let answer = answer.with_context(|| line.to_owned())?;
        Ok(answer.as_str().map(str::trim_end).map_or(answer.clone(), Value::from))
    }

    /// Waits until something is so.
    fn until(&mut self, what: &str, mut is: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        while !is(self)? {
            ensure!(Instant::now() < self.deadline, "{what}: not in time");
        }
        Ok(())
    }

    /// Waits until a server serves.
    fn serves(&mut self, name: &str) -> Result<()> {
        self.until(name, |it| it.channel.says(name, "serving at"))
    }

    /// Waits until a domain is gone.
    fn is_gone(&mut self, name: &str) -> Result<()> {
        self.until(name, |it| Ok(it.channel.ask("list", &[name.to_owned()], false)?.is_err()))
    }

    /// Waits until nothing is left but what was there before.
    fn has_left(&mut self, before: &rule::Left) -> Result<()> {
        let mut now = String::new();
        let left = self.until("all is given back", |it| {
            let left = rule::left(&mut it.channel)?;
            now = format!("{left:?}");
            Ok(left.is_all_of(before))
        });
        left.with_context(|| format!("before there was {before:?}, now {now}"))
    }
}

/// Data both ways, many connections one after the other, and some at once.
fn visited(house: &House, _: &mut Operator) -> Result<()> {
    let port = house.ports[0];
    download(port, BULK)?;
    upload(port, BULK)?;
    thread::scope(|scope| {
        let other = scope.spawn(|| upload(port, BULK));
        let one = download(port, BULK);
        one.and(other.join().map_err(|_| anyhow::anyhow!("the upload has panicked"))?)
    })
    .context("both at once")?;
    for number in 0..1000 {
        get(port, "/about").with_context(|| format!("connection {number}"))?;
    }
    // QEMU lets but one wait for being accepted, so they come one after the other, and stay.
    let all = (0..50).map(|_| begin(port, 300_000)).collect::<Result<Vec<_>>>()?;
    let all: Vec<_> = all.into_iter().map(|answer| Mutex::new(Some(answer))).collect();
    at_once(all.len(), |number| {
        let answer = all[number].lock().ok().and_then(|mut it| it.take());
        answer.context("no answer has begun")?.check(300_000)
    })
}

/// The server answers as before while a front end at the same switch lies. That no packet of its own
/// is lost for that is more than good manners here: who asks is behind QEMU's user network, which
/// forgets what it has sent when a SYN comes to it twice, and so never sends it again.
fn lied_to(house: &House, operator: &mut Operator) -> Result<()> {
    let port = house.ports[0];
    operator.ask("create liar")?;
    let mut visits = 0;
    operator.until("the one that lies", |it| {
        let done = download(port, 100_000);
        done.or_else(|error| Err(error.context(it.ask("network-list web0")?)))?;
        visits += 1;
        Ok(it.channel.ask("list", &["liar".to_owned()], false)?.is_err())
    })?;
    say(format!("    {visits} visits meanwhile"));
    ensure!(visits > 2, "it was there for {visits} visits alone");
    upload(port, 1 << 20)
}

/// Many servers at once; some are rebooted and destroyed while they serve. Nothing is left of them.
fn crowded(house: &House, operator: &mut Operator) -> Result<()> {
    let names: Vec<_> = (0..SERVERS).map(|number| format!("web{number}")).collect();
    let others = &names[1..];
    // What is kept of the first domains, such as larger tables, is no loss.
    let mut before = None;
    for _ in 0..2 {
        for name in others {
            operator.ask(&format!("create {name}"))?;
        }
        others.iter().try_for_each(|name| operator.serves(name))?;
        let wanted = get(house.ports[0], "/disk")?;
        ensure!(wanted.len() == sum(&[]).len(), "/disk is no sum");
        at_once(names.len(), |number| {
            let port = house.ports[number];
            ensure!(get(port, "/disk")? == wanted, "{}: another disk", names[number]);
            download(port, 300_000)?;
            upload(port, 300_000)
        })?;
        under_load(house, operator, others)?;
        others.iter().try_for_each(|name| operator.is_gone(name))?;
        match &before {
            None => before = Some(rule::left(&mut operator.channel)?),
            Some(before) => operator.has_left(before)?,
        }
    }
    download(house.ports[0], 300_000)
}

/// Reboots the first of some servers, and destroys all, while each is asked for more than it can say.
fn under_load(house: &House, operator: &mut Operator, names: &[String]) -> Result<()> {
    let (is_over, first) = (AtomicBool::new(false), &names[0]);
    let open: Vec<_> = names.iter().map(|_| Mutex::new(None)).collect();
    let drinks = |port, open: &Mutex<Option<TcpStream>>| {
        while !is_over.load(Ordering::SeqCst) {
            let stream = connect(port)?;
            if let Ok(mut open) = open.lock() {
                *open = Some(stream.try_clone()?);
            }
            // It may end in the middle of it.
            if !is_over.load(Ordering::SeqCst) {
                let _any_end = drink(stream);
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    thread::scope(|scope| {
        for (&port, open) in house.ports[1..].iter().zip(&open) {
            scope.spawn(move || drinks(port, open));
        }
        let number = |it: &mut Operator| {
            Ok::<_, anyhow::Error>(it.ask(&format!("list {first}"))?[0]["id"].clone())
        };
        let done = (|| {
            let old = number(operator)?;
            operator.ask(&format!("reboot {first}"))?;
            operator.until("the reboot", |it| Ok(number(it).is_ok_and(|id| id != old)))?;
            operator.serves(first)?;
            names.iter().try_for_each(|name| operator.ask(&format!("destroy {name}")).map(drop))
        })();
        is_over.store(true, Ordering::SeqCst);
        // Nobody else would: the other ends are gone.
        for stream in open.iter().filter_map(|it| it.lock().ok()?.take()) {
            let _ended = stream.shutdown(Shutdown::Both);
        }
        done
    })
}

/// Does something so many times at once.
fn at_once(count: usize, what: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let what = &what;
    thread::scope(|scope| {
        let all: Vec<_> = (0..count).map(|number| scope.spawn(move || what(number))).collect();
        all.into_iter().enumerate().try_for_each(|(number, it)| {
            let done = it.join().map_err(|_| anyhow::anyhow!("it has panicked"))?;
            done.with_context(|| format!("number {number} of {count} at once"))
        })
    })
}
