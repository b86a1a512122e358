//! From a command line to a running role or command: the edge where everything is put together.
//!
//! A role that runs alone gets a run of its own with manifest and report, as a stack would give it. CPUs are taken
//! before the runtime starts its threads, which inherit them.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::{BenchArgs, Cli, Command, MonitorArgs, RoleArgs, StackArgs, alone::Alone, quick};
use crate::{
    command::{self, Shell},
    env::Env,
    exit::{Exit, Failure, OrExit as _},
    files,
    launch::{Launch, cpus, local::Local, srun::Srun},
    library::{self, Resolved},
    recipe::{Kind, Plan},
    registry::{Wanted, record::LOCAL},
    role::{self, Context},
    run::{self, RunDir},
    shutdown::Shutdown,
    telemetry, terminal, units,
};

/// Runs a command line to its end.
///
/// # Errors
/// Whatever the role or command failed of; [`Exit::of`] gives its code.
pub fn run(cli: Cli, env: Env) -> anyhow::Result<Exit> {
    if let Command::Guard { argv } = cli.command {
        return Ok(crate::process::guard::run(argv));
    }
    let role = match &cli.command {
        Command::Server(_) => Some("server"),
        Command::Monitor(_) => Some("monitor"),
        Command::Bench(_) => Some("bench"),
        Command::Stack(_) => Some("stack"),
        _ => None,
    };
    if env.get("AIF_LAUNCHER") == Some("local") && role.is_some() {
        // nobody else would end this role when its stack is killed
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    }
    if let Some(role) = role.filter(|role| *role != "stack") {
        cpus::take(role, &env);
    }
    // the load of a bench has threads of its own
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(dispatch(cli, env))
}

async fn dispatch(cli: Cli, env: Env) -> anyhow::Result<Exit> {
    let env = match &cli.site {
        Some(site) => env.with("AIF_SITE", site),
        None => env,
    };
    let home = home(&env);
    let shell = Shell { env, home };
    // a site that is named and not there is an error of every command, also of those that would not need it; the doctor
    // tells it among the rest
    if shell.env.get("AIF_SITE").is_some() && !matches!(cli.command, Command::Doctor(_)) {
        shell.site()?;
    }
    match cli.command {
        Command::Stack(args) => stack(args, &shell).await,
        Command::Server(args) => server(args, &shell).await,
        Command::Monitor(args) => Box::pin(monitor(args, &shell)).await,
        Command::Bench(args) => bench(*args, &shell).await,
        Command::Submit(args) => command::submit::run(args, &shell).await,
        Command::Wait(args) => command::wait::run(args, &shell).await,
        Command::Services(args) => command::services::run(args, &shell).await,
        Command::Status(args) => command::status::run(args, &shell).await,
        Command::Stop(args) => command::stop::run(args, &shell).await,
        Command::Logs(args) => command::logs::run(&args, &shell),
        Command::Export(args) => command::export::run(args, &shell).await,
        Command::Report(args) => command::report::run(args, &shell).await,
        Command::Compare(args) => command::compare::run(&args, &shell),
        Command::Open(args) => command::open::run(args, &shell).await,
        Command::Recipes(args) => command::recipes::run(args, &shell).await,
        Command::Images(args) => command::images::run(args, &shell).await,
        Command::Doctor(args) => command::doctor::run(args, &shell).await,
        Command::Completions(args) => command::completions::run(&args, Cli::command()),
        Command::Guard { .. } => Ok(Exit::Done),
    }
}

/// The folder that holds jobs/, recipes/ and sbatch/: as it is told, else the one we are in, else the one that this
/// program was installed to (as `bin/aif`) or built in.
fn home(env: &Env) -> PathBuf {
    if let Some(told) = env
        .path("AIF_HOME")
        .or_else(|| env.path("SLURM_SUBMIT_DIR"))
    {
        return told;
    }
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let own = own_program().unwrap_or_default();
    let above = own.ancestors().skip(2).take(2).map(Path::to_owned);
    let mut candidates = std::iter::once(here.clone()).chain(above);
    candidates
        .find(|folder| folder.join("recipes").is_dir())
        .unwrap_or(here)
}

