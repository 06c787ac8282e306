//! The ads in which a job travels to the execute side. Pure.

use classad::{ClassAd, Expr, Value};

use crate::queue::RunRecord;
use crate::schedd::claim::ShadowFacts;

/// The ad of the activation: the job as the queue has it, with what was filled in for the slot, and the claim.
#[must_use]
pub fn for_activation(
    job: &ClassAd,
    filled_in: &ClassAd,
    run: &RunRecord,
    shadow: ShadowFacts<'_>,
) -> ClassAd {
    let mut ad = job.clone();
    ad.update(filled_in);
    ad.insert("ClaimId", run.claim_id.as_str());
    ad.insert("PublicClaimId", run.claim_id.public());
    ad.insert("RemoteHost", run.slot.as_str());
    ad.insert("StartdIpAddr", run.startd.as_str());
    ad.insert("StartdPrincipal", cedar::security::EXECUTE_SIDE);
    ad.insert("MyAddress", shadow.address.to_string());
    // Ours alone: nobody on the other side needs to know what the queue thinks of the job's log.
    ad.remove("TransferKey");
    ad
}

/// The ad in answer to `get_job_info`: that of the activation, with where and how the starter reaches its shadow.
#[must_use]
pub fn for_starter(activation: &ClassAd, shadow: ShadowFacts<'_>) -> ClassAd {
    let mut ad = activation.clone();
    shadow.add_to(&mut ad);
    ad.insert(
        "JobCurrentReconnectAttempt",
        Expr::literal(Value::Undefined),
    );
    ad
}

/// What the slot gives the job, for the queue (`CpusProvisioned` and so on).
#[must_use]
pub fn provisioned(slot: &ClassAd) -> ClassAd {
    let mut ad = ClassAd::new();
    let resources = slot
        .string("MachineResources")
        .unwrap_or_else(|| "Cpus Memory Disk".to_owned());
    for name in resources.split_whitespace() {
        // The real schedd spells the attribute with a small s in "Gpus".
        let spelled = if name.eq_ignore_ascii_case("GPUs") {
            "Gpus"
        } else {
            name
        };
        if let Some(amount) = slot.get(name) {
            ad.insert(format!("{spelled}Provisioned"), amount.clone());
        }
    }
    ad.insert("ProvisionedResources", resources);
    ad
}
