//! How weights move over time, and on what evidence. Pure: the clock, the counts and the traffic are arguments.

pub mod sequential;
