//! Lines on axes, with a legend beside them.

use std::io;

use plotters::{
    coord::Shift,
    drawing::{DrawingArea, DrawingAreaErrorKind},
    element::DashedPathElement,
    prelude::*,
};

use super::{Pen, axis::Axis};

/// Pixels of a plot with lines.
const WIDTH: u32 = 1_120;
/// Pixels; a long legend needs more.
const HEIGHT_MIN: u32 = 560;
/// Pixels above the middle of the legend's first line.
const LEGEND_TOP: u32 = 56;
/// Pixels of it for the legend.
const LEGEND_WIDTH: u32 = 370;
/// Pixels from one line of the legend to the next.
const LEGEND_STEP: u32 = 24;
/// Pixels of the sample in the legend.
const SAMPLE_WIDTH: i32 = 36;
/// Axes and text: as dark as is needed on white, and no darker.
pub const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
/// Whatever the reader's machine writes with.
pub const FONT: &str = "sans-serif";

/// Where drawing goes: into a string.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What drawing may fail with, as far as the types go.
pub type Failure = DrawingAreaErrorKind<io::Error>;

/// One server's line.
pub struct Curve {
    /// What the legend says.
    pub title: String,
    /// How it is drawn.
    pub pen: Pen,
    /// Values on both axes, from left to right.
    pub points: Vec<(f64, f64)>,
    /// What marks the points; nothing where it is empty.
    pub marks: Vec<Mark>,
}

/// A point's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The server did its job.
    Full,
    /// It did not.
    Hollow,
}

/// A plot of lines.
pub struct Lines {
    /// Its title.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From below.
    pub y: Axis,
    /// In the order of the legend.
    pub curves: Vec<Curve>,
    /// A bound on the vertical axis.
    pub bound: Option<f64>,
}

/// An SVG of `size`, on white: a transparent one would be unreadable on a dark page.
pub fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), Failure>,
) -> io::Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    area.fill(&WHITE)
        .and_then(|()| draw(&area))
        .and_then(|()| area.present())
        .map_err(|error| io::Error::other(error.to_string()))?;
    drop(area);
    Ok(text)
}

impl Lines {
    /// The SVG.
    pub fn svg(&self) -> io::Result<String> {
        let legend = LEGEND_TOP + LEGEND_STEP * self.curves.len() as u32;
        svg((WIDTH, legend.max(HEIGHT_MIN)), |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), Failure> {
        let (left, right) = area.split_horizontally(WIDTH - LEGEND_WIDTH);
        let mut chart = ChartBuilder::on(&left)
            .caption(&self.title, (FONT, 22).into_font().color(&INK))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        chart
            .configure_mesh()
            .x_desc(&self.x.title)
            .y_desc(&self.y.title)
            .label_style((FONT, 17).into_font().color(&INK))
            .axis_desc_style((FONT, 17).into_font().color(&INK))
            .axis_style(INK)
            .bold_line_style(GRID)
            .draw()?;
        if let Some(bound) = self.bound {
            let line = [(self.x.from, bound), (self.x.to, bound)];
            let style = INK.stroke_width(1);
            chart.draw_series([DashedPathElement::new(line, 2, 4, style)])?;
        }
        // The legend begins with ours, which therefore must be drawn last, above all others.
        for curve in self.curves.iter().rev() {
            let style = curve.pen.colour.stroke_width(curve.pen.width);
            match curve.pen.dash {
                None => {
                    chart.draw_series([PathElement::new(curve.points.clone(), style)])?;
                }
                Some((dash, gap)) => {
                    chart.draw_series([DashedPathElement::new(
                        curve.points.clone(),
                        dash,
                        gap,
                        style,
                    )])?;
                }
            }
            for (&point, mark) in curve.points.iter().zip(&curve.marks) {
                let filled = match mark {
                    Mark::Full => curve.pen.colour.filled(),
                    Mark::Hollow => WHITE.filled(),
                };
                chart.draw_series([
                    Circle::new(point, 4, filled),
                    Circle::new(point, 4, curve.pen.colour.stroke_width(2)),
                ])?;
            }
        }
        self.legend(&right)
    }

    fn legend(&self, area: &Area<'_>) -> Result<(), Failure> {
        let font = (FONT, 17).into_font().color(&INK);
        for (line, curve) in (0..).zip(&self.curves) {
            let y = (LEGEND_TOP + LEGEND_STEP * line) as i32;
            let sample = vec![(0, y), (SAMPLE_WIDTH, y)];
            let style = curve.pen.colour.stroke_width(curve.pen.width);
            match curve.pen.dash {
                None => area.draw(&PathElement::new(sample, style))?,
                Some((dash, gap)) => {
                    area.draw(&DashedPathElement::new(sample, dash, gap, style))?;
                }
            }
            let place = (SAMPLE_WIDTH + 8, y - 9);
            area.draw(&Text::new(curve.title.clone(), place, font.clone()))?;
        }
        Ok(())
    }
}
