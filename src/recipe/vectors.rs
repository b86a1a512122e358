//! A collection of vectors that a client makes, fills and asks: how many there are, how they lie, what is asked of them.

use serde::{Deserialize, Serialize};

/// How near two vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nearness {
    /// By the angle between them.
    Cosine,
    /// By their Euclidean distance.
    L2,
    /// By their inner product.
    Ip,
}

/// How vectors lie in their space.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Each number from 0 to 1 alike.
    Uniform,
    /// About the origin, each number of a normal distribution.
    Gaussian,
    /// About centres that lie so, each number of a vector with this standard deviation.
    Clusters {
        /// Centres.
        count: u32,
        /// Standard deviation about a centre; centres have 1 about the origin.
        std: f64,
    },
}

/// A collection, and what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Vectors {
    /// Numbers of a vector.
    pub dimension: u32,
    /// Vectors that are inserted.
    pub count: u32,
    /// How they lie.
    pub spread: Spread,
    /// What is near.
    pub metric: Nearness,
    /// Different queries, which lie as the vectors do; they come in turn.
    pub queries: u32,
    /// Neighbours that a query asks for.
    pub k: u32,
    /// Vectors of a request that inserts.
    pub batch: u32,
    /// Requests that insert at once.
    pub inserters: u32,
    /// Does the collection stay?
    pub keep: bool,
}
