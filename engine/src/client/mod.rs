//! The blocking client: one WebSocket to an engine, written to and read from on one thread.
//!
//! It carries messages and nothing more. What to say, and when to come back after a loss, is
//! decided by `tickwire_proto::session`, or by a publisher's own account of what was acked.
//!
//! ```no_run
//! use std::time::Duration;
//! use tickwire_engine::client::{Connection, Message, Target};
//!
//! let target = Target::parse("ws://127.0.0.1:9001/v1/ws")?;
//! let mut connection = Connection::open(&target, "eyJ…", "tickwire.v1.json", Duration::from_secs(5))?;
//! connection.send_text(r#"{"op":"subscribe","symbols":["AAPL"]}"#)?;
//! while let Some(Message::Text(text)) = connection.receive(Duration::from_secs(10))? {
//!     println!("{text}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod connection;
mod error;
mod target;

pub use connection::{Connection, Message};
pub use error::{ConnectError, Lost, Refusal};
pub use target::Target;
