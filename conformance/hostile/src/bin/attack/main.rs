//! Named attacks: the first word of the command line says which. An attack that finds the hypervisor
//! give away what it must not ends as crashed.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use hostile::land::{Land, READ, SELF, WRITE, is_lived_in, map};
use hostile::raw::memory::{arena, put, spare, toy};
use hostile::raw::{Store, call, load, run, store, trap};
use hostile::slate::{self, Slate};
use pv_guest_sdk::abi::{domctl, sysctl};
use pv_guest_sdk::{BootInfo, entry, println};

mod answers;
mod die;
mod jumps;

entry!(main);

type Outcome = Result<(), &'static str>;

struct Attack {
    land: Land,
    slate: Slate,
    own: u64,
    peer: u64,
    /// The first thing that was given away.
    harm: Option<&'static str>,
}

fn main(boot: &BootInfo<'static>) -> Outcome {
    let word = boot.arguments().next().unwrap_or_default();
    println!("attack {word}");
    let land = Land::new(boot).ok_or("this guest cannot have what it needs")?;
    let number = |name| boot.argument(name).and_then(|it| it.parse().ok()).unwrap_or(0);
    let (own, peer) = (number("own"), number("peer"));
    let mut attack = Attack { land, slate: Slate::new(boot), own, peer, harm: None };
    match word {
        "tables" => attack.tables(),
        "jumps" => attack.jumps(),
        "instructions" => attack.instructions(),
        "segments" => attack.segments(),
        "debug" => attack.debug(),
        "exhaust" => attack.exhaust(),
        "log" => attack.log(),
        "privileged" => attack.privileged(),
        "answers" => attack.answers(),
        "spin" => attack.spin(),
        "grant" => attack.grant(),
        "map" => attack.map_granted(),
        _ => attack.die(word),
    }
    attack.harm.map_or(Ok(()), Err)
}

impl Attack {
    fn call(&self, number: u64, args: [u64; 6]) -> i64 {
        self.slate.add(slate::CALLS, 1);
        call(number, args)
    }

    /// A call whose structure is in the arena.
    fn ask(&self, number: u64, command: u64, words: &[u64]) -> i64 {
        put(arena(), words);
        self.call(number, [command, arena(), 0, 0, 0, 0])
    }

    fn update(&self, place: u64, value: u64) -> i64 {
        put(arena(), &[place, value]);
        self.call(1, [arena(), 1, 0, SELF, 0, 0])
    }

    fn extended(&self, command: u64, first: u64, second: u64) -> i64 {
        put(arena(), &[command, first, second]);
        self.call(26, [arena(), 1, 0, SELF, 0, 0])
    }

    fn must(&mut self, holds: bool, what: &'static str) {
        if !holds && self.harm.is_none() {
            println!("got away with it: {what}");
            self.harm = Some(what);
        }
    }

    /// Maps, pins and writes frames of the kernel, of other domains, of devices.
    fn tables(&mut self) {
        let own = |land: &Land, frame| {
            is_lived_in(frame)
                || land.frames.contains(&frame)
                || frame == land.shared.1
                || frame == land.grant_frame
        };
        let devices = [0xa0, 0xb8, 0xf0, 0xfec00, 0xfee00, 0xfed00, 1 << 28, (1 << 40) - 1];
        let step = (self.land.last_frame / 20_000).max(1);
        let step = usize::try_from(step).unwrap_or(1);
        for frame in (0..=self.land.last_frame + 2).step_by(step).chain(devices) {
            if own(&self.land, frame) {
                continue;
            }
            for flags in [READ, WRITE] {
                let mapped = map(toy(0), frame << 12 | flags) == 0;
                // What is free or another's is neither read nor written. Not here, at least.
                self.must(!mapped, "a frame of another was mapped");
            }
            let level = frame % 4;
            self.must(self.extended(level, frame, 0) != 0, "a frame of another was pinned");
            self.must(self.extended(5, frame, 0) != 0, "a frame of another became the root");
            self.must(self.extended(16, frame, 0) != 0, "a frame of another was cleared");
            let [mine, ..] = self.land.frames;
            self.must(self.extended(17, mine, frame) != 0, "a frame of another was copied");
            self.must(self.update(frame << 12 | 8, 0) != 0, "a frame of another was written");
            let release = self.ask(12, 1, &[arena() + 256, 1, 0, SELF, frame]);
            self.must(release <= 0, "a frame of another was given away");
        }
        for address in (0xffff_8000..0xffff_8800_u64).map(|high| high << 32) {
            let wrote = store(address, 1, Store::Move);
            self.must(!wrote, "the hypervisor's addresses were written");
            let seen = load(address).is_some() && address >> 39 != 0xffff_8000_0000_0000 >> 39;
            self.must(!seen, "the hypervisor's addresses were read");
        }
    }

