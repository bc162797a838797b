//! The runtime as an application sees it, on virtual time unless threads are what a test is about.

mod kit;

mod asks;
mod delivery;
mod failures;
mod houses;
mod life;
mod many;
mod names;
mod peers;
mod pools;
mod refs;
mod supervision;
mod threads;
mod timers;
mod watching;
