//! The ranks of an engine over several nodes: one task of a step each, which meet, and end together.
//!
//! Rank 0 has the API and is the server that clients find; the others register as `rank`. They find each other in the
//! registry, where rank 0 also names the port at which the engine's own ranks meet. From then on each asks the others'
//! agents twice a second: a registry on a shared file system may show news late. An engine that lost a rank is lost
//! (others may wait for it for ever), so the first loss ends all, and is told once, by rank 0: whoever ends by a failure
//! leaves its sentence in its record until it was read. Without a word only a rank is lost whose aif was killed, or its node.
//! Clocks of two nodes are never compared: who was first is decided by who had failed already when one's own engine ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{drain, engine::Engine, setup::Parts};
use crate::{
    api::client::{self, Access},
    env::Env,
    exit::{Exit, Failure},
    recipe::ServerPlan,
    registry::{Record, State, Store},
    role::Context,
    run::RunDir,
    shutdown::Cause,
    slurm::job_env::JobEnv,
};

/// Between two looks at the others.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long the others may take to register: a shared file system may show their records late.
const MEETING: Duration = Duration::from_mins(3);
/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A rank whose agent gives no answer for so long is lost.
const SILENCE: Duration = Duration::from_secs(30);
/// How long one who has ended is there for the others to see.
const LINGER: Duration = Duration::from_secs(15);
/// Share of the grace that rank 0 has before the others end their parts without it.
const LEADER: f64 = 0.85;

/// The rank of this process in its engine: 0 where it is the only one.
pub fn rank(plan: &ServerPlan, job: Option<&JobEnv>, env: &Env) -> Result<u32, Failure> {
    let nodes = plan.resources.nodes();
    if nodes == 1 {
        return Ok(0);
    }
    // a stack that starts its roles as plain processes gives them the variables of its own step
    let step = job.filter(|_| env.get("AIF_LAUNCHER") != Some("local"));
    let tasks = step.map_or(1, |job| job.tasks);
    match step {
        Some(job) if tasks == nodes => Ok(job.rank),
        _ => {
            let message = format!(
                "recipe {} is an engine over {nodes} nodes, of which each wants a task of one step, and this is one of {tasks}: `srun --nodes={nodes} --ntasks={nodes} aif server {0}`, or `aif submit {0}`",
                plan.name
            );
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

/// The step's name of a rank.
pub(super) fn step_name(rank: u32) -> String {
    match rank {
        0 => "server".to_owned(),
        rank => format!("server-{rank}"),
    }
}

/// The other ranks of an engine; nobody where it is on one node.
#[derive(Debug)]
pub(super) struct Peers {
    own: u32,
    others: Vec<Record>,
    key: String,
}

/// Why a rank is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It was told to end.
    Told,
    /// It failed, and says so itself.
    Failed(String),
    /// It is not there any more, or does not answer.
    Lost(String),
}

impl Gone {
    /// What it means for this rank: told to end, it is, too.
    pub(super) fn follow(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Told => {
                context.shutdown.tell(Cause::Released);
                Ok(())
            }
            Self::Failed(what) | Self::Lost(what) => Err(Failure::new(Exit::Unavailable, what)),
        }
    }
}

/// What an agent says of its rank.
enum Said {
    Record(Box<Record>),
    /// Nobody listens there, or somebody else does.
    Nobody,
    Nothing,
}

/// Waits for rank 0 of the engine that this process is a rank of; `None` when it is told to end meanwhile.
pub(super) async fn leader(
    plan: &ServerPlan,
    context: &Context,
) -> Result<Option<Record>, Failure> {
    let own = Own::of(plan, context);
    let found = own.wait(context, |records| {
        records.iter().find(|record| record.rank == 0).cloned()
    });
    found
        .await
        .map_err(|_| missing(&[0], "rank 0 names the place where all meet"))
}

/// The run of a rank: rank 0's.
pub(super) fn run_of(leader: &Record, context: &Context) -> RunDir {
    let own = &context.run;
    let (Some(id), Some(root)) = (&leader.run, own.path.parent()) else {
        return own.clone();
    };
    if context.in_stack {
        return own.clone();
    }
    RunDir::open(&root.join(id)).unwrap_or_else(|_| own.clone())
}

/// What the records of one engine have in common.
struct Own {
    service: String,
    nodes: u32,
    cluster: String,
    job: String,
    step: Option<String>,
    restart: u32,
}

impl Own {
    fn of(plan: &ServerPlan, context: &Context) -> Self {
        let job = context.job.as_ref();
        Self {
            service: plan.service_name.clone(),
            nodes: plan.resources.nodes(),
            cluster: context.cluster().to_owned(),
            job: context.job_id(),
            step: job.and_then(|job| job.step_id.clone()),
            restart: job.map_or(0, |job| job.restart_count),
        }
    }

    fn holds(&self, record: &Record) -> bool {
        record.nodes == self.nodes
            && record.cluster == self.cluster
            && record.job_id == self.job
            && record.step_id == self.step
            && record.restart_count == self.restart
    }

    fn records(&self, store: &Store) -> Vec<Record> {
        let mut records = store.records_of(&self.service);
        records.retain(|record| self.holds(record));
        records.sort_by_key(|record| record.rank);
        records
    }

    /// Waits for what is wanted of these records; `Ok(None)` when told to end, `Err` with what was there when time is up.
    async fn wait<T>(
        &self,
        context: &Context,
        wanted: impl Fn(&[Record]) -> Option<T>,
    ) -> Result<Option<T>, Vec<Record>> {
        let deadline = Instant::now() + MEETING;
        loop {
            let records = self.records(&context.store);
            if let Some(found) = wanted(&records) {
                return Ok(Some(found));
            }
            if Instant::now() >= deadline {
                return Err(records);
            }
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = context.shutdown.drain.cancelled() => return Ok(None),
            }
        }
    }
}

