//! The store's ring, byte by byte.

use alloc::string::String;
use alloc::vec::Vec;

use hostile::raw::memory::{peek, put_bytes};
use hostile::raw::{Store, store};
use hypercall_abi::layout::MACH2PHYS_VIRT_START;
use hypercall_abi::types::Port;
use hypercall_abi::xenstore::{ERROR, Header, RING_SIZE, Ring, WATCH_EVENT};
use pv_guest_sdk::event::port::send;
use pv_guest_sdk::time::{Duration, sleep};
use pv_guest_sdk::{BootInfo, Machine};
use zerocopy::{FromBytes, IntoBytes};

use crate::Outcome;

/// The words of the ring's page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum Word {
    Asked = core::mem::offset_of!(Ring, req_prod),
    Taken = core::mem::offset_of!(Ring, req_cons),
    Answered = core::mem::offset_of!(Ring, rsp_prod),
    Read = core::mem::offset_of!(Ring, rsp_cons),
    Connection = core::mem::offset_of!(Ring, connection),
    Error = core::mem::offset_of!(Ring, error),
}

/// An answer: its number, and what is in it or the error's name.
pub(crate) type Answer = (u32, Result<Vec<u8>, String>);

/// The ring, which nobody else in this guest uses.
pub(crate) struct Wire {
    page: u64,
    port: Port,
    /// The number of the last request.
    pub(crate) last: u32,
    /// Events that came.
    pub(crate) events: u32,
}

impl Wire {
    pub(crate) fn new(boot: &BootInfo<'_>) -> Self {
        let start = boot.start_info();
        let page = peek(MACH2PHYS_VIRT_START + 8 * start.store_mfn.0);
        let page = 0xffff_ffff_8000_0000 + (page << 12);
        Self { page, port: start.store_evtchn, last: 0, events: 0 }
    }

    pub(crate) fn get(&self, word: Word) -> u32 {
        let at = self.page + word as u64;
        let [low, high] = [0, 32].map(|shift| peek(at & !7) >> shift & 0xffff_ffff);
        u32::try_from(if at.is_multiple_of(8) { low } else { high }).unwrap_or(0)
    }

    pub(crate) fn set(&self, word: Word, value: u32) {
        store(self.page + word as u64, value.into(), Store::Half);
    }

    /// Rings the bell.
    pub(crate) fn ring(&self) -> Outcome {
        Ok(send(&Machine, self.port)?)
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Puts bytes, as far as there is room, and says how many that was.
    pub(crate) fn put(&self, bytes: &[u8]) -> Outcome<usize> {
        let (asked, taken) = (self.get(Word::Asked), self.get(Word::Taken));
        let room = RING_SIZE.saturating_sub(asked.wrapping_sub(taken));
        let mut index = asked;
        for byte in bytes.iter().take(room as usize) {
            put_bytes(self.page + u64::from(index % RING_SIZE), core::slice::from_ref(byte));
            index = index.wrapping_add(1);
        }
        self.set(Word::Asked, index);
        self.ring()?;
        Ok(bytes.len().min(room as usize))
    }

    /// Puts all of some bytes.
    pub(crate) async fn put_all(&self, mut bytes: &[u8]) -> Outcome {
        while !bytes.is_empty() {
            let done = self.put(bytes)?;
            bytes = bytes.get(done..).unwrap_or_default();
            if done == 0 {
                // The store may have made room since: what it has taken is no sign.
                let used = |it: &Self| it.get(Word::Asked).wrapping_sub(it.get(Word::Taken));
                self.until(|it| used(it) < RING_SIZE).await;
            }
        }
        Ok(())
    }

    /// Takes so many bytes.
    async fn take(&self, count: usize) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let read = self.get(Word::Read);
            self.until(|it| it.get(Word::Answered) != read).await;
            let word = peek(self.page + ((1024 + u64::from(read % RING_SIZE)) & !7));
            bytes.push(word.to_le_bytes()[read as usize % 8]);
            self.set(Word::Read, read.wrapping_add(1));
            if bytes.len().is_multiple_of(64) || bytes.len() == count {
                self.ring()?;
            }
        }
        Ok(bytes)
    }

    /// The next message but for events, which are counted.
    pub(crate) async fn answer(&mut self) -> Outcome<Answer> {
        loop {
            let header = self.take(size_of::<Header>()).await?;
            let header = Header::read_from_bytes(&header).map_err(|_| "a short header")?;
            let body = self.take(usize::try_from(header.len)?).await?;
            match header.kind {
                WATCH_EVENT => self.events += 1,
                ERROR => {
                    let name = body.strip_suffix(b"\0").unwrap_or(&body);
                    return Ok((header.req_id, Err(String::from_utf8_lossy(name).into_owned())));
                }
                _ => return Ok((header.req_id, Ok(body))),
            }
        }
    }

    /// A message, with a number of its own.
    pub(crate) fn message(&mut self, kind: u32, tx_id: u32, body: &[u8]) -> Outcome<Vec<u8>> {
        self.last += 1;
        let len = u32::try_from(body.len())?;
        let header = Header { kind, req_id: self.last, tx_id, len };
        Ok([header.as_bytes(), body].concat())
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(
        &mut self,
        kind: u32,
        tx_id: u32,
        body: &[u8],
    ) -> Outcome<Result<Vec<u8>, String>> {
        let message = self.message(kind, tx_id, body)?;
        self.put_all(&message).await?;
        let (id, answer) = self.answer().await?;
        crate::same("the answer's number", id, self.last)?;
        Ok(answer)
    }

    /// Has the connection made anew, after it was broken.
    pub(crate) async fn reconnect(&mut self) -> Outcome {
        self.set(Word::Connection, 1);
        self.ring()?;
        self.until(|it| it.get(Word::Connection) == 0).await;
        Ok(())
    }
}
