//! A bench without a recipe: the flags of `vllm bench serve`, turned into a recipe.
//!
//! There is one way into the bench, the recipe; flags are only a short way to write one. `--save-recipe` keeps it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    exit::{Exit, Failure},
    units,
};

/// Flags that take the place of a recipe.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Without a recipe")]
pub struct Flags {
    /// Model named in the requests [default: what the service says]
    #[arg(long, conflicts_with = "recipe")]
    pub model: Option<String>,
    /// Requests per second, as an open loop; `inf` sends all at once, up to --max-concurrency
    #[arg(long, value_name = "R", conflicts_with = "recipe")]
    pub request_rate: Option<String>,
    /// Requests in flight at the most; alone, the users of a closed loop [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "recipe")]
    pub max_concurrency: Option<u32>,
    /// Number of requests
    #[arg(long, value_name = "N", conflicts_with = "recipe")]
    pub num_prompts: Option<u64>,
    /// Measured time, for instance 60s
    #[arg(long, value_name = "TIME", conflicts_with = "recipe")]
    pub duration: Option<String>,
    /// Prompt length in tokens [default: 128]
    #[arg(long, value_name = "N", conflicts_with = "recipe")]
    pub random_input_len: Option<u32>,
    /// Tokens to generate [default: 128]
    #[arg(long, value_name = "N", conflicts_with = "recipe")]
    pub random_output_len: Option<u32>,
    /// How arrivals vary: 1 is a Poisson process, less comes in bursts, more is more even [default: 1]
    #[arg(long, value_name = "B", conflicts_with = "recipe")]
    pub burstiness: Option<f64>,
    /// Limits of a good request: ttft:MS tpot:MS e2el:MS
    #[arg(long, value_name = "METRIC:MS", num_args = 1.., conflicts_with = "recipe")]
    pub goodput: Vec<String>,
    /// Generate all tokens whatever the model says
    #[arg(long, conflicts_with = "recipe")]
    pub ignore_eos: bool,
    /// Seed of prompts and arrivals [default: 0]
    #[arg(long, conflicts_with = "recipe")]
    pub seed: Option<u64>,
    /// API [default: openai]
    #[arg(long, value_parser = ["openai", "openai-chat"], conflicts_with = "recipe")]
    pub backend: Option<String>,
    /// Keep what was run as a recipe
    #[arg(long, value_name = "FILE")]
    pub save_recipe: Option<PathBuf>,
}

/// The recipe that the flags stand for, as YAML.
///
/// # Errors
/// A flag whose value makes no sense.
pub fn recipe(flags: &Flags) -> Result<String, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let mut workload = Map::new();
    let rate = match flags.request_rate.as_deref() {
        None | Some("inf") => None,
        Some(text) => Some(
            text.parse::<f64>()
                .ok()
                .filter(|rate| *rate > 0.0 && rate.is_finite())
                .ok_or_else(|| {
                    usage(format!(
                        "--request-rate takes a positive number or inf, not {text}"
                    ))
                })?,
        ),
    };
    let arrival = match flags.burstiness {
        // one is Poisson, by its usual name
        Some(burstiness) if (burstiness - 1.0).abs() > f64::EPSILON => {
            if rate.is_none() {
                return Err(usage(
                    "--burstiness says how requests vary about --request-rate: give that too"
                        .to_owned(),
                ));
            }
            json!({"process": "gamma", "burstiness": burstiness})
        }
        _ => json!({"process": "poisson"}),
    };
    if let Some(rate) = rate {
        workload.insert("pattern".to_owned(), json!("open-loop"));
        workload.insert("requests_per_second".to_owned(), json!(rate));
        workload.insert("arrival".to_owned(), arrival);
        if let Some(most) = flags.max_concurrency {
            workload.insert("max_in_flight".to_owned(), json!(most));
        }
    } else {
        workload.insert("pattern".to_owned(), json!("closed-loop"));
        let users = flags.max_concurrency.or_else(|| {
            // all at once, as far as there is a number of requests to be at once
            let all = flags.num_prompts.filter(|_| flags.request_rate.is_some())?;
            u32::try_from(all).ok()
        });
        workload.insert("concurrent_users".to_owned(), json!(users.unwrap_or(1)));
    }
    if let Some(text) = &flags.duration {
        let duration = units::parse_duration(text).ok_or_else(|| {
            usage(format!(
                "--duration takes a time such as 60s or 5m, not {text}"
            ))
        })?;
        workload.insert("duration_seconds".to_owned(), json!(duration.as_secs_f64()));
    }
    if let Some(count) = flags
        .num_prompts
        .or_else(|| flags.duration.is_none().then_some(100))
    {
        workload.insert("total_requests".to_owned(), json!(count));
    }
    if flags.backend.as_deref() == Some("openai-chat") {
        workload.insert("api".to_owned(), json!("chat"));
    }
    workload.insert("seed".to_owned(), json!(flags.seed.unwrap_or(0)));

    let mut params = Map::new();
    if let Some(model) = &flags.model {
        params.insert("model_name".to_owned(), json!(model));
    }
    params.insert(
        "prompt_length".to_owned(),
        json!(flags.random_input_len.unwrap_or(128)),
    );
    params.insert(
        "max_tokens".to_owned(),
        json!(flags.random_output_len.unwrap_or(128)),
    );
    if flags.ignore_eos {
        params.insert("ignore_eos".to_owned(), json!(true));
    }
    let mut recipe = json!({
        "name": "quick",
        "service_name": "quick",
        "workload": Value::Object(workload),
        "dataset": {"type": "synthetic", "params": Value::Object(params)},
    });
    let slo = goodput(&flags.goodput)?;
    if !slo.is_empty() {
        recipe["slo"] = Value::Object(slo);
    }
    serde_yaml::to_string(&recipe)
        .map_err(|error| Failure::caused(Exit::Bug, "the flags make no recipe", error))
}