fn missing(ranks: &[u32], why: &str) -> Failure {
    let ranks: Vec<String> = ranks.iter().map(u32::to_string).collect();
    let message = format!(
        "rank {} of the engine did not register within {} s ({why}): has its task started, and does its node see the registry?",
        ranks.join(", "),
        MEETING.as_secs()
    );
    Failure::new(Exit::Unavailable, message)
}

impl Peers {
    /// Waits until all ranks are registered; `None` when told to end meanwhile.
    pub(super) async fn meet(parts: &Parts<'_>) -> Result<Option<Self>, Failure> {
        let (context, nodes) = (parts.context, parts.plan.resources.nodes());
        let mut peers = Self {
            own: parts.rank,
            others: Vec::new(),
            key: String::new(),
        };
        if nodes == 1 {
            return Ok(Some(peers));
        }
        let all = |records: &[Record]| {
            let whole = (0..nodes).eq(records.iter().map(|record| record.rank));
            whole.then(|| records.to_vec())
        };
        let found = Own::of(parts.plan, context).wait(context, all).await;
        let records = match found {
            Ok(Some(records)) => records,
            Ok(None) => return Ok(None),
            Err(there) => {
                let absent = |rank: &u32| !there.iter().any(|record| record.rank == *rank);
                let absent: Vec<u32> = (0..nodes).filter(absent).collect();
                return Err(missing(&absent, "an engine over several nodes wants all"));
            }
        };
        let nodes: Vec<&str> = records.iter().map(|record| record.node.as_str()).collect();
        tracing::info!(rank = parts.rank, ?nodes, "All ranks are there");
        peers.key = context
            .store
            .scrape_key()
            .map_err(|error| Failure::new(Exit::CannotCreate, error.to_string()))?;
        peers.others = records
            .into_iter()
            .filter(|record| record.rank != parts.rank)
            .collect();
        Ok(Some(peers))
    }

    /// Is this one of the others of rank 0?
    pub(super) fn follows(&self) -> bool {
        self.own > 0
    }

    /// Comes when one of the others is gone; never, where there are none.
    pub(super) async fn gone(&self, store: &Store) -> Gone {
        if self.others.is_empty() {
            return std::future::pending().await;
        }
        let mut answered = vec![Instant::now(); self.others.len()];
        loop {
            for (peer, answered) in self.others.iter().zip(&mut answered) {
                let how = match self.ask(peer).await {
                    Said::Record(record) => {
                        *answered = Instant::now();
                        match judge(&record) {
                            Some(gone) => return gone,
                            None => continue,
                        }
                    }
                    Said::Nobody => "its aif is not there any more".to_owned(),
                    Said::Nothing if answered.elapsed() >= SILENCE => {
                        format!("its aif has not answered for {} s", SILENCE.as_secs())
                    }
                    Said::Nothing => continue,
                };
                store.remove(peer);
                return Gone::Lost(format!("{} was lost: {how}", name(peer)));
            }
            sleep(INTERVAL).await;
        }
    }

    /// Has one of the others failed already?
    pub(super) async fn failed(&self) -> Option<String> {
        for peer in &self.others {
            if let Said::Record(record) = self.ask(peer).await
                && record.failed.is_some()
            {
                return record.failed;
            }
        }
        None
    }

