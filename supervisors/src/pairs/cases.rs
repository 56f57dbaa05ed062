//! The cases.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt::{Debug, Display};
use core::sync::atomic::Ordering::Relaxed;

use pv_guest_sdk::abi::call::Hypercall;
use pv_guest_sdk::abi::regs::VcpuGuestContext;
use pv_guest_sdk::abi::types::{DomId, GrantRef, Mfn, Pfn, Port, VcpuId};
use pv_guest_sdk::control::{DomainFlags, Plain};
use pv_guest_sdk::event::{Channel, State};
use pv_guest_sdk::grant::{GrantError, Grants, Mapping};
use pv_guest_sdk::paging::{Access, Frame};
use pv_guest_sdk::wait::{poll, yield_now};
use pv_guest_sdk::{BootInfo, Machine};
use toolstack::end::End;

use crate::puppet::{
    END, MAILBOX, PAGES, PORT, Puppet, READ, WRITE, destroy, peer, remains, window,
};

/// What is wrong, in words.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

impl<E: Display> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(format!("{error}"))
    }
}

type Outcome = Result<(), Fault>;

/// What a case is given.
pub(crate) struct Test<'a> {
    pub(crate) boot: &'a BootInfo<'static>,
    pub(crate) grants: Grants,
    /// Says that some domain has ended.
    pub(crate) ended: Channel,
}

