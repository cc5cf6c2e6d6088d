//! What came of one request, as its client and the origins saw it, and how it
//! reads line by line.

use super::stage::{Asked, latin};

#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub interim: Vec<u16>,
    pub status: Option<u16>,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub ending: Ending,
    /// Something in the answer was not HTTP/1.1.
    pub garbled: bool,
    /// The connection was closed afterwards.
    pub closed: bool,
    /// The tries that reached an origin.
    pub asked: Vec<Asked>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// The connection closed before the answer's end.
    Cut,
    /// The connection closed without an answer.
    #[default]
    Nothing,
    /// Neither an end nor a close within patience.
    Silence,
    /// An HTTP/2 stream was reset.
    Reset,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn drop_field(&mut self, name: &str) {
        self.fields.retain(|(key, _)| key != name);
    }

    /// No origin gave this answer.
    pub fn is_local(&self) -> bool {
        self.field("x-origin").is_none()
    }

    /// Everything that is compared, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.interim.is_empty() {
            lines.push(format!("interim {:?}", self.interim));
        }
        lines.push(match self.status {
            Some(status) => format!("status {status}"),
            None => "no status".to_owned(),
        });
        lines.extend(sorted(&self.fields).into_iter().map(|(name, value)| format!("  {name}: {value}")));
        if self.ending == Ending::Whole {
            lines.push(format!("body {}", excerpt(&self.body)));
            lines.extend(self.trailers.iter().map(|(name, value)| format!("  trailer {name}: {value}")));
        }
        lines.push(format!("end: {:?}{}", self.ending, if self.garbled { ", garbled" } else { "" }));
        lines.push(format!("connection {}", if self.closed { "closed" } else { "kept" }));
        for (n, asked) in self.asked.iter().enumerate() {
            lines.push(format!(
                "try {} at {}: {} {} {}",
                n + 1,
                asked.origin,
                asked.method,
                asked.target,
                asked.version
            ));
            lines.extend(sorted(&asked.fields).into_iter().map(|(name, value)| format!("  {name}: {value}")));
            lines.push(if asked.whole {
                format!("  its body {}", excerpt(&asked.body))
            } else {
                "  its body was not read whole".to_owned()
            });
            lines.extend(asked.trailers.iter().map(|(name, value)| format!("  its trailer {name}: {value}")));
        }
        lines
    }
}

/// By name; values of one name keep their order.
fn sorted(fields: &[(String, String)]) -> Vec<(String, String)> {
    let mut sorted = fields.to_vec();
    sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
    sorted
}

fn excerpt(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let start = latin(&bytes[..bytes.len().min(120)]);
    format!("of {} bytes, {sum:016x}: {}", bytes.len(), start.escape_debug())
}

/// In how many lines they differ.
pub fn distance(envoy: &Seen, serin: &Seen) -> usize {
    let (theirs, ours) = (envoy.lines(), serin.lines());
    let missing =
        |these: &[String], those: &[String]| these.iter().filter(|line| !those.contains(line)).count();
    missing(&theirs, &ours) + missing(&ours, &theirs)
}

/// Both side by side: what is alike once, what differs with whose it is.
pub fn compare(envoy: &Seen, serin: &Seen) -> Option<String> {
    let (theirs, ours) = (envoy.lines(), serin.lines());
    if theirs == ours {
        return None;
    }
    let (mut text, mut i, mut j) = (String::new(), 0, 0);
    while i < theirs.len() || j < ours.len() {
        if i < theirs.len() && j < ours.len() && theirs[i] == ours[j] {
            text += &format!("            {}\n", ours[j]);
            (i, j) = (i + 1, j + 1);
        } else if j < ours.len() && !theirs[i..].contains(&ours[j]) {
            text += &format!("    serin > {}\n", ours[j]);
            j += 1;
        } else if i < theirs.len() {
            text += &format!("    envoy > {}\n", theirs[i]);
            i += 1;
        } else {
            text += &format!("    serin > {}\n", ours[j]);
            j += 1;
        }
    }
    Some(text)
}
