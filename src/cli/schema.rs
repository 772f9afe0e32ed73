use super::{Failure, output};
use crate::config;

pub(super) fn run() -> Result<(), Failure> {
    output::print(&format!("{:#}\n", config::schema()));
    Ok(())
}
