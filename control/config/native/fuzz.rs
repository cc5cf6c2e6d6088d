//! What must hold of the words for times, sizes, shares and places, for any
//! text: what is read can be written, and is read again as the same.

use super::units;

pub fn units(text: &str) {
    if let Ok(time) = units::duration(text) {
        let (us, ns) = (time.subsec_micros(), time.subsec_nanos() % 1_000);
        let again = format!("{}s{us}.{ns:03}us", time.as_secs());
        assert_eq!(units::duration(&again), Ok(time), "{text:?} as {again}");
        assert_eq!(units::timeout(text), Ok(Some(time).filter(|time| !time.is_zero())));
        assert_eq!(units::some_time(text).is_ok(), !time.is_zero());
    }
    if let Ok(size) = units::size(text) {
        assert_eq!(units::size(&format!("{size}B")), Ok(size), "{text:?}");
    }
    shares(text);
    places(text);
}

fn shares(text: &str) {
    let fraction = units::fraction(text);
    if let Ok(parts) = units::parts(text) {
        assert_eq!(units::parts(&format!("{}.{:02}%", parts / 100, parts % 100)), Ok(parts), "{text:?}");
        assert_eq!(units::millionths(text), Ok(parts * 100), "{text:?}");
    }
    if let Ok(share) = units::millionths(text) {
        let again = format!("{}.{:04}", share / 10_000, share % 10_000);
        assert_eq!(units::millionths(&again), Ok(share), "{text:?} as {again}");
        let near = fraction.as_ref().is_ok_and(|fraction| (fraction - f64::from(share) / 1e6).abs() < 1e-12);
        assert!(near, "{text:?}: {fraction:?} and {share}");
    }
    if let Ok(fraction) = fraction {
        assert!(fraction >= 0.0 && fraction.is_finite(), "{text:?}");
        let inside = Some(fraction).filter(|fraction| *fraction > 0.0 && *fraction < 1.0);
        assert_eq!(units::quantile(&format!("p{text}")).ok(), inside, "{text:?}");
    }
    if let Ok(number) = units::decimal(text) {
        assert!(number >= 0.0 && number.is_finite(), "{text:?}");
    }
}

fn places(text: &str) {
    if let Ok(address) = units::address(text) {
        assert_eq!(units::address(&address.to_string()), Ok(address), "{text:?}");
    }
    if let Ok(network) = units::network(text) {
        assert_eq!(units::network(&network.to_string()), Ok(network), "{text:?}");
    }
    if let Ok(Some((host, port))) = units::named(text) {
        assert_eq!(units::named(&format!("{host}:{port}")), Ok(Some((host, port))), "{text:?}");
        assert!(units::address(text).is_err(), "{text:?} is an address and a name");
    }
    if let Ok(name) = units::header(text) {
        assert_eq!(units::header(&name), Ok(name.clone()));
        assert_eq!(units::token(text), Ok(text.to_owned()));
    }
    if let Ok(host) = units::host(text) {
        assert!(!host.contains(['/', '@', '?', '#', ' ']), "{text:?}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_few_thousand_mutations_break_nothing() {
        let seeds = [
            "1d2h30m1.5s250ms7us",
            "64KiB",
            "12.25%",
            "0.1234",
            "99.9",
            "[::1]:8080",
            "web.test:80",
            "10.0.0.0/8",
            "X-Header",
            "a.b:65535",
        ];
        let mut state = 0x5eed_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below.max(1)
        };
        for round in 0..20_000 {
            let mut letters: Vec<char> = seeds[round % seeds.len()].chars().collect();
            for _ in 0..random(5) {
                let at = random(letters.len());
                match random(3) {
                    0 => {
                        letters[at] = ['0', '9', '.', '%', ':', 'm', 's', ' ', '-', '/', '+', 'e'][random(12)]
                    }
                    1 => drop(letters.remove(at)),
                    _ => letters.insert(at, letters[random(letters.len())]),
                }
                if letters.is_empty() {
                    break;
                }
            }
            super::units(&letters.iter().collect::<String>());
        }
    }
}
