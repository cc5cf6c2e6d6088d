//! From what was measured to one page and its data. Medians over rounds, and ratios only within a round:
//! the machine drifts between rounds by more than the proxies differ.

use serde::Deserialize;
use serde::Serialize;

use crate::peers::Kind;

/// A whole run.
#[derive(Serialize, Deserialize)]
pub struct Report {
    pub date: String,
    pub machine: Vec<String>,
    pub method: String,
    pub peers: Vec<(String, String)>,
    pub sections: Vec<Section>,
}

/// One workload.
#[derive(Serialize, Deserialize)]
pub struct Section {
    pub workload: String,
    /// When, of which commit, and how busy the machine was before.
    pub taken: String,
    pub tables: Vec<Table>,
    /// Whoever does not take part, and why.
    pub missing: Vec<(String, String)>,
    pub notes: Vec<String>,
    /// Each peer's file, word for word but for ports.
    pub configs: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// What a request costs.
    Cost { title: String, rows: Vec<Row> },
    /// Anything else: named rows, named columns, some samples in each cell.
    Grid(Grid),
}

#[derive(Serialize, Deserialize)]
pub struct Grid {
    pub title: String,
    pub columns: Vec<Column>,
    pub rows: Vec<(String, Vec<Vec<f64>>)>,
}

#[derive(Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub decimals: usize,
}

impl Grid {
    pub fn new(title: &str, columns: &[(&str, usize)]) -> Grid {
        let columns =
            columns.iter().map(|&(name, decimals)| Column { name: name.to_owned(), decimals }).collect();
        Grid { title: title.to_owned(), columns, rows: Vec::new() }
    }

    /// The samples of a cell; a row begins with its first.
    pub fn add(&mut self, row: &str, column: usize, samples: impl IntoIterator<Item = f64>) {
        let at = self.rows.iter().position(|(name, _)| name == row).unwrap_or_else(|| {
            self.rows.push((row.to_owned(), vec![Vec::new(); self.columns.len()]));
            self.rows.len() - 1
        });
        self.rows[at].1[column].extend(samples);
    }

    fn text(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let mut text = format!("|  | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for (name, cells) in &self.rows {
            let cells: Vec<String> = cells.iter().zip(&self.columns).map(cell).collect();
            text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
        }
        text
    }
}

/// The median, and from where to where the samples are.
fn cell((samples, column): (&Vec<f64>, &Column)) -> String {
    let number = |value| number(Some(value), column.decimals);
    let (least, most) = (samples.iter().copied().reduce(f64::min), samples.iter().copied().reduce(f64::max));
    match (median(samples.clone()), least, most) {
        (Some(median), Some(least), Some(most)) if samples.len() > 1 => {
            format!("{} ({} to {})", number(median), number(least), number(most))
        }
        (median, ..) => self::number(median, column.decimals),
    }
}

impl Section {
    pub fn text(&self) -> String {
        let mut text = format!("\n## {}\n\n{}\n", self.workload, self.taken);
        for table in &self.tables {
            match table {
                Table::Cost { title, rows } => {
                    text.push_str(&format!("\n**{title}**\n\n{}", self::table(rows)));
                }
                Table::Grid(grid) => text.push_str(&format!("\n**{}**\n\n{}", grid.title, grid.text())),
            }
        }
        for (name, why) in &self.missing {
            text.push_str(&format!("\n{name}: {why}.\n"));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    pub fn configurations(&self) -> String {
        let mut text = String::new();
        for (name, config) in &self.configs {
            text.push_str(&format!("\n### {}: {name}\n\n```\n{config}```\n", self.workload));
        }
        text
    }
}

impl Report {
    /// Takes over from an earlier page what this one has not measured; `order` is that of the sections.
    pub fn complete(&mut self, earlier: Report, order: &[String]) {
        let missing = |section: &Section| !self.sections.iter().any(|own| own.workload == section.workload);
        let (kept, _): (Vec<_>, Vec<_>) = earlier.sections.into_iter().partition(missing);
        self.sections.extend(kept);
        self.sections.sort_by_key(|section| order.iter().position(|name| *name == section.workload));
        for peer in earlier.peers {
            if !self.peers.contains(&peer) {
                self.peers.push(peer);
            }
        }
    }

    pub fn text(&self) -> String {
        let mut text = format!("# serin versus, {}\n\n{}\n", self.date, self.method);
        text.push_str("\n## Machine\n\n");
        for fact in &self.machine {
            text.push_str(&format!("- {fact}\n"));
        }
        text.push_str("\n## Peers\n\n");
        for (name, version) in &self.peers {
            text.push_str(&format!("- {name}: {version}\n"));
        }
        for section in &self.sections {
            text.push_str(&section.text());
        }
        text.push_str("\n## Configurations\n");
        for section in &self.sections {
            text.push_str(&section.configurations());
        }
        text
    }
}

/// One peer in one round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// None where there is no proxy to pay.
    pub cpu: Option<Cpu>,
    pub per_second: f64,
    pub answered: u64,
    pub errors: u64,
    pub asked: [u64; 2],
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cpu {
    pub user_us: f64,
    pub system_us: f64,
    /// Share of the window in which the proxy ran.
    pub busy: f64,
}

impl Cpu {
    pub fn total_us(self) -> f64 {
        self.user_us + self.system_us
    }
}

/// One peer over all rounds; a round it failed in is None.
#[derive(Serialize, Deserialize)]
pub struct Row {
    pub kind: Kind,
    pub rounds: Vec<Option<Figures>>,
    pub resident_kib: Option<u64>,
}

pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| proxy | CPU us/request, median | min | max | user / system | x Envoy | x nginx | x HAProxy | x floor \
         | requests/s, median (best) | core busy | errors | canary share | memory |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        text.push_str(&line(row, rows));
    }
    let beside = rows.iter().find(|row| row.kind == Kind::Beside);
    if let Some(ratio) = beside.and_then(|row| ratio(row, rows, Kind::Serin)) {
        text.push_str(&format!("\n{}: {ratio:.3} of serin's cost.\n", Kind::Beside.name()));
    }
    text
}

