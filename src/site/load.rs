//! Finding and reading site files, held to a table like recipes are.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Chosen, Error, Price, Site};
use crate::{
    env::Env,
    recipe::{
        check::check,
        expand::{Variables, expand},
        fault::{Findings, Origin},
        load::{self as yaml, Node, Value},
        tables::SITE,
    },
};

/// Sites that extend each other at the most.
const MAX_CHAIN: usize = 8;

pub(super) fn load(env: &Env, home: &Path) -> Result<Site, Error> {
    match choose(env, home)?.path {
        Some(path) => Reader::new(env, home, &folder(home)).site(&path),
        None => Ok(Site {
            name: "plain".to_owned(),
            ..Site::default()
        }),
    }
}

/// Which file counts, and why.
pub(super) fn choose(env: &Env, home: &Path) -> Result<Chosen, Error> {
    let folder = folder(home);
    let chosen = |path: PathBuf, why| {
        Ok(Chosen {
            path: Some(path),
            why,
        })
    };
    if let Some(name) = env.get("AIF_SITE") {
        return chosen(find(name, &folder)?, "named by AIF_SITE or --site");
    }
    let own = env
        .path("XDG_CONFIG_HOME")
        .unwrap_or_else(|| env.home().join(".config"))
        .join("aif/site.yaml");
    if own.is_file() {
        return chosen(own, "your own file");
    }
    if let Some(cluster) = env.get("SLURM_CLUSTER_NAME")
        && let Some(path) = of_cluster(cluster, &folder)?
    {
        return chosen(path, "it names this cluster");
    }
    let plain = folder.join("plain.yaml");
    Ok(Chosen {
        path: plain.is_file().then_some(plain),
        why: "nothing else fits",
    })
}

fn folder(home: &Path) -> PathBuf {
    home.join("sbatch/sites")
}

/// The file of a site: a path, or a name in the folder of sites.
fn find(name: &str, folder: &Path) -> Result<PathBuf, Error> {
    let path = if name.contains('/') || has_yaml_suffix(Path::new(name)) {
        PathBuf::from(name)
    } else {
        folder.join(format!("{name}.yaml"))
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::Unknown {
            name: name.to_owned(),
            folder: folder.to_owned(),
        })
    }
}

fn has_yaml_suffix(path: &Path) -> bool {
    path.extension()
        .is_some_and(|suffix| suffix == "yaml" || suffix == "yml")
}

/// The site that names this cluster. A file that cannot be read is told only where no other names it: the fault of one
/// site must not stop the work on another.
fn of_cluster(cluster: &str, folder: &Path) -> Result<Option<PathBuf>, Error> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| has_yaml_suffix(path))
        .collect();
    paths.sort();
    let mut broken = None;
    for path in paths {
        match tree(&path) {
            Ok(root) => {
                let names = root.get("clusters").map(Node::items).unwrap_or_default();
                if names.iter().any(|name| name.as_text() == Some(cluster)) {
                    return Ok(Some(path));
                }
            }
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    broken.map_or(Ok(None), Err)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::Invalid {
        path: path.to_owned(),
        message: format!("{}: cannot be read: {error}", path.display()),
    })
}

fn tree(path: &Path) -> Result<Node, Error> {
    let text = read(path)?;
    finish(path, |findings| yaml::load(&text, findings))
}

fn finish(path: &Path, build: impl FnOnce(&mut Findings) -> Option<Node>) -> Result<Node, Error> {
    let mut findings = Findings::default();
    let node = build(&mut findings);
    let shown = path.display().to_string();
    let origin = Origin {
        path: &shown,
        overrides: &[],
    };
    findings
        .finish(node, &origin)
        .map(|(node, _)| node)
        .map_err(|faults| Error::Invalid {
            path: path.to_owned(),
            message: faults.to_string(),
        })
}

struct Reader<'a> {
    variables: Variables,
    folder: &'a Path,
}

impl<'a> Reader<'a> {
    fn new(env: &Env, home: &Path, folder: &'a Path) -> Self {
        let mut variables: Variables = env
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        variables.insert("AIF_HOME".to_owned(), home.display().to_string());
        let account = ["SLURM_JOB_ACCOUNT", "SLURM_ACCOUNT", "SBATCH_ACCOUNT"]
            .iter()
            .find_map(|name| env.get(name));
        if let Some(account) = account {
            variables.insert("AIF_ACCOUNT".to_owned(), account.to_owned());
        }
        Self { variables, folder }
    }

