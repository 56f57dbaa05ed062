//! Hypercall numbers that nobody has.

use crate::call::{EFAULT, ENOSYS, hypercall};
use crate::case::{Case, Outcome, case, equal, equal_at};

pub(crate) const CASES: &[Case] = &[
    case(
        "unknown/gaps",
        "The unused numbers below 64 (11, 38, 39, 43 to 47, 50 to 54, 56 to 63) answer -ENOSYS.",
        |_| {
            let gaps = [11, 38, 39, 43, 44, 45, 46, 47];
            all(gaps.into_iter().chain(50..55).chain(56..64))
        },
    ),
    case("unknown/extension", "Number 55 answers -ENOSYS, whatever it is asked.", |_| {
        for asked in 0..4 {
            equal_at("answer to", asked, hypercall(55, &[asked]), ENOSYS)?;
        }
        Ok(())
    }),
    case(
        "unknown/internal",
        "Number 49, which the hypervisor keeps for itself, answers -EFAULT to a null pointer.",
        |_| equal("answer", hypercall(49, &[]), EFAULT),
    ),
    case("unknown/behind_table", "Numbers from 64 to 4095 answer -ENOSYS.", |_| all(64..4096)),
    case("unknown/large", "Large numbers answer -ENOSYS.", |_| {
        all((12..64).map(|bit| (1 << bit) | 1))
    }),
    case("unknown/negative", "Negative numbers answer -ENOSYS.", |_| {
        all((1..=64).map(|number: u64| number.wrapping_neg()))
    }),
    case(
        "unknown/upper_half",
        "A known number with a bit of the upper half set answers -ENOSYS: all 64 bits count.",
        |_| all((0..64).map(|number| number | 1 << 32)),
    ),
    case("unknown/int_min", "The smallest numbers of 32 and 64 bits answer -ENOSYS.", |_| {
        all([1 << 31, 1 << 63, u64::from(u32::MAX), u64::MAX].into_iter())
    }),
    case(
        "unknown/hvm_op_range",
        "The old numbers of removed calls stay removed, whatever the arguments.",
        |_| {
            for number in [11, 38, 39] {
                let answer = hypercall(number, &[u64::MAX; 6]);
                equal_at("answer of", number, answer, ENOSYS)?;
            }
            Ok(())
        },
    ),
];

fn all(numbers: impl Iterator<Item = u64>) -> Outcome {
    for number in numbers {
        equal_at("answer of", number, hypercall(number, &[]), ENOSYS)?;
    }
    Ok(())
}
