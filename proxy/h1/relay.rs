//! Drives one client connection as long as its requests are plain.

use std::rc::Rc;

use crate::buffer::Buffer;
use crate::connections::Connection;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::h1::client::Client;
use crate::h1::deliver::Turn;
use crate::h1::question::Asked;
use crate::h1::request;
use crate::h1::request::Extent;
use crate::h1::request::Unfit;
use crate::h1::strict;
use crate::lane::Lane;
use crate::model::Limits;
use crate::rewrite::Peer;
use crate::table::ListenerPlan;
use crate::wire::Wire;

/// What an HTTP/2 client says first, as far as it looks like a head.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

pub enum Ended {
    Closed,
    /// Somebody else has to go on, from these bytes.
    Irregular {
        wire: Wire,
        before: Vec<u8>,
        /// It begins as HTTP/2 does.
        http2: bool,
    },
}

pub async fn relay(
    lane: &Rc<Lane>,
    connection: &Rc<Connection>,
    peer: &Peer,
    wire: Wire,
    plan: &ListenerPlan,
) -> Ended {
    let (limits, manners) = (&plan.limits, plan.manners.as_deref());
    let mut client = Client { lane, connection, peer, manners, wire, input: Buffer::default(), copy: None };
    let mut fresh = true;
    let ended = loop {
        let Some(length) = client.next_head(limits).await else { break Turn::Close };
        let turn = match length {
            Ok(_) if fresh && client.input.filled().starts_with(PREFACE) => Turn::Irregular,
            Ok(most) => client.turn(most, limits).await,
            Err(Unfit::Irregular) => Turn::Irregular,
            Err(Unfit::Ambiguous) => Box::pin(client.refuse()).await,
        };
        match turn {
            Turn::Again => fresh = false,
            ended => break ended,
        }
    };
    if let Some(copy) = client.copy.take() {
        copy.go_alone();
    }
    match ended {
        Turn::Irregular => {
            let before = client.input.into_bytes();
            let http2 = fresh && before.starts_with(PREFACE);
            Ended::Irregular { wire: client.wire, before, http2 }
        }
        _ => {
            client.wire.say_goodbye();
            client.input.release(&lane.buffers);
            Ended::Closed
        }
    }
}

/// What is rare is boxed: the memory of a connection that waits is that of the
/// largest step it might be in.
impl Client<'_> {
    /// Is the next head one that hyper may read?
    fn has_one_reading(&self) -> bool {
        let filled = self.input.filled();
        match request::extent(filled, 0) {
            Extent::Whole(length) => strict::inspect(&filled[..length]).is_ok(),
            Extent::Partial | Extent::Irregular => false,
        }
    }

    /// One request and its answer.
    async fn turn(&mut self, most: usize, limits: &Limits) -> Turn {
        let busy = self.connection.begin();
        if self.lane.overload.refuses_requests() || self.connection.is_surplus() {
            return Box::pin(self.shed()).await;
        }
        let mut question = match self.ask(most, limits) {
            Ok((asked, taken)) => {
                self.input.consume(taken);
                match asked {
                    Asked::Question(question) => question,
                    Asked::Local(local) => return Box::pin(self.answer_ourselves(*local)).await,
                }
            }
            Err(Unfit::Irregular) if self.has_one_reading() => {
                self.connection.hand_on();
                return Turn::Irregular;
            }
            Err(_) => return Box::pin(self.refuse()).await,
        };
        let turn = match self.answer(&mut question).await {
            Ok(answer) => self.deliver(question, answer).await,
            Err(fault) if fault.kind == Kind::Timeout && self.wire.has_left().await => {
                Box::pin(self.fail(question, Fault::downstream(Kind::ClientGone))).await
            }
            Err(fault) => Box::pin(self.fail(question, fault)).await,
        };
        drop(busy);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F: Future>(_: fn() -> F) -> usize {
        size_of::<F>()
    }

    fn none<T>() -> T {
        unreachable!("only its type is wanted")
    }

    /// The task of a connection is as large as the largest step it might be in.
    #[test]
    fn a_connection_that_waits_is_small() {
        let relay = size_of_future(|| relay(none(), none(), none(), none(), none()));
        assert!(relay <= 2048, "{relay} bytes");
    }
}
