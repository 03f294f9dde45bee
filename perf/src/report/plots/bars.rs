//! The plot that is bars: CPU per delivered tick.

use std::io;

use plotters::prelude::*;

use super::{
    super::{
        figures::{Spread, number},
        metric::Metric,
        results::{Place, Results},
        servers::Server,
    },
    Pens,
    axis::Axis,
    canvas::{Area, FONT, Failure, GRID, INK, svg},
    median,
};

/// Pixels.
const WIDTH: u32 = 1_120;
/// Pixels of a server's bar with the space around it.
const ROW: u32 = 30;
/// Pixels above and below the bars.
const FRAME: u32 = 112;
/// Pixels for the servers' names.
const NAMES_WIDTH: u32 = 340;
/// Part of its row that a bar fills, above and below the middle.
const HALF: f64 = 0.34;
/// Room at the right for the figure, of the longest bar.
const ROOM: f64 = 1.12;

/// A server's bar.
struct Bar {
    server: Server,
    total: Spread,
    system: f64,
}

/// CPU per delivered tick at one point, cheapest first; nothing for a single server.
pub fn cpu(results: &Results, place: Place<'_>, pens: &Pens) -> io::Result<Option<String>> {
    let mut bars: Vec<Bar> = Vec::new();
    for server in results.servers_in(place.scenario) {
        let own = place.of(&server.name);
        if let Some(total) = results.spread(own, &Metric::Cpu) {
            let system = median(results, own, &Metric::CpuSystem).unwrap_or_default();
            let system = system.min(total.median);
            bars.push(Bar {
                server,
                total,
                system,
            });
        }
    }
    // A bar alone has nothing to be compared with.
    if bars.len() < 2 {
        return Ok(None);
    }
    bars.sort_by(|one, other| one.total.median.total_cmp(&other.total.median));
    let name = results.name(place);
    let title = format!("{name}: CPU µs per delivered tick (full: kernel, light: user mode)");
    let height = FRAME + ROW * bars.len() as u32;
    svg((WIDTH, height), |area| draw(area, &title, &bars, pens)).map(Some)
}

fn draw(area: &Area<'_>, title: &str, bars: &[Bar], pens: &Pens) -> Result<(), Failure> {
    let longest = bars.iter().map(|bar| bar.total.max).fold(0.0, f64::max);
    let x = Axis::linear("CPU µs per delivered tick", longest * ROOM);
    let names: Vec<String> = bars.iter().map(|bar| bar.server.title.clone()).collect();
    let y = Axis::rows(&names);
    let middles: Vec<f64> = y.ticks.iter().map(|(middle, _)| *middle).collect();
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 22).into_font().color(&INK))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(NAMES_WIDTH)
        .build_cartesian_2d(x.clone(), y)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_desc(&x.title)
        .label_style((FONT, 17).into_font().color(&INK))
        .axis_desc_style((FONT, 17).into_font().color(&INK))
        .axis_style(INK)
        .bold_line_style(GRID)
        .draw()?;
    for (bar, y) in bars.iter().zip(middles) {
        let colour = pens.of(&bar.server).colour;
        let Spread {
            median, min, max, ..
        } = bar.total;
        let part =
            |from: f64, to: f64, style| Rectangle::new([(from, y - HALF), (to, y + HALF)], style);
        chart.draw_series([
            part(0.0, bar.system, colour.filled()),
            part(bar.system, median, colour.mix(0.4).filled()),
        ])?;
        // On white, to be seen on dark bars too.
        let spread = [(min, y), (max, y)];
        chart.draw_series([
            PathElement::new(spread, WHITE.stroke_width(5)),
            PathElement::new(spread, INK.stroke_width(2)),
        ])?;
        let font = (FONT, 17).into_font().color(&INK);
        let place = (max + longest * 0.01, y + 0.25);
        chart.draw_series([Text::new(number(median), place, font)])?;
    }
    Ok(())
}
