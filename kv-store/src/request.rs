//! What clients ask for, in Redis' protocol: arrays of strings as its programs send, or a line as a
//! person types.

use alloc::vec::Vec;
use core::fmt;

use crate::format::{KEY, VALUE};

/// The most words of a request.
pub const WORDS: usize = 64;
/// The longest request. Unit: bytes.
pub const LONGEST: usize = 2 * (KEY + VALUE);

/// The words of a request, and how many bytes it has.
pub type Words<'b> = Option<(Vec<&'b [u8]>, usize)>;

/// Why bytes are no request. Where the next one begins is not known either.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// It is longer than [`LONGEST`].
    Long,
    /// It has more than [`WORDS`] words.
    Words,
    /// A number, a `$` or an end of line is not where it must be.
    Form,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long => write!(f, "a request has {LONGEST} bytes at most"),
            Self::Words => write!(f, "a request has {WORDS} words at most"),
            Self::Form => f.write_str("this is not Redis' protocol"),
        }
    }
}

impl core::error::Error for Malformed {}

/// The first request in some bytes; none if its end has not come yet. An empty line is a request
/// without words.
///
/// # Errors
/// As [`Malformed`] says.
pub fn parse(bytes: &[u8]) -> Result<Words<'_>, Malformed> {
    let parsed = match bytes.first() {
        Some(b'*') => array(bytes)?,
        _ => line(bytes, 0).map(|(line, end)| {
            let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            (words.collect::<Vec<_>>(), end)
        }),
    };
    match parsed {
        Some((words, _)) if words.len() > WORDS => Err(Malformed::Words),
        Some((_, end)) if end > LONGEST => Err(Malformed::Long),
        None if bytes.len() >= LONGEST => Err(Malformed::Long),
        parsed => Ok(parsed),
    }
}

/// The line from a place on, without its end, and where the next begins.
fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let bytes = bytes.get(from..)?;
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = bytes.get(..end)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), from + end + 1))
}

fn array(bytes: &[u8]) -> Result<Words<'_>, Malformed> {
    let Some((count, mut at)) = number(bytes, 0, b'*')? else { return Ok(None) };
    if count > WORDS {
        return Err(Malformed::Words);
    }
    let mut words = Vec::new();
    for _ in 0..count {
        let Some((length, start)) = number(bytes, at, b'$')? else { return Ok(None) };
        if length > LONGEST {
            return Err(Malformed::Long);
        }
        let end = start + length;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => words.extend(bytes.get(start..end)),
            Some(_) => return Err(Malformed::Form),
            None => return Ok(None),
        }
        at = end + 2;
    }
    Ok(Some((words, at)))
}

/// The number of a line that begins with `mark`, and where the next line begins.
fn number(bytes: &[u8], from: usize, mark: u8) -> Result<Option<(usize, usize)>, Malformed> {
    let Some((line, next)) = line(bytes, from) else {
        // No number is as long.
        let long = bytes.len().saturating_sub(from) > 16;
        return if long { Err(Malformed::Form) } else { Ok(None) };
    };
    let digits = match line {
        [first, digits @ ..] if *first == mark && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return Err(Malformed::Form),
    };
    let number = core::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    Ok(Some((number.ok_or(Malformed::Form)?, next)))
}

/// A request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request<'a> {
    /// `PING`: an answer.
    Ping,
    /// `COMMAND ..`, which programs begin with: the list of commands is not told.
    Commands,
    /// `GET key`.
    Get(&'a [u8]),
    /// `SET key value`.
    Set(&'a [u8], &'a [u8]),
    /// `DEL key ..`: how many were there.
    Delete(Vec<&'a [u8]>),
    /// `EXISTS key ..`: how many are there.
    Exists(Vec<&'a [u8]>),
    /// `COUNT` or `DBSIZE`: how many there are.
    Count,
    /// `STATS` or `INFO`: what was done.
    Statistics,
    /// `SYNC` or `SAVE`: an answer when all is on the disk.
    Sync,
    /// `COMPACT`: the log begins anew.
    Compact,
    /// `QUIT`: the connection ends.
    Quit,
    /// `SHUTDOWN`: the server ends.
    Shutdown,
}

/// Why words are no request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unknown {
    /// There is no such command.
    Command,
    /// It has another number of words.
    Count,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "unknown command",
            Self::Count => "wrong number of arguments",
        })
    }
}

