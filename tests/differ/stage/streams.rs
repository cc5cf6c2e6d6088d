//! An origin's side of one HTTP/2 connection. What a deed says of connections is
//! done to the stream, because others have theirs on the same one.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Asked, Fields, Note, Notes, PAUSE, latin};
use crate::differ::deed::{Deed, Framing, Mishap};

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Failed>;

pub fn serve(name: String, notes: Arc<Notes>, socket: TcpStream) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a thread can have a runtime").block_on(async {
        socket.set_nonblocking(true).expect("a socket can be made so");
        socket.set_nodelay(true).expect("a socket can be made so");
        let socket = tokio::net::TcpStream::from_std(socket).expect("it is nonblocking");
        let answer = |request| answer(name.clone(), notes.clone(), request);
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        // An error means only that the proxy has left.
        let _ = server.serve_connection(TokioIo::new(socket), service_fn(answer)).await;
    });
}

/// Done with a request when dropped: the proxy may have given it up.
struct Done(Arc<Notes>, Note);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.write_down(self.1, |asked| asked.done = true);
    }
}

async fn answer(
    name: String,
    notes: Arc<Notes>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failed> {
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(ToString::to_string);
    let mut fields = pairs(&parts.headers);
    fields.extend(authority.map(|authority| ("host".to_owned(), authority)));
    fields.extend(parts.uri.scheme_str().map(|scheme| (":scheme".to_owned(), scheme.to_owned())));
    let method = parts.method.to_string();
    let asked = Asked {
        method: method.clone(),
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        version: format!("{:?}", parts.version),
        fields,
        ..Asked::default()
    };
    let (note, deed) = notes.begin(&name, asked);
    let done = Done(notes.clone(), note);
    match deed.mishap {
        Some(Mishap::ResetAtOnce | Mishap::CloseAtOnce) => return Err("at once".into()),
        Some(Mishap::Early) => drop(tokio::spawn(take(notes, note, body))),
        _ => take(notes, note, body).await?,
    }
    match deed.mishap {
        Some(Mishap::ResetUnanswered | Mishap::CloseUnanswered | Mishap::CloseAmidHead) => {
            return Err("unanswered".into());
        }
        Some(Mishap::Stall) => {
            drop(done);
            return std::future::pending().await;
        }
        _ => {}
    }
    let mut response = Response::builder().status(deed.status).header("x-origin", &name);
    for (name, value) in &deed.fields {
        if !matches!(name.as_str(), "connection" | "keep-alive") {
            let value: Vec<u8> = value.chars().map(|letter| letter as u8).collect();
            response = response.header(name, HeaderValue::from_bytes(&value)?);
        }
    }
    if deed.framing == Framing::Length && deed.status != 204 {
        response = response.header("content-length", deed.body);
    }
    Ok(response.body(body_of(&deed, &method, done))?)
}

async fn take(notes: Arc<Notes>, note: Note, mut body: Incoming) -> Result<(), Failed> {
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => notes.write_down(note, |asked| asked.body.extend_from_slice(&data)),
            Err(frame) => {
                let trailers = frame.trailers_ref().map(pairs).unwrap_or_default();
                notes.write_down(note, |asked| asked.trailers = trailers);
            }
        }
    }
    notes.write_down(note, |asked| asked.whole = true);
    Ok(())
}

/// What comes of the body, piece by piece.
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    Break,
    Silence,
}

fn body_of(deed: &Deed, method: &str, done: Done) -> Body {
    let content = if deed.has_body(method) { deed.content() } else { Vec::new() };
    let half = content[..content.len() / 2].to_vec();
    let mut pieces: Vec<Piece> = match deed.mishap {
        Some(Mishap::ResetAmidBody | Mishap::CloseAmidBody) if !half.is_empty() => {
            vec![Piece::Data(half.into()), Piece::Break]
        }
        Some(Mishap::StallAmidBody) if !half.is_empty() => vec![Piece::Data(half.into()), Piece::Silence],
        _ => {
            let size = content.len().div_ceil(deed.pieces).max(1);
            content.chunks(size).map(|piece| Piece::Data(Bytes::copy_from_slice(piece))).collect()
        }
    };
    if let Framing::Chunked { trailers } = &deed.framing
        && !trailers.is_empty()
        && deed.has_body(method)
    {
        let named = |(name, value): &(String, String)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        pieces.push(Piece::Trailers(trailers.iter().filter_map(named).collect()));
    }
    let frames = stream::unfold((pieces.into_iter(), true, done), |(mut pieces, first, done)| async move {
        let piece = pieces.next()?;
        if !first {
            tokio::time::sleep(PAUSE).await;
        }
        let frame = match piece {
            Piece::Data(data) => Ok(Frame::data(data)),
            Piece::Trailers(trailers) => Ok(Frame::trailers(trailers)),
            Piece::Break => {
                tokio::time::sleep(Duration::from_millis(24)).await;
                Err(Failed::from("amid the body"))
            }
            Piece::Silence => {
                drop(done);
                return std::future::pending().await;
            }
        };
        Some((frame, (pieces, false, done)))
    });
    BodyExt::boxed_unsync(StreamBody::new(Box::pin(frames)))
}

fn pairs(headers: &HeaderMap) -> Fields {
    headers.iter().map(|(name, value)| (name.to_string(), latin(value.as_bytes()))).collect()
}
