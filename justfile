# Everything one does with this repository; `just` lists it.

# list the recipes
default:
    @just --list

# watch a good release promoted and bad ones rolled back
demo:
    cargo run --release -- demo

# all that CI runs
check:
    ./tests/run

# format the code
fmt:
    cargo fmt --all

# lints, warnings as errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# the tests alone, without setting anything up
test:
    cargo test --workspace

# rewrite the expected outputs of the config cases after looking at them
expect:
    UPDATE_EXPECT=1 cargo test --test integration dialects

# fuzz every parser of ours, so many seconds each
fuzz SECONDS="60" *TARGETS:
    tests/fuzz/run {{SECONDS}} {{TARGETS}}

# serin beside a real Envoy, for so many generated requests
differ CASES="20000":
    SERIN_DIFFER_CASES={{CASES}} cargo test --test integration differ:: -- --nocapture

# serin against its peers: CPU per request and requests/s
versus *ARGS:
    cargo run --release -p serin-bench -- versus {{ARGS}}

# instructions of the request path's parts against the baseline (needs valgrind)
micro *ARGS:
    cargo run --release -p serin-bench -- micro --compare {{ARGS}}

# the judge's scenarios: requests and failures until rollback
judge *ARGS:
    cargo run --release -p serin-bench -- judge {{ARGS}}

# licences and sources of the dependencies (needs cargo-deny)
deny:
    cargo deny check licenses bans sources
