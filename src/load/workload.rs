//! What requests hold: prompts of a wanted length that no two requests share, told by a seed.
//!
//! Engines cache prefixes, so each prompt begins with four words drawn for it alone: what is measured is then the
//! engine's work, not its cache. Words are common short ones, most of them one token in usual vocabularies, so that words
//! and tokens go together closely enough for [`next_guess`] to find the number of words that gives the wanted number of
//! tokens, template and all. [`stimulus`] tells two loads apart, or shows that they asked the same.

use std::fmt::Write as _;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use sha2::{Digest as _, Sha256};

use super::arrival::Schedule;
use crate::recipe::ClientPlan;

/// Words at the start of a prompt that are drawn apart from the rest.
const NONCE_WORDS: u32 = 4;

/// A prime that does not divide the number of words.
const MIXER: u64 = 15_485_863;

/// Prompts and arrivals that go into the hash of a stimulus.
const HASHED: usize = 1000;

/// Observations after which calibration ends.
const TRIES: usize = 6;

/// Prompts by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// At its first word.
    random: ChaCha12Rng,
    pool: Option<u32>,
    /// Where nonces begin.
    shift: u64,
}

impl Prompts {
    /// Of a seed; `pool` different ones, without limit where `None`.
    pub fn new(seed: u64, pool: Option<u32>) -> Self {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        random.set_stream(u64::MAX);
        let shift = random.random();
        let random = ChaCha12Rng::seed_from_u64(seed);
        Self {
            random,
            pool,
            shift,
        }
    }

    /// The prompt of a request: `words` words, lower-case, one space between two.
    pub fn prompt(&self, index: u64, words: usize) -> String {
        let index = match self.pool {
            Some(pool) => index % u64::from(pool.max(1)),
            None => index,
        };
        let mut random = self.random.clone();
        // a stream of its own for each prompt, and word positions that depend on no other prompt
        random.set_stream(index);
        let mut text = String::with_capacity(words * 6);
        let mut nonce = self.nonce(index);
        for position in 0..words {
            if position > 0 {
                text.push(' ');
            }
            let word = if position < NONCE_WORDS as usize {
                let digit = nonce % WORDS.len() as u64;
                nonce /= WORDS.len() as u64;
                usize::try_from(digit).expect("below the number of words")
            } else {
                random.random_range(0..WORDS.len())
            };
            text.push_str(WORDS[word]);
        }
        text
    }

    /// A number below `WORDS` to the power of [`NONCE_WORDS`] that no other prompt of the seed has: drawn ones would
    /// come out alike for some pair of 10^5 prompts.
    fn nonce(&self, index: u64) -> u64 {
        let size = u128::from((WORDS.len() as u64).pow(NONCE_WORDS));
        let shift = u128::from(self.shift);
        // a factor without a common divisor with the size only changes the order
        let mixed = (u128::from(index) % size * u128::from(MIXER) + shift) % size;
        u64::try_from(mixed).expect("below the size")
    }
}

/// SHA-256, in hex, over all that a load asks of an engine: plan, length, the first prompts and arrivals.
pub fn stimulus(plan: &ClientPlan, words: usize, prompts: &Prompts) -> String {
    let mut hash = Sha256::new();
    let fields = serde_json::json!({
        "api": plan.api,
        "timeout": plan.timeout,
        "load": plan.load,
        "duration": plan.duration,
        "warmup": plan.warmup,
        "total_requests": plan.total_requests,
        "workload": plan.workload,
        "words": words,
    });
    hash.update(fields.to_string());
    for index in 0..HASHED as u64 {
        // a separator that is in no prompt
        hash.update(b"\n");
        hash.update(prompts.prompt(index, words));
    }
    if let Some(schedule) = Schedule::of(plan) {
        for at in schedule.times().take(HASHED) {
            hash.update(at.as_nanos().to_be_bytes());
        }
    }
    hash.finalize()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// What calibration found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Calibration {
    /// Words that give the wanted tokens.
    pub words: usize,
}

