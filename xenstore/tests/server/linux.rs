//! What xl asked when it made a domain, and what Linux asked in one, as xenstored of Xen 4.17 noted
//! it down: the same requests have the same errors and the same events in the same order.

use std::collections::VecDeque;

use hypercall_abi::xenstore as wire;
use xenstore::{Client, Store};

use crate::guest::{Guest, store};

/// A line: from the client or to it, the kind of message, its body with `|` for zero.
struct Line {
    is_request: bool,
    kind: u32,
    body: String,
}

fn lines(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let (way, rest) = line.split_once(' ').unwrap();
        let (name, body) = rest.split_once(' ').unwrap();
        let name = format!("XS_{name}");
        let kind = wire::KINDS.iter().find(|(one, _)| *one == name).unwrap().1;
        let body = body.strip_prefix('(').unwrap().strip_suffix(')').unwrap();
        Line { is_request: way == "IN", kind, body: body.replace(' ', "|") }
    };
    text.lines().map(line).collect()
}

/// Sends all requests. Those between a start and an end are within the transaction.
fn replay(store: &mut Store, client: &mut Guest, back_end: Client, lines: &[Line]) {
    let mut transaction = 0;
    let mut events = VecDeque::new();
    let mut lines = lines.iter().peekable();
    while let Some(line) = lines.next() {
        if line.kind == wire::WATCH_EVENT {
            if events.is_empty() {
                let (path, _) = line.body.split_once('|').unwrap();
                assert!(path.starts_with("/local/domain/0/backend/"), "no event: {}", line.body);
                store.write(back_end, path, b"2").unwrap();
                events.extend(client.events(store));
            }
            assert_eq!(events.pop_front().as_ref(), Some(&line.body));
            continue;
        }
        assert!(line.is_request, "an error without a request");
        let is_error = |line: &&Line| line.kind == wire::ERROR;
        let error = lines.next_if(|next| is_error(next)).map(|next| next.body.clone());
        let answer = client.ask(store, line.kind, transaction, &line.body);
        match (line.kind, error) {
            (_, Some(error)) => assert_eq!(answer, error, "{}", line.body),
            (wire::TRANSACTION_START, None) => {
                transaction = answer.trim_end_matches('|').parse().unwrap();
            }
            (kind, None) => {
                let is_name = answer.starts_with('E') && answer.ends_with('|');
                assert!(!is_name, "{kind} {}: {answer}", line.body);
                if kind == wire::TRANSACTION_END {
                    transaction = 0;
                }
            }
        }
        events.extend(client.events(store));
    }
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn linux_and_xl_get_what_xenstored_gave_them() {
    let (mut store, me) = store();
    for (path, value) in [
        ("/local/domain/0/name", "Domain-0"),
        ("/local/domain/0/domid", "0"),
        ("/local/pool/0/name", "Pool-0"),
        ("/vm", ""),
        ("/libxl", ""),
    ] {
        store.write(me, path, value.as_bytes()).unwrap();
    }
    let mut tools = Guest::new(&mut store, 0);
    replay(&mut store, &mut tools, me, &lines(include_str!("linux-toolstack.txt")));

    for (class, keys) in [
        (
            "vbd/2/51712",
            "max-ring-page-order multi-queue-max-queues sectors info sector-size \
             physical-sector-size feature-barrier feature-flush-cache feature-discard \
             discard-granularity discard-alignment discard-secure feature-persistent \
             feature-max-indirect-segments",
        ),
        (
            "vif/2/0",
            "feature-rx-copy multi-queue-max-queues feature-split-event-channels \
             feature-xdp-headroom feature-sg feature-ipv6-csum-offload feature-gso-tcpv4 \
             feature-gso-tcpv6",
        ),
    ] {
        for key in keys.split_whitespace() {
            store.write(me, &format!("/local/domain/0/backend/{class}/{key}"), b"1").unwrap();
        }
    }
    let mut guest = Guest::new(&mut store, 2);
    replay(&mut store, &mut guest, me, &lines(include_str!("linux-guest.txt")));
    assert_eq!(store.read(me, "/local/domain/2/device/vif/0/state").unwrap(), b"4");
    assert_eq!(store.perms(me, "/local/domain/2/device/vif/0/state").unwrap().owner(), 2);
    assert_eq!(store.read(me, "/local/domain/2/device/vbd/51712/ring-ref").unwrap(), b"8");
}
