//! Rollouts on traffic that is made up: the machine and the statistics, without a proxy and without a clock.

mod dice;
mod draws;
mod faults;
mod figures;
mod holds;
mod lane;
mod rules;
mod shop;
mod study;
mod traffic;