impl core::error::Error for Unknown {}

impl<'a> Request<'a> {
    /// The request that words are.
    ///
    /// # Errors
    /// As [`Unknown`] says.
    pub fn of(words: &[&'a [u8]]) -> Result<Self, Unknown> {
        let (name, rest) = words.split_first().ok_or(Unknown::Command)?;
        let name = name.to_ascii_uppercase();
        let none = |request| if rest.is_empty() { Ok(request) } else { Err(Unknown::Count) };
        let some = || if rest.is_empty() { Err(Unknown::Count) } else { Ok(rest.to_vec()) };
        match (&*name, rest) {
            (b"GET", [key]) => Ok(Self::Get(key)),
            (b"SET", [key, value]) => Ok(Self::Set(key, value)),
            (b"GET" | b"SET", _) => Err(Unknown::Count),
            (b"DEL", _) => some().map(Self::Delete),
            (b"EXISTS", _) => some().map(Self::Exists),
            (b"COMMAND", _) => Ok(Self::Commands),
            (b"INFO" | b"STATS", _) => Ok(Self::Statistics),
            (b"SHUTDOWN", _) => Ok(Self::Shutdown),
            (b"PING", _) => none(Self::Ping),
            (b"COUNT" | b"DBSIZE", _) => none(Self::Count),
            (b"SYNC" | b"SAVE", _) => none(Self::Sync),
            (b"COMPACT", _) => none(Self::Compact),
            (b"QUIT", _) => none(Self::Quit),
            _ => Err(Unknown::Command),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{LONGEST, Malformed, Request, Unknown, parse};

    #[test]
    fn arrays_and_lines_are_requests_and_what_is_not_complete_waits() {
        let array = b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$4\r\n\r\n\0x\r\nGET a\r\n";
        let (words, length) = parse(array).unwrap().unwrap();
        assert_eq!(words, [&b"set"[..], b"a", b"\r\n\0x"]);
        assert_eq!(Request::of(&words), Ok(Request::Set(b"a", b"\r\n\0x")));
        let (words, rest) = parse(&array[length..]).unwrap().unwrap();
        assert_eq!((Request::of(&words), length + rest), (Ok(Request::Get(b"a")), array.len()));
        for end in 0..length {
            assert_eq!(parse(&array[..end]), Ok(None), "{end}");
        }
        let (words, length) = parse(b"  Del a\tb \nx").unwrap().unwrap();
        assert_eq!(Request::of(&words), Ok(Request::Delete(vec![b"a", b"b"])));
        assert_eq!(length, 11);
        assert_eq!(parse(b"\r\n"), Ok(Some((Vec::new(), 2))));
        assert_eq!(parse(b"*0\r\n"), Ok(Some((Vec::new(), 4))));
    }

    #[test]
    fn what_is_malformed_or_too_long_is_refused_as_soon_as_it_is_seen() {
        let refused = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert_eq!(refused(b"*x\r\n"), Malformed::Form);
        assert_eq!(refused(b"*-1\r\n"), Malformed::Form);
        assert_eq!(refused(b"*1\r\n+3\r\n"), Malformed::Form);
        assert_eq!(refused(b"*1\r\n$1\r\nabc"), Malformed::Form);
        assert_eq!(refused(b"*111111111111111111111"), Malformed::Form);
        assert_eq!(refused(b"*65\r\n"), Malformed::Words);
        assert_eq!(refused(b"*1\r\n$99999999\r\n"), Malformed::Long);
        assert_eq!(refused(&vec![b'a'; LONGEST]), Malformed::Long);
        assert_eq!(refused(&[&b"a ".repeat(65)[..], b"\n"].concat()), Malformed::Words);
    }

    #[test]
    fn what_is_not_known_is_said() {
        assert_eq!(Request::of(&[b"SET", b"a"]), Err(Unknown::Count));
        assert_eq!(Request::of(&[b"DEL"]), Err(Unknown::Count));
        assert_eq!(Request::of(&[b"PING", b"a"]), Err(Unknown::Count));
        assert_eq!(Request::of(&[b"FLUSHALL"]), Err(Unknown::Command));
        assert_eq!(Request::of(&[]), Err(Unknown::Command));
    }
}
