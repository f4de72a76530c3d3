//! Tests of operations on a table.
