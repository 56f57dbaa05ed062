//! Public items of a crate that no example shows.
//!
//! An item is shown if an example stands in its own documentation, or if one on a page where a reader meets
//! it has its name: for a method in the documentation of its type and of the type's other methods, for all
//! else in that of its module or of one that exports it anew. Macros and what is generated for a trait are
//! not looked into.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Expr, ExprLit, ImplItem, Item, Lit, Meta, TraitItem, UseTree, Visibility};

/// What is known of a crate.
#[derive(Debug, Default)]
struct Crate {
    /// Examples by page: a module is a path, a type a path and a name.
    examples: BTreeMap<String, String>,
    /// Each public item: its place and name, whether it has an example, and the pages that may show it.
    items: Vec<(String, String, bool, Vec<String>)>,
    /// Modules that export an item anew, by its name.
    exports: BTreeMap<String, Vec<String>>,
}

/// Names each public item below the folder `source` that no example shows: its file, and its name.
///
/// # Errors
///
/// When a file cannot be read, or is not Rust.
pub fn without_example(source: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    collect(source, &mut files)?;
    files.sort();
    let mut all = Crate::default();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let syntax = syn::parse_file(&text).with_context(|| file.display().to_string())?;
        let place = file.strip_prefix(source)?.display().to_string();
        let folder = file.parent().unwrap_or(source).strip_prefix(source)?;
        let above = folder.join("mod.rs").display().to_string();
        all.module(&place, &above, &syntax);
    }
    Ok(all.absent())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_test {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|it| it == "rs") && !is_test {
            files.push(path);
        }
    }
    Ok(())
}

impl Crate {
    fn absent(&self) -> Vec<String> {
        let shows = |page: &String, name: &str| {
            self.examples.get(page).is_some_and(|text| {
                text.split(|it: char| !it.is_alphanumeric() && it != '_').any(|word| word == name)
            })
        };
        let absent = self.items.iter().filter(|(_, name, has, pages)| {
            let again = self.exports.get(name).into_iter().flatten();
            !has && !pages.iter().chain(again).any(|page| shows(page, name))
        });
        absent
            .map(|(place, name, _, pages)| {
                let of = pages.iter().find_map(|page| page.split_once('#'));
                let of = of.map_or(String::new(), |(_, of)| format!("{of}::"));
                format!("{place}: {of}{name}")
            })
            .collect()
    }

    fn module(&mut self, place: &str, above: &str, file: &syn::File) {
        let own = example(&file.attrs);
        self.show(place, &own);
        let at = [place.to_owned(), above.to_owned()];
        for item in &file.items {
            self.item(place, &at, item);
        }
    }

    fn show(&mut self, page: &str, example: &str) {
        self.examples.entry(page.to_owned()).or_default().push_str(example);
    }

    fn add(&mut self, place: &str, name: &str, attributes: &[Attribute], pages: &[String]) {
        let example = example(attributes);
        let row = (place.to_owned(), name.to_owned(), !example.is_empty(), pages.to_vec());
        self.items.push(row);
        // What a type's documentation shows is on the type's page.
        self.show(&format!("{place}#{name}"), &example);
    }

    fn item(&mut self, place: &str, at: &[String], item: &Item) {
        match item {
            Item::Use(it) if is_public(&it.vis) => self.exported(place, &it.tree),
            Item::Struct(it) if is_public(&it.vis) => {
                self.add(place, &it.ident.to_string(), &it.attrs, at);
            }
            Item::Enum(it) if is_public(&it.vis) => {
                self.add(place, &it.ident.to_string(), &it.attrs, at);
            }
            Item::Fn(it) if is_public(&it.vis) => {
                self.add(place, &it.sig.ident.to_string(), &it.attrs, at);
            }
            Item::Macro(it) if has(&it.attrs, "macro_export") => {
                let name = it.ident.as_ref().map(ToString::to_string).unwrap_or_default();
                self.add(place, &name, &it.attrs, at);
            }
            Item::Macro(it) => self.generated(place, at, it.mac.tokens.clone()),
            Item::Trait(it) if is_public(&it.vis) => {
                let name = it.ident.to_string();
                self.add(place, &name, &it.attrs, at);
                let page = format!("{place}#{name}");
                for item in &it.items {
                    if let TraitItem::Fn(method) = item {
                        self.method(place, &page, &method.sig.ident.to_string(), &method.attrs);
                    }
                }
            }
            Item::Impl(it) if it.trait_.is_none() => {
                let syn::Type::Path(of) = &*it.self_ty else { return };
                let name = of.path.segments.last().map(|it| it.ident.to_string());
                let page = format!("{place}#{}", name.unwrap_or_default());
                for item in &it.items {
                    if let ImplItem::Fn(method) = item
                        && is_public(&method.vis)
                    {
                        self.method(place, &page, &method.sig.ident.to_string(), &method.attrs);
                    }
                }
            }
            _ => {}
        }
    }

