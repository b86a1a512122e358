//! GPUs of AMD, by what the kernel's driver shows in `/sys/class/drm`: no library is needed.
//!
//! A cgroup hides no file there, so the cards of this step are picked by Slurm's numbers. Slurm counts the cards of
//! its `gres.conf`, most often in the order of the render nodes, which is the order of the bus; so are they counted here.

use super::{Reading, Root, Sampler, devices::Wanted, gpu::Figures};
use crate::telemetry::{
    root::key,
    sample::{Absent, Sampled},
};

const FOLDER: &str = "/sys/class/drm";
/// The vendor's number on the bus.
const AMD: &str = "0x1002";

/// The sampler. Which cards there are does not change.
#[derive(Debug)]
pub(super) struct Amd {
    root: Root,
    cards: Result<Vec<Card>, Absent>,
}

/// A card of this step.
#[derive(Debug)]
struct Card {
    number: String,
    /// `/sys/class/drm/cardN/device`
    device: String,
    /// Its sensors.
    sensors: Option<String>,
}

impl Amd {
    pub(super) fn new(root: &Root, wanted: &Wanted) -> Self {
        Self {
            cards: find(root, wanted),
            root: root.clone(),
        }
    }

    fn look(&self) -> Reading {
        let cards = self.cards.as_ref().map_err(Clone::clone)?;
        let mut figures = Figures::default();
        let mut fault = None;
        for card in cards {
            if let Err(absent) = card.look(&self.root, &mut figures) {
                fault = Some(absent);
            }
        }
        let families = figures.families();
        match fault {
            None => Ok(families.into()),
            // the card's name is told in any case
            Some(fault) if families.len() > 1 => {
                Ok(Sampled::from(families).wanting(fault.to_string()))
            }
            Some(fault) => Err(fault),
        }
    }
}

impl Sampler for Amd {
    fn sample(&mut self) -> Vec<(&'static str, Reading)> {
        vec![("gpu_amd", self.look())]
    }
}

fn find(root: &Root, wanted: &Wanted) -> Result<Vec<Card>, Absent> {
    if let Some(why) = wanted.nothing() {
        return Err(Absent::Unsupported(why.to_owned()));
    }
    let names = root
        .names(FOLDER)
        .map_err(|absent| absent.hint("no GPU of AMD"))?;
    // card0-DP-1 is a connector of card0
    let mut found: Vec<(u32, String)> = names
        .iter()
        .filter_map(|name| Some((name.strip_prefix("card")?.parse().ok()?, name)))
        .map(|(number, name): (u32, _)| (number, format!("{FOLDER}/{name}/device")))
        .filter(|(_, device)| {
            root.text(format!("{device}/vendor"))
                .is_ok_and(|vendor| vendor == AMD)
        })
        .collect();
    found.sort();
    if found.is_empty() {
        return Err(Absent::Unsupported(format!("{FOLDER}: no card of AMD")));
    }
    let shown = found.len();
    let own: Vec<Card> = found
        .into_iter()
        .zip(0_u32..)
        .filter(|((_, device), number)| {
            let uuid = root.text(format!("{device}/unique_id")).unwrap_or_default();
            wanted.has(*number, &uuid, shown)
        })
        .map(|((_, device), number)| {
            let folder = format!("{device}/hwmon");
            let sensors = root.names(&folder).unwrap_or_default();
            Card {
                number: number.to_string(),
                sensors: sensors.first().map(|name| format!("{folder}/{name}")),
                device,
            }
        })
        .collect();
    if own.is_empty() {
        return Err(Absent::Unsupported(
            "none of the cards of AMD is this step's".to_owned(),
        ));
    }
    Ok(own)
}

impl Card {
    fn look(&self, root: &Root, figures: &mut Figures) -> Result<(), Absent> {
        let gpu = self.number.as_str();
        let own = [("gpu", gpu)];
        let text = |name: &str| root.text(format!("{}/{name}", self.device));
        let number = |name: &str| root.number(format!("{}/{name}", self.device));
        let uuid = text("unique_id").unwrap_or_default();
        let model = text("product_name").unwrap_or_default();
        let labels = [
            ("gpu", gpu),
            ("uuid", &uuid),
            ("model", &model),
            ("driver", "amdgpu"),
        ];
        figures.add(("info", ""), labels, 1.0);
        for (file, metric) in [
            ("gpu_busy_percent", "utilization"),
            ("mem_busy_percent", "memory_utilization"),
        ] {
            if let Ok(percent) = number(file) {
                figures.add((metric, "ratio"), own, percent / 100.0);
            }
        }
        for (correctable, kind) in [("ce", "corrected"), ("ue", "uncorrected")] {
            let counts = text("ras/umc_err_count").unwrap_or_default();
            if let Some(count) = key(&counts, &format!("{correctable}:")) {
                figures.add(("ecc_errors", ""), [("gpu", gpu), ("kind", kind)], count);
            }
        }
        if let Ok(lanes) = number("current_link_width") {
            figures.add(("pcie_lanes", ""), own, lanes);
        }
        if let Ok(replays) = number("pcie_replay_count") {
            figures.add(("pcie_replays", ""), own, replays);
        }
        self.sensors(root, figures);
        // what every card of this driver tells: where these fail, something is wrong
        let (size, used) = (
            number("mem_info_vram_total")?,
            number("mem_info_vram_used")?,
        );
        figures.add(("memory_size", "bytes"), own, size);
        figures.add(("memory_used", "bytes"), own, used);
        Ok(())
    }

    /// Power in microwatts, energy in microjoules, temperatures in thousandths, clocks in hertz.
    fn sensors(&self, root: &Root, figures: &mut Figures) {
        let Some(folder) = &self.sensors else { return };
        let gpu = self.number.as_str();
        let own = [("gpu", gpu)];
        let number = |name: &str| root.number(format!("{folder}/{name}"));
        // cards with one sensor give an average or a value of the moment
        if let Ok(power) = number("power1_average").or_else(|_| number("power1_input")) {
            figures.add(("power", "watts"), own, power / 1e6);
        }
        if let Ok(limit) = number("power1_cap") {
            figures.add(("power_limit", "watts"), own, limit / 1e6);
        }
        if let Ok(energy) = number("energy1_input") {
            figures.add(("energy", "joules"), own, energy / 1e6);
        }
        for at in 1..=3 {
            let label = |kind: &str| root.text(format!("{folder}/{kind}{at}_label"));
            if let (Ok(sensor), Ok(degrees)) = (label("temp"), number(&format!("temp{at}_input"))) {
                let labels = [("gpu", gpu), ("sensor", sensor.as_str())];
                figures.add(("temperature", "celsius"), labels, degrees / 1e3);
            }
            if let (Ok(clock), Ok(hertz)) = (label("freq"), number(&format!("freq{at}_input"))) {
                let domain = match clock.as_str() {
                    "sclk" => "sm",
                    "mclk" => "memory",
                    other => other,
                };
                let labels = [("gpu", gpu), ("domain", domain)];
                figures.add(("clock", "hertz"), labels, hertz);
            }
        }
        if let Ok(limit) = number("temp1_crit") {
            figures.add(("temperature_limit", "celsius"), own, limit / 1e3);
        }
    }
}
