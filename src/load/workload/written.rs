//! Requests that are more than a prompt: a query with its documents, and what a recipe writes out.

use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;

use super::{Content, Material, length};
use crate::{
    api::{
        http::{self, Values},
        openai::Input,
        vectors::dialect,
    },
    load::way::Way,
    recipe::{
        Documents,
        request::{HttpRequest, Place},
    },
};

/// Sets drawn values apart from other draws.
const VALUES: u64 = 0x7661_6c75_6573_0000;
/// Sets the lengths of documents apart from other draws.
const DOCUMENTS: u64 = 0x646f_6375_6d65_6e74;

impl Content {
    /// Where a request goes, where its API leaves that open.
    pub(in crate::load) fn way(&self, index: u64) -> Option<Way> {
        if let Some(dialect) = dialect(self.api) {
            return Some(Way {
                method: "POST",
                path: dialect.query_path.to_owned(),
                judge: self.judge.clone()?,
            });
        }
        let request = self.workload.request.as_ref()?;
        // a path has a part of the prompt seldom
        let prompt = if request.path.contains("{prompt}") {
            self.said(index)
        } else {
            String::new()
        };
        Some(self.way_of(request, index, &prompt))
    }

    /// That of a try, with this prompt.
    pub fn way_of_probe(&self, index: u64, words: usize) -> Option<Way> {
        let request = self.workload.request.as_ref()?;
        Some(self.way_of(request, index, &self.prompts.prompt(index, words)))
    }

    fn way_of(&self, request: &HttpRequest, index: u64, prompt: &str) -> Way {
        let judge = self.judge.as_ref().map(std::sync::Arc::clone);
        Way {
            method: request.method.name(),
            path: http::path(request, &mut self.values(index, prompt)),
            judge: judge.expect("a request that is written out has a judge"),
        }
    }

    /// Can the length of prompts be found by trying?
    pub fn can_be_tried(&self) -> bool {
        if self.workload.vectors.is_some() {
            return false;
        }
        match (&self.workload.request, self.workload.documents) {
            (Some(request), _) => {
                request.expect.prompt_tokens.is_some() && request.holds(Place::Prompt)
            }
            (None, documents) => documents.is_none(),
        }
    }

    /// The query of vectors that a request holds.
    pub(super) fn queried(&self, index: u64) -> Option<Vec<u8>> {
        let Material::Vectors(set) = &self.material else {
            return None;
        };
        Some((dialect(self.api)?.query)(set, index))
    }

    fn values<'a>(&'a self, index: u64, prompt: &'a str) -> Values<'a> {
        let asked = self.asked(index);
        let mut random = ChaCha12Rng::seed_from_u64(self.workload.seed ^ VALUES);
        random.set_stream(index);
        Values {
            prompt,
            prompt_length: asked.prompt_tokens.unwrap_or_default(),
            max_tokens: asked.max_tokens,
            index,
            seed: self.workload.seed,
            model: &self.model,
            random,
        }
    }

    pub(super) fn written(&self, request: &HttpRequest, index: u64, prompt: &str) -> Vec<u8> {
        http::body(request, &mut self.values(index, prompt))
    }

    pub(super) fn reranked(
        &self,
        documents: Documents,
        index: u64,
        query: &str,
        max_tokens: u32,
    ) -> Vec<u8> {
        let mut random = ChaCha12Rng::seed_from_u64(self.workload.seed ^ DOCUMENTS);
        random.set_stream(self.prompts.item(index));
        let texts: Vec<String> = (0..documents.count)
            .map(|number| {
                let words = length::draw(&documents.length, &mut random);
                self.prompts.further(index, number + 1, words as usize)
            })
            .collect();
        self.write(Input::Query(query, &texts), max_tokens)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::{
        load::workload::{Content, Material},
        recipe::ClientPlan,
    };

    fn body(content: &Content, index: u64) -> Value {
        serde_json::from_slice(&content.body(index)).expect("JSON")
    }

    #[test]
    fn a_query_has_its_documents() {
        let plan = ClientPlan::of(
            "api: rerank, total_requests: 1",
            "prompt_length: 5, documents: 3, document_length: {uniform: [4, 40]}",
        );
        let content = Content::new(&plan, Material::None, "m");
        let (one, other) = (body(&content, 0), body(&content, 1));
        assert_eq!(one["query"].as_str().expect("a text").split(' ').count(), 5);
        let documents = one["documents"].as_array().expect("a list");
        let mut lengths: Vec<usize> = documents
            .iter()
            .map(|text| text.as_str().expect("a text").split(' ').count())
            .collect();
        assert_eq!(lengths.len(), 3);
        assert!(
            lengths.iter().all(|words| (4..=40).contains(words)),
            "{lengths:?}"
        );
        lengths.dedup();
        assert!(lengths.len() > 1, "drawn");
        assert_ne!(one["documents"], other["documents"]);
        assert_eq!(one, body(&content, 0));
    }

    #[test]
    fn a_request_that_is_written_out_has_its_prompt_and_line() {
        let plan = ClientPlan::of(
            "api: http, total_requests: 1, request: {path: '/x/{index}', body: {text: '{prompt}', n: '{max_tokens}'}}",
            "prompt_length: 6, max_tokens: 3",
        );
        let content = Content::new(&plan, Material::None, "m");
        let sent = body(&content, 2);
        assert_eq!(sent["n"], 3);
        assert_eq!(sent["text"].as_str().expect("a text").split(' ').count(), 6);
        let way = content.way(2).expect("a way");
        assert_eq!((way.method, &*way.path), ("POST", "/x/2"));
        assert!(!content.can_be_tried(), "nothing tells its tokens");
    }
}
