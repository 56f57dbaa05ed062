//! Requests as lines of JSON: `{"id":1,"verb":"list","args":["web"]}`; with `"text":true` the answer
//! is what a person would be shown.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};

/// The longest line. Unit: bytes.
pub const LONGEST: usize = 64 << 10;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// By which its answer is known: anything that the peer likes.
    pub id: Value,
    /// The verb's name.
    pub verb: String,
    /// The words behind it.
    pub args: Vec<String>,
    /// Whether the answer is to be text.
    pub text: bool,
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    /// The answer that says what is wrong.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let wrong = |id: &Value, why: &str| answer(id, &Err(why.to_string()));
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| wrong(&Value::Null, &alloc::format!("no JSON: {error}")))?;
        let Value::Object(mut fields) = value else {
            return Err(wrong(&Value::Null, "a request is an object"));
        };
        let id = fields.remove("id").unwrap_or_default();
        if !matches!(id, Value::Null | Value::Number(_) | Value::String(_)) {
            return Err(wrong(&Value::Null, "`id` is a number or a string"));
        }
        let Some(Value::String(verb)) = fields.remove("verb") else {
            return Err(wrong(&id, "`verb` is missing, or no string"));
        };
        let text = match fields.remove("text") {
            None => false,
            Some(Value::Bool(text)) => text,
            Some(_) => return Err(wrong(&id, "`text` is true or false")),
        };
        let mut args = Vec::new();
        match fields.remove("args") {
            None => {}
            Some(Value::Array(values)) => {
                for value in values {
                    args.push(match value {
                        Value::String(word) => word,
                        Value::Number(number) => number.to_string(),
                        _ => return Err(wrong(&id, "`args` are strings or numbers")),
                    });
                }
            }
            Some(_) => return Err(wrong(&id, "`args` is a list")),
        }
        if let Some(name) = fields.keys().next() {
            return Err(wrong(&id, &alloc::format!("`{name}` is nothing of a request")));
        }
        Ok(Self { id, verb, args, text })
    }
}

/// The line that answers a request, with its end.
#[must_use]
pub fn answer(id: &Value, result: &Result<Value, String>) -> String {
    let answer = match result {
        Ok(value) => json!({ "id": id, "ok": true, "result": value }),
        Err(error) => json!({ "id": id, "ok": false, "error": error }),
    };
    answer.to_string() + "\n"
}

/// Collects bytes until a line is whole.
#[derive(Debug, Default)]
pub struct Frames {
    line: Vec<u8>,
    /// The line was too long: the rest of it is skipped.
    is_skipping: bool,
}

impl Frames {
    /// Takes a byte. Says what line it has ended, if it has; one that is too long is an error as soon
    /// as it is. Empty lines are nothing.
    ///
    /// # Errors
    /// The answer to a line that is too long.
    pub fn feed(&mut self, byte: u8) -> Result<Option<Vec<u8>>, String> {
        if byte == b'\n' {
            let skipped = core::mem::take(&mut self.is_skipping);
            let line = core::mem::take(&mut self.line);
            let is_empty = line.iter().all(u8::is_ascii_whitespace);
            return Ok((!skipped && !is_empty).then_some(line));
        }
        if self.is_skipping {
            return Ok(None);
        }
        if self.line.len() == LONGEST {
            self.is_skipping = true;
            self.line = Vec::new();
            let why = alloc::format!("a request has {LONGEST} bytes at most");
            return Err(answer(&Value::Null, &Err(why)));
        }
        self.line.push(byte);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use serde_json::{Value, json};

    use super::{Frames, LONGEST, Request, answer};

    #[test]
    fn a_request_is_read_and_what_is_none_is_answered() {
        let line = br#"{"id":7,"verb":"list","args":["web",3],"text":true}"#;
        let request = Request::parse(line).unwrap();
        assert_eq!((request.id, &*request.verb, request.text), (json!(7), "list", true));
        assert_eq!(request.args, ["web", "3"]);
        let minimal = Request::parse(br#"{"verb":"info"}"#).unwrap();
        assert_eq!((minimal.id, minimal.args.len()), (Value::Null, 0));
        let error = |line: &[u8]| -> String { Request::parse(line).unwrap_err() };
        assert_eq!(
            error(br#"{"id":1,"args":[]}"#),
            "{\"error\":\"`verb` is missing, or no string\",\"id\":1,\"ok\":false}\n"
        );
        for (line, why) in [
            (&b"\xff\x00\x1b"[..], "no JSON: "),
            (b"[1]", "a request is an object"),
            (br#"{"id":{},"verb":"x"}"#, "`id` is a number or a string"),
            (br#"{"verb":"x","args":"y"}"#, "`args` is a list"),
            (br#"{"verb":"x","args":[null]}"#, "`args` are strings or numbers"),
            (br#"{"verb":"x","text":1}"#, "`text` is true or false"),
            (br#"{"verb":"x","words":1}"#, "`words` is nothing of a request"),
            (&[b'['; 4096], "no JSON: "),
        ] {
            let error = error(line);
            assert!(error.contains(why) && error.ends_with("\"ok\":false}\n"), "{error}");
        }
    }

    #[test]
    fn an_answer_is_one_line() {
        let text = answer(&json!("x"), &Ok(json!("a\nb")));
        assert_eq!(text, "{\"id\":\"x\",\"ok\":true,\"result\":\"a\\nb\"}\n");
    }

    #[test]
    fn lines_are_whole_and_bounded() {
        let mut frames = Frames::default();
        let mut feed = |bytes: &[u8]| -> Vec<Result<Vec<u8>, String>> {
            bytes.iter().filter_map(|&byte| frames.feed(byte).transpose()).collect()
        };
        assert_eq!(feed(b"ab\n\r\n c\nd"), [Ok(b"ab".to_vec()), Ok(b" c".to_vec())]);
        assert_eq!(feed(b"e\n"), [Ok(b"de".to_vec())]);
        let long = [b'x'; LONGEST + 9];
        let answers = feed(&long);
        assert!(answers.len() == 1 && answers[0].as_ref().unwrap_err().contains("65536 bytes"));
        assert_eq!(feed(b"x\nnext\n"), [Ok(b"next".to_vec())]);
    }
}
