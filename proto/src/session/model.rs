//! A model of the engine for the session's tests.
