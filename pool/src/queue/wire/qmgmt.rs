//! The queue management protocol, as far as `condor_submit`, `condor_qedit` and `condor_prio` need it
//! (`htcondor:src/condor_schedd.V6/qmgmt_receivers.cpp`): a conversation of small calls, then a commit.

use cedar::net::Incoming;
use cedar::{MessageReader, MessageWriter, WireError};
use classad::{AttrName, ClassAd, Expr, parse_assignment_old};

use super::Unserved;
use crate::JobId;
use crate::queue::act::Actor;
use crate::queue::amend::{Amendment, Refusal};
use crate::queue::select::Condition;
use crate::queue::{Queue, SubmitError, now};

/// Longest wait for the next call.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// Most text of attributes in one conversation.
const MAX_BYTES: usize = 64 << 20;

/// Longest single call.
const MAX_CALL: usize = 4 << 20;

/// `SetAttribute_NoAck` and `SetAttribute_QueryOnly` (`htcondor:src/condor_includes/condor_qmgr.h`).
const NO_ACK: u8 = 1 << 1;
const QUERY_ONLY: u8 = 1 << 5;

/// How the value of an attribute is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Integer,
    Text,
    Expression,
}

/// One call (`htcondor:src/condor_schedd.V6/qmgmt_constants.h`).
#[derive(Debug, Clone, PartialEq)]
enum Call {
    NewCluster,
    NewProc(i32),
    Destroy,
    Set {
        cluster: i32,
        proc: i32,
        assignment: String,
        flags: u8,
    },
    SetWhere {
        constraint: String,
        assignment: String,
        flags: u8,
    },
    Get {
        job: JobId,
        name: String,
        form: Form,
    },
    Begin,
    Abort,
    Commit,
    EffectiveOwner(String),
    Capabilities,
    Close,
}

fn read(mut reader: MessageReader<'_>) -> Result<Call, Unserved> {
    let number = reader.int32()?;
    let call = match number {
        10002 => Call::NewCluster,
        10003 => Call::NewProc(reader.int32()?),
        10004 => {
            reader.int32()?;
            Call::Destroy
        }
        10005 => {
            reader.int32()?;
            reader.int32()?;
            Call::Destroy
        }
        10006 | 10027 => {
            let (cluster, proc) = (reader.int32()?, reader.int32()?);
            Call::Set {
                cluster,
                proc,
                assignment: assignment(&mut reader)?,
                flags: flags(&mut reader, number == 10027)?,
            }
        }
        10021 | 10032 => Call::SetWhere {
            constraint: reader.str()?,
            assignment: assignment(&mut reader)?,
            flags: flags(&mut reader, number == 10032)?,
        },
        10009..=10011 => Call::Get {
            job: JobId::new(reader.int32()?, reader.int32()?),
            name: reader.str()?,
            form: match number {
                10009 => Form::Integer,
                10010 => Form::Text,
                _ => Form::Expression,
            },
        },
        10007 => Call::Commit,
        10031 => {
            reader.int32()?;
            Call::Commit
        }
        10023 => Call::Begin,
        10024 => Call::Abort,
        10028 => Call::Close,
        10030 => Call::EffectiveOwner(reader.str()?),
        10036 => {
            reader.int32()?;
            Call::Capabilities
        }
        other => {
            return Err(Unserved::Other(format!(
                "call {other} of the queue management protocol is not served here"
            )));
        }
    };
    reader.expect_end()?;
    Ok(call)
}

/// Value and name, in this order on the wire.
fn assignment(reader: &mut MessageReader<'_>) -> Result<String, WireError> {
    let (value, name) = (reader.str()?, reader.str()?);
    Ok(format!("{name} = {value}"))
}

/// The flags are one byte.
fn flags(reader: &mut MessageReader<'_>, present: bool) -> Result<u8, WireError> {
    if !present {
        return Ok(0);
    }
    Ok(reader.bytes(1)?.first().copied().unwrap_or(0))
}

/// `errno` values that the tools turn into words.
fn errno(refusal: Refusal) -> i32 {
    match refusal {
        Refusal::NoJob => libc::ENOENT,
        Refusal::Denied => libc::EACCES,
    }
}

