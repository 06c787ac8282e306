//! The journey of one job, step by step.

use std::sync::Arc;

use classad::ClassAd;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::clock::Clock;
use super::hold::{Hold, HoldCode, requeue_event};
use super::input::{Credential, Place, fetch};
use super::launch::{Launch, Launched};
use super::output::Output;
use super::plan::{self, JobPlan, Selection, Site, When};
use super::running::{Exit, Orders, Running};
use super::shadow::{Shadow, ShadowError};
use super::syscalls::{Call, ExitReason};
use super::trouble::Trouble;
use super::usage::{self, Ended, Figures};
use super::{
    Activation, JobConfig, JobEnd, JobProgress, JobServices, SlotFacts, StopOrder, Wishes,
};
use crate::blame::chain;
use crate::broker::own::NO_END;
use crate::broker::{Agent, Payload};
use crate::credential_watch::{CredentialWatch, WatchPolicy, WatchedCredential};
use crate::identity::Proof;
use crate::transfer::download::Downloaded;
use crate::transfer::select::Catalogue;

/// Runs one activated job to its end and tells the shadow about it.
///
/// Returns as soon as the shadow knows, or cannot be told any more. What remains, the removal of the sandbox and the
/// last bytes to the shadow, goes on in [`JobServices::cleanups`]. `orders` may come at any time; `progress` is kept
/// up to date for the slot's ad.
pub async fn run(
    services: JobServices,
    activation: Activation,
    orders: mpsc::Receiver<StopOrder>,
    progress: watch::Sender<JobProgress>,
) -> JobEnd {
    let Activation {
        claim,
        stream,
        slot,
        line,
        wishes,
    } = activation;
    services.broker.prepare();
    let clock = Clock::start();
    let mut job = Job {
        shadow: Shadow::new(stream, line, clock, services.config.transfer_timeout),
        session: claim.file_transfer_session_id(),
        services,
        slot,
        orders: Orders::new(orders),
        wishes,
        progress,
        clock,
        payload: None,
    };
    let result = job.journey().await;
    if let Some(payload) = job.payload.take() {
        job.services.cleanups.spawn(async move {
            if let Err(error) = payload.close().await {
                tracing::warn!(
                    error = chain(&error),
                    "the sandbox of a job could not be removed"
                );
            }
        });
    }
    let end = match result {
        Ok(end) => end,
        Err(trouble) => job.report(trouble).await,
    };
    tracing::info!(?end, "job ended");
    let Job {
        shadow, services, ..
    } = job;
    if matches!(end, JobEnd::ShadowLost | JobEnd::LeaseOver) {
        drop(shadow);
    } else {
        services.cleanups.spawn(shadow.farewell());
    }
    end
}

struct Job {
    services: JobServices,
    shadow: Shadow,
    session: String,
    slot: SlotFacts,
    orders: Orders,
    wishes: Wishes,
    progress: watch::Sender<JobProgress>,
    clock: Clock,
    /// The sandbox, until it is closed.
    payload: Option<Payload>,
}

/// A payload that ended, and what is needed to send back what it made.
struct Ending {
    exit: Exit,
    figures: Figures,
    catalogue: Catalogue,
    /// In the sandbox, while the output waits.
    agent: Option<Agent>,
    /// The names of the output that has arrived.
    sent: Option<Vec<String>>,
}

/// The service whose token the helper verifies, if it is a token that says whose the job is.
fn token_service<'a>(config: &'a JobConfig, plan: &JobPlan) -> Option<&'a str> {
    let is_token = plan.proof == Proof::Token && config.identity_switch;
    config.identity.token_service().filter(|_| is_token)
}

impl Job {
    async fn journey(&mut self) -> Result<JobEnd, Trouble> {
        let ad = self.shadow.job_info().await?;
        let universe = ad.int("JobUniverse").unwrap_or(0);
        self.progress
            .send_replace(usage::not_started(&plan::job_id(&ad), universe));
        let config = &self.services.config;
        let info = usage::starter_info(
            config,
            &self.slot,
            &self.services.address.get(),
            self.clock.now(),
            plan::lease(&ad).is_some(),
        );
        self.shadow.call(Call::RegisterStarterInfo(&info)).await?;
        let plan = plan::plan(
            &ad,
            Site {
                filesystem_domain: &config.filesystem_domain,
                identity: &config.identity,
            },
        )?;
        tracing::info!(job = %plan.id, user = plan.id.user, "job accepted");
        let token = self.token(&plan).await?;
        let fetched = self.fetch(&plan, token).await?;
        let ending = self.execute(&ad, &plan, fetched, info).await?;
        self.finish(&plan, ending).await
    }

