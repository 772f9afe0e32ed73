#[derive(Default)]
pub struct RoutingTable;
