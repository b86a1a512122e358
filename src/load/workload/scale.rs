//! How words and tokens go together, found by trying.
//!
//! Only the engine knows its tokenizer and the template that it puts around a prompt. Over many words tokens grow in a
//! line, so two lengths that were tried tell all others: [`next_guess`] says what to try, [`Scale`] is the line. Pure.

use serde::{Deserialize, Serialize};

/// Observations after which the search for one length ends.
pub const TRIES: usize = 6;

/// Words of a prompt and the tokens that the engine counted.
pub type Observation = (usize, u64);

/// The line from words to tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// A place that it goes through: words, tokens.
    anchor: (f64, f64),
    /// Tokens of a further word.
    slope: f64,
}

impl Default for Scale {
    /// A word a token.
    fn default() -> Self {
        Self {
            anchor: (0.0, 0.0),
            slope: 1.0,
        }
    }
}

impl Scale {
    /// The line that tries for these lengths have shown.
    pub fn of(targets: &[u32], seen: &[Observation]) -> Self {
        let nearest = |target: u32| {
            seen.iter()
                .min_by_key(|(_, tokens)| tokens.abs_diff(u64::from(target)))
        };
        let points: Vec<&Observation> = targets.iter().filter_map(|at| nearest(*at)).collect();
        let Some(&&anchor) = points.first() else {
            return Self::default();
        };
        let mut others = points.into_iter().rev().chain(seen);
        let slope = others.find_map(|other| slope(anchor, *other));
        let place = place(anchor);
        Self {
            anchor: place,
            // one try alone gives only a proportion
            slope: slope.unwrap_or_else(|| (place.1 / place.0.max(1.0)).max(0.1)),
        }
    }

    /// Words that give so many tokens at the least, without any template.
    pub fn words_of_text(&self, tokens: u32) -> usize {
        whole((f64::from(tokens) / self.slope).ceil())
    }

    /// Words that give so many tokens, template and all; at least one.
    pub fn words(&self, tokens: u32) -> usize {
        let tokens = f64::from(tokens);
        let words = self.anchor.0 + (tokens - self.anchor.1) / self.slope;
        // far beyond the target no tokenizer goes: there is no word without a token
        whole(words.clamp(1.0, tokens.mul_add(2.0, 1.0)))
    }
}

fn place((words, tokens): Observation) -> (f64, f64) {
    (words as f64, tokens as f64)
}

/// The slope between two tries, which is free of the template's tokens; `None` where they show none.
fn slope(one: Observation, other: Observation) -> Option<f64> {
    let ((words, tokens), (other_words, other_tokens)) = (place(one), place(other));
    let slope = (tokens - other_tokens) / (words - other_words);
    (slope.is_finite() && slope > 0.1).then_some(slope)
}

/// The next number of words to try for a length, given what tries for it have shown, and those for others before it.
/// `None` when the last try is within a token or a hundredth of the target, when no number can be better, or after
/// [`TRIES`].
pub fn next_guess(
    target_tokens: u32,
    before: &[Observation],
    seen: &[Observation],
) -> Option<usize> {
    let target = f64::from(target_tokens);
    let Some(&last) = seen.last() else {
        return Some(Scale::of(&[target_tokens], before).words(target_tokens));
    };
    let (words, tokens) = place(last);
    let off = target - tokens;
    if off.abs() <= (target / 100.0).max(1.0) || seen.len() >= TRIES {
        return None;
    }
    let mut others = seen.iter().rev().chain(before);
    let next = match others.find_map(|other| slope(last, *other)) {
        Some(slope) => words + off / slope,
        None if tokens == 0.0 => words * 2.0,
        None => words * target / tokens,
    };
    let next = whole(next.clamp(1.0, target.mul_add(2.0, 1.0)));
    (!seen.iter().any(|(tried, _)| *tried == next)).then_some(next)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between none and ten times a u32"
)]
fn whole(number: f64) -> usize {
    number.round() as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asks a tokenizer for these lengths until the search is content.
    fn search(targets: &[u32], mut tokens_of: impl FnMut(usize) -> u64) -> Vec<Observation> {
        let mut all = Vec::new();
        for target in targets {
            let mut seen = Vec::new();
            while let Some(words) = next_guess(*target, &all, &seen) {
                seen.push((words, tokens_of(words)));
            }
            assert!(seen.len() <= TRIES, "{seen:?}");
            all.extend(seen);
        }
        all
    }

    /// A tokenizer of so many tokens a word, with a template.
    fn tokenizer(per_word: f64, template: u64) -> impl Fn(usize) -> u64 {
        move |words| whole(words as f64 * per_word) as u64 + template
    }

    #[test]
    fn a_length_is_found_for_any_tokenizer() {
        for target in [8_u32, 64, 512, 4096] {
            for per_word in [1.0, 1.3, 3.0] {
                for template in [0_u64, 30] {
                    let tokens_of = tokenizer(per_word, template);
                    let seen = search(&[target], &tokens_of);
                    let off = |tokens: u64| (tokens as f64 - f64::from(target)).abs();
                    let found = off(tokens_of(Scale::of(&[target], &seen).words(target)));
                    // nothing below one word, and nothing finer than a word
                    let possible = off(tokens_of(1).max(u64::from(target)));
                    let bound = (f64::from(target) / 100.0).max(per_word).max(possible);
                    assert!(
                        found <= bound,
                        "{target} at {per_word}+{template}: {seen:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn two_lengths_tell_all_others() {
        for per_word in [1.0_f64, 1.3, 2.5] {
            for template in [0_u64, 30] {
                let tokens_of = tokenizer(per_word, template);
                let targets = [64, 2000];
                let scale = Scale::of(&targets, &search(&targets, &tokens_of));
                for wanted in [50_u32, 64, 100, 999, 2000, 5000] {
                    let found = tokens_of(scale.words(wanted)) as f64;
                    let bound = (f64::from(wanted) / 100.0)
                        .max(1.0)
                        .max(per_word / 2.0 + 0.5);
                    let off = (found - f64::from(wanted)).abs();
                    assert!(off <= bound, "{wanted} at {per_word}+{template}: {found}");
                }
            }
        }
    }

    #[test]
    fn without_an_engine_that_counts_a_word_is_a_token() {
        assert_eq!(Scale::default().words(7), 7);
        assert_eq!(Scale::of(&[7], &[]).words(9), 9);
    }

    proptest! {
        #[test]
        fn a_search_always_ends(targets in prop::collection::vec(1_u32..100_000, 1..3), counts in prop::collection::vec(0_u64..200_000, 20)) {
            let mut counts = counts.into_iter();
            let seen = search(&targets, |_| counts.next().expect("at most six tries for each"));
            prop_assert!(seen.iter().all(|(words, _)| *words >= 1));
            let scale = Scale::of(&targets, &seen);
            prop_assert!((1..=200_001).contains(&scale.words(100_000)));
        }
    }
}