/// What was found out, or an `errno` and a sentence.
type Checked<T> = Result<T, (i32, String)>;

/// A cluster under way.
#[derive(Debug, Default)]
struct Pending {
    number: i32,
    cluster: ClassAd,
    procs: Vec<ClassAd>,
}

/// What was said since the last commit.
#[derive(Debug, Default)]
struct Transaction {
    pending: Vec<Pending>,
    amendments: Vec<Amendment>,
    bytes: usize,
    /// The first mistake in a call that is not answered.
    fault: Option<String>,
}

/// The answer to a call.
enum Answer {
    /// A number, not negative.
    Done(i32),
    /// `errno`.
    Failed(i32),
    Nothing,
}

struct Conversation<'a> {
    queue: &'a Queue,
    actor: Actor,
    open: Transaction,
}

pub(super) async fn serve(queue: &Queue, incoming: &mut Incoming) -> Result<(), Unserved> {
    incoming.stream.set_read_timeout(Some(PATIENCE));
    incoming.stream.set_max_message(MAX_CALL);
    let from = Some(incoming.stream.peer_addr().ip());
    let actor = queue
        .actor(&incoming.peer, from)
        .map_err(|error| Unserved::Other(error.to_string()))?;
    let mut talk = Conversation {
        queue,
        actor,
        open: Transaction::default(),
    };
    loop {
        let message = match incoming.stream.recv().await {
            Ok(message) => message,
            Err(error) if error.is_closed() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut reply = incoming.stream.message();
        match read(message.reader())? {
            Call::Close => return Ok(()),
            Call::Capabilities => {
                reply.ad(&capabilities());
            }
            Call::Commit => talk.commit(incoming, &mut reply).await,
            Call::Get { job, name, form } => talk.get(job, &name, form, &mut reply),
            call => match talk.call(call)? {
                Answer::Done(number) => {
                    reply.int(i64::from(number));
                }
                Answer::Failed(errno) => {
                    reply.int(-1).int(i64::from(errno));
                }
                Answer::Nothing => continue,
            },
        }
        incoming.stream.send(reply).await?;
    }
}

/// What a submitter may ask for: no factories of jobs, no sets of jobs.
fn capabilities() -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("LateMaterialize", false);
    ad.insert("LateMaterializeVersion", 2);
    ad.insert("UseJobsets", false);
    ad
}

