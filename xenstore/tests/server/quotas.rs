//! Limits: each is reached, refuses, and is free again.

use hypercall_abi::xenstore as wire;
use xenstore::{Access, Error, Perms, Quotas};

use crate::guest::{Guest, home, message, store, store_with};

#[test]
fn nodes_belong_to_their_owner() {
    let (mut store, me) = store_with(Quotas { nodes: 5, ..Quotas::default() });
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    let mut write = |store: &mut _, path: &str| guest.ask(store, wire::WRITE, 0, path);
    assert_eq!(write(&mut store, "data/a/b/c|1"), "OK|", "with `data` four");
    let before = store.dump();
    assert_eq!(write(&mut store, "data/x/y|1"), "ENOSPC|");
    assert_eq!(store.dump(), before, "not even one of the two");
    assert_eq!(write(&mut store, "data/x|1"), "OK|");
    assert_eq!(write(&mut store, "data/y|1"), "ENOSPC|");
    assert_eq!(write(&mut store, "data/x|2"), "OK|", "no new one");
    store.write(me, "/local/domain/3/data/y", b"1").unwrap();
    store.rm(me, "/local/domain/3/data/y").unwrap();
    store.rm(me, "/local/domain/3/data/a").unwrap();
    assert_eq!(write(&mut store, "data/y|1"), "OK|");
    store.gone(3);
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    assert_eq!(guest.ask(&mut store, wire::WRITE, 0, "data/a/b/c/d|1"), "OK|");
}

#[test]
fn nodes_count_within_a_transaction_and_when_it_is_kept() {
    let (mut store, me) = store_with(Quotas { nodes: 3, ..Quotas::default() });
    home(&mut store, me, 3);
    let guest = store.connect(3);
    let one = store.start(guest).unwrap();
    store.write(one, "data/a", b"1").unwrap();
    store.write(one, "data/b", b"1").unwrap();
    assert_eq!(store.write(one, "data/c", b"1"), Err(Error::Enospc));
    store.rm(one, "data/b").unwrap();
    store.write(one, "data/c", b"1").unwrap();
    store.write(me, "/elsewhere", b"1").unwrap();
    store.set_perms(me, "/elsewhere", &Perms::new(3, Access::NONE)).unwrap();
    assert_eq!(store.commit(one), Err(Error::Enospc), "another node came meanwhile");
    store.rm(me, "/elsewhere").unwrap();
    let one = store.start(guest).unwrap();
    store.write(one, "data/a/b", b"1").unwrap();
    assert_eq!(store.commit(one), Ok(()));
}

#[test]
fn a_node_is_only_so_large() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let guest = store.connect(3);
    // A record's header and one permission are 32 bytes.
    store.write(guest, "data/x", &[0; 2015]).unwrap();
    assert_eq!(store.write(guest, "data/x", &[0; 2016]), Err(Error::Enospc));
    assert_eq!(store.write(guest, "data/y", &[0; 2016]), Err(Error::Enospc));
    let perms = Perms::new(3, Access::NONE).with(0, Access::READ);
    assert_eq!(store.set_perms(guest, "data/x", &perms), Err(Error::Enospc));
    store.write(me, "/local/domain/3/data/x", &[0; 4000]).unwrap();
    // Names of children count for the node above.
    let name = "n".repeat(199);
    for number in 0..10 {
        store.mkdir(guest, &format!("data/{number}{name}")).unwrap();
    }
    assert_eq!(store.mkdir(guest, &format!("data/x{name}")), Err(Error::Enospc));
}

#[test]
fn paths_are_only_so_long_and_deep() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let guest = store.connect(3);
    let long = "d".repeat(2049 - "data/".len());
    assert_eq!(store.read(guest, &format!("data/{long}")), Err(Error::Einval));
    assert_eq!(store.read(guest, &format!("data/{}", &long[1..])), Err(Error::Enoent));
    assert_eq!(store.read(me, &format!("/local/domain/3/data/{long}")), Err(Error::Enoent));
    let deep = |parts: usize| format!("data{}", "/d".repeat(parts));
    assert_eq!(store.mkdir(guest, &deep(256)), Err(Error::Einval));
    assert_eq!(store.mkdir(guest, &deep(200)), Ok(()));
    assert_eq!(store.rm(guest, "data/d"), Ok(()));
}

