//! Vectors and queries told by a seed, and the true neighbours of each query, by comparing it with every vector.
//!
//! What a database answers is held against that, so its index cannot flatter itself. Numbers are drawn as `f32`, which JSON
//! carries exactly, and compared as `f64`. Pure.

use std::sync::OnceLock;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;

use crate::recipe::vectors::{Nearness, Spread, Vectors};

/// Sets vectors apart from other draws.
const VECTORS: u64 = 0x7665_6374_6f72_7300;
/// Streams of the draws: centres, then vectors, then queries.
const CENTRES: u64 = 0;
const STORED: u64 = 1;
const QUERIES: u64 = 2;

/// Vectors, queries and truth, drawn when they are first asked for: a recipe that is only checked has no use for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    vectors: Vectors,
    seed: u64,
    drawn: OnceLock<Drawn>,
}

#[derive(Debug, Clone, PartialEq)]
struct Drawn {
    stored: Vec<f32>,
    queries: Vec<f32>,
    /// Of each query, its neighbours, the nearest first.
    truth: Vec<Vec<u32>>,
}

impl Set {
    /// The one of this seed.
    pub const fn of(vectors: &Vectors, seed: u64) -> Self {
        Self {
            vectors: *vectors,
            seed,
            drawn: OnceLock::new(),
        }
    }

    /// Draws it and finds the neighbours, so that nothing waits for that later.
    pub fn prepare(&self) {
        self.drawn();
    }

    fn drawn(&self) -> &Drawn {
        self.drawn
            .get_or_init(|| Drawn::of(&self.vectors, self.seed))
    }

    /// What it was made by.
    pub const fn plan(&self) -> &Vectors {
        &self.vectors
    }

    /// The vector of a number.
    pub fn vector(&self, number: u32) -> &[f32] {
        self.at(&self.drawn().stored, number as usize)
    }

    /// The query that a request has.
    pub fn query(&self, index: u64) -> &[f32] {
        self.at(&self.drawn().queries, self.turn(index))
    }

    /// The true neighbours of that query, the nearest first.
    pub fn truth(&self, index: u64) -> &[u32] {
        &self.drawn().truth[self.turn(index)]
    }

    fn turn(&self, index: u64) -> usize {
        usize::try_from(index % u64::from(self.vectors.queries)).unwrap_or(0)
    }

    fn at<'a>(&self, all: &'a [f32], place: usize) -> &'a [f32] {
        let dimension = self.vectors.dimension as usize;
        &all[place * dimension..(place + 1) * dimension]
    }
}

