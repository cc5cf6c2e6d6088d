//! Placeholder with the agreed door.

pub fn run(_keep: bool, _json: bool) -> anyhow::Result<()> {
    anyhow::bail!("the demo is not part of this build")
}
