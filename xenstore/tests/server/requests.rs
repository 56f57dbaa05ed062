//! Every kind of request, as a domain and as the privileged domain send them: answers, errors and
//! events are xenstored's.

use crate::guest::{Guest, home, store};
use hypercall_abi::xenstore as wire;
use xenstore::{Access, Error, Notice, Perms};

#[test]
fn a_domain_in_its_place() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    let mut ask = |kind, body: &str| guest.ask(&mut store, kind, 0, body);
    for (kind, body, answer) in [
        (wire::READ, "name|", "guest"),
        (wire::READ, "/local/domain/3/name|", "guest"),
        (wire::DIRECTORY, "/local/domain/3|", "name|data|"),
        (wire::WRITE, "data/a|1|2", "OK|"),
        (wire::READ, "data/a|", "1|2"),
        (wire::WRITE, "data/a|", "OK|"),
        (wire::READ, "data/a|", ""),
        (wire::WRITE, "data/deep/er|x", "OK|"),
        (wire::READ, "data/deep|", ""),
        (wire::MKDIR, "data/deep/er|", "OK|"),
        (wire::READ, "data/deep/er|", "x"),
        (wire::MKDIR, "data/m|", "OK|"),
        (wire::DIRECTORY, "data|", "a|deep|m|"),
        (wire::GET_PERMS, "data/deep/er|", "n3|"),
        (wire::GET_PERMS, "/local/domain/3|", "n0|r3|"),
        (wire::SET_PERMS, "data/a|b3|w0|", "OK|"),
        (wire::GET_PERMS, "data/a|", "b3|w0|"),
        (wire::RM, "data/deep|", "OK|"),
        (wire::RM, "data/deep|", "OK|"),
        (wire::DIRECTORY, "data|", "a|m|"),
        (wire::GET_DOMAIN_PATH, "12|", "/local/domain/12|"),
    ] {
        assert_eq!(ask(kind, body), answer, "{kind} {body}");
    }
}

#[test]
fn what_a_domain_is_refused() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    let mut ask = |kind, body: &str| guest.ask(&mut store, kind, 0, body);
    for (kind, body, answer) in [
        (wire::WRITE, "name|x", "EACCES|"),
        (wire::WRITE, "new|x", "EACCES|"),
        (wire::READ, "new|", "ENOENT|"),
        (wire::READ, "data/no|", "ENOENT|"),
        (wire::READ, "/vm|", "EACCES|"),
        (wire::READ, "/local/domain/4/name|", "EACCES|"),
        (wire::RM, "data/no/no|", "ENOENT|"),
        (wire::RM, "name|", "EACCES|"),
        (wire::RM, "/|", "EACCES|"),
        (wire::SET_PERMS, "/local/domain/3|n3|", "EACCES|"),
        (wire::SET_PERMS, "data|n4|", "EPERM|"),
        (wire::SET_PERMS, "data|n3|r1|r2|r4|r5|", "OK|"),
        (wire::SET_PERMS, "data|n3|r1|r2|r4|r5|r6|", "ENOSPC|"),
        (wire::SET_PERMS, "data|", "EINVAL|"),
        (wire::SET_PERMS, "data|x3|", "EINVAL|"),
        (wire::READ, "data", "EINVAL|"),
        (wire::READ, "data|x", "EINVAL|"),
        (wire::READ, "", "EINVAL|"),
        (wire::READ, "|", "EINVAL|"),
        (wire::READ, "data/|", "EINVAL|"),
        (wire::READ, "data//a|", "EINVAL|"),
        (wire::READ, "data/a.b|", "EINVAL|"),
        (wire::WRITE, "data/a", "EINVAL|"),
        (wire::WRITE, "@x|y", "EINVAL|"),
        (wire::INTRODUCE, "4|1|1|", "EACCES|"),
        (wire::RELEASE, "4|", "EACCES|"),
        (wire::RESUME, "4|", "EACCES|"),
        (wire::IS_DOMAIN_INTRODUCED, "4|", "EACCES|"),
        (wire::SET_TARGET, "4|3|", "EACCES|"),
        (wire::CONTROL, "help|", "EACCES|"),
        (wire::WATCH_EVENT, "a|b|", "ENOSYS|"),
        (wire::ERROR, "a|b|", "ENOSYS|"),
        (20, "a|", "ENOSYS|"),
        (23, "a|", "ENOSYS|"),
        (u32::MAX, "", "ENOSYS|"),
    ] {
        assert_eq!(ask(kind, body), answer, "{kind} {body}");
    }
}

