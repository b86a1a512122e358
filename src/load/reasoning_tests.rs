//! Streams of models that think aloud, cut wherever bytes can be cut.

use super::*;

#[tokio::test(start_paused = true)]
async fn reasoning_is_told_from_the_answer_wherever_the_stream_is_cut() {
    for key in ["reasoning", "reasoning_content"] {
        let part = |key: &str, text: &str| {
            format!(
                "data: {{\"choices\":[{{\"delta\":{{\"{key}\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
            )
        };
        let role =
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
        let thoughts: String = ["so", "é", "\\n", "well"]
            .map(|text| part(key, text))
            .concat();
        let said: String = ["It", " is", " 4"]
            .map(|text| part("content", text))
            .concat();
        let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\
            \"completion_tokens\":7,\"completion_tokens_details\":{\"reasoning_tokens\":4}},\"timings\":{\"cache_n\":5}}\n\n\
            data: [DONE]\n\n";
        let thought = stream(&format!("{role}{thoughts}"));
        let bytes = [&thought[..], format!("{said}{end}").as_bytes()].concat();
        // the same whole, byte by byte, and cut in two at each place
        let mut ways = vec![bytes.chunks(1).map(<[u8]>::to_vec).collect::<Vec<_>>()];
        let cuts = 1..bytes.len();
        ways.extend(cuts.map(|at| vec![bytes[..at].to_vec(), bytes[at..].to_vec()]));
        for pieces in ways {
            let cut = pieces[0].len();
            let sample = Server::new([Reply::BytesAndClose(pieces)])
                .ask(Api::Chat)
                .await;
            let told = (sample.chunks.len(), sample.reasons, sample.reasoning_tokens);
            assert_eq!(told, (7, true, Some(4)), "{key} cut at {cut}");
            assert_eq!(
                sample.first_output,
                Some(sample.chunks[4].at),
                "{key} {cut}"
            );
            assert_eq!(sample.cached_tokens, Some(5));
        }
        let apart = vec![thought, format!("{said}{end}").into_bytes()];
        let sample = Server::new([Reply::BytesAndClose(apart)])
            .ask(Api::Chat)
            .await;
        assert!(sample.first_output > sample.first_token(), "{sample:?}");
        let only = vec![stream(&format!("{role}{thoughts}{end}"))];
        let sample = Server::new([Reply::BytesAndClose(only)])
            .ask(Api::Chat)
            .await;
        let told = (&sample.outcome, sample.chunks.len(), sample.first_output);
        assert_eq!(
            told,
            (&Outcome::Success, 4, None),
            "it never came to the answer"
        );
    }
}