    /// Instructions that are not for ring 3.
    fn instructions(&mut self) {
        let page = spare(Land::CODE);
        let codes: &[&[u8]] = &[
            &[0xcd, 0x80],
            &[0xcd, 0x82],
            &[0xcd, 0x02],
            &[0xcd, 0x08],
            &[0xcd, 0x12],
            &[0xf4],
            &[0x0f, 0x01, 0xf8],
            &[0x0f, 0x30],
            &[0x0f, 0x32],
            &[0x0f, 0x09],
            &[0x0f, 0x08],
            &[0x0f, 0x22, 0xd8],
            &[0x0f, 0x22, 0xe0],
            &[0x0f, 0x22, 0xc0],
            &[0x0f, 0x23, 0xf8],
            &[0x0f, 0x01, 0x16],
            &[0x0f, 0x01, 0x1e],
            &[0x0f, 0x00, 0xd8],
            &[0x0f, 0x00, 0xd0],
            &[0x0f, 0x07],
            &[0x48, 0x0f, 0x07],
            &[0x0f, 0x35],
            &[0x48, 0xcf],
            &[0xec],
            &[0xee],
            &[0xfa],
            &[0xfb],
            &[0x0f, 0xaa],
            &[0x0f, 0x0b],
            &[0xcc],
            &[0xf1],
            &[0x0f, 0x01, 0xc1],
            &[0x0f, 0x01, 0xd9],
            &[0x0f, 0x01, 0xd1],
            &[0xff, 0x2e],
            &[0xff, 0x1e],
            &[0x0f, 0x01, 0xca],
        ];
        for code in codes {
            for value in [0, 0x1b, 0xc000_0080, 0xc000_0082, 0xe008, 1 << 16, 0xe030, u64::MAX] {
                put(arena() + 64, &[0x8000_0000_0000, value]);
                self.slate.add(slate::CALLS, 1);
                run::code(page, code, [value, value, value, value, arena() + 64, value]);
            }
        }
        for vector in 0..=255_u8 {
            // 1 and 2 have handlers that go on, 4 is allowed.
            run::code(page, &[0xcd, vector], [0; 6]);
        }
        // Single steps into a hypercall: pushfq; or [rsp], 0x100; popfq; syscall
        let step = [0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x0f, 0x05, 0x90];
        for number in [17, 29, 63, 1 << 40] {
            run::code(page, &step, [number, 0, 0, 0, 0, 0]);
        }
    }

    /// Descriptors of every kind, and selectors that name them.
    fn segments(&mut self) {
        let [table, ..] = self.land.frames;
        put(arena() + 512, &[table]);
        self.call(2, [arena() + 512, 512, 0, 0, 0, 0]);
        for kind in 0..=0xff_u64 {
            let descriptor = 0x00af_0000_0000_ffff | kind << 40;
            let set = self.call(10, [table << 12 | 8, descriptor, 0, 0, 0, 0]) == 0;
            let gate = kind & 0x10 == 0 && kind & 0x80 != 0 && kind & 0xf != 0;
            self.must(!(set && gate && kind & 0xf != 0xc), "a system descriptor");
            for selector in [8, 11, 12, 15] {
                // mov ds, eax; mov es, eax; mov fs, eax; lar ebx, eax
                let code = [0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe0, 0x0f, 0x02, 0xd8];
                run::code(spare(Land::CODE), &code, [selector, 0, 0, 0, 0, 0]);
                run::code(spare(Land::CODE), &[0x8e, 0xd0], [selector, 0, 0, 0, 0, 0]);
                // A far call.
                put(arena() + 64, &[spare(5), selector]);
                run::code(spare(Land::CODE), &[0x48, 0xff, 0x1e], [0, 0, 0, 0, arena() + 64, 0]);
            }
        }
        for frame in
            [0, 0x200, self.land.last_frame, 1 << 40, self.land.roots[0], self.land.shared.1]
        {
            put(arena() + 512, &[frame]);
            let set = self.call(2, [arena() + 512, 512, 0, 0, 0, 0]) == 0;
            self.must(!set, "a frame that is no page of descriptors");
        }
        self.call(2, [0, 0, 0, 0, 0, 0]);
        for address in [arena(), 0xffff_8400_0000_0000, 0xffff_8000_0000_0000, 0, 1 << 47] {
            self.extended(13, address, 8192);
            run::code(spare(Land::CODE), &[0x8e, 0xd8], [7, 0, 0, 0, 0, 0]);
            load(address);
        }
        self.extended(13, 0, 0);
        run::code(spare(Land::CODE), &[0x8e, 0xd8, 0x8e, 0xc0], [0; 6]);
    }