#[test]
fn the_privileged_domain() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    store.take_notices();
    let mut tools = Guest::new(&mut store, 0);
    let mut ask = |kind, body: &str| tools.ask(&mut store, kind, 0, body);
    for (kind, body, answer) in [
        (wire::WRITE, "domid|0", "OK|"),
        (wire::READ, "/local/domain/0/domid|", "0"),
        (wire::GET_PERMS, "/local/domain/0/domid|", "n0|"),
        (wire::WRITE, "/local/domain/3/data/x|1", "OK|"),
        (wire::GET_PERMS, "/local/domain/3/data/x|", "n3|"),
        (wire::SET_PERMS, "/local/domain/3/data/x|n7|", "OK|"),
        (wire::RM, "/|", "EINVAL|"),
        (wire::RM, "/libxl/2/device/vbd|", "ENOENT|"),
        (wire::IS_DOMAIN_INTRODUCED, "3|", "T|"),
        (wire::IS_DOMAIN_INTRODUCED, "4|", "F|"),
        (wire::IS_DOMAIN_INTRODUCED, "32752|", "T|"),
        (wire::INTRODUCE, "4|4660|9|", "OK|"),
        (wire::INTRODUCE, "4|4660|", "EINVAL|"),
        (wire::INTRODUCE, "4|4660|0|", "EINVAL|"),
        (wire::IS_DOMAIN_INTRODUCED, "4|", "T|"),
        (wire::SET_TARGET, "4|3|", "OK|"),
        (wire::SET_TARGET, "4|5|", "ENOENT|"),
        (wire::RESUME, "4|", "OK|"),
        (wire::RESUME, "0|", "EINVAL|"),
        (wire::RELEASE, "0|", "EINVAL|"),
        (wire::RELEASE, "5|", "ENOENT|"),
        (wire::RELEASE, "4|", "OK|"),
        (wire::IS_DOMAIN_INTRODUCED, "4|", "F|"),
        (wire::CONTROL, "check|", "OK|"),
        (wire::CONTROL, "help|", "check|help|quota|"),
        (wire::CONTROL, "quota|5|", "ENOENT|"),
        (wire::CONTROL, "nonsense|", "EINVAL|"),
        (wire::SET_PERMS, "@nothing|n0|", "EINVAL|"),
        (wire::SET_PERMS, "@releaseDomain|n0|r3|", "OK|"),
        (wire::GET_PERMS, "@releaseDomain|", "n0|r3|"),
        (wire::GET_PERMS, "@introduceDomain|", "n0|"),
    ] {
        assert_eq!(ask(kind, body), answer, "{kind} {body}");
    }
    assert!(ask(wire::CONTROL, "quota|3|").contains("nodes           :        1\n"));
    let introduced = Notice::Introduced { domid: 4, frame: 4660, port: 9 };
    assert_eq!(store.take_notices(), [introduced, Notice::Released(4)]);
}

#[test]
fn a_target_is_acted_for() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    home(&mut store, me, 4);
    let mut helper = Guest::new(&mut store, 4);
    let write = |helper: &mut Guest, store: &mut xenstore::Store| {
        helper.ask(store, wire::WRITE, 0, "/local/domain/3/data/x|1")
    };
    assert_eq!(write(&mut helper, &mut store), "EACCES|");
    store.set_target(me, 4, 3).unwrap();
    assert_eq!(write(&mut helper, &mut store), "OK|");
    assert_eq!(store.perms(me, "/local/domain/3/data/x").unwrap().owner(), 4);
    store.gone(3);
    home(&mut store, me, 3);
    assert_eq!(write(&mut helper, &mut store), "EACCES|", "a new domain of the same number");
}

