//! The costs of a run as bars for the README: each proxy's processor time per request over Envoy's in the
//! same round, which is the line at 1. Ink and colours are of middle lightness, so that they read on white and
//! on black.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use plotters::backend::SVGBackend;
use plotters::element::Text;
use plotters::prelude::IntoDrawingArea;
use plotters::prelude::Rectangle;
use plotters::style::Color;
use plotters::style::FontStyle;
use plotters::style::IntoTextStyle;
use plotters::style::RGBColor;
use plotters::style::ShapeStyle;
use plotters::style::text_anchor::HPos;
use plotters::style::text_anchor::Pos;
use plotters::style::text_anchor::VPos;

use crate::peers::Kind;
use crate::report;
use crate::report::Report;
use crate::report::Row;
use crate::report::Table;

const INK: RGBColor = RGBColor(125, 130, 138);
const WIDTH: i32 = 860;
const LEFT: i32 = 250;
const RIGHT: i32 = 70;
const TOP: i32 = 64;
const BAR: i32 = 10;
const GAP: i32 = 12;
/// Bars longer than this many times Envoy's are cut, and say so.
const MOST: f64 = 1.5;

/// Of the tables of routes the largest are drawn.
const ROUTES_SHOWN: &str = "10000 ";

/// Who is drawn, in which colour, from top to bottom.
const SHOWN: [(Kind, RGBColor); 5] = [
    (Kind::Relay, RGBColor(150, 150, 150)),
    (Kind::Serin, RGBColor(228, 120, 32)),
    (Kind::Nginx, RGBColor(58, 158, 92)),
    (Kind::Haproxy, RGBColor(62, 132, 206)),
    (Kind::Traefik, RGBColor(38, 164, 176)),
];

struct Group {
    title: String,
    bars: Vec<(RGBColor, f64)>,
}

pub fn draw(report: &Report, path: &Path) -> Result<()> {
    let groups = groups(report);
    let bars: i32 = groups.iter().map(|group| group.bars.len() as i32 * BAR + GAP).sum();
    let height = TOP + bars + 10;
    let text = {
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, (WIDTH as u32, height as u32)).into_drawing_area();
            let mut y = TOP;
            legend(&area)?;
            ruler(&area, height)?;
            for group in &groups {
                let middle = y + group.bars.len() as i32 * BAR / 2;
                write(&area, &group.title, LEFT - 8, middle, HPos::Right, 13, INK)?;
                for &(colour, ratio) in &group.bars {
                    bar(&area, y, colour, ratio)?;
                    y += BAR;
                }
                y += GAP;
            }
            area.present()?;
        }
        text
    };
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

type Area<'a> = plotters::drawing::DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn bar(area: &Area<'_>, y: i32, colour: RGBColor, ratio: f64) -> Result<()> {
    let end = place(ratio.min(MOST));
    area.draw(&Rectangle::new([(LEFT, y), (end, y + BAR - 1)], ShapeStyle::from(colour).filled()))?;
    let label = if ratio > MOST { format!("{ratio:.1} (cut)") } else { format!("{ratio:.2}") };
    write(area, &label, end + 4, y + BAR / 2, HPos::Left, 10, INK)
}

fn place(ratio: f64) -> i32 {
    LEFT + (ratio / MOST * f64::from(WIDTH - LEFT - RIGHT)) as i32
}

fn legend(area: &Area<'_>) -> Result<()> {
    let title = "processor time per request, as a multiple of Envoy's in the same round (less is better)";
    write(area, title, 10, 14, HPos::Left, 14, INK)?;
    let mut x = LEFT;
    for (kind, colour) in SHOWN {
        area.draw(&Rectangle::new([(x, 32), (x + 11, 43)], ShapeStyle::from(colour).filled()))?;
        let name = if kind == Kind::Relay { "TCP relay" } else { kind.name() };
        write(area, name, x + 15, 38, HPos::Left, 12, INK)?;
        x += 30 + name.len() as i32 * 7;
    }
    Ok(())
}

/// A line at Envoy's own cost, and fainter ones at its quarters.
fn ruler(area: &Area<'_>, height: i32) -> Result<()> {
    for quarter in 0..=4 {
        let ratio = f64::from(quarter) / 4.0;
        let x = place(ratio);
        let faint = ShapeStyle::from(INK.mix(if quarter == 4 { 0.9 } else { 0.3 })).filled();
        area.draw(&Rectangle::new([(x, TOP - 4), (x + 1, height - 8)], faint))?;
        let label = if quarter == 4 { "1 = Envoy".to_owned() } else { ratio.to_string() };
        write(area, &label, x, TOP - 10, HPos::Center, 10, INK)?;
    }
    Ok(())
}

fn write(area: &Area<'_>, text: &str, x: i32, y: i32, side: HPos, size: u32, ink: RGBColor) -> Result<()> {
    // plotters makes of a size in pixels one in points, as a font without its metrics would have it.
    let size = f64::from(size) * 1.24;
    let style = ("sans-serif", size, FontStyle::Normal).into_text_style(area).color(&ink);
    area.draw(&Text::new(text.to_owned(), (x, y), style.pos(Pos::new(side, VPos::Center))))?;
    Ok(())
}

/// Every table of costs in which Envoy takes part.
fn groups(report: &Report) -> Vec<Group> {
    let mut groups = Vec::new();
    for section in
        report.sections.iter().filter(|section| !["workers", "judge-cost"].contains(&&*section.workload))
    {
        for (index, table) in section.tables.iter().enumerate() {
            let Table::Cost { title, rows } = table else { continue };
            if section.workload == "routes" && !title.starts_with(ROUTES_SHOWN) {
                continue;
            }
            let bars: Vec<_> =
                SHOWN.iter().filter_map(|&(kind, colour)| Some((colour, over_envoy(rows, kind)?))).collect();
            if over_envoy(rows, Kind::Envoy).is_some() {
                groups.push(Group { title: short(&section.workload, index, title), bars });
            }
        }
    }
    groups
}

fn over_envoy(rows: &[Row], kind: Kind) -> Option<f64> {
    report::ratio(rows.iter().find(|row| row.kind == kind)?, rows, Kind::Envoy)
}

fn short(workload: &str, index: usize, title: &str) -> String {
    match (workload, index) {
        ("plain", _) => "HTTP/1.1, 90/10 split".to_owned(),
        ("sticky", _) => "sticky by cookie".to_owned(),
        ("h2", _) => "HTTP/2 to HTTP/1.1".to_owned(),
        ("grpc", 0) => "gRPC, unary".to_owned(),
        ("grpc", _) => "gRPC, stream of 100".to_owned(),
        ("tls", _) => "TLS 1.3, kept".to_owned(),
        ("handshake", _) => "TLS 1.3 handshake".to_owned(),
        ("body64k", _) => "64 KiB answers".to_owned(),
        ("body1m", _) => "1 MiB answers".to_owned(),
        ("upload", 0) => "64 KiB uploads".to_owned(),
        ("upload", _) => "1 MiB uploads".to_owned(),
        ("mirror", _) => "100 % mirrored".to_owned(),
        ("routes", _) => title.split(',').next().unwrap_or(title).to_owned(),
        ("churn", _) => "a connection per request".to_owned(),
        _ => title.to_owned(),
    }
}