    /// The token that says whose the job is, where a token does and somebody looks at it.
    async fn token(&mut self, plan: &JobPlan) -> Result<Credential, Trouble> {
        let Some(service) = token_service(&self.services.config, plan) else {
            return Ok(Credential::default());
        };
        let sent = self.shadow.credentials().await?;
        sent.token(&plan.services, service)
    }

    /// Fetches the input, while the shadow takes note of what the slot provides.
    async fn fetch(
        &mut self,
        plan: &JobPlan,
        token: Credential,
    ) -> Result<Downloaded<Place>, Trouble> {
        let provisioned = usage::provisioned(&self.slot);
        self.shadow
            .post(Call::RegisterJobInfo(&provisioned))
            .await?;
        let result = tokio::select! {
            fetched = fetch(&self.services, &self.session, plan, &self.slot, token) => fetched,
            error = self.shadow.ended() => Err(error.into()),
            order = self.orders.next() => Err(not_started(&order)),
            () = self.services.broker.closed() => Err(crate::broker::BrokerError::Gone.into()),
        };
        result
    }

    /// Starts the payload and stays with it until it is gone.
    async fn execute(
        &mut self,
        ad: &ClassAd,
        plan: &JobPlan,
        fetched: Downloaded<Place>,
        info: ClassAd,
    ) -> Result<Ending, Trouble> {
        let Downloaded {
            opened:
                Place {
                    payload,
                    mut events,
                    agent,
                    pid,
                },
            bytes,
            ..
        } = fetched;
        let payload = self.payload.insert(payload);
        let facts = payload.facts();
        tracing::info!(
            job = %plan.id,
            identity = facts.identity,
            account = facts.account,
            uid = facts.uid,
            "{}",
            if self.services.config.identity_switch {
                "identity switched"
            } else {
                "sandbox opened, under the pilot's own account"
            }
        );
        let watch = if facts.not_after == NO_END {
            None
        } else {
            let watch = CredentialWatch::start(
                WatchedCredential {
                    identity: facts.identity.clone(),
                    not_after: facts.not_after,
                },
                WatchPolicy {
                    grace: self.services.config.credential_grace,
                    notice: self.services.config.credential_notice,
                    vacate: plan.stop.vacate(self.services.config.max_vacate_time),
                },
                self.clock.now(),
            )
            .map_err(|error| Hold::new(HoldCode::CorruptedCredential, 0, error.to_string()))?;
            Some(watch)
        };
        let fetched_credentials = match plan.services.is_empty() {
            true => None,
            false => Some(self.shadow.credentials().await?),
        };
        // Nothing may be waited for between the start of the payload and the watch over it.
        self.shadow.settle().await?;
        self.wishes.open();
        let launch = Launch {
            config: &self.services.config,
            slot: &self.slot,
            ad,
            plan,
            sandbox: payload.sandbox(),
        };
        let Launched {
            catalogue,
            files,
            services,
        } = launch.run(agent, fetched_credentials).await?;
        let mut figures = Figures::new(pid, self.clock.now(), bytes.div_ceil(1024), files);
        self.shadow.outlive(plan.lease);
        self.progress.send_modify(|progress| {
            figures.show(figures.started, progress);
            progress.starter = plan.lease.map(|_| Arc::new(info));
            progress.credential_end = watch.as_ref().map(CredentialWatch::not_after);
        });
        match self.shadow.post(Call::BeginExecution).await {
            // A shadow that comes back learns it from the first report.
            Err(error) if error.is_loss() && plan.lease.is_some() => {}
            other => other?,
        }
        let running = Running {
            services: &self.services,
            shadow: &mut self.shadow,
            payload,
            events: &mut events,
            orders: &mut self.orders,
            wishes: &mut self.wishes,
            progress: &self.progress,
            clock: &self.clock,
            figures: &mut figures,
            watch,
            stop: plan.stop,
            proxy: plan.proxy.as_ref(),
            suspended: false,
            service_files: services,
            token: token_service(&self.services.config, plan),
        };
        let exit = running.until_exit().await?;
        tracing::info!(job = %plan.id, wait_status = exit.wait_status, ended = ?exit.ended, "payload ended");
        Ok(Ending {
            exit,
            figures,
            catalogue,
            agent: None,
            sent: None,
        })
    }

