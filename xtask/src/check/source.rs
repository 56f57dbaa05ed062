//! Source files, read as far as the checks need: what is code, what is a test, where functions are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A Rust or assembler file.
pub(crate) struct Source {
    /// Its path below the workspace.
    pub(crate) path: PathBuf,
    /// Its text without tests; comments are blanks, and so are the contents of strings but for
    /// one letter, so that nothing in them is taken for code. Line ends are kept.
    pub(crate) code: String,
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
        let mut sources = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            sources.push(Self {
                path: path.strip_prefix(root).unwrap_or(&path).to_path_buf(),
                code: if is_rust { without_tests(&masked(&text)) } else { assembler(&text) },
            });
        }
        Ok(sources)
    }

    /// Lines that hold code.
    pub(crate) fn lines(&self) -> usize {
        code_lines(&self.code)
    }

    /// All functions with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, _) in words(&self.code, "fn") {
            let rest = self.code.get(at..).unwrap_or_default();
            let name = rest.get(2..).unwrap_or_default().trim_start();
            let name: String = name
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                .collect();
            if name.is_empty() {
                continue;
            }
            if let Some(end) = item_end(rest) {
                found.push(Function {
                    name,
                    lines: code_lines(rest.get(..end).unwrap_or_default()),
                });
            }
        }
        found
    }
}

/// Where `word` stands by itself in `code`: the offset, and the text behind it.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let part = |letter: Option<char>| letter.is_some_and(|it| it.is_alphanumeric() || it == '_');
    code.match_indices(word).filter_map(move |(at, _)| {
        let before = code.get(..at)?.chars().next_back();
        let after = code.get(at + word.len()..)?;
        (!part(before) && !part(after.chars().next())).then_some((at, after))
    })
}

fn code_lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let entries = folder.read_dir().with_context(|| format!("no folder {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["tests", "benches", "target", "fuzz"].contains(&name.as_str()) {
                walk(&path, paths)?;
            }
        } else if is_source(&name) {
            paths.push(path);
        }
    }
    Ok(())
}

fn is_source(name: &str) -> bool {
    let is_test = name == "tests.rs" || name.ends_with("_tests.rs");
    [".s", ".S", ".rs"].iter().any(|end| name.ends_with(end)) && !is_test
}

fn assembler(text: &str) -> String {
    let code = |line: &str| {
        let cut = line.find("//").into_iter().chain(line.find('#')).min();
        line.get(..cut.unwrap_or(line.len())).unwrap_or_default().to_owned()
    };
    text.lines().fold(String::new(), |all, line| all + &code(line) + "\n")
}

/// Rust source with comments and the contents of strings and characters blanked out.
pub(crate) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = token(rest);
        let token = rest.get(..length).unwrap_or(rest);
        if token.starts_with("//") || token.starts_with("/*") {
            out.extend(token.chars().map(|it| if it == '\n' { it } else { ' ' }));
        } else if token.len() > 1 {
            // A string or character: never blank, or a line inside it would not count as code.
            out.extend(token.chars().map(|it| if it == '\n' { it } else { '"' }));
        } else {
            out.push(letter);
        }
        rest = rest.get(length.max(letter.len_utf8())..).unwrap_or_default();
    }
    out
}

/// The length of the comment, string or character at the start of `text`; 1 for anything else.
fn token(text: &str) -> usize {
    let bytes = text.as_bytes();
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return comment(text);
    }
    match bytes {
        [b'"', ..] => quoted(bytes, b'"'),
        [b'r', b'"' | b'#', ..] => raw_string(text).unwrap_or(1),
        // A lifetime has no closing quote where a character has it.
        [b'\'', b'\\', ..] => quoted(bytes, b'\''),
        [b'\'', ..] => {
            let mut letters = text.char_indices().skip(2);
            match letters.next() {
                Some((at, '\'')) => at + 1,
                _ => 1,
            }
        }
        _ => 1,
    }
}

fn comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        at += if *byte == b'\\' { 2 } else { 1 };
        if *byte == quote {
            break;
        }
    }
    at.min(bytes.len())
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.bytes().skip(1).take_while(|byte| *byte == b'#').count();
    let body = text.get(1 + hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(2 + hashes + length)
}

/// Removes items behind an attribute that compiles them for tests only.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let condition = from.get(..from.find(']').unwrap_or(from.len())).unwrap_or(from);
        let for_tests =
            words(condition, "test").next().is_some() && !condition.contains("not(test");
        let length = if for_tests { item_end(from).unwrap_or(from.len()) } else { 1 };
        if !for_tests {
            out.push('#');
        }
        rest = from.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Where the item at the start of `code` ends: behind its braces, or behind a `;` before any.
/// `None` for a function without a body.
fn item_end(code: &str) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, letter) in code.char_indices() {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return code.starts_with('#').then_some(at + 1),
            '{' if depth == 0 => return Some(at + braces(code.get(at..)?)),
            _ => {}
        }
    }
    None
}

/// The length of the block in braces at the start of `code`.
fn braces(code: &str) -> usize {
    let mut depth = 0_i32;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: PathBuf::new(), code: without_tests(&masked(text)) }
    }

    #[test]
    fn comments_blank_lines_and_tests_are_not_code() {
        let text = "//! Doc.\n\nfn a() {} // why\n/* x /* y */\n fn b() {} */\n\
                    #[cfg(test)]\nmod tests {\n    fn c() { \"}\"; }\n}\nconst D: u8 = 1;\n";
        assert_eq!(source(text).lines(), 2);
        let names: Vec<String> = source(text).functions().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["a"]);
    }

    #[test]
    fn what_strings_say_is_not_code() {
        let text = "fn a<'a>() { x(\"// unsafe {\", '\"', r#\"\" unsafe { \"#, '\\''); }";
        assert_eq!(words(&source(text).code, "unsafe").count(), 0);
        assert_eq!(source(text).functions().len(), 1);
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
        assert_eq!(
            source("#[cfg(any(test, feature = \"x\"))]\npub mod fake;\nfn a() {}").lines(),
            1
        );
    }
}
