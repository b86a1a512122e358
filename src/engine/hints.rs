//! Words in an engine's log that tell what went wrong, and the mend.
//!
//! The cause of a failure is seldom its last line: vLLM tells it in a worker, and ends with the tracebacks of all that
//! waited for that one. So the whole log that is kept is looked through, and the latest line that is known counts: what
//! came before it was survived. Words that only say that something failed give way to any line that says why. Capitals
//! do not count, for the same complaint has them or not by who makes it.

/// Words, and the mend.
pub(super) type Hint = (&'static str, &'static str);

/// Of any engine. Those of the model hub are of its client library, which most engines use.
pub(super) const COMMON: [Hint; 20] = [
    (
        "Cannot access gated repo",
        "the model is gated: accept its terms on the hub and set HF_TOKEN, or fetch it into CACHE_DIR beforehand",
    ),
    (
        "trying to access a gated repo",
        "the model is gated: accept its terms on the hub and set HF_TOKEN, or fetch it into CACHE_DIR beforehand",
    ),
    (
        "Repository Not Found",
        "the hub knows no model of this name, or does not show it without HF_TOKEN: check its spelling",
    ),
    (
        "is not a local folder and is not a valid model identifier",
        "the model is neither a folder that the container sees nor known by name: check binds and spelling",
    ),
    (
        "We couldn't connect to",
        "the node has no way out to fetch the model: fetch it into CACHE_DIR beforehand and set HF_HUB_OFFLINE=1",
    ),
    (
        "offline mode is enabled",
        "HF_HUB_OFFLINE is set and the model is not in the cache: fetch it into CACHE_DIR beforehand, and check HF_HOME and binds",
    ),
    (
        "driver on your system is too old",
        "the node's NVIDIA driver is too old for this image: use an image made for an older CUDA",
    ),
    (
        "CUDA driver version is insufficient",
        "the node's NVIDIA driver is too old for this image: use an image made for an older CUDA",
    ),
    (
        "CUDA out of memory",
        "the model does not fit on the GPU: ask for more GPUs or a smaller context",
    ),
    (
        "HIP out of memory",
        "the model does not fit on the GPU: ask for more GPUs or a smaller context",
    ),
    (
        "cudaMalloc failed: out of memory",
        "the model does not fit on the GPU: ask for more GPUs or a smaller context",
    ),
    (
        "Cannot allocate memory",
        "the job's memory is too small: raise orchestration.resources.memory_gb",
    ),
    (
        "No space left on device",
        "a file system is full: give caches a folder with room (binds, CACHE_DIR)",
    ),
    (
        "address already in use",
        "the port is taken: use `ports: [auto]` and {port} in the arguments",
    ),
    (
        "neither apptainer nor singularity",
        "the site's modules bring no program that runs containers: correct modules in the site file",
    ),
    (
        "could not open image",
        "the image that the recipe names is missing or broken; sbatch/image-*.sh make those of this project",
    ),
    (
        "failed to open /dev/fuse",
        "the node does not let users mount images: ask the site for /dev/fuse",
    ),
    (
        "mount source",
        "a bind names a folder that this node does not have: check service.container.binds",
    ),
    (
        "executable file not found",
        "the image has no such program: check the first word of service.container.args",
    ),
    (
        "command not found",
        "a program of the command is missing: load its module or give its full path",
    ),
];

/// What says that something failed, and not why.
pub(super) const VAGUE: [Hint; 2] = [
    (
        "failed to load model",
        "the model cannot be loaded: check its file and the job's memory",
    ),
    // Triton's last words
    (
        "failed to load all models",
        "a model of the repository cannot be loaded: the table of models above says which, and why",
    ),
];

/// The latest line of `log` that one of `hints` knows, and the mend.
fn latest<'a>(hints: &[&[Hint]], log: &'a [String]) -> Option<(&'a str, &'static str)> {
    log.iter().rev().find_map(|line| {
        let small = line.to_lowercase();
        hints
            .iter()
            .copied()
            .flatten()
            .find(|(words, _)| small.contains(&words.to_lowercase()))
            .map(|(_, mend)| (line.as_str(), *mend))
    })
}

/// The line of an engine's log that tells why it failed, and the mend. `own`: what is known of this engine alone.
pub(super) fn cause<'a>(own: &[Hint], log: &'a [String]) -> Option<(&'a str, &'static str)> {
    latest(&[own, &COMMON], log).or_else(|| latest(&[&VAGUE], log))
}

#[cfg(test)]
mod tests {
    use crate::{engine::profile, recipe::EngineKind};

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_cause_of_a_real_failure_is_found_far_above_its_tracebacks() {
        let log = lines(include_str!(
            "../../tests/data/engines/vllm.start-failed.log"
        ));
        let (line, mend) = profile(EngineKind::Vllm).cause(&log).unwrap();
        assert!(
            line.contains("ValueError: Available memory on node 0 (21.18/23.54 GiB)"),
            "{line}"
        );
        assert!(mend.contains("VLLM_CPU_KVCACHE_SPACE"), "{mend}");
        let at = log.iter().rposition(|other| other == line).unwrap();
        assert!(log.len() - at > 100, "it is in the last lines");
    }

