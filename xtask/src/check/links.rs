//! Links within the documentation lead somewhere, and every page of the book is in its contents.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The book's pages.
const BOOK: &str = "docs/src";

/// Checks all Markdown files at the root and below `docs`.
///
/// # Errors
///
/// Names each link that leads nowhere and each page that the contents leave out.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut pages = Vec::new();
    markdown(root, false, &mut pages)?;
    markdown(&root.join("docs"), true, &mut pages)?;
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in &pages {
        let text = read(page)?;
        for target in targets(&text) {
            count += 1;
            if !resolves(page, &text, target)? {
                let page = page.strip_prefix(root).unwrap_or(page).display();
                wrong.push(format!("{page}: {target}"));
            }
        }
    }
    let book = root.join(BOOK);
    let summary = read(&book.join("SUMMARY.md"))?;
    let listed: Vec<PathBuf> = targets(&summary).map(|target| book.join(target)).collect();
    for page in pages.iter().filter(|page| page.starts_with(&book)) {
        if !page.ends_with("SUMMARY.md") && !listed.contains(page) {
            wrong.push(format!("{BOOK}/SUMMARY.md: {} is not in it", page.display()));
        }
    }
    ensure!(wrong.is_empty(), "these lead nowhere:\n    {}", wrong.join("\n    "));
    println!("{count} links in {} pages", pages.len());
    Ok(())
}

fn read(page: &Path) -> Result<String> {
    std::fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))
}

fn markdown(folder: &Path, deep: bool, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in folder.read_dir().with_context(|| format!("no folder {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && deep {
            markdown(&path, deep, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(())
}

/// The targets of all inline links outside of code blocks.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    });
    prose.flat_map(|line| {
        let behind = line.split("](").skip(1);
        behind.filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
    })
}

fn resolves(page: &Path, text: &str, target: &str) -> Result<bool> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(true);
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    if file.is_empty() {
        return Ok(has_heading(text, anchor));
    }
    let path = page.parent().unwrap_or(page).join(file);
    if !path.exists() {
        return Ok(false);
    }
    Ok(anchor.is_empty() || has_heading(&read(&path)?, anchor))
}

/// Whether a heading gets the identifier `anchor`: its words in small letters, joined by dashes.
fn has_heading(text: &str, anchor: &str) -> bool {
    text.lines().filter(|line| line.starts_with('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        kept.map(|it| if it == ' ' { '-' } else { it }).collect::<String>() == anchor
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_prose_are_found_and_those_in_code_are_not() {
        let text = "See [a](b.md) and [c](#d).\n```\n[x](y)\n```\n[e](f.md#g)";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["b.md", "#d", "f.md#g"]);
    }

    #[test]
    fn headings_are_found_by_their_words() {
        let text = "# Exit codes, `QEMU`\ntext";
        assert!(has_heading(text, "exit-codes-qemu"));
        assert!(!has_heading(text, "exit-codes"));
    }
}
