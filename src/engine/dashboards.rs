//! The dashboards of Grafana: one for each engine that runs here for real, one for benches, one for nodes.
//!
//! Beside the questions of the report's charts each has those that only it can ask. Metric names are those of
//! `tests/data/engines/*.metrics.txt`, captured of the real programs; vLLM's further below are served under their older names, too.

use crate::{
    prometheus::{
        charts::{EngineSeries, Group, charts_over},
        dashboards::{Dashboard, Panel, WINDOW, panels},
    },
    recipe::EngineKind,
};

/// A panel: title, unit, lines.
type Further = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const VLLM: [Further; 8] = [
    (
        "Time to the first token",
        "ms",
        &[
            (
                "median",
                "1000 * histogram_quantile(0.5, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[WINDOW])))",
            ),
            (
                "p99",
                "1000 * histogram_quantile(0.99, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[WINDOW])))",
            ),
        ],
    ),
    (
        "Time between tokens",
        "ms",
        &[
            (
                "median",
                "1000 * histogram_quantile(0.5, sum by (le) (rate(vllm:inter_token_latency_seconds_bucket[WINDOW])))",
            ),
            (
                "p99",
                "1000 * histogram_quantile(0.99, sum by (le) (rate(vllm:inter_token_latency_seconds_bucket[WINDOW])))",
            ),
        ],
    ),
    (
        "Time of a request",
        "s",
        &[
            (
                "median",
                "histogram_quantile(0.5, sum by (le) (rate(vllm:e2e_request_latency_seconds_bucket[WINDOW])))",
            ),
            (
                "p99",
                "histogram_quantile(0.99, sum by (le) (rate(vllm:e2e_request_latency_seconds_bucket[WINDOW])))",
            ),
        ],
    ),
    (
        "Where a request spends its time, on average",
        "ms",
        &[
            (
                "in the queue",
                "1000 * sum(rate(vllm:request_queue_time_seconds_sum[WINDOW])) / (sum(rate(vllm:request_queue_time_seconds_count[WINDOW])) > 0)",
            ),
            (
                "prefill",
                "1000 * sum(rate(vllm:request_prefill_time_seconds_sum[WINDOW])) / (sum(rate(vllm:request_prefill_time_seconds_count[WINDOW])) > 0)",
            ),
            (
                "decode",
                "1000 * sum(rate(vllm:request_decode_time_seconds_sum[WINDOW])) / (sum(rate(vllm:request_decode_time_seconds_count[WINDOW])) > 0)",
            ),
        ],
    ),
    (
        "Requests that end, by reason",
        "requests/s",
        &[(
            "ended:",
            "sum by (finished_reason) (rate(vllm:request_success_total[WINDOW]))",
        )],
    ),
    (
        "Length of a request, on average",
        "tokens",
        &[
            (
                "prompt",
                "sum(rate(vllm:request_prompt_tokens_sum[WINDOW])) / (sum(rate(vllm:request_prompt_tokens_count[WINDOW])) > 0)",
            ),
            (
                "output",
                "sum(rate(vllm:request_generation_tokens_sum[WINDOW])) / (sum(rate(vllm:request_generation_tokens_count[WINDOW])) > 0)",
            ),
        ],
    ),
    (
        "Prompt tokens found in the prefix cache",
        "%",
        &[(
            "found",
            "100 * sum(rate(vllm:prefix_cache_hits_total[WINDOW])) / (sum(rate(vllm:prefix_cache_queries_total[WINDOW])) > 0)",
        )],
    ),
    (
        "Requests pushed out of the KV cache",
        "requests/s",
        &[("preempted", "sum(rate(vllm:num_preemptions_total[WINDOW]))")],
    ),
];

const LLAMACPP: [Further; 4] = [
    (
        "Speed while it works",
        "tokens/s",
        &[
            (
                "prompts",
                "sum(rate(llamacpp:prompt_tokens_total[WINDOW])) / (sum(rate(llamacpp:prompt_seconds_total[WINDOW])) > 0)",
            ),
            (
                "output",
                "sum(rate(llamacpp:tokens_predicted_total[WINDOW])) / (sum(rate(llamacpp:tokens_predicted_seconds_total[WINDOW])) > 0)",
            ),
        ],
    ),
    (
        "Prompt tokens found in the cache",
        "%",
        &[(
            "found",
            "100 * sum(rate(llamacpp:prompt_tokens_cached_total[WINDOW])) / (sum(rate(llamacpp:prompt_tokens_cached_total[WINDOW])) + sum(rate(llamacpp:prompt_tokens_total[WINDOW])) > 0)",
        )],
    ),
    (
        "Calls of the model",
        "calls/s",
        &[("decode", "sum(rate(llamacpp:n_decode_total[WINDOW]))")],
    ),
    (
        "Longest sequence so far",
        "tokens",
        &[("prompt and output", "max(llamacpp:n_tokens_max)")],
    ),
];