impl Conversation<'_> {
    fn call(&mut self, call: Call) -> Result<Answer, Unserved> {
        Ok(match call {
            Call::NewCluster => match self.queue.reserve_cluster() {
                Ok(number) => {
                    self.open.pending.push(Pending {
                        number,
                        ..Pending::default()
                    });
                    Answer::Done(number)
                }
                Err(_) => Answer::Failed(libc::ENOSPC),
            },
            Call::NewProc(cluster) => self.new_proc(cluster),
            Call::Destroy | Call::Abort => {
                self.open = Transaction::default();
                Answer::Done(0)
            }
            Call::Begin => Answer::Done(0),
            Call::EffectiveOwner(name) => {
                let name = name.split_once('@').map_or(name.as_str(), |(user, _)| user);
                if name.is_empty() || self.actor.is(name) {
                    Answer::Done(0)
                } else {
                    Answer::Failed(libc::EACCES)
                }
            }
            Call::Set {
                cluster,
                proc,
                assignment,
                flags,
            } => {
                let result = self.set(cluster, proc, &assignment, flags)?;
                self.acknowledge(result, flags)
            }
            Call::SetWhere {
                constraint,
                assignment,
                flags,
            } => {
                let result = self.set_where(&constraint, &assignment, flags)?;
                self.acknowledge(result, flags)
            }
            Call::Commit | Call::Get { .. } | Call::Capabilities | Call::Close => Answer::Nothing,
        })
    }

    /// An attribute of a job in the queue.
    fn get(&self, job: JobId, name: &str, form: Form, reply: &mut MessageWriter) {
        let ad = self.queue.job(job).filter(|_| !cedar::is_private(name));
        let ad = ad.unwrap_or_default();
        match form {
            Form::Integer => match ad.int(name) {
                Some(value) => reply.int(0).int(value),
                None => reply.int(-1).int(i64::from(libc::ENOENT)),
            },
            Form::Text => match ad.string(name) {
                Some(value) => reply.int(0).str(&value),
                None => reply.int(-1).int(i64::from(libc::ENOENT)),
            },
            Form::Expression => match ad.get(name) {
                Some(value) => reply.int(0).str(&value.to_old()),
                None => reply.int(-1).int(i64::from(libc::ENOENT)),
            },
        };
    }

    fn acknowledge(&mut self, result: Checked<()>, flags: u8) -> Answer {
        match result {
            Ok(()) if flags & NO_ACK != 0 => Answer::Nothing,
            Ok(()) => Answer::Done(0),
            Err((_, why)) if flags & NO_ACK != 0 => {
                self.open.fault.get_or_insert(why);
                Answer::Nothing
            }
            Err((errno, _)) => Answer::Failed(errno),
        }
    }

    fn new_proc(&mut self, cluster: i32) -> Answer {
        let most = self.queue.inner.config.max_jobs_per_submission;
        let pending = self.open.pending.iter_mut();
        match pending.rev().find(|pending| pending.number == cluster) {
            Some(pending) if pending.procs.len() < most => {
                let number = i32::try_from(pending.procs.len()).unwrap_or(i32::MAX);
                pending.procs.push(ClassAd::new());
                Answer::Done(number)
            }
            // `NEWJOB_ERR_MAX_JOBS_PER_SUBMISSION` of the real schedd is told at the commit in words.
            Some(_) => Answer::Failed(libc::ENOSPC),
            None => Answer::Failed(libc::EACCES),
        }
    }

    fn set(
        &mut self,
        cluster: i32,
        proc: i32,
        assignment: &str,
        flags: u8,
    ) -> Result<Checked<()>, Unserved> {
        let (name, value) = match self.parse(assignment)? {
            Ok(parsed) => parsed,
            Err(fault) => return Ok(Err(fault)),
        };
        let pending = self.open.pending.iter_mut();
        if let Some(pending) = pending.rev().find(|pending| pending.number == cluster) {
            let ad = match usize::try_from(proc) {
                Err(_) => Some(&mut pending.cluster),
                Ok(proc) => pending.procs.get_mut(proc),
            };
            return Ok(match ad {
                Some(ad) => {
                    ad.insert(name, value);
                    Ok(())
                }
                None => Err((libc::ENOENT, format!("there is no job {cluster}.{proc}"))),
            });
        }
        let jobs = if proc < 0 {
            let all = self.queue.model().cluster_jobs(cluster).collect::<Vec<_>>();
            if all.is_empty() {
                return Ok(Err((
                    libc::ENOENT,
                    format!("there is no cluster {cluster}"),
                )));
            }
            all
        } else {
            vec![JobId::new(cluster, proc)]
        };
        Ok(self.amend(&jobs, &name, &value, flags))
    }

    fn set_where(
        &mut self,
        constraint: &str,
        assignment: &str,
        flags: u8,
    ) -> Result<Checked<()>, Unserved> {
        let (name, value) = match self.parse(assignment)? {
            Ok(parsed) => parsed,
            Err(fault) => return Ok(Err(fault)),
        };
        let Ok(expr) = Expr::parse_old(constraint) else {
            return Ok(Err((
                libc::EINVAL,
                format!("{constraint} is no expression"),
            )));
        };
        let condition = Condition::new(&expr, now());
        let candidates = condition.candidates(&self.queue.model());
        let jobs: Vec<JobId> = candidates
            .iter()
            .filter(|job| condition.holds(job))
            .map(|job| job.id)
            .collect();
        if jobs.is_empty() {
            return Ok(Err((libc::ENOENT, "there is no such job".to_owned())));
        }
        Ok(self.amend(&jobs, &name, &value, flags))
    }

    fn parse(&mut self, assignment: &str) -> Result<Checked<(AttrName, Expr)>, Unserved> {
        self.open.bytes += assignment.len();
        if self.open.bytes > MAX_BYTES {
            return Err(Unserved::Other("the submission is too large".to_owned()));
        }
        Ok(parse_assignment_old(assignment)
            .map_err(|error| (libc::EINVAL, format!("{assignment}: {error}"))))
    }

    fn amend(&mut self, jobs: &[JobId], name: &AttrName, value: &Expr, flags: u8) -> Checked<()> {
        for job in jobs {
            self.queue
                .may_amend(&self.actor, *job, name)
                .map_err(|refusal| {
                    (
                        errno(refusal),
                        format!("{name} of job {job} is not yours to change"),
                    )
                })?;
        }
        if flags & QUERY_ONLY == 0 {
            let all = jobs.iter().map(|job| (*job, name.clone(), value.clone()));
            self.open.amendments.extend(all);
        }
        Ok(())
    }

    async fn commit(&mut self, incoming: &Incoming, reply: &mut MessageWriter) {
        let open = std::mem::take(&mut self.open);
        match self.carry_out(incoming, open).await {
            Ok(()) => {
                reply.int(0).ad(&ClassAd::new());
            }
            Err((errno, why)) => {
                let mut ad = ClassAd::new();
                ad.insert("ErrorCode", 2);
                ad.insert("ErrorReason", why);
                reply.int(-1).int(i64::from(errno)).ad(&ad);
            }
        }
    }

    async fn carry_out(&self, incoming: &Incoming, open: Transaction) -> Checked<()> {
        if let Some(why) = open.fault {
            return Err((libc::EINVAL, why));
        }
        for pending in open.pending {
            let jobs = pending.procs.len();
            let done = self
                .queue
                .submit_as(
                    &incoming.peer,
                    Some(pending.number),
                    pending.cluster,
                    pending.procs,
                )
                .await;
            match done {
                Ok(cluster) => {
                    tracing::info!(cluster, jobs, user = %incoming.peer.user, "submitted");
                }
                Err(error) => {
                    let errno = match error {
                        SubmitError::NotAuthenticated | SubmitError::Foreign { .. } => libc::EACCES,
                        SubmitError::BadJob(_) | SubmitError::NeverRuns(_) => libc::EINVAL,
                        SubmitError::Limit(_) | SubmitError::Disk(_) => libc::ENOSPC,
                    };
                    return Err((errno, error.to_string()));
                }
            }
        }
        if !open.amendments.is_empty() {
            let done = self.queue.amend(open.amendments).await;
            done.map_err(|error| (libc::ENOSPC, error.to_string()))?;
        }
        Ok(())
    }
}

