//! What can be wrong with a configuration.

use alloc::string::String;
use core::fmt;

/// What is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// The file is no TOML.
    Syntax(String),
    /// There is no such key here.
    Unknown,
    /// The key has to be there.
    Missing,
    /// It is not what is expected.
    Value(&'static str),
    /// A number, also as a string, from the first to the second is expected.
    Range(u64, u64),
    /// A part of a disk's or interface's description is wrong: which, and why.
    Part(String, &'static str),
}

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// The line, from 1 on.
    pub line: usize,
    /// The key, or nothing.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, problem } = self;
        write!(f, "{file}:{line}: ")?;
        match problem {
            Problem::Syntax(message) => f.write_str(message),
            Problem::Unknown => write!(f, "`{key}` is no key of a domain here: remove it"),
            Problem::Missing => write!(f, "`{key}` is missing"),
            Problem::Value(expected) => write!(f, "`{key}`: {expected}"),
            Problem::Range(least, most) => {
                write!(f, "`{key}`: a number from {least} to {most} is expected")
            }
            Problem::Part(part, expected) => write!(f, "`{key}`: `{part}`: {expected}"),
        }
    }
}

impl core::error::Error for ConfigError {}
