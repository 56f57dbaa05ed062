//! The code blocks of the book's pages and of the README.
//!
//! Each is fenced, and its first line says what it is, for it to be checked here or tied to a step of the
//! test ([`crate::commands`]):
//!
//! | language | what it is | what is asked of it |
//! |---|---|---|
//! | `rust,from=FILE` | part of a program that the test boots | it is a passage of FILE |
//! | `toml,xl` | a domain's configuration | the toolstack takes it |
//! | `toml,lines=FILE` | part of a file that is made | each line without its comment is in FILE |
//! | `json` | requests and answers of the control channel | they are JSON, a request the operator's |
//! | `sh`, `operator` | command lines for a shell, or for the operator's prompt | each is tied |
//! | `usage,help=FILE` | the forms of a command | each option is in FILE, the command's help |
//! | `console` | what a machine says | a step compares it ([`crate::transcript`]) |
//! | `text` | a picture | nothing |

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use toolstack::config::Config;
use toolstack::operator::request::Request;

/// The pages, as files or folders of them.
const PAGES: [&str; 2] = ["README.md", "docs/src"];

/// A page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// Its path below the workspace.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// A fenced block.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// The page's path below the workspace, with the line of the fence.
    pub place: String,
    /// Its language.
    pub language: String,
    /// What stands behind the language: `xl`, or `from=FILE`.
    pub attribute: String,
    /// What is between the fences.
    pub text: String,
}

/// Reads all pages.
///
/// # Errors
///
/// When one cannot be read.
pub fn pages(root: &Path) -> Result<Vec<Page>> {
    let mut paths = Vec::new();
    PAGES.iter().try_for_each(|path| collect(&root.join(path), &mut paths))?;
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path)?;
        Ok(Page { path: path.strip_prefix(root)?.to_owned(), text })
    };
    paths.into_iter().map(read).collect()
}

fn collect(path: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in path.read_dir()? {
            collect(&entry?.path(), paths)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "md") {
        paths.push(path.to_owned());
    }
    Ok(())
}

impl Page {
    /// All blocks.
    ///
    /// # Errors
    ///
    /// When one is made by indentation, which says no language, or is not closed.
    pub fn blocks(&self) -> Result<Vec<Block>> {
        let (mut blocks, mut open, mut is_after_blank) = (Vec::new(), None::<Block>, true);
        for (number, line) in (1..).zip(self.text.lines()) {
            let place = || format!("{}:{number}", self.path.display());
            if let Some(fence) = line.strip_prefix("```") {
                open = match open.take() {
                    Some(block) => {
                        blocks.push(block);
                        None
                    }
                    None => {
                        let (language, attribute) = fence.split_once(',').unwrap_or((fence, ""));
                        let [language, attribute] = [language, attribute].map(str::to_owned);
                        Some(Block { place: place(), language, attribute, text: String::new() })
                    }
                };
            } else if let Some(block) = &mut open {
                block.text += line;
                block.text.push('\n');
            } else {
                let is_code = is_after_blank && line.starts_with("    ");
                ensure!(!is_code, "{}: a block by indentation: fence it", place());
            }
            is_after_blank = line.trim().is_empty();
        }
        ensure!(open.is_none(), "{}: a block does not end", self.path.display());
        Ok(blocks)
    }

    /// What stands between backquotes outside of blocks, line by line.
    pub fn spans(&self) -> impl Iterator<Item = &str> {
        let mut in_block = false;
        let prose = self.text.split("\n\n").filter(move |paragraph| {
            let was = in_block;
            let fences = paragraph.lines().filter(|line| line.starts_with("```")).count();
            in_block ^= fences % 2 == 1;
            !was && fences == 0
        });
        prose.flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2))
    }
}