    /// Is rank 0 ready?
    pub(super) async fn leader_is_ready(&self) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        matches!(self.ask(leader).await, Said::Record(record) if record.state == State::Ready)
    }

    fn leader(&self) -> Option<&Record> {
        self.others.first().filter(|record| record.rank == 0)
    }

    async fn ask(&self, peer: &Record) -> Said {
        let Some(agent) = &peer.endpoints.agent else {
            return Said::Nothing;
        };
        let access = Access::Bearer(self.key.clone());
        match client::get(&format!("{agent}/instance"), &access, PATIENCE).await {
            Ok(answer) => match answer.json::<Record>() {
                Ok(record) if record.instance_id == peer.instance_id => {
                    Said::Record(Box::new(record))
                }
                _ => Said::Nobody,
            },
            Err(error) if error.is_refused() => Said::Nobody,
            Err(_) => Said::Nothing,
        }
    }

    /// Waits until all others are gone, or rank 0 alone has ended its part: for who is one of the others.
    pub(super) async fn linger(&self, limit: Duration) {
        let over = async {
            loop {
                let mut left = false;
                for peer in &self.others {
                    left |= match self.ask(peer).await {
                        Said::Record(record) if self.follows() => {
                            record.rank == 0 && !has_ended(&record)
                        }
                        Said::Record(_) => true,
                        Said::Nobody | Said::Nothing => false,
                    };
                }
                if !left {
                    return;
                }
                sleep(INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(limit, over).await;
    }

    /// Ends the part of this rank: rank 0's after its clients, the others' after rank 0's.
    pub(super) async fn drain(&self, parts: &Parts<'_>, engine: &Engine) {
        if !self.follows() {
            drain::drain(parts, engine).await;
            return;
        }
        parts.state(State::Draining);
        let shutdown = &parts.context.shutdown;
        let left = |share: f64| {
            let told = shutdown.told_ago().unwrap_or_default();
            parts.context.grace().mul_f64(share).saturating_sub(told)
        };
        tokio::select! {
            () = self.linger(left(LEADER)) => {}
            _ = engine.child.ended() => {}
            () = shutdown.stop.cancelled() => {}
        }
        // little is left of the grace where rank 0 took its time, but more than nothing
        let grace = left(0.95).max(Duration::from_secs(1));
        let how = engine.child.stop(grace, shutdown.stop.cancelled()).await;
        tracing::info!(%how, "The engine's part of this rank ended");
    }

    /// Tells the others how this rank has ended, and gives its code or its sentence: one of them says it.
    pub(super) async fn conclude(
        &self,
        parts: &Parts<'_>,
        ended: Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        if self.others.is_empty() {
            return ended;
        }
        match &ended {
            Err(failure) => parts.failed(&failure.to_string()),
            Ok(_) => parts.state(State::Done),
        }
        // the leader waits for those that end after it; they for the leader to have read their sentence
        if !self.follows() || ended.is_err() {
            self.linger(LINGER).await;
        }
        match ended {
            Err(failure) if self.follows() && self.is_spoken_for().await => {
                tracing::error!(%failure, "Rank 0 tells of this");
                Ok(failure.exit)
            }
            ended => ended,
        }
    }

    /// Does somebody of a lower rank tell of what all have ended by?
    async fn is_spoken_for(&self) -> bool {
        for peer in self.others.iter().filter(|peer| peer.rank < self.own) {
            if matches!(self.ask(peer).await, Said::Record(_)) {
                return true;
            }
        }
        false
    }

    /// The failure of all: another rank's, where it had failed before.
    pub(super) async fn first(&self, parts: &Parts<'_>, own: Failure) -> Failure {
        if self.others.is_empty() {
            return own;
        }
        if let Some(theirs) = self.failed().await {
            return Failure::new(Exit::Unavailable, theirs);
        }
        let name = name(&parts.publication.record());
        Failure::new(own.exit, format!("{name}: {own}"))
    }
}

fn name(record: &Record) -> String {
    format!("rank {} on {}", record.rank, record.node)
}

fn has_ended(record: &Record) -> bool {
    record.failed.is_some() || record.state == State::Done
}

fn judge(record: &Record) -> Option<Gone> {
    match (&record.failed, record.state) {
        (Some(what), _) => Some(Gone::Failed(what.clone())),
        (None, State::Draining | State::Done) => Some(Gone::Told),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Kind;

    #[test]
    fn a_rank_that_ends_was_told_unless_it_says_that_it_failed() {
        let judged = |state, failed: Option<&str>| {
            let mut record = Record::new(Kind::Rank, "s", "r", None, None);
            record.state = state;
            record.failed = failed.map(str::to_owned);
            judge(&record)
        };
        assert_eq!(judged(State::Starting, None), None);
        assert_eq!(judged(State::Ready, None), None);
        assert_eq!(judged(State::Draining, None), Some(Gone::Told));
        assert_eq!(
            judged(State::Draining, Some("rank 1 on node2: dead")),
            Some(Gone::Failed("rank 1 on node2: dead".to_owned()))
        );
    }
}
