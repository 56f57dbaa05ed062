//! Source files, read as far as the checks need: what is code, what is a test, where functions are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

/// A Rust or assembler file.
pub(crate) struct Source {
    /// Its path below the workspace.
    pub(crate) path: PathBuf,
    /// Its code, without comments and tests. Of an assembler file, each line is one token.
    pub(crate) tokens: Vec<Token>,
}

/// A word, a sign or a literal.
pub(crate) struct Token {
    /// What it says; nothing for literals.
    pub(crate) text: String,
    /// The line it begins in, from 1.
    pub(crate) line: usize,
    last_line: usize,
}

/// A function of a [`Source`].
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// From its `fn` to its closing brace. Unit: lines with code.
    pub(crate) lines: usize,
}

impl Source {
    /// All files below `folder`, but for those that hold only tests.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub(crate) fn all_below(root: &Path, folder: &str) -> Result<Vec<Self>> {
        let mut paths = Vec::new();
        walk(&root.join(folder), &mut paths)?;
        paths.sort();
        let read = |path: PathBuf| -> Result<Self> {
            let text = std::fs::read_to_string(&path)?;
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            let tokens = if is_rust { rust(&text)? } else { assembler(&text) };
            Ok(Self { path: path.strip_prefix(root)?.to_path_buf(), tokens })
        };
        let named = |path: PathBuf| read(path.clone()).with_context(|| path.display().to_string());
        paths.into_iter().map(named).collect()
    }

    /// Lines that hold code.
    pub(crate) fn lines(&self) -> usize {
        lines(&self.tokens)
    }

    /// All functions with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, pair) in self.tokens.windows(2).enumerate() {
            // A type such as `fn(u8)` has no name.
            if let [word, name] = pair
                && word.text == "fn"
                && name.text != "("
                && let item = item(self.tokens.get(at..).unwrap_or_default())
                && item.last().is_some_and(|end| end.text == "}")
            {
                found.push(Function { name: name.text.clone(), lines: lines(item) });
            }
        }
        found
    }
}

/// Collects the paths of all sources below `folder`. What only tests use is known by its name.
fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in folder.read_dir().with_context(|| format!("no folder {}", folder.display()))? {
        let path = entry?.path();
        let part = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let (stem, extension) = (part(path.file_stem()), part(path.extension()));
        if ["tests", "benches", "fake"].contains(&stem.as_str()) || stem.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            walk(&path, paths)?;
        } else if ["rs", "s", "S"].contains(&extension.as_str()) {
            paths.push(path);
        }
    }
    Ok(())
}

fn assembler(text: &str) -> Vec<Token> {
    let is_code =
        |line: &str| !line.is_empty() && !line.starts_with("//") && !line.starts_with('#');
    let lines = (1..).zip(text.lines()).filter(|(_, text)| is_code(text.trim_start()));
    lines.map(|(line, _)| Token { text: String::new(), line, last_line: line }).collect()
}

/// The tokens of a Rust file, without documentation and tests.
pub(crate) fn rust(text: &str) -> Result<Vec<Token>> {
    let stream: TokenStream = text.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut all = Vec::new();
    flatten(stream, &mut all);
    let mut keep = vec![true; all.len()];
    let mut at = 0;
    while let Some(rest) = keep.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let skip = skipped(all.get(at..).unwrap_or_default());
        rest.iter_mut().take(skip).for_each(|keep| *keep = false);
        at += skip.max(1);
    }
    let mut keep = keep.into_iter();
    all.retain(|_| keep.next() == Some(true));
    Ok(all)
}

fn flatten(stream: TokenStream, all: &mut Vec<Token>) {
    let push = |text: String, from: Span, all: &mut Vec<Token>| {
        all.push(Token { text, line: from.start().line, last_line: from.end().line });
    };
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace | Delimiter::None => ("{", "}"),
                };
                push(open.into(), group.span_open(), all);
                flatten(group.stream(), all);
                push(close.into(), group.span_close(), all);
            }
            TokenTree::Literal(literal) => push(String::new(), literal.span(), all),
            other => push(other.to_string(), other.span(), all),
        }
    }
}

/// How many tokens at the start are documentation, or an item that is compiled for tests alone.
fn skipped(tokens: &[Token]) -> usize {
    let open = match tokens {
        [hash, open, ..] if hash.text == "#" && open.text == "[" => 1,
        [hash, not, open, ..] if hash.text == "#" && not.text == "!" && open.text == "[" => 2,
        _ => return 0,
    };
    let end = open + group(tokens.get(open..).unwrap_or_default());
    let words = tokens.get(open + 1..end).unwrap_or_default();
    let has = |word: &str| words.iter().any(|token| token.text == word);
    match words {
        [doc, is, ..] if doc.text == "doc" && is.text == "=" => end,
        [cfg, ..] if cfg.text == "cfg" && has("test") && !has("not") => {
            end + item(tokens.get(end..).unwrap_or_default()).len()
        }
        _ => 0,
    }
}

/// The item that `tokens` begin with: up to the end of its braces, or a `;` before any.
fn item(tokens: &[Token]) -> &[Token] {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let rest = tokens.get(at..).unwrap_or_default();
        at += if ["(", "[", "{"].contains(&token.text.as_str()) { group(rest) } else { 1 };
        if token.text == "{" && tokens.get(at).is_some_and(|next| next.text == ";") {
            // The braces of a `use`.
            at += 1;
        }
        if ["{", ";"].contains(&token.text.as_str()) {
            break;
        }
    }
    tokens.get(..at).unwrap_or(tokens)
}

/// The length of the group that `tokens` begin with.
fn group(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn lines(tokens: &[Token]) -> usize {
    let (mut count, mut last) = (0, 0);
    for token in tokens.iter().filter(|token| token.last_line > 0) {
        count += (token.last_line + 1).saturating_sub(token.line.max(last + 1));
        last = last.max(token.last_line);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: PathBuf::new(), tokens: rust(text).expect("Rust") }
    }

    #[test]
    fn comments_blank_lines_and_tests_are_not_code() {
        let text = "//! Doc.\n\nfn a() {} // why\n/* x /* y */\n fn b() {} */\n/// It.\n\
                    #[cfg(test)]\nmod tests {\n    fn c() { \"}\"; }\n}\nconst D: u8 = 1;\n";
        assert_eq!(source(text).lines(), 2);
        let names: Vec<String> = source(text).functions().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["a"]);
    }

    #[test]
    fn every_line_of_a_long_string_counts() {
        assert_eq!(source("const A: &str = \"one\n\n// three\";\n").lines(), 3);
    }

    #[test]
    fn a_functions_length_runs_to_its_closing_brace() {
        let text =
            "trait T { fn none(&self); }\nfn two(x: [u8; 2]) {\n\n    // c\n    y(); }\nfn z() {}";
        let functions = source(text).functions();
        assert_eq!(functions.len(), 2);
        assert_eq!((functions[0].name.as_str(), functions[0].lines), ("two", 2));
    }

    #[test]
    fn code_for_other_configurations_stays() {
        assert_eq!(source("#[cfg(not(test))]\nfn a() {\n}\n").lines(), 3);
        let text = "#[cfg(any(test, feature = \"x\"))]\nuse a::{\n    b};\nfn a() {}";
        assert_eq!(source(text).lines(), 1);
    }
}
