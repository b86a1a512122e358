//! Slurm: what the job says of itself, and the few calls that are made to Slurm's commands.
//!
//! [`job_env`], [`hostlist`] and [`options`] are pure. Only [`client`] starts a process. No call to the controller is
//! made while a run is under way except what `srun` makes to start a step.

pub mod accounting;
pub mod client;
pub mod hostlist;
pub mod job_env;
pub mod options;
