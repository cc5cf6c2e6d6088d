//! CORS: preflights answered, answers marked, the rest passed on.

use crate::harness::app::head;
use crate::harness::ways::{values, ways};
use crate::harness::{Answer, App, Ask, Origin};

fn preflight(path: &str, origin: &str) -> Ask {
    Ask::new("OPTIONS", path).header("origin", origin).header("access-control-request-method", "GET")
}

#[test]
fn allowed_origins_are_answered_and_others_pass() {
    let origin = Origin::answering("a", |_| Answer::ok().header("access-control-allow-origin", "upstream"));
    let app = App::start(&format!(
        "{}services:\n  web: {{primary: {}}}\nroutes:\n\
         \x20 - {{match: {{prefix: /strict}}, service: web, cors: {{origins: [\"http://a.example\"], forwardOtherPreflights: false}}}}\n\
         \x20 - {{match: {{prefix: /any}}, direct: {{status: 404, body: gone}}, cors: {{origins: \"*\"}}}}\n\
         \x20 - {{service: web, responseHeaders: {{set: {{x-edit: \"1\"}}}}, cors: {{origins: [\"http://a.example\", {{suffix: .b.example}}], \
         methods: [GET, PUT], headers: [x-a], expose: [x-b], maxAge: 1m, credentials: true, privateNetwork: true}}}}\n",
        head(1),
        origin.address
    ));
    let private = preflight("/", "http://a.example").header("access-control-request-private-network", "true");
    for (way, reply) in ways(&app, &private) {
        assert_eq!((reply.status, reply.origin()), (200, "none"), "{way}");
        for (name, value) in [
            ("access-control-allow-origin", "http://a.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "x-a"),
            ("access-control-max-age", "60"),
            ("access-control-allow-private-network", "true"),
            ("access-control-expose-headers", "x-b"),
        ] {
            assert_eq!(values(&reply, name), [value], "{name} by {way}");
        }
        assert!(values(&reply, "x-edit").is_empty(), "a preflight is not the route's, by {way}");
    }
    for (way, reply) in ways(&app, &Ask::get("/").header("origin", "https://x.b.example")) {
        assert_eq!((reply.status, reply.origin()), (200, "a"), "{way}");
        assert_eq!(values(&reply, "access-control-allow-origin"), ["https://x.b.example"], "{way}");
        assert_eq!(values(&reply, "access-control-expose-headers"), ["x-b"], "{way}");
        assert!(values(&reply, "access-control-allow-methods").is_empty(), "{way}");
    }
    for ask in [preflight("/", "http://evil.example"), Ask::get("/").header("origin", "http://evil.example")]
    {
        for (way, reply) in ways(&app, &ask) {
            assert_eq!(reply.origin(), "a", "{} by {way}", ask.method);
            assert_eq!(values(&reply, "access-control-allow-origin"), ["upstream"], "{way}");
        }
    }
    for (way, reply) in ways(&app, &preflight("/strict", "http://evil.example")) {
        assert_eq!((reply.status, reply.origin()), (200, "none"), "{way}");
        assert!(values(&reply, "access-control-allow-origin").is_empty(), "{way}");
    }
    for (way, reply) in ways(&app, &Ask::get("/any").header("origin", "http://who.example")) {
        assert_eq!(reply.status, 404, "{way}");
        assert_eq!(values(&reply, "access-control-allow-origin"), ["http://who.example"], "{way}");
    }
}