#[test]
fn watches_and_transactions() {
    let quotas = Quotas { watches: 2, transactions: 2, ..Quotas::default() };
    let (mut store, me) = store_with(quotas);
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    for token in ["a", "b", "c"] {
        assert_eq!(guest.ask(&mut store, wire::WATCH, 0, &format!("data|{token}|")), "OK|");
    }
    assert_eq!(guest.ask(&mut store, wire::WATCH, 0, "data|d|"), "E2BIG|");
    assert_eq!(guest.ask(&mut store, wire::UNWATCH, 0, "data|a|"), "OK|");
    assert_eq!(guest.ask(&mut store, wire::WATCH, 0, "data|d|"), "OK|");
    let mut start = |store: &mut _| guest.ask(store, wire::TRANSACTION_START, 0, "|");
    let first = start(&mut store);
    assert_ne!((start(&mut store), start(&mut store)), (first.clone(), first.clone()));
    assert_eq!(start(&mut store), "ENOSPC|");
    let first: u32 = first.trim_end_matches('|').parse().unwrap();
    assert_eq!(guest.ask(&mut store, wire::TRANSACTION_END, first, "F|"), "OK|");
    assert_ne!(guest.ask(&mut store, wire::TRANSACTION_START, 0, "|"), "ENOSPC|");
    for _ in 0..20 {
        store.start(me).unwrap();
    }
}

#[test]
fn a_transaction_is_only_so_large() {
    let quotas = Quotas { accessed: 8, memory: 20_000, ..Quotas::default() };
    let (mut store, me) = store_with(quotas);
    home(&mut store, me, 3);
    let guest = store.connect(3);
    let one = store.start(guest).unwrap();
    let looks = (0..20).map(|number| store.read(one, &format!("data/{number}")));
    assert!(looks.collect::<Vec<_>>().contains(&Err(Error::Enospc)));
    assert_eq!(store.commit(one), Err(Error::Enospc), "its answers are not all true");
    let starts: Vec<_> = (0..3).map(|_| store.start(guest).unwrap()).collect();
    let mut write =
        |place: usize| store.write(starts[place / 6], &format!("data/{place}"), &[0; 2000]);
    let wrote: Vec<_> = (0..18).map(&mut write).collect();
    assert!(wrote.contains(&Err(Error::Enomem)), "{wrote:?}");
    assert_eq!(wrote[0], Ok(()));
}

#[test]
fn nodes_and_what_is_open_share_one_limit() {
    let (mut store, me) = store_with(Quotas { memory: 20_000, ..Quotas::default() });
    home(&mut store, me, 3);
    let guest = store.connect(3);
    let mut last = Ok(());
    let place = |number: usize| format!("data/{number}");
    let count = (0..100).take_while(|&number| {
        last = store.write(guest, &place(number), &[0; 1000]);
        last.is_ok()
    });
    let count = count.count();
    assert_eq!((count, last), (18, Err(Error::Enomem)), "and 18 paths");
    assert_eq!(store.write(guest, "data/0", &[0; 2000]), Err(Error::Enomem));
    assert_eq!(store.write(guest, "data/0", &[1; 1000]), Ok(()), "no more than was there");
    assert_eq!(store.watch(guest, "data", &[b't'; 2000]), Err(Error::Enomem));
    store.rm(guest, "data/1").unwrap();
    // What a transaction holds is not free for nodes, and what it has made counts when it is kept.
    let held = store.start(guest).unwrap();
    store.write(held, "data/1", &[0; 900]).unwrap();
    assert_eq!(store.write(guest, "data/2", &[0; 1900]), Err(Error::Enomem));
    store.commit(held).unwrap();
    assert_eq!(store.write(guest, "data/2", &[0; 1900]), Ok(()));
    assert_eq!(store.write(guest, "data/1", &[0; 1500]), Err(Error::Enomem));
    let rows = (4..8).fold(Perms::new(3, Access::NONE), |rows, id| rows.with(id, Access::READ));
    let set = (0..count).find_map(|number| store.set_perms(guest, &place(number), &rows).err());
    assert_eq!(set, Some(Error::Enomem));
    store.gone(3);
    home(&mut store, me, 3);
    let guest = store.connect(3);
    assert_eq!(store.write(guest, "data/0", &[0; 2000]), Ok(()), "all of it is free again");
}

