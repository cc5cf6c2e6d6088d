//! How an endpoint's answer begins: read strictly, and what it means for the
//! connection and for whoever counts.

use std::mem::MaybeUninit;

use http::HeaderMap;

use crate::fault::Fault;
use crate::fault::Kind;
use crate::head;
use crate::message::field;
use crate::message::field::MAX_FIELDS;
use crate::message::field::Persistence;
use crate::message::field::Role;
use crate::message::framing::Framing;
use crate::message::scan;
use crate::message::scan::Fields;
use crate::message::scan::Says;
use crate::outcome;

/// How the answer begins, and how long its head is.
pub struct FirstLine<'h> {
    pub version: u8,
    pub code: u16,
    pub length: usize,
    /// Where the line ends, if it is spelled as we would spell it.
    pub plain: Option<usize>,
    pub reason: &'h str,
}

impl<'h> FirstLine<'h> {
    /// `None` where the head has not ended yet, in which `fields` are put.
    pub fn of(bytes: &'h [u8], fields: &mut Fields<'h>) -> Result<Option<FirstLine<'h>>, Fault> {
        match FirstLine::read(bytes, fields) {
            Some(first) => Ok(Some(first)),
            None => FirstLine::read_odd(bytes, fields),
        }
    }

    fn read(bytes: &'h [u8], fields: &mut Fields<'h>) -> Option<FirstLine<'h>> {
        let Says { code, end } = scan::status_line(bytes)?;
        let length = fields.read(bytes, end)?;
        Some(FirstLine { version: 1, code, length, plain: Some(end), reason: "" })
    }

    /// Reads what is no worse than odd; `None` where the head has not ended yet.
    fn read_odd(bytes: &'h [u8], fields: &mut Fields<'h>) -> Result<Option<FirstLine<'h>>, Fault> {
        let bad = Fault::upstream(Kind::Garbage);
        let mut memory = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut memory);
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(bad),
        };
        let (Some(version), Some(code)) = (response.version, response.code) else { return Err(bad) };
        fields.adopt(response.headers).ok_or(bad)?;
        let reason = response.reason.unwrap_or("");
        Ok(Some(FirstLine { version, code, length, plain: None, reason }))
    }
}

/// What its fields mean to a relay.
pub struct Meaning {
    pub framing: Framing,
    /// The connection may serve another request after this answer.
    pub keep: bool,
    pub persistence: Persistence,
    pub has_date: bool,
    pub has_server: bool,
    /// No body, and no word of one may pass.
    pub bare: bool,
    pub account: Account,
}

/// What an answer's fields say to whoever counts.
#[derive(Clone, Copy, Default)]
pub struct Account {
    /// Its body is gRPC.
    pub grpc: bool,
    /// Whether the server has failed, where a gRPC status in the head says so.
    pub grpc_failure: Option<bool>,
    /// The endpoint wants no more requests.
    pub resigns: bool,
}

impl Account {
    pub fn of(headers: &HeaderMap) -> Account {
        Account {
            grpc: outcome::is_grpc(headers),
            grpc_failure: outcome::grpc_failure(headers),
            resigns: headers.contains_key(outcome::RESIGNS),
        }
    }

    pub fn has_failed(self) -> bool {
        self.grpc_failure == Some(true)
    }
}

impl Meaning {
    pub fn read(
        fields: &Fields<'_>,
        version: u8,
        status: http::StatusCode,
        head_only: bool,
    ) -> Result<Meaning, Fault> {
        let bad = Fault::upstream(Kind::Garbage);
        let (mut length, mut chunked, mut has_date) = (None, false, false);
        let (mut account, mut has_server) = (Account::default(), false);
        let mut persistence = Persistence::default();
        for (header, role) in fields.iter() {
            match role {
                Role::Plain => {}
                Role::ContentLength => {
                    let known = field::content_length(header.value).ok_or(bad)?;
                    // The same length said twice is odd and harmless.
                    if length.is_some_and(|length| length != known) {
                        return Err(bad);
                    }
                    length = Some(known);
                }
                Role::TransferEncoding if !chunked && header.value.eq_ignore_ascii_case(b"chunked") => {
                    chunked = true
                }
                Role::TransferEncoding => return Err(bad),
                Role::Connection => persistence.read(header.value),
                Role::Date => has_date = true,
                Role::Server => has_server = true,
                Role::ContentType => account.grpc |= head::is_grpc(header.value),
                Role::Resigns => account.resigns = true,
                Role::GrpcStatus => {
                    account.grpc_failure.get_or_insert_with(|| outcome::is_grpc_failure(header.value));
                }
                _ => {}
            }
        }
        if chunked && (length.is_some() || version == 0) {
            return Err(bad);
        }
        let bodyless =
            head_only || matches!(status, http::StatusCode::NO_CONTENT | http::StatusCode::NOT_MODIFIED);
        let framing = match (length, chunked) {
            _ if bodyless => Framing::None,
            (_, true) => Framing::chunked_padded(),
            (Some(length), false) => Framing::Length(length),
            (None, false) => Framing::UntilClose,
        };
        let lasting = if version == 0 { persistence.keep_alive } else { !persistence.close };
        let bare = status == http::StatusCode::NO_CONTENT || status.is_informational();
        let unannounced = bare && (chunked || length.is_some_and(|length| length > 0));
        let keep = lasting && !unannounced && !matches!(framing, Framing::UntilClose);
        Ok(Meaning { framing, keep, persistence, has_date, has_server, bare, account })
    }

    /// Does the `connection` field name this one?
    pub fn names(&self, fields: &Fields<'_>, name: &str) -> bool {
        self.persistence.names_fields
            && fields.iter().filter(|(_, role)| *role == Role::Connection).any(|(header, _)| {
                let mut tokens = header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                tokens.any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
            })
    }
}