fn line(row: &Row, rows: &[Row]) -> String {
    let costs = row.costs();
    let cpus: Vec<Cpu> = row.figures().filter_map(|figures| figures.cpu).collect();
    let split = |part: fn(&Cpu) -> f64| number(median(cpus.iter().map(part).collect()), 1);
    let rates: Vec<f64> = row.figures().map(|figures| figures.per_second).collect();
    let best = rates.iter().copied().reduce(f64::max);
    let cells = [
        row.kind.name().to_owned(),
        number(median(costs.clone()), 1),
        number(costs.iter().copied().reduce(f64::min), 1),
        number(costs.iter().copied().reduce(f64::max), 1),
        format!("{} / {}", split(|cpu| cpu.user_us), split(|cpu| cpu.system_us)),
        number(ratio(row, rows, Kind::Envoy), 2),
        number(ratio(row, rows, Kind::Nginx), 2),
        number(ratio(row, rows, Kind::Haproxy), 2),
        number(ratio(row, rows, Kind::Relay), 2),
        format!("{} ({})", number(median(rates), 0), number(best, 0)),
        percent(median(cpus.iter().map(|cpu| cpu.busy).collect()), 0),
        row.errors(),
        percent(row.canary_share(), 2),
        row.resident_kib.map_or_else(|| "-".to_owned(), |kib| format!("{:.1} MiB", kib as f64 / 1024.0)),
    ];
    format!("| {} |\n", cells.join(" | "))
}

/// The median over rounds of this row's cost over the other's in the same round.
pub fn ratio(row: &Row, rows: &[Row], other: Kind) -> Option<f64> {
    let other = rows.iter().find(|candidate| candidate.kind == other)?;
    let pairs = row.rounds.iter().zip(&other.rounds);
    median(pairs.filter_map(|(own, its)| Some(cost(own)? / cost(its)?)).collect())
}

fn cost(round: &Option<Figures>) -> Option<f64> {
    Some(round.as_ref()?.cpu?.total_us())
}

impl Row {
    fn figures(&self) -> impl Iterator<Item = &Figures> {
        self.rounds.iter().flatten()
    }

    fn costs(&self) -> Vec<f64> {
        self.rounds.iter().filter_map(cost).collect()
    }

    fn errors(&self) -> String {
        let errors: u64 = self.figures().map(|figures| figures.errors).sum();
        match self.rounds.iter().filter(|round| round.is_none()).count() {
            0 => errors.to_string(),
            lost => format!("{errors}, and {lost} rounds failed"),
        }
    }

    fn canary_share(&self) -> Option<f64> {
        let sum = |version: usize| self.figures().map(|figures| figures.asked[version]).sum::<u64>();
        let (primary, canary) = (sum(0), sum(1));
        (primary + canary > 0).then(|| canary as f64 / (primary + canary) as f64)
    }
}

pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

fn percent(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.decimals$} %", value * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(total_us: f64) -> Option<Figures> {
        let cpu = Cpu { user_us: total_us / 2.0, system_us: total_us / 2.0, busy: 0.5 };
        Some(Figures {
            cpu: Some(cpu),
            per_second: 1e6 / total_us,
            answered: 100,
            errors: 1,
            asked: [90, 10],
        })
    }

    fn row(kind: Kind, rounds: Vec<Option<Figures>>) -> Row {
        Row { kind, rounds, resident_kib: None }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_skip_failed_ones() {
        let own = row(Kind::Serin, vec![round(10.0), round(30.0), round(99.0)]);
        let rows = [row(Kind::Envoy, vec![round(20.0), round(40.0), None])];
        // 0.5 and 0.75 within rounds; medians over all rounds would have said 1.0.
        assert_eq!(ratio(&own, &rows, Kind::Envoy), Some(0.625));
        assert_eq!(ratio(&own, &rows, Kind::Nginx), None);
    }

    #[test]
    fn a_page_is_completed_by_what_it_has_not_measured_itself() {
        let section = |workload: &str, taken: &str| Section {
            workload: workload.to_owned(),
            taken: taken.to_owned(),
            tables: Vec::new(),
            missing: Vec::new(),
            notes: Vec::new(),
            configs: Vec::new(),
        };
        let page = |sections| Report {
            date: String::new(),
            machine: Vec::new(),
            method: String::new(),
            peers: Vec::new(),
            sections,
        };
        let mut now = page(vec![section("c", "now"), section("a", "now")]);
        now.complete(
            page(vec![section("a", "before"), section("b", "before")]),
            &["a", "b", "c"].map(str::to_owned),
        );
        let taken: Vec<_> =
            now.sections.iter().map(|section| (section.workload.as_str(), section.taken.as_str())).collect();
        assert_eq!(taken, [("a", "now"), ("b", "before"), ("c", "now")]);
    }

    #[test]
    fn a_line_sums_errors_and_names_lost_rounds() {
        let row = row(Kind::Nginx, vec![round(10.0), None, round(20.0)]);
        let line = line(&row, std::slice::from_ref(&row));
        assert!(line.contains("| 15.0 | 10.0 | 20.0 | 7.5 / 7.5 |"), "{line}");
        assert!(line.contains("| 2, and 1 rounds failed | 10.00 % |"), "{line}");
    }
}
