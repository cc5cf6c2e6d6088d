//! The command that the README asks a newcomer to type, as a script meets it.

use serde_json::Value;

use crate::harness::app::serin;

#[test]
fn the_demo_tells_in_plain_lines_and_ends_in_one_object_of_what_it_measured() {
    // It plays without the burst guard, so on a crowded machine the good release can
    // really be the slower one for a moment, and its rollback is no fault of the demo.
    let mut runs = (0..3).map(|_| serin(&["demo", "--json"]));
    let output = runs.find(|output| output.status.success()).expect("one run in three goes by the script");
    let said = String::from_utf8(output.stdout).expect("it speaks UTF-8");
    let control = said.chars().find(|letter| letter.is_control() && *letter != '\n');
    assert_eq!(control, None, "escape codes where nobody can see them:\n{said}");
    for word in ["step 1 of 3", "promoted", "ROLLBACK (", "measured in"] {
        assert!(said.contains(word), "no {word:?} in:\n{said}");
    }
    let last = said.lines().last().expect("it said something");
    let summary: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
    assert_eq!((&summary["promoted"], &summary["rolled_back"]), (&true.into(), &true.into()), "{last}");

    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number, in {last}"));
    let seconds = number(&summary["seconds_to_zero_weight"]);
    assert!(seconds > 0.0 && seconds < 10.0, "{seconds} s to weight zero");
    let [failed, seen, requests] =
        ["canary_failures", "user_failures", "requests"].map(|key| number(&summary[key]));
    assert!(failed > 0.0 && failed < 100.0, "{failed} failures until the rollback");
    assert!(seen <= failed, "users saw {seen} of {failed} failures");
    assert!(requests > 100.0, "{requests} requests");

    // The whole is the sum of what each rollout measured.
    let rollouts = summary["rollouts"].as_object().expect("figures of each rollout");
    let phases: Vec<_> = ["good", "errors", "slow"].map(|key| rollouts[key]["phase"].clone()).into();
    assert_eq!(phases, ["succeeded", "rolled_back", "rolled_back"]);
    let total: f64 = rollouts.values().map(|rollout| number(&rollout["requests"])).sum();
    assert_eq!(number(&summary["total_requests"]), total);
    for (name, rollout) in rollouts {
        let [canary, failed, of] =
            ["canary_requests", "canary_failures", "requests"].map(|key| number(&rollout[key]));
        assert!(failed <= canary && canary > 0.0 && canary <= of, "{name}: {rollout}");
    }
    assert!(number(&rollouts["slow"]["seconds_to_zero_weight"]) < 20.0, "{}", rollouts["slow"]);
}
