//! Rollouts on traffic that is made up: the machine and the statistics, without a proxy and without a clock.

mod dice;
mod faults;
mod shop;
mod traffic;
