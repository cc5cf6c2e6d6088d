//! How a listener speaks HTTP/2.

use std::time::Duration;

use serin_proxy::model::{Http2, KeepAlive};

use crate::config::fields::Spot;

use super::units;

const FIELDS: [&str; 5] = ["maxStreams", "streamWindow", "connectionWindow", "maxFrameSize", "keepAlive"];
const KEEP_ALIVE: [&str; 2] = ["interval", "timeout"];

const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What both sides start with (RFC 9113, 6.9.2), and the largest there is.
const WINDOW: std::ops::RangeInclusive<usize> = 65_535..=(1 << 31) - 1;
/// RFC 9113, 4.2.
const FRAME: std::ops::RangeInclusive<usize> = 16_384..=(1 << 24) - 1;

pub fn read(spot: &Spot) -> Http2 {
    let mut http2 = Http2::default();
    let Some(fields) = spot.fields(&FIELDS) else { return http2 };
    if let Some(most) = fields.get("maxStreams").and_then(|spot| spot.whole(1, 1_000_000)) {
        http2.max_streams = u32::try_from(most).unwrap_or(http2.max_streams);
    }
    let size = |name: &str, range: std::ops::RangeInclusive<usize>, size: &mut u32| {
        let Some(spot) = fields.get(name) else { return };
        let Some(bytes) = spot.parsed(units::size) else { return };
        match u32::try_from(bytes) {
            Ok(bytes) if range.contains(&(bytes as usize)) => *size = bytes,
            _ => spot.error(format!("must be from {} to {} bytes", range.start(), range.end())),
        }
    };
    size("streamWindow", WINDOW, &mut http2.stream_window);
    size("connectionWindow", WINDOW, &mut http2.connection_window);
    size("maxFrameSize", FRAME, &mut http2.max_frame_size);
    if http2.connection_window < http2.stream_window {
        spot.error("`connectionWindow` is over all streams and not smaller than `streamWindow`");
    }
    http2.keep_alive = fields.get("keepAlive").and_then(|spot| keep_alive(&spot));
    http2
}

fn keep_alive(spot: &Spot) -> Option<KeepAlive> {
    let fields = spot.fields(&KEEP_ALIVE)?;
    let interval = fields.need("interval").and_then(|spot| spot.parsed(units::some_time));
    let timeout = match fields.get("timeout") {
        Some(spot) => spot.parsed(units::some_time),
        None => Some(PING_TIMEOUT),
    };
    Some(KeepAlive { interval: interval?, timeout: timeout? })
}