#[test]
fn watches_fire_for_what_is_below_and_in_the_form_they_were_set() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    assert_eq!(guest.ask(&mut store, wire::WATCH, 0, "data|rel|"), "OK|");
    assert_eq!(guest.events(&mut store), ["data|rel|"]);
    assert_eq!(guest.ask(&mut store, wire::WATCH, 0, "data|rel|"), "EEXIST|");
    assert_eq!(guest.ask(&mut store, wire::WATCH, 99, "/local/domain/3/data/x|abs|"), "OK|");
    assert_eq!(guest.events(&mut store), ["/local/domain/3/data/x|abs|"]);
    assert_eq!(guest.ask(&mut store, wire::WRITE, 0, "data/x/y|1"), "OK|");
    assert_eq!(guest.events(&mut store), ["data/x/y|rel|", "/local/domain/3/data/x/y|abs|"]);
    store.write(me, "/local/domain/3/data/x", b"2").unwrap();
    assert_eq!(guest.events(&mut store), ["data/x|rel|", "/local/domain/3/data/x|abs|"]);
    store.write(me, "/local/domain/3/datax", b"2").unwrap();
    assert!(guest.events(&mut store).is_empty(), "the name only begins the same");
    store.rm(me, "/local/domain/3/data").unwrap();
    assert_eq!(guest.events(&mut store), ["/local/domain/3/data/x|abs|", "data|rel|"]);
    assert_eq!(guest.ask(&mut store, wire::UNWATCH, 0, "data|abs|"), "ENOENT|");
    assert_eq!(guest.ask(&mut store, wire::UNWATCH, 0, "data|rel|"), "OK|");
    assert_eq!(guest.ask(&mut store, wire::RESET_WATCHES, 0, "|"), "OK|");
    store.write(me, "/local/domain/3/data/x", b"2").unwrap();
    assert!(guest.events(&mut store).is_empty());
}

#[test]
fn who_may_not_read_a_node_does_not_hear_of_it() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    home(&mut store, me, 4);
    let mut other = Guest::new(&mut store, 4);
    assert_eq!(other.ask(&mut store, wire::WATCH, 0, "/|t|"), "OK|");
    assert_eq!(other.events(&mut store), ["/|t|"]);
    store.write(me, "/local/domain/3/data/x", b"1").unwrap();
    assert!(other.events(&mut store).is_empty());
    let open = Perms::new(3, Access::NONE).with(4, Access::READ);
    store.set_perms(me, "/local/domain/3/data/x", &open).unwrap();
    assert_eq!(other.events(&mut store), ["/local/domain/3/data/x|t|"]);
    store.set_perms(me, "/local/domain/3/data/x", &Perms::new(3, Access::NONE)).unwrap();
    assert_eq!(other.events(&mut store), ["/local/domain/3/data/x|t|"], "he could read it");
    store.rm(me, "/local/domain/3/data").unwrap();
    assert!(other.events(&mut store).is_empty());
    store.write(me, "/local/domain/4/secret", b"1").unwrap();
    store.set_perms(me, "/local/domain/4/secret", &Perms::new(0, Access::NONE)).unwrap();
    assert_eq!(
        other.events(&mut store),
        ["/local/domain/4/secret|t|"],
        "he may read the one above"
    );
}

#[test]
fn domains_that_come_and_go_are_told() {
    let (mut store, me) = store();
    store.watch(me, "@introduceDomain", b"in").unwrap();
    store.watch(me, "@releaseDomain", b"out").unwrap();
    let tokens = |store: &mut xenstore::Store| {
        let events = store.take_events(me).into_iter();
        events.map(|event| format!("{} {:?}", event.path, event.token.len())).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&mut store), ["@introduceDomain 2", "@releaseDomain 3"]);
    home(&mut store, me, 3);
    assert_eq!(tokens(&mut store), ["@introduceDomain 2"]);
    let mut guest = Guest::new(&mut store, 3);
    assert_eq!(guest.ask(&mut store, wire::WATCH, 0, "@releaseDomain|t|"), "OK|");
    assert_eq!(guest.events(&mut store), ["@releaseDomain|t|"]);
    store.introduce(me, 3, 1, 2).unwrap();
    assert!(tokens(&mut store).is_empty(), "it was known");
    store.shut_down(3);
    store.shut_down(3);
    assert_eq!(tokens(&mut store), ["@releaseDomain 3"]);
    assert!(guest.events(&mut store).is_empty(), "not for everybody");
    store.resume(me, 3).unwrap();
    store.shut_down(3);
    assert_eq!(tokens(&mut store), ["@releaseDomain 3"]);
    home(&mut store, me, 4);
    home(&mut store, me, 5);
    assert_eq!(tokens(&mut store), ["@introduceDomain 2"; 2], "one for each");
    store.release(me, 3).unwrap();
    assert_eq!(tokens(&mut store), ["@releaseDomain 3"]);
    store.gone(3);
    assert!(tokens(&mut store).is_empty());
}

