//! Prompts of so many words that no two requests share, told by a seed.
//!
//! Engines cache prefixes, so each prompt begins with four words drawn for it alone: what is measured is then the
//! engine's work, not its cache. Words are common short ones, most of them one token in usual vocabularies, so that words
//! and tokens go together closely. Instead of such words in no order, prompts may be pieces of a text of our own, with
//! sentences and marks: each begins at a place of its own, after its four words, and at the end the text begins again.

use std::sync::Arc;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

/// Sets the draws of what prompts share apart from those of each one's own.
const SHARED: u64 = 0x7368_6172_6564_0000;

/// Sets the draws of what users say later apart from both.
const FURTHER: u64 = 0x6675_7274_6865_7200;

/// Draws between two turns, as a power of two: more than the longest message takes.
const TURN: u32 = 32;

/// Words at the start of a prompt that are drawn apart from the rest.
pub const NONCE_WORDS: u32 = 4;

/// A prime that does not divide the number of words.
const MIXER: u64 = 15_485_863;

/// Prompts by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// At its first word.
    random: ChaCha12Rng,
    /// At the first word of what prompts share.
    shared: ChaCha12Rng,
    /// At the first word of what users say later.
    further: ChaCha12Rng,
    pool: Option<u32>,
    /// Where nonces begin.
    shift: u64,
    /// The words of the text of our own, where prompts are of it.
    corpus: Option<Arc<[&'static str]>>,
}

/// The text.
const CORPUS: &str = include_str!("corpus.txt");

impl Prompts {
    /// Of a seed; `pool` different ones, without limit where `None`.
    pub fn new(seed: u64, pool: Option<u32>) -> Self {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        random.set_stream(u64::MAX);
        let shift = random.random();
        let random = ChaCha12Rng::seed_from_u64(seed);
        Self {
            random,
            shared: ChaCha12Rng::seed_from_u64(seed ^ SHARED),
            further: ChaCha12Rng::seed_from_u64(seed ^ FURTHER),
            pool,
            shift,
            corpus: None,
        }
    }

    /// The same, in sentences of the text of our own.
    #[must_use]
    pub fn of_corpus(self) -> Self {
        let corpus = Some(CORPUS.split_whitespace().collect());
        Self { corpus, ..self }
    }

    /// Words without end, drawn from there on: each by itself, or a place in the text from which they follow.
    fn words(&self, mut random: ChaCha12Rng) -> impl Iterator<Item = &'static str> {
        let mut at = self
            .corpus
            .as_ref()
            .map(|all| random.random_range(0..all.len()));
        std::iter::from_fn(move || match (&self.corpus, &mut at) {
            (Some(all), Some(at)) => {
                let word = all[*at];
                *at = (*at + 1) % all.len();
                Some(word)
            }
            _ => Some(WORDS[random.random_range(0..WORDS.len())]),
        })
    }

    /// Which prompt a request has.
    pub fn item(&self, index: u64) -> u64 {
        match self.pool {
            Some(pool) => index % u64::from(pool.max(1)),
            None => index,
        }
    }

    /// The prompt of a request: `words` words, one space between two.
    pub fn prompt(&self, index: u64, words: usize) -> String {
        let index = self.item(index);
        let mut random = self.random.clone();
        // a stream of its own for each prompt, and word positions that depend on no other prompt
        random.set_stream(index);
        let mut text = String::with_capacity(words * 6);
        let mut nonce = self.nonce(index);
        let own = (0..NONCE_WORDS).map(|_| {
            let digit = nonce % WORDS.len() as u64;
            nonce /= WORDS.len() as u64;
            WORDS[usize::try_from(digit).expect("below the number of words")]
        });
        for (position, word) in own.chain(self.words(random)).take(words).enumerate() {
            if position > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// What the user of a conversation says in a turn after the first: words of no one else, without a nonce, for what
    /// stands before them differs already.
    pub fn further(&self, index: u64, turn: u32, words: usize) -> String {
        let mut random = self.further.clone();
        random.set_stream(self.item(index));
        random.set_word_pos(u128::from(turn) << TURN);
        self.words(random).take(words).collect::<Vec<_>>().join(" ")
    }

    /// Adds words that are the same for everyone who names them so.
    pub fn shared(&self, name: u64, words: usize, text: &mut String) {
        let mut random = self.shared.clone();
        random.set_stream(name);
        for word in self.words(random).take(words) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
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
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

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
    fn prompts_of_the_corpus_are_pieces_of_it_after_their_own_words() {
        let corpus = CORPUS.split_whitespace().collect::<Vec<_>>().join(" ");
        let twice = format!("{corpus} {corpus}");
        let prompts = Prompts::new(7, None).of_corpus();
        let rest = |index| {
            let prompt = prompts.prompt(index, 64);
            assert_eq!(prompt.split(' ').count(), 64);
            let rest: Vec<_> = prompt.split(' ').skip(NONCE_WORDS as usize).collect();
            rest.join(" ")
        };
        let starts: HashSet<_> = (0..50).map(rest).collect();
        assert!(starts.len() > 40, "{}", starts.len());
        assert!(starts.iter().all(|text| twice.contains(text)));
        assert!(twice.contains(&prompts.further(3, 1, 30)));
        let mut shared = String::new();
        prompts.shared(2, 30, &mut shared);
        assert!(twice.contains(&shared));
        // longer than all of it, it begins again
        let long = prompts.prompt(1, 4000);
        assert_eq!(long.split(' ').count(), 4000);
        assert_eq!(
            prompts.prompt(1, 64),
            Prompts::new(7, None).of_corpus().prompt(1, 64)
        );
        assert_ne!(
            prompts.prompt(1, 64),
            Prompts::new(8, None).of_corpus().prompt(1, 64)
        );
        assert!(CORPUS.is_ascii() && CORPUS.len() > 8000);
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

    proptest! {
        #[test]
        fn prompts_have_their_words_and_repeat(seed: u64, index: u64, words in 0_usize..200) {
            let prompt = Prompts::new(seed, None).prompt(index, words);
            prop_assert_eq!(prompt.split(' ').filter(|word| !word.is_empty()).count(), words);
            prop_assert_eq!(prompt, Prompts::new(seed, None).prompt(index, words));
        }
    }
}
