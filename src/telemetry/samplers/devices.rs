//! Which GPUs are this step's.
//!
//! Slurm names them in `SLURM_STEP_GPUS` (`SLURM_JOB_GPUS` in a batch script) by the node's own numbers, whatever a
//! cgroup hides. `CUDA_VISIBLE_DEVICES` is counted anew where a cgroup hides devices, and in CUDA's order: there only a
//! UUID is sure to mean what it says. So Slurm's numbers are taken where it runs, else the runtime's own variable, else
//! all that there are. In a step that was given none, there are none, though the driver may show them all.

use crate::env::Env;

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No word of it: all that there are.
    All,
    /// A step without GPUs.
    Nothing,
    /// UUIDs, or their beginnings (`GPU-…`, `MIG-…`).
    Uuids(Vec<String>),
    /// Numbers of the node.
    Numbers(Vec<u32>),
}

impl Wanted {
    /// What this environment says.
    pub(super) fn of(env: &Env) -> Self {
        let list = |name: &str| -> Option<Vec<String>> {
            let parts = env.get(name)?.split(',');
            Some(parts.map(|part| part.trim().to_owned()).collect())
        };
        if let Some(visible) = list("CUDA_VISIBLE_DEVICES")
            && visible
                .iter()
                .all(|id| id.starts_with("GPU-") || id.starts_with("MIG-"))
        {
            return Self::Uuids(visible);
        }
        let in_step = env.get("SLURM_STEP_ID").is_some();
        let in_job = env.get("SLURM_JOB_ID").is_some();
        // a step's list is the step's; in a batch script the job's list is
        let slurm = list("SLURM_STEP_GPUS").or_else(|| {
            let list = list("SLURM_JOB_GPUS")?;
            (!in_step).then_some(list)
        });
        if let Some(numbers) = slurm.and_then(|list| numbers(&list)) {
            return Self::Numbers(numbers);
        }
        if in_job {
            return Self::Nothing;
        }
        [
            "CUDA_VISIBLE_DEVICES",
            "ROCR_VISIBLE_DEVICES",
            "HIP_VISIBLE_DEVICES",
        ]
        .iter()
        .find_map(|name| list(name))
        .and_then(|list| numbers(&list))
        .map_or(Self::All, Self::Numbers)
    }

    /// Why there is nothing to look at, where the environment says so.
    pub(super) fn nothing(&self) -> Option<&'static str> {
        match self {
            Self::Nothing => Some("this step was given no GPU"),
            _ => None,
        }
    }

    /// Is a device of this number one of them? `shown` is how many the driver shows: where that is no more than were
    /// given, a cgroup has hidden the rest, and all that are left are ours.
    pub(super) fn has(&self, number: u32, uuid: &str, shown: usize) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            // of a part of a GPU, the whole GPU is what can be measured; NVML names the part by a UUID of its own
            Self::Uuids(uuids) => {
                shown <= 1 || uuids.iter().any(|wanted| uuid.starts_with(wanted.as_str()))
            }
            Self::Numbers(numbers) => shown <= numbers.len() || numbers.contains(&number),
        }
    }
}

fn numbers(list: &[String]) -> Option<Vec<u32>> {
    list.iter().map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(variables: &[(&str, &str)]) -> Wanted {
        let env = variables
            .iter()
            .fold(Env::default(), |env, (name, value)| env.with(name, value));
        Wanted::of(&env)
    }

    #[test]
    fn slurm_s_numbers_count_where_it_runs_and_the_runtime_s_elsewhere() {
        let step = ("SLURM_STEP_ID", "3");
        let job = ("SLURM_JOB_ID", "7");
        let cases: [(&[(&str, &str)], Wanted); 8] = [
            (&[], Wanted::All),
            (&[("CUDA_VISIBLE_DEVICES", "1")], Wanted::Numbers(vec![1])),
            (
                &[("ROCR_VISIBLE_DEVICES", "0,2")],
                Wanted::Numbers(vec![0, 2]),
            ),
            (
                // hidden by a cgroup: CUDA counts from 0 again
                &[
                    job,
                    step,
                    ("SLURM_STEP_GPUS", "2,3"),
                    ("CUDA_VISIBLE_DEVICES", "0,1"),
                ],
                Wanted::Numbers(vec![2, 3]),
            ),
            (&[job, ("SLURM_JOB_GPUS", "1")], Wanted::Numbers(vec![1])),
            // a step that was given none sees what its job was given
            (&[job, step, ("SLURM_JOB_GPUS", "1")], Wanted::Nothing),
            (&[job, step], Wanted::Nothing),
            (
                &[
                    job,
                    step,
                    ("SLURM_STEP_GPUS", "2"),
                    ("CUDA_VISIBLE_DEVICES", "GPU-ab"),
                ],
                Wanted::Uuids(vec!["GPU-ab".to_owned()]),
            ),
        ];
        for (variables, expected) in cases {
            assert_eq!(wanted(variables), expected, "{variables:?}");
        }
    }

    #[test]
    fn only_those_of_the_step_count() {
        let numbers = Wanted::Numbers(vec![2, 3]);
        let of = |wanted: &Wanted, shown| -> Vec<u32> {
            (0..4)
                .filter(|number| wanted.has(*number, &format!("GPU-{number}"), shown))
                .collect()
        };
        assert_eq!(of(&numbers, 4), [2, 3]);
        // a cgroup left two, which the driver counts from 0
        assert_eq!(of(&numbers, 2), [0, 1, 2, 3]);
        assert_eq!(of(&Wanted::Uuids(vec!["GPU-1".to_owned()]), 4), [1]);
        assert_eq!(of(&Wanted::All, 4).len(), 4);
        assert!(of(&Wanted::Nothing, 4).is_empty());
    }
}