const BENCH: [Further; 5] = [
    (
        "Time of a request",
        "s",
        &[
            (
                "median",
                "histogram_quantile(0.5, sum by (le) (rate(aif_bench_request_latency_seconds_bucket[WINDOW])))",
            ),
            (
                "p99",
                "histogram_quantile(0.99, sum by (le) (rate(aif_bench_request_latency_seconds_bucket[WINDOW])))",
            ),
        ],
    ),
    (
        "Tokens of the load",
        "tokens/s",
        &[
            ("prompt", "sum(rate(aif_bench_prompt_tokens_total[WINDOW]))"),
            ("output", "sum(rate(aif_bench_output_tokens_total[WINDOW]))"),
        ],
    ),
    (
        "Lateness: sent after it was intended",
        "ms",
        &[(
            "p99",
            "1000 * histogram_quantile(0.99, sum by (le) (rate(aif_bench_lateness_seconds_bucket[WINDOW])))",
        )],
    ),
    (
        "Requests that end, by outcome",
        "requests/s",
        &[(
            "ended:",
            "sum by (outcome) (rate(aif_bench_requests_total[WINDOW]))",
        )],
    ),
    (
        "Progress of the load under way",
        "%",
        &[("done", "100 * max by (instance_id) (aif_bench_load_ratio)")],
    ),
];

const NODE: [Further; 4] = [
    (
        "CPU by step",
        "cores",
        &[(
            "of the",
            "sum by (role, node) (rate(aif_step_cpu_seconds_total[WINDOW]))",
        )],
    ),
    (
        "Memory by step",
        "GiB",
        &[(
            "of the",
            "sum by (role, node) (aif_step_memory_working_set_bytes) / 1073741824",
        )],
    ),
    (
        "Load of the node",
        "tasks",
        &[(
            "over a minute",
            "max by (node) (aif_node_load{minutes=\"1\"})",
        )],
    ),
    (
        "Targets of Prometheus",
        "targets",
        &[
            ("up", "count(up == 1)"),
            ("not up", "count(up == 0) or vector(0)"),
        ],
    ),
];

/// All dashboards.
pub fn dashboards() -> Vec<Dashboard> {
    let engine = |kind: EngineKind, title: &str, further: &[Further]| {
        let series = super::profile(kind).series();
        board(kind.name(), title, Group::Engine, &[series], further)
    };
    vec![
        engine(EngineKind::Vllm, "vLLM", &VLLM),
        engine(EngineKind::LlamaCpp, "llama.cpp", &LLAMACPP),
        board("bench", "bench", Group::Load, &[], &BENCH),
        board("node", "nodes", Group::Node, &[], &NODE),
    ]
}

fn board(
    name: &str,
    title: &str,
    group: Group,
    engines: &[EngineSeries],
    further: &[Further],
) -> Dashboard {
    let asks = charts_over(engines, WINDOW).into_iter();
    let asks = asks.filter(|ask| ask.group == group).flat_map(panels);
    let further = further
        .iter()
        .map(|(title, unit, lines)| Panel::new(title, unit, lines));
    Dashboard {
        uid: format!("aif-{name}"),
        title: format!("aif: {title}"),
        panels: asks.chain(further).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_dashboard_asks_for_its_own_and_every_panel_has_a_name_of_its_own() {
        let all = dashboards();
        let uids: Vec<&str> = all.iter().map(|board| board.uid.as_str()).collect();
        assert_eq!(uids, ["aif-vllm", "aif-llamacpp", "aif-bench", "aif-node"]);
        for board in &all {
            let titles: BTreeSet<&str> = board
                .panels
                .iter()
                .map(|panel| panel.title.as_str())
                .collect();
            assert_eq!(titles.len(), board.panels.len(), "{}", board.uid);
            let own = ["vllm:", "llamacpp:", "aif_bench_", "aif_"];
            let own = own[uids.iter().position(|uid| *uid == board.uid).unwrap()];
            for line in board.panels.iter().flat_map(|panel| &panel.lines) {
                assert!(!line.query.contains("WINDOW"), "{}", line.query);
                let asks = line.query.contains(own) || line.query.contains("up ==");
                assert!(asks, "{}: {}", board.uid, line.query);
            }
        }
        // what the report draws stands on the dashboards, too
        let titles: Vec<&str> = all[0]
            .panels
            .iter()
            .map(|panel| panel.title.as_str())
            .collect();
        for title in [
            "Requests in the engine",
            "Batch of the engine",
            "KV cache of the engine",
            "Tokens of the engine: prompt tokens/s",
        ] {
            assert!(titles.contains(&title), "{title}: {titles:?}");
        }
    }
}
