//! What the watcher sees: one frame of the story, drawn over the last one where
//! stdout is a terminal, and as plain lines where it is not.
//!
//! A frame is data and its lines are a pure function of it and the width.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use console::{Alignment, Style, Term, pad_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::rollout::Phase;

/// Wider than this a line is no longer read at a glance.
const WIDEST: usize = 110;
const NARROWEST: usize = 70;
/// Where everything after a line's label begins.
const INDENT: usize = 12;
/// The judge's sentence gets this many lines, always, so that nothing jumps.
const SENTENCE_LINES: usize = 3;

#[derive(Clone, Debug)]
pub struct Frame {
    pub title: String,
    /// Since the story began.
    pub elapsed: Duration,
    pub phase: Phase,
    pub steps: Vec<Step>,
    pub canary_parts: u32,
    pub rows: Vec<Row>,
    /// The judge's.
    pub sentence: String,
    /// From no evidence, 0, to enough for a rollback, 1.
    pub meter: f64,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub label: String,
    /// Share of its time that has passed, 0 to 1.
    pub done: f64,
}

/// What went on at one version, or at all users, in the last seconds.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub parts: Option<u32>,
    pub per_second: f64,
    /// `None` when nothing ended.
    pub success: Option<f64>,
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
}

pub enum Screen {
    Live { bar: ProgressBar, terminal: Term },
    Plain { second: Option<u64> },
}

impl Screen {
    pub fn open() -> Screen {
        if !std::io::stdout().is_terminal() {
            return Screen::plain();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout_with_hz(20));
        // One bar whose message is the whole frame: it is drawn at once or not at all.
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is a constant"));
        Screen::Live { bar, terminal: Term::stdout() }
    }

    pub fn plain() -> Screen {
        Screen::Plain { second: None }
    }

    /// A line that stays.
    pub fn say(&mut self, line: &str) {
        match self {
            Screen::Live { bar, .. } => bar.println(line),
            // Who closes the pipe does not want to know more.
            Screen::Plain { .. } => drop(writeln!(std::io::stdout(), "{}", console::strip_ansi_codes(line))),
        }
    }

    /// The same for a long text, which hangs under its first word on a terminal.
    pub fn tell(&mut self, head: &str, text: &str) {
        let Screen::Live { terminal, .. } = self else { return self.say(&format!("{head}{text}")) };
        let room = usize::from(terminal.size().1).clamp(NARROWEST, WIDEST) - head.len();
        let blank = " ".repeat(head.len());
        for (i, line) in wrap(text, room).iter().enumerate() {
            self.say(&format!("{}{line}", if i == 0 { head } else { &blank }));
        }
    }

    pub fn show(&mut self, frame: &Frame) {
        match self {
            Screen::Live { bar, terminal } => {
                let width = usize::from(terminal.size().1).saturating_sub(1);
                bar.set_message(frame.lines(width).join("\n"));
                bar.tick();
            }
            Screen::Plain { second } => {
                let now = frame.elapsed.as_secs();
                if *second != Some(now) {
                    *second = Some(now);
                    self.say(&frame.line());
                }
            }
        }
    }