    /// Reports the end, sends the output, and takes leave; with a shadow that comes back, all of it once more, but for
    /// an output that has arrived.
    async fn finish(&mut self, plan: &JobPlan, mut ending: Ending) -> Result<JobEnd, Trouble> {
        let Some(payload) = &self.payload else {
            return Err(Trouble::passing("The sandbox of the job is gone"));
        };
        match payload.usage().await {
            Ok(usage) => ending.figures.record(&usage),
            Err(error) => tracing::warn!(error = chain(&error), "no last figures of the job"),
        }
        let last = ending.figures.exited(
            self.clock.now(),
            &self.services.address.get(),
            ending.exit.wait_status,
            &ending.exit.ended,
        );
        // Whoever ordered the end does not come back to hear of it.
        let is_awaited = ending.exit.ended == Ended::ItsOwnAccord || ending.exit.hold.is_some();
        loop {
            let error = match self.conclude(plan, &mut ending, &last).await {
                Err(Trouble::Shadow(error)) if error.is_loss() => error,
                Err(Trouble::OutputLost { reason }) => {
                    if !self.shadow.output_lost() {
                        return Err(Trouble::OutputLost { reason });
                    }
                    tracing::warn!(reason, "the output waits for a shadow that comes back");
                    ShadowError::Disconnected
                }
                other => return other,
            };
            if !is_awaited {
                return Err(error.into());
            }
            self.reconnected().await?;
        }
    }

    /// Waits for a shadow to tell the result to. An order ends that: the claim is being given up.
    async fn reconnected(&mut self) -> Result<(), ShadowError> {
        tokio::select! {
            biased;
            back = self.shadow.connected() => back,
            order = self.orders.next() => {
                tracing::info!(?order, "nobody will ask for the result of the job any more");
                Err(ShadowError::Disconnected)
            }
        }
    }

    /// The last words to one shadow.
    async fn conclude(
        &mut self,
        plan: &JobPlan,
        ending: &mut Ending,
        last: &ClassAd,
    ) -> Result<JobEnd, Trouble> {
        let Some(payload) = &self.payload else {
            return Err(Trouble::passing("The sandbox of the job is gone"));
        };
        let exit = &ending.exit;
        self.shadow.post(Call::ExecutionExit).await?;
        if let Some(hold) = &exit.hold {
            self.shadow.call(Call::RegisterJobInfo(last)).await?;
            return Err(hold.clone().into());
        }
        if exit.ended == Ended::ItsOwnAccord
            && exit.wait_status & 0x7f == libc::SIGKILL
            && ending.figures.ran_out_of_memory()
        {
            self.shadow.call(Call::RegisterJobInfo(last)).await?;
            let reason = format!(
                "Job has gone over its memory limit of {} megabytes. Last measured usage: {} megabytes. Ask for more with \
                 'request_memory'",
                self.slot.memory_mib,
                ending.figures.memory_mib()
            );
            return Err(Hold::new(HoldCode::JobOutOfResources, 0, reason).into());
        }
        let by_itself = exit.ended == Ended::ItsOwnAccord;
        let selection = if by_itself {
            Some(plan.output.after_exit(exit.wait_status))
        } else {
            (plan.output.when == When::OnExitOrEvict && !exit.was_killed)
                .then_some(Selection::Everything)
        };
        let has_core = exit.wait_status & 0x80 != 0;
        let mut was_interrupted = false;
        if let (Some(selection), None) = (selection, &ending.sent) {
            if ending.agent.is_none() {
                let (reported, spawned) = tokio::join!(
                    self.shadow.call(Call::RegisterJobInfo(last)),
                    payload.spawn_agent()
                );
                // Kept for the next shadow, whatever becomes of this one.
                ending.agent = Some(spawned?.0);
                reported?;
            } else {
                self.shadow.call(Call::RegisterJobInfo(last)).await?;
            }
            let Some(agent) = &mut ending.agent else {
                return Err(Trouble::passing("The sandbox of the job is gone"));
            };
            let transfer = self.shadow.transfer().unwrap_or(&plan.transfer).clone();
            let output = Output {
                services: &self.services,
                session: &self.session,
                plan,
                transfer: &transfer,
                payload,
                before: &ending.catalogue,
                selection,
                is_final: by_itself,
                has_core,
            };
            let vacate = plan.stop.vacate(self.services.config.max_vacate_time);
            match guarded(
                output.send(agent, &mut ending.figures),
                &mut self.shadow,
                &mut self.orders,
                vacate,
            )
            .await
            {
                Some(result) => {
                    ending.sent = Some(result?);
                    ending.agent = None;
                }
                None => was_interrupted = true,
            }
        } else {
            self.shadow.call(Call::RegisterJobInfo(last)).await?;
        }
        let finished = by_itself && !was_interrupted;
        let reason = match (finished, has_core) {
            (false, _) => ExitReason::ShouldRequeue,
            (true, true) => ExitReason::CoreDumped,
            (true, false) => ExitReason::Exited,
        };
        let sent = ending.sent.as_deref().unwrap_or_default();
        let ad = ending
            .figures
            .last(self.clock.now(), &self.services.address.get(), sent);
        self.shadow
            .call(Call::JobExit {
                wait_status: exit.wait_status,
                reason,
                ad: &ad,
            })
            .await?;
        Ok(if finished {
            JobEnd::Finished
        } else {
            JobEnd::Evicted
        })
    }

