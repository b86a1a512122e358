//! How a stack starts its roles: as job steps by `srun`, or as plain local processes.

pub mod local;
pub mod srun;
