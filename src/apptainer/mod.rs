//! Apptainer (or Singularity, its other branch): how a container is started, and where its image comes from.

pub mod command;
pub mod image;