    /// Tells the shadow what went wrong, if it is still there, or comes back.
    async fn report(&mut self, trouble: Trouble) -> JobEnd {
        self.wishes.close();
        let now = self.clock.now();
        let (event, end) = match trouble {
            Trouble::Hold(hold) => {
                tracing::warn!(
                    code = hold.code as i32,
                    subcode = hold.subcode,
                    reason = hold.reason,
                    "job held"
                );
                let end = if hold.node {
                    JobEnd::HeldByNode {
                        reason: hold.reason.clone(),
                    }
                } else {
                    JobEnd::Held
                };
                (hold.event(now), end)
            }
            Trouble::Site { permanent, reason } => {
                tracing::error!(permanent, reason, "the site could not run a job");
                let end = JobEnd::Site {
                    permanent,
                    reason: reason.clone(),
                };
                // A shadow that asks for the job and does not find it does the same.
                if !self.shadow.is_connected() {
                    return end;
                }
                (requeue_event(&reason, now), end)
            }
            Trouble::Submit { reason } => {
                tracing::warn!(reason, "the submit side could not do its part");
                let end = JobEnd::Submit {
                    reason: reason.clone(),
                };
                if !self.shadow.is_connected() {
                    return end;
                }
                (requeue_event(&reason, now), end)
            }
            Trouble::OutputLost { reason } => {
                tracing::warn!(reason, "the job is to run again");
                (requeue_event(&reason, now), JobEnd::Requeued)
            }
            Trouble::NotStarted { why } => return JobEnd::NotStarted { why },
            Trouble::Shadow(error) => return gone(&error),
        };
        loop {
            // After this event the shadow is gone: nothing else may be said.
            let Err(error) = self.shadow.call(Call::Ulog(&event)).await else {
                return end;
            };
            tracing::warn!(error = chain(&error), "the shadow could not be told");
            if let Err(error) = self.reconnected().await {
                return gone(&error);
            }
        }
    }
}

fn gone(error: &ShadowError) -> JobEnd {
    tracing::warn!(error = chain(error), "the shadow is lost");
    match error {
        ShadowError::LeaseOver { .. } => JobEnd::LeaseOver,
        _ => JobEnd::ShadowLost,
    }
}

fn not_started(order: &StopOrder) -> Trouble {
    if let Some(hold) = order.hold() {
        return hold.clone().into();
    }
    let (StopOrder::Soft { by, how } | StopOrder::Hard { by, how }) = order;
    Trouble::NotStarted {
        why: format!("stopped by {by} ({how:?}) before it started"),
    }
}

/// Lets the output be sent while shadow and slot are listened to. `None` when an order ended it.
async fn guarded(
    sending: impl Future<Output = Result<Vec<String>, Trouble>>,
    shadow: &mut Shadow,
    orders: &mut Orders,
    vacate: std::time::Duration,
) -> Option<Result<Vec<String>, Trouble>> {
    let mut sending = std::pin::pin!(sending);
    let mut deadline: Option<Instant> = None;
    loop {
        let until =
            deadline.unwrap_or_else(|| Instant::now() + std::time::Duration::from_secs(86_400));
        tokio::select! {
            biased;
            result = &mut sending => return Some(result),
            error = shadow.disturbed() => return Some(Err(ShadowError::into(error))),
            order = orders.next() => match order {
                // The work is done, only the way home is left: a soft stop gives it the time a job would have.
                StopOrder::Soft { .. } => {
                    deadline.get_or_insert_with(|| Instant::now() + vacate);
                }
                StopOrder::Hard { .. } => return None,
            },
            () = tokio::time::sleep_until(until) => if deadline.is_some() {
                return None;
            },
        }
    }
}
