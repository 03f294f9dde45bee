//! Tables in Markdown.

use std::fmt;

/// What stands where there is no figure.
pub const ABSENT: &str = "–";

/// A table. Columns in which no row has anything are left out: what a scenario cannot have needs no
/// place in it.
#[derive(Debug, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    of_text: bool,
}

impl Table {
    /// An empty table with these columns; the first is text, the others are figures.
    pub fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self {
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            of_text: false,
        }
    }

    /// The same of columns that are all text.
    pub fn text<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self {
            of_text: true,
            ..Self::new(head)
        }
    }

    /// Adds a row with a cell per column; an empty one has nothing.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.head.len(), "a cell per column");
        self.rows.push(cells);
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = |column: usize| self.rows.iter().any(|row| !row[column].is_empty());
        let columns: Vec<usize> = (0..self.head.len())
            .filter(|&column| used(column))
            .collect();
        let line = |f: &mut fmt::Formatter<'_>, row: &[String]| {
            for &column in &columns {
                let cell = if row[column].is_empty() {
                    ABSENT
                } else {
                    &row[column]
                };
                write!(f, "| {} ", escaped(cell))?;
            }
            writeln!(f, "|")
        };
        line(f, &self.head)?;
        for &column in &columns {
            let left = column == 0 || self.of_text;
            write!(f, "| {} ", if left { "---" } else { "---:" })?;
        }
        writeln!(f, "|")?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

/// A cell of what can be written, and nothing otherwise.
pub fn cell(figure: Option<impl fmt::Display>) -> String {
    figure.map(|figure| figure.to_string()).unwrap_or_default()
}

/// `1 round`, `5 rounds`.
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Text that neither ends a cell nor a line.
pub fn escaped(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_figures_are_left_out() {
        let mut table = Table::new(["server", "a", "b"]);
        table.row(["one | two", "", "1"]);
        table.row(["x\ny", "", ""]);
        let text = "| server | b |\n| --- | ---: |\n| one \\| two | 1 |\n| x y | – |\n";
        assert_eq!(table.to_string(), text);
    }
}