    /// Reads a site and those that it extends, the nearest winning.
    fn site(&self, path: &Path) -> Result<Site, Error> {
        let mut chain = vec![self.checked(path)?];
        let mut paths = vec![path.to_owned()];
        while let Some(name) = chain.last().and_then(|(_, root)| text(root, "extends")) {
            let next = find(&name, self.folder)?;
            if paths.contains(&next) || paths.len() >= MAX_CHAIN {
                let message = format!(
                    "{}: `extends: {name}` leads in a circle",
                    paths[paths.len() - 1].display()
                );
                return Err(Error::Invalid {
                    path: next,
                    message,
                });
            }
            chain.push(self.checked(&next)?);
            paths.push(next);
        }
        let mut site = Site::default();
        for (path, root) in chain.iter().rev() {
            merge(&mut site, root, path);
        }
        site.extends = chain.first().and_then(|(_, root)| text(root, "extends"));
        Ok(site)
    }

    fn checked(&self, path: &Path) -> Result<(PathBuf, Node), Error> {
        let source = read(path)?;
        let root = finish(path, |findings| {
            let mut root = yaml::load(&source, findings)?;
            check(&root, SITE, findings);
            expand(&mut root, SITE, &[], &self.variables, findings);
            if let Some(range) = root.get("port_range") {
                let ports: Vec<u64> = range.items().iter().filter_map(Node::as_u64).collect();
                if !matches!(ports[..], [first, last] if first <= last) {
                    findings.fault(
                        range.at,
                        "\"port_range\" wants two ports, the first not above the last",
                    );
                }
            }
            Some(root)
        })?;
        Ok((path.to_owned(), root))
    }
}

fn merge(site: &mut Site, root: &Node, path: &Path) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    site.name = text(root, "name").unwrap_or_else(|| stem.into_owned());
    if root.get("clusters").is_some() {
        site.clusters = texts(root, "clusters");
    }
    for (field, key) in [
        (&mut site.account, "account"),
        (&mut site.qos, "qos"),
        (&mut site.gpu_request, "gpu_request"),
        (&mut site.login_host, "login_host"),
    ] {
        if let Some(value) = text(root, key) {
            *field = Some(value);
        }
    }
    for (field, key) in [
        (&mut site.scratch_dir, "scratch_dir"),
        (&mut site.container_dir, "container_dir"),
        (&mut site.cache_dir, "cache_dir"),
        (&mut site.local_dir, "local_dir"),
    ] {
        if let Some(value) = text(root, key) {
            *field = Some(PathBuf::from(value));
        }
    }
    site.short_qos.extend(map(root, "short_qos"));
    site.partitions.extend(map(root, "partitions"));
    if root.get("modules").is_some() {
        site.modules = texts(root, "modules");
    }
    if let Some(flag) = root.get("login_shell").and_then(Node::as_bool) {
        site.login_shell = flag;
    }
    if let Some(range) = root.get("port_range") {
        let ports: Vec<u16> = range
            .items()
            .iter()
            .filter_map(|node| u16::try_from(node.as_u64()?).ok())
            .collect();
        if let [first, last] = ports[..] {
            site.port_range = Some((first, last));
        }
    }
    if root.get("sbatch_options").is_some() {
        site.sbatch_options = texts(root, "sbatch_options");
    }
    if let Some(root) = root.get("price") {
        price(site.price.get_or_insert_default(), root);
    }
}

fn price(price: &mut Price, root: &Node) {
    if let Some(currency) = text(root, "currency") {
        price.currency = currency;
    }
    for (field, key) in [
        (&mut price.per_gpu_hour, "per_gpu_hour"),
        (&mut price.per_node_hour, "per_node_hour"),
        (&mut price.per_cpu_hour, "per_cpu_hour"),
    ] {
        if let Some(value) = root.get(key).and_then(Node::as_f64) {
            *field = Some(value);
        }
    }
}

