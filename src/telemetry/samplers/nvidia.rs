//! GPUs of NVIDIA, by NVML: the library of the driver, which is loaded when it is there.
//!
//! It is loaded on a thread of its own, because a driver that was not in use takes seconds to wake up, and not where
//! this step has no GPU. What a card does not know has no series and is named in the sampler's note; a call that fails
//! makes the sampler degraded. `PCIe` and `NVLink` are read as counters: the rates that NVML offers are measured while
//! one waits, 20 ms a call.
//!
//! NVML counts `NVLink` by link, and takes the link's number beside that of the field. The crate's call leaves it at 0, and
//! without it there is none that is safe: so what is told is the traffic of link 0, its label says so, and a card with more
//! links makes the sampler degraded. Of work that is spread evenly over the links it is an equal share.
//!
//! A device that a cgroup hides is not shown by the driver, or shown and refused: both are no device of ours.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    sync::{Arc, OnceLock},
};

use nvml_wrapper::{
    Device, Nvml,
    bitmasks::device::ThrottleReasons,
    enum_wrappers::device::{
        Clock, EccCounter, MemoryError, PerformancePolicy, TemperatureSensor, TemperatureThreshold,
    },
    enums::device::SampleValue,
    error::NvmlError,
    structs::device::FieldId,
};

use super::{Reading, Sampler, devices::Wanted, gpu::Figures};
use crate::telemetry::sample::{Absent, Sampled};

