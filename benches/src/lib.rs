//! Benchmarks live beside this file, one per hot step.
