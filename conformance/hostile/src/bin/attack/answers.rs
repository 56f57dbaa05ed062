//! What calls write, looked through for what is the hypervisor's.

use hostile::raw::load;
use hostile::raw::memory::{arena, put};
use hostile::raw::trap;
use pv_guest_sdk::println;

use crate::Attack;

/// Calls that write structures, and what they do to this guest can be undone or does nothing.
const CALLS: [u64; 12] = [12, 16, 17, 18, 20, 21, 24, 25, 32, 33, 35, 36];
/// Halves of what the hypervisor's stack is full of, if it is started with `poison`.
const POISON: [u64; 2] = [0x5ca1_ab1e, 0x0ddb_a115];
/// Words that are looked through.
const WORDS: u64 = 1024;

impl Attack {
    /// Calls with structures of nothing, and of addresses behind them, where all that is not written is 0
    /// or such an address: an address of the hypervisor's is left of a stack of its.
    pub(crate) fn answers(&mut self) {
        let mut written = 0_u64;
        for number in CALLS {
            for command in 0..40 {
                // What gives memory away, takes the vCPU down, or writes into an area for ever.
                let deadly =
                    matches!((number, command), (12, 0 | 1 | 6 | 11) | (24, 2 | 5 | 10 | 13));
                for fill in [0, arena() + 4096, 0x7ff0, 1].into_iter().filter(|_| !deadly) {
                    (0..WORDS).for_each(|word| put(arena() + 8 * word, &[fill]));
                    self.call(number, [command, arena(), 1, arena(), arena(), 0]);
                    self.call(number, [command, 0, arena(), 1, 0, 0]);
                    for word in 0..WORDS {
                        let seen = load(arena() + 8 * word).unwrap_or(fill);
                        written += u64::from(seen != fill);
                        let is_kernel = (0xffff_8080 << 32..0xffff_8800 << 32).contains(&seen);
                        self.must(!is_kernel, "an address of the hypervisor's");
                        let halves = [seen >> 32, seen & 0xffff_ffff];
                        let is_poison = halves.iter().any(|half| POISON.contains(half));
                        self.must(!is_poison, "what the hypervisor's stack was marked with");
                    }
                }
            }
        }
        println!("{written} words of answers");
        self.must(written > 100, "no answers were seen");
        trap::register(arena());
    }
}