#[test]
fn a_domain_that_does_not_read_stops_being_heard() {
    let (mut store, me) = store_with(Quotas { answers: 3, ..Quotas::default() });
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    let read = message(wire::READ, 0, 0, b"name\0");
    for _ in 0..3 {
        assert_eq!(guest.connection.receive(&read), read.len());
        assert_eq!(guest.connection.handle(&mut store), Ok(true));
    }
    assert_eq!(guest.connection.receive(&read), read.len());
    assert_eq!(guest.connection.receive(&read), 0, "one request waits, and no more");
    assert_eq!(guest.connection.handle(&mut store), Ok(false));
    assert_eq!(guest.output(&mut store).len(), 3);
    assert_eq!(guest.connection.handle(&mut store), Ok(true));
}

#[test]
fn events_that_find_no_room_are_made_up_for() {
    let (mut store, me) = store_with(Quotas { events: 2000, ..Quotas::default() });
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    assert_eq!(guest.ask(&mut store, wire::WATCH, 0, "data|one|"), "OK|");
    assert_eq!(guest.ask(&mut store, wire::WATCH, 0, "data|two|"), "OK|");
    guest.events(&mut store);
    for number in 0..10_000 {
        store.write(me, &format!("/local/domain/3/data/{number}"), b"1").unwrap();
    }
    store.write(me, "/local/domain/3/data/0", b"2").unwrap();
    let events = guest.events(&mut store);
    assert!((4..100).contains(&events.len()), "{}", events.len());
    assert_eq!(events[0], "data/0|one|");
    for token in ["one", "two"] {
        let missed = format!("data|{token}|");
        assert_eq!(events.iter().filter(|event| **event == missed).count(), 1, "{token}");
    }
    // Room again: nothing is made up for twice.
    store.write(me, "/local/domain/3/data/0", b"3").unwrap();
    assert_eq!(guest.events(&mut store), ["data/0|one|", "data/0|two|"]);
}

#[test]
fn a_watch_that_has_missed_an_event_has_one_for_all_that_follow() {
    let (mut store, me) = store_with(Quotas { events: 2000, ..Quotas::default() });
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    assert_eq!(guest.ask(&mut store, wire::WATCH, 0, "data|t|"), "OK|");
    guest.events(&mut store);
    for letter in ["a", "b", "c", "d"] {
        let path = format!("/local/domain/3/data/{}", letter.repeat(700));
        store.write(me, &path, b"1").unwrap();
    }
    store.write(me, "/local/domain/3/data/e", b"fits").unwrap();
    let events = guest.events(&mut store);
    let lengths: Vec<_> = events.iter().map(String::len).collect();
    assert_eq!(lengths, [708, 708, 7], "{events:?}");
    assert_eq!(events[2], "data|t|");
}

#[test]
fn an_event_that_waits_stands_for_the_next_one() {
    let (mut store, me) = store();
    store.watch(me, "/a", b"t").unwrap();
    for _ in 0..1000 {
        store.write(me, "/a", b"1").unwrap();
    }
    assert_eq!(store.take_events(me).len(), 1);
    store.write(me, "/a", b"1").unwrap();
    assert_eq!(store.take_events(me).len(), 1);
}

#[test]
fn an_event_too_long_for_a_message_names_what_is_watched() {
    let (mut store, me) = store();
    let mut tools = Guest::new(&mut store, 0);
    let token = "t".repeat(4000);
    assert_eq!(tools.ask(&mut store, wire::WATCH, 0, &format!("/a|{token}|")), "OK|");
    tools.events(&mut store);
    store.write(me, &format!("/a/{}", "b".repeat(200)), b"1").unwrap();
    assert_eq!(tools.events(&mut store), [format!("/a|{token}|")]);
}

#[test]
fn what_there_is_is_counted_and_gone_with_its_owner() {
    let (mut store, me) = store();
    let before = store.counts();
    home(&mut store, me, 3);
    let placed = store.counts();
    assert!(placed.nodes > before.nodes);
    store.introduce(me, 3, 1, 1).unwrap();
    let guest = store.connect(3);
    store.watch(guest, "data", b"x").unwrap();
    store.start(guest).unwrap();
    store.write(guest, "data/a/b", b"1").unwrap();
    let counts = store.counts();
    assert_eq!(counts.nodes, placed.nodes + 2);
    assert_eq!((counts.clients, counts.watches), (before.clients + 1, before.watches + 1));
    assert_eq!((counts.transactions, counts.domains), (1, before.domains + 1));
    store.disconnect(guest);
    store.gone(3);
    let after = store.counts();
    assert_eq!((after.clients, after.watches), (before.clients, before.watches));
    assert_eq!((after.transactions, after.domains), (0, before.domains));
    assert_eq!(after.nodes, placed.nodes - 1, "its own place is the tools' to remove");
}