    fn method(&mut self, place: &str, page: &str, name: &str, attributes: &[Attribute]) {
        let example = example(attributes);
        self.show(page, &example);
        let row = (place.to_owned(), name.to_owned(), !example.is_empty(), vec![page.to_owned()]);
        self.items.push(row);
    }

    /// What is inside of `bitflags!`.
    fn generated(&mut self, place: &str, at: &[String], tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let item =
            tokens.iter().position(|it| matches!(it, TokenTree::Ident(it) if it == "struct"));
        let name = item.and_then(|item| tokens.get(item + 1)).map(ToString::to_string);
        let Some((item, name)) = item.zip(name) else { return };
        let head = tokens.iter().take(item.saturating_sub(1)).cloned().collect::<TokenStream>();
        let attributes = |input: syn::parse::ParseStream<'_>| {
            let found = Attribute::parse_outer(input)?;
            input.parse::<TokenStream>().map(|_| found)
        };
        let attributes = syn::parse::Parser::parse2(attributes, head).unwrap_or_default();
        self.add(place, &name, &attributes, at);
    }

    fn exported(&mut self, place: &str, tree: &UseTree) {
        match tree {
            UseTree::Path(it) => self.exported(place, &it.tree),
            UseTree::Group(it) => it.items.iter().for_each(|tree| self.exported(place, tree)),
            UseTree::Name(it) => {
                self.exports.entry(it.ident.to_string()).or_default().push(place.to_owned());
            }
            UseTree::Rename(_) | UseTree::Glob(_) => {}
        }
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn has(attributes: &[Attribute], name: &str) -> bool {
    attributes.iter().any(|it| it.path().is_ident(name))
}

/// The examples in documentation: what stands between fences that say Rust or nothing.
fn example(attributes: &[Attribute]) -> String {
    let (mut text, mut open) = (String::new(), None);
    for attribute in attributes.iter().filter(|it| it.path().is_ident("doc")) {
        let Meta::NameValue(meta) = &attribute.meta else { continue };
        let Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) = &meta.value else { continue };
        for line in line.value().lines() {
            match (line.trim().strip_prefix("```"), open) {
                (Some(_), Some(_)) => open = None,
                (Some(language), None) => open = Some(!language.starts_with("text")),
                (None, Some(true)) => text += &(line.to_owned() + "\n"),
                (None, _) => {}
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent(text: &str) -> Vec<String> {
        let mut all = Crate::default();
        all.module("a.rs", "mod.rs", &syn::parse_file(text).expect("Rust"));
        all.absent()
    }

    #[test]
    fn every_public_item_of_the_sdk_is_shown_by_an_example() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        let absent = without_example(&root.join("pv-guest-sdk/src")).expect("the SDK");
        assert!(absent.is_empty(), "{} without:\n{}", absent.len(), absent.join("\n"));
    }

    #[test]
    fn an_example_of_its_own_or_one_that_has_its_name_shows_an_item() {
        let text = "//! ```\n//! a();\n//! ```\npub fn a() {}\npub fn b() {}\n\
                    /// ```\n/// it.c();\n/// ```\npub struct S;\n\
                    impl S { pub fn c() {} pub fn d() {} fn e() {} }\n\
                    /// ```text\n/// f()\n/// ```\npub fn f() {}";
        assert_eq!(absent(text), ["a.rs: b", "a.rs: S::d", "a.rs: f"]);
    }
}
