//! The JSON of the protocol, from outside: golden vectors, and what holds for every message.

mod generators;
mod properties;
mod vectors;