    #[test]
    fn each_complaint_has_its_mend() {
        for (kind, log, mend) in [
            (
                EngineKind::Vllm,
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
                "does not fit on the GPU",
            ),
            (
                EngineKind::Sglang,
                "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.",
                "does not fit on the GPU",
            ),
            (
                EngineKind::LlamaCpp,
                "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 590.07 MiB on device 0: cudaMalloc failed: out of memory\nllama_model_load: error loading model: unable to allocate CUDA0 buffer\nsrv    load_model: failed to load model, '/models/m.gguf'",
                "does not fit on the GPU",
            ),
            (
                EngineKind::LlamaCpp,
                "srv    load_model: failed to load model, '/models/m.gguf'",
                "check its file",
            ),
            (
                EngineKind::Vllm,
                "OSError: You are trying to access a gated repo.",
                "the model is gated",
            ),
            (
                EngineKind::Tgi,
                "Cannot access gated repo for url https://huggingface.co/a/b/resolve/main/config.json.",
                "the model is gated",
            ),
            (
                EngineKind::Trtllm,
                "Repository Not Found for url: https://huggingface.co/api/models/a/b/revision/main.",
                "no model of this name",
            ),
            (
                EngineKind::Sglang,
                "OSError: a/b is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
                "check binds and spelling",
            ),
            (
                EngineKind::Vllm,
                "OfflineModeIsEnabled: Cannot reach https://huggingface.co/a/b/resolve/main/config.json: offline mode is enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable.",
                "is not in the cache",
            ),
            (
                EngineKind::Vllm,
                "ValueError: User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=32768 or model_max_length=None in model's config.json).",
                "lower --max-model-len",
            ),
            (
                EngineKind::Vllm,
                "ValueError: To serve at least one request with the model's max seq len (700160), (6.11 GiB KV cache is needed, which is larger than the available KV cache memory (5.17 GiB).",
                "lower --max-model-len",
            ),
            (
                EngineKind::Vllm,
                "RuntimeError: The NVIDIA driver on your system is too old (found version 12080).",
                "driver is too old",
            ),
            (
                EngineKind::LlamaCpp,
                "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version",
                "driver is too old",
            ),
            (
                EngineKind::Http,
                "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use",
                "the port is taken",
            ),
            (
                EngineKind::Vllm,
                "OSError: [Errno 98] Address already in use",
                "the port is taken",
            ),
            (
                EngineKind::Http,
                "error: failed to start HTTP service: Unavailable - Socket '0.0.0.0:8000' already in use",
                "the port is taken",
            ),
            (
                EngineKind::Http,
                "Error: listen EADDRINUSE: address already in use :::8000",
                "the port is taken",
            ),
            (
                EngineKind::Http,
                "error: creating server: Internal - failed to load all models",
                "the table of models",
            ),
            (
                EngineKind::Http,
                "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB\nerror: creating server: Internal - failed to load all models",
                "does not fit on the GPU",
            ),
            (
                EngineKind::Http,
                "error: creating server: Internal - failed to stat file /models",
                "--model-repository",
            ),
            (
                EngineKind::Http,
                "ModuleNotFoundError: No module named 'dynamo'",
                "lacks a Python module",
            ),
            (
                EngineKind::Http,
                "serve: error while loading shared libraries: libcudart.so.12: cannot open shared object file",
                "lacks a library",
            ),
            (
                EngineKind::Http,
                "bash: /opt/serve: cannot execute binary file: Exec format error",
                "another kind of processor",
            ),
            (
                EngineKind::Qdrant,
                "Can't open Collections meta Wal: Os { code: 11, kind: WouldBlock, message: \"Resource temporarily unavailable\" }",
                "a folder of its own",
            ),
            (
                EngineKind::Qdrant,
                "Panic occurred in file src/shards/replica_set.rs at line 502: Failed to load local shard \"./storage/collections/b/0\": Service internal error: Wal error: Can't init WAL: Custom { kind: InvalidData, error: \"unexpected entry in wal directory\" }",
                "an empty folder",
            ),
            (
                EngineKind::Qdrant,
                "ServiceError { error: \"Failed to create snapshots temp directory at ./snapshots/tmp: Os { code: 13, kind: PermissionDenied }\" }",
                "QDRANT__STORAGE__SNAPSHOTS_PATH",
            ),
            (
                EngineKind::Qdrant,
                "ERROR storage: Too many open files (os error 24)",
                "ulimit -n 10000",
            ),
        ] {
            let told = profile(kind).cause(&lines(log)).map(|(_, mend)| mend);
            assert!(
                told.is_some_and(|told| told.contains(mend)),
                "{log}: {told:?}"
            );
        }
        assert_eq!(profile(EngineKind::Vllm).cause(&lines("fine")), None);
    }

    #[test]
    fn the_latest_complaint_counts() {
        let log = lines(
            "WARNING: No space left on device, caching nothing\nloading\nRuntimeError: CUDA out of memory\n  File",
        );
        let (line, _) = profile(EngineKind::Vllm).cause(&log).unwrap();
        assert_eq!(line, "RuntimeError: CUDA out of memory");
    }
}
