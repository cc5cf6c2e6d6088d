//! The `serin` command.

fn main() -> std::process::ExitCode {
    serin::cli::main()
}
