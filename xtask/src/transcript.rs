//! What guests say on both systems, compared.

use anyhow::{Result, bail, ensure};

/// The most values of a guest that may differ.
const VARYING: usize = 15;

/// Compares two transcripts of one guest, byte for byte but for the values it marks as varying
/// (`name~value`, up to the next white space). `places` is where they come from.
///
/// # Errors
///
/// Names the first line that differs.
pub(crate) fn compare(transcripts: [&str; 2], places: [&str; 2]) -> Result<()> {
    ensure!(transcripts.iter().any(|text| !text.is_empty()), "the guest said nothing, twice");
    let [ours, theirs] = transcripts.map(normal);
    let [here, there] = places;
    let varying = theirs.matches("~*").count();
    ensure!(varying <= VARYING, "{varying} varying values, {VARYING} are the most");
    let mut lines = (1..).zip(ours.lines().zip(theirs.lines()));
    if let Some((number, (ours, theirs))) = lines.find(|(_, (ours, theirs))| ours != theirs) {
        bail!("line {number} differs:\n    {here}: {ours}\n    {there}: {theirs}");
    }
    let (ours, theirs) = (ours.lines().count(), theirs.lines().count());
    ensure!(
        ours == theirs,
        "{here} has {ours} lines, {there} {theirs}; the shorter is equal so far"
    );
    Ok(())
}

/// What one of several domains says: its lines, without the `NAME| ` that each begins with.
pub(crate) fn of_domain(transcript: &str, name: &str) -> String {
    let own = |line: &str| line.strip_prefix(name)?.strip_prefix("| ").map(str::to_owned);
    transcript.lines().filter_map(own).fold(String::new(), |text, line| text + &line + "\n")
}

/// The transcript with every varying value replaced by a star.
fn normal(transcript: &str) -> String {
    let mut out = String::with_capacity(transcript.len());
    let mut rest = transcript;
    while let Some((before, value)) = rest.split_once('~') {
        out.push_str(before);
        let length = value.find(char::is_whitespace).unwrap_or(value.len());
        out.push_str(if length == 0 { "~" } else { "~*" });
        rest = value.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_values_may_differ_and_nothing_else() {
        let both = |ours, theirs| compare([ours, theirs], ["here", "there"]);
        assert!(both("a~1 b\nc\n", "a~22 b\nc\n").is_ok());
        let error = both("a~1 b\nc\n", "a~1 b\nd\n").expect_err("differs");
        assert_eq!(error.to_string(), "line 2 differs:\n    here: c\n    there: d");
        assert!(both("a\n", "a\nb\n").is_err());
        assert!(both("", "").is_err());
    }

    #[test]
    fn a_domain_has_the_lines_that_carry_its_name() {
        let text = "a| 1\nab| 2\na| b| 3\na: POWEROFF\n";
        assert_eq!(of_domain(text, "a"), "1\nb| 3\n");
        assert_eq!(of_domain(text, "b"), "");
    }

    #[test]
    fn too_much_variation_is_refused() {
        let text = "x~1 ".repeat(16);
        assert!(compare([&text; 2], [""; 2]).is_err());
        let alone = "~ ".repeat(16);
        assert!(compare([&alone; 2], [""; 2]).is_ok());
    }
}