/// Reasons for which clocks are lower than they could be.
const REASONS: [(ThrottleReasons, &str); 9] = [
    (ThrottleReasons::GPU_IDLE, "idle"),
    (
        ThrottleReasons::APPLICATIONS_CLOCKS_SETTING,
        "clocks_setting",
    ),
    (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display_setting"),
    (ThrottleReasons::SYNC_BOOST, "sync_boost"),
    (ThrottleReasons::SW_POWER_CAP, "power_cap"),
    (ThrottleReasons::HW_SLOWDOWN, "hardware_slowdown"),
    (ThrottleReasons::SW_THERMAL_SLOWDOWN, "thermal"),
    (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hardware_thermal"),
    (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "power_brake"),
];

/// How many links of `NVLink` a card has.
const LINKS: FieldId = FieldId(91);
/// The one whose traffic is read.
const LINK: &str = "0";
/// Fields that are counters: the id that NVML gives them, bytes of a unit.
const COUNTERS: [(u32, &str, f64); 4] = [
    (198, "pcie_receive", 1.0),
    (197, "pcie_transmit", 1.0),
    // of one link, in KiB
    (139, "nvlink_receive", 1024.0),
    (138, "nvlink_transmit", 1024.0),
];
/// The name under which a driver installs it; the one without a number is there for compilers only.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// The sampler.
#[derive(Debug)]
pub(super) struct Nvidia {
    wanted: Wanted,
    library: Arc<OnceLock<Result<Nvml, String>>>,
}

impl Nvidia {
    /// The driver of this node.
    pub(super) fn new(wanted: Wanted) -> Self {
        let sampler = Self {
            wanted,
            library: Arc::default(),
        };
        if sampler.wanted.nothing().is_none() {
            let library = Arc::clone(&sampler.library);
            std::thread::spawn(move || {
                library
                    .get_or_init(|| load(&OsString::from(LIBRARY)))
                    .is_ok()
            });
        }
        sampler
    }

    /// A library of a test.
    #[cfg(test)]
    pub(super) fn with(wanted: Wanted, library: &std::path::Path) -> Self {
        let cell = OnceLock::new();
        let _ = cell.set(load(library.as_os_str()));
        Self {
            wanted,
            library: Arc::new(cell),
        }
    }

    fn look(&self) -> Reading {
        if let Some(why) = self.wanted.nothing() {
            return Err(Absent::Unsupported(why.to_owned()));
        }
        let nvml = match self.library.get() {
            None => return Ok(Sampled::default().wanting("the driver's library is being loaded")),
            Some(Err(why)) => return Err(Absent::Unsupported(why.clone())),
            Some(Ok(nvml)) => nvml,
        };
        let count = nvml
            .device_count()
            .map_err(|error| Absent::Failed(format!("NVML does not count its GPUs: {error}")))?;
        let mut look = Look::default();
        let shown: Vec<Device<'_>> = (0..count)
            .filter_map(|index| nvml.device_by_index(index).ok())
            .collect();
        let driver = nvml.sys_driver_version().unwrap_or_default();
        let all = shown.len();
        for device in shown {
            let uuid = device.uuid().unwrap_or_default();
            let index = device.index().unwrap_or_default();
            // Slurm counts by the device file, NVML by the bus
            let number = device.minor_number().unwrap_or(index);
            if self.wanted.has(number, &uuid, all) {
                look.device(&device, &index.to_string(), [&uuid, &driver]);
            }
        }
        if look.seen == 0 {
            return Err(Absent::Unsupported(
                "the driver shows none of this step's GPUs".to_owned(),
            ));
        }
        Ok(look.sampled())
    }
}

impl Sampler for Nvidia {
    fn sample(&mut self) -> Vec<(&'static str, Reading)> {
        vec![("gpu_nvidia", self.look())]
    }
}

fn load(library: &std::ffi::OsStr) -> Result<Nvml, String> {
    Nvml::builder()
        .lib_path(library)
        .init()
        .map_err(|error| match error {
            NvmlError::LibloadingError(_) => {
                format!(
                    "{} cannot be loaded: no driver of NVIDIA",
                    library.display()
                )
            }
            NvmlError::DriverNotLoaded => "the driver of NVIDIA is not loaded".to_owned(),
            other => format!("NVML does not start: {other}"),
        })
}

/// One look at the GPUs.
#[derive(Debug, Default)]
struct Look {
    seen: usize,
    figures: Figures,
    /// What the cards do not know.
    untold: BTreeSet<&'static str>,
    faults: Vec<String>,
}

impl Look {
    /// The answer of a call, or a note of why there is none.
    fn told<T>(&mut self, what: &'static str, answer: Result<T, NvmlError>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(
                NvmlError::NotSupported
                | NvmlError::FailedToLoadSymbol(_)
                | NvmlError::FunctionNotFound
                | NvmlError::NoPermission
                | NvmlError::InvalidArg,
            ) => {
                self.untold.insert(what);
                None
            }
            Err(error) => {
                self.faults.push(format!("{what}: {error}"));
                None
            }
        }
    }

    fn device(&mut self, device: &Device<'_>, gpu: &str, [uuid, driver]: [&str; 2]) {
        self.seen += 1;
        let own = [("gpu", gpu)];
        let name = device.name().unwrap_or_default();
        let labels = [
            ("gpu", gpu),
            ("uuid", uuid),
            ("model", &name),
            ("driver", driver),
        ];
        self.figures.add(("info", ""), labels, 1.0);
        if let Some(used) = self.told("utilisation", device.utilization_rates()) {
            let mut add = |name, percent: u32| {
                self.figures
                    .add((name, "ratio"), own, f64::from(percent) / 100.0);
            };
            add("utilization", used.gpu);
            add("memory_utilization", used.memory);
        }
        if let Some(memory) = self.told("memory", device.memory_info()) {
            self.figures
                .add(("memory_size", "bytes"), own, memory.total as f64);
            self.figures
                .add(("memory_used", "bytes"), own, memory.used as f64);
        }
        self.power(device, gpu);
        self.clocks(device, gpu);
        if let Some(degrees) = self.told("temperature", device.temperature(TemperatureSensor::Gpu))
        {
            let labels = [("gpu", gpu), ("sensor", "gpu")];
            self.figures
                .add(("temperature", "celsius"), labels, f64::from(degrees));
        }
        let limit = device.temperature_threshold(TemperatureThreshold::Slowdown);
        if let Some(degrees) = self.told("temperature limit", limit) {
            self.figures
                .add(("temperature_limit", "celsius"), own, f64::from(degrees));
        }
        for (kind, name) in [
            (MemoryError::Corrected, "corrected"),
            (MemoryError::Uncorrected, "uncorrected"),
        ] {
            let errors = device.total_ecc_errors(kind, EccCounter::Volatile);
            if let Some(count) = self.told("ECC", errors) {
                self.figures.add(
                    ("ecc_errors", ""),
                    [("gpu", gpu), ("kind", name)],
                    count as f64,
                );
            }
        }
        self.links(device, gpu);
    }

    fn power(&mut self, device: &Device<'_>, gpu: &str) {
        let own = [("gpu", gpu)];
        if let Some(milliwatts) = self.told("power", device.power_usage()) {
            self.figures
                .add(("power", "watts"), own, f64::from(milliwatts) / 1e3);
        }
        if let Some(milliwatts) = self.told("power limit", device.enforced_power_limit()) {
            self.figures
                .add(("power_limit", "watts"), own, f64::from(milliwatts) / 1e3);
        }
        if let Some(millijoules) = self.told("energy", device.total_energy_consumption()) {
            self.figures
                .add(("energy", "joules"), own, millijoules as f64 / 1e3);
        }
    }

    fn clocks(&mut self, device: &Device<'_>, gpu: &str) {
        for (clock, name) in [(Clock::SM, "sm"), (Clock::Memory, "memory")] {
            if let Some(megahertz) = self.told("clocks", device.clock_info(clock)) {
                let labels = [("gpu", gpu), ("domain", name)];
                self.figures
                    .add(("clock", "hertz"), labels, f64::from(megahertz) * 1e6);
            }
        }
        if let Some(reasons) = self.told("throttle reasons", device.current_throttle_reasons()) {
            for (reason, name) in REASONS {
                let holds = f64::from(u8::from(reasons.contains(reason)));
                self.figures
                    .add(("throttled", ""), [("gpu", gpu), ("reason", name)], holds);
            }
        }
        for (policy, name) in [
            (PerformancePolicy::Power, "power_cap"),
            (PerformancePolicy::Thermal, "thermal"),
        ] {
            if let Some(time) = self.told("throttled time", device.violation_status(policy)) {
                let seconds = time.violation_time as f64 / 1e9;
                let labels = [("gpu", gpu), ("reason", name)];
                self.figures.add(("throttled", "seconds"), labels, seconds);
            }
        }
    }

    fn links(&mut self, device: &Device<'_>, gpu: &str) {
        let own = [("gpu", gpu)];
        if let Some(generation) = self.told("PCIe", device.current_pcie_link_gen()) {
            self.figures
                .add(("pcie_generation", ""), own, f64::from(generation));
        }
        if let Some(lanes) = self.told("PCIe", device.current_pcie_link_width()) {
            self.figures.add(("pcie_lanes", ""), own, f64::from(lanes));
        }
        if let Some(replays) = self.told("PCIe replays", device.pcie_replay_counter()) {
            self.figures
                .add(("pcie_replays", ""), own, f64::from(replays));
        }
        let ids = COUNTERS.map(|(id, ..)| FieldId(id));
        let Some(values) = self.told("PCIe and NVLink traffic", device.field_values_for(&ids))
        else {
            return;
        };
        let mut linked = false;
        for ((_, name, factor), field) in COUNTERS.into_iter().zip(values) {
            let what = if name.starts_with("pcie") {
                "PCIe traffic"
            } else {
                "NVLink traffic"
            };
            let value = field.and_then(|field| field.value);
            let Some(value) = self.told(what, value).as_ref().map(number) else {
                continue;
            };
            if name.starts_with("pcie") {
                self.figures.add((name, "bytes"), own, value * factor);
            } else {
                let labels = [("gpu", gpu), ("link", LINK)];
                self.figures.add((name, "bytes"), labels, value * factor);
                linked = true;
            }
        }
        if linked {
            self.links_told(device);
        }
    }

    /// Tells of how many links that was.
    fn links_told(&mut self, device: &Device<'_>) {
        let answer = device.field_values_for(&[LINKS]).ok();
        let first = answer.and_then(|values| values.into_iter().next()?.ok());
        let count = first.and_then(|field| field.value.ok());
        let links = match count.as_ref().map(number) {
            Some(count) if count <= 1.0 => return,
            Some(count) => format!("{count} links"),
            None => "links".to_owned(),
        };
        self.faults.push(format!(
            "NVLink traffic is told of link {LINK} alone, of {links}"
        ));
    }

    fn sampled(self) -> Sampled {
        let sampled = Sampled::from(self.figures.families());
        if let Some(fault) = self.faults.first() {
            return sampled.wanting(fault.clone());
        }
        if self.untold.is_empty() {
            return sampled;
        }
        let untold: Vec<&str> = self.untold.into_iter().collect();
        sampled.note(format!("the card does not tell: {}", untold.join(", ")))
    }
}

fn number(value: &SampleValue) -> f64 {
    match *value {
        SampleValue::F64(value) => value,
        SampleValue::U32(value) => f64::from(value),
        SampleValue::U64(value) => value as f64,
        SampleValue::I64(value) => value as f64,
    }
}
