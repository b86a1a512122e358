//! Tests of the whole binary.
