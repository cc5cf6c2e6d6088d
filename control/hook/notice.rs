//! Webhooks that are only told: of every event, and of the end. They go by the
//! courier, who tries again and keeps what cannot be delivered.

use std::sync::Arc;

use serde_json::{Value, json};

use super::payload::{self, Payload};
use super::standing::Standing;
use crate::config::Loaded;
use crate::courier::{Courier, Dead, Letter, Write};
use crate::events::Told;
use crate::outside::alert::Severity;
use crate::outside::hook::{Hook, HookType};
use crate::rollout::{EventKind, Spec};

pub fn tell(courier: &Courier, spec: &Spec, release: &str, standing: &Standing, told: &Told) {
    let is_over = matches!(
        told.event.kind,
        EventKind::Baked | EventKind::RolledBack | EventKind::Aborted | EventKind::Superseded
    );
    for hook in &spec.hooks {
        let mut payload = Payload {
            name: spec.name.clone(),
            namespace: hook.namespace.clone(),
            phase: standing.phase_name(),
            checksum: release.to_owned(),
            metadata: hook.metadata.clone(),
        };
        match hook.on {
            HookType::Event => {
                let metadata = &mut payload.metadata;
                metadata.insert("eventMessage".to_owned(), told.event.text.clone());
                metadata.insert("eventType".to_owned(), event_type(told.event.kind).to_owned());
                metadata.insert("timestamp".to_owned(), told.event.at.0.to_string());
            }
            HookType::PostRollout if is_over => {
                payload.phase = if told.event.kind == EventKind::Baked { "Succeeded" } else { "Failed" };
            }
            _ => continue,
        }
        let severity = match event_type(told.event.kind) {
            "Normal" => Severity::Info,
            _ => Severity::Warn,
        };
        courier.send(letter(hook, payload, severity));
    }
}

/// As Kubernetes divides events.
fn event_type(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Suspended
        | EventKind::Held
        | EventKind::Halted
        | EventKind::RolledBack
        | EventKind::TurnedBack
        | EventKind::Aborted
        | EventKind::Refused
        | EventKind::Waiting => "Warning",
        _ => "Normal",
    }
}

/// One that could not be delivered, and is known by what it is about.
pub fn anew(loaded: &Loaded, dead: &Dead) -> Option<Letter> {
    let (name, payload) = (dead.about["webhook"].as_str()?, dead.about["payload"].clone());
    let rollout = payload["name"].as_str()?;
    let spec = loaded.rollouts.iter().find(|spec| spec.name == rollout)?;
    let hook = spec.hooks.iter().find(|hook| hook.name == name)?.clone();
    let (lane, about, retries) = (dead.receiver.clone(), dead.about.clone(), hook.retries);
    let write = Arc::new(move || payload::call(&hook, &payload));
    Some(whole(lane, about, write, retries, Severity::Info))
}

fn letter(hook: &Hook, payload: Payload, severity: Severity) -> Letter {
    let lane = format!("webhook {} of {}", hook.name, payload.name);
    let about = json!({"webhook": hook.name, "type": hook.on.name(), "payload": payload});
    let (hook, retries) = (hook.clone(), hook.retries);
    let write = Arc::new(move || payload::call(&hook, &payload));
    whole(lane, about, write, retries, severity)
}

/// No error among them: who is told of all that happens is told in its order.
fn whole(lane: String, about: Value, write: Write, retries: u32, severity: Severity) -> Letter {
    let taken = payload::is_yes;
    Letter { lane, about, write, retries, taken, severity, state_of: None, is_repeated: false }
}
