//! What is kept of changes, with the real binary: restarts, crashes, full disks.

mod crashes;
mod full;
mod restarts;
mod stage;