/// Reads any bytes as a call.
pub(super) fn fuzz(data: &[u8]) {
    for coding in [cedar::Coding::Plain, cedar::Coding::Encrypted] {
        // Whatever it is, it must not panic.
        let _ = read(MessageReader::new(coding, data));
    }
}

#[cfg(test)]
mod tests {
    use cedar::Coding;

    use super::*;

    fn call(build: impl FnOnce(&mut MessageWriter)) -> Result<Call, Unserved> {
        let mut message = MessageWriter::new(Coding::Encrypted);
        build(&mut message);
        let body = message.finish().unwrap();
        read(MessageReader::new(Coding::Encrypted, &body))
    }

    fn simple(numbers: &[i64]) -> Result<Call, Unserved> {
        call(|message| {
            for number in numbers {
                message.int(*number);
            }
        })
    }

    #[test]
    fn calls_are_read_as_the_tools_send_them() {
        let set = call(|message| {
            message
                .int(10027)
                .int(7)
                .int(-1)
                .str("\"/bin/sh\"")
                .str("Cmd");
            message.bytes(&[NO_ACK]);
        });
        let wanted = Call::Set {
            cluster: 7,
            proc: -1,
            assignment: "Cmd = \"/bin/sh\"".to_owned(),
            flags: NO_ACK,
        };
        assert_eq!(set.unwrap(), wanted);
        assert_eq!(simple(&[10002]).unwrap(), Call::NewCluster);
        assert_eq!(simple(&[10031, 0]).unwrap(), Call::Commit);
        assert!(simple(&[10002, 1]).is_err());
        assert!(simple(&[10018, 1, 0]).is_err());
    }
}
