//! Nodes with garbage in them, and states in wrong orders.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use hostile::random::Random;
use hypercall_abi::types::{DomId, VcpuId};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::xenbus::State;

use crate::Outcome;
use crate::front::Front;

/// Connections that are right but for one node.
pub(crate) async fn garbage(front: &Front) -> Outcome {
    let own = Channel::ipi(VcpuId(0))?;
    let foreign = Channel::unbound(DomId(0x7fe0))?;
    let ports = [&own, &foreign].map(|channel| channel.port().0.to_string().into_bytes());
    let mut rows: Vec<(&'static str, Option<Vec<u8>>)> = Vec::new();
    let numbers: [&[u8]; 9] =
        [b"", b"abc", b"-1", b"+1", b" 8", b"8 ", b"4294967296", b"\xff\xfe", b"8\0"];
    for name in ["ring-ref", "event-channel", "ring-page-order", "num-ring-pages"] {
        rows.extend(numbers.iter().map(|value| (name, Some(value.to_vec()))));
        rows.push((name, Some(vec![b'9'; 1500])));
    }
    rows.extend([("ring-ref", None), ("event-channel", None)]);
    let more: [(&str, &[&[u8]]); 6] = [
        // Reserved, never used, behind the table, the last that there can be.
        ("ring-ref", &[b"5", b"2047", b"2048", b"4294967295"]),
        ("event-channel", &[b"0", b"4095", b"4096", b"131072", b"4294967295"]),
        ("protocol", &[b"", b"x86_32-abi", b"x86_64-abi ", b"\0", b"x86_64-abi\0"]),
        ("ring-page-order", &[b"1", b"4", b"5", b"31", b"32", b"4294967295"]),
        ("num-ring-pages", &[b"0", b"2", b"3", b"32", b"2147483648"]),
        ("feature-persistent", &[b"", b"yes", b"-1"]),
    ];
    for (name, values) in more {
        rows.extend(values.iter().map(|value| (name, Some(value.to_vec()))));
    }
    rows.extend(ports.map(|port| ("event-channel", Some(port))));
    for (name, value) in rows {
        let (ring, channel) = front.ring()?;
        let mut said = front.right(&ring, &channel, false);
        said.retain(|(other, _)| *other != name);
        said.push((name, value.clone()));
        front.publish(&said, State::Initialised).await?;
        let state = front.back(&[State::Closed, State::Connected]).await?;
        if state == State::Connected {
            let value = value.map(|value| value.escape_ascii().to_string());
            return Err(format!("{name} = {value:?} was believed").into());
        }
        front.reset().await?;
    }
    Ok(())
}

/// States in orders that no front end has; then any that there are, as fast as it goes.
pub(crate) async fn orders(front: &Front) -> Outcome {
    use State::{Closed, Closing, InitWait};
    // Nothing says where a ring is.
    for name in ["ring-ref", "event-channel"] {
        front.say(name, b"").await?;
    }
    let rows: [(&[&str], State); 8] = [
        (&["4"], Closed),
        (&["3"], Closed),
        (&["5"], Closing),
        (&["6"], Closed),
        (&["2", "7", "8", "9", "0", "", "abc", "-4", "4 ", "99999999999999999999"], InitWait),
        (&["7", "4"], Closed),
        (&["5", "4"], Closed),
        (&["4", "1"], InitWait),
    ];
    for (states, end) in rows {
        for state in states {
            front.say("state", state.as_bytes()).await?;
        }
        front.back(&[end]).await?;
        front.reset().await?;
    }
    let mut random = Random::new(7);
    for _ in 0..300 {
        let state = random.of(["0", "1", "2", "3", "4", "5", "6", "7", "8", "x"]);
        front.say("state", state.as_bytes()).await?;
    }
    front.reset().await
}