    /// Takes the frame away; what was said stays.
    pub fn close(self) {
        if let Screen::Live { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

impl Frame {
    /// As many lines for every frame of one story.
    fn lines(&self, width: usize) -> Vec<String> {
        let width = width.clamp(NARROWEST, WIDEST);
        let mut lines = vec![String::new(), self.head(width), String::new()];
        lines.push(self.ladder(width));
        lines.push(self.weights(width));
        lines.push(String::new());
        let dim = Style::new().dim();
        let head = format!(
            "{:INDENT$}{:>9}{:>13}{:>11}{:>11}{:>11}",
            "", "weight", "requests/s", "success", "p50", "p99"
        );
        lines.push(dim.apply_to(head).to_string());
        lines.extend(self.rows.iter().map(Row::line));
        lines.push(String::new());
        lines.extend(self.verdict(width));
        lines.push(self.evidence(width));
        lines
    }

    /// The same in one line, for files and pipes.
    fn line(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(Row::short).collect();
        format!(
            "{}  {:<11} canary {:>5}  {}",
            seconds(self.elapsed),
            word(self.phase),
            percent(self.canary_parts),
            rows.join("  ")
        )
    }

    fn head(&self, width: usize) -> String {
        let time = format!("{:.1} s", self.elapsed.as_secs_f64());
        let title = pad_str(&self.title, width - time.len() - 2, Alignment::Left, Some("…"));
        format!(" {} {}", Style::new().bold().apply_to(title), Style::new().dim().apply_to(time))
    }

    fn ladder(&self, width: usize) -> String {
        let labels: usize = self.steps.iter().map(|step| step.label.chars().count() + 3).sum();
        let each = (width - INDENT).saturating_sub(labels) / self.steps.len().max(1);
        let bars: Vec<String> = self
            .steps
            .iter()
            .map(|step| format!("{} {}", step.label, bar(step.done, each, '━', '─', &self.colour())))
            .collect();
        label("steps") + &bars.join("  ")
    }

    fn weights(&self, width: usize) -> String {
        let text = format!(" canary {:>5}", percent(self.canary_parts));
        let room = width - INDENT - text.len();
        let canary = f64::from(self.canary_parts) / 10_000.0;
        // A canary with any share at all shows at least one cell.
        let mut cells = (canary * room as f64).round() as usize;
        if self.canary_parts > 0 {
            cells = cells.max(1);
        }
        let primary = Style::new().blue().apply_to("█".repeat(room - cells));
        let canary = Style::new().yellow().apply_to("█".repeat(cells));
        format!("{}{primary}{canary}{text}", label("weights"))
    }

    fn verdict(&self, width: usize) -> Vec<String> {
        let room = width - INDENT;
        let mut lines = wrap(&self.sentence, room);
        if lines.len() > SENTENCE_LINES {
            let rest = lines.split_off(SENTENCE_LINES - 1).join(" ");
            lines.push(console::truncate_str(&rest, room, "…").into_owned());
        }
        lines.resize(SENTENCE_LINES, String::new());
        let colour = self.colour().bold();
        let heads = std::iter::once("judge").chain(std::iter::repeat(""));
        lines
            .iter()
            .zip(heads)
            .map(|(line, head)| format!("{}{}", label(head), colour.apply_to(line)))
            .collect()
    }

    fn evidence(&self, width: usize) -> String {
        let text = format!(" {:3.0} % of what a rollback needs", (self.meter * 100.0).clamp(0.0, 100.0));
        let meter = bar(self.meter, width - INDENT - text.len(), '━', '─', &Style::new().red());
        format!("{}{meter}{text}", label("evidence"))
    }

    fn colour(&self) -> Style {
        match self.phase {
            Phase::Idle | Phase::Queued | Phase::Running | Phase::Paused => Style::new().cyan(),
            Phase::Suspended | Phase::Held => Style::new().yellow(),
            Phase::Baking | Phase::Promoting | Phase::Succeeded => Style::new().green(),
            Phase::RolledBack | Phase::Aborted => Style::new().red(),
        }
    }
}

impl Row {
    fn line(&self) -> String {
        format!(
            " {}{:>9}{:>13.0}{}{:>11}{:>11}",
            pad_str(&self.name, INDENT - 1, Alignment::Left, Some("…")),
            self.parts.map_or(String::new(), percent),
            self.per_second,
            self.success_cell(),
            self.p50_us.map_or("-".to_owned(), milliseconds),
            self.p99_us.map_or("-".to_owned(), milliseconds),
        )
    }

    fn success_cell(&self) -> String {
        let Some(success) = self.success else { return format!("{:>11}", "-") };
        let style = if success < 0.99 { Style::new().red() } else { Style::new() };
        style.apply_to(format!("{:>9.2} %", success * 100.0)).to_string()
    }

    fn short(&self) -> String {
        let name = self.name.split(' ').next().unwrap_or_default();
        match self.success {
            None => format!("{name} -"),
            Some(success) => format!(
                "{name} {:.0}/s {:.2} % ok p99 {}",
                self.per_second,
                success * 100.0,
                self.p99_us.map_or("-".to_owned(), milliseconds)
            ),
        }
    }
}

/// A phase as people say it.
pub fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Succeeded => "promoted",
        phase => phase.name(),
    }
}

fn label(text: &str) -> String {
    let padded = format!(" {text:<width$}", width = INDENT - 1);
    Style::new().dim().apply_to(padded).to_string()
}

fn bar(done: f64, cells: usize, full: char, empty: char, style: &Style) -> String {
    let filled = ((done.clamp(0.0, 1.0) * cells as f64).round() as usize).min(cells);
    let front: String = std::iter::repeat_n(full, filled).collect();
    let back: String = std::iter::repeat_n(empty, cells - filled).collect();
    format!("{}{}", style.apply_to(front), Style::new().dim().apply_to(back))
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(console::truncate_str(word, width, "…").into_owned()),
        }
    }
    lines
}

