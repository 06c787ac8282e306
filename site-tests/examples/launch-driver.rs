//! Times the launch of `true` under another account, by our helper and by sudo, one after the other in one loop. Run by
//! `cargo xtask bench` under the pilot's account; prints one JSON object with times in microseconds.
//!
//! `launch-driver SWITCH EXECUTE PROXY ROUNDS PAUSE-MS SUDO-ACCOUNT`

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use launch_protocol::exec::ExecRequest;
use sailplane::broker::{Broker, Payload, PayloadEvent, PayloadEvents, Wanted, memfd};

const PROGRAM: &str = "/bin/true";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [switch, execute, proxy, rounds, pause, account] = arguments.as_slice() else {
        bail!("usage: launch-driver SWITCH EXECUTE PROXY ROUNDS PAUSE-MS SUDO-ACCOUNT");
    };
    let (switch, execute) = (PathBuf::from(switch), PathBuf::from(execute));
    let proxy = std::fs::read(proxy).context("read the proxy")?;
    let rounds: usize = rounds.parse().context("number of rounds")?;
    let pause = Duration::from_millis(pause.parse().context("length of the pause")?);

    let (broker, _) = Broker::start(&switch).await?;
    let (resident, mut resident_events) = open(&broker, &execute, &proxy).await?;
    let (mut whole, mut switched, mut sudo) = (Vec::new(), Vec::new(), Vec::new());
    // The first rounds fill caches and are not counted, on either side.
    let warm_up = 5;
    for round in 0..rounds + warm_up {
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        let (payload, mut events) = open(&broker, &execute, &proxy).await?;
        launch(&payload, &mut events).await?;
        let whole_time = began.elapsed();
        payload.close().await?;

        tokio::time::sleep(pause).await;
        let began = Instant::now();
        launch(&resident, &mut resident_events).await?;
        let switched_time = began.elapsed();

        tokio::time::sleep(pause).await;
        let began = Instant::now();
        let status = Command::new("sudo")
            .args(["-n", "-u", account, PROGRAM])
            .status()
            .context("start sudo")?;
        let sudo_time = began.elapsed();
        if !status.success() {
            bail!("sudo ended with {status}");
        }
        if round >= warm_up {
            whole.push(whole_time.as_micros());
            switched.push(switched_time.as_micros());
            sudo.push(sudo_time.as_micros());
        }
    }
    resident.close().await?;
    #[expect(
        clippy::print_stdout,
        reason = "the answer to the program that started this one"
    )]
    {
        println!("{{\"verified\": {whole:?}, \"switched\": {switched:?}, \"sudo\": {sudo:?}}}");
    }
    Ok(())
}

/// Has the credential verified and mapped, and a sandbox made.
async fn open(
    broker: &Broker,
    execute: &std::path::Path,
    proxy: &[u8],
) -> Result<(Payload, PayloadEvents)> {
    let credential = memfd::sealed("credential", proxy).context("make a memfd")?;
    Ok(broker
        .open(Wanted::new("launch-driver", execute), &credential)
        .await?)
}

/// From the order to the end of the payload, and of every process of it.
async fn launch(payload: &Payload, events: &mut PayloadEvents) -> Result<()> {
    let (agent, _) = payload.spawn_agent().await?;
    let request = ExecRequest {
        path: PathBuf::from(PROGRAM),
        argv: vec![PROGRAM.as_bytes().to_vec()],
        umask: 0o022,
        ..ExecRequest::default()
    };
    let null = || -> Result<OwnedFd> {
        Ok(File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?
            .into())
    };
    agent.exec(&request, [null()?, null()?, null()?]).await?;
    loop {
        match events.next().await {
            Some(PayloadEvent::Exited { wait_status }) if wait_status != 0 => {
                bail!("the payload ended with {wait_status}")
            }
            Some(PayloadEvent::Empty) => return Ok(()),
            Some(_) => {}
            None => bail!("the helper is gone"),
        }
    }
}
