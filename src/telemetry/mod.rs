//! What we say of ourselves and of the node: logs, the agent's HTTP listener, samplers of job, cgroup and host.

pub mod agent;
mod aliases;
pub mod cgroup;
mod exposition;
pub mod host;
pub mod log;
pub mod paced;
pub mod page;
mod root;
mod sample;
mod samplers;