/// A time on the story's own clock.
pub fn seconds(elapsed: Duration) -> String {
    format!("{:>5.1} s", elapsed.as_secs_f64())
}

/// `250` is `2.5 %`.
pub fn percent(parts: u32) -> String {
    format!("{} %", f64::from(parts) / 100.0)
}

pub fn milliseconds(us: u64) -> String {
    let ms = us as f64 / 1000.0;
    match ms {
        ..10.0 => format!("{ms:.1} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let row = |name: &str, parts, success| Row {
            name: name.to_owned(),
            parts,
            per_second: 761.2,
            success,
            p50_us: Some(6100),
            p99_us: Some(134_000),
        };
        Frame {
            title: "v3, a release of which 5 % of the answers are errors, and which has a long title"
                .to_owned(),
            elapsed: Duration::from_millis(12_345),
            phase: Phase::Running,
            steps: [("5 %", 1.0), ("25 %", 0.5), ("50 %", 0.0), ("bake", 0.0)]
                .map(|(label, done)| Step { label: label.to_owned(), done })
                .to_vec(),
            canary_parts: 500,
            rows: vec![
                row("primary v2", Some(9500), Some(0.9991)),
                row("canary v3", Some(500), Some(0.9512)),
                row("users", None, None),
            ],
            sentence:
                "CONTINUE: 5 of 6 failures hit the canary, its traffic share explains 0.3 (canary 5.10 % \
                       failed, primary 0.09 %); evidence 64:1, rollback at 1000:1"
                    .to_owned(),
            meter: 0.6,
        }
    }

    #[test]
    fn every_line_fits_every_width_and_their_number_never_changes() {
        let count = frame().lines(80).len();
        for width in NARROWEST..140 {
            for sentence in ["", "short", &"word ".repeat(100), &"x".repeat(500)] {
                let frame = Frame { sentence: sentence.to_owned(), ..frame() };
                let lines = frame.lines(width);
                assert_eq!(lines.len(), count, "at width {width}");
                for line in lines {
                    let wide = console::measure_text_width(&line);
                    assert!(wide <= width, "{wide} columns at width {width}: {line}");
                }
            }
        }
    }

    #[test]
    fn frame_shows_each_figure() {
        let text = console::strip_ansi_codes(&frame().lines(100).join("\n")).into_owned();
        for part in
            ["12.3 s", "95 %", "5 %", "761", "99.91 %", "95.12 %", "6.1 ms", "134 ms", "64:1", " 60 %"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn smallest_share_is_visible_and_none_is_not() {
        let cells = |parts| {
            console::set_colors_enabled(true);
            let line = Frame { canary_parts: parts, ..frame() }.weights(80);
            console::set_colors_enabled(false);
            line.split("\u{1b}[33m").nth(1).map_or(0, |part| part.chars().filter(|c| *c == '█').count())
        };
        assert_eq!((cells(0), cells(1)), (0, 1));
        assert!(cells(5000) > 20);
    }

    #[test]
    fn progress_bar_fills_from_left_to_right() {
        let text = |done| console::strip_ansi_codes(&bar(done, 4, '#', '.', &Style::new())).into_owned();
        assert_eq!(
            [text(-1.0), text(0.0), text(0.5), text(1.0), text(9.0)],
            ["....", "....", "##..", "####", "####"]
        );
    }

    #[test]
    fn long_sentence_is_cut_and_says_so() {
        let frame = Frame { sentence: "word ".repeat(100), ..frame() };
        let verdict = frame.verdict(80);
        assert_eq!(verdict.len(), SENTENCE_LINES);
        assert!(console::strip_ansi_codes(&verdict[SENTENCE_LINES - 1]).ends_with('…'), "{verdict:?}");
    }

    #[test]
    fn figures_have_units_that_fit_their_size() {
        assert_eq!(milliseconds(6149), "6.1 ms");
        assert_eq!(milliseconds(134_400), "134 ms");
        assert_eq!(milliseconds(2_340_000), "2.3 s");
        assert_eq!((percent(250), percent(10_000)), ("2.5 %".to_owned(), "100 %".to_owned()));
    }
}