impl Block {
    /// Whether it is what it says; of command lines and transcripts another has to say so.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self, root: &Path) -> Result<()> {
        self.judge(root).with_context(|| self.place.clone())
    }

    fn judge(&self, root: &Path) -> Result<()> {
        let (key, file) = self.attribute.split_once('=').unwrap_or((&self.attribute, ""));
        let source = || {
            let path = root.join(file);
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        match (self.language.as_str(), key) {
            ("rust", "from") => {
                ensure!(is_passage(&self.text, &source()?), "it is not a passage of {file}");
            }
            ("toml", "lines") => has_all(&source()?, file, self.text.lines().map(uncommented))?,
            ("usage", "help") => {
                let words = self.text.split(|it: char| it.is_whitespace() || "[]|".contains(it));
                has_all(&source()?, file, words.filter(|word| word.starts_with("--")))?;
            }
            ("toml", "xl") => {
                Config::parse("xl.cfg", &self.text).map_err(|error| anyhow::anyhow!("{error}"))?;
            }
            ("json", "") => self.text.lines().try_for_each(message)?,
            ("sh" | "operator" | "console" | "text", "") => {}
            (language, _) => bail!("`{language},{}` says of no block what it is", self.attribute),
        }
        Ok(())
    }
}

/// Whether the lines of `text` stand one behind the other in `source`, at whatever indentation.
fn is_passage(text: &str, source: &str) -> bool {
    let text: Vec<_> = text.lines().collect();
    let source: Vec<_> = source.lines().collect();
    let indents = |line: &str| line.len() - line.trim_start().len();
    source.windows(text.len()).any(|lines| {
        let first = text.iter().zip(lines).next();
        let deeper = first.map(|(text, line)| indents(line).checked_sub(indents(text)));
        text.iter().zip(lines).all(|(text, line)| {
            let depth = indents(line).checked_sub(indents(text));
            text.trim_start() == line.trim_start() && (text.is_empty() || Some(depth) == deeper)
        })
    })
}

fn uncommented(line: &str) -> &str {
    line.split_once('#').map_or(line, |(code, _)| code).trim()
}

fn has_all<'a>(source: &str, file: &str, mut parts: impl Iterator<Item = &'a str>) -> Result<()> {
    let absent = parts.find(|part| !source.contains(part));
    ensure!(absent.is_none(), "`{}` is not in {file}", absent.unwrap_or_default());
    Ok(())
}

/// Whether a line goes over the control channel.
fn message(line: &str) -> Result<()> {
    let value: Value = serde_json::from_str(line)?;
    if value.get("ok").is_none() {
        Request::parse(line.as_bytes()).map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page { path: "a.md".into(), text: text.into() }
    }

    fn block(first: &str, text: &str) -> Block {
        page(&format!("```{first}\n{text}\n```\n")).blocks().expect("a block").remove(0)
    }

    #[test]
    fn every_block_of_the_book_is_what_it_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        let mut count = 0;
        for page in pages(root).expect("pages") {
            for block in page.blocks().expect("blocks") {
                count += 1;
                block.check(root).unwrap_or_else(|error| panic!("{error:#}"));
            }
        }
        assert!(count > 20, "{count} blocks");
    }

    #[test]
    fn a_block_says_its_language_and_one_by_indentation_is_refused() {
        let found = page("a\n\n```rust,from=x\n    b\n```\n- c\n    d\n").blocks().expect("one");
        assert_eq!((found.len(), found[0].text.as_str()), (1, "    b\n"));
        assert_eq!((&*found[0].language, &*found[0].attribute), ("rust", "from=x"));
        assert!(page("a\n\n    b\n").blocks().is_err());
        assert!(page("```text\n").blocks().is_err());
    }

    #[test]
    fn spans_are_those_of_prose() {
        let page = page("a `b` c `d\ne`.\n\n```sh\n`f`\n\n`g`\n```\n\n`h`\n");
        assert_eq!(page.spans().collect::<Vec<_>>(), ["b", "d\ne", "h"]);
    }

    #[test]
    fn a_passage_may_be_indented_as_a_whole() {
        let source = "fn a() {\n    b();\n\n    {\n        c();\n    }\n}\n";
        assert!(is_passage("b();\n\n{\n    c();\n}\n", source));
        assert!(!is_passage("b();\n\n{\nc();\n}\n", source));
        assert!(!is_passage("b();\nc();\n", source));
    }

    #[test]
    fn what_a_block_is_not_is_said() {
        let root = Path::new(".");
        let wrong = [
            block("", "x"),
            block("toml,xl", "name = 'a'\nmemory = 'much'"),
            block("json", "{\"id\": 1}"),
            block("rust,from=Cargo.toml", "no such line"),
        ];
        for block in wrong {
            assert!(block.check(root).is_err(), "{block:?}");
        }
        assert!(block("json", "{\"id\": 1, \"verb\": \"list\"}").check(root).is_ok());
    }
}
