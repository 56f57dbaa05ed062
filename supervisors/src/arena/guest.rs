//! A guest that runs as a domain, and what it says.

use core::sync::atomic::Ordering;

use pv_guest_sdk::control::{Domain, Foreign, Plain};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::paging::Page;
use pv_guest_sdk::println;
use toolstack::archive::File;
use toolstack::build::{self, Settings};
use toolstack::end::End;
use toolstack::lines::Lines;

use crate::Outcome;

/// Where frames of domains are mapped.
const WINDOW: u64 = 0xffff_a000_0000_0000;
/// Each domain's memory: 16 MiB. Unit: pages.
const PAGES: u64 = 4096;
const VCPUS: u32 = 4;
/// The word of a slate that has the number of calls made.
const CALLS: usize = 0;

/// See the module.
pub(crate) struct Guest {
    pub(crate) domain: Domain,
    /// Its console's ring, until it has ended.
    console: Option<Foreign>,
    pub(crate) channel: Channel,
    lines: Lines,
    /// Lines that are still to be shown.
    shown: u32,
    /// The page by which it tells numbers, until it has ended.
    slate: Option<Foreign>,
    /// How it ended, if it has.
    pub(crate) end: Option<End>,
    /// How many calls it had made when it was destroyed.
    calls: Option<u32>,
}

/// The page of a window, by its number.
pub(crate) fn window(number: u64) -> Outcome<Page> {
    Ok(Page::at(WINDOW + number * 4096).ok_or("no page")?)
}

impl Guest {
    /// Builds a domain, paused, whose console is mapped in a window of its own, and of which
    /// so many lines are shown.
    pub(crate) fn start(
        file: File<'_>,
        command_line: &str,
        place: u64,
        shown: u32,
    ) -> Outcome<Self> {
        let settings =
            Settings { image: file.bytes, ramdisk: &[], command_line, pages: PAGES, vcpus: VCPUS };
        let built = build::domain(&settings, window(0)?)?;
        let console = Some(built.domain.map(window(place)?, built.console)?);
        let channel = Channel::connect(built.domain.id(), built.console_port)?;
        channel.mask();
        let slate = Some(built.domain.map(window(place + 16)?, built.store)?);
        Ok(Self {
            domain: built.domain,
            console,
            channel,
            lines: Lines::default(),
            shown,
            slate,
            end: None,
            calls: None,
        })
    }

    pub(crate) fn id(&self) -> u16 {
        self.domain.id().0
    }

    /// How many calls it has made.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.unwrap_or_else(|| self.word(CALLS))
    }

    /// A word of its slate.
    pub(crate) fn word(&self, word: usize) -> u32 {
        let place = self.slate.as_ref().and_then(|page| page.words().get(2 * word));
        place.map_or(0, |it| it.load(Ordering::Relaxed))
    }

    /// Writes a word of its slate.
    pub(crate) fn set(&self, word: usize, value: u32) {
        if let Some(place) = self.slate.as_ref().and_then(|page| page.words().get(2 * word)) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// Shows what it has said, and notes whether it has ended.
    pub(crate) fn look(&mut self) -> Outcome<()> {
        if self.calls.is_some() {
            return Ok(());
        }
        self.channel.take_pending();
        let end = End::of(&self.domain.info()?);
        let mut text = [0; 512];
        // A guest may write faster than this one reads.
        for _ in 0..64 {
            let taken = self.console.as_ref().map_or(0, |it| it.console().take(&mut text));
            if taken == 0 {
                break;
            }
            let text = text.get(..taken).unwrap_or_default();
            let shown = &mut self.shown;
            self.lines.feed(text, |line| {
                if *shown != 0 {
                    *shown -= 1;
                    println!("    {line}");
                }
            });
            // One that waits for room goes on.
            let _is_gone = self.channel.send();
        }
        self.end = end;
        Ok(())
    }

    /// Destroys it, unless that was done, and makes sure that nothing is left of it.
    pub(crate) fn bury(&mut self) -> Outcome<()> {
        if self.calls.is_some() {
            return Ok(());
        }
        self.calls = Some(self.calls());
        // A frame that is mapped would keep what is left of the domain.
        (self.console, self.slate) = (None, None);
        self.domain.control(Plain::Destroy)?;
        Ok(())
    }
}
