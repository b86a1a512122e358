//! Asks an engine how many tokens a prompt has, where its answers do not tell (`usage`).
//!
//! The engines that can be asked have a `/tokenize` of their own each; the profile says which. The template of a chat is
//! counted, too: vLLM takes messages in place of a prompt, llama.cpp makes a text of them first (`/apply-template`). An
//! engine that does not answer is one that cannot be asked: nothing can fail.

use serde_json::{Value, json};

use super::service::{ASK, Instance, Service, access};
use crate::{
    api::client,
    engine::{self, Tokenizing},
    recipe::Api,
};

/// An engine that can be asked.
pub(super) struct Tokenizer<'a> {
    instance: &'a Instance,
    by: Tokenizing,
    model: &'a str,
    is_chat: bool,
}

impl<'a> Tokenizer<'a> {
    /// That of a service, for prompts of this API; `None` where it has none that is known.
    pub(super) fn of(service: &'a Service, api: Api) -> Option<Self> {
        if !matches!(api, Api::Completions | Api::Chat | Api::Embeddings) {
            return None;
        }
        let instance = service.instances.first()?;
        Some(Self {
            instance,
            by: engine::profile(instance.kind?).tokenizing?,
            model: &service.model,
            is_chat: api == Api::Chat,
        })
    }

    /// The tokens of a prompt.
    pub(super) async fn count(&self, prompt: &str) -> Option<u64> {
        let messages = json!([{"role": "user", "content": prompt}]);
        match self.by {
            Tokenizing::Prompt => {
                let what = if self.is_chat {
                    json!({"model": self.model, "messages": messages})
                } else {
                    json!({"model": self.model, "prompt": prompt})
                };
                self.ask("/tokenize", &what).await?["count"].as_u64()
            }
            Tokenizing::Content => {
                let templated = if self.is_chat {
                    let chat = json!({"messages": messages});
                    Some(self.ask("/apply-template", &chat).await?)
                } else {
                    None
                };
                let text = match &templated {
                    Some(answer) => answer["prompt"].as_str()?,
                    None => prompt,
                };
                // as the server itself does with a prompt
                let what = json!({"content": text, "add_special": true});
                let answer = self.ask("/tokenize", &what).await?;
                Some(answer["tokens"].as_array()?.len() as u64)
            }
        }
    }

    async fn ask(&self, path: &str, what: &Value) -> Option<Value> {
        let url = format!("{}{path}", self.instance.url);
        let tls = self.instance.tls.as_ref();
        let answer = client::post_json(&url, &access(self.instance), what, ASK, tls).await;
        let answer = answer.ok().filter(|answer| answer.status.is_success())?;
        answer.json().ok()
    }
}