fn resolve(name: &str, kind: Kind, sets: &[String], shell: &Shell) -> anyhow::Result<Resolved> {
    let site = shell.site()?;
    let variables = library::variables(&shell.env, &site, &shell.home);
    let resolved = library::resolve(&shell.home, name, Some(kind), sets, &variables)?;
    for warning in &resolved.warnings {
        terminal::warning(warning);
    }
    Ok(resolved)
}

/// What a role is started with: signals are listened to before anything is made. A member of several tasks that do one
/// thing has the run of the first.
fn context(
    role: &str,
    service: &str,
    out: Option<&Path>,
    is_member: bool,
    shell: &Shell,
) -> anyhow::Result<Context> {
    let site = shell.site()?;
    let job = shell.job();
    // a bench may load an address from anywhere; what others must find runs where they can reach it
    if role != "bench"
        && job.is_none()
        && shell.env.get("SLURM_JOB_ID").is_some()
        && shell.env.get("AIF_LAUNCHER").is_none()
    {
        let message = format!(
            "this shell belongs to job {} but runs on none of its nodes: start the role as a step, `srun --overlap -N1 -n1 aif {role} …`",
            shell.env.get("SLURM_JOB_ID").unwrap_or_default()
        );
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let store = shell.store()?;
    store.check_writable().or_exit(Exit::CannotCreate, || {
        "the registry cannot be written on this node; set AIF_REGISTRY to a folder that all nodes of the job can write".to_owned()
    })?;
    let root = out.map_or_else(|| shell.results_folder(), Path::to_owned);
    let given = shell
        .env
        .path("AIF_RUN_DIR")
        .filter(|_| role != "stack" && out.is_none());
    let run = if let Some(path) = &given {
        let opened = RunDir::open(path);
        opened.or_exit(Exit::NoInput, || {
            format!("no run folder {}", path.display())
        })?
    } else {
        let id = if role == "stack" {
            run::stack_id(service, job.as_ref())
        } else {
            run::role_id(service, role, job.as_ref())
        };
        let cluster = job.as_ref().map_or(LOCAL, |job| &job.cluster);
        let made = if is_member {
            // its leader makes it, and tells where
            let path = root.join(&id);
            Ok(RunDir { id, path })
        } else {
            RunDir::create(&root, &id, cluster).and_then(|run| RunDir::open(&run.path))
        };
        made.or_exit(Exit::CannotCreate, || {
            format!(
                "no run folder can be made in {} (`--out DIR`, or output.destination in the client's recipe, names another place)",
                root.display()
            )
        })?
    };
    telemetry::log::start(role, &run.id, job.as_ref(), &shell.env);
    let context = Context {
        env: shell.env.clone(),
        site,
        job,
        home: shell.home.clone(),
        store,
        in_stack: given.is_some(),
        run,
        shutdown: Shutdown::listen()?,
    };
    if let Some(job) = &context.job {
        // a requeued job starts again under the same id, perhaps on the same node: what it was before is dead
        context.sweep(|record| {
            record.cluster == job.cluster
                && record.job_id == job.job_id
                && record.restart_count < job.restart_count
        });
    }
    Ok(context)
}

async fn server(args: RoleArgs, shell: &Shell) -> anyhow::Result<Exit> {
    let resolved = resolve(&args.recipe, Kind::Server, &args.set, shell)?;
    let Plan::Server(plan) = resolved.plan.clone() else {
        return Err(wrong_kind(&args.recipe, "server"));
    };
    let is_member = role::server::rank(&plan, shell.job().as_ref(), &shell.env)? > 0;
    let out = args.out.as_deref();
    let context = context("server", &plan.service_name, out, is_member, shell)?;
    let config = role::server::Config {
        plan,
        entry: resolved.entry.clone(),
    };
    if is_member {
        return role::server::run(config, &context).await;
    }
    let begun = Alone::begin("server", "server", &[&resolved], &context)?;
    let ended = role::server::run(config, &context).await;
    begun.end(ended, &context)
}

/// What `--allow-shared-tsdb` stands for.
const ALLOW_SHARED: &str = "prometheus.allow_shared_tsdb=true";

/// What `--grafana IMAGE` stands for.
fn grafana(image: &str) -> String {
    format!("grafana.image={image}")
}

async fn monitor(args: MonitorArgs, shell: &Shell) -> anyhow::Result<Exit> {
    let mut args = args;
    if args.allow_shared_tsdb {
        args.role.set.push(ALLOW_SHARED.to_owned());
    }
    if let Some(image) = &args.grafana {
        args.role.set.push(grafana(image));
    }
    let args = args.role;
    let resolved = resolve(&args.recipe, Kind::Monitor, &args.set, shell)?;
    let Plan::Monitor(plan) = resolved.plan.clone() else {
        return Err(wrong_kind(&args.recipe, "monitor"));
    };
    let context = context(
        "monitor",
        &plan.service_name,
        args.out.as_deref(),
        false,
        shell,
    )?;
    let config = role::monitor::Config {
        plan,
        entry: resolved.entry.clone(),
    };
    let begun = Alone::begin("monitor", "monitor", &[&resolved], &context)?;
    let ended = role::monitor::run(config, &context).await;
    begun.end(ended, &context)
}

async fn bench(args: BenchArgs, shell: &Shell) -> anyhow::Result<Exit> {
    let resolved = bench_recipe(&args, shell)?;
    let Plan::Client(mut plan) = resolved.plan.clone() else {
        return Err(wrong_kind("the recipe", "client"));
    };
    plan.calibrate |= args.calibrate;
    let material = library::material(&plan)?;
    let wait = units::parse_duration(&args.wait).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("--wait takes a time such as 30m, not {}", args.wait),
        )
    })?;
    let destination = plan
        .destination
        .clone()
        .map(|folder| shell.home.join(folder));
    let context = context(
        "bench",
        &plan.service_name,
        destination
            .as_deref()
            .filter(|_| shell.env.get("AIF_RUN_DIR").is_none()),
        role::bench::is_member(shell.job().as_ref(), &shell.env),
        shell,
    )?;
    let step = format!("bench-{}", plan.name);
    let wanted = Wanted {
        service: plan.service_name.clone(),
        job: args.job,
        instance: args.instance,
    };
    let config = role::bench::Config {
        plan,
        material,
        entry: resolved.entry.clone(),
        url: args.url,
        api_key_file: args.api_key_file,
        ca_file: args.ca_file,
        wanted,
        out: args.out,
        allow_invalid: args.allow_invalid,
        wait,
        json: args.json,
    };
    let is_member = role::bench::is_member(context.job.as_ref(), &context.env);
    let begun = (!is_member).then(|| Alone::begin("bench", &step, &[&resolved], &context));
    let begun = begun.transpose()?;
    let ended = Box::pin(role::bench::run(config, &context)).await;
    match begun {
        Some(begun) => begun.end(ended, &context),
        None => ended,
    }
}

