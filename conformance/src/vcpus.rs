//! Starting virtual CPUs and running snippets on them.

use pv_guest_sdk::Machine;
use pv_guest_sdk::raw::shared::shared_info;

use crate::call::{SCHED_OP, VCPU_OP, hypercall, registers};
use crate::case::{Outcome, Test, Verdict, equal_at};
use crate::raw::ap_snippets::{COUNT, SYSCALL};
use crate::raw::memory::{arena_address, peek, poke, poke_byte};
use crate::raw::pages_calls::put_words;
use crate::raw::{ApCode, Registers, ap, snippets};
use crate::tables::{frame_of, top};

pub(crate) const INITIALISE: u64 = 0;
pub(crate) const UP: u64 = 1;
pub(crate) const DOWN: u64 = 2;
pub(crate) const IS_UP: u64 = 3;

const GET_RUNSTATE: u64 = 4;
/// A state of a vCPU, and the word of a runstate that tells how long it ran.
const BLOCKED: u64 = 2;
const RUNNING: u64 = 2;

pub(crate) const ENOENT: i64 = -2;
pub(crate) const EEXIST: i64 = -17;

/// The vCPUs that the machine's hypervisor is told to make.
pub(crate) const VCPUS: u64 = 4;

/// Where the parts of a context lie. Unit: bytes.
pub(crate) mod at {
    pub(crate) const FPU: usize = 0;
    pub(crate) const FLAGS: usize = 512;
    /// r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi.
    pub(crate) const GENERAL: usize = 520;
    pub(crate) const RIP: usize = 648;
    pub(crate) const CS: usize = 656;
    pub(crate) const RFLAGS: usize = 664;
    pub(crate) const RSP: usize = 672;
    pub(crate) const SS: usize = 680;
    pub(crate) const ES: usize = 688;
    pub(crate) const DS: usize = 696;
    pub(crate) const FS: usize = 704;
    pub(crate) const GS: usize = 712;
    /// 256 entries of 16 bytes.
    pub(crate) const TRAPS: usize = 720;
    pub(crate) const LDT_BASE: usize = 4816;
    pub(crate) const LDT_ENTRIES: usize = 4824;
    pub(crate) const GDT_FRAMES: usize = 4832;
    pub(crate) const GDT_ENTRIES: usize = 4960;
    pub(crate) const KERNEL_SS: usize = 4968;
    pub(crate) const KERNEL_SP: usize = 4976;
    pub(crate) const CONTROL: usize = 4984;
    pub(crate) const DEBUG: usize = 5048;
    pub(crate) const EVENT: usize = 5112;
    pub(crate) const FAILSAFE: usize = 5120;
    pub(crate) const SYSCALL: usize = 5128;
    pub(crate) const FS_BASE: usize = 5144;
    pub(crate) const GS_BASE: usize = 5152;
    pub(crate) const USER_GS_BASE: usize = 5160;
    pub(crate) const END: usize = 5168;
}

/// The FPU's state is in the context.
pub(crate) const FPU_VALID: u64 = 1;
/// Starts in kernel mode.
pub(crate) const IN_KERNEL: u64 = 4;
/// Is up from the beginning.
pub(crate) const ONLINE: u64 = 32;

/// The handler's number for an event, a selector that cannot be loaded, a system call.
pub(crate) const EVENT: u64 = 256;
pub(crate) const FAILSAFE: u64 = 257;
pub(crate) const SYSTEM_CALL: u64 = 258;

/// Makes `vcpu_op`.
pub(crate) fn vcpu_op(command: u64, vcpu: u64, pointer: u64) -> i64 {
    hypercall(VCPU_OP, &[command, vcpu, pointer])
}

/// Makes `vcpu_op` with an argument of words, at the arena's start.
pub(crate) fn vcpu_op_of(command: u64, vcpu: u64, words: &[u64]) -> i64 {
    put_words(0, words);
    vcpu_op(command, vcpu, arena_address())
}

/// The address of a vCPU's part of the shared page.
pub(crate) fn info_of(t: &Test<'_>, vcpu: u64) -> Result<u64, Verdict> {
    Ok(shared_page(t)? + 64 * vcpu)
}

/// The address of the shared page.
pub(crate) fn shared_page(t: &Test<'_>) -> Result<u64, Verdict> {
    match shared_info(&Machine, t.boot) {
        Ok(page) => Ok(core::ptr::from_ref(page).expose_provenance() as u64),
        Err(_) => Err(Verdict::Skip("the shared page is not mapped")),
    }
}

/// Puts at the arena's start the context of a vCPU that runs on the first one's page tables, with
/// handlers for everything, and with some words (offset, value) different.
pub(crate) fn put_context(t: &Test<'_>, vcpu: u64, changes: &[(usize, u64)]) {
    (0..at::END / 8).for_each(|word| put_words(8 * word, &[0]));
    for vector in 0..256 {
        let entry = [vector | 0xe033 << 16, ap::handler(vector)];
        put_words(at::TRAPS + 16 * usize::try_from(vector).unwrap_or(0), &entry);
    }
    let usual = [
        (at::FLAGS, IN_KERNEL),
        (at::RIP, ap::entry(vcpu)),
        (at::CS, 0xe033),
        (at::RSP, ap::stack_end()),
        (at::SS, 0xe02b),
        (at::KERNEL_SS, 0xe02b),
        (at::KERNEL_SP, ap::stack_end()),
        (at::CONTROL + 24, frame_of(t.boot, top(t.boot)) << 12),
        (at::EVENT, ap::handler(EVENT)),
        (at::FAILSAFE, ap::handler(FAILSAFE)),
        (at::SYSCALL, ap::handler(SYSTEM_CALL)),
    ];
    for &(offset, word) in usual.iter().chain(changes) {
        put_words(offset, &[word]);
    }
}

