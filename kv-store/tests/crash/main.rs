//! What is left of a store after power has failed at any time, compared with a model.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod disk;

use std::collections::BTreeMap;

use disk::{FailingDisk, Missing, PowerFailure, Random, now};
use kv_store::{Batch, Change, Format, LEAST, Options, Recovery, Refusal, Store, StoreError};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Opened = Result<(Store<FailingDisk>, Recovery), StoreError<PowerFailure>>;

/// Unit: bytes.
const DISK: u64 = LEAST;

fn open(disk: &FailingDisk, format: Format, salt: u64) -> Opened {
    now(Store::open(disk.clone(), Options { format, salt, memory: 16 << 20 }))
}

fn contents(store: &Store<FailingDisk>) -> Model {
    let mut model = Model::new();
    store.each(|key, value| {
        model.insert(key.into(), value.into());
    });
    model
}

/// A batch, and what the model is with it.
fn batch(store: &Store<FailingDisk>, model: &Model, random: &mut Random) -> (Batch, Model) {
    let (mut batch, mut model) = (Batch::default(), model.clone());
    for _ in 0..=random.below(4) {
        let key = format!("key {}", random.below(24)).into_bytes();
        if random.below(4) == 0 {
            let there = store.add(&mut batch, Change::Delete(&key));
            assert_eq!(there, Ok(model.remove(&key).is_some()));
            continue;
        }
        let length = [100, 3000, 9000][usize::try_from(random.below(3)).unwrap()];
        let fill = u8::try_from(random.below(256)).unwrap();
        let value = vec![fill; usize::try_from(random.below(length)).unwrap()];
        match store.add(&mut batch, Change::Set(&key, &value)) {
            Ok(there) => assert_eq!(there, model.insert(key, value).is_some()),
            Err(refusal) => assert!(matches!(refusal, Refusal::Full), "{refusal}"),
        }
    }
    (batch, model)
}

/// What a power failure left that may not be.
#[derive(Debug)]
enum Wrong {
    Refused,
    Lost,
}

/// Uses a store until power fails, or for so many batches. What is there may be the first model or, if
/// a commit was under way, the second.
fn work(
    disk: &FailingDisk,
    (before, after): (Model, Model),
    random: &mut Random,
    batches: u32,
) -> Result<(Model, Model), Wrong> {
    let salt = random.below(u64::MAX);
    let store = match open(disk, Format::Blank, salt) {
        Ok((store, recovery)) => {
            assert_eq!(recovery.keys, contents(&store).len());
            store
        }
        Err(StoreError::Disk(PowerFailure)) => return Ok((before, after)),
        Err(_) => return Err(Wrong::Refused),
    };
    let mut model = contents(&store);
    if model != before && model != after {
        return Err(Wrong::Lost);
    }
    for number in 0..batches {
        let (batch, next) = batch(&store, &model, random);
        let done = match number % 16 {
            15 => now(store.compact()).and_then(|()| now(store.commit(batch))),
            _ => now(store.commit(batch)),
        };
        if done.is_err() {
            return Ok((model, next));
        }
        model = next;
        assert_eq!(contents(&store), model);
    }
    Ok((model.clone(), model))
}

/// Lets power fail after each operation of some work, three times in a row, and then looks.
fn fail_everywhere(seed: u64, sector: u64, missing: Missing) -> Result<(), Wrong> {
    let mut random = Random(seed);
    let disk = FailingDisk::new(DISK, sector, missing);
    // A log that is nearly full, so that the work begins it anew.
    let models = work(&disk, (Model::new(), Model::new()), &mut random, 36)?;
    let start = (disk, models, random);
    for cut in 0.. {
        let (disk, mut models, mut random) = (start.0.copy(), start.1.clone(), start.2.clone());
        disk.fail_after(cut);
        models = work(&disk, models, &mut random, 24)?;
        let all_done = disk.left() > 0;
        random.0 ^= cut << 8;
        for _ in 0..3 {
            disk.fail(&mut random);
            disk.fail_after(random.below(40));
            models = work(&disk, models, &mut random, 12)?;
        }
        disk.fail(&mut random);
        work(&disk, models, &mut random, 1)?;
        if all_done {
            break;
        }
    }
    Ok(())
}

#[test]
fn what_was_committed_is_there_after_power_failed_anywhere() {
    for seed in 1..=5 {
        for sector in [512, 4096] {
            let outcome = fail_everywhere(seed * 0x9e37_79b9, sector, Missing::Nothing);
            assert!(outcome.is_ok(), "seed {seed}, sectors of {sector}: {outcome:?}");
        }
    }
}

#[test]
fn a_missing_flush_is_found() {
    use Missing::{All, BeforeHeader, BehindHeader, BehindRecord};
    for missing in [All, BehindRecord, BeforeHeader, BehindHeader] {
        let found = (1..=24).any(|seed| fail_everywhere(seed, 512, missing).is_err());
        assert!(found, "{missing:?}");
    }
}

fn set(store: &Store<FailingDisk>, key: &[u8], value: &[u8]) -> Result<bool, Refusal> {
    let mut batch = Batch::default();
    let there = store.add(&mut batch, Change::Set(key, value))?;
    now(store.commit(batch)).unwrap();
    Ok(there)
}

