//! The choice of a subprotocol.

use tickwire_proto::upgrade::Subprotocol;

/// How ticks are written on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object, or an array, a text message.
    Json,
    /// Simple Binary Encoding.
    Sbe,
}

impl From<Format> for Subprotocol {
    fn from(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Sbe => Self::Sbe,
        }
    }
}