/// Gives a vCPU such a context; the answer.
pub(crate) fn initialise(t: &Test<'_>, vcpu: u64, changes: &[(usize, u64)]) -> i64 {
    put_context(t, vcpu, changes);
    vcpu_op(INITIALISE, vcpu, arena_address())
}

/// Lets others run that many times.
pub(crate) fn yields(times: u64) {
    for _ in 0..times {
        hypercall(SCHED_OP, &[0]);
    }
}

/// Ends in order, as the last step of a case that needs a boot of its own.
pub(crate) fn power_off(t: &Test<'_>) -> Outcome {
    put_words(0, &[0]);
    t.end("poweroff", snippets::SYSCALL, &mut registers(SCHED_OP, &[2, arena_address()]))
}

/// A vCPU beside the first that has started and is down.
#[derive(Clone, Copy)]
pub(crate) struct Ap(u64);

/// vCPU 1, started in the usual way.
pub(crate) fn worker(t: &Test<'_>) -> Result<Ap, Verdict> {
    Ap::with_context(t, 1, &[])
}

impl Ap {
    /// The vCPU of a number from 1 to 3. Only the first use in a boot starts it, with its context
    /// different by some words.
    pub(crate) fn with_context(
        t: &Test<'_>,
        vcpu: u64,
        changes: &[(usize, u64)],
    ) -> Result<Self, Verdict> {
        let ap = Self(vcpu);
        match initialise(t, vcpu, changes) {
            EEXIST => Ok(ap),
            answer => {
                equal_at("initialise vCPU", vcpu, answer, 0)?;
                ap::prepare(vcpu);
                ap.up()?;
                ap.wait()?;
                Ok(ap)
            }
        }
    }

    /// Its number.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    fn up(self) -> Outcome {
        equal_at("up of vCPU", self.0, vcpu_op(UP, self.0, 0), 0)
    }

    /// Lets others run until the vCPU is down.
    pub(crate) fn wait(self) -> Outcome {
        for _ in 0..500_000 {
            if vcpu_op(IS_UP, self.0, 0) == 0 {
                return Ok(());
            }
            hypercall(SCHED_OP, &[0]);
        }
        vcpu_op(DOWN, self.0, 0);
        equal_at("vCPU", self.0, "never ends its snippet", "ends it")
    }

    /// Lets the vCPU begin a snippet.
    pub(crate) fn start(self, code: ApCode, registers: &Registers) -> Outcome {
        ap::post(self.0, code, registers);
        self.up()
    }

    /// Waits for a snippet's end, at which the vCPU is down again; the registers then.
    pub(crate) fn finish(self) -> Result<Registers, Verdict> {
        self.wait()?;
        Ok(ap::collect())
    }

    /// Runs a snippet on the vCPU.
    pub(crate) fn run(self, code: ApCode, registers: &Registers) -> Result<Registers, Verdict> {
        self.start(code, registers)?;
        self.finish()
    }

    /// Lets the vCPU count and yield, in a word of its page, until [`Ap::stop`].
    pub(crate) fn spin(self) -> Result<Self, Verdict> {
        poke(ap::page(), 0);
        poke(ap::page() + 8, 0);
        let mut registers = Registers::new();
        registers.rbx = ap::page();
        self.start(COUNT, &registers)?;
        self.counts_to(3)?;
        Ok(self)
    }

    /// Lets the vCPU run until it has counted that far.
    pub(crate) fn counts_to(self, number: u64) -> Outcome {
        for _ in 0..500_000 {
            if peek(ap::page()) >= number {
                return Ok(());
            }
            yields(1);
        }
        equal_at("vCPU", self.0, "does not run", "runs")
    }

    /// Lets others run until the vCPU waits for something.
    pub(crate) fn sleeps(self) -> Outcome {
        for _ in 0..500_000 {
            if self.runstate(0)? == BLOCKED {
                return Ok(());
            }
            yields(1);
        }
        equal_at("vCPU", self.0, "does not wait", "waits")
    }

    /// Lets the vCPU have some turns: a few yields are not enough where it had the processor for long.
    pub(crate) fn turns(self) -> Outcome {
        let mut ran = self.runstate(RUNNING)?;
        for _ in 0..5 {
            let before = ran;
            for _ in 0..500_000 {
                yields(1);
                ran = self.runstate(RUNNING)?;
                if ran != before {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A word of the vCPU's runstate.
    fn runstate(self, word: u64) -> Result<u64, Verdict> {
        let at = ap::page() + 3072;
        equal_at("get_runstate_info of vCPU", self.0, vcpu_op(GET_RUNSTATE, self.0, at), 0)?;
        Ok(peek(at + 8 * word))
    }

    /// Ends what [`Ap::spin`] began.
    pub(crate) fn stop(self) -> Outcome {
        poke(ap::page() + 8, 1);
        self.finish().map(|_| ())
    }

    /// Makes the vCPU's part of the shared page as it was before any event: masked, none waiting.
    pub(crate) fn forget_events(self, t: &Test<'_>) -> Outcome {
        let info = info_of(t, self.0)?;
        poke_byte(info + 1, 1);
        poke(info + 8, 0);
        poke_byte(info, 0);
        Ok(())
    }

    /// Runs a hypercall on the vCPU; the answer.
    pub(crate) fn call(self, number: u64, args: &[u64]) -> Result<i64, Verdict> {
        Ok(self.run(SYSCALL, &registers(number, args))?.rax.cast_signed())
    }
}
