//! The operator at the machine's console.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use embassy_futures::select::{Either3, select3};
use pv_guest_sdk::console::{read, write};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::raw::registers::counter;
use pv_guest_sdk::{Machine, print, println};
use toolstack::operator::editor::{Editor, Typed};
use toolstack::operator::verbs::Names;
use toolstack::operator::{show, verbs};

use super::Operator;
use super::verbs::on_disk;

/// What leaves a domain's console: ctrl-].
const LEAVE: u8 = 0x1d;
/// How much of what was said before is shown of a console that is attached. Unit: bytes.
const BEFORE: u64 = 1024;
/// How much is copied at once. Unit: bytes.
const PIECE: usize = 512;

/// What was typed, once something was.
async fn typed(input: &Channel) -> Vec<u8> {
    loop {
        let mut bytes = [0; 128];
        match read(&Machine, &mut bytes) {
            Ok([]) => {}
            Ok(bytes) => return bytes.into(),
            Err(error) => {
                println!("the console can't be read: {error}");
                core::future::pending::<()>().await;
            }
        }
        input.notified().await;
    }
}

/// Serves the operator for ever, or until he wants an end.
pub(super) async fn serve(operator: &Operator, input: &Channel) {
    let screen = &operator.world.screen;
    let mut editor = Editor::new("dom0> ");
    println!("ready {} cycles after power-on; `help` lists what can be said", counter());
    print!("{}", editor.shown());
    screen.prompt(editor.shown());
    loop {
        let mut bytes = typed(input).await.into_iter();
        while let Some(byte) = bytes.next() {
            let mut echo = String::new();
            let more = match byte {
                b'\t' => on_disk(operator, &editor.line()).await,
                _ => Vec::new(),
            };
            let names = |what| match what {
                Names::Configurations => [operator.names(what), more.clone()].concat(),
                _ => operator.names(what),
            };
            let complete = |line: &str| verbs::complete(line, names);
            let entered = editor.feed(byte, complete, &mut echo);
            print!("{echo}");
            if let Typed::Line(line) = entered {
                screen.plain();
                let rest = obey(operator, input, &line, &mut bytes).await;
                if operator.done.is_up() {
                    return operator.world.finish();
                }
                bytes = rest.into_iter();
                // What came while a domain had the console.
                screen.plain();
                print!("{}", editor.shown());
            }
            screen.prompt(editor.shown());
        }
    }
}

/// Does what a line says. What of the bytes behind it was not used.
async fn obey(
    operator: &Operator,
    input: &Channel,
    line: &str,
    behind: &mut impl Iterator<Item = u8>,
) -> Vec<u8> {
    let words = match verbs::words(line) {
        Ok(words) => words,
        Err(error) => {
            println!("{error}");
            return behind.collect();
        }
    };
    let Some((verb, words)) = words.split_first() else { return behind.collect() };
    if verb == "console" {
        let behind = behind.collect();
        return match attach(operator, input, words, behind).await {
            Ok(rest) => rest,
            Err(error) => {
                println!("{error}");
                Vec::new()
            }
        };
    }
    match operator.perform(verb, words).await {
        Ok(answer) => print!("{}", show::text(verb, &answer)),
        Err(error) => println!("{error}"),
    }
    behind.collect()
}

/// Gives the console to a domain, until ctrl-] is typed or the domain is gone. What of the bytes
/// was not used.
async fn attach(
    operator: &Operator,
    input: &Channel,
    words: &[String],
    behind: Vec<u8>,
) -> Result<Vec<u8>, String> {
    verbs::find("console", words.len())?;
    let world = &operator.world;
    let guest = world.guest(words.first().map_or("", |word| word))?;
    println!("{}: ctrl-] leaves its console", guest.config.name);
    world.screen.attach();
    let console = &guest.console;
    let mut from = console.end().saturating_sub(BEFORE);
    let mut keys = behind;
    loop {
        if let Some(end) = keys.iter().position(|key| *key == LEAVE) {
            let rest = keys.split_off(end);
            console.input(&keys);
            println!();
            return Ok(rest.get(1..).unwrap_or_default().into());
        }
        if console.input(&keys) < keys.len() {
            // It does not read: a bell in place of what was typed.
            print!("\x07");
        }
        keys.clear();
        match select3(typed(input), console.beyond(from), guest.gone.raised()).await {
            Either3::First(bytes) => keys = bytes,
            Either3::Second(()) => {
                let (said, next) = console.said(from, PIECE);
                from = next;
                let _may = write(&Machine, &said);
            }
            Either3::Third(()) => {
                let (said, _) = console.said(from, usize::MAX);
                let _may = write(&Machine, &said);
                let name = &guest.config.name;
                return Err(format!("\n{name} is gone"));
            }
        }
    }
}