/// Name, clause, and what is done.
type Case = (&'static str, &'static str, fn(&Test<'_>) -> Outcome);

/// All cases. Each destroys the domains that it makes.
pub(crate) const CASES: &[Case] = &[
    ("pair_control/mapped", "A frame of another domain is mapped, and shared with it.", |t| {
        with(t, |puppet| {
            let page = puppet.spare(0);
            puppet.ask(WRITE, &[page.address, 0x1234])?;
            let foreign = puppet.domain.map(window(2)?, page.frame)?;
            equal("theirs seen here", foreign.words()[0].load(Relaxed), 0x1234)?;
            foreign.words()[2].store(0x5678, Relaxed);
            equal("ours seen there", puppet.ask(READ, &[page.address + 8])?, 0x5678)
        })
    }),
    ("pair_control/not_theirs", "A frame that is not the named domain's is refused.", |t| {
        with(t, |puppet| {
            let own = t.boot.frames().get(Pfn(1)).ok_or("no page")?;
            equal("mapped", puppet.domain.map(window(2)?, own).is_ok(), false)
        })
    }),
    ("pair_control/table", "A page table of another domain is not mapped to be written.", |t| {
        with(t, |puppet| {
            let info = puppet.domain.info()?;
            let shared = puppet.domain.map(window(2)?, Mfn(info.shared_info_frame));
            equal("its shared page is", shared.is_ok(), true)?;
            drop(shared);
            let mut context = Box::<VcpuGuestContext>::default();
            puppet.domain.context(VcpuId(0), &mut context)?;
            let root = Mfn::containing(context.ctrlreg[3]);
            equal("its root is", puppet.domain.map(window(2)?, root).is_ok(), false)
        })
    }),
    (
        "pair_control/reset",
        "A virtual CPU that is reset is down and has no state, until it gets one.",
        |t| {
            with(t, |puppet| {
                let mut context = Box::<VcpuGuestContext>::default();
                puppet.domain.context(VcpuId(0), &mut context)?;
                puppet.domain.reset(VcpuId(0))?;
                equal("online", puppet.domain.info()?.nr_online_vcpus, 0)?;
                let mut none = Box::<VcpuGuestContext>::default();
                equal("has a state", puppet.domain.context(VcpuId(0), &mut none).is_ok(), false)?;
                equal("reset again", puppet.domain.reset(VcpuId(0)).is_ok(), true)?;
                puppet.domain.set_context(VcpuId(0), &mut context)?;
                equal("online again", puppet.domain.info()?.nr_online_vcpus, 1)
            })
        },
    ),
    ("pair_control/info", "A domain that waits is listed as blocked, with all its pages.", |t| {
        with(t, |puppet| {
            equal("pages", puppet.domain.info()?.tot_pages, PAGES)?;
            equal("online", puppet.domain.info()?.nr_online_vcpus, 1)?;
            // It sends the answer before it waits for the next thing.
            loop {
                let flags = DomainFlags::from_bits_retain(puppet.domain.info()?.flags);
                if flags.contains(DomainFlags::BLOCKED) {
                    return Ok(());
                }
                yield_now();
            }
        })
    }),
    ("pair_control/ended", "One that ends is told by an event, and keeps its pages.", |t| {
        with(t, |puppet| {
            t.ended.take_pending();
            puppet.ask(END, &[])?;
            while End::of(&puppet.domain.info()?).is_none() {
                poll(&Machine, &[t.ended.port()], None)?;
                t.ended.take_pending();
            }
            equal("end", End::of(&puppet.domain.info()?), Some(End::Shutdown(0)))?;
            equal("left", remains(&puppet.domain), Some((false, PAGES)))
        })
    }),
    (
        "pair_control/destroyed",
        "A domain that is destroyed is gone at once, if nobody uses it.",
        |t| {
            let Puppet { domain, mailbox, channel } = Puppet::start(t.boot, t.grants, 1)?;
            mailbox.unmap()?;
            drop(channel);
            destroy(&domain)?;
            equal("left", remains(&domain), None)
        },
    ),
    (
        "pair_control/granted",
        "What is mapped by a grant outlives its domain, which is dying.",
        |t| {
            let Puppet { domain, mailbox, channel } = Puppet::start(t.boot, t.grants, 1)?;
            drop(channel);
            if let Some(words) = mailbox.words() {
                words[600].store(0x600d, Relaxed);
            }
            destroy(&domain)?;
            equal("left", remains(&domain), Some((true, 1)))?;
            equal("content", mailbox.load(600), 0x600d)?;
            mailbox.unmap()?;
            equal("left behind it", remains(&domain), None)
        },
    ),
    ("pair_control/foreign", "So does what is mapped by its frame.", |t| {
        let Puppet { domain, mailbox, channel } = Puppet::start(t.boot, t.grants, 1)?;
        let foreign = domain.map(window(2)?, first_spare(&mailbox))?;
        foreign.words()[5].store(0xabcd, Relaxed);
        mailbox.unmap()?;
        drop(channel);
        destroy(&domain)?;
        equal("left", remains(&domain), Some((true, 1)))?;
        equal("content", foreign.words()[5].load(Relaxed), 0xabcd)?;
        drop(foreign);
        equal("left behind it", remains(&domain), None)
    }),
    ("pair_control/several", "Each page that is in use stays until its last mapping goes.", |t| {
        let puppet = Puppet::start(t.boot, t.grants, 1)?;
        let (first, second) = (puppet.spare(0), puppet.spare(1));
        let lent = puppet.lend(9, first, DomId(0))?;
        let one = t.grants.map(window(2)?, lent, Access::WRITE)?;
        let again = t.grants.map(window(3)?, lent, Access::empty())?;
        let other = puppet.domain.map(window(4)?, second.frame)?;
        let Puppet { domain, mailbox, channel } = puppet;
        drop(channel);
        destroy(&domain)?;
        equal("left", remains(&domain), Some((true, 3)))?;
        mailbox.unmap()?;
        equal("left", remains(&domain), Some((true, 2)))?;
        one.unmap()?;
        equal("left", remains(&domain), Some((true, 2)))?;
        again.unmap()?;
        equal("left", remains(&domain), Some((true, 1)))?;
        drop(other);
        equal("left behind it", remains(&domain), None)
    }),
    (
        "pair_control/neighbour",
        "A third domain's mapping keeps it too, and its end ends that.",
        |t| {
            let owner = Puppet::start(t.boot, t.grants, 1)?;
            let user = Puppet::start(t.boot, t.grants, 2)?;
            let (page, window) = (owner.spare(0), user.spare(0));
            owner.ask(WRITE, &[page.address, 0x7777])?;
            owner.lend(9, page, user.domain.id())?;
            let number = Hypercall::GrantTableOp as u64;
            let wish = [window.address, 2 | 9 << 32, u64::from(owner.domain.id().0), 0];
            let (answer, after) = user.call(number, 0, wish)?;
            equal("answer", answer, 0)?;
            equal("status", after[2] >> 16 & 0xffff, 0)?;
            let Puppet { domain, mailbox, channel } = owner;
            mailbox.unmap()?;
            drop(channel);
            destroy(&domain)?;
            equal("left", remains(&domain), Some((true, 1)))?;
            equal("content there", user.ask(READ, &[window.address])?, 0x7777)?;
            let Puppet { domain: other, mailbox, channel } = user;
            mailbox.unmap()?;
            drop(channel);
            destroy(&other)?;
            equal("the third", remains(&other), None)?;
            equal("left behind it", remains(&domain), None)
        },
    ),
    ("pair_control/dying", "Of one that is dying, only what is mapped can be mapped.", |t| {
        let puppet = Puppet::start(t.boot, t.grants, 1)?;
        let lent = puppet.lend(9, puppet.spare(1), DomId(0))?;
        let Puppet { domain, mailbox, channel } = puppet;
        drop(channel);
        destroy(&domain)?;
        let refused = Channel::connect(domain.id(), PORT).err().map(|error| error.name());
        equal("bind", refused, Some("EINVAL"))?;
        let again = t.grants.map(window(2)?, peer(&domain, MAILBOX), Access::empty());
        equal("once more", again.is_ok(), true)?;
        drop(again);
        let idle = match t.grants.map(window(2)?, lent, Access::empty()) {
            Err(GrantError::Refused(refusal)) => refusal.name(),
            _ => "mapped",
        };
        equal("anew", idle, "GNTST_bad_page")?;
        let foreign = domain.map(window(3)?, first_spare(&mailbox));
        equal("by frame", foreign.is_ok(), false)?;
        drop(foreign);
        equal("unpause", domain.control(Plain::Unpause).is_ok(), false)?;
        mailbox.unmap()?;
        equal("left behind it", remains(&domain), None)
    }),
    ("pair_control/channel", "The ends of a destroyed domain's channels are unbound.", |t| {
        let Puppet { domain, mailbox, channel } = Puppet::start(t.boot, t.grants, 1)?;
        mailbox.unmap()?;
        channel.take_pending();
        destroy(&domain)?;
        equal("state", channel.status()?.state, State::Unbound(domain.id()))?;
        equal("pending", channel.is_pending(), false)?;
        equal("send", channel.send().is_ok(), true)?;
        equal("left", remains(&domain), None)
    }),
    ("pair_control/ports_for_it", "The control domain makes ports on behalf of another.", |t| {
        with(t, |puppet| {
            equal("port", puppet.domain.unbound()?, Port(4))?;
            let channel = Channel::connect(puppet.domain.id(), Port(4))?;
            let state = State::Interdomain(puppet.domain.id(), Port(4));
            equal("state", channel.status()?.state, state)
        })
    }),
    ("pair_control/lent_to_it", "What is lent to a domain that is destroyed is free again.", |t| {
        let puppet = Puppet::start(t.boot, t.grants, 1)?;
        let frame = Frame::new()?;
        let grant = t.grants.share(frame, puppet.domain.id(), Access::WRITE)?;
        let number = Hypercall::GrantTableOp as u64;
        let GrantRef(reference) = grant.reference();
        let wish = [puppet.spare(0).address, 2 | u64::from(reference) << 32, 0, 0];
        let (answer, after) = puppet.call(number, 0, wish)?;
        equal("answer", answer, 0)?;
        equal("status", after[2] >> 16 & 0xffff, 0)?;
        equal("in use", grant.is_used(), true)?;
        let Puppet { domain, mailbox, channel } = puppet;
        mailbox.unmap()?;
        drop(channel);
        destroy(&domain)?;
        equal("in use behind it", grant.is_used(), false)?;
        equal("taken back", grant.end().is_ok(), true)
    }),
];

/// Runs `body` with a puppet, and destroys it.
fn with(t: &Test<'_>, body: impl FnOnce(&Puppet) -> Outcome) -> Outcome {
    let puppet = Puppet::start(t.boot, t.grants, 1)?;
    let outcome = body(&puppet);
    let Puppet { domain, mailbox, channel } = puppet;
    mailbox.unmap()?;
    drop(channel);
    destroy(&domain)?;
    outcome?;
    equal("left", remains(&domain), None)
}

fn equal<T: Debug + PartialEq>(what: &str, seen: T, expected: T) -> Outcome {
    if seen == expected {
        return Ok(());
    }
    Err(Fault(format!("{what}: expected {expected:x?} seen {seen:x?}")))
}

/// The frame of the puppet's first page that nobody needs.
fn first_spare(mailbox: &Mapping) -> Mfn {
    let half = |index| u64::from(mailbox.load(index));
    Mfn(half(34) | half(35) << 32)
}