/// The next number of words to try, given what tries have shown; `None` when the last try is within a token or a
/// hundredth of the target, when no number can be better, or after six tries (the best one then counts).
pub fn next_guess(target_tokens: u32, observations: &[(usize, u64)]) -> Option<usize> {
    let target = f64::from(target_tokens);
    let Some(&(words, tokens)) = observations.last() else {
        return Some((target_tokens as usize).max(1));
    };
    let off = target - tokens as f64;
    if off.abs() <= (target / 100.0).max(1.0) || observations.len() >= TRIES {
        return None;
    }
    // the slope between the two last tries is free of the template's tokens; one try alone gives only a proportion
    let slope = observations
        .iter()
        .rev()
        .skip(1)
        .find(|(other, _)| *other != words)
        .map(|&(other, count)| (tokens as f64 - count as f64) / (words as f64 - other as f64))
        .filter(|slope| *slope > 0.1);
    let next = match slope {
        Some(slope) => words as f64 + off / slope,
        None if tokens == 0 => words as f64 * 2.0,
        None => words as f64 * target / tokens as f64,
    };
    // far beyond the target no tokenizer goes: there is no word without a token
    let next = whole(next.clamp(1.0, target * 2.0 + 1.0));
    (!observations.iter().any(|(tried, _)| *tried == next)).then_some(next)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to between one and twice a u32"
)]
fn whole(number: f64) -> usize {
    number.round() as usize
}