fn disk() -> FailingDisk {
    FailingDisk::new(DISK, 512, Missing::Nothing)
}

#[test]
fn a_full_store_loses_nothing_and_has_room_after_deleting() {
    let disk = disk();
    let (store, recovery) = open(&disk, Format::Blank, 1).unwrap();
    assert!(recovery.formatted);
    let value = [7; 10_000];
    let count = (0..1000_u32).take_while(|it| set(&store, &it.to_le_bytes(), &value).is_ok());
    let count = u32::try_from(count.count()).unwrap();
    assert!(count >= 15, "{count}");
    assert_eq!(set(&store, b"one more", &value), Err(Refusal::Full));
    assert_eq!(set(&store, &0_u32.to_le_bytes(), &value[1..]), Ok(true));
    drop(store);
    let (store, recovery) = open(&disk, Format::Blank, 2).unwrap();
    assert_eq!(recovery.keys, usize::try_from(count).unwrap());
    assert_eq!(store.get(&0_u32.to_le_bytes()).unwrap().len(), 9_999);
    let mut batch = Batch::default();
    assert_eq!(store.add(&mut batch, Change::Delete(&1_u32.to_le_bytes())), Ok(true));
    now(store.commit(batch)).unwrap();
    assert_eq!(set(&store, b"one more", &value), Ok(false));
}

#[test]
fn keys_and_values_have_their_limits() {
    let (store, _) = open(&disk(), Format::Blank, 1).unwrap();
    assert_eq!(set(&store, b"", b""), Err(Refusal::Key));
    assert_eq!(set(&store, &[1; kv_store::KEY + 1], b""), Err(Refusal::Key));
    assert_eq!(set(&store, b"a", &vec![1; kv_store::VALUE + 1]), Err(Refusal::Value));
    assert_eq!(set(&store, &[1; kv_store::KEY], &vec![1; kv_store::VALUE]), Ok(false));
    assert_eq!(set(&store, b"a", b""), Ok(false));
    assert_eq!(store.get(b"a"), Some(Vec::new()));
    let options = Options { format: Format::Blank, salt: 1, memory: 1000 };
    let (store, _) = now(Store::open(disk(), options)).unwrap();
    assert_eq!(set(&store, b"a", &[1; 900]), Err(Refusal::Full), "of the memory");
    assert_eq!(set(&store, b"a", &[1; 500]), Ok(false));
}

#[test]
fn what_is_no_store_stays_as_it_is_unless_told() {
    let disk = disk();
    disk.damage(4000);
    assert!(matches!(open(&disk, Format::Blank, 1), Err(StoreError::Foreign)));
    assert!(matches!(open(&disk, Format::Never, 1), Err(StoreError::Foreign)));
    let (store, recovery) = open(&disk, Format::Always, 1).unwrap();
    assert!(recovery.formatted);
    set(&store, b"a", b"b").unwrap();
    let (store, recovery) = open(&disk, Format::Blank, 2).unwrap();
    assert_eq!((recovery.keys, recovery.records, recovery.formatted), (1, 1, false));
    assert_eq!(store.get(b"a"), Some(b"b".to_vec()));
    let (store, _) = open(&disk, Format::Always, 3).unwrap();
    assert_eq!(store.counts().keys, 0);
}

#[test]
fn damage_is_not_taken_for_the_end_of_the_log() {
    let disk = disk();
    let (store, _) = open(&disk, Format::Blank, 1).unwrap();
    (0..4_u8).for_each(|it| assert_eq!(set(&store, &[it], b"value"), Ok(false)));
    let area = usize::try_from(store.counts().area).unwrap();
    let record = |number: usize| 8192 + area + 512 * number + 37;
    let damaged = |at: usize| {
        let disk = disk.copy();
        disk.damage(at);
        open(&disk, Format::Blank, 2).map(|(_, recovery)| recovery)
    };
    assert!(matches!(damaged(record(2)), Err(StoreError::Damaged(_))));
    assert!(matches!(damaged(4096 + 8), Err(StoreError::Damaged(_))), "the header");
    // The last record might be one that was never acknowledged.
    let recovery = damaged(record(3)).unwrap();
    assert_eq!((recovery.keys, recovery.torn), (3, 512));
    now(store.compact()).unwrap();
    let first = 8192 + 37;
    let disk = disk.copy();
    disk.damage(first);
    assert!(matches!(open(&disk, Format::Blank, 2), Err(StoreError::Damaged(_))));
}

#[test]
fn after_a_failed_commit_there_is_no_other() {
    let disk = disk();
    let (store, _) = open(&disk, Format::Blank, 1).unwrap();
    set(&store, b"a", b"1").unwrap();
    disk.fail_after(1);
    let mut batch = Batch::default();
    store.add(&mut batch, Change::Set(b"a", b"2")).unwrap();
    assert_eq!(now(store.commit(batch.clone())), Err(StoreError::Disk(PowerFailure)));
    disk.fail_after(u64::MAX);
    assert_eq!(now(store.commit(batch)), Err(StoreError::Failed));
    assert_eq!(now(store.compact()), Err(StoreError::Failed));
    assert_eq!(store.get(b"a"), Some(b"1".to_vec()));
}
