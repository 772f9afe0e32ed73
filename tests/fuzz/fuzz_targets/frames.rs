#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    crossfade_fuzz::mutate::mutate(data, size, max_size, seed)
});

fuzz_target!(|input: &[u8]| crossfade_fuzz::frames(input));