#[test]
fn what_a_domain_had_goes_with_it() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    home(&mut store, me, 4);
    let shared = Perms::new(0, Access::NONE).with(3, Access::BOTH).with(4, Access::READ);
    store.write(me, "/shared", b"1").unwrap();
    store.set_perms(me, "/shared", &shared).unwrap();
    let mut guest = Guest::new(&mut store, 3);
    assert_eq!(guest.ask(&mut store, wire::WRITE, 0, "/shared/a/b|x"), "OK|");
    store.write(me, "/shared/a/b/c", b"below").unwrap();
    let other = store.start(me).unwrap();
    store.write(other, "/gift", b"1").unwrap();
    store.set_perms(other, "/gift", &Perms::new(3, Access::NONE)).unwrap();
    store.gone(3);
    assert_eq!(store.commit(other), Err(Error::Eagain), "it gave something to who is no more");
    assert_eq!(guest.connection.handle(&mut store), Err(xenstore::Fault::Gone));
    assert_eq!(store.read(me, "/local/domain/3/data"), Err(Error::Enoent));
    assert_eq!(store.read(me, "/local/domain/3/name").unwrap(), b"guest");
    assert_eq!(store.read(me, "/shared/a"), Err(Error::Enoent));
    assert!(store.directory(me, "/shared").unwrap().is_empty());
    let left: Vec<_> = store.perms(me, "/shared").unwrap().texts().collect();
    assert_eq!(left, ["n0", "r4"]);
    let left: Vec<_> = store.perms(me, "/local/domain/3").unwrap().texts().collect();
    assert_eq!(left, ["n0"]);
    let mut tools = Guest::new(&mut store, 0);
    assert_eq!(tools.ask(&mut store, wire::CONTROL, 0, "check|"), "OK|");
}

#[test]
fn transactions_on_the_wire() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let mut guest = Guest::new(&mut store, 3);
    assert_eq!(guest.ask(&mut store, wire::WATCH, 0, "data|t|"), "OK|");
    guest.events(&mut store);
    let start = guest.ask(&mut store, wire::TRANSACTION_START, 0, "|");
    let tx: u32 = start.trim_end_matches('|').parse().unwrap();
    assert_ne!(tx, 0);
    assert_eq!(guest.ask(&mut store, wire::TRANSACTION_START, tx, "|"), "EBUSY|");
    assert_eq!(guest.ask(&mut store, wire::READ, tx, "data|"), "");
    for name in ["z", "y", "z"] {
        assert_eq!(guest.ask(&mut store, wire::WRITE, tx, &format!("data/{name}|1")), "OK|");
    }
    assert_eq!(guest.ask(&mut store, wire::READ, 0, "data/z|"), "ENOENT|");
    assert_eq!(guest.ask(&mut store, wire::READ, tx, "data/z|"), "1");
    assert_eq!(guest.ask(&mut store, wire::TRANSACTION_END, tx, "X|"), "EINVAL|");
    assert!(guest.events(&mut store).is_empty());
    assert_eq!(guest.ask(&mut store, wire::TRANSACTION_END, tx, "T|"), "OK|");
    assert_eq!(guest.events(&mut store), ["data/z|t|", "data/y|t|"]);
    assert_eq!(guest.ask(&mut store, wire::TRANSACTION_END, tx, "T|"), "ENOENT|");
    assert_eq!(guest.ask(&mut store, wire::TRANSACTION_END, 0, "T|"), "ENOENT|");
    assert_eq!(guest.ask(&mut store, wire::READ, tx, "data|"), "ENOENT|");
}