/// Common short words, most of them one token in usual vocabularies.
#[rustfmt::skip]
const WORDS: [&str; 400] = [
    "the", "of", "and", "to", "in", "is", "was", "for", "on", "that", "with", "as", "his", "they",
    "be", "at", "one", "have", "this", "from", "or", "had", "by", "hot", "but", "some", "what",
    "there", "we", "can", "out", "other", "were", "all", "your", "when", "up", "use", "word", "how",
    "said", "an", "each", "she", "which", "do", "their", "time", "if", "will", "way", "about",
    "many", "then", "them", "would", "write", "like", "so", "these", "her", "long", "make", "thing",
    "see", "him", "two", "has", "look", "more", "day", "could", "go", "come", "did", "my", "sound",
    "no", "most", "number", "who", "over", "know", "water", "than", "call", "first", "people",
    "may", "down", "side", "been", "now", "find", "any", "new", "work", "part", "take", "get",
    "place", "made", "live", "where", "after", "back", "little", "only", "round", "man", "year",
    "came", "show", "every", "good", "me", "give", "our", "under", "name", "very", "through",
    "just", "form", "great", "think", "say", "help", "low", "line", "before", "turn", "cause",
    "same", "mean", "differ", "move", "right", "boy", "old", "too", "does", "tell", "set", "three",
    "want", "air", "well", "also", "play", "small", "end", "put", "home", "read", "hand", "port",
    "large", "spell", "add", "even", "land", "here", "must", "big", "high", "such", "follow", "act",
    "why", "ask", "men", "change", "went", "light", "kind", "off", "need", "house", "picture",
    "try", "us", "again", "animal", "point", "mother", "world", "near", "build", "self", "earth",
    "father", "head", "stand", "own", "page", "should", "country", "found", "answer", "school",
    "grow", "study", "still", "learn", "plant", "cover", "food", "sun", "four", "thought", "let",
    "keep", "eye", "never", "last", "door", "between", "city", "tree", "cross", "since", "hard",
    "start", "might", "story", "saw", "far", "sea", "draw", "left", "late", "run", "while", "press",
    "close", "night", "real", "life", "few", "stop", "open", "seem", "next", "white", "begin",
    "got", "walk", "example", "ease", "paper", "often", "always", "music", "those", "both", "mark",
    "book", "letter", "until", "mile", "river", "car", "feet", "care", "second", "group", "carry",
    "took", "rain", "eat", "room", "friend", "began", "idea", "fish", "north", "once", "base",
    "hear", "horse", "cut", "sure", "watch", "color", "face", "wood", "main", "enough", "plain",
    "girl", "usual", "young", "ready", "above", "ever", "red", "list", "though", "feel", "talk",
    "bird", "soon", "body", "dog", "family", "direct", "pose", "leave", "song", "measure", "state",
    "product", "black", "short", "class", "wind", "happen", "ship", "area", "half", "rock", "order",
    "fire", "south", "problem", "piece", "told", "knew", "pass", "farm", "top", "whole", "king",
    "size", "heard", "best", "hour", "better", "true", "during", "hundred", "step", "early", "hold",
    "west", "ground", "reach", "fast", "five", "sing", "listen", "six", "table", "travel", "less",
    "morning", "ten", "simple", "several", "toward", "war", "lay", "against", "pattern", "slow",
    "center", "love", "person", "money", "serve", "appear", "road", "map", "science", "rule",
    "pull", "cold", "notice", "voice", "fall", "power", "town", "fine", "certain", "fly", "unit",
    "lead", "cry", "dark", "machine", "note", "wait", "plan", "figure", "star", "box", "field",
    "rest", "correct",
];

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, path::PathBuf, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::recipe::{Api, Arrival, LoadModel, Resources, Slo, Workload};

    fn plan() -> ClientPlan {
        ClientPlan {
            name: "a".to_owned(),
            service_name: "s".to_owned(),
            api: Api::Chat,
            timeout: Duration::from_mins(1),
            load: LoadModel::OpenLoop {
                requests_per_second: Some(10.0),
                arrival: Arrival::Poisson,
                max_in_flight: None,
            },
            duration: Some(Duration::from_secs(10)),
            warmup: Duration::ZERO,
            total_requests: None,
            workload: Workload {
                model_name: None,
                prompt_length: 64,
                max_tokens: 8,
                num_prompts: None,
                temperature: None,
                top_p: None,
                ignore_eos: true,
                stream: true,
                seed: 1,
            },
            slo: Slo::default(),
            destination: None,
            metrics: Vec::new(),
            resources: Resources::default(),
        }
    }

    #[test]
    fn words_are_different_plain_words() {
        assert_eq!(WORDS.iter().collect::<HashSet<_>>().len(), WORDS.len());
        let plain = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
        assert!(WORDS.iter().all(plain));
    }

    #[test]
    fn no_two_prompts_begin_alike() {
        let prompts = Prompts::new(7, None);
        let starts: HashSet<_> = (0..100_000).map(|index| prompts.prompt(index, 4)).collect();
        assert_eq!(starts.len(), 100_000);
    }

    #[test]
    fn a_pool_comes_round() {
        let prompts = Prompts::new(7, Some(3));
        assert_eq!(prompts.prompt(1, 30), prompts.prompt(4, 30));
        assert_ne!(prompts.prompt(1, 30), prompts.prompt(2, 30));
        assert_ne!(
            prompts.prompt(1, 30),
            Prompts::new(8, Some(3)).prompt(1, 30)
        );
    }

    #[test]
    fn a_stimulus_tells_what_is_asked_and_not_where_results_go() {
        let hash = |plan: &ClientPlan| stimulus(plan, 20, &Prompts::new(plan.workload.seed, None));
        let first = hash(&plan());
        assert_eq!(first.len(), 64);
        let mut elsewhere = plan();
        elsewhere.name = "b".to_owned();
        elsewhere.destination = Some(PathBuf::from("/elsewhere"));
        assert_eq!(hash(&elsewhere), first);
        let mut longer = plan();
        longer.workload.max_tokens = 9;
        assert_ne!(hash(&longer), first);
        let mut reseeded = plan();
        reseeded.workload.seed = 2;
        assert_ne!(hash(&reseeded), first);
        assert_ne!(stimulus(&plan(), 21, &Prompts::new(1, None)), first);
    }

    /// Asks a tokenizer until calibration is content.
    fn calibrate(target: u32, mut tokens_of: impl FnMut(usize) -> u64) -> Vec<(usize, u64)> {
        let mut seen = Vec::new();
        while let Some(words) = next_guess(target, &seen) {
            seen.push((words, tokens_of(words)));
        }
        seen
    }

    #[test]
    fn calibration_finds_the_words_of_any_tokenizer() {
        for target in [8_u32, 64, 512, 4096] {
            for per_word in [1.0, 1.3, 3.0] {
                for overhead in [0_u64, 30] {
                    let tokens_of = |words: usize| whole(words as f64 * per_word) as u64 + overhead;
                    let seen = calibrate(target, tokens_of);
                    let off = |tokens: u64| (tokens as f64 - f64::from(target)).abs();
                    let best = seen.iter().map(|(_, tokens)| off(*tokens));
                    let best = best.fold(f64::INFINITY, f64::min);
                    // nothing below one word, and nothing finer than a word
                    let possible = off(tokens_of(1).max(u64::from(target)));
                    let bound = (f64::from(target) / 100.0).max(per_word).max(possible);
                    let case = format!("{target} at {per_word}+{overhead}: {seen:?}");
                    assert!(best <= bound, "{case}");
                    assert!(seen.len() <= TRIES, "{case}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn prompts_have_their_words_and_repeat(seed: u64, index: u64, words in 0_usize..200) {
            let prompt = Prompts::new(seed, None).prompt(index, words);
            prop_assert_eq!(prompt.split(' ').filter(|word| !word.is_empty()).count(), words);
            prop_assert_eq!(prompt, Prompts::new(seed, None).prompt(index, words));
        }

        #[test]
        fn calibration_always_ends(target in 1_u32..100_000, counts in prop::collection::vec(0_u64..200_000, 10)) {
            let mut counts = counts.into_iter();
            let seen = calibrate(target, |_| counts.next().expect("at most six tries"));
            prop_assert!(seen.len() <= TRIES);
            prop_assert!(seen.iter().all(|(words, _)| *words >= 1));
        }
    }
}