fn text(root: &Node, key: &str) -> Option<String> {
    root.get(key)?
        .as_text()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn texts(root: &Node, key: &str) -> Vec<String> {
    let items = root.get(key).map(Node::items).unwrap_or_default();
    items
        .iter()
        .filter_map(|node| node.as_text().filter(|text| !text.is_empty()))
        .map(str::to_owned)
        .collect()
}

fn map(root: &Node, key: &str) -> BTreeMap<String, String> {
    let Some(Value::Map(entries)) = root.get(key).map(|node| &node.value) else {
        return BTreeMap::new();
    };
    entries
        .iter()
        .filter_map(|(key, node)| Some((key.name.clone(), node.as_text()?.to_owned())))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::files::{self, Durability};

    fn project() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    fn write(path: &Path, text: &str) {
        files::create_folder(path.parent().unwrap(), 0o755).unwrap();
        files::write_atomic(path, text.as_bytes(), 0o644, Durability::Fast).unwrap();
    }

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().copied().collect()
    }

    #[test]
    fn meluxina_takes_its_account_from_job_or_login() {
        let base = [
            ("SLURM_CLUSTER_NAME", "meluxina"),
            ("USER", "u1"),
            ("HOME", "/h"),
        ];
        let site = load(&env(&base), &project()).unwrap();
        assert_eq!((site.name.as_str(), &site.account), ("meluxina", &None));
        assert_eq!(site.container_dir, None);
        let site = load(&env(&base).with("SLURM_ACCOUNT", "p1"), &project()).unwrap();
        assert_eq!(site.account.as_deref(), Some("p1"));
        assert_eq!(
            site.container_dir,
            Some("/project/scratch/p1/u1/containers".into())
        );
        assert!(site.login_shell);
        assert_eq!(site.modules.len(), 2);
        assert_eq!(site.qos_for(Some(Duration::from_mins(30))), Some("dev"));
        assert_eq!(site.qos_for(Some(Duration::from_hours(48))), None);
        assert_eq!(site.qos_for(None), None);
        assert_eq!((site.partition("gpu"), site.partition("x")), ("gpu", "x"));
    }

    #[test]
    fn a_site_is_found_by_name_own_file_cluster_or_is_plain() {
        let home = tempfile::tempdir().unwrap();
        let user = home.path().display().to_string();
        let base = env(&[("HOME", &user), ("USER", "u1")]);
        let name = |env: &Env| load(env, &project()).unwrap().name;
        assert_eq!(name(&base), "plain");
        let here = base.clone().with("SLURM_CLUSTER_NAME", "local");
        assert_eq!(name(&here), "local");
        assert_eq!(
            name(&here.clone().with("SLURM_CLUSTER_NAME", "other")),
            "plain"
        );
        write(
            &home.path().join(".config/aif/site.yaml"),
            "extends: local\naccount: mine\npartitions: {gpu: a100}\nport_range: [30000, 30010]\nprice: {currency: EUR, per_gpu_hour: 2.5}\n",
        );
        let site = load(&here, &project()).unwrap();
        assert_eq!((site.name.as_str(), site.ports()), ("site", (30000, 30010)));
        let price = site.price.as_ref().unwrap();
        assert_eq!(
            (price.currency.as_str(), price.per_gpu_hour),
            ("EUR", Some(2.5))
        );
        assert_eq!(
            (site.partition("gpu"), site.partition("cpu")),
            ("a100", "cpu")
        );
        assert_eq!(
            site.variables(&here)["CONTAINER_DIR"],
            project().join("containers").display().to_string()
        );
        assert_eq!(name(&here.with("AIF_SITE", "meluxina")), "meluxina");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let home = tempfile::tempdir().unwrap();
        let sites = home.path().join("sbatch/sites");
        let fault = |text: &str| {
            write(&sites.join("x.yaml"), text);
            let env = env(&[("AIF_SITE", "x"), ("HOME", "/nowhere")]);
            load(&env, home.path())
                .unwrap_err()
                .to_string()
                .replace(&sites.display().to_string(), "SITES")
        };
        insta::assert_snapshot!(fault(
            "acount: a\nlogin_shell: 7\ncache_dir: ${NOWHERE}/x\nport_range: [9, 1]\nshort_qos: {dev: soon}\n"
        ), @r##"
SITES/x.yaml:1:1: unknown key "acount"; did you mean "account"?
SITES/x.yaml:2:14: "login_shell" wants true or false, found the number 7
SITES/x.yaml:3:12: variable NOWHERE is not set; export it, or give a default: ${NOWHERE:-default}
SITES/x.yaml:4:13: "port_range" wants two ports, the first not above the last
SITES/x.yaml:5:18: "short_qos.dev" wants a duration above 0 such as 90, 500ms, 20m or 04:00:00, found the text "soon"
"##);
        insta::assert_snapshot!(fault("extends: x\n"), @r##"SITES/x.yaml: `extends: x` leads in a circle"##);
        insta::assert_snapshot!(
            fault("extends: nosuch\n").replace(&home.path().display().to_string(), "HOME"), @r##"no site nosuch: neither a file nor a name in SITES"##);
    }

    #[test]
    fn without_any_file_there_is_a_plain_site() {
        let home = tempfile::tempdir().unwrap();
        let site = load(&env(&[("HOME", "/nowhere")]), home.path()).unwrap();
        assert_eq!(site.name, "plain");
    }
}