/// The recipe of a bench: the one named, or the one that the flags stand for.
fn bench_recipe(args: &BenchArgs, shell: &Shell) -> anyhow::Result<Resolved> {
    let resolved = if let Some(name) = &args.recipe {
        resolve(name, Kind::Client, &args.set, shell)?
    } else {
        if args.url.is_none() {
            let message = "a bench without a recipe needs --url".to_owned();
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let text = quick::recipe(&args.quick)?;
        let site = shell.site()?;
        let variables = library::variables(&shell.env, &site, &shell.home);
        library::resolve_text("command line", &text, Kind::Client, &args.set, &variables)?
    };
    if let Some(file) = &args.quick.save_recipe {
        files::write_atomic(
            file,
            resolved.entry.text.as_bytes(),
            0o644,
            files::Durability::Synced,
        )
        .or_exit(Exit::CannotCreate, || "the recipe was not saved".to_owned())?;
    }
    Ok(resolved)
}

async fn stack(args: StackArgs, shell: &Shell) -> anyhow::Result<Exit> {
    if args.server.is_none() && args.bench.is_empty() {
        let message = "a stack needs at least --server or --bench".to_owned();
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let mut kinds = Vec::new();
    kinds.extend(args.server.as_ref().map(|_| Kind::Server));
    kinds.extend(args.monitor.as_ref().map(|_| Kind::Monitor));
    kinds.extend((!args.bench.is_empty()).then_some(Kind::Client));
    let mut set = args.set.clone();
    if args.allow_shared_tsdb && args.monitor.is_some() {
        set.push(format!("monitor:{ALLOW_SHARED}"));
    }
    if let Some(image) = &args.grafana {
        set.push(format!("monitor:{}", grafana(image)));
    }
    let routed = library::route_overrides(&set, &kinds)?;
    let sets = |kind: Kind| routed.of(kind).to_vec();
    let one = |name: &Option<String>, kind| {
        name.as_ref()
            .map(|name| resolve(name, kind, &sets(kind), shell))
            .transpose()
    };
    let server = one(&args.server, Kind::Server)?;
    // what is switched off is not missed
    let enabled =
        |monitor: &Resolved| !matches!(&monitor.plan, Plan::Monitor(plan) if !plan.enabled);
    let monitor = one(&args.monitor, Kind::Monitor)?.filter(enabled);
    let client_sets = sets(Kind::Client);
    let benches = args
        .bench
        .iter()
        .map(|name| resolve(name, Kind::Client, &client_sets, shell))
        .collect::<anyhow::Result<Vec<_>>>()?;

    // asked before anything is made: each recipe is handed to a step as arguments
    for recipe in server.iter().chain(&monitor).chain(&benches) {
        recipe.set_arguments()?;
        if let Plan::Client(plan) = &recipe.plan {
            library::material(plan)?;
        }
    }
    let first = server
        .iter()
        .chain(&benches)
        .next()
        .map(|recipe| &recipe.plan);
    let service = first.map_or("stack", Plan::service_name).to_owned();
    same_service(&service, monitor.iter().chain(&benches))?;
    let destination = benches.iter().find_map(|bench| match &bench.plan {
        Plan::Client(plan) => plan
            .destination
            .clone()
            .map(|folder| shell.home.join(folder)),
        Plan::Server(_) | Plan::Monitor(_) => None,
    });
    let context = context(
        "stack",
        &service,
        args.out.as_deref().or(destination.as_deref()),
        false,
        shell,
    )?;
    let program = own_program()?;
    let launcher: Box<dyn Launch> = if context.job.is_some() && !args.local {
        Box::new(Srun {
            program,
            env: shell.env.clone(),
        })
    } else {
        Box::new(Local { program })
    };
    let config = role::stack::Config {
        server,
        monitor,
        benches,
        launcher,
        allow_invalid: args.allow_invalid,
        registry: shell.registry_folder(),
    };
    role::stack::run(config, &context).await
}

/// A stack is about one service: recipes that name another would wait for it in vain.
fn same_service<'a>(
    service: &str,
    others: impl Iterator<Item = &'a Resolved>,
) -> Result<(), Failure> {
    for other in others {
        let (name, own) = (other.plan.name(), other.plan.service_name());
        if own != service {
            let message = format!(
                "recipe {name} is about service {own}, the stack about {service}: recipes are linked by service_name"
            );
            return Err(Failure::new(Exit::Recipe, message));
        }
    }
    Ok(())
}

fn wrong_kind(name: &str, kind: &str) -> anyhow::Error {
    Failure::new(Exit::Recipe, format!("{name} is no {kind} recipe")).into()
}

/// The path of this program, as other processes can start it.
fn own_program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // a binary that was replaced while it runs shows so in its link
    let text = path.display().to_string();
    Ok(text.strip_suffix(" (deleted)").map_or(path, PathBuf::from))
}