#[test]
fn only_what_a_transaction_looked_at_can_be_in_its_way() {
    let (mut store, me) = store();
    store.write(me, "/a", b"1").unwrap();
    store.write(me, "/b", b"1").unwrap();
    let one = store.start(me).unwrap();
    assert_eq!(store.read(one, "/a").unwrap(), b"1");
    store.write(me, "/b", b"2").unwrap();
    assert_eq!(store.commit(one), Ok(()), "it did not look at b");

    let one = store.start(me).unwrap();
    assert_eq!(store.read(one, "/a").unwrap(), b"1");
    store.write(me, "/a", b"2").unwrap();
    assert_eq!(store.read(one, "/a").unwrap(), b"1", "it stays as it was seen");
    assert_eq!(store.commit(one), Err(Error::Eagain));

    let (one, two) = (store.start(me).unwrap(), store.start(me).unwrap());
    store.write(one, "/a", b"3").unwrap();
    store.write(two, "/a", b"4").unwrap();
    assert_eq!(store.commit(two), Ok(()));
    assert_eq!(store.commit(one), Err(Error::Eagain));
    assert_eq!(store.read(me, "/a").unwrap(), b"4");

    let one = store.start(me).unwrap();
    assert_eq!(store.read(one, "/c"), Err(Error::Enoent));
    store.write(me, "/c", b"1").unwrap();
    assert_eq!(store.commit(one), Err(Error::Eagain), "there was none");

    let one = store.start(me).unwrap();
    store.rm(one, "/c").unwrap();
    store.write(me, "/c", b"1").unwrap();
    assert_eq!(store.commit(one), Err(Error::Eagain), "the same value, but written");
    let one = store.start(me).unwrap();
    store.write(one, "/d/e", b"1").unwrap();
    store.abort(one).unwrap();
    assert_eq!(store.read(me, "/d"), Err(Error::Enoent));
}

#[test]
fn long_lists_come_in_pieces() {
    let (mut store, me) = store();
    let names: Vec<_> = (0..1000).map(|number| format!("node-{number:04}")).collect();
    for name in &names {
        store.mkdir(me, &format!("/list/{name}")).unwrap();
    }
    let mut tools = Guest::new(&mut store, 0);
    assert_eq!(tools.ask(&mut store, wire::DIRECTORY, 0, "/list|"), "E2BIG|");
    let (mut list, mut generations) = (String::new(), Vec::new());
    loop {
        let body = format!("/list|{}|", list.len());
        let piece = tools.ask(&mut store, wire::DIRECTORY_PART, 0, &body);
        assert!(piece.len() <= 4096 && piece.ends_with('|'));
        let (generation, part) = piece.split_once('|').unwrap();
        generations.push(generation.to_owned());
        list.push_str(part);
        if part.ends_with("||") {
            list.pop();
            break;
        }
    }
    assert_eq!(list.split_terminator('|').collect::<Vec<_>>(), names);
    assert!(generations.len() > 2 && generations.iter().all(|one| *one == generations[0]));
    let end = tools.ask(&mut store, wire::DIRECTORY_PART, 0, "/list|999999|");
    assert_eq!(end, format!("{}||", generations[0]));
    assert_eq!(tools.ask(&mut store, wire::DIRECTORY_PART, 0, "/list|"), "EINVAL|");
}

#[test]
fn contents_survive_a_dump() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    store.write(me, "/a/z", &[0, 255, 10]).unwrap();
    store.write(me, "/a/b", b"").unwrap();
    let dump = store.dump();
    let mut copy = xenstore::Store::load(&dump, xenstore::Quotas::default()).unwrap();
    let me = copy.local();
    assert_eq!(copy.read(me, "/a/z").unwrap(), [0, 255, 10]);
    assert_eq!(copy.directory(me, "/a").unwrap(), ["z", "b"]);
    assert_eq!(copy.perms(me, "/local/domain/3/data").unwrap().owner(), 3);
    assert_eq!(copy.dump(), dump);
    let mut tools = Guest::new(&mut copy, 0);
    assert_eq!(tools.ask(&mut copy, wire::CONTROL, 0, "check|"), "OK|");
    for end in (12..dump.len()).filter(|end| end % 7 == 0) {
        // Either refused, or cut between two nodes.
        if let Ok(part) = xenstore::Store::load(&dump[..end], xenstore::Quotas::default()) {
            assert_eq!(part.dump(), &dump[..end]);
        }
    }
    assert!(xenstore::Store::load(&dump[1..], xenstore::Quotas::default()).is_err());
}
