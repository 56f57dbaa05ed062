//! What `test` has beyond `check`: parts, two of which run at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::block;
use crate::gdb;
use crate::image;
use crate::kv;
use crate::network;
use crate::new_guest;
use crate::options::TestOptions;
use crate::run::Builder;
use crate::servers;
use crate::steps::Steps;
use crate::stock;
use crate::sweep;
use crate::test;
use crate::trace;
use crate::workspace::Workspace;
use crate::xen_linux;

/// Steps that run one after the other, and share no folder that one of them writes with another part.
type Part = fn(&Workspace, &mut Builder<'_>, &TestOptions, &mut Steps);

/// All of them, in the order in which they are begun: long ones first, so that none is left alone at the end.
const PARTS: [Part; 19] = [
    test::guests,
    stock::test,
    |_, _, options, steps| test::cases(options, steps),
    |workspace, _, options, steps| test::random(workspace, options, steps),
    block::faults::test,
    network::test,
    test::hostile,
    image::test,
    servers::test,
    |workspace, builder, options, steps| {
        new_guest::test(workspace, builder, &options.machine, steps);
    },
    block::test,
    kv::test,
    sweep::test,
    test::crowd,
    |workspace, builder, options, steps| gdb::test(workspace, builder, &options.machine, steps),
    xen_linux::served::test,
    test::shares,
    test::ruled,
    |workspace, builder, options, steps| trace::test(workspace, builder, &options.machine, steps),
];

/// How many run at a time: an emulated machine is mostly one thread, and waits now and then.
const LANES: usize = 2;

/// Runs all parts.
pub(crate) fn all(workspace: &Workspace, options: &TestOptions, steps: &mut Steps) {
    let begun = AtomicUsize::new(0);
    let lane = |mut own: Steps| {
        let mut builder = Builder::new(workspace, options.machine.route);
        while let Some(part) = PARTS.get(begun.fetch_add(1, Ordering::Relaxed)) {
            part(workspace, &mut builder, options, &mut own);
        }
        own
    };
    let done = thread::scope(|scope| {
        let lanes = [(); LANES].map(|()| {
            let own = steps.alike();
            scope.spawn(|| lane(own))
        });
        lanes.map(thread::ScopedJoinHandle::join)
    });
    for lane in done {
        match lane {
            Ok(own) => steps.join(own),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