    /// Breakpoints in the hypervisor.
    fn debug(&mut self) {
        for address in [0xffff_8000_0000_0000, 0xffff_8280_0010_0000, 0xffff_87ff_ffff_ffff] {
            for number in 0..4 {
                let set = self.call(8, [number, address, 0, 0, 0, 0]) == 0;
                self.must(!set, "a breakpoint in the hypervisor");
            }
        }
        for control in [1 << 13 | 3, 0x2000_0402, u64::MAX, 0x2_0403] {
            self.call(8, [7, control, 0, 0, 0, 0]);
        }
        // On data of a hypercall's, which ring 0 reads and writes.
        self.call(8, [0, arena(), 0, 0, 0, 0]);
        self.call(8, [7, 0xf_0403, 0, 0, 0, 0]);
        for command in 0..11 {
            self.call(17, [command, arena(), 0, 0, 0, 0]);
        }
        self.call(8, [7, 0, 0, 0, 0, 0]);
    }

    /// All ports, all memory, all grants, all timers there are.
    fn exhaust(&mut self) {
        let mut ports = 0;
        while ports < 5000 && self.ask(32, 6, &[SELF | SELF << 16, 0]) == 0 {
            ports += 1;
        }
        let mut pages = 0;
        while pages < 4000 && self.ask(12, 0, &[0, 1, 0, SELF]) == 1 {
            pages += 1;
        }
        put(arena(), &[SELF | 64 << 32, 0, arena() + 64]);
        let grown = self.call(20, [2, arena(), 1, 0, 0, 0]);
        for round in 0..2000_u64 {
            self.call(15, [1 + round, 0, 0, 0, 0, 0]);
            self.ask(24, 6, &[1_000_000]);
            self.ask(29, 6, &[0x7fff_0000 << 32]);
        }
        println!("{ports} ports, {pages} pages, table {grown}");
        self.must(ports < 5000 && pages < 4000, "there is no end of it");
        self.call(24, [7, 0, 0, 0, 0, 0]);
    }

    /// Calls that are refused, each of which might be a line in the log.
    fn log(&mut self) {
        for number in 0..200_000 {
            self.update(number << 30 | 1 << 50, number);
        }
    }

    fn privileged(&mut self) {
        for command in 0..90 {
            for domain in [0, SELF, 1] {
                let version = u64::from(domctl::INTERFACE_VERSION);
                let answer = self.ask(36, 0, &[]);
                self.must(answer < 0, "domctl of nothing");
                put(arena(), &[command | version << 32, domain]);
                let answer = self.call(36, [arena(), 0, 0, 0, 0, 0]);
                let known = command == 1 || domain != SELF;
                // Of some, Xen looks at what they are about before it looks at who asks.
                let looks = matches!(command, 5 | 19..=21 | 38..=40 | 46 | 48 | 50);
                let names_another = command == 46;
                let refused = match answer {
                    -1 => true,
                    -3 => domain == 1 || !known || names_another,
                    -22 | -95 => looks,
                    _ => false,
                };
                self.must(refused, "domctl");
            }
            put(arena(), &[command | u64::from(sysctl::INTERFACE_VERSION) << 32, 0]);
            self.must(self.call(35, [arena(), 0, 0, 0, 0, 0]) == -1, "sysctl");
        }
        for command in 0..64 {
            put(arena(), &[command | 0x0300_0001 << 32]);
            let answer = self.call(7, [arena(), 0, 0, 0, 0, 0]);
            self.must(matches!(answer, -1 | -38), "platform_op");
        }
        let audit = self.call(55, [1, 0, 0, 0, 0, 0]);
        self.must(matches!(audit, -1 | -38), "the audit");
        self.must(self.ask(29, 4, &[0]) == -1, "remote_shutdown");
        self.must(self.call(12, [10, arena(), 0, 0, 0, 0]) == -1, "machine_memory_map");
    }

    /// All CPU time there is, deaf to events.
    fn spin(&self) -> ! {
        let [event, _] = trap::callbacks();
        println!("spinning; events would come to {event:x}");
        loop {
            self.slate.add(slate::CALLS, 1);
        }
    }
}
