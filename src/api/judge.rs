//! Who says whether an answer is a good one, where that takes more than the forms of a known API.
//!
//! Pure: bytes in, a verdict out. It is asked once, when the answer is whole.

/// What an answer was worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// Class and message of the error; `None` for a good answer.
    pub error: Option<(String, String)>,
    /// Prompt tokens, where told.
    pub prompt_tokens: Option<u64>,
    /// Output tokens, where told.
    pub output_tokens: Option<u64>,
    /// Share of the true neighbours that were found, in millionths; of queries of vectors alone.
    pub recall: Option<u32>,
}

impl Judged {
    /// A bad answer.
    pub fn error(class: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            error: Some((class.into(), message.into())),
            ..Self::default()
        }
    }
}

/// Judges answers.
pub trait Judge: std::fmt::Debug + Send + Sync {
    /// What the answer to the request of this number is worth.
    fn judge(&self, index: u64, status: u16, body: &[u8]) -> Judged;
}