fn goodput(limits: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut slo = Map::new();
    for limit in limits {
        let wrong = || {
            Failure::new(
                Exit::Usage,
                format!("--goodput takes ttft:MS, tpot:MS or e2el:MS, not {limit}"),
            )
        };
        let (name, value) = limit.split_once(':').ok_or_else(wrong)?;
        let key = match name {
            "ttft" => "ttft_ms",
            "tpot" => "tpot_ms",
            "e2el" => "e2e_ms",
            _ => return Err(wrong()),
        };
        slo.insert(
            key.to_owned(),
            json!(value.parse::<f64>().map_err(|_| wrong())?),
        );
    }
    Ok(slo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_an_open_loop_and_a_concurrency_a_closed_one() {
        let open = recipe(&Flags {
            request_rate: Some("2.5".into()),
            max_concurrency: Some(8),
            ..Flags::default()
        });
        let open = open.unwrap();
        assert!(
            open.contains("pattern: open-loop") && open.contains("max_in_flight: 8"),
            "{open}"
        );
        let closed = recipe(&Flags {
            max_concurrency: Some(8),
            num_prompts: Some(50),
            ..Flags::default()
        })
        .unwrap();
        assert!(
            closed.contains("concurrent_users: 8") && closed.contains("total_requests: 50"),
            "{closed}"
        );
    }

    #[test]
    fn burstiness_is_a_gamma_process_and_one_is_poisson() {
        let flags = |burstiness| Flags {
            request_rate: Some("2".into()),
            burstiness: Some(burstiness),
            ..Flags::default()
        };
        let bursts = recipe(&flags(0.5)).unwrap();
        assert!(
            bursts.contains("process: gamma") && bursts.contains("burstiness: 0.5"),
            "{bursts}"
        );
        assert!(
            recipe(&flags(1.0)).unwrap().contains("process: poisson"),
            "the usual name"
        );
    }

    #[test]
    fn senseless_flags_are_named() {
        let error = |flags| recipe(&flags).unwrap_err().to_string();
        assert_eq!(
            error(Flags {
                request_rate: Some("fast".into()),
                ..Flags::default()
            }),
            "--request-rate takes a positive number or inf, not fast"
        );
        assert_eq!(
            error(Flags {
                burstiness: Some(2.0),
                ..Flags::default()
            }),
            "--burstiness says how requests vary about --request-rate: give that too"
        );
        assert_eq!(
            error(Flags {
                goodput: vec!["p99:3".into()],
                ..Flags::default()
            }),
            "--goodput takes ttft:MS, tpot:MS or e2el:MS, not p99:3"
        );
    }
}
