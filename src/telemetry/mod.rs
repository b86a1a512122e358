//! What we say of ourselves and of the node: logs, the agent's HTTP listener, samplers of job, cgroup and host.

pub mod agent;
mod aliases;
pub mod cgroup;
pub mod host;
pub mod log;
mod sample;
