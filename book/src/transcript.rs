//! What a page says that a machine says.

/// The first line of a block that no line of `said` is like; none if all are there, in whatever order.
///
/// Two lines are alike if they have the same words, numbers aside: times and addresses are never the
/// same, nor are the letters of a domain's state. `...` stands for any lines, and what is typed at the prompt `dom0> ` is not said.
#[must_use]
pub fn missing<'a>(block: &'a str, said: &str) -> Option<&'a str> {
    // A line above the prompt begins where what was typed has been erased.
    let plain = |line: &str| shape(line.rsplit("\u{1b}[K").next().unwrap_or(line));
    let said: Vec<_> = said.lines().map(plain).collect();
    let typed = |line: &&str| *line != "..." && !line.starts_with("dom0> ");
    block.lines().filter(typed).find(|line| !said.contains(&shape(line)))
}

/// A line's words, with 0 for each number in whatever base.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for word in line.split_whitespace() {
        if word.len() == 6 && word.chars().all(|it| "-rbpscd".contains(it)) {
            shape += "STATE ";
            continue;
        }
        let mut is_number = false;
        for part in word.split_inclusive(|it: char| !it.is_ascii_alphanumeric()) {
            let body = part.trim_end_matches(|it: char| !it.is_ascii_alphanumeric());
            let starts = body.starts_with(|it: char| it.is_ascii_digit());
            // `0x1f`, `00`, and the parts of `10.0.2.80`; of bytes such as `0f a2` also the second.
            is_number = !body.is_empty()
                && (starts || body.len() == 2 && body.chars().all(|it| it.is_ascii_hexdigit()));
            shape += if is_number { "0" } else { body };
            shape += part.strip_prefix(body).unwrap_or_default();
        }
        // A row of bytes is as long as it is.
        if !(is_number && word.len() == 2 && shape.ends_with(" 0 0")) {
            shape.push(' ');
        } else {
            shape.pop();
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn numbers_do_not_count_and_words_do() {
        let said = "a=0x1f  took 2.5 us\nd0v0 left\n";
        assert_eq!(missing("a=0xabc took 31.25 us\n...\n", said), None);
        assert_eq!(missing("dom0> list\nd0v0 right\n", said), Some("d0v0 right"));
    }
}