impl Drawn {
    fn of(vectors: &Vectors, seed: u64) -> Self {
        let dimension = vectors.dimension as usize;
        let stream = |number| {
            let mut random = ChaCha12Rng::seed_from_u64(seed ^ VECTORS);
            random.set_stream(number);
            random
        };
        let centres = match vectors.spread {
            Spread::Clusters { count, .. } => {
                let mut random = stream(CENTRES);
                let numbers = count as usize * dimension;
                (0..numbers)
                    .map(|_| random.sample(StandardNormal))
                    .collect()
            }
            _ => Vec::new(),
        };
        let draw = |number, count: u32| -> Vec<f32> {
            let mut random = stream(number);
            let numbers = count as usize * dimension;
            let mut all = Vec::with_capacity(numbers);
            for place in 0..count as usize {
                match vectors.spread {
                    Spread::Uniform => all.extend((0..dimension).map(|_| random.random::<f32>())),
                    Spread::Gaussian => {
                        all.extend((0..dimension).map(|_| random.sample::<f32, _>(StandardNormal)));
                    }
                    Spread::Clusters { count, std } => {
                        let first = place % count as usize * dimension;
                        let centre: &[f32] = &centres[first..first + dimension];
                        all.extend(centre.iter().map(|at| {
                            let off: f64 = random.sample(StandardNormal);
                            narrow(f64::from(*at) + std * off)
                        }));
                    }
                }
            }
            all
        };
        let (stored, queries) = (draw(STORED, vectors.count), draw(QUERIES, vectors.queries));
        let truth = queries
            .chunks(dimension)
            .map(|query| nearest(vectors, &stored, query))
            .collect();
        Self {
            stored,
            queries,
            truth,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a draw, which is as good with the figures of an f32"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// The numbers of the vectors that are nearest to a query.
fn nearest(vectors: &Vectors, stored: &[f32], query: &[f32]) -> Vec<u32> {
    let far = |vector: &[f32]| -> f64 {
        let pairs = || {
            let both = vector.iter().zip(query);
            both.map(|(one, other)| (f64::from(*one), f64::from(*other)))
        };
        let inner = || pairs().map(|(one, other)| one * other).sum::<f64>();
        match vectors.metric {
            Nearness::L2 => pairs().map(|(one, other)| (one - other).powi(2)).sum(),
            Nearness::Ip => -inner(),
            // the query's own length is the same for all
            Nearness::Cosine => {
                let length = pairs().map(|(one, _)| one * one).sum::<f64>().sqrt();
                -inner() / length.max(f64::MIN_POSITIVE)
            }
        }
    };
    let mut all: Vec<(f64, u32)> = stored
        .chunks(vectors.dimension as usize)
        .map(far)
        .zip(0..)
        .collect();
    let k = vectors.k as usize;
    let by_distance =
        |one: &(f64, u32), other: &(f64, u32)| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1));
    if k < all.len() {
        all.select_nth_unstable_by(k - 1, by_distance);
        all.truncate(k);
    }
    all.sort_by(by_distance);
    all.into_iter().map(|(_, number)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(metric: Nearness, spread: Spread) -> Vectors {
        Vectors {
            dimension: 6,
            count: 300,
            spread,
            metric,
            queries: 20,
            k: 7,
            batch: 10,
            inserters: 1,
            keep: false,
        }
    }

    #[test]
    fn neighbours_are_those_of_a_plain_sort() {
        for metric in [Nearness::Cosine, Nearness::L2, Nearness::Ip] {
            let set = Set::of(&plan(metric, Spread::Gaussian), 3);
            for index in 0..20 {
                let query = set.query(index);
                let score = |number: u32| {
                    let vector = set.vector(number);
                    let dot = |a: &[f32], b: &[f32]| {
                        let both = a.iter().zip(b);
                        both.map(|(a, b)| f64::from(*a) * f64::from(*b))
                            .sum::<f64>()
                    };
                    match metric {
                        Nearness::Cosine => {
                            dot(vector, query)
                                / (dot(vector, vector).sqrt() * dot(query, query).sqrt())
                        }
                        Nearness::Ip => dot(vector, query),
                        // |a - b|² = a·a - 2 a·b + b·b
                        Nearness::L2 => {
                            2.0 * dot(vector, query) - dot(vector, vector) - dot(query, query)
                        }
                    }
                };
                let mut all: Vec<u32> = (0..300).collect();
                all.sort_by(|one, other| score(*other).total_cmp(&score(*one)));
                assert_eq!(set.truth(index), &all[..7], "{metric:?} {index}");
            }
            assert_eq!(set.truth(0), set.truth(20), "queries come in turn");
        }
    }

    #[test]
    fn a_seed_repeats_them_and_clusters_are_clusters() {
        let spread = Spread::Clusters {
            count: 4,
            std: 0.01,
        };
        let plan = plan(Nearness::L2, spread);
        let set = Set::of(&plan, 1);
        assert_eq!(set.drawn(), Set::of(&plan, 1).drawn());
        assert_ne!(set.drawn(), Set::of(&plan, 2).drawn());
        for index in 0..20_u64 {
            let own = u32::try_from(index % 4).expect("small");
            let near = set.truth(index).iter().all(|number| number % 4 == own);
            assert!(near, "neighbours are of the query's own cluster");
        }
    }
}
