//! Apptainer (or Singularity, its other branch): how a container is started, where its image comes from,
//! and what the way it was installed means.

pub mod command;
pub mod digest;
pub mod image;
pub mod installation;
pub mod lease;
pub mod pull;
pub mod sif;
pub mod source;
pub mod why;
