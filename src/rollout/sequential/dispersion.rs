/// Fewer degrees of freedom say nothing.
const LEAST_FREEDOM: f64 = 30.0;

/// How much errors come together on single backends: Pearson's statistic between the backends of one version within
/// each block (of 10 s, with requests and errors of each backend), over its degrees of freedom. 1 to 50.
pub fn dispersion(blocks: &[Vec<(u64, u64)>]) -> f64 {
    let (mut chi, mut freedom) = (0.0, 0.0);
    for block in blocks {
        let block: Vec<(f64, f64)> = block
            .iter()
            .filter(|(requests, _)| *requests > 0)
            .map(|&(requests, errors)| (requests as f64, errors as f64))
            .collect();
        let requests: f64 = block.iter().map(|(requests, _)| requests).sum();
        let errors: f64 = block.iter().map(|(_, errors)| errors).sum();
        if block.len() < 2 || errors == 0.0 {
            continue;
        }
        let rate = errors / requests;
        let squares = block.iter().map(|(n, e)| (e - n * rate).powi(2) / (n * rate));
        chi += squares.sum::<f64>();
        freedom += block.len() as f64 - 1.0;
    }
    if freedom < LEAST_FREEDOM { 1.0 } else { (chi / freedom).clamp(1.0, 50.0) }
}
